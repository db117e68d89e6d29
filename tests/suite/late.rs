//! R13: receivers that answer 2xx once nobody waits any more.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Authority, Config, Daemon, Receiver, Reply, Request, SecureReceiver, Subscription, held, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

const EVENTS: usize = 10;
/// When the first answer to each event comes.
const LATE: Duration = Duration::from_millis(900);

/// What became of each event: its delivery, and how often it arrived.
struct Ended {
    deliveries: Vec<(Value, u64)>,
    /// What the metrics count as delivered.
    counted: String,
}

/// Sends events to a receiver that takes each at once but says so late, the first time; over plain or TLS.
fn send(timeout: &str, protocol: Option<&str>) -> Result<Ended> {
    let folder = folder()?;
    let seen: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let handler = move |request: &Request| {
        let times = {
            let mut seen = held(&noted);
            let times = seen.entry(request.header("webhook-id").to_owned()).or_default();
            *times += 1;
            *times
        };
        if times == 1 {
            sleep(LATE);
        }
        Reply::Status(200)
    };
    let authority = Authority::new()?;
    let (mut plain, mut secure) = (None, None);
    let url = match protocol {
        None => plain.insert(Receiver::start(handler)?).url("/"),
        Some(protocol) => {
            let tls = authority.certify(&["127.0.0.1"])?.server(&[protocol])?;
            secure.insert(SecureReceiver::start(tls, handler)?).url("127.0.0.1", "/")
        }
    };
    let hook = Subscription::webhook("late", &url).set("events", json!(["late:**"])).set("timeout", timeout);
    let hook = hook.set("ca", authority.pem()).set("connect_timeout", timeout);
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?;
    daemon.start()?;
    let mut client = daemon.client();
    let events = vec![json!({ "type": "late:sent" }); EVENTS];
    let answer = client.post("/v1/events", &json!(events))?.json()?;
    daemon.settled("late", Duration::from_secs(20))?;
    // Long enough for what came late to be heard, if anybody listened.
    sleep(LATE);
    let mut deliveries = Vec::new();
    for event in answer["events"].as_array().context("events")? {
        let id = event["id"].as_str().context("an id")?;
        let delivery = client.get(&format!("/v1/events/{id}"))?["deliveries"][0].clone();
        deliveries.push((delivery, held(&seen).get(id).copied().unwrap_or_default()));
    }
    let metrics = String::from_utf8(client.send("GET", "/metrics", &[], b"")?.body)?;
    let counted = metrics
        .lines()
        .find(|line| {
            line.starts_with("posthaste_attempts_total") && line.contains("late") && line.contains("\"delivered\"")
        })
        .unwrap_or_default()
        .to_owned();
    Ok(Ended { deliveries, counted })
}

/// Each was tried again under its id and counts once, whatever the first answer said later.
fn tried_again_and_counted_once(protocol: Option<&str>) -> Result<()> {
    let ended = send("300ms", protocol)?;
    for (delivery, arrived) in &ended.deliveries {
        let attempts = delivery["attempts"].as_array().context("attempts")?;
        let outcomes: Vec<&str> = attempts.iter().filter_map(|a| a["outcome"].as_str()).collect();
        ensure!(outcomes == ["failed", "delivered"] && *arrived == 2, "{arrived} arrivals: {delivery}");
        ensure!(attempts[0]["error"].as_str().is_some_and(|e| e.starts_with("timeout")), "{delivery}");
        ensure!(delivery["state"] == "delivered" && delivery["attempt_count"] == 2, "{delivery}");
    }
    ensure!(ended.counted.ends_with(&format!(" {EVENTS}")), "counted: {}", ended.counted);
    Ok(())
}

#[test]
fn what_is_taken_too_late_is_sent_again_under_its_id_and_counts_once() -> Result<()> {
    tried_again_and_counted_once(None)
}

#[test]
fn over_tls_and_http_2_what_is_taken_too_late_is_sent_again_and_counts_once() -> Result<()> {
    tried_again_and_counted_once(Some("http/1.1"))?;
    tried_again_and_counted_once(Some("h2"))
}

#[test]
fn control_with_time_to_wait_the_same_answers_are_seen_to_count_at_once() -> Result<()> {
    let ended = send("10s", None)?;
    let once = |(delivery, arrived): &&(Value, u64)| *arrived == 1 && delivery["attempt_count"] == 1;
    ensure!(ended.deliveries.iter().filter(once).count() == EVENTS, "the test can not see that an answer came in time");
    Ok(())
}

#[test]
fn an_answer_that_comes_while_the_next_attempt_is_under_way_changes_nothing() -> Result<()> {
    let folder = folder()?;
    let turn = posthaste_tests::Count::default();
    let counted = turn.clone();
    // The first answer arrives in the middle of the second attempt, which fails.
    let receiver = Receiver::start(move |request| {
        counted.add(1);
        match request.header("posthaste-attempt") {
            "1" => sleep(Duration::from_millis(600)),
            "2" => {
                sleep(Duration::from_millis(250));
                return Reply::Status(500);
            }
            _ => {}
        }
        Reply::Status(200)
    })?;
    let hook =
        Subscription::webhook("late", &receiver.url("/")).set("events", json!(["late:**"])).set("timeout", "400ms");
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook.set("connect_timeout", "400ms")))?;
    daemon.start()?;
    let mut client = daemon.client();
    let id = client.post("/v1/events", &json!({ "type": "late:sent" }))?.json()?["id"].clone();
    let delivery = until("its delivery", Duration::from_secs(10), || {
        let event = client.get(&format!("/v1/events/{}", id.as_str().unwrap_or_default()))?;
        Ok(Some(event["deliveries"][0].clone()).filter(|d| d["state"] == "delivered"))
    })?;
    let statuses: Vec<Value> =
        delivery["attempts"].as_array().into_iter().flatten().map(|a| a["status"].clone()).collect();
    ensure!(json!(statuses) == json!([null, 500, 200]) && turn.get() == 3, "{delivery}");
    Ok(())
}
