//! What is settled goes after its time, what is owed stays; and what the catalogue does not declare never begins.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Count, Daemon, Receiver, Reply, Subscription, until};
use serde_json::json;
use std::time::Duration;

#[test]
fn what_is_settled_goes_after_its_retention_and_what_is_owed_stays() -> Result<()> {
    let folder = folder()?;
    let receiver = Receiver::start(|request| Reply::Status(if request.path == "/down" { 500 } else { 200 }))?;
    let fine = Subscription::webhook("fine", &receiver.url("/")).set("events", json!(["kept:fine"]));
    let down = Subscription::webhook("down", &receiver.url("/down")).set("events", json!(["kept:down"]));
    let config = Config::default().set("outbox", "retention", "1s").subscribe(fine).subscribe(down);
    let mut daemon = Daemon::new(folder.path(), config)?;
    daemon.start()?;
    let mut client = daemon.client();
    let mut post = |kind: &str| -> Result<String> {
        let answer = client.post("/v1/events", &json!({ "type": kind }))?;
        Ok(answer.json()?["id"].as_str().context("an id")?.to_owned())
    };
    let (settled, owed) = (post("kept:fine")?, post("kept:down")?);
    daemon.settled("fine", Duration::from_secs(10))?;
    let mut client = daemon.client();
    until("that it is gone", Duration::from_secs(60), || {
        let gone = client.send("GET", &format!("/v1/events/{settled}"), &[], b"")?.status == 404;
        Ok(gone.then_some(()))
    })?;
    let kept = client.get(&format!("/v1/events/{owed}"))?;
    ensure!(kept["deliveries"][0]["state"] == "pending", "{kept}");
    Ok(())
}

#[test]
fn what_the_catalogue_does_not_declare_is_refused_and_reaches_nobody() -> Result<()> {
    let folder = folder()?;
    let arrived = Count::default();
    let noted = arrived.clone();
    let receiver = Receiver::start(move |_| {
        noted.add(1);
        Reply::Status(200)
    })?;
    let catalogue = "[layer.\"shop\"]\nfields.total = { type = \"integer\", required = true }\n[event.\"shop:paid\"]\n";
    std::fs::write(folder.path().join("events.toml"), catalogue)?;
    let config =
        Config::default().set("catalogue", "undeclared", "reject").set("catalogue", "files", json!(["events.toml"]));
    let config = config.subscribe(Subscription::webhook("all", &receiver.url("/")));
    let mut daemon = Daemon::new(folder.path(), config)?;
    daemon.start()?;
    let mut client = daemon.client();
    for wrong in [
        json!({ "type": "shop:unknown" }),
        json!({ "type": "shop:paid" }),
        json!({ "type": "shop:paid", "properties": { "shop": { "total": "12" } } }),
        json!({ "type": "shop:paid", "properties": { "shop": { "total": 12, "more": 1 } } }),
    ] {
        let answer = client.post("/v1/events", &wrong)?;
        ensure!(answer.status == 422, "{wrong}: {}", answer.status);
    }
    let right = json!({ "type": "shop:paid", "properties": { "shop": { "total": 12 } } });
    ensure!(client.post("/v1/events", &right)?.status == 202);
    daemon.settled("all", Duration::from_secs(10))?;
    ensure!(arrived.get() == 1, "{} arrived", arrived.get());
    Ok(())
}
