//! The formats: what arrives in each, signed over its bytes and the same at every attempt.

use super::stage::{Arrival, Case, Row, play, row, same};
use anyhow::{Context, Result, ensure};
use hmac::{Hmac, Mac as _};
use posthaste_tests::config::SECRET;
use posthaste_tests::{Config, Reply, signature};
use serde_json::{Value, json};
use sha2::Sha256;

const FAIL_ONCE: fn(&posthaste_tests::Request, u64) -> Reply = |_, n| Reply::Status(if n == 1 { 500 } else { 200 });

/// What arrives at two attempts, which must be the same to the byte.
fn twice(case: &Case<'_>, event: Value) -> Result<(String, Arrival)> {
    let id = case.record(event)?;
    let all = case.arrived(2)?;
    same(&all[0].request.body, &all[1].request.body)?;
    same(all[0].header("content-type"), all[1].header("content-type"))?;
    Ok((id, all[1].clone()))
}

/// A text of a message whose data try to call everybody, to look like a link and to be too long.
fn nuisance() -> Value {
    let many: Vec<String> = (0..400).map(|n| format!("line {n} of many that make it long")).collect();
    let facts: serde_json::Map<String, Value> = (0..300).map(|n| (format!("k{n}"), json!("x".repeat(300)))).collect();
    json!({ "properties": { "who": "<!channel> @everyone <@1> [a](http://b)", "many": many, "facts": facts } })
}

pub(super) const ROWS: &[Row] = &[
    row(
        "given format = cloudevents, when an event arrives, then its body is a CloudEvent and is signed",
        |hook| hook.set("format", "cloudevents").set("source", "https://shop.example.com/events"),
        |case| {
            let (id, arrival) = twice(case, json!({ "key": "k-1", "properties": { "n": 1.50 } }))?;
            let body = arrival.json()?;
            ensure!(arrival.header("content-type").starts_with("application/cloudevents+json"), "{arrival:?}");
            same((body["specversion"].clone(), body["id"].clone()), (json!("1.0"), json!(id)))?;
            same((body["type"].clone(), body["subject"].clone()), (json!(case.event_type()), json!("k-1")))?;
            same((body["source"].clone(), body["data"].clone()), (json!("https://shop.example.com/events"), json!({ "n": 1.5 })))?;
            ensure!(signature::holds(&arrival.request, SECRET));
            Ok(())
        },
    )
    .answering(FAIL_ONCE),
    row(
        "given cloudevents in binary mode, when an event arrives, then its attributes are headers and its body the data",
        |hook| hook.set("format", "cloudevents").set("mode", "binary"),
        |case| {
            let (id, arrival) = twice(case, json!({ "properties": { "n": 1 } }))?;
            same((arrival.header("ce-specversion"), arrival.header("ce-id")), ("1.0", id.as_str()))?;
            same(arrival.header("ce-type"), case.event_type().as_str())?;
            ensure!(!arrival.header("ce-source").is_empty() && !arrival.header("ce-time").is_empty(), "{arrival:?}");
            same(arrival.json()?, json!({ "n": 1 }))?;
            ensure!(signature::holds(&arrival.request, SECRET));
            Ok(())
        },
    )
    .answering(FAIL_ONCE),
    row(
        "given format = orchest, when an event arrives, then envelope, headers and signature are those of the original",
        |hook| hook.set("format", "orchest"),
        |case| {
            let (_, arrival) = twice(case, json!({ "properties": { "project": { "uuid": "P" } } }))?;
            let body = arrival.json()?;
            same(body["event"]["project"]["uuid"].clone(), json!("P"))?;
            same(body["event"]["type"].clone(), json!(case.event_type()))?;
            ensure!(body["event"]["uuid"].is_string() && body["event"]["timestamp"].is_string(), "{body}");
            same(body["delivered_for"]["name"].clone(), json!(case.name))?;
            same(arrival.header("x-orchest-event"), case.event_type().as_str())?;
            ensure!(!arrival.header("x-orchest-delivery").is_empty(), "{arrival:?}");
            let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
            mac.update(&arrival.request.body);
            let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
            same(arrival.header("x-hub-signature"), hex.as_str())
        },
    )
    .answering(FAIL_ONCE),
    row(
        "given format = orchest as a form, when an event arrives, then its two fields are JSON texts",
        |hook| hook.set("format", "orchest").set("content_type", "form"),
        |case| {
            let (_, arrival) = twice(case, json!({ "properties": { "a": 1 } }))?;
            ensure!(arrival.header("content-type").starts_with("application/x-www-form-urlencoded"), "{arrival:?}");
            let text = String::from_utf8(arrival.request.body)?;
            let names: Vec<&str> = text.split('&').filter_map(|pair| pair.split('=').next()).collect();
            same(names, vec!["delivered_for", "event"])
        },
    )
    .answering(FAIL_ONCE),
    row(
        "given format = slack, when a long event full of mentions arrives, then its text is short and calls nobody",
        |hook| hook.set("format", "slack"),
        |case| {
            let (_, arrival) = twice(case, nuisance())?;
            let body = arrival.json()?;
            let text = body["text"].as_str().context("a text")?;
            ensure!(text.contains(&case.event_type()) && text.chars().count() <= 4_000, "{} characters", text.chars().count());
            ensure!(!text.contains("<!channel>") && !text.contains("<@1>"), "{text}");
            Ok(())
        },
    )
    .answering(FAIL_ONCE),
    row(
        "given format = discord, when a long event full of mentions arrives, then its content is at most 2,000 and calls nobody",
        |hook| hook.set("format", "discord"),
        |case| {
            let (_, arrival) = twice(case, nuisance())?;
            let body = arrival.json()?;
            let text = body["content"].as_str().context("a content")?;
            ensure!((1..=2_000).contains(&text.encode_utf16().count()), "{} units", text.encode_utf16().count());
            same(body["allowed_mentions"]["parse"].clone(), json!([]))
        },
    )
    .answering(FAIL_ONCE),
    row(
        "given format = teams, when a long event arrives, then it is a message with one adaptive card of bounded size",
        |hook| hook.set("format", "teams"),
        |case| {
            let (_, arrival) = twice(case, nuisance())?;
            let body = arrival.json()?;
            same(body["type"].clone(), json!("message"))?;
            same(body["attachments"][0]["contentType"].clone(), json!("application/vnd.microsoft.card.adaptive"))?;
            ensure!(arrival.request.body.len() <= 28 * 1024, "{} bytes", arrival.request.body.len());
            Ok(())
        },
    )
    .answering(FAIL_ONCE),
    row(
        "given a format for chats, when it has no secret, then it is sent without a signature",
        |hook| hook.set("format", "slack").without("secrets"),
        |case| {
            case.send(json!({ "x": 1 }))?;
            same(case.first()?.header("webhook-signature"), "")
        },
    ),
    row(
        "given any other format, when it is sent, then id, attempt and sequence are headers as ever",
        |hook| hook.set("format", "discord"),
        |case| {
            let (id, arrival) = twice(case, json!({}))?;
            same((arrival.header("webhook-id"), arrival.header("posthaste-attempt")), (id.as_str(), "2"))?;
            ensure!(!arrival.header("posthaste-sequence").is_empty());
            Ok(())
        },
    )
    .answering(FAIL_ONCE),
];

#[test]
fn every_promise_of_the_formats_holds() -> Result<()> {
    play(ROWS, Config::default())
}
