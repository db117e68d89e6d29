//! What one subscription costs another: ratios of the same figure with and without what disturbs, in one run.
//!
//! Rates are steady and far below what the machine can do, so that what is measured is waiting and not the machine.

use crate::load;
use crate::measure::{arrived, mib, sink};
use crate::sink::Arrived;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Client, Config, Daemon, Subscription, daemon, process, receiver};
use serde::Serialize;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// What disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// Nothing.
    None,
    /// So many of a hundred subscriptions go to a port where nobody listens.
    Dead(usize),
    /// One subscription takes connections and never answers.
    Silent,
}

/// How many subscriptions there are, what disturbs them, and how fast events come.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Street {
    /// As the table names it.
    pub name: &'static str,
    /// Subscriptions.
    pub subscriptions: usize,
    /// What disturbs.
    pub disturbance: Disturbance,
    /// Events a second.
    pub rate: u64,
    /// Whether each event goes to all of them, and not to one in turn.
    pub all: bool,
    /// Whether they are made by the API, and not in the configuration.
    pub by_api: bool,
}

const STREET: Street =
    Street { name: "", subscriptions: 10, disturbance: Disturbance::None, rate: 200, all: false, by_api: false };

/// What is measured, each beside what it is compared with.
pub const STREETS: [Street; 7] = [
    Street { name: "1,000 subscriptions, none dead", subscriptions: 1_000, ..STREET },
    Street {
        name: "1,000 subscriptions, 30 % dead",
        subscriptions: 1_000,
        disturbance: Disturbance::Dead(30),
        ..STREET
    },
    Street { name: "nine healthy, none beside", subscriptions: 9, rate: 50, all: true, ..STREET },
    Street {
        name: "nine healthy, one that never answers",
        subscriptions: 10,
        disturbance: Disturbance::Silent,
        rate: 50,
        all: true,
        ..STREET
    },
    Street { name: "10 subscriptions by API", by_api: true, ..STREET },
    Street { name: "1,000 subscriptions by API", subscriptions: 1_000, by_api: true, ..STREET },
    Street { name: "10,000 subscriptions by API", subscriptions: 10_000, by_api: true, ..STREET },
];

/// What one street showed.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Its name.
    pub name: &'static str,
    /// Deliveries to the healthy ones.
    pub healthy: u64,
    /// From post to arrival at the healthy ones, in milliseconds.
    pub p50_ms: f64,
    /// The same, what 99 of 100 did not exceed.
    pub p99_ms: f64,
    /// From post to its answer, the middle one, in milliseconds.
    pub record_p50_ms: f64,
    /// A start with all of them until it is ready, in milliseconds.
    pub start_ms: f64,
    /// Memory at the end, in MiB.
    pub rss_mib: f64,
}

/// Whether a subscription is one that disturbs.
fn disturbs(street: &Street, at: usize) -> bool {
    match street.disturbance {
        Disturbance::None => false,
        Disturbance::Dead(share) => at % 100 < share,
        Disturbance::Silent => at == street.subscriptions - 1,
    }
}

fn kind(street: &Street, at: usize) -> String {
    if street.all { "bench:all".to_owned() } else { format!("bench:s{at}") }
}

