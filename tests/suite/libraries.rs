//! The official Standard Webhooks libraries judge what really arrives.

use crate::newcomer::blocks;
use crate::{folder, here};
use anyhow::{Context, Result, ensure};
use posthaste_tests::config::SECRET;
use posthaste_tests::daemon::root;
use posthaste_tests::{Config, Daemon, Receiver, Reply, Subscription};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where `tests/run` puts the libraries.
pub(crate) fn tools() -> PathBuf {
    std::env::var_os("POSTHASTE_TOOLS").map_or_else(|| here().join(".tools"), PathBuf::from)
}

/// Properties whose bytes are easily changed on the way: numbers, escapes, more than ASCII, depth, length.
fn properties() -> Vec<Value> {
    vec![
        json!({}),
        json!({ "n": 1, "float": 1.5e300, "small": -0.0, "big": u64::MAX }),
        json!({ "text": "tab\t quote\" slash/ back\\ nul\u{0} \u{2028} 👋🏽 ünï" }),
        json!({ "deep": { "er": [[[{ "and": [null, true, false] }]]] } }),
        json!({ "long": "ж".repeat(20_000) }),
    ]
}

/// The key of every event, which is not easily written into a header, and when each happened.
const KEY: &str = "Käse \"50%\"/🧀";
const AT: &str = "2024-05-01T02:03:04.500Z";

/// What arrived for each of [`properties`], a line each, in a file.
fn capture(folder: &Path) -> Result<PathBuf> {
    capture_of(folder, |webhook| webhook)
}

/// The same from a webhook that is set as `with` does it.
fn capture_of(folder: &Path, with: impl FnOnce(Subscription) -> Subscription) -> Result<PathBuf> {
    let lines = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&lines);
    let receiver = Receiver::start(move |request| {
        let headers: Map<String, Value> =
            request.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        let line = json!({ "headers": headers, "body": String::from_utf8_lossy(&request.body) });
        kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&format!("{line}\n"));
        Reply::Status(200)
    })?;
    let webhook = with(Subscription::webhook("all", &receiver.url("/")).set("events", vec!["library:**"]));
    let mut daemon = Daemon::new(folder, Config::default().subscribe(webhook))?;
    daemon.start()?;
    let mut client = daemon.client();
    for properties in properties() {
        let event = json!({
            "type": "library:sent", "properties": properties, "key": KEY, "tenant": "acme", "occurred_at": AT,
        });
        let answer = client.post("/v1/events", &event)?;
        ensure!(answer.status == 202, "{}", answer.status);
    }
    daemon.settled("all", Duration::from_secs(20))?;
    let file = folder.join("arrived.jsonl");
    fs::write(&file, lines.lock().unwrap_or_else(PoisonError::into_inner).as_bytes())?;
    Ok(file)
}

fn judge(judge: &mut Command, arrived: &Path) -> Result<()> {
    let done = judge
        .stdin(File::open(arrived)?)
        .output()
        .with_context(|| format!("{judge:?} could not be started: tests/run installs it"))?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let seen: usize = String::from_utf8_lossy(&done.stdout).trim().parse()?;
    ensure!(seen == properties().len(), "{seen} of {} deliveries were judged", properties().len());
    Ok(())
}

#[test]
fn the_library_for_python_accepts_what_arrives_and_refuses_what_was_changed() -> Result<()> {
    let folder = folder()?;
    let arrived = capture(folder.path())?;
    let python = tools().join("venv/bin/python");
    judge(Command::new(python).arg(here().join("libraries/verify.py")).arg(SECRET), &arrived)
}

#[test]
fn the_library_for_javascript_accepts_what_arrives_and_refuses_what_was_changed() -> Result<()> {
    let folder = folder()?;
    let arrived = capture(folder.path())?;
    let script = here().join("libraries/verify.mjs");
    judge(Command::new("node").arg(script).arg(tools()).arg(SECRET), &arrived)
}

#[test]
fn a_signature_as_github_sends_it_verifies_by_its_own_page() -> Result<()> {
    let folder = folder()?;
    let arrived = capture_of(folder.path(), |webhook| webhook.set("signature", "github"))?;
    judge(Command::new("python3").arg(here().join("libraries/verify_github.py")).arg(SECRET), &arrived)
}

