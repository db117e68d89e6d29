//! How long a subscription took nothing: the clock of what it is owed stands still meanwhile.

use serde::{Deserialize, Serialize};

/// How many spans are kept apart; past it the two oldest become one, which never gives a delivery up sooner.
const SPANS_MAX: usize = 128;

/// The spans during which a subscription took nothing, in the outbox's milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Held {
    /// Ended ones, ascending, apart from each other.
    ended: Vec<(u64, u64)>,
    /// When the one began that still goes on.
    since: Option<u64>,
}

impl Held {
    /// Notes that from `now` on the subscription takes deliveries, or does not.
    pub(crate) fn turn(&mut self, taking: bool, now: u64) {
        match (self.since, taking) {
            (None, false) => self.since = Some(now),
            (Some(from), true) => {
                self.since = None;
                self.ended.push((from, now));
                if self.ended.len() > SPANS_MAX {
                    let (from, _) = self.ended.remove(0);
                    self.ended[0].0 = from;
                }
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// How much of the time from `from` to `now` was held.
    pub(crate) fn within(&self, from: u64, now: u64) -> u64 {
        let ended = self.ended.iter().rev().take_while(|(_, end)| *end > from);
        let past: u64 = ended.map(|(start, end)| end.min(&now).saturating_sub(*start.max(&from))).sum();
        past + self.since.map_or(0, |start| now.saturating_sub(start.max(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn held_time_is_what_counting_each_millisecond_gives(
            turns in proptest::collection::vec((1_u64..20, any::<bool>()), 0..40), from in 0_u64..400, more in 0_u64..100,
        ) {
            let (mut held, mut taking, mut now, mut by_hand) = (Held::default(), true, 0, Vec::new());
            for (wait, then) in turns {
                by_hand.extend(std::iter::repeat_n(!taking, usize::try_from(wait).unwrap()));
                now += wait;
                taking = then;
                held.turn(taking, now);
            }
            by_hand.extend(std::iter::repeat_n(!taking, usize::try_from(more).unwrap()));
            now += more;
            let expected = by_hand.iter().skip(usize::try_from(from).unwrap()).filter(|h| **h).count() as u64;
            prop_assert_eq!(held.within(from.min(now), now), expected);
        }
    }

    #[test]
    fn endless_pauses_are_kept_in_bounded_memory_and_never_count_for_less() {
        let mut held = Held::default();
        for n in 0..1_000_u64 {
            held.turn(false, n * 10);
            held.turn(true, n * 10 + 5);
        }
        assert!(held.ended.len() <= SPANS_MAX);
        assert!(held.within(0, 10_000) >= 5_000);
        assert_eq!(held.within(9_900, 10_000), 50);
    }
}
