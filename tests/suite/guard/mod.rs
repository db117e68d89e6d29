//! R19: URLs that lead where they must not, by every way that a URL comes in.
//!
//! Everything runs in a network that leads nowhere, where the kernel counts each connection that anybody begins.

mod hosts;
mod ways;

use crate::folder;
use anyhow::{Context, Result, ensure};
use hosts::{ADDRESSES, SPELLINGS};
use posthaste_tests::{
    Config, Count, Daemon, PrivateNetwork, Receiver, Reply, Subscription, daemon, names, process, until,
};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// An address that the world may be dialled at.
const PUBLIC: [u8; 4] = [8, 8, 8, 8];

fn hook(name: &str, url: &str) -> Subscription {
    Subscription::webhook(name, url).set("events", vec![format!("guard:{name}")])
}

fn config(allow: &[&str]) -> Config {
    Config::default().set("retry", "attempts", 1).set("network", "allow_networks", json!(allow))
}

#[test]
fn check_names_every_spelling_of_a_refused_address() -> Result<()> {
    ensure!(SPELLINGS.len() >= 120);
    let folder = folder()?;
    let named = |at: usize| format!("spelled-{at:03}");
    let all = SPELLINGS
        .iter()
        .enumerate()
        .fold(config(&[]), |config, (at, host)| config.subscribe(hook(&named(at), &format!("http://{host}:9/hook"))));
    let daemon = Daemon::new(folder.path(), all)?;
    let done = daemon.cli(&["check", "--config", "config.toml"])?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.code() == Some(2), "{}: {said}", done.status);
    let passed: Vec<&str> =
        (0..SPELLINGS.len()).filter(|at| !said.contains(&named(*at))).map(|at| SPELLINGS[at]).collect();
    ensure!(passed.is_empty(), "taken for harmless: {passed:?}");
    // Control: addresses of the world, in the same clothes, are no problem.
    let fine = ["8.8.8.8", "0x08.010.8.8", "134744072", "[2a00:1450::1]", "hooks.example.com"];
    let good = fine
        .iter()
        .enumerate()
        .fold(config(&[]), |config, (at, host)| config.subscribe(hook(&named(at), &format!("http://{host}:9/hook"))));
    let daemon = Daemon::new(&folder.path().join("good"), good)?;
    let done = daemon.cli(&["check", "--config", "config.toml"])?;
    ensure!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// What the network saw while one event went to a name for each refused address.
struct Dialled {
    connections: u64,
    deliveries: Vec<Value>,
}

fn deliver_to_names(allow: &[&str]) -> Result<Dialled> {
    let folder = folder()?;
    let network = PrivateNetwork::make()?;
    network.run(|| {
        names::serve(|name| {
            let at: usize = name.strip_prefix('n')?.strip_suffix(".refused.test")?.parse().ok()?;
            ADDRESSES.get(at)?.parse().ok().map(|address| vec![address])
        })?;
        let port = daemon::free_port()?;
        let all = (0..ADDRESSES.len()).fold(config(allow), |config, at| {
            let url = format!("http://n{at}.refused.test:{port}/");
            config.subscribe(Subscription::webhook(&format!("n{at}"), &url).set("events", vec!["guard:**"]))
        });
        let mut daemon = Daemon::new(folder.path(), all)?;
        daemon.start()?;
        // One connection of ours, made before the count begins.
        let mut client = daemon.client();
        client.get("/v1/subscriptions")?;
        let before = process::connections_begun(daemon.pid()?)?;
        let answer = client.post("/v1/events", &json!({ "type": "guard:sent" }))?.json()?;
        let id = answer["id"].as_str().context("an id")?.to_owned();
        let deliveries = until("the end of all", Duration::from_secs(30), || {
            let event = client.get(&format!("/v1/events/{id}"))?;
            let deliveries = event["deliveries"].as_array().cloned().unwrap_or_default();
            Ok(deliveries.iter().all(|d| d["state"] != "pending").then_some(deliveries))
        })?;
        Ok(Dialled { connections: process::connections_begun(daemon.pid()?)? - before, deliveries })
    })
}

#[test]
fn names_of_refused_addresses_are_never_dialled_and_end_as_dead() -> Result<()> {
    let found = deliver_to_names(&[])?;
    ensure!(found.connections == 0, "{} connections were begun", found.connections);
    ensure!(found.deliveries.len() == ADDRESSES.len(), "{} deliveries", found.deliveries.len());
    for delivery in &found.deliveries {
        let clear = delivery["attempts"][0]["error"].as_str().is_some_and(|e| !e.is_empty());
        ensure!(delivery["state"] == "dead" && clear, "{delivery}");
    }
    Ok(())
}

