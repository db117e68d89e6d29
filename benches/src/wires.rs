//! Deliveries a second over plain HTTP/1.1, over TLS and over HTTP/2, beside what the same client reaches with nothing
//! around it (`deliverees/examples/attempts.rs`), to the same receiver.

use anyhow::{Context, Result, ensure};
use posthaste_tests::{Authority, Config, Count, Daemon, Receiver, Reply, SecureReceiver, Subscription, until};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Events of one measure.
const EVENTS: usize = 20_000;
/// Deliveries under way at once, of the daemon and of the client alone.
const AT_ONCE: u32 = 64;
/// What is measured, and by which protocol of ALPN; `None` is without TLS.
const WIRES: [(&str, Option<&str>); 3] =
    [("plain, HTTP/1.1", None), ("TLS, HTTP/1.1", Some("http/1.1")), ("TLS, HTTP/2", Some("h2"))];

/// What one wire showed.
#[derive(Debug, Clone, Serialize)]
pub struct Wire {
    /// Its name.
    pub name: &'static str,
    /// Deliveries a second of the daemon, from the first post to the last arrival.
    pub delivered_per_s: f64,
    /// Attempts a second of the client alone, where its program was given.
    pub alone_per_s: Option<f64>,
    /// CPU seconds of the daemon for 1,000 deliveries.
    pub cpu_s_per_1000: f64,
}

enum Either {
    Plain(Receiver),
    Secure(SecureReceiver),
}

impl Either {
    fn start(tls: Option<(&Authority, &str)>, count: Count) -> Result<Self> {
        let handler = move |_: &posthaste_tests::Request| {
            count.add(1);
            Reply::Status(200)
        };
        Ok(match tls {
            None => Self::Plain(Receiver::start(handler)?),
            Some((authority, protocol)) => {
                Self::Secure(SecureReceiver::start(authority.certify(&["127.0.0.1"])?.server(&[protocol])?, handler)?)
            }
        })
    }

    fn url(&self) -> String {
        match self {
            Self::Plain(receiver) => receiver.url("/"),
            Self::Secure(receiver) => receiver.url("127.0.0.1", "/"),
        }
    }
}

/// Measures each wire; `attempts` is the built example of that name.
///
/// # Errors
/// Where the daemon does not deliver everything within two minutes, or the example fails.
pub fn measure(attempts: Option<&Path>) -> Result<Vec<Wire>> {
    WIRES.iter().map(|(name, protocol)| one(name, *protocol, attempts)).collect()
}

fn one(name: &'static str, protocol: Option<&str>, attempts: Option<&Path>) -> Result<Wire> {
    let folder = tempfile::Builder::new().prefix("posthaste-bench-").tempdir()?;
    let authority = Authority::new()?;
    let pem = folder.path().join("authority.pem");
    std::fs::write(&pem, authority.pem())?;
    let pem = pem.to_str().context("a path")?;
    let count = Count::default();
    let receiver = Either::start(protocol.map(|protocol| (&authority, protocol)), count.clone())?;
    let hook = Subscription::webhook("hook", &receiver.url()).set("events", json!(["bench:**"]));
    let hook = hook.set("concurrency", AT_ONCE).set("timeout", "15s");
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?.with_env("SSL_CERT_FILE", pem);
    daemon.start()?;
    let text = "x".repeat(230);
    let body: Vec<Value> =
        (0..100).map(|n| json!({ "type": "bench:wire", "properties": { "n": n, "text": text } })).collect();
    let body = Value::from(body);
    let mut client = daemon.client();
    let mut round = |events: usize| -> Result<f64> {
        let (before, begun) = (count.get(), Instant::now());
        for _ in 0..events / 100 {
            let answer = client.post("/v1/events", &body)?;
            ensure!(answer.status == 202, "{}", answer.status);
        }
        let wanted = before + events as u64;
        until("all arrivals", Duration::from_secs(120), || Ok((count.get() >= wanted).then_some(())))?;
        Ok(events as f64 / begun.elapsed().as_secs_f64())
    };
    // Connections and caches are warm before anything counts.
    round(EVENTS / 10)?;
    let cpu = daemon.cpu_seconds()?;
    let delivered_per_s = round(EVENTS)?;
    let cpu_s_per_1000 = (daemon.cpu_seconds()? - cpu) * 1e3 / EVENTS as f64;
    daemon.stop(Duration::from_secs(10))?;
    let alone_per_s = attempts.map(|program| alone(program, &receiver.url(), pem)).transpose()?;
    Ok(Wire { name, delivered_per_s, alone_per_s, cpu_s_per_1000 })
}

/// What the client reaches alone, as its program prints it.
fn alone(program: &Path, url: &str, pem: &str) -> Result<f64> {
    let (events, at_once) = (EVENTS.to_string(), AT_ONCE.to_string());
    let done = Command::new(program).args([&events, &at_once]).args([url, pem]).output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let figure = said.split(" delivered, ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse().ok());
    figure.with_context(|| format!("the client alone said {said:?}: {}", String::from_utf8_lossy(&done.stderr)))
}

/// The table.
#[must_use]
pub fn table(all: &[Wire]) -> String {
    let mut text =
        "| wire | delivered/s | the client alone/s | share | CPU s/1,000 |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for wire in all {
        let (alone, share) = wire.alone_per_s.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |alone| (format!("{alone:.0}"), format!("{:.0} %", wire.delivered_per_s / alone * 100.0)),
        );
        text.push_str(&format!(
            "| {} | {:.0} | {alone} | {share} | {:.3} |\n",
            wire.name, wire.delivered_per_s, wire.cpu_s_per_1000
        ));
    }
    text
}
