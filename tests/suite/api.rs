//! Subscriptions by API on the real daemon: a customer's endpoint comes, is told, changes its secret, gets the past again
//! over a restart, and goes; and nothing secret of it stands anywhere.

use crate::folder;
use anyhow::{Context as _, Result, ensure};
use posthaste_tests::signature::holds;
use posthaste_tests::{Client, Config, Daemon, Receiver, Reply, Request, held, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// What arrived, in order.
type Inbox = Arc<Mutex<Vec<Request>>>;

fn receiver() -> Result<(Receiver, Inbox)> {
    let inbox = Inbox::default();
    let into = Arc::clone(&inbox);
    let receiver = Receiver::start(move |request| {
        held(&into).push(request.clone());
        Reply::Status(204)
    })?;
    Ok((receiver, inbox))
}

fn webhook(name: &str, url: &str) -> Value {
    json!({"name": name, "deliveree": "webhook", "events": ["a:**"], "url": url})
}

/// Makes one; its secret.
fn create(client: &mut Client, body: &Value) -> Result<String> {
    let answer = client.post("/v1/subscriptions", body)?;
    ensure!(answer.status == 201, "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(answer.json()?["secret"].as_str().unwrap_or_default().to_owned())
}

fn record(client: &mut Client, n: usize) -> Result<String> {
    let answer = client.post("/v1/events", &json!({"type": "a:b", "properties": {"n": n}}))?;
    ensure!(answer.status == 202, "{}", answer.status);
    Ok(answer.json()?["id"].as_str().unwrap_or_default().to_owned())
}

fn arrived(inbox: &Inbox, count: usize) -> Result<()> {
    let got = || Ok((held(inbox).len() >= count).then_some(()));
    until("arrivals", SOON, got).with_context(|| format!("{} of {count}", held(inbox).len()))
}

#[test]
fn a_customers_endpoint_comes_changes_its_secret_gets_the_past_again_over_a_restart_and_goes() -> Result<()> {
    let folder = folder()?;
    let (receiver, inbox) = receiver()?;
    let mut daemon = Daemon::new(folder.path(), Config::default())?;
    daemon.start()?;
    let mut client = daemon.client();
    let before = record(&mut client, 0)?;
    let first = create(&mut client, &webhook("acme", &receiver.url("/in")))?;
    let told = record(&mut client, 1)?;
    arrived(&inbox, 1)?;
    ensure!(holds(&held(&inbox)[0], &first), "signed with the secret that was shown");

    let rotated = client.post("/v1/subscriptions/acme/rotate-secret", &json!({"grace": "1h"}))?;
    ensure!(rotated.status == 200, "{} {}", rotated.status, String::from_utf8_lossy(&rotated.body));
    let second = rotated.json()?["secret"].as_str().context("a secret")?.to_owned();
    record(&mut client, 2)?;
    arrived(&inbox, 2)?;
    let request = held(&inbox)[1].clone();
    ensure!(holds(&request, &first) && holds(&request, &second), "both sign");

    // The past: what it got, and what it never was owed; each once, though the daemon is killed in the middle.
    for n in 3..600 {
        record(&mut client, n)?;
    }
    arrived(&inbox, 599)?;
    daemon.settled("acme", SOON)?;
    held(&inbox).clear();
    let order = client.post("/v1/subscriptions/acme/replay", &json!({"type": "a:*"}))?;
    ensure!(order.status == 202, "{} {}", order.status, String::from_utf8_lossy(&order.body));
    let replay = order.json()?["id"].as_str().context("an id")?.to_owned();
    daemon.stop(Duration::from_secs(20))?;
    daemon.start()?;
    let mut client = daemon.client();
    until("the replay's end", SOON, || {
        Ok((client.get(&format!("/v1/replays/{replay}"))?["state"] == "done").then_some(()))
    })?;
    daemon.settled("acme", SOON)?;
    ensure!(client.get(&format!("/v1/replays/{replay}"))?["replayed"] == 600);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for request in held(&inbox).iter() {
        *times.entry(request.header("webhook-id").to_owned()).or_default() += 1;
    }
    ensure!(times.len() == 600 && times.values().all(|n| *n == 1), "{} ids", times.len());
    ensure!(times.contains_key(&before) && times.contains_key(&told), "the same ids, the one of before it came too");

    let gone = client.send("DELETE", "/v1/subscriptions/acme", &[], b"")?;
    ensure!(gone.status == 204, "{}", gone.status);
    held(&inbox).clear();
    record(&mut client, 700)?;
    daemon.stop(Duration::from_secs(20))?;
    daemon.start()?;
    ensure!(daemon.client().send("GET", "/v1/subscriptions/acme", &[], b"")?.status == 404, "it stays gone");
    ensure!(held(&inbox).is_empty(), "and gets nothing more");
    Ok(())
}

#[test]
fn a_restart_and_a_reload_keep_them_and_a_lost_key_disables_them_with_that_reason() -> Result<()> {
    let folder = folder()?;
    let (receiver, inbox) = receiver()?;
    let mut daemon = Daemon::new(folder.path(), Config::default())?;
    daemon.start()?;
    let mut client = daemon.client();
    create(&mut client, &webhook("acme", &receiver.url("/in")))?;
    let patch = json!({"timeout": "3s"}).to_string();
    let json = [("content-type", "application/json")];
    ensure!(client.send("PATCH", "/v1/subscriptions/acme", &json, patch.as_bytes())?.status == 200);
    daemon.kill9()?;
    daemon.start()?;
    daemon.signal(rustix::process::Signal::HUP)?;
    let mut client = daemon.client();
    let one = client.send("GET", "/v1/subscriptions/acme", &[], b"")?;
    ensure!(one.header("etag").is_some_and(|tag| tag.starts_with("\"2-")) && one.json()?["timeout"] == "3s", "{one:?}");
    record(&mut client, 1)?;
    arrived(&inbox, 1)?;
    daemon.settled("acme", SOON)?;
    daemon.stop(Duration::from_secs(20))?;
    std::fs::remove_file(folder.path().join("data/secret.key"))?;
    daemon.start()?;
    let mut client = daemon.client();
    let lost = client.get("/v1/subscriptions/acme")?;
    ensure!(lost["state"] == "disabled" && lost["reason"].as_str().is_some_and(|r| r.contains("key")), "{lost}");
    let event = record(&mut client, 2)?;
    let held_back = client.get(&format!("/v1/events/{event}"))?;
    ensure!(held_back["deliveries"][0]["state"] == "held", "{held_back}");
    Ok(())
}

/// Every file below a folder.
fn files(folder: &Path, into: &mut Vec<Vec<u8>>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, into)? } else { into.push(std::fs::read(path)?) }
    }
    Ok(())
}

