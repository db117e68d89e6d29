//! The behaviours of the reference around what a receiver of the original gets and knows: what is shown of it (9), its secret
//! (10), its signature (24), its two encodings (25) and the chats (26).

use super::platform::held;
use crate::folder;
use anyhow::{Context, Result, ensure};
use hmac::{Hmac, Mac as _};
use posthaste_tests::{Config, Daemon, Receiver, Reply, Request, Subscription, daemon};
use serde_json::{Value, json};
use sha2::Sha256;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A secret as the original made one: 128 hexadecimal digits.
const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\
                      00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What arrives of these properties at a webhook that is set as `with` does it; the first answer is a failure.
fn arriving(properties: &Value, with: impl FnOnce(Subscription) -> Subscription) -> Result<Vec<Request>> {
    let (folder, kept) = (folder()?, Arc::new(Mutex::new(Vec::new())));
    let requests = Arc::clone(&kept);
    let receiver = Receiver::start(move |request| {
        let mut requests = held(&requests);
        requests.push(request.clone());
        Reply::Status(if requests.len() == 1 { 500 } else { 200 })
    })?;
    let hook = with(Subscription::webhook("lab", &receiver.url("/")));
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?;
    daemon.start()?;
    let event = json!({ "type": "project:created", "properties": properties, "occurred_at": "2024-05-01T02:03:04.5Z" });
    let answer = daemon.client().post("/v1/events", &event)?;
    ensure!(answer.status == 202, "{}", answer.status);
    daemon.settled("lab", Duration::from_secs(20))?;
    let arrived = held(&kept).clone();
    ensure!(arrived.len() == 2, "{} requests", arrived.len());
    Ok(arrived)
}

fn orchest(webhook: Subscription) -> Subscription {
    webhook.set("format", "orchest").set("secrets", json!([SECRET]))
}

/// What the original's receivers compute: the HMAC of the bytes as they came, under the text of the secret.
fn hex(body: &[u8]) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    mac.update(body);
    Ok(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The fields of a form, as a receiver in another language reads them.
fn form(body: &[u8]) -> Result<Vec<(String, Value)>> {
    let text = std::str::from_utf8(body)?;
    let decode = |text: &str| -> Result<String> {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits = [rest.next().context("a digit")?, rest.next().context("a digit")?];
                    u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
                }
                other => other,
            });
        }
        Ok(String::from_utf8(bytes)?)
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').context("a pair")?;
        Ok((decode(name)?, serde_json::from_str(&decode(value)?)?))
    };
    text.split('&').map(pair).collect()
}

/// What an envelope has, whichever way it came.
fn judge_envelope(delivered_for: &Value, event: &Value, content_type: &str) -> Result<()> {
    let keys: Vec<&String> = delivered_for.as_object().context("delivered_for")?.keys().collect();
    ensure!(keys == ["content_type", "name", "type", "uuid", "verify_ssl"], "{delivered_for}");
    ensure!(delivered_for["content_type"] == content_type && delivered_for["name"] == "lab", "{delivered_for}");
    ensure!(
        event["type"] == "project:created" && event["project"] == json!({ "name": "a&b=ü+%", "uuid": "P" }),
        "{event}"
    );
    ensure!(event["timestamp"] == "2024-05-01 02:03:04.500000+00:00", "{event}");
    let uuid = event["uuid"].as_str().context("a uuid")?;
    ensure!(uuid.len() == 36 && uuid.split('-').count() == 5, "{event}");
    Ok(())
}

fn properties() -> Value {
    json!({ "project": { "uuid": "P", "name": "a&b=ü+%" } })
}

#[test]
fn keep_24_a_receiver_of_the_original_verifies_what_arrives_and_knows_its_headers() -> Result<()> {
    let arrived = arriving(&properties(), orchest)?;
    for request in &arrived {
        ensure!(request.header("x-hub-signature") == hex(&request.body)?, "{request:?}");
        ensure!(request.header("x-hub-signature") != hex(&[&request.body[..], b"\n"].concat())?, "any body will do");
        ensure!(request.header("x-orchest-event") == "project:created" && request.header("user-agent") == "Orchest");
        ensure!(request.header("content-type") == "application/json", "{request:?}");
        let body: Value = serde_json::from_slice(&request.body)?;
        judge_envelope(&body["delivered_for"], &body["event"], "application/json")?;
    }
    let [first, again] = arrived.as_slice() else { anyhow::bail!("{arrived:?}") };
    let delivery = |request: &Request| request.header("x-orchest-delivery").to_owned();
    ensure!(delivery(first).len() == 36 && delivery(first) == delivery(again), "{arrived:?}");
    ensure!(first.body == again.body, "{arrived:?}");
    Ok(())
}

