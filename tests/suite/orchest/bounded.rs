//! The behaviour of the reference about a dead analytics backend (29), its other half: what waits for it is tried a
//! bounded number of times, and is bounded itself.

use super::platform::held;
use crate::batches;
use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Count, Daemon, Receiver, Reply, Subscription};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CATALOGUE: &str = r#"
[event."load:posted"]
fields.n = { type = "integer", minimum = 0, maximum = 1000, telemetry = "keep" }
"#;

/// A backend that answers 503 until `alive`, how often each number arrived at it, and a daemon that sends to it.
struct Stage {
    alive: Count,
    arrived: Arc<Mutex<BTreeMap<u64, usize>>>,
    daemon: Daemon,
    _receiver: Receiver,
}

impl Stage {
    fn set(home: &Path, retry: Value, change: impl FnOnce(Config) -> Config) -> Result<Self> {
        let (alive, arrived) = (Count::default(), Arc::new(Mutex::new(BTreeMap::new())));
        let (gate, noted) = (alive.clone(), Arc::clone(&arrived));
        let receiver = Receiver::start(move |request| {
            for event in batches::numbered("http", request).unwrap_or_default() {
                *held(&noted).entry(event.n).or_default() += 1;
            }
            Reply::Status(if gate.get() == 0 { 503 } else { 202 })
        })?;
        std::fs::write(home.join("events.toml"), CATALOGUE)?;
        let product = Subscription::of("analytics", "product")
            .set("backend", "http")
            .set("url", receiver.url("/"))
            .set("batch", json!({ "events": 10, "wait": "50ms" }))
            .set("retry", retry)
            .set("circuit", false);
        let config = Config::default().set("catalogue", "files", json!(["events.toml"])).subscribe(product);
        let mut daemon = Daemon::new(home, change(config))?;
        daemon.start()?;
        Ok(Self { alive, arrived, daemon, _receiver: receiver })
    }

    fn record(&self, numbers: std::ops::Range<u64>) -> Result<Vec<String>> {
        let events: Vec<Value> = numbers.map(|n| json!({ "type": "load:posted", "properties": { "n": n } })).collect();
        let answer = self.daemon.client().post("/v1/events", &events.into())?;
        ensure!(answer.status == 202, "{}", answer.status);
        let said = answer.json()?;
        let ids = said["events"].as_array().context("events")?.iter().map(|e| e["id"].as_str().map(str::to_owned));
        ids.collect::<Option<_>>().context("ids")
    }

    fn settled(&self) -> Result<()> {
        self.daemon.settled("product", Duration::from_secs(30))
    }

    /// The delivery of an event, with its attempts.
    fn delivery(&self, event: &str) -> Result<Value> {
        Ok(self.daemon.client().get(&format!("/v1/events/{event}"))?["deliveries"][0].clone())
    }
}

/// Times of a delivery's attempts, in seconds of whatever day.
fn times(delivery: &Value) -> Result<Vec<f64>> {
    let attempts = delivery["attempts"].as_array().context("attempts")?;
    let time = |attempt: &Value| super::behaviours::seconds(attempt["at"].as_str().context("a time")?);
    attempts.iter().map(time).collect()
}

/// Lets a dead backend be asked for 40 events, until each is given up after six attempts; the delivery that came again
/// sooner than its backoff of 100 ms, doubled each time, allows.
fn too_soon(retry: Value) -> Result<Option<Value>> {
    let folder = folder()?;
    let stage = Stage::set(folder.path(), retry, |config| config)?;
    let events = stage.record(0..40)?;
    stage.settled()?;
    let mut found = None;
    for (n, event) in (0_u64..).zip(&events) {
        let delivery = stage.delivery(event)?;
        let times = times(&delivery)?;
        ensure!(delivery["state"] == "dead" && times.len() == 6, "{delivery}");
        // What is recorded is all that there was.
        let arrived = held(&stage.arrived).get(&n).copied();
        ensure!(arrived == Some(6), "{n} arrived {arrived:?} times in 6 attempts");
        let waits = [0.1, 0.2, 0.4, 0.8, 1.6];
        // Written in milliseconds, each rounded by itself.
        let hot = times.windows(2).zip(waits).any(|(two, wait)| (two[1] - two[0]).rem_euclid(86_400.0) < wait - 0.01);
        found = found.or(hot.then_some(delivery));
    }
    // Dead is dead: with the backend back only what is new arrives.
    stage.alive.set(1);
    stage.record(40..41)?;
    stage.settled()?;
    let arrived = held(&stage.arrived).clone();
    ensure!(arrived.len() == 41 && arrived.values().sum::<usize>() == 40 * 6 + 1, "{arrived:?}");
    Ok(found)
}

#[test]
fn fix_29_a_dead_backend_is_asked_no_more_often_than_the_backoff_says() -> Result<()> {
    let retry = json!({ "initial": "100ms", "multiplier": 2.0, "max": "1h", "jitter": 0.0, "attempts": 6 });
    let hot = too_soon(retry)?;
    ensure!(hot.is_none(), "{hot:?}");
    Ok(())
}

#[test]
fn control_a_backend_that_is_asked_again_and_again_is_seen() -> Result<()> {
    let retry = json!({ "initial": "1ms", "multiplier": 1.0, "max": "1ms", "jitter": 0.0, "attempts": 6 });
    ensure!(too_soon(retry)?.is_some(), "the test can not see a hot loop");
    Ok(())
}

#[test]
fn fix_29_what_waits_for_a_dead_backend_is_bounded_by_backlog_max_and_can_be_sent_later() -> Result<()> {
    let folder = folder()?;
    let retry = json!({ "initial": "100ms", "max": "200ms" });
    let stage = Stage::set(folder.path(), retry, |config| config.set("outbox", "backlog_max", 10))?;
    let events = stage.record(0..25)?;
    let mut beyond = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let delivery = stage.delivery(event)?;
        let (state, reason) = (&delivery["state"], &delivery["reason"]);
        if n < 10 {
            ensure!(state == "pending", "{n}: {delivery}");
        } else {
            ensure!(state == "dead" && reason == "backlog" && delivery["attempt_count"] == 0, "{n}: {delivery}");
            beyond.push(delivery["id"].as_str().context("an id")?.to_owned());
        }
    }
    let shown = stage.daemon.client().get("/v1/subscriptions/product")?;
    ensure!(shown["backlog"] == 10, "{shown}");
    // It comes back: what waited arrives, what is new is taken again, and what was refused can be sent.
    stage.alive.set(1);
    stage.settled()?;
    let arrived: Vec<u64> = held(&stage.arrived).keys().copied().collect();
    ensure!(arrived == (0..10).collect::<Vec<_>>(), "{arrived:?}");
    stage.record(25..30)?;
    for id in &beyond {
        let answer = stage.daemon.client().post(&format!("/v1/deliveries/{id}/retry"), &json!({}))?;
        ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
        stage.settled()?;
    }
    let arrived: Vec<u64> = held(&stage.arrived).keys().copied().collect();
    ensure!(arrived == (0..30).collect::<Vec<_>>(), "{arrived:?}");
    Ok(())
}
