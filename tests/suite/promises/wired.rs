//! The wire: TLS, HTTP/2, connections that are kept, and what an attempt tells of it.

use super::stage::{Case, Over, Row, play, row, same};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Reply};
use serde_json::{Value, json};

/// The first attempt at an event.
fn attempt(case: &Case<'_>) -> Result<Value> {
    Ok(case.outcome()?["attempts"][0].clone())
}

/// Refused for its certificate; the attempt says so in these words.
fn refused(case: &Case<'_>, words: &[&str]) -> Result<()> {
    let attempt = attempt(case)?;
    let error = attempt["error"].as_str().context("an error")?;
    ensure!(attempt["error_class"] == "tls" && error.starts_with("tls: "), "{attempt}");
    ensure!(words.iter().any(|word| error.contains(word)), "{error:?} says none of {words:?}");
    ensure!(case.arrivals().is_empty(), "something was sent all the same");
    Ok(())
}

/// Which phases an attempt has.
fn phases(attempt: &Value) -> Vec<String> {
    attempt["phases_ms"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

const ONCE: fn(posthaste_tests::Subscription) -> posthaste_tests::Subscription =
    |hook| hook.set("retry", json!({ "attempts": 1 }));

pub(super) const ROWS: &[Row] = &[
    row(
        "given a receiver over TLS that speaks HTTP/2, when an event is delivered, then it goes over HTTP/2",
        ONCE,
        |case| {
            let id = case.send(json!({ "x": 1 }))?;
            case.becomes(&id, "delivered")?;
            same(case.first()?.header("webhook-id"), id.as_str())?;
            let spoken = case.world.secure(Over::Http2)?.connections();
            ensure!(spoken.iter().any(|c| c.protocol == "h2" && c.requests > 0), "{spoken:?}");
            Ok(())
        },
    )
    .over(Over::Http2),
    row(
        "given a receiver over TLS that speaks HTTP/1.1 alone, when an event is delivered, then it goes over HTTP/1.1",
        ONCE,
        |case| {
            same(case.outcome()?["state"].clone(), json!("delivered"))?;
            let spoken = case.world.secure(Over::Http1)?.connections();
            ensure!(spoken.iter().all(|c| c.protocol != "h2") && !spoken.is_empty(), "{spoken:?}");
            Ok(())
        },
    )
    .over(Over::Http1),
    row(
        "given a certificate whose time is over, when it is dialled, then it is refused and the attempt says so",
        ONCE,
        |case| refused(case, &["expired"]),
    )
    .over(Over::Expired),
    row(
        "given a certificate that signed itself, when it is dialled, then it is refused and the attempt says so",
        ONCE,
        |case| refused(case, &["self-signed", "signed itself", "unknown"]),
    )
    .over(Over::SelfSigned),
    row(
        "given a certificate of another host, when it is dialled, then it is refused and the attempt says so",
        ONCE,
        |case| refused(case, &["elsewhere.example.com", "name", "host"]),
    )
    .over(Over::WrongHost),
    row(
        "given a certificate of an unknown authority, when it is dialled, then it is refused and the attempt says so",
        ONCE,
        |case| refused(case, &["authority", "issuer", "unknown"]),
    )
    .over(Over::UnknownAuthority),
    row(
        "given an attempt over TLS, when it is looked at, then it has the address and the time of each phase",
        ONCE,
        |case| {
            let attempt = attempt(case)?;
            let port = case.world.secure(Over::Http1)?.address().port();
            same(attempt["address"].clone(), json!(format!("127.0.0.1:{port}")))?;
            let phases = phases(&attempt);
            // The host is an address, so there was nothing to look up; another row may have opened the connection.
            ensure!(!phases.contains(&"dns".to_owned()) && phases.contains(&"first_byte".to_owned()), "{attempt}");
            ensure!(attempt["phases_ms"]["total"].as_f64().is_some_and(|ms| ms > 0.0), "{attempt}");
            Ok(())
        },
    )
    .over(Over::Http1),
    row(
        "given a connection that is kept, when the next event goes, then it neither connects nor shakes hands again",
        |hook| hook.set("concurrency", 1),
        |case| {
            let first = attempt(case)?;
            ensure!(phases(&first).contains(&"connect".to_owned()), "{first}");
            let second = attempt(case)?;
            ensure!(!phases(&second).contains(&"connect".to_owned()), "{second}");
            Ok(())
        },
    )
    .answering(|_, _| Reply::Status(200)),
    row("given a failure, when it is looked at, then its class is one word", ONCE, |case| {
        same(attempt(case)?["error_class"].clone(), json!("status"))
    })
    .answering(|_, _| Reply::Status(500)),
    row("given an answer that is no text, when it is looked at, then its bytes are there as base64", ONCE, |case| {
        let attempt = attempt(case)?;
        same((attempt["answer"].clone(), attempt["answer_base64"].clone()), (Value::Null, json!("/wD+QQ==")))
    })
    .answering(|_, _| Reply::Full(500, Vec::new(), vec![0xff, 0, 0xfe, b'A'])),
    row(
        "given a delivered attempt with its phases, when the daemon is killed and started, then they are still there",
        ONCE,
        |case| {
            let id = case.send(json!({}))?;
            case.keep(json!({ "id": id, "was": case.becomes(&id, "delivered")? }).to_string());
            Ok(())
        },
    )
    .after(|case| {
        let kept: Value = serde_json::from_str(&case.kept())?;
        let now = case.delivery(kept["id"].as_str().context("an id")?)?;
        ensure!(now["attempts"][0]["phases_ms"]["total"].is_number(), "{now}");
        same(now["attempts"][0].clone(), kept["was"]["attempts"][0].clone())
    }),
    row(
        "given a receiver over HTTP/2, when a hundred events go, then they share a few connections",
        |hook| hook,
        |case| {
            let events: Vec<Value> =
                (0..100).map(|n| json!({ "type": case.event_type(), "properties": { "n": n } })).collect();
            same(case.client().post("/v1/events", &json!(events))?.status, 202)?;
            case.arrived(100)?;
            let spoken = case.world.secure(Over::Http2)?.connections();
            ensure!(spoken.len() <= 8, "{} connections", spoken.len());
            Ok(())
        },
    )
    .over(Over::Http2),
];

#[test]
fn every_promise_of_the_wire_holds() -> Result<()> {
    play(ROWS, Config::default())
}
