//! What the answer to a webhook means.
//!
//! Pure: it sees what came of an exchange and says the outcome and what the subscription must know.

use bytes::Bytes;
use posthaste_events::outcome::{ANSWER_KEPT_MAX, Detail, REASON_MAX, cut};
use posthaste_events::retry::RETRY_AFTER_MAX;
use posthaste_events::{Outcome, Signal, Timestamp};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// How much of an answer is read, in bytes; one that is longer counts by its status.
pub(super) const ANSWER_READ_MAX: usize = 64 * 1024;

/// What came of an exchange, as far as it went.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The status, once the head was there.
    pub(super) status: Option<u16>,
    /// `Retry-After`, as it came.
    pub(super) retry_after: Option<String>,
    kept: Vec<u8>,
    read: usize,
}

impl Seen {
    /// Takes note of a piece of the body; false once enough was read.
    pub(super) fn body(&mut self, piece: &[u8]) -> bool {
        let room = ANSWER_KEPT_MAX - self.kept.len();
        self.kept.extend_from_slice(&piece[..room.min(piece.len())]);
        self.read = self.read.saturating_add(piece.len());
        self.read <= ANSWER_READ_MAX
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum End {
    /// The answer was read as far as it is read.
    Complete,
    /// It did not come to that, for a reason of the endpoint.
    Failed(String),
    /// It did not come to that, for a reason of our own.
    Ours(String),
}

/// The outcome of the delivery, and what its subscription must know.
pub(super) fn judge(seen: Seen, end: End, give_up_on: &BTreeSet<u16>, now: Timestamp) -> (Outcome, Option<Signal>) {
    let answer = (!seen.kept.is_empty()).then(|| Bytes::from(seen.kept));
    let detail =
        |error: Option<String>| Detail { status: seen.status, error: error.map(|e| cut(e, REASON_MAX)), answer };
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
    let after = seen.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let signal = match status {
        410 => Some(Signal::Disable("status 410: the receiver wants no more".into())),
        429 | 502 | 503 | 504 => after.filter(|wait| !wait.is_zero()).map(Signal::SlowDown),
        _ => None,
    };
    let detail = detail(Some(format!("status {status}")));
    let outcome =
        if give_up_on.contains(&status) { Outcome::Rejected(detail) } else { Outcome::Retry { detail, after } };
    (outcome, signal)
}

/// Reads `Retry-After`: whole seconds or an HTTP date, at most 24 h; what lies in the past is no wait.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number takes are a long time too.
        return Some(text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs).min(RETRY_AFTER_MAX));
    }
    let until = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let now = Duration::from_micros(u64::try_from(now.micros()).unwrap_or(0));
    Some(until.saturating_sub(now).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    fn now() -> Timestamp {
        Timestamp::from_millis(NOW * 1_000)
    }

    fn judged(status: u16, after: Option<&str>) -> (Outcome, Option<Signal>) {
        let seen = Seen { status: Some(status), retry_after: after.map(Into::into), ..Seen::default() };
        judge(seen, End::Complete, &BTreeSet::from([422]), now())
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date_up_to_a_day() {
        let read = |text| retry_after(text, now()).map(|d| d.as_secs());
        assert_eq!(read("120"), Some(120));
        assert_eq!(read(" 0 "), Some(0));
        assert_eq!(read("99999999999999999999999"), Some(86_400));
        assert_eq!(read("31536000"), Some(86_400));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(read("Sunday, 06-Nov-94 08:50:37 GMT"), Some(60));
        assert_eq!(read("Sun Nov  6 08:50:37 1994"), Some(60));
        assert_eq!(read("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0));
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT"), Some(86_400));
        for text in ["", "soon", "-5", "1.5", "5s", "Sun, 06 Nov"] {
            assert_eq!(read(text), None, "{text}");
        }
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
        let seen = Seen { status: Some(200), ..Seen::default() };
        let (outcome, _) = judge(seen, End::Failed("body: broke".into()), &BTreeSet::new(), now());
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
        let (outcome, _) = judge(Seen::default(), End::Ours("dns: down".into()), &BTreeSet::new(), now());
        assert!(matches!(outcome, Outcome::Unattempted(_)));
    }

    #[test]
    fn two_kib_are_kept_and_64_read() {
        let mut seen = Seen::default();
        assert!(seen.body(&[b'a'; 64 * 1024]) && !seen.body(b"b"));
        assert_eq!(seen.kept.len(), ANSWER_KEPT_MAX);
    }
}