fn stands_in(files: &[Vec<u8>], text: &str) -> bool {
    files.iter().any(|file| file.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn r20_nothing_secret_of_a_subscription_stands_in_a_file_a_log_or_an_answer() -> Result<()> {
    let folder = folder()?;
    let (receiver, inbox) = receiver()?;
    let mut daemon = Daemon::new(folder.path(), Config::default())?;
    daemon.start()?;
    let mut client = daemon.client();
    let mut body = webhook("acme", &receiver.url("/CANARYpath?q=CANARYquery"));
    body["headers"] = json!({"x-key": "CANARYheader"});
    let mut secrets = vec![create(&mut client, &body)?];
    let rotated = client.post("/v1/subscriptions/acme/rotate-secret", &json!({}))?.json()?;
    secrets.push(rotated["secret"].as_str().context("a secret")?.to_owned());
    record(&mut client, 1)?;
    arrived(&inbox, 1)?;
    ensure!(held(&inbox)[0].header("x-key") == "CANARYheader", "it is sent all the same");
    let mut answers = Vec::new();
    for (method, path, body) in [
        ("GET", "/v1/subscriptions", ""),
        ("GET", "/v1/subscriptions/acme", ""),
        ("PATCH", "/v1/subscriptions/acme", r#"{"timeout":"4s"}"#),
        ("PATCH", "/v1/subscriptions/acme", r#"{"secrets":["CANARYsecret"]}"#),
        ("PATCH", "/v1/subscriptions/acme", r#"{"url":"ftp://x/CANARYurl"}"#),
        ("PATCH", "/v1/subscriptions/acme", r#"{"headers":{"x-key":"CANARY\n"}}"#),
        ("POST", "/v1/subscriptions/acme/rotate-secret", r#"{"secret":"CANARYsecret"}"#),
        ("GET", "/v1/deliveries", ""),
        ("GET", "/metrics", ""),
    ] {
        let answer = client.send(method, path, &[("content-type", "application/json")], body.as_bytes())?;
        answers.push(answer.body);
    }
    daemon.stop(Duration::from_secs(20))?;
    let mut kept = answers;
    files(folder.path(), &mut kept)?;
    for secret in secrets.iter().map(|s| s.trim_start_matches("whsec_")).chain(["CANARY"]) {
        ensure!(!stands_in(&kept, secret), "{secret} stands somewhere");
    }
    ensure!(stands_in(&kept, "acme") && stands_in(&kept, "a:**"), "control: what is open is found");
    Ok(())
}

#[test]
fn orchest_behaviours_6_7_8_9_and_10_of_subscribing() -> Result<()> {
    let folder = folder()?;
    let mut daemon = Daemon::new(folder.path(), Config::default())?;
    daemon.start()?;
    let mut client = daemon.client();
    let mut made = |body: Value| client.post("/v1/subscriptions", &body);
    let url = "https://hooks.example.com/CANARY?CANARY";
    let json = [("content-type", "application/json")];

    // 6: the same type twice is one subscription, and the same set again changes nothing of its identity.
    let twice = made(json!({"name": "six", "deliveree": "webhook", "events": ["a:b", "a:b"], "url": url}))?;
    ensure!(twice.status == 201, "6: {}", twice.status);
    // 7: without types it is made (ours then means every event).
    let without = made(json!({"name": "seven", "deliveree": "webhook", "url": url}))?;
    ensure!(without.status == 201, "7: {}", without.status);
    // 8: 404 for what is not there, 204 for a delete that happened.
    for (method, path) in [
        ("PATCH", "/v1/subscriptions/nobody"),
        ("DELETE", "/v1/subscriptions/nobody"),
        ("POST", "/v1/subscriptions/nobody/test"),
    ] {
        let status = client.send(method, path, &json, b"{}")?.status;
        ensure!(status == 404, "8: {method} {path}: {status}");
    }
    // 9: no read shows a secret, a path or a query, and user:password is refused.
    let shown = client.send("GET", "/v1/subscriptions/six", &[], b"")?;
    let text = String::from_utf8_lossy(&shown.body).into_owned();
    ensure!(!text.contains("CANARY") && !text.contains("whsec_"), "9: {text}");
    let userinfo = json!({"name": "nine", "deliveree": "webhook", "url": "https://user:CANARY@hooks.example.com/"});
    let userinfo = client.post("/v1/subscriptions", &userinfo)?;
    ensure!(userinfo.status == 422 && !String::from_utf8_lossy(&userinfo.body).contains("CANARY"), "9");
    // 10: an empty secret is refused, in every way that one enters.
    for (method, path, body) in [
        ("PATCH", "/v1/subscriptions/six", r#"{"secrets":[""]}"#),
        ("PATCH", "/v1/subscriptions/six", r#"{"secrets":[]}"#),
        ("PATCH", "/v1/subscriptions/six", r#"{"secrets":null}"#),
        ("POST", "/v1/subscriptions/six/rotate-secret", r#"{"secret":""}"#),
    ] {
        let status = client.send(method, path, &json, body.as_bytes())?.status;
        ensure!(status == 422, "10: {method} {body}: {status}");
    }
    let deleted = client.send("DELETE", "/v1/subscriptions/six", &[], b"")?.status;
    ensure!(deleted == 204, "8: {deleted}");
    Ok(())
}
