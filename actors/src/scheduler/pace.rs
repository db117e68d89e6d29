//! The pace of one subscription: how many of its calls may begin under a rate limit, and when the next one may.
//!
//! A call takes a slot when it begins, and frees it one span after it *ended*. The receiver sees a call at some moment
//! between the two, so that of any `calls + 1` of them the last begins a whole span after another ended: more than `calls` in a
//! span is impossible at the receiver's clock too, however long each is on its way, but for what ended at its timeout and is read
//! later all the same. What a receiver takes long to answer
//! costs rate: `calls` in a span and the time of one call. Decides nothing but that; see decision 12.

use crate::settings::Rate;
use std::collections::VecDeque;
use std::time::Duration;

/// Two clocks never go alike: a span is taken to be longer by this part of it, and by [`DRIFT_MIN`] at least.
const DRIFT_PART: u32 = 1_000;
const DRIFT_MIN: Duration = Duration::from_millis(1);
/// Calls that ended within such a part of a span are remembered as one entry, and free their slots together.
const GRAIN_PART: u32 = 128;
/// After a start nothing is known of the calls before it: all slots count as taken for a span, but never longer than this.
const UNKNOWN_MAX: Duration = Duration::from_secs(60);

/// The calls of a subscription that ended within the last span. At most [`GRAIN_PART`] entries and a few.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The oldest first.
    ended: VecDeque<Ended>,
    /// All slots are taken until then, whatever is known.
    unknown_until: Duration,
}

/// Calls that ended at about the same time.
#[derive(Debug, Clone, Copy)]
struct Ended {
    first: Duration,
    last: Duration,
    calls: usize,
}

impl Pace {
    /// That of a subscription of a process that has just started: an earlier one may have called until now.
    pub(super) fn after_a_start(rate: Option<&Rate>, now: Duration) -> Self {
        let unknown = rate.map_or(Duration::ZERO, |rate| span(rate).min(UNKNOWN_MAX));
        Self { unknown_until: now.saturating_add(unknown), ..Self::default() }
    }

    /// The limit changed. Of the calls before it only so much is known as the old one asked for: where the new one looks
    /// back further, all slots count as taken for its span, as after a start.
    pub(super) fn changed(&mut self, before: Option<&Rate>, after: Option<&Rate>, now: Duration) {
        let looks_further = after.filter(|after| before.is_none_or(|before| span(before) < span(after)));
        if looks_further.is_some() {
            self.unknown_until = self.unknown_until.max(Self::after_a_start(after, now).unknown_until);
        }
    }

    /// A call ended.
    pub(super) fn ended(&mut self, rate: Option<&Rate>, now: Duration) {
        let Some(rate) = rate else { return };
        while self.ended.front().is_some_and(|e| e.last.saturating_add(span(rate)) <= now) {
            self.ended.pop_front();
        }
        match self.ended.back_mut().filter(|e| now < e.first.saturating_add(rate.per / GRAIN_PART)) {
            Some(entry) => (entry.last, entry.calls) = (entry.last.max(now), entry.calls + 1),
            None => self.ended.push_back(Ended { first: now, last: now, calls: 1 }),
        }
    }

    /// How many slots are open at a time, with so many calls under way and none that begins or ends until then.
    pub(super) fn open(&self, rate: Option<&Rate>, under_way: usize, at: Duration) -> usize {
        let Some(rate) = rate else { return usize::MAX };
        if at < self.unknown_until {
            return 0;
        }
        let ended: usize = self.remembered(rate, at).map(|e| e.calls).sum();
        calls(rate).saturating_sub(under_way.saturating_add(ended))
    }

    /// When more than `held` slots will be open by themselves; `None` where a call must end first, or now.
    pub(super) fn opens_at(
        &self,
        rate: Option<&Rate>,
        under_way: usize,
        held: usize,
        now: Duration,
    ) -> Option<Duration> {
        let rate = rate?;
        let mut spare = calls(rate).checked_sub(under_way.saturating_add(held).saturating_add(1))?;
        // From the newest on, so that what is left when the spare ones are used up must be free.
        let freed = self.remembered(rate, now).rev().find_map(|e| match spare.checked_sub(e.calls) {
            Some(left) => {
                spare = left;
                None
            }
            None => Some(e.last.saturating_add(span(rate))),
        });
        Some(freed.unwrap_or_default().max(self.unknown_until)).filter(|at| *at > now)
    }

    /// Whether no call of the past counts any more, so that it may be forgotten.
    pub(super) fn is_clear(&self, rate: Option<&Rate>, now: Duration) -> bool {
        rate.is_none_or(|rate| now >= self.unknown_until && self.remembered(rate, now).next().is_none())
    }

    fn remembered(&self, rate: &Rate, at: Duration) -> impl DoubleEndedIterator<Item = &Ended> {
        let span = span(rate);
        self.ended.iter().filter(move |e| e.last.saturating_add(span) > at)
    }
}

