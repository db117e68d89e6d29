//! The ways by which a URL comes in: start, reload, the API's POST and PATCH, a name that is delivered to or tested, an
//! analytics backend. By none of them is a refused address ever dialled.

use super::hosts::{ADDRESSES, SPELLINGS};
use super::{config, hook};
use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Client, Config, Daemon, PrivateNetwork, Subscription, daemon, names, process, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// An event that analytics get.
const DECLARED: &str =
    "[layer.\"counted\"]\nfields.yes = { type = \"boolean\", telemetry = \"keep\" }\n[event.\"counted:now\"]\n";

/// Runs with a daemon in a network that leads nowhere, where `nK.refused.test` resolves to the K-th refused address;
/// answers how many connections the daemon's network saw meanwhile.
fn counted(
    allow: &[&str],
    all: impl FnOnce(Config, u16) -> Config + Send,
    act: impl FnOnce(&mut Daemon, &mut Client, &Path) -> Result<()> + Send,
) -> Result<u64> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| {
        names::serve(|name| {
            if name == "world.test" {
                return Some(vec![IpAddr::from(super::PUBLIC)]);
            }
            let at: usize = name.strip_prefix('n')?.strip_suffix(".refused.test")?.parse().ok()?;
            ADDRESSES.get(at)?.parse().ok().map(|address| vec![address])
        })?;
        let port = daemon::free_port()?;
        std::fs::write(folder.path().join("events.toml"), DECLARED)?;
        let config = config(allow).set("catalogue", "files", json!(["events.toml"]));
        let mut daemon = Daemon::new(folder.path(), all(config, port))?;
        daemon.start()?;
        // One connection of ours, made before the count begins.
        let mut client = daemon.client();
        client.get("/v1/subscriptions")?;
        let before = process::connections_begun(daemon.pid()?)?;
        act(&mut daemon, &mut client, folder.path())?;
        Ok(process::connections_begun(daemon.pid()?)? - before)
    })
}

fn none(begun: u64) -> Result<()> {
    ensure!(begun == 0, "{begun} connections were begun");
    Ok(())
}

fn settled(client: &mut Client, event: &str) -> Result<Vec<Value>> {
    until("the end of all", PATIENCE, || {
        let event = client.get(&format!("/v1/events/{event}"))?;
        let deliveries = event["deliveries"].as_array().cloned().unwrap_or_default();
        Ok(deliveries.iter().all(|d| d["state"] != "pending").then_some(deliveries))
    })
}

/// What is answered where a URL stands in the body of a request.
fn refused_at_url(answer: &posthaste_tests::Answer, host: &str) -> Result<()> {
    let told = answer.json().with_context(|| host.to_owned())?;
    let error = &told["errors"][0];
    let clear = error["detail"].as_str().is_some_and(|detail| detail.len() > 20);
    ensure!(answer.status == 422 && error["pointer"] == "/url" && clear, "{host}: {} {told}", answer.status);
    Ok(())
}

#[test]
fn no_spelling_of_a_refused_address_is_taken_by_post_or_by_patch() -> Result<()> {
    let begun = counted(
        &[],
        |config, _| config,
        |_, client, _| {
            let body = |name: &str, url: &str| json!({ "name": name, "deliveree": "webhook", "events": ["guard:**"], "url": url });
            let made = client.post("/v1/subscriptions", &body("patched", "https://world.test/"))?;
            ensure!(made.status == 201, "{}", String::from_utf8_lossy(&made.body));
            let merge = [("content-type", "application/merge-patch+json")];
            for host in SPELLINGS {
                for scheme in ["http", "https"] {
                    let url = format!("{scheme}://{host}:9/hook");
                    refused_at_url(&client.post("/v1/subscriptions", &body("posted", &url))?, host)?;
                    let change = json!({ "url": url }).to_string();
                    let answer = client.send("PATCH", "/v1/subscriptions/patched", &merge, change.as_bytes())?;
                    refused_at_url(&answer, host)?;
                }
            }
            let listed = client.get("/v1/subscriptions")?;
            ensure!(listed["data"].as_array().is_some_and(|all| all.len() == 1), "{listed}");
            Ok(())
        },
    )?;
    none(begun)
}

#[test]
fn analytics_by_config_and_by_api_take_no_spelling_of_a_refused_address_either() -> Result<()> {
    let begun = counted(
        &[],
        |config, _| config,
        |_, client, home| {
            for host in SPELLINGS {
                let url = format!("http://{host}:9/collect");
                let body = json!({ "name": "a", "deliveree": "analytics", "backend": "http", "url": url });
                refused_at_url(&client.post("/v1/subscriptions", &body)?, host)?;
            }
            let all = SPELLINGS.iter().enumerate().fold(config(&[]), |config, (at, host)| {
                let analytics = Subscription::of("analytics", &format!("spelled-{at:03}"));
                config.subscribe(analytics.set("backend", "http").set("url", format!("http://{host}:9/collect")))
            });
            let other = Daemon::new(&home.join("analytics"), all)?;
            let done = other.cli(&["check", "--config", "config.toml"])?;
            let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            let passed: Vec<&str> = (0..SPELLINGS.len())
                .filter(|at| !said.contains(&format!("spelled-{at:03}")))
                .map(|at| SPELLINGS[at])
                .collect();
            ensure!(done.status.code() == Some(2) && passed.is_empty(), "taken for harmless: {passed:?}");
            Ok(())
        },
    )?;
    none(begun)
}

