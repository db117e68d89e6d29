//! `/v1/tail`: the live stream of attempts, one JSON object a line.
//!
//! A watcher that reads too slowly misses attempts and is told how many: `{"missed":12}`. An empty line every
//! [`QUIET_MAX`] shows that the stream lives, and finds watchers that went away. At most [`TAILS_MAX`] watch at once.

use super::access::Caller;
use super::desk::{LOOK_WAIT_MAX, ask};
use super::problem::Problem;
use super::query::Query;
use super::shapes::Tailed;
use super::{Scope, Shared};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use posthaste_actors::messages::{Watch, Watched};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// How many may watch at once.
const TAILS_MAX: usize = 64;
/// How long nothing at all is sent.
const QUIET_MAX: Duration = Duration::from_secs(15);
/// How many bytes of lines are sent as one piece, about.
const PIECE_BYTES: usize = 16 * 1024;

/// One watcher.
struct Tail {
    shared: web::Data<Shared>,
    caller: Caller,
    attempts: Receiver<Arc<Watched>>,
    _place: Place,
}

/// One of the [`TAILS_MAX`] places; free again when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(places: &Arc<AtomicUsize>) -> Result<Self, Problem> {
        let place = Self(Arc::clone(places));
        if places.fetch_add(1, Ordering::Relaxed) < TAILS_MAX {
            return Ok(place);
        }
        Err(Problem::unavailable(format!("{TAILS_MAX} watch already"), Duration::from_secs(5)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Streams attempts as they happen, until the caller goes or the daemon stops.
pub(super) async fn tail(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Read)?;
    Query::none(request.query_string())?;
    let place = Place::take(&shared.tails)?;
    let attempts = ask(&shared.desk.watch, Watch, LOOK_WAIT_MAX).await?;
    let tail = Tail { shared, caller, attempts, _place: place };
    let pieces = stream::unfold(tail, |mut tail| async move {
        let piece = tail.piece().await?;
        Some((Ok::<_, Infallible>(piece), tail))
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header(("cache-control", "no-store"))
        .streaming(pieces))
}

impl Tail {
    /// The next lines; `None` at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        let shared = self.shared.clone();
        let stop = shared.stop.notified();
        tokio::pin!(stop);
        // From here on a stop is not missed, whether it comes before or after the look at the flag.
        stop.as_mut().enable();
        let mut lines = Vec::new();
        loop {
            if shared.is_stopping() {
                return None;
            }
            let next = tokio::select! {
                () = &mut stop => return None,
                next = tokio::time::timeout(QUIET_MAX, self.attempts.recv()) => next,
            };
            match next {
                Ok(Ok(watched)) => self.write(&mut lines, &watched),
                Ok(Err(RecvError::Lagged(missed))) => missed_line(&mut lines, missed),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => lines.push(b'\n'),
            }
            self.write_what_waits(&mut lines);
            if !lines.is_empty() {
                return Some(lines.into());
            }
        }
    }

    /// What came meanwhile goes into the same piece.
    fn write_what_waits(&mut self, lines: &mut Vec<u8>) {
        while lines.len() < PIECE_BYTES {
            match self.attempts.try_recv() {
                Ok(watched) => self.write(lines, &watched),
                Err(TryRecvError::Lagged(missed)) => missed_line(lines, missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn write(&self, lines: &mut Vec<u8>, watched: &Watched) {
        if !self.caller.sees(watched.tenant.as_deref()) {
            return;
        }
        let before = lines.len();
        // Texts and numbers only: this serializes always; if not, no half line is left.
        match serde_json::to_writer(&mut *lines, &Tailed::new(watched)) {
            Ok(()) => lines.push(b'\n'),
            Err(_) => lines.truncate(before),
        }
    }
}

fn missed_line(lines: &mut Vec<u8>, missed: u64) {
    lines.extend_from_slice(format!("{{\"missed\":{missed}}}\n").as_bytes());
}
