//! Subscriptions that come and go by the API: what they are told, what is kept of them, and what never shows.

use super::stage::{Case, OTHER, Row, play, row, same};
use anyhow::{Context, Result, ensure};
use posthaste_tests::config::SECRET;
use posthaste_tests::{Answer, Config, Reply, signature, until};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Longest wait for something that a row expects.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a row makes: its name is the row's and `-api`, and so is its path.
fn name(case: &Case<'_>) -> String {
    format!("{}-api", case.name)
}

fn path(case: &Case<'_>) -> String {
    format!("/v1/subscriptions/{}", name(case))
}

/// A webhook for the row's events with these settings beside.
fn wanted(case: &Case<'_>, more: Value) -> Value {
    let mut body = json!({
        "name": name(case),
        "deliveree": "webhook",
        "events": [case.event_type()],
        "url": case.receiver.url(&format!("/{}", name(case))),
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

fn create(case: &Case<'_>, more: Value) -> Result<Answer> {
    case.client().post("/v1/subscriptions", &wanted(case, more))
}

/// Makes it; answers what was answered.
fn created(case: &Case<'_>, more: Value) -> Result<Value> {
    let answer = create(case, more)?;
    ensure!(answer.status == 201, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    answer.json()
}

fn patch(case: &Case<'_>, change: &Value, if_match: &str) -> Result<Answer> {
    let mut headers = vec![("content-type", "application/merge-patch+json")];
    if !if_match.is_empty() {
        headers.push(("if-match", if_match));
    }
    case.client().send("PATCH", &path(case), &headers, change.to_string().as_bytes())
}

/// Refused as unprocessable, at this place.
fn refused_at(answer: &Answer, pointer: &str) -> Result<()> {
    let told = answer.json()?;
    let named = told["errors"].as_array().into_iter().flatten().any(|e| e["pointer"] == pointer);
    ensure!(answer.status == 422 && named, "{}: {told} does not name {pointer}", answer.status);
    Ok(())
}

/// Waits for the row's first arrivals at what it made.
fn arrivals(case: &Case<'_>, at_least: usize) -> Result<Vec<super::stage::Arrival>> {
    until(&format!("{at_least} arrivals"), PATIENCE, || {
        Ok(Some(case.arrivals_of(&name(case))).filter(|all| all.len() >= at_least))
    })
}

/// Every byte below a folder, one file after the other.
fn bytes_below(folder: &Path) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(bytes_below(&path)?);
        } else {
            all.extend(fs::read(&path).unwrap_or_default());
        }
    }
    Ok(all)
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

pub(super) const ROWS: &[Row] = &[
    row(
        "given no secret in what is posted, when it is made, then it gets one that is shown once and signs",
        |hook| hook,
        |case| {
            let answer = create(case, json!({}))?;
            same(answer.status, 201)?;
            same(answer.header("location"), Some(path(case).as_str()))?;
            ensure!(answer.header("etag").is_some_and(|tag| tag.starts_with("\"1-")), "{:?}", answer.header("etag"));
            let secret = answer.json()?["secret"].as_str().context("a secret")?.to_owned();
            ensure!(secret.starts_with("whsec_"), "{secret}");
            case.send(json!({}))?;
            ensure!(signature::holds(&arrivals(case, 1)?[0].request, &secret), "another secret signed");
            let shown = case.client().get(&path(case))?.to_string();
            ensure!(!shown.contains(&secret), "{shown}");
            Ok(())
        },
    ),
    row(
        "given a secret in what is posted, when it is made, then it signs and is never shown",
        |hook| hook,
        |case| {
            let made = created(case, json!({ "secrets": [OTHER] }))?.to_string();
            ensure!(!made.contains(OTHER), "{made}");
            case.send(json!({}))?;
            ensure!(signature::holds(&arrivals(case, 1)?[0].request, OTHER));
            Ok(())
        },
    ),
    row(
        "given one that was made by the API, when it is listed, then its source is api and its URL is its origin",
        |hook| hook,
        |case| {
            created(case, json!({}))?;
            let shown = case.client().get(&path(case))?;
            same((shown["source"].clone(), shown["state"].clone()), (json!("api"), json!("active")))?;
            same(shown["url"].clone(), json!(format!("http://{}", case.receiver.address())))?;
            let listed = case.client().get("/v1/subscriptions?limit=1000")?;
            let ours = listed["data"].as_array().into_iter().flatten().filter(|s| s["name"] == name(case).as_str());
            same(ours.count(), 1)
        },
    ),
    row(
        "given a name that is taken, by the API or the config, when it is posted again, then that is a 409",
        |hook| hook,
        |case| {
            created(case, json!({}))?;
            same(create(case, json!({}))?.status, 409)?;
            same(create(case, json!({ "name": case.name }))?.status, 409)
        },
    ),
    row(
        "given a change by PATCH, when the next event goes, then it goes as changed and with the secret of before",
        |hook| hook,
        |case| {
            created(case, json!({ "secrets": [OTHER] }))?;
            case.send(json!({}))?;
            arrivals(case, 1)?;
            let change = json!({ "url": case.receiver.url(&format!("/{}-moved", case.name)), "headers": { "x-new": "1" } });
            same(patch(case, &change, "")?.status, 200)?;
            let id = case.send(json!({}))?;
            let moved = until("the moved one", PATIENCE, || {
                Ok(case.arrivals_of(&format!("{}-moved", case.name)).into_iter().next())
            })?;
            same((moved.header("webhook-id"), moved.header("x-new")), (id.as_str(), "1"))?;
            ensure!(signature::holds(&moved.request, OTHER));
            same(case.arrivals_of(&name(case)).len(), 1)
        },
    ),
    row(
        "given a change by PATCH, when a delivery waits for its retry, then the retry goes as changed",
        |hook| hook,
        |case| {
            created(case, json!({ "retry": { "initial": "1s", "max": "1s" } }))?;
            let id = case.send(json!({}))?;
            arrivals(case, 1)?;
            let change = json!({ "url": case.receiver.url(&format!("/{}-moved", case.name)) });
            same(patch(case, &change, "")?.status, 200)?;
            let moved = until("the moved one", PATIENCE, || {
                Ok(case.arrivals_of(&format!("{}-moved", case.name)).into_iter().next())
            })?;
            same((moved.header("webhook-id"), moved.header("posthaste-attempt")), (id.as_str(), "2"))
        },
    )
    .answering(|_, _| Reply::Status(500)),
    row(
        "given a revision that was changed meanwhile, when it is patched with If-Match, then that is a 412",
        |hook| hook,
        |case| {
            let made = create(case, json!({}))?;
            let tag = made.header("etag").context("a tag")?;
            let next = patch(case, &json!({ "concurrency": 2 }), tag)?;
            same(next.status, 200)?;
            ensure!(next.header("etag").is_some_and(|next| next != tag), "the same tag");
            same(patch(case, &json!({ "concurrency": 3 }), tag)?.status, 412)?;
            same(case.client().get(&path(case))?["concurrency"].clone(), json!(2))
        },
    ),
    row(
        "given one that is deleted and made again, when it is patched with the tag of before, then that is a 412",
        |hook| hook,
        |case| {
            let before = create(case, json!({}))?;
            let tag = before.header("etag").context("a tag")?;
            same(case.client().send("DELETE", &path(case), &[("if-match", tag)], b"")?.status, 204)?;
            created(case, json!({}))?;
            same(patch(case, &json!({ "concurrency": 3 }), tag)?.status, 412)?;
            same(case.client().get(&path(case))?["concurrency"].clone(), json!(32))
        },
    ),
    row(
        "given null in a patch, when it is applied, then the key has its default again",
        |hook| hook,
        |case| {
            created(case, json!({ "concurrency": 7, "headers": { "x-a": "1", "x-b": "2" } }))?;
            same(patch(case, &json!({ "concurrency": null, "headers": { "x-a": null } }), "")?.status, 200)?;
            let shown = case.client().get(&path(case))?;
            same((shown["concurrency"].clone(), shown["headers"].clone()), (json!(32), json!({ "x-b": "…" })))
        },
    ),
    row(
        "given one that is deleted, when it was owed something, then that is cancelled and a later one of its name gets none",
        |hook| hook,
        |case| {
            created(case, json!({}))?;
            let id = case.send(json!({}))?;
            arrivals(case, 1)?;
            let delete = |case: &Case<'_>| case.client().send("DELETE", &path(case), &[], b"");
            same(delete(case)?.status, 204)?;
            same(case.client().send("GET", &path(case), &[], b"")?.status, 404)?;
            let owed = case.client().get(&format!("/v1/events/{id}"))?;
            let gone = owed["deliveries"].as_array().into_iter().flatten().find(|d| d["subscription"] != case.name.as_str());
            ensure!(gone.is_none_or(|d| d["state"] == "cancelled"), "{owed}");
            let before = arrivals(case, 1)?.len();
            created(case, json!({}))?;
            sleep(Duration::from_millis(1200));
            same(case.arrivals_of(&name(case)).len(), before)
        },
    )
    .answering(|_, _| Reply::Status(500)),
    row(
        "given one of the config, when it is patched or deleted by the API, then that is a 409 that names the file's way",
        |hook| hook,
        |case| {
            let own = format!("/v1/subscriptions/{}", case.name);
            let json = [("content-type", "application/merge-patch+json")];
            same(case.client().send("PATCH", &own, &json, br#"{"concurrency":1}"#)?.status, 409)?;
            same(case.client().send("DELETE", &own, &[], b"")?.status, 409)?;
            same(case.ask("rotate-secret")?.status, 409)?;
            same(case.shown()?["source"].clone(), json!("config"))
        },
    ),
    row(
        "given env: and file: in what is posted, when it is judged, then each is refused at its place",
        |hook| hook,
        |case| {
            refused_at(&create(case, json!({ "url": "env:HOME" }))?, "/url")?;
            refused_at(&create(case, json!({ "secrets": ["file:secret.key"] }))?, "/secrets/0")?;
            refused_at(&create(case, json!({ "headers": { "x-a": "file:config.toml" } }))?, "/headers/x-a")
        },
    ),
    row(
        "given a refused address in what is posted or patched, when it is judged, then it is refused at /url",
        |hook| hook,
        |case| {
            refused_at(&create(case, json!({ "url": "http://169.254.169.254/latest" }))?, "/url")?;
            created(case, json!({}))?;
            refused_at(&patch(case, &json!({ "url": "http://[::ffff:10.0.0.1]/" }), "")?, "/url")
        },
    ),
    row(
        "given what is for the daemon's own machine alone, when it is posted, then it is refused",
        |hook| hook,
        |case| {
            let post = |body: Value| case.client().post("/v1/subscriptions", &body);
            same(post(json!({ "name": name(case), "deliveree": "console" }))?.status, 422)?;
            let file = json!({ "name": name(case), "deliveree": "analytics", "backend": "file", "path": "out" });
            same(post(file)?.status, 422)?;
            same(create(case, json!({ "dangerous_accept_invalid_certificates": true }))?.status, 422)
        },
    ),
    row(
        "given several mistakes in what is posted, when it is judged, then each is named at its place and nothing is made",
        |hook| hook,
        |case| {
            let answer = create(case, json!({ "timeuot": "5s", "concurrency": 0, "retry": { "multiplier": 0.5 } }))?;
            for pointer in ["/timeuot", "/concurrency", "/retry/multiplier"] {
                refused_at(&answer, pointer)?;
            }
            same(case.client().send("GET", &path(case), &[], b"")?.status, 404)
        },
    ),
    row(
        "given secrets, URL and headers of one by the API, when the data folder is read, then none of them is there",
        |hook| hook,
        |case| {
            let url = case.receiver.url(&format!("/{}?token=hidden-in-the-query", name(case)));
            let more = json!({ "url": url, "secrets": [OTHER], "headers": { "x-key": "hidden-in-a-header" } });
            created(case, more)?;
            let bytes = bytes_below(&case.daemon.home().join("data"))?;
            // The name is not sealed: that it is found says that this looks at the right place.
            ensure!(has(&bytes, &name(case)), "not even its name is there");
            for hidden in [OTHER, "hidden-in-the-query", "hidden-in-a-header"] {
                ensure!(!has(&bytes, hidden), "{hidden} is there to be read");
            }
            Ok(())
        },
    ),
    row(
        "given a secret that is rotated with a grace, when it is over, then the old one signs no more, by itself",
        |hook| hook,
        |case| {
            created(case, json!({ "secrets": [OTHER] }))?;
            let answer = case.client().post(&format!("{}/rotate-secret", path(case)), &json!({ "grace": "2s" }))?;
            let new = answer.json()?["secret"].as_str().context("a secret")?.to_owned();
            case.send(json!({}))?;
            let early = arrivals(case, 1)?[0].request.clone();
            ensure!(signature::holds(&early, OTHER) && signature::holds(&early, &new), "{early:?}");
            let first = early.header("webhook-signature").split(' ').next().unwrap_or_default().to_owned();
            let mut alone = early.clone();
            alone.headers.iter_mut().filter(|(n, _)| n == "webhook-signature").for_each(|(_, v)| v.clone_from(&first));
            ensure!(signature::holds(&alone, &new), "the new one signs first");
            sleep(Duration::from_millis(2100));
            case.send(json!({}))?;
            let late = arrivals(case, 2)?[1].request.clone();
            ensure!(!signature::holds(&late, OTHER) && signature::holds(&late, &new), "{late:?}");
            Ok(())
        },
    ),
    row(
        "given one by the API, when the daemon is killed and started, then it is there, delivers, and signs as before",
        |hook| hook,
        |case| {
            created(case, json!({ "secrets": [SECRET], "headers": { "x-kept": "1" } }))?;
            Ok(())
        },
    )
    .after(|case| {
        same(case.client().get(&path(case))?["state"].clone(), json!("active"))?;
        case.send(json!({}))?;
        let arrival = arrivals(case, 1)?[0].clone();
        ensure!(signature::holds(&arrival.request, SECRET) && arrival.header("x-kept") == "1", "{arrival:?}");
        Ok(())
    }),
    row(
        "given one by the API that was deleted, when the daemon is killed and started, then it stays gone",
        |hook| hook,
        |case| {
            created(case, json!({}))?;
            same(case.client().send("DELETE", &path(case), &[], b"")?.status, 204)
        },
    )
    .after(|case| same(case.client().send("GET", &path(case), &[], b"")?.status, 404)),
    row(
        "given one by the API that is paused, when events come and it is resumed, then it gets them",
        |hook| hook,
        |case| {
            created(case, json!({}))?;
            same(case.client().post(&format!("{}/pause", path(case)), &json!({}))?.status, 200)?;
            let id = case.send(json!({}))?;
            case.becomes(&id, "delivered")?;
            ensure!(case.arrivals_of(&name(case)).is_empty());
            same(case.client().post(&format!("{}/resume", path(case)), &json!({}))?.status, 200)?;
            same(arrivals(case, 1)?[0].header("webhook-id"), id.as_str())
        },
    ),
];

#[test]
fn every_promise_of_subscriptions_by_api_holds() -> Result<()> {
    play(ROWS, Config::default())
}