#[test]
fn a_start_and_a_reload_with_a_refused_address_are_refused_whole() -> Result<()> {
    let begun = counted(
        &[],
        |config, _| config.subscribe(hook("kept", "https://world.test/")),
        |daemon, client, home| {
            let bad = SPELLINGS.iter().enumerate().fold(config(&[]), |config, (at, host)| {
                config.subscribe(hook(&format!("spelled-{at:03}"), &format!("http://{host}:9/hook")))
            });
            // A start.
            let other = Daemon::new(&home.join("other"), bad.clone())?;
            let done = other.cli(&["serve", "--config", "config.toml"])?;
            ensure!(done.status.code() == Some(2), "it started: {}", done.status);
            // A reload.
            daemon.configure(|good| {
                SPELLINGS.iter().enumerate().fold(good, |config, (at, host)| {
                    config.subscribe(hook(&format!("spelled-{at:03}"), &format!("http://{host}:9/hook")))
                })
            })?;
            daemon.signal(Signal::HUP)?;
            until("the refusal in the log", PATIENCE, || {
                let log = daemon.log();
                let all = (0..SPELLINGS.len()).all(|at| log.contains(&format!("spelled-{at:03}")));
                Ok(all.then_some(()))
            })?;
            let listed = client.get("/v1/subscriptions")?;
            ensure!(listed["data"][0]["name"] == "kept" && listed["data"][1].is_null(), "{listed}");
            Ok(())
        },
    )?;
    none(begun)
}

/// Makes a webhook by the API and an analytics subscription in the config for each name of a refused address, sends an
/// event to all and tests each; answers what went wrong.
fn by_name(allow: &[&str]) -> Result<(u64, Vec<String>)> {
    let mut wrong = Vec::new();
    let begun = counted(
        allow,
        |config, port| {
            (0..ADDRESSES.len()).fold(config, |config, at| {
                let analytics = Subscription::of("analytics", &format!("a{at}"))
                    .set("backend", "http")
                    .set("url", format!("http://n{at}.refused.test:{port}/"))
                    .set("timeout", "2s");
                config.subscribe(analytics)
            })
        },
        |_, client, _| {
            for at in 0..ADDRESSES.len() {
                let body = json!({
                    "name": format!("n{at}"), "deliveree": "webhook", "events": ["guard:**"], "timeout": "2s",
                    "url": format!("https://n{at}.refused.test:9/"), "retry": { "attempts": 1 }, "circuit": false,
                });
                let made = client.post("/v1/subscriptions", &body)?;
                ensure!(made.status == 201, "{}", String::from_utf8_lossy(&made.body));
            }
            let recorded = client.post("/v1/events", &json!({ "type": "guard:sent" }))?.json()?;
            let deliveries = settled(client, recorded["id"].as_str().context("an id")?)?;
            ensure!(deliveries.len() == ADDRESSES.len(), "{} deliveries", deliveries.len());
            let is_refused = |attempt: &Value| {
                attempt["error_class"] == "refused"
                    && attempt["error"].as_str().is_some_and(|e| e.starts_with("refused address: "))
            };
            wrong.extend(deliveries.iter().filter(|d| !is_refused(&d["attempts"][0])).map(Value::to_string));
            for (at, address) in ADDRESSES.iter().enumerate() {
                let tested = client.post(&format!("/v1/subscriptions/n{at}/test"), &json!({}))?.json()?;
                if !is_refused(&tested) {
                    wrong.push(format!("test of {address}: {tested}"));
                }
            }
            let counted = json!({ "type": "counted:now", "properties": { "counted": { "yes": true } } });
            let recorded = client.post("/v1/events", &counted)?.json()?;
            let deliveries = settled(client, recorded["id"].as_str().context("an id")?)?;
            ensure!(deliveries.len() == ADDRESSES.len(), "{} deliveries to analytics", deliveries.len());
            wrong.extend(deliveries.iter().filter(|d| !is_refused(&d["attempts"][0])).map(Value::to_string));
            Ok(())
        },
    )?;
    Ok((begun, wrong))
}

#[test]
fn names_of_refused_addresses_are_not_dialled_by_api_by_test_or_by_analytics() -> Result<()> {
    let (begun, wrong) = by_name(&[])?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    none(begun)
}

#[test]
fn control_without_the_guard_the_same_ways_are_seen_to_dial() -> Result<()> {
    let (begun, wrong) = by_name(&["0.0.0.0/0", "::/0"])?;
    ensure!(begun > 40 && wrong.len() > 40, "the test can not see: {begun} connections, {} others", wrong.len());
    Ok(())
}
