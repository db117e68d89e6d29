//! `[telemetry] enabled`, switched off and on again while calls are in flight, as `docs/telemetry.md` says: nothing new is
//! built or owed, what waits is cancelled, what arrives all the same counts, and once it is on new events arrive.

use crate::batches;
use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Count, Daemon, Ledger, Load, Receiver, Reply, Shape, Subscription, held, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

const CATALOGUE: &str = r#"
[event."load:posted"]
fields.n = { type = "integer", minimum = 0, maximum = 1000000, telemetry = "keep" }
fields.padding = { type = "string" }

[event."client:seen"]
audience = "telemetry"
"#;

/// A daemon whose telemetry goes to `product` and whose notifications go to `ops`.
fn daemon(home: &Path, product: &Receiver, ops: &Receiver) -> Result<Daemon> {
    std::fs::write(home.join("events.toml"), CATALOGUE)?;
    let analytics = Subscription::of("analytics", "product")
        .set("backend", "http")
        .set("url", product.url("/"))
        .set("events", json!(["load:**"]))
        .set("batch", json!({ "events": 3, "wait": "50ms" }))
        .set("concurrency", 1)
        .set("timeout", "20s")
        .set("circuit", false);
    let config = Config::default()
        .set("catalogue", "files", json!(["events.toml"]))
        .set("relay", "rate_limit", "10000/s")
        .subscribe(analytics)
        .subscribe(Subscription::webhook("ops", &ops.url("/")).set("events", json!(["load:**"])));
    let mut daemon = Daemon::new(home, config)?;
    daemon.start()?;
    Ok(daemon)
}

/// Switches telemetry and waits until the relay says so and, where it is off, nothing is owed.
fn switch(daemon: &mut Daemon, enabled: bool) -> Result<()> {
    daemon.configure(|config| config.set("telemetry", "enabled", enabled))?;
    daemon.signal(Signal::HUP)?;
    let (mut client, wanted) = (daemon.client(), if enabled { 202 } else { 204 });
    until("the switch", Duration::from_secs(20), || {
        let answer = client.post("/analytics", &json!({ "event": "client:seen" }))?;
        Ok((answer.status == wanted).then_some(()))
    })
    .with_context(|| daemon.log())?;
    if enabled { Ok(()) } else { daemon.settled("product", Duration::from_secs(20)) }
}

fn record(daemon: &Daemon, numbers: std::ops::Range<u64>) -> Result<Vec<String>> {
    let events: Vec<Value> =
        numbers.map(|n| json!({ "type": "load:posted", "properties": { "n": n, "padding": "p" } })).collect();
    let answer = daemon.client().post("/v1/events", &events.into())?;
    ensure!(answer.status == 202, "{}", answer.status);
    let said = answer.json()?;
    said["events"].as_array().context("events")?.iter().map(|e| Ok(e["id"].as_str().context("an id")?.into())).collect()
}

/// State and reason of the delivery to analytics; `None` where it is owed nothing.
fn standing(daemon: &Daemon, event: &str) -> Result<Option<(String, String)>> {
    let event = daemon.client().get(&format!("/v1/events/{event}"))?;
    let deliveries = event["deliveries"].as_array().context("deliveries")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(deliveries.iter().find(|d| d["subscription"] == "product").map(|d| (text(&d["state"]), text(&d["reason"]))))
}

