//! One measure: a daemon of its own between a load and a receiver, from the first post to the last arrival.

use crate::load::{self, Accepted};
use crate::sink::Arrived;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Client, Config, Daemon, Subscription, process, until};
use serde::Serialize;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Connections that batches are posted over when nothing is before them; more make it no faster.
const BATCH_CONNECTIONS: usize = 8;

/// How events are posted, and to how many subscriptions they go.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Scenario {
    /// As the table names it.
    pub name: &'static str,
    /// Connections of the load.
    pub connections: usize,
    /// Events in a request.
    pub array: usize,
    /// Subscriptions that each event goes to.
    pub fan_out: usize,
    /// Requests a second; 0: as many as are answered.
    pub rate: u64,
    /// What the events are, and who gets them.
    pub nature: Nature,
}

/// What the events of a scenario are, and who gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Nature {
    /// Of a type that nobody declared, for webhooks.
    Plain,
    /// Of a declared type four layers deep, for webhooks: checked, and built for people and for analytics.
    Declared,
    /// The same for an analytics subscription alone, in batches.
    Analytics,
}

/// The catalogue of the declared scenarios: what [`crate::load`] posts.
const CATALOGUE: &str = r#"
[layer."bench"]
fields.n = { type = "integer", required = true }
fields.sent = { type = "integer", required = true }
fields.text = { type = "string", sensitive = true, telemetry = "length-bucket" }
[layer."bench:job"]
fields.status = { type = "string", values = ["STARTED", "SUCCESS", "FAILURE"], telemetry = "keep" }
fields.retries = { type = "integer", minimum = 0, maximum = 100, telemetry = "keep" }
[layer."bench:job:run"]
fields.number = { type = "integer", telemetry = "bucket", bucket = [1, 10, 100, 1000] }
fields.manual = { type = "boolean", telemetry = "keep" }
[layer."bench:job:run:step"]
fields.names = { type = "array", telemetry = "count" }
fields.error = { type = "string", nullable = true, telemetry = "present" }
[event."bench:job:run:step:done"]
title = "A step is done"
"#;

/// What is measured.
pub const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "single posts", ..BASE },
    Scenario { name: "single posts, declared", nature: Nature::Declared, ..BASE },
    Scenario { name: "arrays of 100", connections: 8, array: 100, ..BASE },
    Scenario { name: "fan-out to 10", connections: 16, fan_out: 10, ..BASE },
    Scenario { name: "200 a second", connections: 4, rate: 200, ..BASE },
    Scenario { name: "analytics, arrays of 100", connections: 8, array: 100, nature: Nature::Analytics, ..BASE },
];
const BASE: Scenario = Scenario { name: "", connections: 64, array: 1, fan_out: 1, rate: 0, nature: Nature::Plain };

/// What one run showed.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The store: `sled`, or `memory` as the ceiling.
    pub engine: String,
    /// Events that were acknowledged.
    pub events: u64,
    /// Requests that were shed.
    pub shed: u64,
    /// Acknowledged events a second, while the load ran.
    pub accepted_per_s: f64,
    /// Deliveries a second, from the first post to the last arrival.
    pub delivered_per_s: f64,
    /// From post to arrival, the middle one.
    pub p50_ms: f64,
    /// From post to arrival, what 99 of 100 did not exceed.
    pub p99_ms: f64,
    /// Most memory, in MiB.
    pub peak_mib: f64,
    /// Memory when all had arrived, in MiB.
    pub rss_mib: f64,
    /// CPU seconds of the daemon for 1,000 deliveries.
    pub cpu_s_per_1000: f64,
    /// Of analytics: events a second when the batches that arrived are posted with nothing before them.
    pub batches_alone_per_s: Option<f64>,
}

/// A process of this program's own; it ends with this value.
pub(crate) struct Part(Child);

