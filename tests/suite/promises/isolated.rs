//! What one subscription costs the others, and its circuit, its pauses and its bounds.

use super::stage::{Arrival, Row, play, row, same};
use anyhow::{Context as _, Result, ensure};
use posthaste_tests::{Config, Reply, held, until};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Within which what others hold up would not come: they hold it up for longer.
const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(8);

/// Requests under way of the row that counts them: now, and the most so far.
static UNDER_WAY: Mutex<(u64, u64)> = Mutex::new((0, 0));

const CIRCUIT: fn() -> Value = || json!({ "failures": 3, "over": "300ms", "pause": "700ms" });

pub(super) const ROWS: &[Row] = &[
    row(
        "given a circuit, when nothing succeeds for its time, then it opens, little is sent, and it closes by itself",
        |hook| hook.set("circuit", CIRCUIT()).set("retry", json!({ "initial": "40ms", "max": "40ms" })),
        |case| {
            let id = case.send(json!({}))?;
            case.shows("an open circuit", |s| s["circuit_open"] == true)?;
            let opened = case.arrivals().len();
            sleep(Duration::from_millis(500));
            // Without it there would be a dozen more; a probe that was just due may have gone.
            ensure!(case.arrivals().len() <= opened + 2, "{} after {opened}", case.arrivals().len());
            case.becomes(&id, "delivered")?;
            case.shows("a closed circuit", |s| s["circuit_open"] == false)?;
            Ok(())
        },
    )
    .answering(|_, n| Reply::Status(if n <= 12 { 500 } else { 200 })),
    row(
        "given an open circuit, when it closes again, then posthaste:subscription:recovered is told",
        |hook| hook.set("circuit", CIRCUIT()).set("retry", json!({ "initial": "40ms", "max": "40ms" })),
        |case| {
            let id = case.send(json!({}))?;
            case.becomes(&id, "delivered")?;
            let watcher = format!("{}-b", case.name);
            until("the news", SOON, || {
                let about = |a: &Value| a["data"]["subscription"] == case.name.as_str();
                let told = case.arrivals_of(&watcher).iter().filter_map(|a| a.json().ok()).any(|a| about(&a));
                Ok(told.then_some(()))
            })
        },
    )
    .answering(|_, n| Reply::Status(if n <= 12 { 500 } else { 200 }))
    .beside(|hook| hook.set("events", json!(["posthaste:subscription:recovered"]))),
    row(
        "given circuit = false, when a receiver always fails, then its retries go on as they are due",
        |hook| hook.set("circuit", false).set("retry", json!({ "initial": "20ms", "max": "20ms", "attempts": 40 })),
        |case| {
            let delivery = case.outcome()?;
            same(delivery["attempt_count"].clone(), json!(40))?;
            same(case.shown()?["circuit_open"].clone(), json!(false))
        },
    )
    .answering(|_, _| Reply::Status(500)),
    row(
        "given a paused subscription, when events come, then they are held, and resume sends them in their order",
        |hook| hook.set("concurrency", 1),
        |case| {
            same(case.granted("pause")?["state"].clone(), json!("paused"))?;
            let ids: Vec<String> = (0..5).map(|n| case.send(json!({ "n": n }))).collect::<Result<_>>()?;
            for id in &ids {
                case.becomes(id, "held")?;
            }
            ensure!(case.arrivals().is_empty(), "a paused subscription was sent something");
            same(case.granted("resume")?["state"].clone(), json!("active"))?;
            let came: Vec<String> = case.arrived(5)?.iter().map(|a| a.header("webhook-id").to_owned()).collect();
            same(came, ids)
        },
    ),
    row(
        "given a paused subscription, when it is shown, then its state and its backlog say so",
        |hook| hook,
        |case| {
            case.granted("pause")?;
            case.send(json!({}))?;
            case.send(json!({}))?;
            let shown = case.shows("a backlog of 2", |s| s["backlog"] == 2)?;
            same(shown["state"].clone(), json!("paused"))
        },
    ),
    row(
        "given concurrency = 3, when many events wait, then never more than 3 are under way at the receiver",
        |hook| hook.set("concurrency", 3),
        |case| {
            let events: Vec<Value> =
                (0..30).map(|n| json!({ "type": case.event_type(), "properties": { "n": n } })).collect();
            same(case.client().post("/v1/events", &json!(events))?.status, 202)?;
            case.arrived(30)?;
            let most = held(&UNDER_WAY).1;
            ensure!((2..=3).contains(&most), "{most} at once");
            Ok(())
        },
    )
    .answering(|_, _| {
        {
            let mut counted = held(&UNDER_WAY);
            counted.0 += 1;
            counted.1 = counted.1.max(counted.0);
        }
        sleep(Duration::from_millis(10));
        held(&UNDER_WAY).0 -= 1;
        Reply::Status(200)
    }),
    row(
        "given concurrency = 1, when events go to a slow receiver, then they arrive one after the other",
        |hook| hook.set("concurrency", 1),
        |case| {
            let events: Vec<Value> =
                (0..4).map(|n| json!({ "type": case.event_type(), "properties": { "n": n } })).collect();
            same(case.client().post("/v1/events", &json!(events))?.status, 202)?;
            let all = case.arrived(4)?;
            ensure!(all.windows(2).all(|two| two[1].at - two[0].at >= Duration::from_millis(95)), "two at once");
            Ok(())
        },
    )
    .answering(|_, _| {
        sleep(Duration::from_millis(100));
        Reply::Status(200)
    }),
    row(
        "given a receiver that never answers and has all it may have, when another gets events, then they do not wait",
        |hook| hook.set("timeout", "8s").set("retry", json!({ "attempts": 1 })),
        |case| {
            let events: Vec<Value> =
                (0..64).map(|n| json!({ "type": case.event_type(), "properties": { "n": n } })).collect();
            same(case.client().post("/v1/events", &json!(events))?.status, 202)?;
            let beside = format!("{}-b", case.name);
            let begun = Instant::now();
            until("all at the healthy one", SOON, || Ok((case.arrivals_of(&beside).len() == 64).then_some(())))?;
            ensure!(begun.elapsed() < SOON);
            // The others still wait for their answers.
            ensure!(case.shown()?["backlog"] == 64, "{}", case.shown()?);
            Ok(())
        },
    )
    .answering(|_, _| Reply::Raw(Box::new(|_| sleep(LONG))))
    .beside(|hook| hook),
    row(
        "given a flood of retries, when a new event comes, then its first attempt is not behind them",
        |hook| {
            let retry = json!({ "initial": "50ms", "max": "50ms", "jitter": 0.0 });
            hook.set("retry", retry).set("concurrency", 8)
        },
        |case| {
            let events: Vec<Value> =
                (0..300).map(|n| json!({ "type": case.event_type(), "properties": { "n": n } })).collect();
            same(case.client().post("/v1/events", &json!(events))?.status, 202)?;
            until("a first attempt at each", SOON * 4, || {
                let first = case.arrivals().iter().filter(|a| a.header("posthaste-attempt") == "1").count();
                Ok((first == 300).then_some(()))
            })?;
            let id = case.send(json!({ "new": true }))?;
            let before = case.arrivals().len();
            case.tried(&id, 1)?;
            let is_new = |arrival: &Arrival| arrival.json().is_ok_and(|body| body["data"]["new"] == true);
            let at = case.arrivals().iter().position(is_new).context("its arrival")?;
            // Nearly all of the 300 are due, and would come first.
            ensure!(at < before + 60, "{} of the old ones came first", at - before);
            Ok(())
        },
    )
    .answering(|request, _| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let is_new = body["data"]["new"] == true;
        if !is_new {
            // Slow enough that what waits, waits.
            sleep(Duration::from_millis(20));
        }
        Reply::Status(if is_new { 200 } else { 500 })
    }),
    row(
        "given ordering = key, when the first of a key fails, then the next of it waits and other keys do not",
        |hook| hook.set("ordering", "key").set("retry", json!({ "initial": "400ms", "max": "400ms" })),
        |case| {
            let first = case.record(json!({ "key": "a" }))?;
            // It is the one that fails.
            case.arrived(1)?;
            let second = case.record(json!({ "key": "a" }))?;
            let other = case.record(json!({ "key": "b" }))?;
            for id in [&first, &second, &other] {
                case.becomes(id, "delivered")?;
            }
            let came: Vec<String> = case.arrivals().iter().map(|a| a.header("webhook-id").to_owned()).collect();
            let of_key: Vec<&String> = came.iter().filter(|id| **id != other).collect();
            same(of_key, vec![&first, &first, &second])?;
            let at = |id: &String| came.iter().position(|c| c == id);
            ensure!(at(&other) < at(&second), "the other key waited: {came:?}");
            Ok(())
        },
    )
    .answering(|_, n| Reply::Status(if n == 1 { 500 } else { 200 })),
    row(
        "given ordering = key, when the first of a key dies, then it steps aside for the next",
        |hook| hook.set("ordering", "key").set("give_up_on", json!([400])),
        |case| {
            let (first, second) = (case.record(json!({ "key": "a" }))?, case.record(json!({ "key": "a" }))?);
            case.becomes(&second, "delivered")?;
            same(case.delivery(&first)?["state"].clone(), json!("dead"))
        },
    )
    .answering(|_, n| Reply::Status(if n == 1 { 400 } else { 200 })),
    row(
        "given rate_limit = 10/s, when 30 events wait, then no second at the receiver has more than 10",
        |hook| hook.set("rate_limit", "10/s"),
        |case| {
            let events: Vec<Value> =
                (0..30).map(|n| json!({ "type": case.event_type(), "properties": { "n": n } })).collect();
            same(case.client().post("/v1/events", &json!(events))?.status, 202)?;
            let all = case.arrived(30)?;
            let close = all.windows(11).any(|eleven| eleven[10].at - eleven[0].at < Duration::from_secs(1));
            ensure!(!close, "eleven within a second");
            Ok(())
        },
    ),
    row(
        "given a receiver that fails, when it is shown, then its backlog counts what it is owed",
        |hook| hook.set("retry", json!({ "initial": "10s", "max": "10s" })),
        |case| {
            for _ in 0..3 {
                case.send(json!({}))?;
            }
            case.arrived(3)?;
            same(case.shown()?["backlog"].clone(), json!(3))
        },
    )
    .answering(|_, _| Reply::Status(500)),
];

#[test]
fn every_promise_of_isolation_holds() -> Result<()> {
    play(ROWS, Config::default())
}
