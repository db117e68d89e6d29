//! TLS against a web server that is not ours: bad certificates are refused and named before a request leaves, good ones
//! of a private authority are taken, over HTTP/2 where nginx speaks it.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::nginx::{Nginx, Server, Taken};
use posthaste_tests::{Authority, Config, Daemon, Identity, Subscription, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The certificates, and how the attempt's error begins that each leads to; none where it is good.
const CERTIFICATES: [(&str, Option<&str>); 6] = [
    ("good", None),
    ("good-old", None),
    ("expired", Some("tls: the certificate expired at 2020-01-01T00:00:00.000Z")),
    ("self-signed", Some("tls: the certificate is self-signed, and not trusted")),
    ("wrong-host", Some("tls: the certificate is for another host: not for 127.0.0.1, but elsewhere.example")),
    ("unknown", Some("tls: the certificate is from an authority that is not trusted")),
];
/// How many events are sent.
const EVENTS: usize = 5;

/// What came of an event for each certificate.
struct Played {
    deliveries: BTreeMap<String, Vec<Value>>,
    taken: Vec<Taken>,
    addresses: BTreeMap<String, String>,
}

/// Sends events to a webhook for each certificate, with these settings beside the URL.
fn play(settings: &[(&str, Value)]) -> Result<Played> {
    let home = folder()?;
    let authority = Authority::new()?;
    // It vouches for nothing but itself; its certificate is no authority's.
    let stranger = Identity::self_signed(&["127.0.0.1"])?;
    let identities = [
        authority.certify(&["127.0.0.1"])?,
        authority.certify(&["127.0.0.1"])?,
        authority.certify_expired(&["127.0.0.1"])?,
        stranger,
        authority.certify(&["elsewhere.example"])?,
        Authority::named("An authority that nobody knows")?.certify(&["127.0.0.1"])?,
    ];
    let servers: Vec<Server<'_>> = identities
        .iter()
        .zip(CERTIFICATES)
        .map(|(identity, (name, _))| Server { identity, http_2: name != "good-old" })
        .collect();
    let web = home.path().join("nginx");
    fs::create_dir(&web)?;
    let nginx = Nginx::start(&web, &servers)?;
    fs::write(home.path().join("authority.pem"), authority.pem())?;
    let config = CERTIFICATES.iter().enumerate().fold(
        Config::default().set("retry", "attempts", 1),
        |config, (server, (name, _))| {
            let webhook = Subscription::webhook(name, &nginx.url(server)).set("events", vec!["tls:sent"]);
            config.subscribe(settings.iter().fold(webhook, |webhook, (key, value)| webhook.set(key, value.clone())))
        },
    );
    let mut daemon = Daemon::new(home.path(), config)?;
    daemon.start()?;
    let mut client = daemon.client();
    let mut deliveries: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for _ in 0..EVENTS {
        let answer = client.post("/v1/events", &json!({ "type": "tls:sent" }))?.json()?;
        let id = answer["id"].as_str().context("an id")?.to_owned();
        let ended = until("the end of all", Duration::from_secs(30), || {
            let event = client.get(&format!("/v1/events/{id}"))?;
            let all = event["deliveries"].as_array().cloned().unwrap_or_default();
            Ok(all.iter().all(|one| one["state"] != "pending").then_some(all))
        })?;
        for delivery in ended {
            let name = delivery["subscription"].as_str().context("a subscription")?.to_owned();
            deliveries.entry(name).or_default().push(delivery);
        }
    }
    // nginx writes its log once an answer has left.
    let wanted = deliveries.values().flatten().filter(|one| one["state"] == "delivered").count();
    let taken = until("the log of nginx", Duration::from_secs(10), || {
        let taken = nginx.taken()?;
        Ok((taken.len() >= wanted).then_some(taken))
    })?;
    let addresses = CERTIFICATES.iter().enumerate().map(|(server, (name, _))| {
        let address = nginx.address(server).to_string();
        ((*name).to_owned(), address)
    });
    Ok(Played { deliveries, taken, addresses: addresses.collect() })
}

fn number(name: &str) -> usize {
    CERTIFICATES.iter().position(|(known, _)| *known == name).unwrap_or(usize::MAX)
}

#[test]
fn a_bad_certificate_is_refused_and_named_and_a_private_authority_is_believed() -> Result<()> {
    let played = play(&[("ca", json!("file:authority.pem"))])?;
    for (name, error) in CERTIFICATES {
        let deliveries = played.deliveries.get(name).with_context(|| format!("deliveries to {name}"))?;
        ensure!(deliveries.len() == EVENTS, "{name}: {}", deliveries.len());
        for delivery in deliveries {
            let attempt = &delivery["attempts"][0];
            let said = attempt["error"].as_str();
            let (state, class) = if error.is_some() { ("dead", json!("tls")) } else { ("delivered", Value::Null) };
            let right = match error {
                Some(error) => said.is_some_and(|said| said.starts_with(error)),
                None => said.is_none() && attempt["status"] == 200,
            };
            ensure!(delivery["state"] == state && right, "{name}: {delivery}");
            ensure!(attempt["error_class"] == class, "{name}: {delivery}");
            ensure!(
                attempt["address"].as_str() == played.addresses.get(name).map(String::as_str),
                "{name}: {delivery}"
            );
        }
        // A request that left would stand in the log, whatever became of it.
        let taken = played.taken.iter().filter(|one| one.server == number(name)).count();
        ensure!(taken == if error.is_some() { 0 } else { EVENTS }, "{name}: nginx took {taken} requests");
    }
    Ok(())
}

#[test]
fn nginx_is_spoken_to_in_http_2_where_it_does_and_connections_are_kept() -> Result<()> {
    let played = play(&[("ca", json!("file:authority.pem"))])?;
    for (name, protocol) in [("good", "HTTP/2.0"), ("good-old", "HTTP/1.1")] {
        let taken: Vec<_> = played.taken.iter().filter(|one| one.server == number(name)).collect();
        let first = taken.first().with_context(|| format!("requests of {name}"))?;
        ensure!(taken.iter().all(|one| one.protocol == protocol), "{name}: {taken:?}");
        ensure!(taken.iter().all(|one| one.connection == first.connection), "{name}: not one connection: {taken:?}");
        // The first attempt made a handshake, the second found its connection.
        let phases = |at: usize| played.deliveries[name][at]["attempts"][0]["phases_ms"].clone();
        ensure!(phases(0)["tls"].is_number() && phases(0)["connect"].is_number(), "{name}: {}", phases(0));
        ensure!(phases(1)["tls"].is_null() && phases(1)["first_byte"].is_number(), "{name}: {}", phases(1));
    }
    Ok(())
}

#[test]
fn without_its_authority_a_good_certificate_is_refused_too() -> Result<()> {
    let played = play(&[])?;
    for name in ["good", "good-old"] {
        let attempt = &played.deliveries[name][0]["attempts"][0];
        let said = attempt["error"].as_str().unwrap_or_default();
        ensure!(said == "tls: the certificate is from an authority that is not trusted", "{name}: {attempt}");
    }
    ensure!(played.taken.is_empty(), "{:?}", played.taken);
    Ok(())
}

#[test]
fn control_with_the_check_switched_off_nginx_takes_them_all() -> Result<()> {
    let played = play(&[("dangerous_accept_invalid_certificates", json!(true))])?;
    for (name, _) in CERTIFICATES {
        let taken = played.taken.iter().filter(|one| one.server == number(name)).count();
        ensure!(taken == EVENTS, "{name}: the test can not see requests: {taken}");
    }
    Ok(())
}
