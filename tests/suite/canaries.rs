//! R20: secrets never show, neither in answers nor in logs, nor in what commands print, nor at rest.

use crate::folder;
use crate::newcomer::Running;
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_tests::daemon::{binary, free_port};
use posthaste_tests::{Authority, Client, Config, Daemon, Receiver, Reply, Subscription, held, until};
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Words that stand in no output; each is a part of a secret.
const WORDS: [&str; 8] = [
    "canaryInAPath",
    "canaryInAQuery",
    "canaryInAHeader",
    "canaryInAUser",
    "canaryInAPassword",
    "canaryInABearer",
    "canaryInAToken",
    SEED,
];
/// The middle of the secret that signs.
const SEED: &str = "Y2FuYXJ5SW5BU2VjcmV0Y2FuYXJ5SW5BU2VjcmV0";
/// The token of who asks.
const TOKEN: &str = "canaryInAToken-of-the-test";

/// What stands in no output, and the authority that receivers are believed by.
struct Canaries {
    authority: String,
    all: Vec<String>,
}

impl Canaries {
    fn new() -> Result<Self> {
        let authority = Authority::new()?.pem();
        // A line in the middle of the certificate.
        let line = authority.lines().nth(3).context("a certificate of several lines")?.to_owned();
        // As a header would have them: credentials are sent in base64 (RFC 7617 section 2).
        let basic = STANDARD.encode("canaryInAUser:canaryInAPassword");
        let all = WORDS.iter().map(|word| (*word).to_owned()).chain([line, basic]).collect();
        Ok(Self { authority, all })
    }

    /// Which canaries a text has.
    fn found(&self, text: &[u8]) -> Vec<&str> {
        let stands = |canary: &str| text.windows(canary.len()).any(|w| w == canary.as_bytes());
        self.all.iter().map(String::as_str).filter(|canary| stands(canary)).collect()
    }

    /// Fails where a text shows one.
    fn silent(&self, place: &str, text: &[u8]) -> Result<()> {
        let found = self.found(text);
        ensure!(found.is_empty(), "{place} shows {found:?}");
        Ok(())
    }

    /// A webhook's settings, every one of them with a canary.
    fn settings(&self, receiver: &Receiver, auth: &Value) -> Value {
        json!({
            "url": receiver.url("/canaryInAPath?key=canaryInAQuery"),
            "secrets": [format!("whsec_{SEED}")],
            "headers": { "x-key": "canaryInAHeader" },
            "auth": auth,
            "ca": self.authority,
            "retry": { "attempts": 2, "initial": "10ms", "max": "10ms" },
        })
    }
}

fn basic() -> Value {
    json!({ "basic": { "user": "canaryInAUser", "password": "canaryInAPassword" } })
}

fn bearer() -> Value {
    json!({ "bearer": "canaryInABearer" })
}

fn subscription(name: &str, settings: &Value) -> Subscription {
    let all = settings.as_object().into_iter().flatten();
    all.fold(Subscription::of("webhook", name), |hook, (key, value)| hook.set(key, value.clone()))
}

fn below(folder: &Path) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        all.extend(if path.is_dir() { below(&path)? } else { fs::read(&path).unwrap_or_default() });
    }
    Ok(all)
}

/// The subscriptions, by name: each kind of credentials in the configuration and by the API.
const NAMES: [&str; 4] = ["ours-bearer", "ours-basic", "theirs-bearer", "theirs-basic"];

