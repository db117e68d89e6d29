//! Reads bodies, within bounds: of one body, and of all bodies and events that are under way at once.
//!
//! Whatever is offered, memory stays bounded: what does not fit is refused with 503. Bytes count once they are there, not
//! when they are announced, and a body that comes too slowly is given up, so that nobody takes the room by waiting.
//! Requests that take no fields have no part in this: they are answered however much is under way.

use super::problem::Problem;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How many bytes of bodies may be under way, over all callers, beside one body of the largest size.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many events may wait for the registry's answer, over all callers.
const EVENTS_MAX: usize = 16_384;
/// How long a body may take from its first to its last byte.
const BODY_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long a body may take to bring [`PROGRESS_BYTES`] or its end, over and over.
const PROGRESS_WAIT_MAX: Duration = Duration::from_secs(10);
/// What a body brings at least within [`PROGRESS_WAIT_MAX`].
const PROGRESS_BYTES: usize = 64 * 1024;
/// How long a body of a request with few fields or none may be, in bytes.
const FEW_FIELDS_MAX: usize = 1_024;
/// How much of a refused body is read and forgotten.
const DISCARD_MAX: usize = 32 * 1024 * 1024;
/// How long that may take.
const DISCARD_WAIT_MAX: Duration = Duration::from_secs(5);
/// When a refused caller may come again.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// What is under way. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    body_max: usize,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    events: AtomicUsize,
}

/// A share of what may be under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    counts: Arc<Counts>,
    bytes: usize,
    events: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.counts.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.counts.events.fetch_sub(self.events, Ordering::Relaxed);
    }
}

impl Share {
    fn add_bytes(&mut self, more: usize, max: usize) -> Result<(), Problem> {
        self.bytes += more;
        if self.counts.bytes.fetch_add(more, Ordering::Relaxed) + more > max {
            return Err(busy());
        }
        Ok(())
    }

    /// Counts events that begin to wait for the registry.
    ///
    /// # Errors
    /// 503 where too many wait already.
    pub(crate) fn add_events(&mut self, more: usize) -> Result<(), Problem> {
        self.events += more;
        if self.counts.events.fetch_add(more, Ordering::Relaxed) + more > EVENTS_MAX { Err(busy()) } else { Ok(()) }
    }
}

fn busy() -> Problem {
    Problem::unavailable("too much is under way; come again", BUSY_RETRY)
}

impl Intake {
    /// An intake for bodies of at most so many bytes.
    pub(crate) fn new(body_max: usize) -> Self {
        Self { body_max, counts: Arc::default() }
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// 413 over the bound, 400 where it breaks off, 408 where it takes too long, 503 where too much is under way.
    pub(crate) async fn body(&self, request: &HttpRequest, payload: Payload) -> Result<(Bytes, Share), Problem> {
        self.body_within(request, payload, self.body_max).await
    }

    /// The same with a bound of its own, where that is lower.
    pub(crate) async fn body_within(
        &self,
        request: &HttpRequest,
        payload: Payload,
        body_max: usize,
    ) -> Result<(Bytes, Share), Problem> {
        let body_max = body_max.min(self.body_max);
        let mut share = Share { counts: Arc::clone(&self.counts), bytes: 0, events: 0 };
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|l| l.to_str().ok()).and_then(|l| l.parse::<usize>().ok()).unwrap_or(0);
        if length > body_max {
            discard(payload).await;
            return Err(too_large(body_max));
        }
        // What does not fit already is refused before it is read.
        if self.counts.bytes.load(Ordering::Relaxed).saturating_add(length) > self.bytes_max() {
            return Err(busy());
        }
        match tokio::time::timeout(BODY_WAIT_MAX, self.collect(payload, body_max, &mut share)).await {
            Ok(body) => Ok((body?, share)),
            Err(_) => Err(late(BODY_WAIT_MAX)),
        }
    }

