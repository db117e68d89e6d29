//! All 66 types are recorded on the example, and reach people and analytics as the model says.

use super::made::{CANARY, Fill, Made};
use super::model::{make, told_types, types};
use super::platform::{Hook, Platform};
use crate::{folder, size};
use anyhow::{Context, Result, ensure};
use posthaste_tests::PrivateNetwork;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Events of every type: one that is whole, one with what it must have, and some as they fall.
fn events(variants: u64) -> Vec<Made> {
    let mut events = Vec::new();
    for (number, event_type) in (0_u64..).zip(types()) {
        events.push(make(&event_type, Fill::Whole, number));
        events.push(make(&event_type, Fill::Least, number));
        for variant in 0..variants {
            events.push(make(&event_type, Fill::AsItFalls, 1_000 * (variant + 1) + number));
        }
    }
    events
}

/// What arrived of some events.
struct Arrived {
    /// Their ids, in their order.
    ids: Vec<String>,
    hooks: Vec<Hook>,
    telemetry: Vec<Value>,
}

fn run(events: &[Made]) -> Result<Arrived> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| {
        let platform = Platform::start(folder.path(), |config| config)?;
        let mut ids = Vec::new();
        for part in events.chunks(50) {
            let posts: Vec<Value> =
                part.iter().map(|e| json!({ "type": e.event_type, "properties": e.posted })).collect();
            let answer = platform.client().post("/v1/events", &Value::Array(posts))?;
            ensure!(answer.status == 202, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
            let recorded = answer.json()?;
            let recorded = recorded["events"].as_array().context("events")?;
            ids.extend(recorded.iter().filter_map(|e| Some(e["id"].as_str()?.to_owned())));
        }
        ensure!(ids.len() == events.len(), "{} ids of {}", ids.len(), events.len());
        platform.settled("everything")?;
        let telemetry = platform.telemetry()?;
        Ok(Arrived { ids, hooks: platform.hooks_of("/everything"), telemetry })
    })
}

/// Numbers as one kind, since 5.0 and 5 are the same in JSON.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

/// Where what arrived differs from what the model says, a line each.
fn differences(events: &[Made], arrived: &Arrived) -> Vec<String> {
    let mut found = Vec::new();
    for (event, id) in events.iter().zip(&arrived.ids) {
        let hooks: Vec<&Hook> = arrived.hooks.iter().filter(|hook| hook.id == *id).collect();
        let told: Vec<Value> = hooks.iter().map(|hook| plain(&hook.body["data"])).collect();
        let wanted: Vec<Value> = event.told.iter().map(plain).collect();
        if told != wanted {
            found.push(format!("{}: people were told {told:?}\n  and not {wanted:?}", event.event_type));
        }
        if hooks.iter().any(|hook| hook.body["type"] != event.event_type.as_str()) {
            found.push(format!("{}: another type arrived", event.event_type));
        }
    }
    // A line has no id of the event, and is not meant to: all of a type are compared as a bag.
    let mut bags: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
    for event in events {
        bags.entry(event.event_type.clone()).or_default()[0].push(plain(&event.telemetry()).to_string());
    }
    for line in &arrived.telemetry {
        let got = json!({
            "event": line["event"],
            "event_properties": line["event_properties"],
            "derived_properties": line["derived_properties"],
        });
        let event_type = line["event"].as_str().unwrap_or_default().to_owned();
        bags.entry(event_type).or_default()[1].push(plain(&got).to_string());
    }
    for (event_type, [mut wanted, mut got]) in bags {
        wanted.sort();
        got.sort();
        if wanted != got {
            let missing = wanted.iter().find(|body| !got.contains(body));
            let more = got.iter().find(|body| !wanted.contains(body));
            let (wanted, got) = (wanted.len(), got.len());
            found.push(format!("{event_type}: {got} left of {wanted};\n  missing {missing:?},\n  more {more:?}"));
        }
    }
    found
}

fn none(found: &[String]) -> Result<()> {
    let first = found.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    ensure!(found.is_empty(), "{} differences:\n{first}", found.len());
    Ok(())
}

#[test]
fn the_model_has_all_types_of_the_original() {
    assert_eq!((told_types().len(), types().len()), (58, 66));
}

#[test]
fn every_type_reaches_people_and_analytics_as_the_model_says() -> Result<()> {
    let events = events(size(3, 40));
    let arrived = run(&events)?;
    none(&differences(&events, &arrived))?;
    // Whatever the model says: nothing that a person chose or that names something has left.
    let left = arrived.telemetry.iter().map(Value::to_string).find(|line| line.contains(CANARY));
    ensure!(left.is_none(), "{left:?}");
    ensure!(arrived.hooks.iter().any(|hook| hook.body.to_string().contains(CANARY)), "there was nothing to find");
    Ok(())
}

#[test]
fn control_a_model_that_is_wrong_in_one_place_is_found() -> Result<()> {
    let events = events(1);
    let arrived = run(&events)?;
    none(&differences(&events, &arrived))?;
    for seed in 0..200_u64 {
        let mut wrong = events.clone();
        let at = usize::try_from(seed)? * 7 % wrong.len();
        let event = &mut wrong[at];
        let (event_type, what) = (event.event_type.clone(), event.spoil(seed));
        ensure!(!differences(&wrong, &arrived).is_empty(), "seed {seed}: {what} of {event_type} may be anything");
    }
    Ok(())
}
