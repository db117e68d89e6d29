//! Tenants: a token that is bound to one makes, sees and changes what is its own, and nothing else.

use super::stage::{Case, Row, play_as, row, same};
use anyhow::{Result, ensure};
use posthaste_tests::{Answer, Client, Config, until};
use serde_json::{Value, json};
use std::time::Duration;

const ADMIN: &str = "admin-token-of-a-test";
const ACME: &str = "acme-token-of-a-test-1";
const OTHER: &str = "other-token-of-a-test-2";
const READER: &str = "reader-token-of-a-test-3";

fn as_token(case: &Case<'_>, token: &str) -> Client {
    let mut client = case.daemon.client();
    client.token = Some(token.to_owned());
    client
}

fn wanted(case: &Case<'_>, more: &Value) -> Value {
    let name = format!("{}-api", case.name);
    let mut body = json!({ "name": name, "deliveree": "webhook", "url": case.receiver.url(&format!("/{name}")) });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

fn made(case: &Case<'_>, token: &str, more: &Value) -> Result<Answer> {
    as_token(case, token).post("/v1/subscriptions", &wanted(case, more))
}

pub(super) const ROWS: &[Row] = &[
    row(
        "given a token of a tenant, when it makes a subscription, then that is the tenant's and gets its events alone",
        |hook| hook,
        |case| {
            let answer = made(case, ACME, &json!({ "events": [case.event_type()] }))?;
            same((answer.status, answer.json()?["tenant"].clone()), (201, json!("acme")))?;
            let ours = as_token(case, ACME).post("/v1/events", &json!({ "type": case.event_type() }))?.json()?;
            as_token(case, OTHER).post("/v1/events", &json!({ "type": case.event_type() }))?;
            as_token(case, ADMIN).post("/v1/events", &json!({ "type": case.event_type() }))?;
            // The row's own subscription sees all three, so all have gone by then.
            case.arrived(3)?;
            let name = format!("{}-api", case.name);
            let came = until("its event", Duration::from_secs(10), || {
                Ok(Some(case.arrivals_of(&name)).filter(|all| !all.is_empty()))
            })?;
            same(came.len(), 1)?;
            same(Some(came[0].header("webhook-id")), ours["id"].as_str())
        },
    ),
    row(
        "given a token of a tenant, when it names another one, then that is a 403",
        |hook| hook,
        |case| same(made(case, ACME, &json!({ "tenant": "other" }))?.status, 403),
    ),
    row(
        "given a subscription of one tenant, when another one's token asks for it, then it is not there",
        |hook| hook,
        |case| {
            same(made(case, ACME, &json!({}))?.status, 201)?;
            let path = format!("/v1/subscriptions/{}-api", case.name);
            let mut other = as_token(case, OTHER);
            same(other.send("GET", &path, &[], b"")?.status, 404)?;
            same(other.send("DELETE", &path, &[], b"")?.status, 404)?;
            let merge = [("content-type", "application/merge-patch+json")];
            same(other.send("PATCH", &path, &merge, b"{\"concurrency\":1}")?.status, 404)?;
            for what in ["test", "pause", "resume", "rotate-secret", "replay"] {
                same((what, other.post(&format!("{path}/{what}"), &json!({}))?.status), (what, 404))?;
            }
            let listed = other.get("/v1/subscriptions?limit=1000")?.to_string();
            ensure!(!listed.contains(&format!("{}-api", case.name)), "{listed}");
            same(as_token(case, ACME).send("GET", &path, &[], b"")?.status, 200)
        },
    ),
    row(
        "given a token that may only read, when it makes or changes a subscription, then that is a 403",
        |hook| hook,
        |case| {
            same(made(case, READER, &json!({}))?.status, 403)?;
            same(made(case, ADMIN, &json!({}))?.status, 201)?;
            let path = format!("/v1/subscriptions/{}-api", case.name);
            let mut reader = as_token(case, READER);
            same(reader.send("DELETE", &path, &[], b"")?.status, 403)?;
            same(reader.post(&format!("{path}/rotate-secret"), &json!({}))?.status, 403)?;
            same(reader.send("GET", &format!("{path}?reveal=url"), &[], b"")?.status, 403)
        },
    ),
    row(
        "given no token or a wrong one, when a subscription is made, then that is a 401",
        |hook| hook,
        |case| {
            same(case.daemon.client().post("/v1/subscriptions", &wanted(case, &json!({})))?.status, 401)?;
            same(made(case, "a-token-that-nobody-has", &json!({}))?.status, 401)
        },
    ),
];

#[test]
fn every_promise_of_tenants_holds() -> Result<()> {
    let all = json!(["record", "read", "manage"]);
    let tokens = json!([
        { "name": "ops", "token": ADMIN, "scopes": ["admin"] },
        { "name": "acme", "token": ACME, "scopes": all, "tenant": "acme" },
        { "name": "other", "token": OTHER, "scopes": all, "tenant": "other" },
        { "name": "reader", "token": READER, "scopes": ["read"] },
    ]);
    play_as(ROWS, Config::default().set("daemon", "tokens", tokens), Some(ADMIN))
}
