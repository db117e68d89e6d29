//! The load process: posts events as fast as they are taken, or at a steady rate, and says how many were.

use crate::measure::Nature;
use crate::sink::Arrived;
use crate::{now_ns, wire};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{Instant, interval};

/// Bytes of an event's `properties`.
const PROPERTIES: usize = 300;
/// Numbers are written with as many digits as this, so that they can be replaced in place.
const BASE: u64 = 1_000_000_000_000_000_000;

/// How to post.
#[derive(Debug, Clone, Args)]
pub struct Order {
    /// Where to.
    #[arg(long)]
    pub to: SocketAddr,
    /// For how many seconds.
    #[arg(long)]
    pub seconds: u64,
    /// Over how many connections.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Events in a request; one is no array.
    #[arg(long, default_value_t = 1)]
    pub array: usize,
    /// Requests a second over all connections; 0: as many as are answered.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// The receiver, whose count says how many deliveries are still under way.
    #[arg(long)]
    pub receiver: Option<SocketAddr>,
    /// What the events are.
    #[arg(long, default_value = "plain")]
    pub nature: Nature,
    /// Deliveries of an event.
    #[arg(long, default_value_t = 1)]
    pub fan_out: u64,
}

/// How many deliveries may be under way before the load waits for the receiver: a steady state, in which what is taken
/// and what arrives are the same, and not a backlog that only grows.
pub const UNDER_WAY_MAX: u64 = 20_000;

/// What became of it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Accepted {
    /// Events that were answered 2xx.
    pub events: u64,
    /// Requests that were answered 429 or 503, and sent again.
    pub shed: u64,
    /// When the first was sent, by the monotonic clock.
    pub begun_ns: u64,
    /// When the last was answered.
    pub ended_ns: u64,
}

/// Carries the order out on this thread; ends by itself.
///
/// # Errors
/// Where a connection fails or an answer is neither 2xx, 429 nor 503.
pub fn run(order: &Order) -> Result<Accepted> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let begun_ns = now_ns();
        let progress = Rc::new(Progress { next: Cell::new(BASE), arrived: Cell::new(0) });
        if let Some(receiver) = order.receiver {
            // It ends with the runtime, or with the receiver.
            tokio::task::spawn_local(watch(receiver, Rc::clone(&progress)));
        }
        let workers: Vec<_> = (0..order.connections)
            .map(|_| tokio::task::spawn_local(connection(order.clone(), Rc::clone(&progress))))
            .collect();
        let mut all = Accepted { begun_ns, ..Accepted::default() };
        for worker in workers {
            let one = worker.await??;
            all.events += one.events;
            all.shed += one.shed;
        }
        all.ended_ns = now_ns();
        Ok(all)
    })
}

/// What the connections share.
struct Progress {
    /// The number of the next event, from [`BASE`].
    next: Cell<u64>,
    /// Deliveries that arrived, a moment ago.
    arrived: Cell<u64>,
}

