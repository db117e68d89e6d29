//! The behaviours of the reference that are about analytics: sending (29) and the relay (30).

use super::platform::Platform;
use crate::folder;
use anyhow::{Result, ensure};
use posthaste_tests::{Answer, Count, PrivateNetwork};
use serde_json::{Value, json};

fn relay(platform: &Platform, event_type: &str, properties: &Value) -> Result<Answer> {
    platform.client().post("/analytics", &json!({ "event": event_type, "properties": properties }))
}

/// The example with its analytics sent to the receiver, path `/analytics`.
fn over_http(config: String) -> String {
    config
        .replace("backend = \"file\"", "backend = \"http\"\nbatch = { wait = \"50ms\" }")
        .replace("path = \"data/telemetry.ndjson\"", "url = \"http://127.0.0.1:8322/analytics\"")
        .replace("initial = \"1s\"", "initial = \"50ms\"\nmax = \"200ms\"")
}

#[test]
fn fix_29_a_dead_backend_loses_nothing_and_delivered_means_that_it_said_so() -> Result<()> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| {
        let alive = Count::of(0);
        let gate = alive.clone();
        let answer = move |request: &posthaste_tests::Request| match (request.path.as_str(), gate.get()) {
            ("/analytics", 0) => 500,
            _ => 200,
        };
        let platform = Platform::start_answering(folder.path(), over_http, answer)?;
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(platform.record("heartbeat-trigger", &json!({ "active": true }))?);
        }
        posthaste_tests::until("some attempts", std::time::Duration::from_secs(10), || {
            Ok((platform.hooks_of("/analytics").len() > 3).then_some(()))
        })?;
        let state = |id: &str| -> Result<Value> {
            Ok(platform.client().get(&format!("/v1/events/{id}"))?["deliveries"][0]["state"].clone())
        };
        for id in &ids {
            ensure!(state(id)? == "pending", "{id} is {}", state(id)?);
        }
        alive.set(1);
        platform.settled("product")?;
        for id in &ids {
            ensure!(state(id)? == "delivered", "{id} is {}", state(id)?);
        }
        Ok(())
    })
}

#[test]
fn fix_29_with_telemetry_off_nothing_is_owed_or_sent() -> Result<()> {
    let folder = folder()?;
    let off = |config: String| config.replace("[telemetry]", "[telemetry]\nenabled = false");
    PrivateNetwork::make()?.run(|| {
        let platform = Platform::start(folder.path(), off)?;
        let id = platform.record("project:created", &json!({ "project": { "uuid": "P" } }))?;
        let event = platform.client().get(&format!("/v1/events/{id}"))?;
        let deliveries = event["deliveries"].as_array().cloned().unwrap_or_default();
        ensure!(deliveries.iter().all(|d| d["subscription"] != "product"), "{event}");
        ensure!(relay(&platform, "view:loaded", &json!({ "name": "jobs" }))?.status == 204);
        ensure!(platform.telemetry()?.is_empty());
        Ok(())
    })
}

#[test]
fn fix_30_a_relayed_event_reaches_analytics_and_forges_no_notification() -> Result<()> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| {
        let platform = Platform::start(folder.path(), |config| config)?;
        let posted = json!({ "project": { "uuid": "P", "name": "Churn" } });
        let answer = relay(&platform, "project:deleted", &posted)?;
        ensure!(answer.status == 202, "{}", answer.status);
        let said = answer.json()?;
        let dropped = said["dropped"].as_array().cloned().unwrap_or_default();
        ensure!(dropped.iter().any(|p| p.as_str().is_some_and(|p| p.starts_with("/properties/project"))), "{said}");
        let answer = relay(&platform, "view:loaded", &json!({ "name": "jobs" }))?;
        ensure!(answer.status == 202 && answer.json()?["dropped"] == json!([]));
        let left = platform.telemetry()?;
        let of = |event: &str| left.iter().find(|line| line["event"] == event).cloned().unwrap_or_default();
        ensure!(of("project:deleted")["event_properties"] == json!({}), "{left:?}");
        ensure!(of("view:loaded")["event_properties"] == json!({ "name": "jobs" }), "{left:?}");
        platform.settled("everything")?;
        ensure!(platform.hooks().is_empty(), "{:?}", platform.hooks());
        Ok(())
    })
}

#[test]
fn fix_30_what_the_relay_can_not_take_is_told_apart() -> Result<()> {
    let folder = folder()?;
    let narrow = |config: String| config.replace("[relay]", "[relay]\ntypes = [\"*:shown\", \"view:*\"]");
    PrivateNetwork::make()?.run(|| {
        let platform = Platform::start(folder.path(), narrow)?;
        let mut client = platform.client();
        let mut send = |kind: &str, body: &str| -> Result<u16> {
            Ok(client.send("POST", "/analytics", &[("content-type", kind)], body.as_bytes())?.status)
        };
        let json = "application/json";
        // The original answered 500 to most of these.
        for (status, kind, body) in [
            (400, json, "{"),
            (422, json, r#"{"event":"no:such"}"#),
            (422, json, r#"{"properties":{}}"#),
            (422, json, r#"{"event":"view:loaded","properties":[]}"#),
            (422, json, r#"{"event":"project:deleted"}"#),
            (202, json, r#"{"event":"alert:shown"}"#),
            (202, "text/plain;charset=UTF-8", r#"{"event":"view:loaded","properties":{"name":"jobs"}}"#),
            (415, "application/xml", r#"{"event":"alert:shown"}"#),
        ] {
            let got = send(kind, body)?;
            ensure!(got == status, "{kind} {body}: {got}, not {status}");
        }
        Ok(())
    })
}
