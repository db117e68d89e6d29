//! R1 for analytics: kill -9 in the middle of batches. Each event is delivered or tried again by itself, under the same id
//! as before, and none is lost.

use crate::{folder, size};
use anyhow::{Result, ensure};
use posthaste_tests::{Config, Count, Daemon, Ledger, Load, Receiver, Reply, Request, Shape, Subscription, held};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

/// What leaves of an event is its number.
const CATALOGUE: &str = r#"
[event."load:posted"]
fields.n = { type = "integer", minimum = 0, maximum = 1000000, telemetry = "keep" }
fields.padding = { type = "string" }
"#;

/// The ids under which each number arrived.
type Book = Arc<Mutex<BTreeMap<u64, BTreeSet<String>>>>;

/// What a storm of kills left.
struct Aftermath {
    promised: usize,
    lost: Vec<u64>,
    ids: BTreeMap<u64, BTreeSet<String>>,
    /// Events in the largest batch.
    largest: u64,
}

/// Notes a batch of the backend `http`; how many events it had.
fn arrive(book: &Book, request: &Request) -> u64 {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let events = body["batch"].as_array().cloned().unwrap_or_default();
    for event in &events {
        if let (Some(n), Some(id)) = (event["event_properties"]["n"].as_u64(), event["id"].as_str()) {
            held(book).entry(n).or_default().insert(id.to_owned());
        }
    }
    events.len() as u64
}

fn storm(cycles: u32, fault: Option<&str>, seed: u64) -> Result<Aftermath> {
    let folder = folder()?;
    std::fs::write(folder.path().join("events.toml"), CATALOGUE)?;
    let (book, largest, requests) = (Book::default(), Arc::new(Mutex::new(0)), Count::default());
    let (noted, most) = (Arc::clone(&book), Arc::clone(&largest));
    let receiver = Receiver::start(move |request| {
        requests.add(1);
        // Time for a kill to come between a batch and its answer.
        sleep(Duration::from_millis(15));
        if requests.get() % 5 == 0 {
            return Reply::Status(503);
        }
        let count = arrive(&noted, request);
        let mut most = held(&most);
        *most = (*most).max(count);
        Reply::Status(202)
    })?;
    let batch = json!({ "events": 50, "wait": "100ms" });
    let analytics = Subscription::of("analytics", "product")
        .set("backend", "http")
        .set("url", receiver.url("/"))
        .set("batch", batch)
        .set("timeout", "2s")
        .set("circuit", false);
    let config = Config::default().set("catalogue", "files", json!(["events.toml"])).subscribe(analytics);
    let mut daemon = Daemon::new(folder.path(), config)?.with_fault(fault);
    let mut random = StdRng::seed_from_u64(seed);
    let ledger = Ledger::default();
    daemon.start()?;
    let load = Load::start(daemon.address(), &Shape::default(), 0, &ledger);
    for _ in 0..cycles {
        sleep(Duration::from_millis(random.random_range(20..400)));
        daemon.kill9()?;
        daemon.start()?;
    }
    sleep(Duration::from_millis(200));
    load.stop()?;
    daemon.settled("product", Duration::from_secs(60))?;
    let ids = held(&book).clone();
    let promised = ledger.promised_numbers();
    let lost = promised.iter().filter(|n| !ids.contains_key(n)).copied().collect();
    let largest = *held(&largest);
    Ok(Aftermath { promised: promised.len(), lost, ids, largest })
}

#[test]
fn no_event_of_a_batch_is_lost_and_each_keeps_its_id_when_the_daemon_is_killed() -> Result<()> {
    let seed = rand::random();
    let after = storm(size(20, 100), None, seed)?;
    ensure!(after.promised > 1_000 && after.largest > 1, "too little load: {} promised", after.promised);
    ensure!(after.lost.is_empty(), "seed {seed}: {} of {} are lost", after.lost.len(), after.promised);
    let renamed = after.ids.iter().find(|(_, ids)| ids.len() > 1);
    ensure!(renamed.is_none(), "seed {seed}: another id after a kill: {renamed:?}");
    let all: BTreeSet<&String> = after.ids.values().flatten().collect();
    ensure!(all.len() == after.ids.len(), "seed {seed}: two events have one id");
    Ok(())
}

#[test]
fn control_a_daemon_that_acknowledges_without_a_sync_loses_events_of_batches_when_it_is_killed() -> Result<()> {
    let after = storm(8, Some("skip-sync"), 1)?;
    ensure!(!after.lost.is_empty(), "the test can not see loss: {} promised", after.promised);
    Ok(())
}
