//! R12: receivers that answer with malice, over plain HTTP/1.1, over TLS, and over HTTP/2.

mod answers;
mod frames;

use crate::folder;
use answers::End;
use anyhow::{Context, Result, ensure};
use posthaste_tests::frames::{Frames, FramesReceiver};
use posthaste_tests::{Authority, Client, Config, Count, Daemon, Receiver, Reply, Subscription, process, until};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// The subscription's `timeout`.
const TIMEOUT: Duration = Duration::from_secs(1);
/// By how much memory may grow in the first round of all kinds, and in all that come after it; over any way.
const GROWTH_MAX: u64 = 8 * 1024 * 1024;

/// What holds its subscription back for a day, as it may: it answers once, and then gets nothing more.
const ONCE: &str = "a-retry-after-of-ages";

/// How the daemon and its receivers speak.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Tls,
    Http2,
}

/// One kind of malice, where it is met, and how it must end.
struct Kind {
    name: &'static str,
    end: End,
    url: String,
}

/// The receivers of one way, tame where an event says so.
struct Stage {
    kinds: Vec<Kind>,
    followed: Count,
    /// Who vouches for them.
    authority: Option<String>,
    _one: Option<Receiver>,
    _each: Vec<FramesReceiver>,
}

impl Stage {
    fn set(way: Way) -> Result<Self> {
        let authority = Authority::new()?;
        let pem = (way != Way::Plain).then(|| authority.pem());
        let followed = Count::default();
        if way == Way::Http2 {
            let tls = authority.certify(&["127.0.0.1"])?.server(&["h2"])?;
            let (mut kinds, mut each) = (Vec::new(), Vec::new());
            // Each has a port of its own: what breaks a connection must not break another kind's.
            for kind in frames::kinds() {
                let receiver = FramesReceiver::start(tls.clone(), move |body| match tame(body) {
                    true => Frames::Good,
                    false => Frames::Raw(Box::new(move |wire, stream| (kind.answer)(wire, stream))),
                })?;
                kinds.push(Kind { name: kind.name, end: kind.end, url: format!("https://{}/", receiver.address()) });
                each.push(receiver);
            }
            return Ok(Self { kinds, followed, authority: pem, _one: None, _each: each });
        }
        let elsewhere = followed.clone();
        let handler = move |request: &posthaste_tests::Request| {
            if request.path == "/elsewhere" {
                elsewhere.add(1);
            }
            if tame(&request.body) {
                return Reply::Status(200);
            }
            match answers::kinds().into_iter().find(|kind| request.path == format!("/{}", kind.name)) {
                Some(kind) => Reply::Raw(Box::new(move |stream| (kind.answer)(stream))),
                None => Reply::Status(200),
            }
        };
        let receiver = match way {
            Way::Plain => Receiver::start(handler)?,
            _ => Receiver::secure(authority.certify(&["127.0.0.1"])?.server(&["http/1.1"])?, handler)?,
        };
        let scheme = if way == Way::Plain { "http" } else { "https" };
        let url = |name| format!("{scheme}://{}/{name}", receiver.address());
        let kinds = answers::kinds().iter().map(|k| Kind { name: k.name, end: k.end, url: url(k.name) }).collect();
        Ok(Self { kinds, followed, authority: pem, _one: Some(receiver), _each: Vec::new() })
    }

    /// A daemon that delivers to them, and trusts who vouches for them.
    fn daemon(&self, home: &Path, timeout: &str) -> Result<Daemon> {
        let config = self.kinds.iter().fold(Config::default().set("retry", "attempts", 1), |config, kind| {
            let webhook = Subscription::webhook(kind.name, &kind.url)
                .set("events", vec![format!("hostile:{}", kind.name)])
                .set("timeout", timeout);
            config.subscribe(webhook)
        });
        let mut daemon = Daemon::new(home, config)?;
        if let Some(authority) = &self.authority {
            let file = home.join("authority.pem");
            std::fs::write(&file, authority)?;
            daemon = daemon.with_env("SSL_CERT_FILE", file.to_str().context("a path")?);
        }
        daemon.start()?;
        Ok(daemon)
    }

    /// Sends one event of each kind and waits until none is pending; answers the deliveries by kind.
    fn round(&self, client: &mut Client, tame: bool, with_once: bool) -> Result<Vec<(&Kind, Value)>> {
        let mut sent = Vec::new();
        for kind in self.kinds.iter().filter(|kind| with_once || kind.name != ONCE) {
            let event = json!({ "type": format!("hostile:{}", kind.name), "properties": { "tame": tame } });
            let answer = client.post("/v1/events", &event)?;
            ensure!(answer.status == 202, "{}: {}", kind.name, answer.status);
            sent.push((kind, answer.json()?["id"].as_str().context("an id")?.to_owned()));
        }
        let mut ended = Vec::new();
        for (kind, id) in sent {
            let delivery = until(&format!("the end of {}", kind.name), Duration::from_secs(15), || {
                let event = client.get(&format!("/v1/events/{id}"))?;
                let delivery = event["deliveries"][0].clone();
                Ok((delivery["state"] != "pending").then_some(delivery))
            })?;
            ended.push((kind, delivery));
        }
        Ok(ended)
    }
}

/// Whether an event asks for a receiver that behaves.
fn tame(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["data"]["tame"] == true)
}

