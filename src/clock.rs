//! The system's clock and randomness: the only place where they come in.

use posthaste_events::Timestamp;
use posthaste_events::seams::{Clock, Random};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clocks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// Time since the machine started, its sleep included.
    fn elapsed(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        // Boot time is never negative, and its nanoseconds are below a second.
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn wall(&self) -> Timestamp {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        })
    }
}

/// The randomness of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next(&self) -> u64 {
        rand::random()
    }
}

impl SystemRandom {
    /// Fills with bytes of the system itself, asked for anew each time: a machine that goes on twice from one snapshot has the
    /// state of this process twice, but not these.
    pub(crate) fn fill(self, bytes: &mut [u8]) {
        if OsRng.try_fill_bytes(bytes).is_err() {
            // A system that has no randomness now, after the start had some: what grows from that is the next best.
            rand::fill(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_filled_and_never_the_same_way_twice() {
        let (mut a, mut b) = ([0; 61], [0; 61]);
        SystemRandom.fill(&mut a);
        SystemRandom.fill(&mut b);
        assert!(a != b && a[53..] != [0; 8] && a[..8] != [0; 8], "{a:?} {b:?}");
    }

    #[test]
    fn time_does_not_run_back_and_the_wall_clock_shows_this_century() {
        let (a, b) = (SystemClock.elapsed(), SystemClock.elapsed());
        assert!(a <= b && a > Duration::ZERO);
        assert!(SystemClock.wall() > Timestamp::parse("2024-01-01T00:00:00Z").unwrap());
    }
}
