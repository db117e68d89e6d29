//! What the answer to a webhook means.
//!
//! Pure: it sees what came of an exchange and says the outcome and what the subscription must know.

use crate::http::{End, Seen, signal};
use posthaste_events::outcome::{Detail, REASON_MAX, cut};
use posthaste_events::{Outcome, Signal, Timestamp};
use std::collections::BTreeSet;

/// The outcome of the delivery, and what its subscription must know.
pub(super) fn judge(seen: &Seen, end: End, give_up_on: &BTreeSet<u16>, now: Timestamp) -> (Outcome, Option<Signal>) {
    let answer = seen.kept();
    let detail = |error: Option<String>| Detail {
        status: seen.status,
        error: error.map(|e| cut(e, REASON_MAX)),
        answer,
        trace: seen.traced(),
    };
    let status = match (seen.status, end) {
        (Some(200..=299), End::Complete) => return (Outcome::Delivered(detail(None)), None),
        // A 2xx that breaks off is no acknowledgement.
        (None | Some(200..=299), End::Failed(words)) => {
            return (Outcome::Retry { detail: detail(Some(words)), after: None }, None);
        }
        (_, End::Ours(words)) => return (Outcome::Unattempted(detail(Some(words))), None),
        (None, End::Complete) => {
            return (Outcome::Retry { detail: detail(Some("answer: no status".into())), after: None }, None);
        }
        // Any other status has said all, whether its body came or not.
        (Some(status), _) => status,
    };
    let after = seen.wait(now);
    let signal = signal(status, after);
    let detail = detail(Some(format!("status {status}")));
    let outcome =
        if give_up_on.contains(&status) { Outcome::Rejected(detail) } else { Outcome::Retry { detail, after } };
    (outcome, signal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: i64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    fn now() -> Timestamp {
        Timestamp::from_millis(NOW * 1_000)
    }

    fn judged(status: u16, after: Option<&str>) -> (Outcome, Option<Signal>) {
        let seen = Seen::with(status, after, b"");
        judge(&seen, End::Complete, &BTreeSet::from([422]), now())
    }

    #[test]
    fn only_a_complete_2xx_is_delivered() {
        for status in [200, 201, 202, 204, 299] {
            assert!(matches!(judged(status, None), (Outcome::Delivered(_), None)), "{status}");
        }
        for status in [101, 301, 302, 304, 400, 404, 500, 520, 599, 600, 999] {
            let (outcome, signal) = judged(status, None);
            assert!(matches!(&outcome, Outcome::Retry { after: None, .. }) && signal.is_none(), "{status}");
            assert_eq!(outcome.detail().error.as_deref(), Some(format!("status {status}").as_str()));
        }
        let seen = Seen::with(200, None, b"");
        let (outcome, _) = judge(&seen, End::Failed("body: broke".into()), &BTreeSet::new(), now());
        assert!(matches!(outcome, Outcome::Retry { .. }) && outcome.detail().status == Some(200));
    }

    #[test]
    fn four_statuses_with_retry_after_slow_the_whole_subscription() {
        for status in [429, 502, 503, 504] {
            let (outcome, signal) = judged(status, Some("7"));
            assert_eq!(signal, Some(Signal::SlowDown(Duration::from_secs(7))), "{status}");
            assert!(matches!(outcome, Outcome::Retry { after: Some(_), .. }));
            assert_eq!(judged(status, None).1, None);
            assert_eq!(judged(status, Some("0")).1, None);
        }
        assert!(matches!(judged(500, Some("7")), (Outcome::Retry { after: Some(_), .. }, None)));
    }

    #[test]
    fn a_410_disables_and_a_status_to_give_up_on_rejects() {
        assert!(matches!(judged(410, None), (Outcome::Retry { .. }, Some(Signal::Disable(_)))));
        assert!(matches!(judged(422, Some("7")), (Outcome::Rejected(_), None)));
    }

    #[test]
    fn what_is_ours_is_not_charged() {
        let (outcome, _) = judge(&Seen::default(), End::Ours("dns: down".into()), &BTreeSet::new(), now());
        assert!(matches!(outcome, Outcome::Unattempted(_)));
    }
}
