//! Sends batches: as few requests as their size allows, more where one is refused, all within one deadline.

use super::call::Call;
use super::config::{Batching, Endpoint};
use super::verdict::{Pause, Verdict, judge};
use super::written::{Written, write};
use crate::endpoint::secret;
use crate::http::{ANSWER_READ_MAX, Http, Outgoing, Party, Progress, REPORT_TIME, Seen, USER_AGENT};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT as AGENT};
use posthaste_events::seams::Clock;
use posthaste_events::{Anonymous, Batch, BatchLimits, BoxFuture, Deliveree, Delivery, Reporter};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// Shorter bodies gain nothing by compression.
const GZIP_MIN: usize = 1_024;
/// Longer bodies are compressed where they hold nobody up.
const GZIP_ASIDE_MIN: usize = 64 * 1024;

/// The deliveree of one backend that is posted to.
pub(super) struct Sender(Arc<Parts>);

struct Parts {
    endpoint: Arc<Endpoint>,
    batching: Batching,
    http: Http,
    party: Party,
    clock: Arc<dyn Clock>,
    /// Whether this receiver has ever taken a request since the deliveree was made: only then a refusal is believed.
    has_taken: AtomicBool,
}

impl Sender {
    pub(super) fn new(endpoint: Arc<Endpoint>, batching: Batching, http: Http, clock: Arc<dyn Clock>) -> Self {
        let (party, has_taken) = (Party::default(), AtomicBool::new(false));
        Self(Arc::new(Parts { endpoint, batching, http, party, clock, has_taken }))
    }
}

impl Deliveree<Anonymous> for Sender {
    fn deliver(&self, batch: Batch<Anonymous>, report: Reporter) -> BoxFuture<()> {
        let parts = Arc::clone(&self.0);
        Box::pin(async move {
            let deadline = Instant::now() + batch.deadline.min(parts.batching.timeout);
            parts.send(&batch.deliveries, deadline, &report).await;
        })
    }

    fn limits(&self) -> BatchLimits {
        self.0.batching.limits
    }

    fn timeout(&self) -> Duration {
        self.0.batching.timeout + REPORT_TIME
    }
}

impl Parts {
    async fn send(&self, deliveries: &[Delivery<Anonymous>], deadline: Instant, report: &Reporter) {
        let events = write(deliveries, self.batching.event_max, report, |event| self.endpoint.backend.event(event));
        let mut call = Call::new(&events, self.batching, report);
        let mut sent = false;
        let why = loop {
            // The first request is made in any case: whatever hinders it is charged, so that no batch comes for ever.
            let over = Instant::now() >= deadline;
            if sent && over {
                break Pause::of("timeout: the time of the call was over", false);
            }
            let Some(group) = call.plan.next() else {
                break Pause { answered: true, ..Pause::of("refused: the same was asked for again and again", false) };
            };
            sent = true;
            let asked: Vec<&Written<'_>> = group.iter().map(|at| &events[*at]).collect();
            let verdict = self.ask(&asked, deadline).await;
            if verdict.takes() {
                self.has_taken.store(true, Ordering::Relaxed);
            }
            if let Some(why) = call.learn(group, verdict, self.has_taken.load(Ordering::Relaxed)) {
                break why;
            }
        };
        call.end(&why, Instant::now() >= deadline);
    }

    /// Sends one request with these events and judges its answer.
    async fn ask(&self, events: &[&Written<'_>], deadline: Instant) -> Verdict {
        let pieces: Vec<&[u8]> = events.iter().map(|event| event.bytes.as_slice()).collect();
        let body = self.endpoint.backend.body(&pieces);
        let (body, encoding) = match self.compress(body).await {
            Ok(written) => written,
            Err(error) => return Verdict::Later(Pause::of(format!("gzip: {error}"), true)),
        };
        let (target, party) = (Arc::clone(&self.endpoint.target), self.party.clone());
        let (headers, progress) = (self.headers(encoding), Progress::default());
        let outgoing = Outgoing { target, party, headers, seal: None, body, progress };
        let (seen, end) = self.http.exchange(outgoing, Seen::keeping(ANSWER_READ_MAX), deadline).await;
        let ids: Vec<&str> = events.iter().map(|event| event.id).collect();
        judge(self.endpoint.backend.as_ref(), &seen, end, &ids, self.clock.wall())
    }

    async fn compress(&self, body: Vec<u8>) -> io::Result<(Bytes, Option<&'static str>)> {
        if !self.endpoint.gzip || body.len() < GZIP_MIN {
            return Ok((body.into(), None));
        }
        let compressed = if body.len() < GZIP_ASIDE_MIN {
            gzip(&body)
        } else {
            spawn_blocking(move || gzip(&body)).await.map_err(io::Error::other)?
        };
        Ok((compressed?.into(), Some("gzip")))
    }

    fn headers(&self, encoding: Option<&'static str>) -> Vec<(HeaderName, HeaderValue)> {
        let backend = &self.endpoint.backend;
        // A key is visible ASCII.
        let authorization = backend.authorization().and_then(|value| Some((AUTHORIZATION, secret(&value)?)));
        let encoding = encoding.map(|encoding| (CONTENT_ENCODING, HeaderValue::from_static(encoding)));
        let ours = [(AGENT, USER_AGENT), (CONTENT_TYPE, backend.content_type())];
        let ours = ours.map(|(name, value)| (name, HeaderValue::from_static(value)));
        // Ours come last: even a name that slipped through the config could not replace one.
        let own = self.endpoint.headers.iter().cloned();
        own.chain(ours).chain(authorization).chain(encoding).collect()
    }
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