/// Asks everything that can be asked, wrong things too.
fn ask(canaries: &Canaries, client: &mut Client, receiver: &Receiver) -> Result<()> {
    let listings = [
        "/v1/subscriptions",
        "/v1/events",
        "/v1/deliveries",
        "/v1/replays",
        "/v1/event-types",
        "/metrics",
        "/healthz",
        "/readyz",
        "/",
    ];
    let each = NAMES.iter().map(|name| format!("/v1/subscriptions/{name}"));
    for path in listings.iter().map(|path| (*path).to_owned()).chain(each) {
        let answer = client.send("GET", &path, &[], b"")?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        canaries.silent(&path, &answer.body)?;
    }
    let listed = client.get("/v1/events?limit=1000")?;
    for event in listed["data"].as_array().context("events")? {
        let path = format!("/v1/events/{}", event["id"].as_str().context("an id")?);
        canaries.silent(&path, &client.send("GET", &path, &[], b"")?.body)?;
    }
    let mut wrong = canaries.settings(receiver, &bearer());
    wrong["name"] = "wrong".into();
    wrong["deliveree"] = "webhook".into();
    let damaged = canaries.authority.replace("-----END", "!-----END");
    for (key, value) in [
        ("url", json!("ftp://u:canaryInAPassword@x.example.com/canaryInAPath")),
        ("url", json!("http://10.0.0.1/canaryInAPath?canaryInAQuery")),
        ("secrets", json!([format!("whsec_{SEED}!")])),
        ("headers", json!({ "x-key": "canaryInAHeader\n" })),
        ("timeuot", json!("5s")),
        ("auth", json!({ "bearer": "canaryInABearer\n" })),
        ("auth", json!({ "bearer": "canaryInABearer", "basic": basic()["basic"] })),
        ("auth", json!({ "basic": { "user": "canaryInAUser:", "password": "canaryInAPassword" } })),
        ("auth", json!({ "basic": "canaryInAUser:canaryInAPassword" })),
        ("auth", json!("Bearer canaryInABearer")),
        ("ca", json!(damaged)),
        ("ca", json!([canaries.authority])),
    ] {
        let mut body = wrong.clone();
        body[key] = value;
        let answer = client.post("/v1/subscriptions", &body)?;
        ensure!(answer.status == 422, "{body}: {}", answer.status);
        canaries.silent("a refusal", &answer.body)?;
        let merge = [("content-type", "application/merge-patch+json")];
        let patched = client.send(
            "PATCH",
            "/v1/subscriptions/theirs-basic",
            &merge,
            json!({ key: body[key] }).to_string().as_bytes(),
        )?;
        ensure!(patched.status == 422, "{body}: {}", patched.status);
        canaries.silent("a refusal of a change", &patched.body)?;
    }
    Ok(())
}

/// What `check` says of wrong files with canaries in them.
fn check_wrong(canaries: &Canaries, receiver: &Receiver, home: &Path) -> Result<()> {
    for (key, value) in [
        ("auth", json!({ "bearer": "canaryInABearer\n" })),
        ("auth", json!({ "basic": { "user": "canaryInAUser:", "password": "canaryInAPassword" } })),
        ("auth", json!("Bearer canaryInABearer")),
        ("ca", json!(canaries.authority.replace("-----END", "!-----END"))),
        ("headers", json!({ "x-key": "canaryInAHeader\n" })),
    ] {
        let mut settings = canaries.settings(receiver, &basic());
        settings[key] = value;
        let text = Config::default().subscribe(subscription("wrong", &settings)).to_toml();
        fs::write(home.join("wrong.toml"), text)?;
        let done = posthaste_tests::daemon::command(home, &["check", "--config", "wrong.toml"], &[])?;
        ensure!(done.status.code() == Some(2), "{key} = {}: {:?}", settings[key], done.status);
        canaries.silent(&format!("check of a wrong {key}"), &[done.stdout, done.stderr].concat())?;
    }
    Ok(())
}

