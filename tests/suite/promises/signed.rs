//! What arrives: headers, body and signatures.

use super::stage::{Case, OTHER, Row, play, row, same};
use anyhow::{Context, Result, ensure};
use posthaste_tests::config::SECRET;
use posthaste_tests::{Config, Reply, Request, signature};
use serde_json::json;

pub(super) const ROWS: &[Row] = &[
    row(
        "given a webhook, when an event is recorded, then it arrives once with the three headers of Standard Webhooks",
        |hook| hook,
        |case| {
            let id = case.send(json!({}))?;
            same(case.settled(&id)?["state"].clone(), json!("delivered"))?;
            let all = case.arrivals();
            same(all.len(), 1)?;
            same(all[0].header("webhook-id"), &id)?;
            let seconds: u64 = all[0].header("webhook-timestamp").parse()?;
            ensure!(seconds > 1_700_000_000, "{seconds}");
            ensure!(all[0].header("webhook-signature").starts_with("v1,"), "{:?}", all[0]);
            Ok(())
        },
    ),
    row(
        "given a webhook, when an event arrives, then its body has exactly type, timestamp and data",
        |hook| hook,
        |case| {
            case.send(json!({ "x": 1 }))?;
            let body = case.first()?.json()?;
            let keys: Vec<&String> = body.as_object().context("an object")?.keys().collect();
            ensure!(keys.len() == 3, "{keys:?}");
            same(body["type"].clone(), json!(case.event_type()))?;
            same(body["data"].clone(), json!({ "x": 1 }))?;
            ensure!(body["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{body}");
            Ok(())
        },
    ),
    row(
        "given a secret, when an event arrives, then an independent HMAC of the bytes as they came agrees",
        |hook| hook,
        |case| {
            case.send(json!({ "text": "tab\t \"quoted\" 👋🏽 \u{2028}" }))?;
            ensure!(signature::holds(&case.first()?.request, SECRET), "{:?}", case.first()?);
            Ok(())
        },
    ),
    row(
        "given a signed request, when a byte, the id or the time is changed, then no signature holds",
        |hook| hook,
        |case| {
            case.send(json!({ "x": 1 }))?;
            let good = case.first()?.request;
            let mut body = good.clone();
            body.body[10] ^= 1;
            ensure!(!signature::holds(&body, SECRET), "a changed body");
            for name in ["webhook-id", "webhook-timestamp"] {
                let mut other = good.clone();
                other.headers.iter_mut().filter(|(n, _)| n == name).for_each(|(_, value)| value.push('1'));
                ensure!(!signature::holds(&other, SECRET), "a changed {name}");
            }
            ensure!(!signature::holds(&good, OTHER), "another secret");
            Ok(())
        },
    ),
    row(
        "given two secrets, when an event arrives, then each has signed it, the first one first",
        |hook| hook.set("secrets", json!([OTHER, SECRET])),
        |case| {
            case.send(json!({}))?;
            let request = case.first()?.request;
            let entries: Vec<String> = request.header("webhook-signature").split(' ').map(str::to_owned).collect();
            same(entries.len(), 2)?;
            for (entry, secret) in entries.iter().zip([OTHER, SECRET]) {
                ensure!(signature::holds(&with(&request, "webhook-signature", entry), secret), "{entry}");
            }
            Ok(())
        },
    ),
    row(
        "given a first attempt that failed, when it is tried again, then the id is the same and the attempt counts on",
        |hook| hook,
        |case| {
            let id = case.send(json!({}))?;
            let all = case.arrived(3)?;
            let numbers: Vec<&str> = all.iter().map(|a| a.header("posthaste-attempt")).collect();
            same(numbers, vec!["1", "2", "3"])?;
            ensure!(all.iter().all(|a| a.header("webhook-id") == id), "{all:?}");
            Ok(())
        },
    )
    .answering(|_, n| Reply::Status(if n < 3 { 500 } else { 200 })),
    row(
        "given a retry more than a second later, when it arrives, then its timestamp is its own and is signed",
        |hook| hook.set("retry", json!({ "initial": "1200ms", "max": "1200ms", "jitter": 0.0 })),
        |case| {
            case.send(json!({}))?;
            let all = case.arrived(2)?;
            let times: Vec<u64> =
                all.iter().map(|a| a.header("webhook-timestamp").parse()).collect::<Result<_, _>>()?;
            ensure!(times[1] > times[0], "{times:?}");
            ensure!(all.iter().all(|a| signature::holds(&a.request, SECRET)), "{all:?}");
            Ok(())
        },
    )
    .answering(|_, n| Reply::Status(if n == 1 { 500 } else { 200 })),
    row(
        "given a retry, when it arrives, then its body is the same to the byte",
        |hook| hook,
        |case| {
            case.send(json!({ "ä": [1.5, "x"], "z": null, "a": 1e300 }))?;
            let all = case.arrived(2)?;
            same(&all[0].request.body, &all[1].request.body)
        },
    )
    .answering(|_, n| Reply::Status(if n == 1 { 500 } else { 200 })),
    row(
        "given two subscriptions of one event, when it arrives at both, then under the same webhook-id and body",
        |hook| hook,
        |case| {
            let id = case.send(json!({ "x": 2 }))?;
            let (one, other) = (case.name.clone(), format!("{}-b", case.name));
            posthaste_tests::until("both", std::time::Duration::from_secs(10), || {
                Ok((!case.arrivals_of(&one).is_empty() && !case.arrivals_of(&other).is_empty()).then_some(()))
            })?;
            let (first, second) = (&case.arrivals_of(&one)[0], &case.arrivals_of(&other)[0]);
            same((first.header("webhook-id"), second.header("webhook-id")), (&id, &id))?;
            same(&first.request.body, &second.request.body)
        },
    )
    .beside(|hook| hook),
    row(
        "given a webhook, when an event arrives, then content-type and user-agent say what and who",
        |hook| hook,
        |case| {
            case.send(json!({}))?;
            let first = case.first()?;
            same(first.header("content-type"), "application/json")?;
            ensure!(first.header("user-agent").starts_with("Posthaste/"), "{:?}", first.header("user-agent"));
            Ok(())
        },
    ),
    row(
        "given two events, when they arrive, then posthaste-sequence is what the API says and grows",
        |hook| hook,
        |case| {
            let ids = [case.send(json!({}))?, case.send(json!({}))?];
            let all = case.arrived(2)?;
            let mut before = 0;
            for id in ids {
                let shown = case.client().get(&format!("/v1/events/{id}"))?["sequence"].as_u64().context("a number")?;
                let arrival = all.iter().find(|a| a.header("webhook-id") == id).context("arrived")?;
                same(arrival.header("posthaste-sequence").parse::<u64>()?, shown)?;
                ensure!(shown > before, "{shown} after {before}");
                before = shown;
            }
            Ok(())
        },
    ),
    row(
        "given numbers with more digits than a float has, when they arrive, then every digit is there",
        |hook| hook,
        |case| {
            let text = format!(
                r#"{{"type":"{}","properties":{{"big":123456789012345678901234567890,"exact":1.10,"e":1E5}}}}"#,
                case.event_type()
            );
            let json = [("content-type", "application/json")];
            same(case.client().send("POST", "/v1/events", &json, text.as_bytes())?.status, 202)?;
            let body = String::from_utf8(case.first()?.request.body)?;
            ensure!(body.contains(r#"{"big":123456789012345678901234567890,"exact":1.10,"e":1E5}"#), "{body}");
            Ok(())
        },
    ),
    row(
        "given an event with occurred_at, when it arrives, then its timestamp is that moment",
        |hook| hook,
        |case| {
            case.record(json!({ "occurred_at": "2020-02-29T12:34:56Z" }))?;
            let body = case.first()?.json()?;
            ensure!(body["timestamp"].as_str().is_some_and(|t| t.starts_with("2020-02-29T12:34:56")), "{body}");
            Ok(())
        },
    ),
    row(
        "given an event without occurred_at, when it arrives, then its timestamp is when it was recorded",
        |hook| hook,
        |case| {
            let id = case.send(json!({}))?;
            let shown = case.client().get(&format!("/v1/events/{id}"))?;
            same(case.first()?.json()?["timestamp"].clone(), shown["recorded_at"].clone())
        },
    ),
    row(
        "given headers of one's own, when an event arrives, then they are there beside ours",
        |hook| hook.set("headers", json!({ "x-env": "prod", "authorization": "Bearer abc" })),
        |case| {
            case.send(json!({}))?;
            let first = case.first()?;
            same((first.header("x-env"), first.header("authorization")), ("prod", "Bearer abc"))?;
            let names = |name: &str| first.request.headers.iter().filter(|(n, _)| n == name).count();
            ensure!(["webhook-id", "webhook-signature", "content-type", "host"].iter().all(|n| names(n) == 1));
            Ok(())
        },
    ),
    row(
        "given headers of one's own, when the subscription is shown, then their values and its secrets are not",
        |hook| hook.set("headers", json!({ "x-key": "hidden-value" })),
        |case| {
            let shown = case.shown()?;
            ensure!(shown["headers"]["x-key"].is_string() && shown.get("secrets").is_none(), "{shown}");
            let text = shown.to_string();
            ensure!(!text.contains("hidden-value") && !text.contains("whsec_"), "{text}");
            Ok(())
        },
    ),
    row(
        "given a URL with a path and a query, when the subscription is shown, then only its origin is",
        |hook| hook,
        |case| {
            let shown = case.shown()?;
            same(shown["url"].clone(), json!(format!("http://{}", case.receiver.address())))?;
            let whole = case.client().get(&format!("/v1/subscriptions/{}?reveal=url", case.name))?;
            same(whole["url"].clone(), json!(case.receiver.url(&format!("/{}", case.name))))
        },
    ),
    row(
        "given ids of events, when they are signed, then none has a dot that could move what is signed",
        |hook| hook,
        |case| {
            case.send(json!({}))?;
            let first = case.first()?;
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            ensure!(first.header("webhook-id").starts_with("evt_") && first.header("webhook-id").chars().all(plain));
            Ok(())
        },
    ),
    row(
        "given a payload of 200 KiB, when it is recorded, then it arrives whole and signed",
        |hook| hook,
        |case| {
            let long = "ж".repeat(100 * 1024);
            case.send(json!({ "long": long }))?;
            let first = case.first()?;
            same(first.json()?["data"]["long"].as_str(), Some(long.as_str()))?;
            ensure!(signature::holds(&first.request, SECRET));
            Ok(())
        },
    ),
    row(
        "given a webhook, when it is tested, then a real signed posthaste:test arrives and the attempt is the answer",
        |hook| hook,
        |case| {
            let answer = case.granted("test")?;
            let first = case.first()?;
            same(first.json()?["type"].clone(), json!("posthaste:test"))?;
            ensure!(signature::holds(&first.request, SECRET));
            same((answer["outcome"].clone(), answer["status"].clone()), (json!("delivered"), json!(204)))
        },
    ),
];

/// The request with another value of a header.
fn with(request: &Request, name: &str, value: &str) -> Request {
    let mut changed = request.clone();
    changed.headers.iter_mut().filter(|(n, _)| n == name).for_each(|(_, v)| value.clone_into(v));
    changed
}

#[test]
fn every_promise_of_what_arrives_holds() -> Result<()> {
    play(ROWS, Config::default())
}

#[test]
fn control_a_promise_that_is_not_kept_is_named() -> Result<()> {
    const WRONG: &[Row] = &[row(
        "given a webhook, when an event arrives, then another secret signed it",
        |hook| hook,
        |case: &Case<'_>| {
            case.send(json!({}))?;
            ensure!(signature::holds(&case.first()?.request, OTHER), "the signature is of another secret");
            Ok(())
        },
    )];
    let told = play(WRONG, Config::default()).err().context("it was kept")?.to_string();
    ensure!(told.contains(WRONG[0].name) && told.contains("of another secret"), "{told}");
    Ok(())
}
