//! A page in a real browser posts to the daemon's relay: from a listed origin it may, from any other it may not, and
//! nothing but the relay is open to either. A reload changes which is which.

use crate::{at, folder};
use anyhow::{Context, Result, ensure};
use posthaste_tests::browser::Browser;
use posthaste_tests::{Client, Config, Daemon, Receiver, Reply, Request, Subscription, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const RELAY_TOKEN: &str = "relay-token-0123456789";
const ADMIN_TOKEN: &str = "admin-token-0123456789";
/// The file of the analytics subscription, in the daemon's folder.
const ANALYTICS: &str = "analytics.ndjson";
/// How long a browser may take to start and to run its page.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that the page tries; what it saw of each goes back to whoever served it.
const SCRIPT: &str = r#"
const attempt = async (path, options) => {
  try {
    const answer = await fetch(DAEMON + path, options);
    return { status: answer.status, body: await answer.text() };
  } catch (error) {
    return { error: String(error) };
  }
};
const bearer = (token) => ({ authorization: "Bearer " + token });
(async () => {
  const body = (event) => JSON.stringify({ event, properties: { page: "home", name: "Ada" } });
  const seen = {};
  seen.fetch = await attempt("/analytics", {
    method: "POST",
    headers: { ...bearer(RELAY), "content-type": "application/json", "idempotency-key": "visit-1" },
    body: body("view:fetched"),
  });
  seen.wrong = await attempt("/analytics", { method: "POST", headers: bearer(RELAY), body: body("nobody:declared") });
  seen.beacon = navigator.sendBeacon(DAEMON + "/analytics?token=" + RELAY, body("view:left"));
  seen.recorded = await attempt("/v1/events", {
    method: "POST",
    headers: { ...bearer(ADMIN), "content-type": "application/json" },
    body: JSON.stringify({ type: "order:placed" }),
  });
  seen.listed = await attempt("/v1/events", { headers: bearer(ADMIN) });
  await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
})();
"#;

const CATALOGUE: &str = r#"
[event."order:placed"]

[event."view:fetched"]
audience = "telemetry"
fields.page = { type = "string", values = ["home", "list"], telemetry = "keep" }

[event."view:left"]
audience = "telemetry"
fields.page = { type = "string", values = ["home", "list"], telemetry = "keep" }
"#;

/// An origin: a server of one page, which keeps what the page says that it saw.
struct Site {
    server: Receiver,
    page: Arc<Mutex<String>>,
    seen: Arc<Mutex<Option<Value>>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Site {
    fn start() -> Result<Self> {
        let (page, seen) = (Arc::new(Mutex::new(String::new())), Arc::new(Mutex::new(None)));
        let (served, kept) = (Arc::clone(&page), Arc::clone(&seen));
        let server = Receiver::start(move |request: &Request| match request.path.as_str() {
            "/" => {
                let html = vec![("content-type", "text/html".to_owned())];
                Reply::Full(200, html, held(&served).clone().into_bytes())
            }
            "/seen" => {
                *held(&kept) = serde_json::from_slice(&request.body).ok();
                Reply::Status(204)
            }
            _ => Reply::Status(404),
        })?;
        Ok(Self { server, page, seen })
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.address().port())
    }

    /// What the page saw in a browser; `also` waits for what comes without an answer, while the page is open.
    fn visit(&self, daemon: &Daemon, also: impl FnOnce() -> Result<()>) -> Result<Value> {
        let constants = format!(
            "const DAEMON = \"http://{}\", RELAY = \"{RELAY_TOKEN}\", ADMIN = \"{ADMIN_TOKEN}\";",
            daemon.address()
        );
        *held(&self.page) = format!("<!doctype html><title>shop</title><script>{constants}{SCRIPT}</script>");
        let profile = folder()?;
        let browser = Browser::open(profile.path(), &at(self.server.address().port(), "/"))?;
        let seen = until("what the page saw", PATIENCE, || Ok(held(&self.seen).take()))?;
        also()?;
        drop(browser);
        Ok(seen)
    }
}

/// A daemon whose relay takes pages of that origin; its analytics go to a file.
fn daemon(home: &Path, origin: &str) -> Result<Daemon> {
    fs::write(home.join("events.toml"), CATALOGUE)?;
    let token = |name: &str, token: &str, scope: &str| json!({"name": name, "token": token, "scopes": [scope]});
    let config = Config::default()
        .set("catalogue", "files", json!(["events.toml"]))
        .set("catalogue", "undeclared", "reject")
        .set("relay", "origins", json!([origin]))
        .subscribe(
            Subscription::of("analytics", "product")
                .set("backend", "file")
                .set("path", ANALYTICS)
                .set("batch", json!({"wait": "100ms"})),
        )
        .set("daemon", "tokens", json!([token("page", RELAY_TOKEN, "relay"), token("root", ADMIN_TOKEN, "admin")]));
    let mut daemon = Daemon::new(home, config)?;
    daemon.start()?;
    Ok(daemon)
}

fn admin(daemon: &Daemon) -> Client {
    let mut client = daemon.client();
    client.token = Some(ADMIN_TOKEN.to_owned());
    client
}

/// What arrived in the file of the analytics subscription.
fn arrived(daemon: &Daemon) -> Result<Vec<Value>> {
    let text = fs::read_to_string(daemon.home().join(ANALYTICS)).unwrap_or_default();
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// How many posts the relay refused.
fn refused(client: &mut Client) -> Result<u64> {
    let metrics = client.send("GET", "/metrics", &[], b"")?;
    let text = String::from_utf8(metrics.body)?;
    let line = "posthaste_relay_events_total{outcome=\"refused\"} ";
    let count = text.lines().find_map(|l| l.strip_prefix(line)).context("the relay's figures")?;
    Ok(count.parse()?)
}

#[test]
fn a_page_of_a_listed_origin_posts_by_fetch_and_by_beacon_and_reaches_nothing_else() -> Result<()> {
    let (site, home) = (Site::start()?, folder()?);
    let daemon = daemon(home.path(), &site.origin())?;
    let mut client = admin(&daemon);
    let of = |client: &mut Client, event_type: &str| -> Result<Vec<Value>> {
        Ok(client.get(&format!("/v1/events?type={event_type}"))?["data"].as_array().context("data")?.clone())
    };
    let seen = site.visit(&daemon, || {
        let mut client = admin(&daemon);
        until("the beacon", PATIENCE, || Ok((!of(&mut client, "view:left")?.is_empty()).then_some(())))
    })?;

    assert_eq!(seen["fetch"]["status"], 202, "{seen}");
    let answer: Value = serde_json::from_str(seen["fetch"]["body"].as_str().context("a body")?)?;
    assert_eq!(answer["dropped"], json!(["/properties/name"]));
    assert_eq!(seen["wrong"]["status"], 422, "the page reads why: {seen}");
    assert_eq!(seen["beacon"], true);
    for event_type in ["view:fetched", "view:left"] {
        let events = of(&mut client, event_type)?;
        ensure!(events.len() == 1, "{event_type}: {events:?}");
        assert_eq!((&events[0]["origin"], &events[0]["properties"]), (&json!("relay"), &json!({})));
        assert_eq!(events[0]["telemetry"]["event_properties"], json!({"page": "home"}));
    }
    assert_eq!(of(&mut client, "view:fetched")?[0]["id"], answer["id"]);
    let lines = until("both in the file of analytics", PATIENCE, || {
        Ok(Some(arrived(&daemon)?).filter(|lines| lines.len() >= 2))
    })?;
    let told = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((lines.len(), told("view:fetched"), told("view:left")), (2, 1, 1), "{lines:?}");
    for line in lines {
        assert_eq!((&line["event_properties"], &line["derived_properties"]), (&json!({"page": "home"}), &json!({})));
        assert!(!line.to_string().contains("Ada"), "{line}");
    }
    // Not even with a token for it: browsers keep pages of other origins out.
    for path in ["recorded", "listed"] {
        assert!(seen[path]["error"].is_string(), "{path}: {seen}");
    }
    assert!(of(&mut client, "order:placed")?.is_empty());
    Ok(())
}

#[test]
fn a_page_of_another_origin_is_kept_out_even_where_its_browser_asks_nothing() -> Result<()> {
    let (listed, other, home) = (Site::start()?, Site::start()?, folder()?);
    let daemon = daemon(home.path(), &listed.origin())?;
    // What needs no preflight is sent all the same, so it arrives and must be refused: a post as text, and the beacon.
    let seen = other.visit(&daemon, || {
        let mut client = admin(&daemon);
        until("the refused beacon", PATIENCE, || Ok((refused(&mut client)? >= 1).then_some(())))
    })?;
    for path in ["fetch", "wrong", "recorded", "listed"] {
        assert!(seen[path]["error"].is_string(), "{path}: {seen}");
    }
    assert_eq!(seen["beacon"], true, "the browser took it");
    let events = admin(&daemon).get("/v1/events")?;
    let theirs = |event: &&Value| !event["type"].as_str().is_some_and(|t| t.starts_with("posthaste:"));
    assert_eq!(events["data"].as_array().context("data")?.iter().find(theirs), None);
    assert!(arrived(&daemon)?.is_empty());
    Ok(())
}

#[test]
fn a_reload_lets_the_pages_of_another_origin_in_and_those_of_the_first_out() -> Result<()> {
    let home = folder()?;
    let (first, second) = ("https://app.example.com", "https://shop.example.com");
    let mut daemon = daemon(home.path(), first)?;
    // What a browser asks before it lets a page post.
    let asks = |client: &mut Client, origin: &str| -> Result<(u16, Option<String>)> {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let answer = client.send("OPTIONS", "/analytics", &headers, b"")?;
        Ok((answer.status, answer.header("access-control-allow-origin").map(str::to_owned)))
    };
    let mut client = daemon.client();
    assert_eq!(asks(&mut client, first)?, (204, Some(first.to_owned())));
    assert_eq!(asks(&mut client, second)?, (403, None));
    daemon.configure(|config| config.set("relay", "origins", json!([second])))?;
    daemon.signal(Signal::HUP)?;
    until("the reload", PATIENCE, || Ok((asks(&mut client, second)?.0 == 204).then_some(())))?;
    assert_eq!(asks(&mut client, first)?, (403, None));
    Ok(())
}
