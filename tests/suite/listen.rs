//! `posthaste listen` hears real batches of each backend, compressed and not, and `send --telemetry` and
//! `subscriptions test` reach it through a real daemon.

use crate::batches::POSTED;
use crate::folder;
use crate::newcomer::Running;
use anyhow::{Context, Result, ensure};
use posthaste_tests::daemon::{binary, free_port};
use posthaste_tests::{Client, Config, Daemon, Receiver, Reply, Subscription, held, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many events each backend gets.
const EVENTS: u64 = 30;

/// A listener on a free port, where its lines go, and the URL of it.
fn listen(home: &Path) -> Result<(Running, SocketAddr)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let listener = Running::start(home, &format!("{} listen --addr {address}", binary().display()))?;
    listener.says(&[&address.to_string()])?;
    Ok((listener, address))
}

/// One subscription to one type, which is called as it is.
fn analytics(backend: &str, gzip: bool, url: &str) -> (String, Subscription) {
    let name = format!("{backend}-{}", if gzip { "gzip" } else { "plain" });
    let mut one = Subscription::of("analytics", &name)
        .set("backend", backend)
        .set("url", url)
        .set("gzip", gzip)
        .set("events", json!([format!("to:{name}")]))
        .set("batch", json!({ "events": 10, "wait": "100ms" }));
    if backend == "posthog" {
        one = one.set("key", "phc_of_a_test");
    }
    (name, one)
}

fn catalogue(names: &[String]) -> String {
    names.iter().fold(String::new(), |text, name| {
        text + &format!(
            "[event.\"to:{name}\"]\nfields.n = {{ type = \"integer\", minimum = 0, maximum = 1000, telemetry = \"keep\" }}\n\
             fields.name = {{ type = \"string\", telemetry = \"present\" }}\nexample = {{ n = 999 }}\n\n"
        )
    })
}

/// What a listener must print of an event, in the form of its backend; an attribute of OTLP has a dotted name.
fn told(backend: &str, printed: &Value, n: u64, name: bool) -> bool {
    let wanted = json!({ "event_properties": { "n": n }, "derived_properties": { "name_present": name } });
    if backend != "otlp" {
        return *printed == wanted;
    }
    let attributes: BTreeSet<&str> = printed.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    printed["event_properties.n"] == n
        && printed["derived_properties.name_present"] == name
        && attributes
            == BTreeSet::from([
                "derived_properties.name_present",
                "event_properties.n",
                "log.record.uid",
                "posthaste.installation",
            ])
}

/// The lines that tell of one type, as JSON.
fn lines(listener: &Running, name: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(&listener.out)?;
    let those = text.lines().filter_map(|line| line.strip_prefix(&format!("  to:{name}  ")));
    those.map(|told| serde_json::from_str(told).with_context(|| told.to_owned())).collect()
}

