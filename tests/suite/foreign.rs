//! What really arrives of analytics, judged by others: OpenTelemetry's own messages read it, and PostHog's own SDK sends
//! the same events beside it.

use crate::libraries::tools;
use crate::{folder, here};
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use posthaste_tests::{Config, Daemon, Receiver, Reply, Request, Subscription, held};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What leaves of an event: a boolean, a word, numbers with and without a fraction, a null, positions of an array.
const CATALOGUE: &str = r#"
[layer."shop"]
fields.name = { type = "string" }
fields.gift = { type = "boolean", telemetry = "keep" }
fields.status = { type = "string", values = ["PAID", "OPEN"], nullable = true, telemetry = "keep" }

[layer."shop:order"]
fields.items = { type = "array", telemetry = "count" }
fields.number = { type = "integer", minimum = 0, maximum = 1000, telemetry = "keep" }
fields.share = { type = "number", minimum = 0, maximum = 1, telemetry = "keep" }

[event."shop:order:sold"]
[event."shop:order:returned"]
"#;

/// Events as they are recorded, with what leaves of each.
fn events() -> Vec<(Value, Value, Value)> {
    let of = |n: u64, status: Value| {
        let kind = if n.is_multiple_of(2) { "shop:order:sold" } else { "shop:order:returned" };
        let order = json!({ "items": vec![1; usize::try_from(n % 4).unwrap_or(0)], "number": n, "share": 0.25 });
        let recorded = json!({ "type": kind, "occurred_at": "2026-01-31T23:42:11.123Z", "properties": {
            "shop": { "name": "nobody's business", "gift": n.is_multiple_of(3), "status": status, "order": order } } });
        let kept = json!({ "shop": { "gift": n.is_multiple_of(3), "status": status, "order": { "number": n, "share": 0.25 } } });
        let derived = json!({ "shop": { "order": { "items_count": n % 4 } } });
        (recorded, kept, derived)
    };
    (0..40).map(|n| of(n, if n % 5 == 0 { Value::Null } else { json!("PAID") })).collect()
}

/// Records the events with a daemon that sends them to `backend`, and gives what arrived.
fn capture(home: &Path, backend: &str, more: &[(&str, Value)]) -> Result<Vec<Request>> {
    fs::write(home.join("events.toml"), CATALOGUE)?;
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let (receiver, _) = keeping(&arrived)?;
    let product = Subscription::of("analytics", "product").set("backend", backend).set("url", receiver.url(""));
    let product = product.set("batch", json!({ "events": 25, "wait": "200ms" }));
    let product = more.iter().fold(product, |product, (key, value)| product.set(key, value.clone()));
    let config = Config::default().set("catalogue", "files", json!(["events.toml"])).subscribe(product);
    let mut daemon = Daemon::new(home, config)?;
    daemon.start()?;
    let recorded: Vec<Value> = events().into_iter().map(|(event, _, _)| event).collect();
    let answer = daemon.client().post("/v1/events", &Value::Array(recorded))?;
    ensure!(answer.status == 202, "{}: {:?}", answer.status, answer.json());
    daemon.settled("product", Duration::from_secs(20))?;
    drop(daemon);
    let arrived = held(&arrived).clone();
    ensure!(arrived.len() > 1, "all events came in {} request", arrived.len());
    Ok(arrived)
}

/// A receiver that keeps requests and takes them all.
fn keeping(arrived: &Arc<Mutex<Vec<Request>>>) -> Result<(Receiver, String)> {
    let kept = Arc::clone(arrived);
    let receiver = Receiver::start(move |request| {
        held(&kept).push(request.clone());
        Reply::Full(200, Vec::new(), b"{\"status\":1}".to_vec())
    })?;
    let url = receiver.url("");
    Ok((receiver, url))
}

/// Runs a script with Python, and gives what it printed.
fn python(script: &str, args: &[&str], input: &[u8]) -> Result<String> {
    let python = tools().join("venv/bin/python");
    let mut running = Command::new(&python)
        .arg(here().join("libraries").join(script))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} could not be started: tests/run installs it", python.display()))?;
    running.stdin.take().context("an input")?.write_all(input)?;
    let done = running.wait_with_output()?;
    ensure!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?)
}

/// The leaves of a tree with dotted names.
fn leaves(name: &str, tree: &Value, into: &mut Map<String, Value>) {
    match tree {
        Value::Object(entries) => entries.iter().for_each(|(key, inner)| leaves(&format!("{name}.{key}"), inner, into)),
        leaf => drop(into.insert(name.to_owned(), leaf.clone())),
    }
}

