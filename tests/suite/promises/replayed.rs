//! Replays: what is recorded already is delivered once more, exactly once each.

use super::stage::{Case, Row, play, row, same};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Reply, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Asks for a replay; answers its id.
fn replay(case: &Case<'_>, name: &str, what: &Value) -> Result<String> {
    let answer = case.client().post(&format!("/v1/subscriptions/{name}/replay"), what)?;
    ensure!(answer.status == 202, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(answer.json()?["id"].as_str().context("an id")?.to_owned())
}

/// Waits until a replay is done; answers it.
fn done(case: &Case<'_>, id: &str) -> Result<Value> {
    until("the end of a replay", PATIENCE, || {
        Ok(Some(case.client().get(&format!("/v1/replays/{id}"))?).filter(|r| r["state"] == "done"))
    })
    .with_context(|| format!("{:?}", case.client().get(&format!("/v1/replays/{id}"))))
}

/// Records so many events at once; answers their ids.
fn record(case: &Case<'_>, count: usize) -> Result<BTreeSet<String>> {
    let events: Vec<Value> =
        (0..count).map(|n| json!({ "type": case.event_type(), "properties": { "n": n } })).collect();
    let mut ids = BTreeSet::new();
    for part in events.chunks(500) {
        let answer = case.client().post("/v1/events", &json!(part))?.json()?;
        ids.extend(
            answer["events"].as_array().into_iter().flatten().filter_map(|e| e["id"].as_str()).map(str::to_owned),
        );
    }
    same(ids.len(), count)?;
    Ok(ids)
}

/// How often each event arrived at a path.
fn times(case: &Case<'_>, path: &str) -> BTreeMap<String, u64> {
    case.arrivals_of(path).iter().fold(BTreeMap::new(), |mut all, arrival| {
        *all.entry(arrival.header("webhook-id").to_owned()).or_default() += 1;
        all
    })
}

/// Waits until each of these has arrived so often, and not more.
fn arrived(case: &Case<'_>, path: &str, ids: &BTreeSet<String>, often: u64) -> Result<()> {
    let enough = || ids.iter().all(|id| times(case, path).get(id).copied().unwrap_or(0) >= often);
    until(&format!("each {often} times at {path}"), PATIENCE, || Ok(enough().then_some(())))?;
    let wrong: Vec<_> = times(case, path).into_iter().filter(|(id, n)| ids.contains(id) && *n != often).collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

pub(super) const ROWS: &[Row] = &[
    row(
        "given delivered events over several pages, when they are replayed, then each arrives once more under its id",
        |hook| hook,
        |case| {
            let ids = record(case, 700)?;
            arrived(case, &case.name, &ids, 1)?;
            let id = replay(case, &case.name, &json!({ "state": "delivered" }))?;
            same(done(case, &id)?["replayed"].clone(), json!(700))?;
            arrived(case, &case.name, &ids, 2)
        },
    ),
    row(
        "given dead deliveries, when the dead are replayed, then they arrive and what was delivered does not",
        |hook| hook.set("retry", json!({ "attempts": 1 })),
        |case| {
            let (dead, fine) = (case.send(json!({ "bad": true }))?, case.send(json!({}))?);
            case.becomes(&dead, "dead")?;
            case.becomes(&fine, "delivered")?;
            let id = replay(case, &case.name, &json!({ "state": "dead" }))?;
            same(done(case, &id)?["replayed"].clone(), json!(1))?;
            let delivery = case.becomes(&dead, "delivered")?;
            same(delivery["attempt_count"].clone(), json!(2))?;
            arrived(case, &case.name, &BTreeSet::from([fine]), 1)
        },
    )
    .answering(|request, _| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let first = request.header("posthaste-attempt") == "1";
        Reply::Status(if body["data"]["bad"] == true && first { 500 } else { 200 })
    }),
    row(
        "given a new subscription, when the past is replayed to it, then it gets what it selects and was never owed",
        |hook| hook,
        |case| {
            let ids = record(case, 20)?;
            arrived(case, &case.name, &ids, 1)?;
            let name = format!("{}-api", case.name);
            let url = case.receiver.url(&format!("/{name}"));
            let body = json!({ "name": name, "deliveree": "webhook", "events": [case.event_type()], "url": url });
            same(case.client().post("/v1/subscriptions", &body)?.status, 201)?;
            let id = replay(case, &name, &json!({}))?;
            same(done(case, &id)?["replayed"].clone(), json!(20))?;
            arrived(case, &name, &ids, 1)?;
            // The others of the event are left alone.
            arrived(case, &case.name, &ids, 1)
        },
    ),
    row(
        "given a span of time and a type, when it is replayed, then only what lies in it comes",
        |hook| hook.set("events", json!([format!("promise:*"), "span:*"])),
        |case| {
            let post = |kind: &str| -> Result<(String, String)> {
                let id = case.client().post("/v1/events", &json!({ "type": kind }))?.json()?["id"]
                    .as_str()
                    .context("an id")?
                    .to_owned();
                let at = case.client().get(&format!("/v1/events/{id}"))?["recorded_at"]
                    .as_str()
                    .context("a time")?
                    .to_owned();
                Ok((id, at))
            };
            let (before, _) = post("span:one")?;
            std::thread::sleep(Duration::from_millis(20));
            let (wanted, since) = post("span:one")?;
            let (other, _) = post("span:two")?;
            std::thread::sleep(Duration::from_millis(20));
            let (_, until) = post("span:one")?;
            let all = BTreeSet::from([before.clone(), wanted.clone(), other.clone()]);
            arrived(case, &case.name, &all, 1)?;
            let id = replay(case, &case.name, &json!({ "since": since, "until": until, "type": "span:one" }))?;
            same(done(case, &id)?["replayed"].clone(), json!(1))?;
            arrived(case, &case.name, &BTreeSet::from([wanted]), 2)?;
            arrived(case, &case.name, &BTreeSet::from([before, other]), 1)
        },
    ),
    row(
        "given a replay of what is owed anyway, when it is asked for, then that is a 422 at /state",
        |hook| hook,
        |case| {
            for state in ["pending", "held", "lost"] {
                let path = format!("/v1/subscriptions/{}/replay", case.name);
                let answer = case.client().post(&path, &json!({ "state": state }))?;
                same((answer.status, answer.json()?["errors"][0]["pointer"].clone()), (422, json!("/state")))?;
            }
            Ok(())
        },
    ),
    row(
        "given a paused subscription, when its past is replayed and the replay is cancelled, then nothing more of it comes",
        |hook| hook,
        |case| {
            let ids = record(case, 3)?;
            arrived(case, &case.name, &ids, 1)?;
            case.granted("pause")?;
            let id = replay(case, &case.name, &json!({ "state": "delivered" }))?;
            let answer = case.client().post(&format!("/v1/replays/{id}/cancel"), &json!({}))?;
            ensure!(matches!(answer.status, 200 | 409), "{}", answer.status);
            let listed = case.client().get("/v1/replays")?;
            let ours =
                listed["data"].as_array().into_iter().flatten().find(|r| r["id"] == id.as_str()).context("listed")?;
            ensure!(ours["state"] != "running", "{ours}");
            arrived(case, &case.name, &ids, 1)
        },
    ),
    row(
        "given a replay under way, when the daemon is killed and started, then each arrives exactly once more",
        |hook| hook.set("concurrency", 4),
        |case| {
            let ids = record(case, 600)?;
            arrived(case, &case.name, &ids, 1)?;
            case.keep(replay(case, &case.name, &json!({ "state": "delivered" }))?);
            Ok(())
        },
    )
    .after(|case| {
        same(done(case, &case.kept())?["replayed"].clone(), json!(600))?;
        until("all again", PATIENCE, || Ok((times(case, &case.name).values().all(|n| *n >= 2)).then_some(())))?;
        // What was in flight at the kill may come again, as after any crash; it is at most what may be under way.
        let more = times(case, &case.name).values().filter(|n| **n > 2).count();
        ensure!(more <= 4, "{more} came more than once more");
        Ok(())
    }),
];

#[test]
fn every_promise_of_replays_holds() -> Result<()> {
    play(ROWS, Config::default())
}
