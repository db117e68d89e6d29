//! What outlasts a kill -9 and a start.

use super::settled::seconds;
use super::stage::{Row, play, row, same};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Reply};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::Duration;

pub(super) const ROWS: &[Row] = &[
    row(
        "given an event that was answered 202, when the daemon is killed at once, then it arrives all the same",
        |hook| hook,
        |case| {
            // The last thing before the kill, mostly; it may have been sent already, and then it is not sent again.
            sleep(Duration::from_millis(700));
            case.keep(case.send(json!({}))?);
            Ok(())
        },
    )
    .after(|case| {
        case.becomes(&case.kept(), "delivered")?;
        ensure!(!case.arrivals().is_empty());
        Ok(())
    }),
    row(
        "given a retry that waits, when the daemon is killed and started, then it is tried when due, its attempts counting on",
        |hook| hook.set("retry", json!({ "initial": "2s", "max": "2s", "jitter": 0.0 })),
        |case| {
            case.keep(case.send(json!({}))?);
            case.tried(&case.kept(), 1)?;
            Ok(())
        },
    )
    .answering(|_, n| Reply::Status(if n == 1 { 500 } else { 200 }))
    .after(|case| {
        case.becomes(&case.kept(), "delivered")?;
        let all = case.arrivals();
        same(all.len(), 2)?;
        same(all[1].header("posthaste-attempt"), "2")?;
        same(all[1].header("webhook-id"), all[0].header("webhook-id"))?;
        ensure!(all[1].at - all[0].at >= Duration::from_millis(1900), "before its time");
        Ok(())
    }),
    row(
        "given a paused subscription, when the daemon is killed and started, then it is still paused and holds",
        |hook| hook,
        |case| {
            case.granted("pause")?;
            case.keep(case.send(json!({}))?);
            Ok(())
        },
    )
    .after(|case| {
        same(case.shown()?["state"].clone(), json!("paused"))?;
        same(case.delivery(&case.kept())?["state"].clone(), json!("held"))?;
        ensure!(case.arrivals().is_empty());
        case.granted("resume")?;
        case.becomes(&case.kept(), "delivered")?;
        Ok(())
    }),
    row(
        "given a disabled subscription, when the daemon is killed and started, then state and reason are still there",
        |hook| hook,
        |case| {
            case.keep(case.send(json!({}))?);
            case.shows("disabled", |s| s["state"] == "disabled")?;
            Ok(())
        },
    )
    .answering(|_, n| Reply::Status(if n == 1 { 410 } else { 200 }))
    .after(|case| {
        let shown = case.shown()?;
        same(shown["state"].clone(), json!("disabled"))?;
        ensure!(shown["reason"].as_str().is_some_and(|r| r.contains("410")), "{shown}");
        case.granted("resume")?;
        case.becomes(&case.kept(), "delivered")?;
        Ok(())
    }),
    row(
        "given a receiver that asked to wait, when the daemon is killed and started, then the subscription still waits",
        |hook| hook,
        |case| {
            case.send(json!({}))?;
            let shown = case.shows("held_until", |s| s["held_until"].is_string())?;
            case.keep(shown["held_until"].clone());
            Ok(())
        },
    )
    .answering(|_, n| match n {
        1 => Reply::Full(503, vec![("retry-after", "3600".to_owned())], Vec::new()),
        _ => Reply::Status(200),
    })
    .after(|case| {
        let (now, before) = (seconds(&case.shown()?["held_until"])?, seconds(&case.kept().into())?);
        ensure!((now - before).abs() <= 1, "{now} instead of {before}");
        case.send(json!({}))?;
        sleep(Duration::from_millis(500));
        same(case.arrivals().len(), 1)
    }),
    row(
        "given an open circuit, when the daemon is killed and started, then it is still open and says why",
        |hook| {
            let circuit = json!({ "failures": 3, "over": "200ms", "pause": "1h" });
            hook.set("circuit", circuit).set("retry", json!({ "initial": "30ms", "max": "30ms" }))
        },
        |case| {
            case.send(json!({}))?;
            case.shows("an open circuit", |s| s["circuit_state"] == "open")?;
            Ok(())
        },
    )
    .answering(|_, _| Reply::Status(500))
    .after(|case| {
        let shown = case.shown()?;
        same(shown["circuit_state"].clone(), json!("open"))?;
        ensure!(shown["circuit_reason"].is_string() && shown["failing_since"].is_string(), "{shown}");
        let before = case.arrivals().len();
        sleep(Duration::from_millis(500));
        same(case.arrivals().len(), before)
    }),
    row(
        "given a delivered delivery, when the daemon is killed and started, then it is not sent again and is still shown",
        |hook| hook,
        |case| {
            case.keep(case.send(json!({}))?);
            case.becomes(&case.kept(), "delivered")?;
            Ok(())
        },
    )
    .after(|case| {
        let delivery = case.delivery(&case.kept())?;
        same((delivery["state"].clone(), delivery["attempt_count"].clone()), (json!("delivered"), json!(1)))?;
        sleep(Duration::from_millis(500));
        same(case.arrivals().len(), 1)
    }),
    row(
        "given an attempt with an answer, when the daemon is killed and started, then all of it is still shown",
        |hook| hook.set("retry", json!({ "attempts": 1 })),
        |case| {
            let id = case.send(json!({}))?;
            case.keep(json!({ "id": id, "was": case.becomes(&id, "dead")? }).to_string());
            Ok(())
        },
    )
    .answering(|_, _| Reply::Full(500, Vec::new(), b"out of order".to_vec()))
    .after(|case| {
        let kept: Value = serde_json::from_str(&case.kept())?;
        let now = case.delivery(kept["id"].as_str().context("an id")?)?;
        same(now["attempts"][0]["answer"].clone(), json!("out of order"))?;
        same(now, kept["was"].clone())
    }),
    row(
        "given an idempotency key, when the same is posted after a kill and a start, then it is the first event's answer",
        |hook| hook,
        |case| {
            case.keep(case.record(json!({ "idempotency_key": case.name, "properties": { "n": 1 } }))?);
            Ok(())
        },
    )
    .after(|case| same(case.record(json!({ "idempotency_key": case.name, "properties": { "n": 1 } }))?, case.kept())),
    row(
        "given a cancelled delivery, when the daemon is killed and started, then it stays cancelled",
        |hook| hook.set("retry", json!({ "initial": "1s", "max": "1s" })),
        |case| {
            let id = case.send(json!({}))?;
            let waiting = case.tried(&id, 1)?;
            let path = format!("/v1/deliveries/{}/cancel", waiting["id"].as_str().context("an id")?);
            same(case.client().post(&path, &json!({}))?.status, 200)?;
            case.keep(id);
            Ok(())
        },
    )
    .answering(|_, _| Reply::Status(500))
    .after(|case| {
        sleep(Duration::from_millis(1500));
        same(case.delivery(&case.kept())?["state"].clone(), json!("cancelled"))?;
        same(case.arrivals().len(), 1)
    }),
];

#[test]
fn every_promise_that_outlasts_a_kill_holds() -> Result<()> {
    play(ROWS, Config::default())
}