/// A daemon with the street's subscriptions.
fn build(street: &Street, home: &std::path::Path, receiver: SocketAddr) -> Result<Daemon> {
    let bad = match street.disturbance {
        Disturbance::Silent => receiver::silent()?,
        _ => SocketAddr::from((Ipv4Addr::LOCALHOST, daemon::free_port()?)),
    };
    let url = |at| format!("http://{}/{at}", if disturbs(street, at) { bad } else { receiver });
    let base = Config::default().set("retry", "initial", "5s").set("retry", "max", "6h");
    if !street.by_api {
        let config = (0..street.subscriptions).fold(base, |config, at| {
            let hook = Subscription::webhook(&format!("s{at}"), &url(at)).set("events", json!([kind(street, at)]));
            config.subscribe(hook.set("timeout", "15s").without("circuit"))
        });
        let mut daemon = Daemon::new(home, config)?;
        daemon.start()?;
        return Ok(daemon);
    }
    let mut daemon = Daemon::new(home, base)?;
    daemon.start()?;
    let mut client = daemon.client();
    for at in 0..street.subscriptions {
        let body =
            json!({ "name": format!("s{at}"), "deliveree": "webhook", "events": [kind(street, at)], "url": url(at) });
        let answer = client.post("/v1/subscriptions", &body)?;
        ensure!(answer.status == 201, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(daemon)
}

/// Posts at the street's rate; answers how many deliveries the healthy ones are owed, and each post's time in milliseconds.
fn post(street: &Street, client: &mut Client, seconds: u64) -> Result<(u64, Vec<f64>)> {
    let beat = Duration::from_secs(1) / u32::try_from(street.rate).context("a rate")?;
    let (begun, mut owed, mut times) = (Instant::now(), 0, Vec::new());
    let healthy = (0..street.subscriptions).filter(|at| !disturbs(street, *at)).count() as u64;
    for n in 0..street.rate * seconds {
        let due = begun + beat * u32::try_from(n).context("a count")?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A stride that meets all of them in any hundred as often.
        let at = usize::try_from(n)? * 37 % street.subscriptions;
        owed += if street.all { healthy } else { u64::from(!disturbs(street, at)) };
        let event = json!({ "type": kind(street, at), "properties": { "n": n, "sent": load::stamp() } });
        let sent = Instant::now();
        let answer = client.post("/v1/events", &event)?;
        ensure!(answer.status == 202, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        times.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    Ok((owed, times))
}

/// Walks down one street.
///
/// # Errors
/// Where the daemon does not start, refuses something, or does not deliver to the healthy ones within two minutes.
pub fn walk(street: &Street, seconds: u64) -> Result<Seen> {
    let (_sink, receiver) = sink()?;
    let folder = tempfile::Builder::new().prefix("posthaste-bench-").tempdir()?;
    let mut daemon = build(street, folder.path(), receiver)?;
    let mut counter = Client::new(receiver);
    let (warm, _) = post(street, &mut daemon.client(), 2)?;
    arrived(&mut counter, warm)?;
    counter.send("GET", "/reset", &[], b"")?;
    let (owed, mut times) = post(street, &mut daemon.client(), seconds)?;
    let seen: Arrived = arrived(&mut counter, owed)?;
    let rss_mib = mib(process::resident(daemon.pid()?)?);
    daemon.stop(Duration::from_secs(20))?;
    let start = daemon.start()?;
    let listed: Value = daemon.client().get("/v1/subscriptions?limit=1000")?;
    let listed = listed["data"].as_array().map_or(0, Vec::len);
    ensure!(listed == street.subscriptions.min(1_000), "{listed} subscriptions after a start");
    times.sort_by(f64::total_cmp);
    Ok(Seen {
        name: street.name,
        healthy: seen.count,
        p50_ms: seen.p50_ms,
        p99_ms: seen.p99_ms,
        record_p50_ms: times.get(times.len() / 2).copied().unwrap_or_default(),
        start_ms: start.as_secs_f64() * 1e3,
        rss_mib,
    })
}

/// The table, with each figure beside how often the one before it that it is compared with fits into it.
#[must_use]
pub fn table(all: &[Seen]) -> String {
    let mut text =
        "| subscriptions | healthy deliveries | p50 ms | p99 ms | p99, of without | record p50 ms | start ms | MiB |\n\
                    | --- | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for seen in all {
        let against = match seen.name {
            "1,000 subscriptions, 30 % dead" => Some("1,000 subscriptions, none dead"),
            "nine healthy, one that never answers" => Some("nine healthy, none beside"),
            "1,000 subscriptions by API" | "10,000 subscriptions by API" => Some("10 subscriptions by API"),
            _ => None,
        };
        let base = against.and_then(|name| all.iter().find(|s| s.name == name));
        let share = base.map_or_else(|| "-".to_owned(), |base| format!("{:.2} ×", seen.p99_ms / base.p99_ms));
        text.push_str(&format!(
            "| {} | {} | {:.2} | {:.2} | {share} | {:.2} | {:.0} | {:.0} |\n",
            seen.name, seen.healthy, seen.p50_ms, seen.p99_ms, seen.record_p50_ms, seen.start_ms, seen.rss_mib
        ));
    }
    text
}