/// Asks the receiver how many arrived, a hundred times a second.
async fn watch(receiver: SocketAddr, progress: Rc<Progress>) -> Result<()> {
    let mut stream = TcpStream::connect(receiver).await?;
    let mut answer = Vec::new();
    loop {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: receiver\r\n\r\n").await?;
        answer.clear();
        let whole = loop {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the receiver is gone");
            if let Some(whole) = wire::message(&answer) {
                break whole;
            }
        };
        let arrived: Arrived = serde_json::from_slice(&answer[whole.body..whole.end])?;
        progress.arrived.set(arrived.count);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn connection(order: Order, progress: Rc<Progress>) -> Result<Accepted> {
    let mut stream = TcpStream::connect(order.to).await?;
    stream.set_nodelay(true)?;
    let mut request = Request::new(&order);
    let mut answer = Vec::with_capacity(16 * 1024);
    let mut done = Accepted::default();
    let mut beat = pace(&order);
    let end = Instant::now() + Duration::from_secs(order.seconds);
    while Instant::now() < end {
        if let Some(beat) = &mut beat {
            beat.tick().await;
        }
        let posted = (progress.next.get() - BASE) * order.fan_out;
        if order.receiver.is_some() && posted > progress.arrived.get() + UNDER_WAY_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        request.number(&progress.next);
        stream.write_all(&request.bytes).await?;
        answer.clear();
        let whole = loop {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the daemon closed the connection");
            if let Some(whole) = wire::message(&answer) {
                break whole;
            }
        };
        match wire::status(&answer) {
            200..=299 => done.events += order.array as u64,
            429 | 503 => {
                done.shed += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => anyhow::bail!("answered {other}: {}", String::from_utf8_lossy(&answer[whole.body..])),
        }
    }
    Ok(done)
}

/// The beat of one connection where a rate is wanted.
fn pace(order: &Order) -> Option<tokio::time::Interval> {
    let rate = u32::try_from(order.rate).ok().filter(|rate| *rate > 0)?;
    let each = Duration::from_secs(1) * u32::try_from(order.connections).ok()? / rate;
    Some(interval(each.max(Duration::from_nanos(1))))
}

/// A request that is made once and only numbered anew.
struct Request {
    bytes: Vec<u8>,
    /// Where the numbers of its events stand.
    numbers: Vec<usize>,
    /// Where the times of sending stand.
    times: Vec<usize>,
}

impl Request {
    fn new(order: &Order) -> Self {
        let event = match order.nature {
            Nature::Plain => {
                let opening = format!(r#"{{"n":{BASE},"sent":{BASE},"text":""#);
                let text = "x".repeat(PROPERTIES.saturating_sub(opening.len() + 2));
                format!(r#"{{"type":"bench:posted","properties":{opening}{text}"}}}}"#)
            }
            Nature::Declared | Nature::Analytics => {
                let inner = concat!(
                    r#""job":{"status":"SUCCESS","retries":3,"run":{"number":41,"manual":false,"#,
                    r#""step":{"names":["load","train"],"error":null}}}}}"#
                );
                let opening = format!(r#"{{"bench":{{"n":{BASE},"sent":{BASE},"text":""#);
                let text = "x".repeat(PROPERTIES.saturating_sub(opening.len() + inner.len() + 2));
                format!(r#"{{"type":"bench:job:run:step:done","properties":{opening}{text}",{inner}}}"#)
            }
        };
        let body = if order.array == 1 { event } else { format!("[{}]", vec![event; order.array].join(",")) };
        let text = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            order.to,
            body.len()
        );
        let places = |field: &str| text.match_indices(field).map(|(at, found)| at + found.len()).collect();
        let (numbers, times) = (places(r#""n":"#), places(r#""sent":"#));
        Self { bytes: text.into_bytes(), numbers, times }
    }

    fn number(&mut self, next: &Cell<u64>) {
        for at in &self.numbers {
            write(&mut self.bytes, *at, next.get());
            next.set(next.get() + 1);
        }
        let now = BASE + now_ns();
        for at in &self.times {
            write(&mut self.bytes, *at, now);
        }
    }
}

/// Writes a number of as many digits as [`BASE`] has.
fn write(bytes: &mut [u8], at: usize, number: u64) {
    let digits = number.to_string();
    if let Some(place) = bytes.get_mut(at..at + digits.len()) {
        place.copy_from_slice(digits.as_bytes());
    }
}

/// This moment as a number that [`sent_ns`] reads from `"sent"`.
#[must_use]
pub fn stamp() -> u64 {
    BASE + now_ns()
}

/// When an event was sent, from its text; `None` where it does not say.
#[must_use]
pub fn sent_ns(body: &[u8]) -> Option<u64> {
    const FIELD: &[u8] = br#""sent":"#;
    let at = body.windows(FIELD.len()).position(|w| w == FIELD)? + FIELD.len();
    wire::number(&body[at..]).checked_sub(BASE)
}

/// How to post the largest batch that a receiver got, again and again.
#[derive(Debug, Clone, Args)]
pub struct Again {
    /// The receiver.
    #[arg(long)]
    pub to: SocketAddr,
    /// For how many seconds.
    #[arg(long)]
    pub seconds: u64,
    /// Over how many connections.
    #[arg(long)]
    pub connections: usize,
}

/// Carries that order out on this thread; ends by itself. It counts requests, not events: those the receiver counts.
///
/// # Errors
/// Where a connection fails, or the receiver got nothing yet.
pub fn again(order: &Again) -> Result<Accepted> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut stream = TcpStream::connect(order.to).await?;
        let batch = exchange(&mut stream, b"GET /largest HTTP/1.1\r\nhost: receiver\r\n\r\n").await?;
        ensure!(!batch.is_empty(), "the receiver got nothing yet");
        let head = format!("POST /collect HTTP/1.1\r\nhost: receiver\r\ncontent-length: {}\r\n\r\n", batch.len());
        let request: Rc<[u8]> = [head.as_bytes(), &batch].concat().into();
        let mut all = Accepted { begun_ns: now_ns(), ..Accepted::default() };
        let end = Instant::now() + Duration::from_secs(order.seconds);
        let workers: Vec<_> = (0..order.connections)
            .map(|_| {
                let (request, to) = (Rc::clone(&request), order.to);
                tokio::task::spawn_local(async move {
                    let mut stream = TcpStream::connect(to).await?;
                    stream.set_nodelay(true)?;
                    let mut done = 0;
                    while Instant::now() < end {
                        exchange(&mut stream, &request).await?;
                        done += 1;
                    }
                    anyhow::Ok(done)
                })
            })
            .collect();
        for worker in workers {
            all.events += worker.await??;
        }
        all.ended_ns = now_ns();
        Ok(all)
    })
}

/// Sends a request and gives the body of its answer.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    loop {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the receiver is gone");
        if let Some(whole) = wire::message(&answer) {
            return Ok(answer[whole.body..whole.end].to_vec());
        }
    }
}

/// Reads what a load process printed.
///
/// # Errors
/// Where it is something else.
pub fn parse(printed: &str) -> Result<Accepted> {
    serde_json::from_str(printed.trim()).with_context(|| format!("the load said {printed:?}"))
}

#[cfg(test)]
mod tests {
    use super::{BASE, Nature, Order, PROPERTIES, Request, sent_ns};
    use serde_json::Value;
    use std::cell::Cell;

    #[test]
    fn events_have_300_bytes_of_properties_and_each_its_number() {
        let to = ([127, 0, 0, 1], 1).into();
        for (nature, place) in [(Nature::Plain, ""), (Nature::Declared, "/bench")] {
            let order = Order { to, seconds: 1, connections: 1, array: 3, rate: 0, receiver: None, nature, fan_out: 1 };
            let mut request = Request::new(&order);
            request.number(&Cell::new(BASE + 7));
            let body = request.bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            let events: Vec<Value> = serde_json::from_slice(&request.bytes[body..]).unwrap();
            let number = |e: &Value| e["properties"].pointer(place).unwrap()["n"].as_u64().unwrap() - BASE;
            assert_eq!(events.iter().map(number).collect::<Vec<_>>(), [7, 8, 9]);
            let properties = events[0]["properties"].to_string();
            assert_eq!(properties.len(), PROPERTIES, "{properties}");
            assert!(sent_ns(&request.bytes[body..]).unwrap() <= crate::now_ns());
        }
    }
}