#[test]
fn listen_tells_each_event_of_each_backend_once_compressed_or_not() -> Result<()> {
    let folder = folder()?;
    let (listener, address) = listen(folder.path())?;
    // Hands everything on as it came, and notes what was compressed.
    let encodings = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Arc::clone(&encodings);
    let between = Receiver::start(move |request| {
        held(&noted).insert((request.path.clone(), request.header("content-encoding").to_owned()));
        let headers: Vec<(&str, &str)> = ["content-type", "content-encoding"]
            .into_iter()
            .map(|name| (name, request.header(name)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        match Client::new(address).send("POST", "/", &headers, &request.body) {
            Ok(answer) => Reply::Full(answer.status, Vec::new(), answer.body),
            Err(_) => Reply::Status(503),
        }
    })?;
    let mut names = Vec::new();
    let mut config = Config::default().set("catalogue", "files", json!(["events.toml"]));
    for backend in POSTED {
        for gzip in [false, true] {
            let (name, one) = analytics(backend, gzip, &between.url(&format!("/{backend}-{gzip}")));
            config = config.subscribe(one);
            names.push(name);
        }
    }
    fs::write(folder.path().join("events.toml"), catalogue(&names))?;
    let mut daemon = Daemon::new(folder.path(), config)?;
    daemon.start()?;
    for name in &names {
        // With and without a name, which itself must not leave.
        let of = |n: u64| match n % 2 {
            0 => json!({ "type": format!("to:{name}"), "properties": { "n": n, "name": "canary" } }),
            _ => json!({ "type": format!("to:{name}"), "properties": { "n": n } }),
        };
        let answer = daemon.client().post("/v1/events", &(0..EVENTS).map(of).collect::<Vec<_>>().into())?;
        ensure!(answer.status == 202, "{}", String::from_utf8_lossy(&answer.body));
    }
    for name in &names {
        daemon.settled(name, Duration::from_secs(20))?;
    }
    for name in &names {
        let backend = name.split('-').next().unwrap_or_default();
        let printed = lines(&listener, name)?;
        ensure!(printed.len() as u64 == EVENTS, "{name}: {} of {EVENTS}", printed.len());
        for n in 0..EVENTS {
            let those = printed.iter().filter(|line| told(backend, line, n, n % 2 == 0)).count();
            ensure!(those == 1, "{name}: {n} is told {those} times: {printed:?}");
        }
    }
    let text = fs::read_to_string(&listener.out)?;
    for backend in POSTED {
        let counted = text.lines().filter_map(|line| line.strip_prefix(&format!("{backend}  "))?.split(' ').next());
        let sum: u64 = counted.map(|count| count.parse::<u64>().unwrap_or_default()).sum();
        ensure!(sum == 2 * EVENTS, "{backend}: {sum} of {}", 2 * EVENTS);
    }
    ensure!(!text.contains("canary") && !text.contains("no gzip"), "{text}");
    let encodings = held(&encodings).clone();
    for backend in POSTED {
        let path = |gzip: bool| if backend == "http" { format!("/http-{gzip}") } else { path_of(backend, gzip) };
        let of = |gzip: bool| encodings.iter().filter(|(at, _)| *at == path(gzip)).map(|(_, e)| e.as_str()).collect();
        let (plain, packed): (Vec<&str>, Vec<&str>) = (of(false), of(true));
        ensure!(plain == [""] && packed.contains(&"gzip"), "{backend}: {encodings:?}");
    }
    Ok(())
}

/// Where a backend posts that has a path of its own.
fn path_of(backend: &str, gzip: bool) -> String {
    format!("/{backend}-{gzip}{}", if backend == "posthog" { "/batch/" } else { "/v1/logs" })
}

#[test]
fn telemetry_that_is_sent_and_a_test_of_a_subscription_reach_the_listener_of_each_backend() -> Result<()> {
    for backend in POSTED {
        let folder = folder()?;
        let (listener, address) = listen(folder.path())?;
        let (name, one) = analytics(backend, false, &format!("http://{address}/"));
        let one = one.set("retry", json!({ "attempts": 1 }));
        fs::write(folder.path().join("events.toml"), catalogue(std::slice::from_ref(&name)))?;
        let config = Config::default().set("catalogue", "files", json!(["events.toml"])).subscribe(one);
        let mut daemon = Daemon::new(folder.path(), config)?;
        daemon.start()?;
        let event_type = format!("to:{name}");
        let derived = r#"{"name_present":true,"nonsense":1}"#;
        let send = ["send", &event_type, "--telemetry", "--properties", r#"{"n":7}"#, "--derived-properties", derived];
        let sent = daemon.cli(&[&send[..], &["--wait"]].concat())?;
        let (out, err) = (String::from_utf8_lossy(&sent.stdout), String::from_utf8_lossy(&sent.stderr));
        ensure!(sent.status.success() && out.starts_with("evt_"), "{backend}: {out} {err}");
        ensure!(out.contains(&format!("{name}  delivered")), "{backend}: {out}");
        ensure!(err.contains("/derived_properties/nonsense") && !err.contains("/properties/n\n"), "{backend}: {err}");
        let printed = lines(&listener, &name)?;
        ensure!(printed.len() == 1 && told(backend, &printed[0], 7, true), "{backend}: {printed:?}");

        let test = ["subscriptions", "test", &name, "--type", &event_type];
        let tested = daemon.cli(&test)?;
        let said = format!("{}{}", String::from_utf8_lossy(&tested.stdout), String::from_utf8_lossy(&tested.stderr));
        ensure!(tested.status.success() && said.contains("delivered"), "{backend}: {said}");
        let printed = until("the test", Duration::from_secs(10), || {
            let printed = lines(&listener, &name)?;
            Ok((printed.len() == 2).then_some(printed))
        })?;
        ensure!(told(backend, &printed[1], 999, false), "{backend}: {printed:?}");

        // Nobody listens any more: that is told, and is no success.
        drop(listener);
        let tested = daemon.cli(&test)?;
        let said = String::from_utf8_lossy(&tested.stderr).into_owned();
        ensure!(tested.status.code() == Some(1) && said.contains("did not arrive"), "{backend}: {said}");
        let unknown = daemon.cli(&["subscriptions", "test", &name, "--type", "no:such"])?;
        let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
        ensure!(unknown.status.code() == Some(1) && said.contains("no:such"), "{backend}: {said}");
    }
    Ok(())
}
