//! Decides what an outcome leads to: delivered, another attempt and when, or dead and why.
//!
//! Pure: jitter comes through the random seam. What the settlement does to the store is the store's matter.

use posthaste_events::outcome::{REASON_MAX, cut};
use posthaste_events::retry::Next;
use posthaste_events::seams::Random;
use posthaste_events::{Change, Outcome, RetryPolicy, State};
use posthaste_outbox::Then;
use std::time::Duration;

/// What is known of a delivery whose outcome came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    /// The number of the attempts that count towards giving up, this one included.
    pub(super) charged: u32,
    /// For how long it has been owed.
    pub(super) owed_for: Duration,
    /// Whether its subscription was disabled meanwhile: what it is owed is held, and nothing dies.
    pub(super) kept: bool,
}

/// What follows, and the state that it leads to.
pub(super) fn decide(outcome: &Outcome, tried: Tried, policy: &RetryPolicy, random: &dyn Random) -> (Then, State) {
    let then = match outcome {
        Outcome::Delivered(_) => Then::Delivered,
        Outcome::Rejected(detail) => Then::Dead(reason("rejected", detail.error.as_deref(), detail.status)),
        Outcome::Unattempted(detail) if tried.owed_for >= policy.give_up_after && !tried.kept => {
            Then::Dead(reason("give_up_after", detail.error.as_deref(), detail.status))
        }
        Outcome::Unattempted(_) => Then::RetryIn(soon(random)),
        Outcome::Retry { detail, after } => {
            let jitter = random.unit();
            match policy.next(tried.charged, tried.owed_for, *after, jitter) {
                Next::Wait(wait) => Then::RetryIn(wait),
                Next::GiveUp if tried.kept => Then::RetryIn(policy.max),
                Next::GiveUp => {
                    let by_attempts = policy.attempts.is_some_and(|most| tried.charged >= most);
                    let class = if by_attempts { "attempts" } else { "give_up_after" };
                    Then::Dead(reason(class, detail.error.as_deref(), detail.status))
                }
            }
        }
    };
    let change = match then {
        Then::Delivered => Change::Delivered,
        Then::Dead(_) => Change::Died,
        Then::RetryIn(_) | Then::Release => Change::Retried,
    };
    (then, State::Pending.after(change).unwrap_or(State::Pending))
}

/// How soon something is tried again that our own side kept from being tried: 1 to 5 seconds.
fn soon(random: &dyn Random) -> Duration {
    Duration::from_secs_f64(1.0 + 4.0 * random.unit())
}

/// A class, and the last thing that went wrong.
fn reason(class: &str, error: Option<&str>, status: Option<u16>) -> String {
    let text = match (error, status) {
        (Some(error), _) => format!("{class}: {error}"),
        (None, Some(status)) => format!("{class}: status {status}"),
        (None, None) => class.to_owned(),
    };
    cut(text, REASON_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_events::outcome::Detail;

    struct Half;

    impl Random for Half {
        fn next(&self) -> u64 {
            u64::MAX / 2
        }
    }

    fn policy() -> RetryPolicy {
        RetryPolicy { attempts: Some(3), give_up_after: Duration::from_secs(100), ..RetryPolicy::default() }
    }

    fn failed() -> Outcome {
        Outcome::Retry { detail: Detail { status: Some(503), ..Detail::default() }, after: None }
    }

    fn tried(charged: u32, seconds: u64) -> Tried {
        Tried { charged, owed_for: Duration::from_secs(seconds), kept: false }
    }

    #[test]
    fn each_outcome_has_its_end() {
        let of = |outcome: &Outcome| decide(outcome, tried(1, 0), &policy(), &Half);
        assert_eq!(of(&Outcome::Delivered(Detail::default())), (Then::Delivered, State::Delivered));
        assert_eq!(
            of(&Outcome::Rejected(Detail::error("status: 400"))),
            (Then::Dead("rejected: status: 400".into()), State::Dead)
        );
        assert!(matches!(of(&failed()), (Then::RetryIn(_), State::Pending)));
    }

    #[test]
    fn the_reason_says_which_bound_was_reached() {
        let of = |t| decide(&failed(), t, &policy(), &Half).0;
        assert_eq!(of(tried(3, 0)), Then::Dead("attempts: status 503".into()));
        assert_eq!(of(tried(1, 100)), Then::Dead("give_up_after: status 503".into()));
    }

    #[test]
    fn what_could_not_be_tried_is_tried_again_within_five_seconds_until_its_time_is_over() {
        let of = |t| decide(&Outcome::Unattempted(Detail::error("resolver: away")), t, &policy(), &Half).0;
        let Then::RetryIn(wait) = of(tried(99, 99)) else { panic!("{:?}", of(tried(99, 99))) };
        assert!((Duration::from_secs(1)..=Duration::from_secs(5)).contains(&wait));
        assert_eq!(of(tried(1, 100)), Then::Dead("give_up_after: resolver: away".into()));
    }

    #[test]
    fn nothing_dies_of_the_answer_that_disabled_its_subscription() {
        let kept = Tried { kept: true, ..tried(3, 1_000) };
        assert!(matches!(decide(&failed(), kept, &policy(), &Half), (Then::RetryIn(_), State::Pending)));
    }
}
