//! The receiver process: answers each delivery at once, counts it, and keeps how long it was under way.
//!
//! A `POST /collect` is a batch, as JSON, perhaps compressed: its events count. `GET /largest` gives the largest one back.
//!
//! `GET /` answers what was counted since the `GET /reset` before; `GET /figures` adds how long it was under way, which
//! takes longer to compute than a load may wait for.

use crate::{load, now_ns, wire};
use anyhow::Result;
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// It ends by itself after so long, should its parent be gone.
const LIFE_MAX: Duration = Duration::from_secs(3600);
/// Longest time under way that is told apart, in steps of 10 µs.
const STEPS: usize = 1_000_000;

/// What arrived since the last reset.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Arrived {
    /// Deliveries.
    pub count: u64,
    /// When the last came, by the monotonic clock.
    pub last_ns: u64,
    /// From sending to arrival, the middle one, in milliseconds.
    pub p50_ms: f64,
    /// What 99 of 100 did not exceed.
    pub p99_ms: f64,
}

#[derive(Default)]
struct Counts {
    count: u64,
    last_ns: u64,
    /// How many took so many steps of 10 µs.
    steps: Vec<u32>,
    /// The largest batch, as it came.
    largest: Vec<u8>,
}

impl Counts {
    /// Counts the events of a batch.
    fn note_batch(&mut self, body: &[u8]) {
        const EVENT: &[u8] = br#""event":""#;
        let mut text = Vec::new();
        let gzip = body.starts_with(&[0x1f, 0x8b]);
        let read = if gzip { GzDecoder::new(body).read_to_end(&mut text).is_ok() } else { false };
        let text: &[u8] = if read { &text } else { body };
        self.count += text.windows(EVENT.len()).filter(|w| *w == EVENT).count() as u64;
        self.last_ns = now_ns();
        // The largest, since the last is what was left over.
        if body.len() > self.largest.len() {
            self.largest.clear();
            self.largest.extend_from_slice(body);
        }
    }

    fn note(&mut self, body: &[u8]) {
        let now = now_ns();
        self.count += 1;
        self.last_ns = now;
        if let Some(sent) = load::sent_ns(body) {
            let step = (now.saturating_sub(sent) / 10_000) as usize;
            if self.steps.is_empty() {
                self.steps = vec![0; STEPS];
            }
            self.steps[step.min(STEPS - 1)] += 1;
        }
    }

    fn arrived(&self) -> Arrived {
        let quantile = |share: f64| {
            let rank = (self.count as f64 * share).ceil() as u64;
            let mut seen = 0;
            let step = self.steps.iter().position(|n| {
                seen += u64::from(*n);
                seen >= rank
            });
            step.unwrap_or(0) as f64 / 100.0
        };
        Arrived { count: self.count, last_ns: self.last_ns, p50_ms: quantile(0.5), p99_ms: quantile(0.99) }
    }
}

/// Listens on a free port of loopback, prints the port, and serves on this thread.
///
/// # Errors
/// Where it can not listen.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
        let counts = Rc::new(RefCell::new(Counts::default()));
        let serve = async {
            while let Ok((stream, _)) = listener.accept().await {
                // A peer that goes away is the end of its connection, no more.
                tokio::task::spawn_local(connection(stream, Rc::clone(&counts)));
            }
        };
        // The end of its life is no failure: whoever measured is long gone.
        drop(tokio::time::timeout(LIFE_MAX, serve).await);
        Ok(())
    })
}

async fn connection(mut stream: TcpStream, counts: Rc<RefCell<Counts>>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    while stream.read_buf(&mut buffer).await? > 0 {
        let mut used = 0;
        let mut answer = Vec::new();
        while let Some(message) = wire::message(&buffer[used..]) {
            let request = &buffer[used..used + message.end];
            answer.extend_from_slice(&respond(request, message.body, &mut counts.borrow_mut()));
            used += message.end;
        }
        buffer.drain(..used);
        stream.write_all(&answer).await?;
    }
    Ok(())
}

fn respond(request: &[u8], body: usize, counts: &mut Counts) -> Vec<u8> {
    if request.starts_with(b"POST /collect") {
        counts.note_batch(&request[body..]);
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    if request.starts_with(b"POST ") {
        counts.note(&request[body..]);
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    if request.starts_with(b"GET /reset ") {
        *counts = Counts { largest: std::mem::take(&mut counts.largest), ..Counts::default() };
    }
    if request.starts_with(b"GET /largest ") {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", counts.largest.len());
        return [head.as_bytes(), &counts.largest].concat();
    }
    let mut arrived = Arrived { count: counts.count, last_ns: counts.last_ns, ..Arrived::default() };
    if request.starts_with(b"GET /figures ") {
        arrived = counts.arrived();
    }
    let said = serde_json::to_string(&arrived).unwrap_or_default();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len()).into_bytes()
}
