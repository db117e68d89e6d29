//! R20: secrets never show, neither in answers nor in logs, nor in what commands print, nor at rest.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Client, Config, Daemon, Receiver, Reply, Subscription};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Words that stand in no output; each is a part of a secret.
const CANARIES: [&str; 7] = [
    "canaryInAPath",
    "canaryInAQuery",
    "canaryInAHeader",
    "canaryInAPassword",
    "canaryInABearer",
    "canaryInAToken",
    "Y2FuYXJ5SW5BU2VjcmV0Y2FuYXJ5SW5BU2VjcmV0",
];

/// A webhook's settings, every one of them with a canary.
fn settings(receiver: &Receiver, auth: &Value) -> Value {
    json!({
        "url": receiver.url("/canaryInAPath?key=canaryInAQuery"),
        "secrets": ["whsec_Y2FuYXJ5SW5BU2VjcmV0Y2FuYXJ5SW5BU2VjcmV0"],
        "headers": { "x-key": "canaryInAHeader" },
        "auth": auth,
        "retry": { "attempts": 2, "initial": "10ms", "max": "10ms" },
    })
}

fn subscription(name: &str, settings: &Value) -> Subscription {
    let all = settings.as_object().into_iter().flatten();
    all.fold(Subscription::of("webhook", name), |hook, (key, value)| hook.set(key, value.clone()))
}

/// Which canaries a text has.
fn found(text: &[u8]) -> Vec<&'static str> {
    CANARIES.into_iter().filter(|canary| text.windows(canary.len()).any(|w| w == canary.as_bytes())).collect()
}

/// Fails where a text shows one.
fn silent(place: &str, text: &[u8]) -> Result<()> {
    let found = found(text);
    ensure!(found.is_empty(), "{place} shows {found:?}");
    Ok(())
}

fn below(folder: &Path) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        all.extend(if path.is_dir() { below(&path)? } else { fs::read(&path).unwrap_or_default() });
    }
    Ok(all)
}

/// Asks everything that can be asked, wrong things too.
fn ask(client: &mut Client, receiver: &Receiver) -> Result<()> {
    for path in [
        "/v1/subscriptions",
        "/v1/subscriptions/ours",
        "/v1/subscriptions/theirs",
        "/v1/events",
        "/v1/deliveries",
        "/v1/replays",
        "/v1/event-types",
        "/metrics",
        "/healthz",
        "/readyz",
        "/",
    ] {
        let answer = client.send("GET", path, &[], b"")?;
        ensure!(answer.status < 500, "{path}: {}", answer.status);
        silent(path, &answer.body)?;
    }
    let listed = client.get("/v1/events?limit=1000")?;
    for event in listed["data"].as_array().context("events")? {
        let path = format!("/v1/events/{}", event["id"].as_str().context("an id")?);
        silent(&path, &client.send("GET", &path, &[], b"")?.body)?;
    }
    let mut wrong = settings(
        receiver,
        &json!({ "bearer": "canaryInABearer", "basic": { "user": "u", "password": "canaryInAPassword" } }),
    );
    wrong["name"] = "wrong".into();
    wrong["deliveree"] = "webhook".into();
    for (key, value) in [
        ("url", json!("ftp://u:canaryInAPassword@x.example.com/canaryInAPath")),
        ("url", json!("http://10.0.0.1/canaryInAPath?canaryInAQuery")),
        ("secrets", json!(["whsec_Y2FuYXJ5SW5BU2VjcmV0Y2FuYXJ5SW5BU2VjcmV0!"])),
        ("headers", json!({ "x-key": "canaryInAHeader\n" })),
        ("timeuot", json!("5s")),
    ] {
        let mut body = wrong.clone();
        body[key] = value;
        let answer = client.post("/v1/subscriptions", &body)?;
        ensure!(answer.status == 422, "{body}: {}", answer.status);
        silent("a refusal", &answer.body)?;
    }
    Ok(())
}

#[test]
fn no_secret_shows_in_an_answer_a_log_or_a_command_and_none_of_the_api_at_rest() -> Result<()> {
    let folder = folder()?;
    let receiver = Receiver::start(|_| Reply::Status(500))?;
    let tokens = json!([{ "name": "ops", "token": "canaryInAToken-of-the-test", "scopes": ["admin"] }]);
    let hook = subscription("ours", &settings(&receiver, &json!({ "bearer": "canaryInABearer" })));
    let config = Config::default().set("daemon", "tokens", tokens).subscribe(hook);
    let mut daemon = Daemon::new(folder.path(), config)?;
    daemon.start()?;
    let mut client = daemon.client();
    client.token = Some("canaryInAToken-of-the-test".to_owned());
    let basic = json!({ "basic": { "user": "u", "password": "canaryInAPassword" } });
    let mut theirs = settings(&receiver, &basic);
    theirs["name"] = "theirs".into();
    theirs["deliveree"] = "webhook".into();
    let made = client.post("/v1/subscriptions", &theirs)?;
    ensure!(made.status == 201, "{}", String::from_utf8_lossy(&made.body));
    silent("what was made", &made.body)?;
    ensure!(client.post("/v1/events", &json!({ "type": "canary:sent" }))?.status == 202);
    // Failures, deaths and a test, so that errors are written too.
    for name in ["ours", "theirs"] {
        client.post(&format!("/v1/subscriptions/{name}/test"), &json!({}))?;
    }
    std::thread::sleep(Duration::from_millis(500));
    ask(&mut client, &receiver)?;
    for words in [
        &["subscriptions", "list", "--json"][..],
        &["deliveries", "list"],
        &["subscriptions", "show", "theirs"],
        &["check", "--config", "config.toml"],
    ] {
        let with = [words, if words[0] == "check" { &[] } else { &["--token", "canaryInAToken-of-the-test"] }].concat();
        let done = daemon.cli(&with)?;
        silent(&format!("{words:?}"), &[done.stdout, done.stderr].concat())?;
    }
    silent("the log", daemon.log().as_bytes())?;
    silent("what is at rest", &below(&folder.path().join("data"))?)?;
    // Control: whoever may see the URL sees it, so that such a word would be found.
    let shown = client.send("GET", "/v1/subscriptions/theirs?reveal=url", &[], b"")?;
    ensure!(found(&shown.body) == ["canaryInAPath", "canaryInAQuery"], "{:?}", found(&shown.body));
    silent("the log after a look", daemon.log().as_bytes())?;
    // Control: the configuration has all but what only the API was told.
    let written = found(&fs::read(folder.path().join("config.toml"))?);
    ensure!(written.len() == CANARIES.len() - 1, "{written:?}");
    Ok(())
}