/// Switches off while one call is in flight, which is answered with `answer` afterwards; the state that its events end in.
fn switched_off_in_the_middle_of_a_call(answer: u16) -> Result<String> {
    let folder = folder()?;
    let (open, arrived) = (Count::default(), Arc::new(Mutex::new(Vec::new())));
    let (gate, noted) = (open.clone(), Arc::clone(&arrived));
    let product = Receiver::start(move |request| {
        held(&noted).push(batches::numbered("http", request).unwrap_or_default());
        let _ = until("the gate", Duration::from_secs(15), || Ok((gate.get() > 0).then_some(())));
        Reply::Status(if gate.get() > 1 { 202 } else { answer })
    })?;
    let ops = Receiver::start(|_| Reply::Status(200))?;
    let mut daemon = daemon(folder.path(), &product, &ops)?;
    let in_flight = record(&daemon, 0..3)?;
    until("a call", Duration::from_secs(10), || Ok((product.requests() == 1).then_some(())))?;
    ensure!(held(&arrived)[0].len() == 3, "{arrived:?}");
    let waiting = record(&daemon, 3..10)?;
    switch(&mut daemon, false)?;
    let cancelled = Some(("cancelled".to_owned(), "telemetry is switched off".to_owned()));
    for event in &waiting {
        ensure!(standing(&daemon, event)? == cancelled, "{:?}", standing(&daemon, event)?);
    }
    // Nothing is built, so nothing can be owed later either; people are told as ever.
    let silent = record(&daemon, 10..12)?;
    let shown = daemon.client().get(&format!("/v1/events/{}", silent[0]))?;
    ensure!(shown["telemetry"].is_null() && standing(&daemon, &silent[0])?.is_none(), "{shown}");
    let said = daemon.cli(&["send", "client:seen", "--telemetry"])?;
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    ensure!(said.status.success() && said.stdout.is_empty() && words.contains("switched off"), "{words}");
    open.set(1);
    daemon.settled("ops", Duration::from_secs(10))?;
    let end = until("the end of the call", Duration::from_secs(10), || {
        let event = daemon.client().get(&format!("/v1/events/{}", in_flight[0]))?;
        let delivery = event["deliveries"].as_array().context("deliveries")?;
        let ours = delivery.iter().find(|d| d["subscription"] == "product").context("a delivery")?;
        Ok(ours["attempts"].as_array().is_some_and(|a| a.len() == 1).then(|| ours["state"].clone()))
    })?;
    open.set(2);
    switch(&mut daemon, true)?;
    let after = record(&daemon, 12..13)?;
    daemon.settled("product", Duration::from_secs(20))?;
    ensure!(standing(&daemon, &after[0])?.is_some_and(|(state, _)| state == "delivered"));
    let mut numbers: Vec<u64> = held(&arrived).iter().flatten().map(|event| event.n).collect();
    numbers.sort_unstable();
    ensure!(numbers == [0, 1, 2, 12], "what was cancelled or recorded in silence was sent: {numbers:?}");
    ensure!(ops.requests() == 13, "{} of 13 notifications", ops.requests());
    Ok(end.as_str().context("a state")?.to_owned())
}

#[test]
fn what_waits_is_cancelled_and_what_arrives_all_the_same_is_delivered_when_telemetry_is_switched_off() -> Result<()> {
    let end = switched_off_in_the_middle_of_a_call(202)?;
    ensure!(end == "delivered", "{end}");
    Ok(())
}

#[test]
fn what_was_in_flight_and_failed_is_not_tried_again_once_telemetry_is_switched_off() -> Result<()> {
    let end = switched_off_in_the_middle_of_a_call(503)?;
    ensure!(end == "cancelled", "{end}");
    Ok(())
}

#[test]
fn under_load_nothing_recorded_in_silence_ever_leaves_and_nothing_recorded_with_telemetry_on_is_forgotten() -> Result<()>
{
    let folder = folder()?;
    let arrived = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Arc::clone(&arrived);
    let product = Receiver::start(move |request| {
        sleep(Duration::from_millis(5));
        held(&noted).extend(batches::numbered("http", request).unwrap_or_default().into_iter().map(|event| event.n));
        Reply::Status(202)
    })?;
    let ops = Receiver::start(|_| Reply::Status(200))?;
    let mut daemon = daemon(folder.path(), &product, &ops)?;
    let ledger = Ledger::default();
    let load = Load::start(daemon.address(), &Shape { connections: 2, ..Shape::default() }, 0, &ledger);
    // Numbers that were posted and promised while telemetry stood off, or on, from before to after.
    let (mut silent, mut told) = (BTreeSet::new(), BTreeSet::new());
    let more = |from: u64| {
        until("more events", Duration::from_secs(20), || {
            let those: BTreeSet<u64> = ledger.promised_numbers().into_iter().filter(|n| *n >= from).collect();
            Ok((those.len() >= 30).then_some(those))
        })
    };
    for _ in 0..4 {
        told.extend(more(load.next())?);
        switch(&mut daemon, false)?;
        silent.extend(more(load.next())?);
        switch(&mut daemon, true)?;
    }
    let last = more(load.next())?;
    load.stop()?;
    daemon.settled("product", Duration::from_secs(60))?;
    let arrived = held(&arrived).clone();
    let left: Vec<&u64> = silent.intersection(&arrived).collect();
    ensure!(left.is_empty(), "recorded in silence, and sent: {left:?}");
    ensure!(
        last.is_subset(&arrived),
        "{} of {} of the last ones arrived",
        last.intersection(&arrived).count(),
        last.len()
    );
    // What did not arrive was cancelled, each with its reason.
    let ids = ledger.ids();
    for n in told.difference(&arrived) {
        let found = standing(&daemon, ids.get(n).context("an id")?)?;
        ensure!(found.as_ref().is_some_and(|(state, why)| state == "cancelled" && !why.is_empty()), "{n}: {found:?}");
    }
    // A control of the test itself: there was something in either state to be mistaken.
    ensure!(silent.len() >= 120 && told.intersection(&arrived).next().is_some(), "too little happened");
    Ok(())
}
