//! Which events go into which request, and what is asked again after a request was refused.
//!
//! Pure. A batch is cut where a request would be too large; a request that was refused is cut in halves, until each bad
//! event stands alone.

/// How many requests one batch may cost for each of its events.
///
/// Halving down to single events takes at most `2n - 1` requests for `n` events: a tree with `n` leaves. So this is never
/// reached, and holds whatever a receiver answers.
const REQUESTS_EACH_MAX: usize = 2;

/// What is still to be sent: events by their place in the batch.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The next group stands last.
    groups: Vec<Vec<usize>>,
    requests_left: usize,
}

impl Plan {
    /// Groups events of these sizes, in order, so that a request has at most so many events and bytes; an event that is
    /// larger by itself goes alone.
    pub(super) fn new(sizes: &[usize], events_max: usize, bytes_max: usize) -> Self {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut bytes = 0_usize;
        for (at, size) in sizes.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if group.len() < events_max && bytes.saturating_add(*size) <= bytes_max => {
                    group.push(at);
                    bytes += size;
                }
                _ => {
                    groups.push(vec![at]);
                    bytes = *size;
                }
            }
        }
        groups.reverse();
        Self { groups, requests_left: sizes.len() * REQUESTS_EACH_MAX }
    }

    /// The events of the next request; `None` where nothing is left, or no request.
    pub(super) fn next(&mut self) -> Option<Vec<usize>> {
        self.requests_left = self.requests_left.checked_sub(1)?;
        self.groups.pop()
    }

    /// Plans a group that was refused again, in halves; one event alone cannot be cut.
    pub(super) fn halve(&mut self, mut group: Vec<usize>) {
        let second = group.split_off(group.len() / 2);
        for half in [second, group] {
            self.again(half);
        }
    }

    /// Plans a group again as it is.
    pub(super) fn again(&mut self, group: Vec<usize>) {
        if !group.is_empty() {
            self.groups.push(group);
        }
    }

    /// What was not sent.
    pub(super) fn rest(self) -> Vec<usize> {
        self.groups.into_iter().rev().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a batch to a receiver that refuses each request with a bad event in it: how many requests, and who is found.
    fn found(count: usize, bad: impl Fn(usize) -> bool) -> (usize, Vec<usize>) {
        let mut plan = Plan::new(&vec![1; count], usize::MAX, usize::MAX);
        let (mut requests, mut found) = (0, Vec::new());
        while let Some(group) = plan.next() {
            requests += 1;
            match group.as_slice() {
                [one] if bad(*one) => found.push(*one),
                group if group.iter().any(|at| bad(*at)) => plan.halve(group.to_vec()),
                _ => {}
            }
        }
        assert!(plan.rest().is_empty());
        (requests, found)
    }

    #[test]
    fn one_bad_event_among_many_is_found_with_two_requests_for_each_halving() {
        for count in 1..=130_usize {
            let halvings = usize::try_from(count.next_power_of_two().ilog2()).unwrap();
            for bad in 0..count {
                let (requests, found) = found(count, |at| at == bad);
                assert_eq!(found, [bad]);
                assert!(requests <= 1 + 2 * halvings, "{count} {bad}: {requests}");
            }
        }
    }

    #[test]
    fn where_every_event_is_bad_each_is_found_within_twice_as_many_requests() {
        for count in 1..=130 {
            let (requests, found) = found(count, |_| true);
            assert_eq!((requests, found), (2 * count - 1, (0..count).collect()));
        }
    }

    #[test]
    fn a_receiver_that_never_stops_asking_for_more_is_left() {
        let mut plan = Plan::new(&[1; 10], 100, 100);
        let mut requests = 0;
        while let Some(group) = plan.next() {
            requests += 1;
            plan.again(group);
        }
        assert_eq!((requests, plan.rest()), (20, (0..10).collect()));
    }

    #[test]
    fn a_request_has_no_more_events_and_bytes_than_it_may() {
        let groups = |sizes: &[usize]| {
            let mut plan = Plan::new(sizes, 3, 10);
            std::iter::from_fn(move || plan.next()).collect::<Vec<_>>()
        };
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(groups(&[1, 1, 1, 1]), [vec![0, 1, 2], vec![3]]);
        assert_eq!(groups(&[5, 5, 5]), [vec![0, 1], vec![2]]);
        assert_eq!(groups(&[99, 1, 99, 9, 1]), [vec![0], vec![1], vec![2], vec![3, 4]]);
        assert_eq!(groups(&[usize::MAX, usize::MAX]), [vec![0], vec![1]]);
    }
}
