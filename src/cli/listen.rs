//! `posthaste listen`: a receiver for development. Prints what arrives ([`arrived`]), judges its signatures ([`mod@judge`]),
//! answers as it was told. A batch of analytics ([`batch`]) is told event by event.

mod arrived;
mod batch;
mod judge;

use super::Failure;
use super::output::{Output, complain, plain};
use crate::config::duration;
use arrived::{Arrived, Ids};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use judge::{Given, Key, judge, words};
use posthaste_events::Timestamp;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// The secret of the shipped configuration, so that a newcomer's first webhook is signed and judged. Public: never for
/// anything but development.
pub(super) const DEVELOPMENT_SECRET: &str = "whsec_dGhpcy1zZWNyZXQtaXMtZm9yLWRldmVsb3BtZW50LW9ubHk=";

/// How long a body may be, unpacked too: more than a batch of any backend has.
const BODY_MAX: usize = 24 * 1024 * 1024;
/// How much of a body, or of an event, is printed, in characters.
const SHOWN_MAX: usize = 4096;

/// How to receive.
#[derive(Debug, Args)]
pub(super) struct Listen {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8322")]
    addr: SocketAddr,
    /// The secret to judge signatures by; may be given several times. By default that of the shipped configuration.
    // Read later: what is refused here is told with its value.
    #[arg(long, value_name = "SECRET", value_parser = Given::take)]
    secret: Vec<Given>,
    /// The status to answer with.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// Answer so many requests with 500 before any other.
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail_first: u64,
    /// Wait so long before each answer, such as 300ms.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = delay)]
    delay: Duration,
}

fn delay(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "write a whole number with ms, s, m, h or d, such as 300ms".to_owned())
}

/// What all requests share.
struct Receiver {
    listen: Listen,
    keys: Vec<Key>,
    failed: AtomicU64,
    ids: Mutex<Ids>,
    lines: Mutex<Output>,
    /// Told when nobody reads the lines any more.
    closed: mpsc::Sender<std::io::Error>,
}

pub(super) async fn run(listen: Listen) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::Failed(format!("cannot listen on {}: {e}", listen.addr));
    let listener = TcpListener::bind(listen.addr).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let mut output = Output::stdout();
    output.line(&format!("listening on http://{address}/"))?;
    tokio::select! {
        done = receive_all(listener, listen, output) => done,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Receives until nobody reads what is printed any more.
async fn receive_all(listener: TcpListener, listen: Listen, output: Output) -> Result<(), Failure> {
    let keys = match listen.secret.as_slice() {
        [] => vec![Key::parse(DEVELOPMENT_SECRET).map_err(Failure::Usage)?],
        given => given.iter().map(Given::read).collect::<Result<_, _>>().map_err(Failure::Usage)?,
    };
    let (closed, mut output_closed) = mpsc::channel(1);
    let receiver = Arc::new(Receiver {
        listen,
        keys,
        failed: AtomicU64::new(0),
        ids: Mutex::default(),
        lines: Mutex::new(output),
        closed,
    });
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => receive(Arc::clone(&receiver), stream),
                // Out of descriptors, or a caller that left at once: the next may do better.
                Err(error) => {
                    complain(&format!("a connection did not come about: {error}"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(error) = output_closed.recv() => return Err(Failure::Output(error)),
        }
    }
}

fn receive(receiver: Arc<Receiver>, stream: tokio::net::TcpStream) {
    let service = service_fn(move |request| {
        let receiver = Arc::clone(&receiver);
        async move { receiver.answer(request).await }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::spawn(async move {
        // A caller that breaks off has its own reasons.
        let _ = connection.await;
    });
}

impl Receiver {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await.map(http_body_util::Collected::to_bytes);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let status = match &body {
            Ok(_) => self.next_status(),
            Err(_) => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let mut said = None;
        let mut lines = match &body {
            Ok(body) => self.told(&head.headers, body, now, &mut said),
            Err(_) => vec![format!(
                "{} {}: the body broke off or has more than {BODY_MAX} bytes",
                head.method,
                plain(head.uri.path())
            )],
        };
        lines.push(format!("  answered {}", status.as_u16()));
        tokio::time::sleep(self.listen.delay).await;
        self.print(&lines);
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        if let Some((kind, text)) = said.filter(|_| status.is_success()) {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            *response.body_mut() = Full::new(Bytes::from_static(text.as_bytes()));
        }
        Ok(response)
    }

    /// What is printed of a body; of a batch, `said` becomes what its backend wants to hear.
    fn told(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Duration,
        said: &mut Option<(&'static str, &'static str)>,
    ) -> Vec<String> {
        let unpacked = match batch::unpacked(headers, body) {
            Ok(unpacked) => unpacked,
            Err(why) => return vec![why],
        };
        if let Some(batch) = batch::read(headers, &unpacked) {
            *said = Some(batch.answer);
            return batch::lines(&batch);
        }
        // Signed is what was sent.
        let judged = judge(headers, body, &self.keys, now.as_secs());
        let mut said = judged.iter().map(|one| words(one, self.keys.len()));
        let arrived = Arrived::read(headers, &unpacked);
        let number = headers.get("posthaste-attempt").map_or("-".into(), |n| String::from_utf8_lossy(n.as_bytes()));
        let now = Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        let latency = arrived.latency(now).map(|latency| format!("  {latency}")).unwrap_or_default();
        let first = said.next().unwrap_or_default();
        let mut lines = vec![format!("{}  attempt {}{latency}  {first}", arrived.named(), plain(&number))];
        lines.extend(said.map(|words| format!("  {words}")));
        if let Some(times) = arrived.id.as_deref().map(|id| self.note(id)).filter(|times| *times > 1) {
            lines.push(format!("  this id came before: it is the {times}. time"));
        }
        lines.push(format!("  {}", shown(&unpacked)));
        lines
    }

    fn note(&self, id: &str) -> u32 {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).note(id)
    }

    /// The status of the next answer: failures first, as many as were asked for.
    fn next_status(&self) -> StatusCode {
        let fails = |n: u64| (n < self.listen.fail_first).then(|| n + 1);
        if self.failed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        // 200 to 599, as the command line was read.
        StatusCode::from_u16(self.listen.status).unwrap_or(StatusCode::OK)
    }

    fn print(&self, lines: &[String]) {
        let mut output = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = lines.iter().try_for_each(|line| output.line(line)) {
            let _ = self.closed.try_send(error);
        }
    }
}

/// What a body says, on one line and cut.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN_MAX).collect();
    let more = if chars.next().is_some() { " …" } else { "" };
    format!("{}{more}", plain(&start))
}

#[cfg(test)]
mod tests;
