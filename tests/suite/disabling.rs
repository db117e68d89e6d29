//! `disable_after` by the machine's clock: a minute is the least, so that only the long run sees the end of it.
//!
//! On the simulated clock it is held over days, restarts and clocks that jump (`actors/tests/simulation/fares.rs`).

use crate::{folder, long};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Daemon, Receiver, Reply, Subscription, until};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::{Duration, Instant};

const LEAST: Duration = Duration::from_secs(60);

/// A subscription that fails for ever, `disable_after` as given, once it had more failures than it takes; and since when.
fn failing(home: &std::path::Path, disable_after: Value) -> Result<(Daemon, Receiver, Instant)> {
    let receiver = Receiver::start(|_| Reply::Status(500))?;
    let hook = Subscription::webhook("failing", &receiver.url("/"))
        .set("events", json!(["disable:**"]))
        .set("disable_after", disable_after)
        .set("retry", json!({ "initial": "100ms", "max": "100ms", "give_up_after": "1h" }));
    let mut daemon = Daemon::new(home, Config::default().subscribe(hook))?;
    daemon.start()?;
    let begun = Instant::now();
    daemon.client().post("/v1/events", &json!({ "type": "disable:sent" }))?;
    until("more failures than it takes", Duration::from_secs(30), || Ok((receiver.requests() > 12).then_some(())))?;
    Ok((daemon, receiver, begun))
}

fn shown(daemon: &Daemon) -> Result<Value> {
    daemon.client().get("/v1/subscriptions/failing")
}

#[test]
fn many_failures_alone_disable_nothing_and_a_minute_of_them_does_also_over_a_kill() -> Result<()> {
    let folder = folder()?;
    let (mut daemon, receiver, begun) = failing(folder.path(), json!("60s"))?;
    let early = shown(&daemon)?;
    ensure!(early["state"] == "active" && early["failing_since"].is_string(), "{early}");
    let id = daemon.client().get("/v1/deliveries?subscription=failing")?["data"][0]["id"].clone();
    let delivery = daemon.client().get(&format!("/v1/deliveries/{}", id.as_str().context("an id")?))?;
    daemon.kill9()?;
    daemon.start()?;
    // The clock of before goes on: it began with the first attempt, and times in UTC are in order as text.
    let (after, second) = (shown(&daemon)?["failing_since"].clone(), delivery["attempts"][1]["at"].clone());
    let (after, second) = (after.as_str().context("a time")?, second.as_str().context("a second attempt")?);
    ensure!(after < second, "{after} is not before {second}");
    if !long() {
        return Ok(());
    }
    until("a disabled subscription", LEAST * 2, || Ok((shown(&daemon)?["state"] == "disabled").then_some(())))?;
    ensure!(begun.elapsed() >= LEAST, "after {:?}", begun.elapsed());
    let disabled = shown(&daemon)?;
    ensure!(disabled["reason"].as_str().is_some_and(|r| r.contains("nothing arrived")), "{disabled}");
    let listed = daemon.client().get("/v1/deliveries?subscription=failing")?;
    ensure!(listed["data"][0]["state"] == "held", "{listed}");
    let asked = receiver.requests();
    sleep(Duration::from_secs(1));
    ensure!(receiver.requests() == asked, "it is still called");
    Ok(())
}

#[test]
fn control_disable_after_false_never_disables() -> Result<()> {
    let folder = folder()?;
    let (daemon, receiver, begun) = failing(folder.path(), json!(false))?;
    if long() {
        sleep((LEAST + Duration::from_secs(5)).saturating_sub(begun.elapsed()));
    }
    let asked = receiver.requests();
    until("further calls", Duration::from_secs(10), || Ok((receiver.requests() > asked).then_some(())))?;
    let subscription = shown(&daemon)?;
    ensure!(subscription["state"] == "active", "{subscription}");
    Ok(())
}
