//! When a delivery is tried again, and when it is given up.
//!
//! The intervals are computed by the `backoff` crate; what is kept between attempts is the number of the attempt and
//! the time of the next one.

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use std::time::Duration;

/// How long a receiver's `Retry-After` is honoured at most.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Exponential backoff with jitter, and its end.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The wait after the first attempt.
    pub initial: Duration,
    /// What each wait is of the one before; 1 or more.
    pub multiplier: f64,
    /// The longest wait, jitter included.
    pub max: Duration,
    /// The share of a wait by which it may be longer or shorter; 0 to 1.
    pub jitter: f64,
    /// How long after it was recorded a delivery is given up; time while it was held does not count.
    pub give_up_after: Duration,
    /// After how many attempts a delivery is given up, where that comes first.
    pub attempts: Option<u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(5),
            multiplier: 2.0,
            max: Duration::from_secs(6 * 60 * 60),
            jitter: 0.25,
            give_up_after: Duration::from_secs(3 * 24 * 60 * 60),
            attempts: None,
        }
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt after this wait.
    Wait(Duration),
    /// No other: the delivery is dead.
    GiveUp,
}

impl RetryPolicy {
    /// What follows the failed attempt number `attempt` (from 1) of a delivery that has been owed for `owed_for`.
    ///
    /// `jitter` is a random number of 0 to 1. `after` is the receiver's `Retry-After`: the wait is never shorter, and
    /// at most [`RETRY_AFTER_MAX`] of it counts.
    #[must_use]
    pub fn next(&self, attempt: u32, owed_for: Duration, after: Option<Duration>, jitter: f64) -> Next {
        if self.attempts.is_some_and(|most| attempt >= most) || owed_for >= self.give_up_after {
            return Next::GiveUp;
        }
        let spread = 1.0 + self.jitter * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
        let wait = self.interval(attempt).mul_f64(spread.max(0.0)).min(self.max);
        Next::Wait(wait.max(after.unwrap_or_default().min(RETRY_AFTER_MAX)))
    }

    /// The wait after attempt number `attempt`, without jitter.
    fn interval(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        let current = Duration::try_from_secs_f64(seconds).unwrap_or(self.max).min(self.max);
        let mut calculator = ExponentialBackoff {
            current_interval: current,
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: self.multiplier,
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        calculator.next_backoff().unwrap_or(self.max).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEW: Duration = Duration::ZERO;

    #[test]
    fn waits_grow_by_the_multiplier_up_to_the_longest() {
        let policy = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        let waits: Vec<_> = (1..=5).map(|n| policy.next(n, NEW, None, 0.5)).collect();
        let seconds = [5, 10, 20, 40, 80].map(|s| Next::Wait(Duration::from_secs(s)));
        assert_eq!(waits, seconds);
        assert_eq!(policy.next(40, NEW, None, 0.5), Next::Wait(policy.max));
        assert_eq!(policy.next(u32::MAX, NEW, None, 0.5), Next::Wait(policy.max));
    }

    #[test]
    fn a_delivery_is_given_up_after_its_time_or_its_attempts() {
        let policy = RetryPolicy { attempts: Some(3), ..RetryPolicy::default() };
        assert!(matches!(policy.next(2, NEW, None, 0.5), Next::Wait(_)));
        assert_eq!(policy.next(3, NEW, None, 0.5), Next::GiveUp);
        assert_eq!(policy.next(1, policy.give_up_after, None, 0.5), Next::GiveUp);
    }

    #[test]
    fn retry_after_lengthens_a_wait_up_to_a_day() {
        let policy = RetryPolicy::default();
        let wait = |after| policy.next(1, NEW, Some(Duration::from_secs(after)), 0.5);
        assert_eq!(wait(60), Next::Wait(Duration::from_secs(60)));
        assert_eq!(wait(1), Next::Wait(Duration::from_secs(5)));
        assert_eq!(wait(10_000_000), Next::Wait(RETRY_AFTER_MAX));
    }

    proptest! {
        #[test]
        fn jitter_keeps_within_its_share_and_the_longest_wait(attempt in 1_u32..64, jitter in 0.0..1.0_f64) {
            let policy = RetryPolicy::default();
            let plain = policy.interval(attempt);
            let Next::Wait(wait) = policy.next(attempt, NEW, None, jitter) else { panic!("gave up") };
            prop_assert!(wait <= policy.max && wait >= plain.mul_f64(0.749) && wait <= plain.mul_f64(1.251));
        }
    }
}