/// A receiver of ours that gets one of each, and knows the secret: what it prints.
fn listened(home: &Path, canaries: &Canaries, daemon: &Daemon, client: &mut Client) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let wrong = daemon.cli(&["listen", "--addr", &address.to_string(), "--secret", &format!("whsec_{SEED}!")])?;
    ensure!(wrong.status.code() == Some(2), "{:?}", wrong.status);
    canaries.silent("listen with a wrong secret", &[wrong.stdout, wrong.stderr].concat())?;
    let command = format!("{} listen --addr {address} --secret whsec_{SEED}", binary().display());
    let listener = Running::start(home, &command)?;
    listener.says(&[&address.to_string()])?;
    for (name, auth) in [("heard-basic", basic()), ("heard-bearer", bearer())] {
        let body = json!({
            "name": name, "deliveree": "webhook", "events": ["heard:**"], "secrets": [format!("whsec_{SEED}")],
            "url": format!("http://{address}/{name}"), "auth": auth, "headers": { "x-key": "canaryInAHeader" },
        });
        let answer = client.post("/v1/subscriptions", &body)?;
        ensure!(answer.status == 201, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    client.post("/v1/events", &json!({ "type": "heard:sent" }))?;
    for name in ["heard-basic", "heard-bearer"] {
        until(name, Duration::from_secs(20), || {
            let shown = client.get(&format!("/v1/deliveries?subscription={name}"))?;
            Ok((shown["data"][0]["state"] == "delivered").then_some(()))
        })
        .with_context(|| daemon.log())?;
    }
    listener.says(&["heard:sent"])?;
    canaries.silent("listen", &fs::read(&listener.out)?)
}

#[test]
fn no_secret_shows_in_an_answer_a_log_or_a_command_and_none_of_the_api_at_rest() -> Result<()> {
    let (folder, canaries) = (folder()?, Canaries::new()?);
    let receiver = Receiver::start(|_| Reply::Status(500))?;
    let tokens = json!([{ "name": "ops", "token": TOKEN, "scopes": ["admin"] }]);
    let config = Config::default()
        .set("daemon", "tokens", tokens)
        .subscribe(subscription("ours-bearer", &canaries.settings(&receiver, &bearer())))
        .subscribe(subscription("ours-basic", &canaries.settings(&receiver, &basic())));
    let mut daemon = Daemon::new(folder.path(), config)?;
    daemon.start()?;
    let mut client = daemon.client();
    client.token = Some(TOKEN.to_owned());
    for (name, auth) in [("theirs-basic", basic()), ("theirs-bearer", bearer())] {
        let mut theirs = canaries.settings(&receiver, &auth);
        theirs["name"] = name.into();
        theirs["deliveree"] = "webhook".into();
        let made = client.post("/v1/subscriptions", &theirs)?;
        ensure!(made.status == 201, "{}", String::from_utf8_lossy(&made.body));
        canaries.silent("what was made", &made.body)?;
    }
    ensure!(client.post("/v1/events", &json!({ "type": "canary:sent" }))?.status == 202);
    // Failures, deaths and a test, so that errors are written too.
    for name in NAMES {
        let tested = client.post(&format!("/v1/subscriptions/{name}/test"), &json!({}))?;
        canaries.silent("a test", &tested.body)?;
        until("a death", Duration::from_secs(20), || {
            let listed = client.get(&format!("/v1/deliveries?subscription={name}&state=dead"))?;
            Ok(listed["data"].as_array().is_some_and(|all| !all.is_empty()).then_some(()))
        })?;
    }
    ask(&canaries, &mut client, &receiver)?;
    listened(folder.path(), &canaries, &daemon, &mut client)?;
    for words in [
        &["subscriptions", "list", "--json"][..],
        &["deliveries", "list"],
        &["deliveries", "list", "--json"],
        &["events", "list", "--json"],
        &["subscriptions", "show", "theirs-basic"],
        &["subscriptions", "show", "ours-bearer", "--json"],
    ] {
        let done = daemon.cli(&[words, &["--token", TOKEN]].concat())?;
        ensure!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
        canaries.silent(&format!("{words:?}"), &[done.stdout, done.stderr].concat())?;
    }
    for words in [&["check", "--config", "config.toml"][..], &["explain", "--config", "config.toml"]] {
        let done = daemon.cli(words)?;
        canaries.silent(&format!("{words:?}"), &[done.stdout, done.stderr].concat())?;
    }
    check_wrong(&canaries, &receiver, folder.path())?;
    canaries.silent("the log", daemon.log().as_bytes())?;
    canaries.silent("what is at rest", &below(&folder.path().join("data"))?)?;
    // Control: whoever may see the URL sees it, so that such a word would be found.
    let shown = client.send("GET", "/v1/subscriptions/theirs-basic?reveal=url", &[], b"")?;
    let seen = canaries.found(&shown.body);
    ensure!(seen == ["canaryInAPath", "canaryInAQuery"], "{seen:?}");
    canaries.silent("the log after a look", daemon.log().as_bytes())?;
    // Control: the configuration has all of them as they stand; the pair of credentials only what is sent has.
    let written = canaries.found(&fs::read(folder.path().join("config.toml"))?);
    ensure!(written.len() == canaries.all.len() - 1, "{written:?}");
    Ok(())
}

#[test]
fn control_credentials_are_found_where_they_are_sent() -> Result<()> {
    let (folder, canaries) = (folder()?, Canaries::new()?);
    let sent: Arc<Mutex<Vec<u8>>> = Arc::default();
    let noted = Arc::clone(&sent);
    let receiver = Receiver::start(move |request| {
        for (name, value) in &request.headers {
            held(&noted).extend(format!("{name}: {value}\n").bytes());
        }
        Reply::Status(200)
    })?;
    let config = Config::default()
        .subscribe(subscription("bearer", &canaries.settings(&receiver, &bearer())))
        .subscribe(subscription("basic", &canaries.settings(&receiver, &basic())));
    let mut daemon = Daemon::new(folder.path(), config)?;
    daemon.start()?;
    daemon.client().post("/v1/events", &json!({ "type": "canary:sent" }))?;
    for name in ["bearer", "basic"] {
        daemon.settled(name, Duration::from_secs(20))?;
    }
    let sent = held(&sent).clone();
    let seen = canaries.found(&sent);
    ensure!(seen.len() == 3 && seen.contains(&"canaryInABearer") && seen.contains(&"canaryInAHeader"), "{seen:?}");
    Ok(())
}