#[test]
fn the_library_for_cloudevents_reads_both_modes_as_what_was_recorded() -> Result<()> {
    for mode in ["structured", "binary"] {
        let folder = folder()?;
        let set = |webhook: Subscription| {
            webhook.set("format", "cloudevents").set("mode", mode).set("source", "https://shop.example.com/")
        };
        let arrived = capture_of(folder.path(), set)?;
        let mut reader = Command::new(tools().join("venv/bin/python"));
        let read = reader.arg(here().join("libraries/read_cloudevents.py")).stdin(File::open(&arrived)?).output()?;
        ensure!(read.status.success(), "{mode}: {}", String::from_utf8_lossy(&read.stderr));
        let lines = String::from_utf8(read.stdout)?;
        let events = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        let mut data: Vec<&Value> = events.iter().map(|event| &event["data"]).collect();
        for properties in properties() {
            let place =
                data.iter().position(|said| **said == properties).with_context(|| format!("{mode}: {properties}"))?;
            data.remove(place);
        }
        ensure!(data.is_empty(), "{mode}: {data:?}");
        for event in &events {
            let mut attributes = event["attributes"].as_object().context("attributes")?.clone();
            let mut take = |name: &str| attributes.remove(name).and_then(|value| Some(value.as_str()?.to_owned()));
            let id = take("id").context("an id")?;
            let sequence = take("sequence").context("a sequence")?;
            ensure!(id.starts_with("evt_") && sequence.len() == 15 && sequence.parse::<u64>()? > 0, "{mode}: {event}");
            let rest = json!({
                "specversion": "1.0", "source": "https://shop.example.com/", "type": "library:sent", "subject": KEY,
                "datacontenttype": "application/json", "tenant": "acme", "time": "2024-05-01 02:03:04.500000+00:00",
            });
            ensure!(Value::Object(attributes.clone()) == rest, "{mode}: {event}");
        }
    }
    Ok(())
}

/// What the page of webhooks shows of a language, with `main` behind it, in a file of that name.
fn snippet(folder: &Path, language: &str, file: &str, main: &str) -> Result<PathBuf> {
    let page = fs::read_to_string(root().join("docs/webhooks.md"))?;
    let shown = blocks(&page, language).into_iter().next().context("the page shows none")?;
    let path = folder.join(file);
    fs::write(&path, format!("{shown}\n{main}"))?;
    Ok(path)
}

/// Calls `receive` of a snippet for what arrived, and for the same with another id.
fn judge_snippet(command: &mut Command, arrived: &Path) -> Result<()> {
    let done = command.env("OPS_SECRET", SECRET).stdin(File::open(arrived)?).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let answers: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("answers ")).collect();
    ensure!(answers == vec!["204 400"; properties().len()], "{said}");
    Ok(())
}

#[test]
fn what_the_docs_show_for_python_verifies_what_arrives() -> Result<()> {
    let folder = folder()?;
    let main = r#"
import json, sys
for line in sys.stdin:
    delivery = json.loads(line)
    headers, body = delivery["headers"], delivery["body"].encode()
    forged = {**headers, "webhook-id": "evt_other"}
    print("answers", receive(headers, body), receive(forged, body))
"#;
    let script = snippet(folder.path(), "python", "receive.py", main)?;
    let arrived = capture(folder.path())?;
    let python = tools().join("venv/bin/python");
    judge_snippet(Command::new(python).env("PYTHONIOENCODING", "utf-8:backslashreplace").arg(script), &arrived)
}

#[test]
fn what_the_docs_show_for_javascript_verifies_what_arrives() -> Result<()> {
    let folder = folder()?;
    let main = r#"
import { readFileSync } from "node:fs";
for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { headers, body } = JSON.parse(line);
  const forged = { ...headers, "webhook-id": "evt_other" };
  console.log("answers", receive(headers, body), receive(forged, body));
}
"#;
    let script = snippet(folder.path(), "js", "receive.mjs", main)?;
    symlink(fs::canonicalize(tools())?.join("node_modules"), folder.path().join("node_modules"))?;
    let arrived = capture(folder.path())?;
    judge_snippet(Command::new("node").arg(script), &arrived)
}
