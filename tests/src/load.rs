//! Posts numbered events over several connections and keeps what was acknowledged.

use crate::{Client, Ledger};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the events look like and how they are sent.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Connections at once.
    pub connections: usize,
    /// Events in a request; 1 is sent as an object, more as an array.
    pub array: u64,
    /// Bytes of padding in each event's properties, by its number.
    pub padding: fn(u64) -> usize,
    /// The type of each event.
    pub kind: &'static str,
    /// The entity that each event is about, by its number.
    pub key: fn(u64) -> Option<String>,
    /// Stops by itself after so many events; 0: never.
    pub events_max: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self { connections: 8, array: 1, padding: |_| 200, kind: "load:posted", key: |_| None, events_max: 0 }
    }
}

/// A load that runs until it is stopped. It goes on over the daemon's death: what was refused or broke off is
/// counted, not repeated.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    workers: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    next: AtomicU64,
    shed: AtomicU64,
}

impl Load {
    /// Starts posting to a daemon; `first` is the number of the first event.
    #[must_use]
    pub fn start(daemon: SocketAddr, shape: &Shape, first: u64, ledger: &Ledger) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts { next: AtomicU64::new(first), shed: AtomicU64::new(0) });
        let last = if shape.events_max == 0 { u64::MAX } else { first + shape.events_max };
        let workers = (0..shape.connections)
            .map(|_| {
                let (stop, counts, ledger, shape) = (stop.clone(), counts.clone(), ledger.clone(), shape.clone());
                thread::spawn(move || work(&mut Client::new(daemon), &shape, last, &stop, &counts, &ledger))
            })
            .collect();
        Self { stop, counts, workers }
    }

    /// The number that the next event would get.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.counts.next.load(Ordering::SeqCst)
    }

    /// Ends it; answers how many requests were shed with 429 or 503.
    ///
    /// # Errors
    /// Where the daemon answered what it never may, for example a 500 or a 503 without `Retry-After`.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.join()
    }

    /// Waits until `events_max` were tried; answers as [`Load::stop`].
    ///
    /// # Errors
    /// As [`Load::stop`].
    pub fn finish(mut self) -> Result<u64> {
        self.join()
    }

    fn join(&mut self) -> Result<u64> {
        for worker in self.workers.drain(..) {
            let Ok(done) = worker.join() else { bail!("a load thread panicked") };
            done?;
        }
        Ok(self.counts.shed.load(Ordering::SeqCst))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn work(
    client: &mut Client,
    shape: &Shape,
    last: u64,
    stop: &AtomicBool,
    counts: &Counts,
    ledger: &Ledger,
) -> Result<()> {
    while !stop.load(Ordering::SeqCst) {
        let first = counts.next.fetch_add(shape.array, Ordering::SeqCst);
        if first >= last {
            return Ok(());
        }
        let numbers = first..(first + shape.array).min(last);
        let events: Vec<Value> = numbers.clone().map(|n| event(shape, n)).collect();
        let body = if shape.array == 1 { events.into_iter().next().unwrap_or_default() } else { Value::from(events) };
        let Ok(answer) = client.post("/v1/events", &body) else {
            // The daemon is away: wait a moment, then try with the next number.
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        match answer.status {
            202 => {
                let said = answer.json()?;
                let each = said["events"].as_array().cloned().unwrap_or_else(|| vec![said.clone()]);
                ensure!(each.len() as u64 == numbers.end - numbers.start, "another number of answers: {said}");
                for (n, one) in numbers.zip(each) {
                    ledger.promise(n, one["id"].as_str().with_context(|| format!("no id in {said}"))?);
                }
            }
            429 | 503 => {
                ensure!(answer.header("retry-after").is_some(), "{} without Retry-After", answer.status);
                counts.shed.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
            }
            other => bail!("the daemon answered {other}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }
    Ok(())
}

fn event(shape: &Shape, n: u64) -> Value {
    let properties = json!({ "n": n, "padding": "x".repeat((shape.padding)(n)) });
    match (shape.key)(n) {
        Some(key) => json!({ "type": shape.kind, "properties": properties, "key": key }),
        None => json!({ "type": shape.kind, "properties": properties }),
    }
}
