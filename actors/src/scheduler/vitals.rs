//! How one subscription fares: since when nothing arrived, how much failed meanwhile, and when that is long enough to
//! disable it.
//!
//! Decides too when the outbox must be told, so that it outlasts a restart: at edges, not at each attempt. What a
//! circuit makes of it stands in `circuit`.

use std::time::Duration;

/// So many attempts must fail, however long nothing arrives, before a subscription is disabled for it: one that is
/// tried once a day has not failed for good after five.
const DISABLE_FAILURES: u32 = 10;
/// Of which this process must have seen two so far apart, or a tenth of the limit where that is less: how long it was
/// before a start goes by the system's clock, which may be ahead just then.
const DISABLE_SEEN: Duration = Duration::from_secs(60 * 60);

/// Attempts that failed since one arrived last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failing {
    /// When this process saw the first of them, or began.
    since: Duration,
    /// For how long they had failed before that, in an earlier process.
    before: Duration,
    /// How many.
    pub(super) failures: u32,
    /// When this process saw the first of them.
    seen: Option<Duration>,
}

/// As much of [`Failing`] as the outbox is told of by itself; the time goes on without being told.
pub(super) type Noted = Option<(u32, bool)>;

impl Failing {
    /// As an earlier process left it.
    pub(super) const fn restored(for_so_long: Duration, failures: u32, now: Duration) -> Self {
        Self { since: now, before: for_so_long, failures, seen: None }
    }

    /// One more failed.
    pub(super) fn one_more(before: Option<Self>, now: Duration) -> Self {
        let so_far = before.unwrap_or(Self { since: now, before: Duration::ZERO, failures: 0, seen: None });
        Self { failures: so_far.failures.saturating_add(1), seen: so_far.seen.or(Some(now)), ..so_far }
    }

    /// For how long nothing has arrived.
    pub(super) fn lasts(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since).saturating_add(self.before)
    }

    /// Why the subscription is to be disabled, where nothing arrived for `after` and enough failed.
    pub(super) fn disables(&self, after: Option<Duration>, now: Duration) -> Option<String> {
        let after = after.filter(|after| self.lasts(now) >= *after && self.failures >= DISABLE_FAILURES)?;
        let seen_for = now.saturating_sub(self.seen?);
        if seen_for < DISABLE_SEEN.min(after / 10) {
            return None;
        }
        Some(format!("failing: nothing arrived for {}", spelt(after)))
    }

    /// What the outbox must know of it: its beginning, and its count in steps that double.
    pub(super) const fn noted(&self) -> (u32, bool) {
        (u32::BITS - self.failures.leading_zeros(), self.failures >= DISABLE_FAILURES)
    }
}

/// A duration as a setting has it: in the largest unit that leaves a whole number.
pub(super) fn spelt(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn failing(failures: u32) -> Failing {
        Failing { since: DAY, before: Duration::ZERO, failures, seen: Some(DAY) }
    }

    #[test]
    fn it_is_disabled_only_when_both_the_time_and_the_failures_are_reached() {
        let after = Some(5 * DAY);
        assert_eq!(failing(10).disables(after, 6 * DAY).unwrap(), "failing: nothing arrived for 5d");
        assert_eq!(failing(9).disables(after, 60 * DAY), None);
        assert_eq!(failing(1_000).disables(after, 6 * DAY - Duration::from_millis(1)), None);
        assert_eq!(failing(1_000).disables(None, 60 * DAY), None);
    }

    #[test]
    fn the_time_of_an_earlier_process_counts_and_alone_disables_nothing() {
        let hour = Duration::from_secs(3_600);
        let restored = Failing::restored(5 * DAY, 9, Duration::ZERO);
        assert_eq!(restored.disables(Some(5 * DAY), DAY), None);
        let tenth = Failing::one_more(Some(restored), hour);
        assert_eq!(tenth.disables(Some(5 * DAY), hour), None, "a clock may be ahead at a start");
        let later = Failing::one_more(Some(tenth), 2 * hour);
        assert_eq!(later.disables(Some(5 * DAY), 2 * hour - Duration::from_millis(1)), None);
        assert!(later.disables(Some(5 * DAY), 2 * hour).is_some());
        assert!(later.disables(Some(hour), hour + hour / 10).is_some(), "a tenth of a short limit");
    }

    #[test]
    fn a_thousand_failures_are_noted_in_a_dozen_steps() {
        let mut steps: Vec<_> = (1..=1_000).map(|n| failing(n).noted()).collect();
        steps.dedup();
        assert!(steps.len() <= 12, "{steps:?}");
        assert_ne!(failing(9).noted(), failing(10).noted(), "the one that counts for disabling is told");
    }

    #[test]
    fn durations_are_spelt_as_they_are_set() {
        let spelt_ms = |millis| spelt(Duration::from_millis(millis));
        assert_eq!(
            (spelt_ms(432_000_000), spelt_ms(90_000), spelt_ms(1_500)),
            ("5d".into(), "90s".into(), "1500ms".into())
        );
    }
}