#[test]
fn keep_25_a_form_has_delivered_for_and_event_as_fields_that_hold_json() -> Result<()> {
    let arrived = arriving(&properties(), |webhook| orchest(webhook).set("content_type", "form"))?;
    let request = arrived.first().context("a request")?;
    let form_type = "application/x-www-form-urlencoded";
    ensure!(request.header("content-type") == form_type, "{request:?}");
    ensure!(request.header("x-hub-signature") == hex(&request.body)?, "{request:?}");
    let fields = form(&request.body)?;
    let [(first, delivered_for), (second, event)] = fields.as_slice() else { anyhow::bail!("{fields:?}") };
    ensure!(first == "delivered_for" && second == "event", "{fields:?}");
    judge_envelope(delivered_for, event, form_type)
}

/// What `check` says of a webhook, and whether it is good.
fn check(hook: &Subscription) -> Result<(bool, String)> {
    let folder = folder()?;
    fs::write(folder.path().join("config.toml"), Config::default().subscribe(hook.clone()).to_toml())?;
    let done = daemon::command(folder.path(), &["check", "--config", "config.toml"], &[])?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    Ok((done.status.success(), said))
}

#[test]
fn fix_25_a_chat_gets_json_whatever_is_asked_for() -> Result<()> {
    for format in ["slack", "teams", "discord"] {
        let hook = Subscription::webhook("chat", "https://chat.example.com/").set("format", format);
        let (good, said) = check(&hook)?;
        ensure!(good, "{said}");
        let (good, said) = check(&hook.set("content_type", "form"))?;
        ensure!(!good && said.contains("content_type") && said.contains("orchest"), "{said}");
    }
    Ok(())
}

#[test]
fn fix_26_a_long_event_is_a_short_readable_message_to_discord() -> Result<()> {
    let long: serde_json::Map<String, Value> =
        (0..200).map(|n| (format!("field {n:03}"), "ж*👋 ".repeat(60).into())).collect();
    let arrived = arriving(&long.into(), |webhook| webhook.set("format", "discord"))?;
    let body: Value = serde_json::from_slice(&arrived.first().context("a request")?.body)?;
    let content = body["content"].as_str().context("content")?;
    let lines: Vec<&str> = content.lines().collect();
    ensure!(content.chars().count() <= 2_000 && content.chars().count() > 1_000, "{}", content.len());
    ensure!(lines[0] == "**project:created**" && lines[1].starts_with("2024-05-01 02:03:04 UTC"), "{content}");
    // No JSON, no escaped JSON, and no value twice.
    ensure!(
        !content.contains('{') && !content.contains("\\\"") && content.matches("field 000").count() == 1,
        "{content}"
    );
    ensure!(lines.iter().any(|line| line.starts_with("… and 19")), "{content}");
    ensure!(body["allowed_mentions"] == json!({ "parse": [] }), "{body}");
    Ok(())
}

#[test]
fn keep_09_no_read_shows_a_secret_or_the_path_of_a_url_and_one_of_ours_is_shown_once() -> Result<()> {
    let (folder, configured) =
        (folder()?, Subscription::webhook("lab", "https://lab.example.com/hidden-path?a=hidden"));
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(orchest(configured)))?;
    daemon.start()?;
    let mut client = daemon.client();
    let url = "https://made.example.com/hidden-path?a=hidden";
    let made = json!({ "name": "made", "deliveree": "webhook", "url": url });
    let answer = client.post("/v1/subscriptions", &made)?;
    let said = answer.json()?;
    let secret = said["secret"].as_str().with_context(|| said.to_string())?.to_owned();
    ensure!(answer.status == 201 && secret.starts_with("whsec_") && !said.to_string().contains("hidden"), "{said}");
    for path in ["/v1/subscriptions", "/v1/subscriptions/made", "/v1/subscriptions/lab"] {
        let shown = client.get(path)?.to_string();
        let origin = shown.contains("https://made.example.com") || shown.contains("https://lab.example.com");
        ensure!(origin && !shown.contains("hidden") && !shown.contains(&secret) && !shown.contains(SECRET), "{shown}");
    }
    let userinfo = json!({ "name": "other", "deliveree": "webhook", "url": "https://u:hidden@other.example.com/" });
    let answer = client.post("/v1/subscriptions", &userinfo)?;
    let said = answer.json()?.to_string();
    ensure!(
        answer.status == 422 && said.contains("/url") && said.contains("basic") && !said.contains("hidden"),
        "{said}"
    );
    Ok(())
}

#[test]
fn fix_10_an_empty_secret_is_refused_and_two_sign_while_one_takes_over() -> Result<()> {
    for format in ["standard", "orchest"] {
        for secret in ["", "short", "whsec_"] {
            let hook = Subscription::webhook("lab", "https://lab.example.com/").set("format", format);
            let (good, said) = check(&hook.set("secrets", json!([secret])))?;
            ensure!(!good && said.contains("secrets"), "{format} {secret:?}: {said}");
        }
    }
    let old = json!({ "secret": posthaste_tests::config::SECRET, "until": "9999-01-01T00:00:00Z" });
    let new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let arrived = arriving(&properties(), |webhook| webhook.set("secrets", json!([new, old])))?;
    for request in &arrived {
        for secret in [new, posthaste_tests::config::SECRET] {
            ensure!(posthaste_tests::signature::holds(request, secret), "{request:?}");
        }
    }
    Ok(())
}
