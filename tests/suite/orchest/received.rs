//! The behaviours of the reference that a receiver of webhooks sees: repetition after a crash (23) and signatures (24).

use super::platform::held;
use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Count, Daemon, Receiver, Reply, Request, Subscription, config, signature, until};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A receiver that keeps what arrives and answers 200 once the gate is open, and what it kept.
fn keeping(open: &Count) -> Result<(Receiver, Arc<Mutex<Vec<Request>>>)> {
    let (kept, gate) = (Arc::new(Mutex::new(Vec::new())), open.clone());
    let requests = Arc::clone(&kept);
    let receiver = Receiver::start(move |request| {
        held(&requests).push(request.clone());
        let _ = until("the gate", Duration::from_secs(20), || Ok((gate.get() > 0).then_some(())));
        Reply::Status(200)
    })?;
    Ok((receiver, kept))
}

fn record(daemon: &Daemon, properties: &Value) -> Result<String> {
    let posted = json!({ "type": "a:b", "properties": properties });
    Ok(daemon.client().post("/v1/events", &posted)?.json()?["id"].as_str().context("an id")?.to_owned())
}

/// Kills the daemon after it has sent and before it can settle; the ids that arrived, and the one that was recorded.
fn killed_after_the_send(fault: Option<&str>) -> Result<(Vec<String>, String, Vec<Request>)> {
    let (folder, open) = (folder()?, Count::default());
    let (receiver, kept) = keeping(&open)?;
    let hook = Subscription::webhook("w", &receiver.url("/")).set("timeout", "20s");
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?.with_fault(fault);
    daemon.start()?;
    let id = record(&daemon, &json!({ "n": 1 }))?;
    until("the send", Duration::from_secs(10), || Ok((receiver.requests() == 1).then_some(())))?;
    daemon.kill9()?;
    // The answer comes too late for anybody to hear it.
    open.set(1);
    daemon.start()?;
    daemon.settled("w", Duration::from_secs(30))?;
    let requests = held(&kept).clone();
    Ok((requests.iter().map(|request| request.header("webhook-id").to_owned()).collect(), id, requests))
}

#[test]
fn keep_23_after_a_crash_between_the_send_and_its_settlement_the_same_id_is_sent_again() -> Result<()> {
    let (ids, recorded, requests) = killed_after_the_send(None)?;
    ensure!(ids == [recorded.clone(), recorded.clone()], "{ids:?}, recorded {recorded}");
    let [first, again] = requests.as_slice() else { anyhow::bail!("{} requests", requests.len()) };
    ensure!(first.body == again.body, "another body came the second time");
    let sequence = |request: &Request| request.header("posthaste-sequence").to_owned();
    ensure!(sequence(first) == sequence(again) && !sequence(first).is_empty(), "{requests:?}");
    ensure!([first, again].into_iter().all(|request| signature::holds(request, config::SECRET)), "{requests:?}");
    Ok(())
}

#[test]
fn control_a_daemon_that_acknowledges_without_a_sync_sends_nothing_again_after_a_crash() -> Result<()> {
    // Not each time: what was written may have reached the file all the same.
    for _ in 0..10 {
        let (ids, ..) = killed_after_the_send(Some("skip-sync"))?;
        if ids.len() == 1 {
            return Ok(());
        }
    }
    anyhow::bail!("the test can not see that a promise was forgotten");
}

#[test]
fn keep_24_the_signature_is_an_hmac_of_the_raw_bytes_of_the_body() -> Result<()> {
    let folder = folder()?;
    let (receiver, kept) = keeping(&Count::of(1))?;
    let hook = Subscription::webhook("w", &receiver.url("/"));
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?;
    daemon.start()?;
    // What comes out otherwise if somebody reads and writes it again.
    let bodies = [
        json!({ "z": 1, "a": [1.50, 1e3, null, true], "ü": "€ \u{1F600} </script> \\ \" \u{2028}" }),
        json!({ "deep": { "b": {}, "a": [] }, "long": "x".repeat(20_000) }),
        json!({}),
    ];
    for body in &bodies {
        record(&daemon, body)?;
    }
    daemon.settled("w", Duration::from_secs(20))?;
    let requests = held(&kept).clone();
    ensure!(requests.len() == bodies.len(), "{} of {}", requests.len(), bodies.len());
    for request in &requests {
        ensure!(signature::holds(request, config::SECRET), "{request:?}");
        // Every bit counts: another byte, one more, one less, other spaces, another time, another id, another key.
        let changed = |change: &dyn Fn(&mut Request)| {
            let mut other = request.clone();
            change(&mut other);
            signature::holds(&other, config::SECRET)
        };
        let end = request.body.len() - 1;
        for at in [0, end / 2, end] {
            ensure!(!changed(&|other| other.body[at] ^= 1), "byte {at} counts for nothing");
        }
        ensure!(!changed(&|other| other.body.push(b'\n')) && !changed(&|other| other.body.truncate(end)));
        let spaced = serde_json::to_vec_pretty(&serde_json::from_slice::<Value>(&request.body)?)?;
        ensure!(!changed(&|other| other.body.clone_from(&spaced)), "the bytes count for nothing");
        for name in ["webhook-id", "webhook-timestamp"] {
            let longer = |other: &mut Request| {
                other.headers.iter_mut().filter(|(n, _)| n == name).for_each(|(_, value)| value.push('1'));
            };
            ensure!(!changed(&longer), "{name} is not signed");
        }
        ensure!(!signature::holds(request, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), "any key will do");
    }
    Ok(())
}
