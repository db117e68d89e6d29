//! R9: a deliveree panics.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Daemon, Ledger, Receiver, Reply, Subscription, until};
use serde_json::json;
use std::time::Duration;

/// Records events whose first attempt panics, beside others; everything must arrive, and be seen as a retry.
fn panic_among_others(fault: &str) -> Result<()> {
    let folder = folder()?;
    let ledger = Ledger::default();
    let book = ledger.clone();
    let receiver = Receiver::start(move |request| {
        book.arrive(request);
        Reply::Status(200)
    })?;
    let config = Config::default()
        .subscribe(Subscription::webhook("struck", &receiver.url("/struck")).set("events", vec!["fault:*"]))
        .subscribe(Subscription::webhook("beside", &receiver.url("/beside")).set("events", vec!["beside:*"]));
    let mut daemon = Daemon::new(folder.path(), config)?.with_fault(Some(fault));
    daemon.start()?;
    let mut client = daemon.client();
    let mut last = String::new();
    for n in 0..60_u64 {
        let kind = ["fault:panic", "fault:none", "beside:one"][n as usize % 3];
        let answer = client.post("/v1/events", &json!({ "type": kind, "properties": { "n": n } }))?;
        ensure!(answer.status == 202, "{}", answer.status);
        let id = answer.json()?["id"].as_str().context("an id")?.to_owned();
        ledger.promise(n, &id);
        if kind == "fault:panic" {
            last = id;
        }
    }
    daemon.settled("beside", Duration::from_secs(10))?;
    daemon.settled("struck", Duration::from_secs(20))?;
    let found = ledger.difference();
    ensure!(found.lost.is_empty() && found.wrong_id.is_empty(), "{found:?}");
    // It did panic: the first attempt is a failed one that says so.
    let event = until("the attempts", Duration::from_secs(5), || {
        let event = client.get(&format!("/v1/events/{last}"))?;
        Ok((event["deliveries"][0]["attempts"].as_array().is_some_and(|a| a.len() >= 2)).then_some(event))
    })?;
    let first = &event["deliveries"][0]["attempts"][0];
    ensure!(first["outcome"] == "failed", "{event}");
    ensure!(first["error"].as_str().is_some_and(|e| e.contains("panic")), "{event}");
    daemon.kill9()
}

#[test]
fn a_deliveree_that_panics_is_tried_again_and_disturbs_nobody() -> Result<()> {
    panic_among_others("panics")
}

#[test]
fn control_a_panic_that_nothing_holds_back_is_seen() -> Result<()> {
    ensure!(panic_among_others("panics,panics-end").is_err(), "the test can not see a panic");
    Ok(())
}
