//! Retries, deaths, and what a person may do to a delivery.

use super::stage::{Row, play, row, same};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Reply};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::Duration;

const NO: fn(&posthaste_tests::Request, u64) -> Reply = |_, _| Reply::Status(500);

pub(super) const ROWS: &[Row] = &[
    row(
        "given a receiver that always fails, when all attempts are used, then the delivery is dead and says so",
        |hook| hook.set("retry", json!({ "attempts": 3 })),
        |case| {
            let delivery = case.outcome()?;
            same(delivery["state"].clone(), json!("dead"))?;
            same(delivery["reason"].clone(), json!("attempts: status 500"))?;
            same(case.arrivals().len(), 3)
        },
    )
    .answering(NO),
    row(
        "given a receiver that always fails, when give_up_after is over, then the delivery is dead and says so",
        |hook| hook.set("retry", json!({ "initial": "50ms", "give_up_after": "600ms" })),
        |case| {
            let delivery = case.outcome()?;
            same(delivery["state"].clone(), json!("dead"))?;
            ensure!(delivery["reason"].as_str().is_some_and(|r| r.starts_with("give_up_after")), "{delivery}");
            ensure!(case.arrivals().len() >= 2, "{} arrivals", case.arrivals().len());
            Ok(())
        },
    )
    .answering(NO),
    row(
        "given retries without jitter, when they come, then each wait is the multiple of the one before, up to max",
        |hook| {
            let retry = json!({ "initial": "200ms", "multiplier": 2.0, "max": "500ms", "jitter": 0.0, "attempts": 5 });
            hook.set("retry", retry)
        },
        |case| {
            case.outcome()?;
            let all = case.arrivals();
            let waits: Vec<u128> = all.windows(2).map(|two| (two[1].at - two[0].at).as_millis()).collect();
            same(waits.len(), 4)?;
            // Never sooner; how much later a busy machine is, is not its promise.
            let soonest = [195, 395, 495, 495];
            ensure!(waits.iter().zip(soonest).all(|(wait, least)| *wait >= least), "{waits:?}");
            Ok(())
        },
    )
    .answering(NO),
    row(
        "given a subscription with a retry of its own, when it fails, then its keys count and the others are the default's",
        |hook| hook.set("retry", json!({ "attempts": 1 })),
        |case| {
            same(case.outcome()?["attempt_count"].clone(), json!(1))?;
            let retry = case.shown()?["retry"].clone();
            same((retry["attempts"].clone(), retry["initial"].clone()), (json!(1), json!("100ms")))
        },
    )
    .answering(NO),
    row(
        "given a dead delivery, when a person retries it, then it is tried again and its attempts count on",
        |hook| hook.set("retry", json!({ "attempts": 2 })),
        |case| {
            let id = case.send(json!({}))?;
            let dead = case.becomes(&id, "dead")?;
            let path = format!("/v1/deliveries/{}/retry", dead["id"].as_str().context("an id")?);
            same(case.client().post(&path, &json!({}))?.status, 200)?;
            let delivered = case.becomes(&id, "delivered")?;
            same(delivered["attempt_count"].clone(), json!(3))?;
            same(case.arrived(3)?[2].header("posthaste-attempt"), "3")
        },
    )
    .answering(|_, n| Reply::Status(if n < 3 { 500 } else { 200 })),
    row(
        "given a delivery that waits, when a person cancels it, then it is cancelled and never sent again",
        |hook| hook.set("retry", json!({ "initial": "300ms", "max": "300ms" })),
        |case| {
            let id = case.send(json!({}))?;
            let waiting = case.tried(&id, 1)?;
            let path = format!("/v1/deliveries/{}/cancel", waiting["id"].as_str().context("an id")?);
            same(case.client().post(&path, &json!({}))?.status, 200)?;
            same(case.delivery(&id)?["state"].clone(), json!("cancelled"))?;
            let sent = case.arrivals().len();
            sleep(Duration::from_millis(800));
            same(case.arrivals().len(), sent)
        },
    )
    .answering(NO),
    row(
        "given a delivery that waits behind a call, when a person cancels it, then it never arrives and those behind it do",
        |hook| hook.set("concurrency", json!(1)),
        |case| {
            let ids = (0..3).map(|_| case.send(json!({}))).collect::<Result<Vec<_>>>()?;
            case.arrived(1)?;
            let waiting = case.delivery(&ids[1])?;
            let path = format!("/v1/deliveries/{}/cancel", waiting["id"].as_str().context("an id")?);
            same(case.client().post(&path, &json!({}))?.status, 200)?;
            case.becomes(&ids[2], "delivered")?;
            same(case.delivery(&ids[1])?["state"].clone(), json!("cancelled"))?;
            ensure!(case.arrivals().iter().all(|a| a.header("webhook-id") != ids[1]), "it was sent");
            Ok(())
        },
    )
    .answering(|_, n| match n {
        1 => Reply::Raw(Box::new(|stream| {
            sleep(Duration::from_millis(800));
            let _closed_is_well = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        })),
        _ => Reply::Status(200),
    }),
    row(
        "given a delivered delivery, when a person cancels it, then that is a 409 and changes nothing",
        |hook| hook,
        |case| {
            let id = case.send(json!({}))?;
            let delivered = case.becomes(&id, "delivered")?;
            let path = format!("/v1/deliveries/{}/cancel", delivered["id"].as_str().context("an id")?);
            same(case.client().post(&path, &json!({}))?.status, 409)?;
            same(case.delivery(&id)?["state"].clone(), json!("delivered"))
        },
    ),
    row(
        "given a dead delivery, when deaths are asked for, then posthaste:delivery:dead arrives and names it",
        |hook| hook.set("retry", json!({ "attempts": 1 })),
        |case| {
            let id = case.send(json!({}))?;
            let dead = case.becomes(&id, "dead")?;
            let watcher = format!("{}-b", case.name);
            let told = posthaste_tests::until("the news", Duration::from_secs(10), || {
                let all = case.arrivals_of(&watcher);
                let about = |a: &Value| a["data"]["delivery"] == dead["id"];
                Ok(all.iter().filter_map(|a| a.json().ok()).find(about))
            })?;
            same(told["type"].clone(), json!("posthaste:delivery:dead"))?;
            same((told["data"]["event"].clone(), told["data"]["subscription"].clone()), (json!(id), json!(case.name)))
        },
    )
    .answering(NO)
    .beside(|hook| hook.set("events", json!(["posthaste:delivery:dead"]))),
    row(
        "given deaths and failures, when the metrics are read, then they count them by subscription and outcome",
        |hook| hook.set("retry", json!({ "attempts": 2 })),
        |case| {
            case.outcome()?;
            let answer = case.client().send("GET", "/metrics", &[], b"")?;
            let text = String::from_utf8(answer.body)?;
            let of = |name: &str| {
                let label = format!("subscription=\"{}\"", case.name);
                text.lines().filter(|l| l.starts_with(name) && l.contains(&label)).map(str::to_owned).collect::<Vec<_>>()
            };
            ensure!(of("posthaste_deliveries_dead_total").iter().any(|l| l.ends_with(" 1")), "{text}");
            ensure!(of("posthaste_attempts_total").iter().any(|l| l.contains("failed") && l.ends_with(" 2")), "{text}");
            Ok(())
        },
    )
    .answering(NO),
    row(
        "given deliveries of every state, when they are listed on the command line, then each is an object a line",
        |hook| hook.set("retry", json!({ "attempts": 1 })),
        |case| {
            let dead = case.outcome()?;
            let done = case.daemon.cli(&["deliveries", "list", "--subscription", &case.name, "--json"])?;
            let text = String::from_utf8(done.stdout)?;
            let listed: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
            same(listed.len(), 1)?;
            same((listed[0]["id"].clone(), listed[0]["state"].clone()), (dead["id"].clone(), json!("dead")))
        },
    )
    .answering(NO),
    row(
        "given an idempotency key, when the same event is posted again, then nothing is sent twice",
        |hook| hook,
        |case| {
            let event = json!({ "properties": { "n": 1 }, "idempotency_key": case.name });
            let (first, second) = (case.record(event.clone())?, case.record(event)?);
            same(&first, &second)?;
            case.becomes(&first, "delivered")?;
            same(case.arrivals().len(), 1)
        },
    ),
    row(
        "given an idempotency key, when another event is posted under it, then that is a 409 and is not sent",
        |hook| hook,
        |case| {
            let id = case.record(json!({ "properties": { "n": 1 }, "idempotency_key": case.name }))?;
            let other = json!({ "type": case.event_type(), "properties": { "n": 2 }, "idempotency_key": case.name });
            same(case.client().post("/v1/events", &other)?.status, 409)?;
            case.becomes(&id, "delivered")?;
            same(case.arrivals().len(), 1)
        },
    ),
    row(
        "given probes of health, when they are asked often, then nothing is recorded by asking",
        |hook| hook,
        |case| {
            let before = case.send(json!({}))?;
            for _ in 0..20 {
                for path in ["/healthz", "/readyz"] {
                    same(case.client().send("GET", path, &[], b"")?.status, 200)?;
                }
            }
            // Other rows record events of their own types meanwhile; none is of a probe.
            let listed = case.client().get("/v1/events?limit=1000")?;
            let odd = |e: &&Value| e["type"].as_str().is_some_and(|t| !t.starts_with("promise:") && !t.starts_with("posthaste:d"));
            same(listed["data"].as_array().into_iter().flatten().filter(odd).count(), 0)?;
            case.becomes(&before, "delivered")?;
            Ok(())
        },
    ),
];

#[test]
fn every_promise_of_retries_and_of_what_people_may_do_holds() -> Result<()> {
    play(ROWS, Config::default())
}
