//! R10 and R11 on the built daemon: what endpoints that are dead, slow or flapping cost the healthy ones beside them.
//!
//! Here it asserts on counts, states and memory: all that is healthy arrives at its first attempt while what is owed to the
//! dead still waits. The long run looks at the clock too: the healthy ones' p99 against the same without the sick, in one
//! run. On the simulated clock it is held in `actors/tests/simulation/isolation.rs`.

use crate::{folder, long, size};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Daemon, Receiver, Reply, Request, Subscription, held, process, receiver, until};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The most that the daemon may keep in memory with a thousand endpoints, or with a hundred thousand waiting.
const MEMORY_MAX: u64 = 128 * 1024 * 1024;
/// How much longer the healthy ones may take beside the sick, in the long run.
const RATIO_MAX: f64 = 1.25;
/// Events a second to the healthy ones, far below what a machine can do: what is measured is waiting.
const RATE: u32 = 100;

/// Who lives in a street.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Nature {
    Healthy,
    /// Takes connections and never answers.
    Dead,
    /// Answers after half a second.
    Slow,
    /// Fails every second call.
    Flapping,
}

/// A street of subscriptions, each with events of its own.
struct Street {
    natures: Vec<Nature>,
    /// Events that wait for each dead one before anything is measured.
    waiting: u64,
    /// Everything goes through one subscription, as if nothing kept them apart.
    shared: bool,
}

/// What was seen in one.
#[derive(Debug)]
struct Seen {
    p50: Duration,
    p99: Duration,
    peak: u64,
    /// Deliveries that the dead are still owed at the end.
    owed: u64,
}

/// Every tenth endpoint, as R11 has it: 30 % dead, 20 % slow, 10 % flapping.
fn mixed(count: usize) -> Vec<Nature> {
    use Nature::{Dead, Flapping, Healthy, Slow};
    [Dead, Healthy, Slow, Healthy, Dead, Flapping, Healthy, Slow, Healthy, Dead]
        .into_iter()
        .cycle()
        .take(count)
        .collect()
}

type Times = Arc<Mutex<Vec<Duration>>>;

/// A receiver for all but the dead; it notes how long what is for the healthy took.
fn open(epoch: Instant, times: &Times) -> Result<Receiver> {
    let noted = Arc::clone(times);
    let calls = Mutex::new(0_u64);
    Receiver::start(move |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match body["data"]["nature"].as_str().unwrap_or_default() {
            "Healthy" => {
                let sent = Duration::from_micros(body["data"]["sent"].as_u64().unwrap_or(0));
                held(&noted).push(epoch.elapsed().saturating_sub(sent));
            }
            "Slow" => sleep(Duration::from_millis(500)),
            "Flapping" => {
                let mut calls = held(&calls);
                *calls += 1;
                return Reply::Status(if calls.is_multiple_of(2) { 200 } else { 500 });
            }
            // Reached only where everything shares one subscription.
            _ => sleep(Duration::from_secs(3)),
        }
        Reply::Status(200)
    })
}

fn config(street: &Street, receiver: &Receiver) -> Result<Config> {
    let dead = receiver::silent()?;
    // A failed delivery is tried again while it is measured, and none dies.
    let base = Config::default().set("retry", "initial", "1s").set("retry", "max", "5s");
    if street.shared {
        let hook = Subscription::webhook("all", &receiver.url("/")).set("events", json!(["street:**"]));
        return Ok(base.subscribe(hook.set("timeout", "2s").set("concurrency", 8)));
    }
    Ok(street.natures.iter().enumerate().fold(base, |config, (at, nature)| {
        let url = if *nature == Nature::Dead { format!("http://{dead}/") } else { receiver.url("/") };
        let hook = Subscription::webhook(&format!("s{at}"), &url).set("events", json!([format!("street:s{at}")]));
        config.subscribe(hook)
    }))
}

