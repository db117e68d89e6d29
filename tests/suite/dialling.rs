//! Happy eyeballs (RFC 8305): a name whose IPv6 address is dead and whose IPv4 address lives is reached all the same.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Daemon, PrivateNetwork, Receiver, Reply, Subscription, daemon, names, until};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const V6: Ipv6Addr = Ipv6Addr::new(0x2a00, 0x1450, 0, 0, 0, 0, 0, 0x42);
const V4: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);

/// How an address is dead.
#[derive(Clone, Copy, PartialEq)]
enum Dead {
    /// Nobody listens.
    Refused,
    /// What is sent there is never answered.
    Silent,
}

/// Listens at the address and takes nobody, so that the kernel leaves further connections without an answer.
fn silence(address: SocketAddr) -> Result<(TcpListener, Vec<TcpStream>)> {
    // The address is routed to us, and not given to an interface; this is a setting of the private network alone.
    std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1")?;
    let listener = TcpListener::bind(address)?;
    // A queue of the least length, which the first that come fill for good.
    rustix::net::listen(&listener, 0)?;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.extend(TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok());
    }
    ensure!(waiting.len() < 4, "every connection to {address} was taken");
    Ok((listener, waiting))
}

/// Delivers an event to a name with these addresses, of which the IPv6 one is dead; answers the delivery.
fn deliver(dead: Dead, addresses: &[IpAddr]) -> Result<Value> {
    let (folder, network) = (folder()?, PrivateNetwork::make()?);
    let addresses = addresses.to_vec();
    network.run(|| {
        names::serve(move |name| (name == "two.test").then(|| addresses.clone()))?;
        let port = daemon::free_port()?;
        let _silent = (dead == Dead::Silent).then(|| silence((V6, port).into())).transpose()?;
        let receiver = Receiver::on((V4, port).into(), |_| Reply::Status(200))?;
        let hook = Subscription::webhook("two", &format!("http://two.test:{port}/"))
            .set("events", json!(["dial:**"]))
            .set("retry", json!({ "attempts": 1 }));
        let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?;
        daemon.start()?;
        let mut client = daemon.client();
        let answer = client.post("/v1/events", &json!({ "type": "dial:made" }))?.json()?;
        let id = answer["id"].as_str().context("an id")?;
        let delivery = until("a settled delivery", Duration::from_secs(20), || {
            let event = client.get(&format!("/v1/events/{id}"))?;
            Ok(Some(event["deliveries"][0].clone()).filter(|delivery| delivery["state"] != "pending"))
        })?;
        let (arrived, delivered) = (receiver.requests(), delivery["state"] == "delivered");
        ensure!(arrived == u64::from(delivered), "{arrived} arrived: {delivery}");
        Ok(delivery)
    })
}

#[test]
fn a_name_whose_ipv6_address_is_dead_is_reached_by_ipv4_and_the_attempt_shows_it() -> Result<()> {
    for dead in [Dead::Refused, Dead::Silent] {
        for addresses in [[IpAddr::from(V6), IpAddr::from(V4)], [IpAddr::from(V4), IpAddr::from(V6)]] {
            let delivery = deliver(dead, &addresses)?;
            let attempt = &delivery["attempts"][0];
            ensure!(delivery["state"] == "delivered" && delivery["attempt_count"] == 1, "{delivery}");
            ensure!(
                attempt["address"].as_str() == Some(V4.to_string().as_str())
                    || attempt["address"].as_str().is_some_and(|a| a.starts_with(&format!("{V4}:"))),
                "{attempt}"
            );
        }
    }
    Ok(())
}

#[test]
fn control_a_name_with_the_dead_address_alone_is_not_reached() -> Result<()> {
    for dead in [Dead::Refused, Dead::Silent] {
        let delivery = deliver(dead, &[V6.into()])?;
        let class = delivery["attempts"][0]["error_class"].as_str().unwrap_or_default().to_owned();
        ensure!(delivery["state"] == "dead" && !class.is_empty(), "{delivery}");
    }
    Ok(())
}
