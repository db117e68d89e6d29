//! One whole exchange: a request, its answer as far as it is read, and how it ended, all before one deadline.
//!
//! What an answer means is left to each kind; what every receiver says in the same way is read here: `Retry-After`, and
//! the statuses that concern the whole subscription.

use super::{Enough, Failure, Http, Outgoing, Stage, Target};
use bytes::Bytes;
use posthaste_events::outcome::{ANSWER_KEPT_MAX, Trace};
use posthaste_events::retry::RETRY_AFTER_MAX;
use posthaste_events::{Signal, Timestamp};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};

/// How much of an answer is read, in bytes; one that is longer counts by its status.
pub const ANSWER_READ_MAX: usize = 64 * 1024;

const NO_TRACE: Trace = Trace { address: None, dns: None, connect: None, tls: None, first_byte: None };

/// What came of an exchange, as far as it went.
#[derive(Debug)]
pub struct Seen {
    /// The status, once the head was there.
    pub status: Option<u16>,
    /// `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// How it went on the wire.
    pub trace: Trace,
    body: Vec<u8>,
    body_max: usize,
    read: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self::keeping(ANSWER_KEPT_MAX)
    }
}

impl Seen {
    /// Nothing yet; of the body so many bytes are kept, at most [`ANSWER_READ_MAX`].
    #[must_use]
    pub const fn keeping(body_max: usize) -> Self {
        Self { status: None, retry_after: None, trace: NO_TRACE, body: Vec::new(), body_max, read: 0 }
    }

    /// Takes note of a piece of the body; false once enough was read.
    fn take(&mut self, piece: &[u8]) -> bool {
        let room = self.body_max.saturating_sub(self.body.len());
        self.body.extend_from_slice(&piece[..room.min(piece.len())]);
        self.read = self.read.saturating_add(piece.len());
        self.read <= ANSWER_READ_MAX
    }

    /// The body, as far as it is kept.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether the answer had more of a body than was kept.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.read > self.body.len()
    }

    /// What an attempt keeps of how it went on the wire; `None` where it never came to that.
    #[must_use]
    pub fn traced(&self) -> Option<Box<Trace>> {
        (self.trace != NO_TRACE).then(|| Box::new(self.trace.clone()))
    }

    /// What an attempt keeps of the body; `None` where there is none.
    #[must_use]
    pub fn kept(&self) -> Option<Bytes> {
        let kept = &self.body[..self.body.len().min(ANSWER_KEPT_MAX)];
        (!kept.is_empty()).then(|| Bytes::copy_from_slice(kept))
    }

    /// How long the receiver asks to wait, at most 24 h: `Retry-After` in whole seconds or as an HTTP date (RFC 9110
    /// section 10.2.3). What lies in the past is no wait; `None` where there is nothing to be read.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        self.retry_after.as_deref().and_then(|text| retry_after(text, now))
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub enum End {
    /// The answer was read as far as it is read.
    Complete,
    /// It did not come to that, for a reason of the endpoint.
    Failed(String),
    /// It did not come to that, for a reason of our own.
    Ours(String),
}

/// What a status says about the whole subscription: a 410 that the receiver wants no more, a 429, 502, 503 or 504 with
/// `Retry-After` that nothing should be sent for so long.
#[must_use]
pub fn signal(status: u16, wait: Option<Duration>) -> Option<Signal> {
    match status {
        410 => Some(Signal::Disable("status 410: the receiver wants no more".into())),
        429 | 502 | 503 | 504 => wait.filter(|wait| !wait.is_zero()).map(Signal::SlowDown),
        _ => None,
    }
}

impl Http {
    /// Sends one POST and reads its answer into `seen`; whatever is not there at the deadline is left.
    pub async fn exchange(&self, outgoing: Outgoing, mut seen: Seen, deadline: Instant) -> (Seen, End) {
        let (began, progress, target) = (Instant::now(), outgoing.progress.clone(), Arc::clone(&outgoing.target));
        let end = match timeout_at(deadline, self.read(outgoing, &mut seen)).await {
            Ok(Ok(())) => End::Complete,
            Ok(Err(failure)) if failure.is_ours() => End::Ours(failure.to_string()),
            Ok(Err(failure)) => End::Failed(failure.to_string()),
            Err(_) => self.timed_out(&seen, &target, progress.stage(), began.elapsed()),
        };
        seen.trace = progress.trace();
        (seen, end)
    }

    async fn read(&self, outgoing: Outgoing, seen: &mut Seen) -> Result<(), Failure> {
        let answer = self.post(outgoing).await?;
        seen.status = Some(answer.status());
        seen.retry_after = answer.header("retry-after").map(ToOwned::to_owned);
        answer.read(|piece| if seen.take(piece) { Enough::No } else { Enough::Yes }).await
    }

    /// The end of an exchange that its deadline cut off.
    fn timed_out(&self, seen: &Seen, target: &Target, stage: Stage, after: Duration) -> End {
        if seen.status.is_some() {
            return End::Failed(format!(
                "timeout: the answer was not complete within {} ms (timeout)",
                after.as_millis()
            ));
        }
        let failure = Failure::late(stage, after, "timeout", self.resolver.blames(target.name()));
        if failure.is_ours() { End::Ours(failure.to_string()) } else { End::Failed(failure.to_string()) }
    }
}

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
impl Seen {
    /// What came of an exchange whose head had this.
    pub(crate) fn with(status: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let head =
            Self { status: Some(status), retry_after: retry_after.map(Into::into), ..Self::keeping(ANSWER_READ_MAX) };
        Self { body: body.to_owned(), ..head }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    fn now() -> Timestamp {
        Timestamp::from_millis(784_111_777 * 1_000)
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
    fn two_kib_are_kept_and_64_read() {
        for (mut seen, held) in [(Seen::default(), ANSWER_KEPT_MAX), (Seen::keeping(9_000), 9_000)] {
            assert_eq!(seen.kept(), None);
            assert!(seen.take(&vec![b'a'; held]) && !seen.is_cut());
            assert!(seen.take(&vec![b'a'; 64 * 1024 - held]) && !seen.take(b"b") && seen.is_cut());
            assert_eq!((seen.kept().unwrap().len(), seen.body().len()), (ANSWER_KEPT_MAX, held));
        }
    }
}