/// Lets `waiting` wait for each dead one.
fn fill(street: &Street, daemon: &Daemon) -> Result<()> {
    let mut client = daemon.client();
    for (at, _) in street.natures.iter().enumerate().filter(|(_, nature)| **nature == Nature::Dead) {
        let event = json!({ "type": format!("street:s{at}"), "properties": { "nature": "Dead" } });
        let mut left = street.waiting;
        while left > 0 {
            let now = left.min(1_000);
            let answer = client.post("/v1/events", &vec![event.clone(); usize::try_from(now)?].into())?;
            ensure!(answer.status == 202, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
            left -= now;
        }
    }
    Ok(())
}

/// Posts to all in turn for so long; answers the ids of what is for the healthy.
fn post(street: &Street, daemon: &Daemon, epoch: Instant, span: Duration) -> Result<Vec<String>> {
    let mut client = daemon.client();
    let (begun, mut ids) = (Instant::now(), Vec::new());
    // The sick get theirs as often as the healthy, between them.
    let healthy = street.natures.iter().filter(|nature| **nature == Nature::Healthy).count();
    let rate = f64::from(RATE) * street.natures.len() as f64 / healthy as f64;
    let count = (rate * span.as_secs_f64()) as usize;
    for n in 0..count {
        let due = begun + Duration::from_secs_f64(n as f64 / rate);
        sleep(due.saturating_duration_since(Instant::now()));
        let at = n % street.natures.len();
        let nature = street.natures[at];
        let sent = u64::try_from(epoch.elapsed().as_micros())?;
        let properties = json!({ "nature": format!("{nature:?}"), "sent": sent });
        let answer =
            client.post("/v1/events", &json!({ "type": format!("street:s{at}"), "properties": properties }))?;
        ensure!(answer.status == 202, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        if nature == Nature::Healthy {
            ids.push(answer.json()?["id"].as_str().context("an id")?.to_owned());
        }
    }
    Ok(ids)
}

/// Walks down a street; fails where anything for the healthy is not there after `patience`, or needed a second attempt.
fn walk(street: &Street, span: Duration, patience: Duration) -> Result<Seen> {
    let (folder, epoch, times) = (folder()?, Instant::now(), Times::default());
    let receiver = open(epoch, &times)?;
    let mut daemon = Daemon::new(folder.path(), config(street, &receiver)?)?;
    daemon.start()?;
    fill(street, &daemon)?;
    // Connections are made and files are opened before anything is measured.
    let warm = post(street, &daemon, epoch, Duration::from_secs(2))?.len();
    until("the first of the healthy", patience, || Ok((held(&times).len() >= warm).then_some(())))?;
    held(&times).clear();
    let ids = post(street, &daemon, epoch, span)?;
    until("all of the healthy", patience, || Ok((held(&times).len() >= ids.len()).then_some(())))?;
    let mut client = daemon.client();
    let owed = if street.shared {
        0
    } else {
        let dead = street.natures.iter().enumerate().filter(|(_, nature)| **nature == Nature::Dead);
        dead.map(|(at, _)| Ok(client.get(&format!("/v1/subscriptions/s{at}"))?["backlog"].as_u64().unwrap_or(0)))
            .sum::<Result<u64>>()?
    };
    for id in &ids {
        let delivery = until("a settled delivery", patience, || {
            let event = client.get(&format!("/v1/events/{id}"))?;
            Ok(Some(event["deliveries"][0].clone()).filter(|delivery| delivery["state"] != "pending"))
        })?;
        ensure!(delivery["state"] == "delivered" && delivery["attempt_count"] == 1, "{delivery}");
    }
    let mut times = held(&times).clone();
    ensure!(times.len() == ids.len(), "{} arrived of {}", times.len(), ids.len());
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    Ok(Seen { p50, p99, peak: process::peak(daemon.pid()?)?, owed })
}

/// A street with its sick, and in the long run the same without them; answers the figures.
fn compare(name: &str, natures: Vec<Nature>, waiting: u64) -> Result<String> {
    let (span, patience) = (Duration::from_secs(size(5, 30)), Duration::from_secs(30));
    let dead = natures.iter().filter(|nature| **nature == Nature::Dead).count() as u64;
    let healthy = natures.iter().copied().filter(|nature| *nature == Nature::Healthy).collect();
    let beside = walk(&Street { natures, waiting, shared: false }, span, patience)?;
    // Nothing was taken by the dead: what the healthy got they got past all of it.
    ensure!(beside.owed >= dead * waiting.max(1), "{name}: {beside:?}");
    ensure!(beside.peak <= MEMORY_MAX, "{name}: {beside:?}");
    let figures = |seen: &Seen| format!("p50 {:?}, p99 {:?}, {} MiB", seen.p50, seen.p99, seen.peak >> 20);
    if !long() {
        return Ok(format!("{name}: {}", figures(&beside)));
    }
    let alone = walk(&Street { natures: healthy, waiting: 0, shared: false }, span, patience)?;
    let ratio = beside.p99.as_secs_f64() / alone.p99.as_secs_f64();
    let told = format!("{name}: {}; without: {}; p99 {ratio:.2} times", figures(&beside), figures(&alone));
    ensure!(ratio <= RATIO_MAX, "{told}");
    Ok(told)
}

#[test]
fn many_endpoints_of_which_most_are_dead_slow_or_flapping_do_not_disturb_the_healthy_ones() -> Result<()> {
    println!("{}", compare("mixed", mixed(size(100, 1_000)), 0)?);
    Ok(())
}

#[test]
fn an_endpoint_that_never_answers_with_very_many_waiting_does_not_disturb_ten_healthy_ones() -> Result<()> {
    let natures = [vec![Nature::Dead], vec![Nature::Healthy; 10]].concat();
    println!("{}", compare("one that never answers", natures, size(20_000, 100_000))?);
    Ok(())
}

#[test]
fn control_what_shares_a_subscription_with_the_dead_is_seen_to_wait() -> Result<()> {
    let natures = [vec![Nature::Dead], vec![Nature::Healthy; 10]].concat();
    let street = Street { natures, waiting: 200, shared: true };
    let walked = walk(&street, Duration::from_secs(1), Duration::from_secs(10));
    ensure!(walked.is_err(), "the test can not see anybody wait: {walked:?}");
    Ok(())
}