impl Part {
    pub(crate) fn start(args: &[String]) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::piped()).spawn()?;
        Ok(Self(child))
    }

    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().context("its output")?).read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn sink() -> Result<(Part, SocketAddr)> {
    let mut part = Part::start(&["sink".to_owned()])?;
    let port: u16 = part.line()?.trim().parse().context("the sink's port")?;
    Ok((part, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

fn post(to: SocketAddr, receiver: Option<SocketAddr>, scenario: Scenario, seconds: u64) -> Result<Accepted> {
    let Scenario { connections, array, rate, fan_out, nature, .. } = scenario;
    let nature = if nature == Nature::Plain { "plain" } else { "declared" };
    let mut words = format!("load --to {to} --seconds {seconds} --connections {connections} --array {array}");
    words.push_str(&format!(" --rate {rate} --fan-out {fan_out} --nature {nature}"));
    if let Some(receiver) = receiver {
        words.push_str(&format!(" --receiver {receiver}"));
    }
    let args: Vec<String> = words.split(' ').map(str::to_owned).collect();
    load::parse(&Part::start(&args)?.line()?)
}

/// How many requests a second load and receiver exchange without a daemon between them.
///
/// # Errors
/// Where they do not.
pub fn alone(seconds: u64) -> Result<f64> {
    let (_sink, at) = sink()?;
    let done = post(at, None, SCENARIOS[0], seconds)?;
    Ok(done.events as f64 / seconds_between(done.begun_ns, done.ended_ns))
}

/// Events a second when the largest batch that a receiver got is posted to it again and again, with nothing before it.
fn batches_alone(receiver: SocketAddr, counter: &mut Client, seconds: u64) -> Result<f64> {
    counter.send("GET", "/reset", &[], b"")?;
    let words = format!("again --to {receiver} --seconds {seconds} --connections {BATCH_CONNECTIONS}");
    let args: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let done = load::parse(&Part::start(&args)?.line()?)?;
    let seen: Arrived = serde_json::from_value(counter.get("/figures")?)?;
    Ok(seen.count as f64 / seconds_between(done.begun_ns, seen.last_ns))
}

/// Runs a scenario once on a store.
///
/// # Errors
/// Where the daemon does not start, sheds what it should take, or does not deliver everything within two minutes.
pub fn once(scenario: Scenario, engine: &str, seconds: u64) -> Result<Figures> {
    let (_sink, receiver) = sink()?;
    let folder = tempfile::Builder::new().prefix("posthaste-bench-").tempdir()?;
    let mut daemon = start(folder.path(), scenario, engine, receiver)?;
    let mut counter = Client::new(receiver);
    // Connections, caches and the allocator are warm before anything counts.
    let warm = post(daemon.address(), Some(receiver), scenario, 1)?;
    arrived(&mut counter, warm.events * scenario.fan_out as u64)?;
    counter.send("GET", "/reset", &[], b"")?;
    let pid = daemon.pid()?;
    process::forget_peak(pid)?;
    let cpu = daemon.cpu_seconds()?;

    let posted = post(daemon.address(), Some(receiver), scenario, seconds)?;
    let deliveries = posted.events * scenario.fan_out as u64;
    let seen = arrived(&mut counter, deliveries)?;
    ensure!(seen.count == deliveries, "{} deliveries of {deliveries} events arrived", seen.count);
    // The last outcomes are still on their way into the store.
    std::thread::sleep(Duration::from_millis(500));
    let cpu_s = daemon.cpu_seconds()? - cpu;
    let batches_alone_per_s = match scenario.nature {
        Nature::Analytics => Some(batches_alone(receiver, &mut counter, seconds.min(3))?),
        Nature::Plain | Nature::Declared => None,
    };
    let figures = Figures {
        scenario: scenario.name,
        engine: engine.to_owned(),
        events: posted.events,
        shed: posted.shed,
        accepted_per_s: posted.events as f64 / seconds_between(posted.begun_ns, posted.ended_ns),
        delivered_per_s: deliveries as f64 / seconds_between(posted.begun_ns, seen.last_ns),
        p50_ms: seen.p50_ms,
        p99_ms: seen.p99_ms,
        peak_mib: mib(process::peak(pid)?),
        rss_mib: mib(daemon.rss()?),
        cpu_s_per_1000: cpu_s * 1000.0 / deliveries as f64,
        batches_alone_per_s,
    };
    daemon.stop(Duration::from_secs(10))?;
    Ok(figures)
}

fn start(folder: &Path, scenario: Scenario, engine: &str, receiver: SocketAddr) -> Result<Daemon> {
    // Retries are rare and late, as they ship: none is needed here.
    let base =
        Config::default().set("outbox", "engine", engine).set("retry", "initial", "5s").set("retry", "max", "6h");
    // The ceiling keeps nothing of what is settled, so that it stays the same however long it runs.
    let base = if engine == "memory" { base.set("outbox", "retention", "1s") } else { base };
    if scenario.nature != Nature::Plain {
        std::fs::write(folder.join("events.toml"), CATALOGUE)?;
    }
    let base = match scenario.nature {
        Nature::Plain => base,
        Nature::Declared | Nature::Analytics => base.set("catalogue", "files", json!(["events.toml"])),
    };
    let config = (0..scenario.fan_out).fold(base, |config, at| {
        if scenario.nature == Nature::Analytics {
            let batch = json!({ "events": 100, "bytes": "400KiB", "wait": "100ms" });
            let analytics = Subscription::of("analytics", &format!("product-{at}"));
            let analytics = analytics.set("backend", "http").set("url", format!("http://{receiver}/collect"));
            return config.subscribe(analytics.set("batch", batch).set("timeout", "15s"));
        }
        let webhook = Subscription::webhook(&format!("hook-{at}"), &format!("http://{receiver}/{at}"));
        config.subscribe(webhook.set("events", json!(["bench:**"])).set("timeout", "15s"))
    });
    let mut daemon = Daemon::new(folder, config)?;
    daemon.start()?;
    Ok(daemon)
}

pub(crate) fn arrived(counter: &mut Client, wanted: u64) -> Result<Arrived> {
    until(&format!("{wanted} arrivals"), Duration::from_secs(120), || {
        std::thread::sleep(Duration::from_millis(20));
        let seen: Arrived = serde_json::from_value(counter.get("/")?)?;
        Ok((seen.count >= wanted).then_some(()))
    })?;
    Ok(serde_json::from_value(counter.get("/figures")?)?)
}

pub(crate) fn seconds_between(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