/// What an attempt at a hostile receiver must look like; `None` where it does.
fn fault(kind: &Kind, delivery: &Value) -> Option<String> {
    let state = delivery["state"].as_str().unwrap_or_default();
    let right = match kind.end {
        End::Dead => state == "dead",
        End::Delivered => state == "delivered",
        End::Either => state == "dead" || state == "delivered",
    };
    let attempt = &delivery["attempts"][0];
    let duration = attempt["duration_ms"].as_f64().unwrap_or(f64::MAX);
    let in_time = duration <= (TIMEOUT + Duration::from_secs(1)).as_millis() as f64;
    let kept =
        ["answer", "answer_base64"].iter().map(|k| attempt[*k].as_str().unwrap_or_default().len()).sum::<usize>();
    // Both ways of showing what is not UTF-8 make it longer, at most three times.
    let bounded = kept <= 3 * 2048;
    // A delivery that fails for a reason of ours would say nothing of its receiver.
    let theirs = attempt["outcome"] != "unattempted";
    (!right || !in_time || !bounded || !theirs).then(|| format!("{}: {delivery}", kind.name))
}

/// Plays every kind four times, between two rounds in which all behave.
///
/// Growth is what comes after the first hostile round: by then each kind has once held what it can hold, and what the
/// daemon keeps for its next connections is there. Whatever a kind leaves behind would come again with each round.
///
/// Answers the figures of memory.
fn endure(way: Way) -> Result<String> {
    let folder = folder()?;
    let stage = Stage::set(way)?;
    ensure!(stage.kinds.len() >= 25, "{} kinds", stage.kinds.len());
    let daemon = stage.daemon(folder.path(), "1s")?;
    let mut client = daemon.client();
    // A tame round first, so that what a subscription costs by itself is not taken for growth.
    for (kind, delivery) in stage.round(&mut client, true, true)? {
        ensure!(delivery["state"] == "delivered", "{} when tame: {delivery}", kind.name);
    }
    let pid = daemon.pid()?;
    let (cold, mut before) = (daemon.rss()?, 0);
    let mut faults = Vec::new();
    for turn in 0..4 {
        let ended = stage.round(&mut client, false, turn == 0)?;
        faults.extend(ended.iter().filter_map(|(kind, delivery)| fault(kind, delivery)));
        if turn == 0 {
            process::forget_peak(pid)?;
            before = daemon.rss()?;
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    ensure!(stage.followed.get() == 0, "a redirect was followed");
    let growth = process::peak(pid)?.saturating_sub(before);
    let at_first = before.saturating_sub(cold);
    ensure!(at_first <= GROWTH_MAX && growth <= GROWTH_MAX, "memory grew by {at_first} bytes, then by {growth}");
    // It still serves: nothing of this ended a part of it.
    for (kind, delivery) in stage.round(&mut client, true, false)? {
        ensure!(delivery["state"] == "delivered", "{} afterwards: {delivery}", kind.name);
    }
    Ok(format!("{way:?}: {} KiB at first, then {} KiB", at_first / 1024, growth / 1024))
}

#[test]
fn every_hostile_answer_ends_in_time_and_costs_no_memory() -> Result<()> {
    println!("{}", endure(Way::Plain)?);
    Ok(())
}

#[test]
fn every_hostile_answer_over_tls_ends_in_time_and_costs_no_memory() -> Result<()> {
    println!("{}", endure(Way::Tls)?);
    Ok(())
}

#[test]
fn every_hostile_answer_over_http_2_ends_in_time_and_costs_no_memory() -> Result<()> {
    println!("{}", endure(Way::Http2)?);
    Ok(())
}

/// Which kinds are found at fault where attempts may take longer than the test allows.
fn late(way: Way) -> Result<Vec<&'static str>> {
    let folder = folder()?;
    let stage = Stage::set(way)?;
    // The bound that the test looks at is a second; here nothing ends an attempt for five.
    let daemon = stage.daemon(folder.path(), "5s")?;
    let ended = stage.round(&mut daemon.client(), false, true)?;
    Ok(ended.iter().filter(|(k, d)| fault(k, d).is_some()).map(|(k, _)| k.name).collect())
}

#[test]
fn control_an_attempt_without_its_bound_is_seen_to_take_too_long() -> Result<()> {
    for way in [Way::Plain, Way::Tls] {
        let late = late(way)?;
        ensure!(late.contains(&"silence") && late.contains(&"a-body-byte-by-byte"), "no delay is seen: {late:?}");
    }
    let late = late(Way::Http2)?;
    ensure!(late.contains(&"h2-silence") && late.contains(&"h2-data-byte-by-byte"), "no delay is seen: {late:?}");
    Ok(())
}

#[test]
fn control_memory_that_is_kept_is_seen_to_grow() -> Result<()> {
    let folder = folder()?;
    let mut daemon = Daemon::new(folder.path(), Config::default().set("daemon", "body_max", "64MiB"))?;
    daemon.start()?;
    let pid = daemon.pid()?;
    process::forget_peak(pid)?;
    let before = daemon.rss()?;
    // Read whole, since it may be a good event; refused, since its payload is too long.
    let body = json!({ "type": "load:posted", "properties": { "padding": "x".repeat(32 * 1024 * 1024) } });
    let answer = daemon.client().post("/v1/events", &body)?;
    ensure!(answer.status == 413, "{}", answer.status);
    let growth = process::peak(pid)?.saturating_sub(before);
    ensure!(growth > GROWTH_MAX, "the test can not see memory: it grew by {growth} bytes");
    Ok(())
}