    async fn collect(&self, payload: Payload, body_max: usize, share: &mut Share) -> Result<Bytes, Problem> {
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        let mut arriving = Arriving::new(payload);
        while let Some(chunk) = arriving.next().await? {
            let len = first.len() + rest.len() + chunk.len();
            if len > body_max {
                discard(arriving.payload).await;
                return Err(too_large(body_max));
            }
            share.add_bytes(chunk.len(), self.bytes_max())?;
            // Most bodies come in one piece, which then needs no copy.
            if first.is_empty() && rest.is_empty() {
                first = chunk;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&chunk);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    }

    /// One body of the largest size fits always.
    fn bytes_max(&self) -> usize {
        BYTES_MAX.max(self.body_max)
    }
}

fn too_large(body_max: usize) -> Problem {
    Problem::too_large(format!("a body has at most {body_max} bytes"))
}

fn late(waited: Duration) -> Problem {
    let detail = format!("the body did not arrive within {} s", waited.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
}

/// A body that must make progress.
struct Arriving {
    payload: Payload,
    until: Instant,
    brought: usize,
}

impl Arriving {
    fn new(payload: Payload) -> Self {
        Self { payload, until: Instant::now() + PROGRESS_WAIT_MAX, brought: 0 }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// 400 where it breaks off, 408 where it comes too slowly.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let arrived = tokio::time::timeout_at(self.until, self.payload.next()).await;
        let Some(chunk) = arrived.map_err(|_| late(PROGRESS_WAIT_MAX))? else { return Ok(None) };
        let chunk = chunk.map_err(|e| Problem::unreadable(format!("the body broke off: {e}")))?;
        self.brought += chunk.len();
        if self.brought >= PROGRESS_BYTES {
            (self.brought, self.until) = (0, Instant::now() + PROGRESS_WAIT_MAX);
        }
        Ok(Some(chunk))
    }
}

/// Reads and forgets the body of a request that was refused, within bounds: a client that reads no answer before it
/// has sent all would see a broken connection instead.
pub(crate) async fn discard(mut payload: Payload) {
    let all = async {
        let mut left = DISCARD_MAX;
        while let Some(Ok(chunk)) = payload.next().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whether it ended or not, the answer follows.
    let _ = tokio::time::timeout(DISCARD_WAIT_MAX, all).await;
}

/// Reads the body of a request that has no fields: none, or an empty JSON object.
///
/// # Errors
/// As [`few_fields`], and 422 where it has any.
pub(crate) async fn no_fields(payload: Payload) -> Result<(), Problem> {
    if few_fields(payload).await?.is_empty() {
        return Ok(());
    }
    Err(Problem::wrong(vec![super::problem::Fault::at("", "this takes no fields")]))
}

/// Reads the body of a request that has few fields or none: a short JSON object, or nothing. It takes nothing of what may
/// be under way, so that a person can still act when everything is.
///
/// # Errors
/// 400 where it is no JSON or breaks off, 408 where it comes too slowly, 413 where it is long, 422 where it is no object.
pub(crate) async fn few_fields(payload: Payload) -> Result<Map<String, Value>, Problem> {
    let mut body = BytesMut::new();
    let mut arriving = Arriving::new(payload);
    while let Some(chunk) = arriving.next().await? {
        if body.len() + chunk.len() > FEW_FIELDS_MAX {
            discard(arriving.payload).await;
            return Err(Problem::too_large(format!("this takes a body of at most {FEW_FIELDS_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if body.is_empty() {
        return Ok(Map::new());
    }
    let text = super::json::check(&body).map_err(|e| Problem::unreadable(format!("the body is not JSON: {e}")))?;
    serde_json::from_str(text)
        .map_err(|_| Problem::wrong(vec![super::problem::Fault::at("", "this takes a JSON object, or no body at all")]))
}

/// Refuses what is not JSON by its content type; none is taken as JSON.
///
/// # Errors
/// 415 with a word on what to send.
pub(crate) fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    is_json_as(headers, &["application/json"])
}

/// The same where JSON may come under these media types.
pub(crate) fn is_json_as(headers: &HeaderMap, kinds: &[&str]) -> Result<(), Problem> {
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Problem::unsupported("bodies are read as they are, without a Content-Encoding"));
    }
    if headers.contains_key("ce-specversion") {
        return Err(Problem::unsupported("CloudEvents are not read yet; post {\"type\", \"properties\", …}"));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or("?").to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let utf8 = parts.all(|p| !p.starts_with("charset") || matches!(p, "charset=utf-8" | "charset=\"utf-8\""));
    let hint = match kind {
        _ if kinds.contains(&kind) && utf8 => return Ok(()),
        _ if kinds.contains(&kind) => "JSON is UTF-8",
        "application/x-www-form-urlencoded" => "curl needs -H 'content-type: application/json'",
        _ if kind.starts_with("application/cloudevents") => "CloudEvents are not read yet",
        _ => "send application/json",
    };
    Err(Problem::unsupported(format!("{}: {hint}", super::problem::quoted(&text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::FromRequest as _;
    use actix_web::test::TestRequest;

    async fn read(intake: &Intake, body: &'static [u8]) -> Result<(Bytes, Share), u16> {
        let (request, mut payload) = TestRequest::default().set_payload(body).to_http_parts();
        let payload = Payload::from_request(&request, &mut payload).await.unwrap();
        intake.body(&request, payload).await.map_err(|p| actix_web::ResponseError::status_code(&p).as_u16())
    }

    #[actix_web::test]
    async fn a_body_over_its_bound_is_413_and_one_at_it_is_read() {
        let intake = Intake::new(8);
        assert_eq!(read(&intake, b"12345678").await.unwrap().0, "12345678");
        assert_eq!(read(&intake, b"123456789").await.unwrap_err(), 413);
    }

    /// A body that comes in pieces, each after a pause, and announces a length.
    async fn arriving(pieces: Vec<(u64, Bytes)>, length: usize) -> (HttpRequest, Payload) {
        let (request, _) =
            TestRequest::default().insert_header((header::CONTENT_LENGTH, length.to_string())).to_http_parts();
        let pieces = futures_util::stream::iter(pieces).then(|(pause, piece)| async move {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            Ok::<_, actix_web::error::PayloadError>(piece)
        });
        let pieces: std::pin::Pin<Box<dyn futures_util::Stream<Item = _>>> = Box::pin(pieces);
        let mut payload = actix_web::dev::Payload::from(pieces);
        let payload = Payload::from_request(&request, &mut payload).await.unwrap();
        (request, payload)
    }

    async fn read_arriving(intake: &Intake, pieces: Vec<(u64, Bytes)>) -> Result<usize, u16> {
        let length = pieces.iter().map(|(_, piece)| piece.len()).sum();
        let (request, payload) = arriving(pieces, length).await;
        let read = intake.body(&request, payload).await;
        read.map(|(body, _)| body.len()).map_err(|p| actix_web::ResponseError::status_code(&p).as_u16())
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_are_announced_and_do_not_come_keep_nobody_out() {
        let intake = Intake::new(8 << 20);
        let idle = || async {
            let (request, payload) = arriving(vec![(3_600, Bytes::from_static(b"x"))], 8 << 20).await;
            intake.body(&request, payload).await.map(drop).map_err(|p| p.to_string())
        };
        let idle = futures_util::future::join_all((0..100).map(|_| idle()));
        let other = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            read(&intake, b"1").await.map(|(body, _)| body)
        };
        let (idle, other) = futures_util::join!(idle, other);
        assert_eq!(other.unwrap(), "1");
        assert!(idle.iter().all(|end| end.as_ref().unwrap_err().contains("408")), "{idle:?}");
        assert_eq!(intake.counts.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_must_make_progress_and_may_then_take_its_time() {
        let intake = Intake::new(8 << 20);
        let piece = |len: usize| Bytes::from(vec![b' '; len]);
        // Slow, and yet fast enough: each ten seconds bring enough.
        let slow = (0..6).map(|_| (9, piece(PROGRESS_BYTES))).collect();
        assert_eq!(read_arriving(&intake, slow).await, Ok(6 * PROGRESS_BYTES));
        // A byte now and then is no progress.
        let drip = (0..6).map(|_| (3, piece(1))).collect();
        assert_eq!(read_arriving(&intake, drip).await, Err(408));
        let began = Instant::now();
        let stalled = vec![(1, piece(4 * PROGRESS_BYTES)), (3_600, piece(1))];
        assert_eq!(read_arriving(&intake, stalled).await, Err(408));
        assert_eq!(began.elapsed().as_secs(), 11);
        // Over all there is a bound too.
        let long = (0..8).map(|_| (9, piece(PROGRESS_BYTES))).collect();
        assert_eq!(read_arriving(&intake, long).await, Err(408));
    }

    #[actix_web::test]
    async fn what_is_under_way_is_bounded_and_given_back() {
        let intake = Intake::new(BYTES_MAX);
        let (_, mut first) = read(&intake, b"12345678").await.unwrap();
        first.add_bytes(BYTES_MAX - 8, BYTES_MAX).unwrap();
        assert_eq!(read(&intake, b"1").await.unwrap_err(), 503);
        first.add_events(EVENTS_MAX).unwrap();
        drop(first);
        let (_, mut second) = read(&intake, b"1").await.unwrap();
        assert!(second.add_events(EVENTS_MAX).is_ok() && second.add_events(1).is_err());
        drop(second);
        let left = (intake.counts.bytes.load(Ordering::Relaxed), intake.counts.events.load(Ordering::Relaxed));
        assert_eq!(left, (0, 0));
    }

    #[test]
    fn only_json_is_taken_and_the_others_are_told_what_to_send() {
        let judge = |headers: &[(&str, &str)]| {
            let request = headers.iter().fold(TestRequest::default(), |r, h| r.append_header(*h)).to_http_request();
            is_json(request.headers()).map_err(|p| p.to_string())
        };
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
            assert_eq!(judge(&[("content-type", good)]), Ok(()), "{good}");
        }
        assert_eq!(judge(&[]), Ok(()));
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
            "application/json; charset=latin-1",
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "multipart/form-data; boundary=x",
        ] {
            assert!(judge(&[("content-type", bad)]).unwrap_err().contains("415"), "{bad}");
        }
        assert!(judge(&[("content-encoding", "gzip")]).unwrap_err().contains("415"));
        assert!(
            judge(&[("content-type", "application/json"), ("ce-specversion", "1.0")])
                .unwrap_err()
                .contains("CloudEvents")
        );
    }
}