#[test]
fn opentelemetry_reads_every_field_of_what_arrives() -> Result<()> {
    let folder = folder()?;
    let arrived = capture(folder.path(), "otlp", &[])?;
    let mut input = Vec::new();
    for request in &arrived {
        ensure!(request.path == "/v1/logs", "{}", request.path);
        ensure!(request.header("content-type") == "application/x-protobuf");
        let line = json!({ "encoding": request.header("content-encoding"), "body": STANDARD.encode(&request.body) });
        writeln!(input, "{line}")?;
    }
    ensure!(arrived.iter().any(|r| r.header("content-encoding") == "gzip"), "nothing was compressed");
    let said = python("otlp.py", &[], &input)?;
    let mut records: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // Requests go out at the same time: they arrive in any order.
    records.sort_by_key(|record| record["attributes"]["event_properties.shop.order.number"].as_u64());
    ensure!(records.len() == events().len(), "{} records", records.len());
    let version = env!("CARGO_PKG_VERSION");
    // 2026-01-31T23:00:00Z, the hour in which it happened.
    let grain = 1_769_900_400_000_000_000_u64;
    let (mut ids, mut installations) = (BTreeSet::new(), BTreeSet::new());
    for (record, (recorded, kept, derived)) in records.iter().zip(events()) {
        let mut record = record.clone();
        let attributes = record["attributes"].as_object_mut().context("attributes")?;
        ids.insert(attributes.remove("log.record.uid").context("an id")?.to_string());
        installations.insert(attributes.remove("posthaste.installation").context("an installation")?.to_string());
        let mut expected = Map::new();
        leaves("event_properties", &kept, &mut expected);
        leaves("derived_properties", &derived, &mut expected);
        let expected = json!({
            "resource": { "service.name": "posthaste", "service.version": version },
            "scope": ["posthaste", version],
            "fields": ["attributes", "event_name", "observed_time_unix_nano", "severity_number", "time_unix_nano"],
            "time": grain,
            "observed": grain,
            "severity": 9,
            "event": recorded["type"],
            "attributes": expected,
        });
        ensure!(record == expected, "{record}\nis not\n{expected}");
    }
    ensure!((ids.len(), installations.len()) == (events().len(), 1), "{ids:?} {installations:?}");
    Ok(())
}

#[test]
fn control_bytes_that_are_no_such_message_are_found() -> Result<()> {
    // A field 15 that no message has.
    let line = json!({ "encoding": "", "body": STANDARD.encode([0x78, 0x01]) });
    ensure!(python("otlp.py", &[], line.to_string().as_bytes()).is_err());
    Ok(())
}

fn decoded(request: &Request) -> Result<Value> {
    ensure!(request.header("content-encoding") == "gzip", "not compressed");
    let mut body = Vec::new();
    GzDecoder::new(request.body.as_slice()).read_to_end(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

fn keys(of: &Value) -> BTreeSet<&str> {
    of.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// Why the SDK sends keys that we do not: all of them tell of the machine that sends, or of when.
const THEIRS: [(&str, &str); 9] = [
    ("sent_at", "PostHog moves times by it, and ours are rounded on purpose"),
    ("historical_migration", "false is what its absence means"),
    ("$python_runtime", "the machine"),
    ("$python_version", "the machine"),
    ("$os", "the machine"),
    ("$os_version", "the machine"),
    ("$os_distro", "the machine"),
    ("$is_server", "the machine"),
    ("$session_id", "who does it"),
];

/// Keys of theirs that we do not send; each must have a reason.
fn unexplained<'a>(theirs: &'a Value, ours: &Value) -> Vec<&'a str> {
    let ours = keys(ours);
    let known = |key: &str| THEIRS.iter().any(|(name, _)| *name == key);
    keys(theirs).into_iter().filter(|key| !ours.contains(key) && !known(key)).collect()
}

#[test]
fn posthogs_own_sdk_sends_the_same_events_in_the_same_form() -> Result<()> {
    let folder = folder()?;
    let ours = capture(folder.path(), "posthog", &[("key", json!("phc_project"))])?;
    let ours = &ours[0];
    let (mine, arrived) = (decoded(ours)?, Arc::new(Mutex::new(Vec::new())));
    let (receiver, url) = keeping(&arrived)?;
    python("posthog_sdk.py", &[&url, "phc_project"], mine["batch"].to_string().as_bytes())?;
    drop(receiver);
    let arrived = held(&arrived).clone();
    let theirs = arrived.first().context("the SDK sent nothing")?;
    ensure!((&ours.path, ours.header("content-type")) == (&theirs.path, theirs.header("content-type")));
    let theirs = decoded(theirs)?;
    ensure!(mine["api_key"] == theirs["api_key"]);
    // Of the envelope and of an event we send nothing that they do not; what they send beside it has its reason.
    ensure!(keys(&mine).is_subset(&keys(&theirs)), "{:?}", keys(&mine));
    ensure!(unexplained(&theirs, &mine).is_empty(), "{:?}", unexplained(&theirs, &mine));
    let by_id = |batch: &Value| -> BTreeMap<String, Value> {
        batch.as_array().into_iter().flatten().map(|e| (e["uuid"].to_string(), e.clone())).collect()
    };
    let (mine, theirs) = (by_id(&mine["batch"]), by_id(&theirs["batch"]));
    ensure!(mine.len() > 10 && mine.keys().eq(theirs.keys()), "{} and {}", mine.len(), theirs.len());
    for (ours, sdks) in mine.values().zip(theirs.values()) {
        ensure!(keys(ours) == keys(sdks), "{ours} {sdks}");
        ensure!((&ours["event"], &ours["distinct_id"]) == (&sdks["event"], &sdks["distinct_id"]));
        ensure!(ours["timestamp"] == "2026-01-31T23:00:00.000Z" && sdks["timestamp"] == "2026-01-31T23:00:00+00:00");
        let (ours, sdks) = (&ours["properties"], &sdks["properties"]);
        for name in ["event_properties", "derived_properties", "$process_person_profile", "$geoip_disable"] {
            ensure!(ours[name] == sdks[name], "{name}: {ours} {sdks}");
        }
        // Ours alone: without it the address of the daemon would be filled in.
        let alone: Vec<&str> = keys(ours).difference(&keys(sdks)).copied().collect();
        ensure!(alone == ["$ip"] && ours["$ip"].is_null(), "{alone:?}");
        ensure!(unexplained(sdks, ours).is_empty(), "{:?}", unexplained(sdks, ours));
    }
    Ok(())
}
