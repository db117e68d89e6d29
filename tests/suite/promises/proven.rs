//! The other ways to sign, secrets that end by themselves, and who calls.

use super::stage::{Case, OTHER, Row, play, row, same};
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use posthaste_tests::config::SECRET;
use posthaste_tests::{Config, Request, signature};
use serde_json::json;
use sha2::Sha256;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// A text that receivers of other senders have as their secret.
const TEXT: &str = "it's a secret to everybody";

/// How long a secret that ends still signs, from when the config is written.
const GRACE: u64 = 4;

/// The moment so many seconds from now, as RFC 3339.
fn in_seconds(seconds: u64) -> String {
    let done = Command::new("date").args(["-u", "-d", &format!("+{seconds} seconds"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned()).unwrap_or_default()
}

/// The HMAC of the body under a text, in hex.
fn hex_of(request: &Request, text: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(text.as_bytes())?;
    mac.update(&request.body);
    Ok(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn arrived(case: &Case<'_>) -> Result<Request> {
    case.send(json!({ "text": "ünï \u{2028} \"x\"" }))?;
    Ok(case.first()?.request)
}

/// The request with the headers of another sender's names under ours.
fn renamed(request: &Request, prefix: &str) -> Request {
    let mut other = request.clone();
    other.headers.retain(|(name, _)| !name.starts_with("webhook-"));
    for (name, _) in &mut other.headers {
        if let Some(rest) = name.strip_prefix(prefix) {
            *name = format!("webhook-{rest}");
        }
    }
    other
}

pub(super) const ROWS: &[Row] = &[
    row(
        "given a secret with an end, when it comes, then it stops to sign by itself and the other goes on",
        |hook| hook.set("secrets", json!([OTHER, { "secret": SECRET, "until": in_seconds(GRACE) }])),
        |case| {
            case.send(json!({}))?;
            let early = case.first()?.request;
            ensure!(signature::holds(&early, OTHER) && signature::holds(&early, SECRET), "{early:?}");
            sleep(Duration::from_secs(GRACE));
            case.send(json!({}))?;
            let late = case.arrived(2)?[1].request.clone();
            ensure!(signature::holds(&late, OTHER) && !signature::holds(&late, SECRET), "{late:?}");
            Ok(())
        },
    ),
    row(
        "given a secret whose end is past, when an event arrives, then only the others signed it",
        |hook| hook.set("secrets", json!([{ "secret": SECRET, "until": "2020-01-01T00:00:00Z" }, OTHER])),
        |case| {
            let request = arrived(case)?;
            ensure!(signature::holds(&request, OTHER) && !signature::holds(&request, SECRET), "{request:?}");
            same(request.header("webhook-signature").split(' ').count(), 1)
        },
    ),
    row(
        "given signature = github, when an event arrives, then an independent HMAC of its body is its x-hub-signature-256",
        |hook| hook.set("signature", "github").set("secrets", json!([TEXT])),
        |case| {
            let request = arrived(case)?;
            same(request.header("x-hub-signature-256"), &format!("sha256={}", hex_of(&request, TEXT)?))?;
            same(request.header("webhook-signature"), "")
        },
    ),
    row(
        "given signature = orchest, when an event arrives, then its x-hub-signature is the bare hex of the HMAC",
        |hook| hook.set("signature", "orchest").set("secrets", json!([TEXT])),
        |case| {
            let request = arrived(case)?;
            same(request.header("x-hub-signature"), &hex_of(&request, TEXT)?)
        },
    ),
    row(
        "given two signatures at once, when an event arrives, then both hold",
        |hook| hook.set("signature", json!(["standard", "github"])),
        |case| {
            let request = arrived(case)?;
            ensure!(signature::holds(&request, SECRET), "{request:?}");
            same(request.header("x-hub-signature-256"), &format!("sha256={}", hex_of(&request, SECRET)?))
        },
    ),
    row(
        "given a second prefix of headers, when an event arrives, then both sets are there and hold",
        |hook| hook.set("header_prefixes", json!(["webhook-", "svix-"])),
        |case| {
            let request = arrived(case)?;
            ensure!(signature::holds(&request, SECRET), "{request:?}");
            ensure!(signature::holds(&renamed(&request, "svix-"), SECRET), "{request:?}");
            same(request.header("svix-id"), request.header("webhook-id"))
        },
    ),
    row(
        "given another prefix alone, when an event arrives, then only its headers are there",
        |hook| hook.set("header_prefixes", json!(["acme-"])),
        |case| {
            let request = arrived(case)?;
            ensure!(signature::holds(&renamed(&request, "acme-"), SECRET), "{request:?}");
            ensure!(!request.headers.iter().any(|(name, _)| name.starts_with("webhook-")), "{request:?}");
            Ok(())
        },
    ),
    row(
        "given basic credentials, when an event arrives, then authorization has them",
        |hook| hook.set("auth", json!({ "basic": { "user": "u", "password": "p:ä" } })),
        |case| {
            let request = arrived(case)?;
            let code = request.header("authorization").strip_prefix("Basic ").context("basic")?.to_owned();
            same(STANDARD.decode(code)?, "u:p:ä".as_bytes().to_vec())
        },
    ),
    row(
        "given a bearer token, when an event arrives, then authorization has it",
        |hook| hook.set("auth", json!({ "bearer": "opens-it" })),
        |case| same(arrived(case)?.header("authorization"), "Bearer opens-it"),
    ),
    row(
        "given credentials, when the subscription is shown, then they are not",
        |hook| hook.set("auth", json!({ "basic": { "user": "some-user", "password": "some-password" } })),
        |case| {
            let shown = case.client().get(&format!("/v1/subscriptions/{}?reveal=url", case.name))?.to_string();
            ensure!(!shown.contains("some-password"), "{shown}");
            Ok(())
        },
    ),
];

#[test]
fn every_promise_of_signatures_and_of_who_calls_holds() -> Result<()> {
    play(ROWS, Config::default())
}