/// How long a slot stays taken after its call.
fn span(rate: &Rate) -> Duration {
    rate.per.saturating_add((rate.per / DRIFT_PART).max(DRIFT_MIN))
}

fn calls(rate: &Rate) -> usize {
    // Where it does not fit it is more than there can be.
    usize::try_from(rate.calls.max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THREE: Rate = Rate { calls: 3, per: Duration::from_secs(1) };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_slot_is_taken_while_its_call_is_under_way_and_a_span_longer() {
        let mut pace = Pace::default();
        assert_eq!(pace.open(Some(&THREE), 3, ms(0)), 0);
        assert_eq!(pace.opens_at(Some(&THREE), 3, 0, ms(0)), None, "a call must end first");
        pace.ended(Some(&THREE), ms(700));
        assert_eq!(pace.open(Some(&THREE), 2, ms(1_700)), 0);
        assert_eq!(pace.opens_at(Some(&THREE), 2, 0, ms(700)), Some(ms(1_701)));
        assert_eq!(pace.open(Some(&THREE), 2, ms(1_701)), 1);
        assert_eq!(pace.opens_at(Some(&THREE), 2, 1, ms(1_701)), None, "the second hangs on a call");
    }

    #[test]
    fn without_a_limit_there_is_always_room_and_nothing_is_remembered() {
        let mut pace = Pace::default();
        pace.ended(None, ms(1));
        assert!(pace.open(None, 1_000_000, ms(1)) > 1_000_000 && pace.is_clear(None, ms(1)) && pace.ended.is_empty());
    }

    #[test]
    fn after_a_start_all_slots_are_taken_for_a_span_and_at_most_a_minute() {
        let pace = Pace::after_a_start(Some(&THREE), ms(500));
        assert_eq!((pace.open(Some(&THREE), 0, ms(1_500)), pace.open(Some(&THREE), 0, ms(1_501))), (0, 3));
        assert_eq!(pace.opens_at(Some(&THREE), 0, 0, ms(500)), Some(ms(1_501)));
        let hourly = Rate { calls: 1, per: Duration::from_secs(3_600) };
        let pace = Pace::after_a_start(Some(&hourly), ms(0));
        assert_eq!(pace.open(Some(&hourly), 0, UNKNOWN_MAX), 1);
    }

    #[test]
    fn a_limit_that_looks_back_further_than_the_one_before_takes_all_slots_for_its_span() {
        let longer = Rate { calls: 3, per: Duration::from_secs(30) };
        for before in [None, Some(&THREE)] {
            let mut pace = Pace::default();
            pace.changed(before, Some(&longer), ms(500));
            assert_eq!((pace.open(Some(&longer), 0, ms(30_529)), pace.open(Some(&longer), 0, ms(30_530))), (0, 3));
        }
        // What is known suffices.
        let mut pace = Pace::default();
        pace.ended(Some(&longer), ms(400));
        pace.changed(Some(&longer), Some(&THREE), ms(500));
        assert_eq!(pace.open(Some(&THREE), 0, ms(500)), 2);
        pace.changed(Some(&THREE), None, ms(600));
        assert!(pace.open(None, 0, ms(600)) > 1_000);
    }

    #[test]
    fn a_million_calls_an_hour_are_remembered_in_a_few_entries() {
        let rate = Rate { calls: 1_000_000, per: Duration::from_secs(3_600) };
        let mut pace = Pace::default();
        (0..1_000_000).for_each(|n| pace.ended(Some(&rate), ms(n * 3)));
        assert!(pace.ended.len() <= GRAIN_PART as usize + 2, "{}", pace.ended.len());
    }

    proptest! {
        /// Calls of whatever length, each seen by the receiver somewhere within it, begun as soon as that is allowed.
        #[test]
        fn no_span_at_the_receiver_sees_more_calls_than_allowed(
            limit in 1_u32..6, took in prop::collection::vec((1_u64..3_000, 0.0..=1.0_f64), 1..120),
        ) {
            let rate = Rate { calls: limit, per: Duration::from_secs(1) };
            let (mut pace, mut now, mut under_way, mut seen) = (Pace::default(), 0, Vec::new(), Vec::new());
            for (took, part) in took {
                loop {
                    under_way.retain(|end| *end > now || { pace.ended(Some(&rate), ms(now)); false });
                    if pace.open(Some(&rate), under_way.len(), ms(now)) > 0 {
                        break;
                    }
                    let opens = pace.opens_at(Some(&rate), under_way.len(), 0, ms(now)).map(|at| at.as_millis() as u64);
                    now = under_way.iter().copied().chain(opens).min().unwrap();
                }
                under_way.push(now + took);
                seen.push(ms(now) + ms(took).mul_f64(part));
            }
            seen.sort();
            for window in seen.windows(limit as usize + 1) {
                prop_assert!(*window.last().unwrap() - window[0] >= rate.per, "{window:?}");
            }
        }
    }
}
