//! How a subscription fares, in the outbox's time: what is kept of [`Vitals`].

use crate::Vitals;
use crate::time::{millis, millis_up};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a subscription fares, in the outbox's milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Noted {
    /// When the first attempt failed since one arrived last.
    pub(crate) failing_since: Option<u64>,
    pub(crate) failures: u32,
    /// Until when nothing may be sent; 0 for no such time.
    pub(crate) held_until: u64,
    /// Until when its open circuit pauses.
    pub(crate) open_until: Option<u64>,
}

impl Noted {
    /// What was told now.
    pub(crate) fn told(vitals: &Vitals, now: u64) -> Self {
        let held = millis_up(vitals.held_for);
        Self {
            failing_since: vitals.failing_for.map(|failing| now.saturating_sub(millis(failing))),
            failures: vitals.failures,
            held_until: if held == 0 { 0 } else { now.saturating_add(held) },
            open_until: vitals.open_for.map(|open| now.saturating_add(millis_up(open))),
        }
    }

    /// As it is to be told now.
    pub(crate) fn tell(self, now: u64) -> Vitals {
        Vitals {
            failing_for: self.failing_since.map(|since| Duration::from_millis(now.saturating_sub(since))),
            failures: self.failures,
            held_for: Duration::from_millis(self.held_until.saturating_sub(now)),
            open_for: self.open_until.map(|until| Duration::from_millis(until.saturating_sub(now))),
        }
    }
}
