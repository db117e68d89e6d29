//! A new `encryption_key`: what was sealed under an earlier one opens while that is named, and is sealed again.

use crate::folder;
use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_tests::config::SECRET;
use posthaste_tests::{Config, Count, Daemon, Receiver, Reply, signature, until};
use serde_json::json;
use std::time::Duration;

/// Subscriptions that the API makes.
const MADE: u64 = 5;

fn key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

/// A daemon whose subscriptions were sealed under the first key, stopped; its receiver, and how much came to it that was
/// signed and authorized as it must be.
fn sealed(home: &std::path::Path) -> Result<(Daemon, Receiver, Count)> {
    let good = Count::default();
    let counted = good.clone();
    let receiver = Receiver::start(move |request| {
        if signature::holds(request, SECRET) && request.header("authorization") == "Bearer of-a-test" {
            counted.add(1);
        }
        Reply::Status(200)
    })?;
    let mut daemon = Daemon::new(home, Config::default().set("daemon", "encryption_key", key(1)))?;
    daemon.start()?;
    let mut client = daemon.client();
    for n in 0..MADE {
        let body = json!({
            "name": format!("s{n}"), "deliveree": "webhook", "events": ["keys:**"], "url": receiver.url("/"),
            "secrets": [SECRET], "auth": { "bearer": "of-a-test" },
        });
        let answer = client.post("/v1/subscriptions", &body)?;
        ensure!(answer.status == 201, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    daemon.stop(Duration::from_secs(10))?;
    Ok((daemon, receiver, good))
}

/// Starts with these keys, and sends an event to all; answers how many of them can not be opened.
fn broken_with(daemon: &mut Daemon, now: u8, before: &[u8], good: &Count) -> Result<usize> {
    let before: Vec<String> = before.iter().copied().map(key).collect();
    daemon.configure(|config| {
        let config = config.set("daemon", "encryption_key", key(now));
        config.set("daemon", "previous_encryption_keys", json!(before))
    })?;
    daemon.start()?;
    let mut client = daemon.client();
    let arrived = good.get();
    let answer = client.post("/v1/events", &json!({ "type": "keys:turned" }))?;
    ensure!(answer.status == 202, "{}", answer.status);
    let broken = until("all delivered or disabled", Duration::from_secs(20), || {
        let listed = client.get("/v1/subscriptions")?;
        let all = listed["data"].as_array().cloned().unwrap_or_default();
        let disabled = all.iter().filter(|s| s["state"] == "disabled").count();
        let keys = all.iter().filter(|s| s["reason"].as_str().is_some_and(|r| r.contains("encryption_key"))).count();
        ensure!(disabled == keys && all.len() as u64 == MADE, "{listed}");
        Ok((good.get() - arrived + disabled as u64 == MADE).then_some(disabled))
    })?;
    daemon.stop(Duration::from_secs(10))?;
    Ok(broken)
}

#[test]
fn what_was_sealed_under_an_earlier_key_opens_and_is_sealed_again_under_the_one_of_now() -> Result<()> {
    let folder = folder()?;
    let (mut daemon, _receiver, good) = sealed(folder.path())?;
    ensure!(broken_with(&mut daemon, 2, &[1], &good)? == 0, "with the earlier key named");
    ensure!(broken_with(&mut daemon, 2, &[], &good)? == 0, "sealed again, so that it is no longer needed");
    // Over two changes at once, and the earlier of them alone.
    ensure!(broken_with(&mut daemon, 4, &[3, 2, 1], &good)? == 0, "with several keys of before");
    ensure!(broken_with(&mut daemon, 4, &[], &good)? == 0, "sealed again once more");
    Ok(())
}

#[test]
fn control_without_the_earlier_key_nothing_of_it_opens() -> Result<()> {
    let folder = folder()?;
    let (mut daemon, _receiver, good) = sealed(folder.path())?;
    let broken = broken_with(&mut daemon, 2, &[], &good)?;
    ensure!(broken as u64 == MADE, "{broken} of {MADE} can not be opened");
    Ok(())
}