#[test]
fn control_without_the_guard_the_same_names_are_dialled() -> Result<()> {
    let found = deliver_to_names(&["0.0.0.0/0", "::/0"])?;
    ensure!(found.connections > 20, "the test can not see connections: {}", found.connections);
    Ok(())
}

/// What one name led to.
#[derive(Debug, Clone, Default)]
struct Led {
    /// Requests that reached the world.
    outside: Count,
    /// Requests that reached a refused address.
    inside: Count,
}

/// Where requests arrived.
#[derive(Debug, Clone, Default)]
struct Reached {
    /// By the name that changes its mind.
    turning: Led,
    /// By the other names.
    others: Led,
    /// Where the redirect leads to.
    redirected: Count,
    /// How many attempts at the name that changes its mind were refused.
    refused: usize,
}

/// Delivers to a name that changes its mind, and to a server that redirects inwards.
fn rebind(allow: &[&str]) -> Result<Reached> {
    let folder = folder()?;
    let network = PrivateNetwork::make()?;
    network.run(|| {
        let turn = Count::default();
        names::serve(move |name| {
            let (public, inside) = (IpAddr::from(PUBLIC), IpAddr::from([10, 0, 0, 1]));
            match name {
                "turning.test" => {
                    let asked = turn.get();
                    turn.add(1);
                    // Two questions a resolution (IPv4 and IPv6), so both answers of one agree.
                    Some(vec![if (asked / 2).is_multiple_of(2) { public } else { inside }])
                }
                "both.test" => Some(vec![inside, public]),
                "public.test" => Some(vec![public]),
                _ => None,
            }
        })?;
        let reached = Reached::default();
        let seen = reached.clone();
        let receiver = Receiver::on(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), move |request| {
            let (name, port) = request.header("host").split_once(':').unwrap_or_default();
            let led = if name == "turning.test" { &seen.turning } else { &seen.others };
            if request.path == "/redirected" {
                seen.redirected.add(1);
            } else if request.reached == IpAddr::from(PUBLIC) {
                led.outside.add(1);
            } else {
                led.inside.add(1);
            }
            // Closed each time, so that every attempt dials anew; a redirect inwards in any case, to this very receiver.
            let inwards = format!("http://10.0.0.1:{port}/redirected");
            Reply::Full(302, vec![("location", inwards), ("connection", "close".to_owned())], Vec::new())
        })?;
        let port = receiver.address().port();
        let all = ["turning", "both", "public"].iter().fold(config(allow), |config, name| {
            let url = format!("http://{name}.test:{port}/");
            let webhook = Subscription::webhook(name, &url).set("events", vec!["guard:**"]);
            config.subscribe(webhook.set("retry", json!({ "attempts": 12, "initial": "10ms", "max": "10ms" })))
        });
        let mut daemon = Daemon::new(folder.path(), all)?;
        daemon.start()?;
        let mut client = daemon.client();
        let recorded = client.post("/v1/events", &json!({ "type": "guard:sent" }))?.json()?;
        for name in ["turning", "both", "public"] {
            daemon.settled(name, Duration::from_secs(30))?;
        }
        let event = client.get(&format!("/v1/events/{}", recorded["id"].as_str().context("an id")?))?;
        let deliveries = event["deliveries"].as_array().context("deliveries")?;
        let turning = deliveries.iter().find(|d| d["subscription"] == "turning").context("that of turning")?;
        let attempts = turning["attempts"].as_array().context("attempts")?;
        let refused = attempts.iter().filter(|a| a["error_class"] == "refused").count();
        Ok(Reached { refused, ..reached })
    })
}

#[test]
fn a_name_that_turns_inwards_and_a_redirect_inwards_are_not_followed() -> Result<()> {
    let reached = rebind(&[])?;
    let Reached { turning, others, redirected, refused } = &reached;
    // It was right at first and turned then, so that a resolver which remembers, or a check before the dialling, is found.
    ensure!(turning.outside.get() > 0 && *refused > 0 && turning.inside.get() == 0, "{reached:?}");
    ensure!(others.outside.get() >= 12 && others.inside.get() == 0 && redirected.get() == 0, "{reached:?}");
    Ok(())
}

#[test]
fn control_without_the_guard_a_name_that_turns_inwards_is_followed() -> Result<()> {
    let reached = rebind(&["10.0.0.0/8"])?;
    let Reached { turning, refused, .. } = &reached;
    ensure!(turning.outside.get() > 0 && turning.inside.get() > 0 && *refused == 0, "{reached:?}");
    Ok(())
}
