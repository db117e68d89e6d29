//! The outbox's own time: what everything due, leased or ordered goes by.
//!
//! It begins at the highest time that was ever written, or at the wall clock if that is ahead, and grows with the time
//! since boot; it never runs back, and no leap of the wall clock moves it. The wall clock is for display only.

use posthaste_events::Timestamp;
use posthaste_events::seams::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How far the wall clock may stray from the outbox's time before it is called a leap.
const LEAP_MIN: Duration = Duration::from_secs(5);

/// Tells the outbox's time, in milliseconds since 1970 as the wall clock had it at some start.
pub(crate) struct OutboxTime {
    clock: Arc<dyn Clock>,
    base: u64,
    started: Duration,
    /// How far the wall clock was ahead of this time when last looked at, in milliseconds.
    ahead: AtomicI64,
}

impl OutboxTime {
    /// Starts behind everything that was written so far.
    pub(crate) fn new(clock: Arc<dyn Clock>, highest_written: u64) -> Self {
        let wall = clock.wall().millis();
        let base = highest_written.max(u64::try_from(wall).unwrap_or(0));
        let started = clock.elapsed();
        Self { clock, base, started, ahead: AtomicI64::new(signed(wall, base)) }
    }

    /// Now, in the outbox's milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.base.saturating_add(millis(self.clock.elapsed().saturating_sub(self.started)))
    }

    /// Now, by the wall clock.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// When `due` comes by the wall clock, if that goes on evenly.
    pub(crate) fn shown(&self, due: u64) -> Timestamp {
        Timestamp::from_millis(self.clock.wall().millis().saturating_add(signed_span(due, self.now())))
    }

    /// How far the wall clock leapt since this was last asked, in milliseconds; `None` where it went evenly.
    pub(crate) fn leap(&self) -> Option<i64> {
        let ahead = signed(self.clock.wall().millis(), self.now());
        let before = self.ahead.load(Ordering::Relaxed);
        let leapt = ahead.saturating_sub(before);
        if leapt.unsigned_abs() < millis(LEAP_MIN) {
            return None;
        }
        self.ahead.store(ahead, Ordering::Relaxed);
        Some(leapt)
    }
}

fn signed(wall: i64, outbox: u64) -> i64 {
    wall.saturating_sub(i64::try_from(outbox).unwrap_or(i64::MAX))
}

fn signed_span(to: u64, from: u64) -> i64 {
    let span = i64::try_from(to.abs_diff(from)).unwrap_or(i64::MAX);
    if to < from { -span } else { span }
}

/// Whole milliseconds, rounded down.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Whole milliseconds, rounded up: a wait is never shorter than what was asked for.
pub(crate) fn millis_up(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
