//! R14: everything waits for a receiver that is down.

use crate::{at, folder, size};
use anyhow::{Result, ensure};
use posthaste_tests::{Config, Daemon, Ledger, Load, Receiver, Reply, Shape, Subscription, daemon, process};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const MEMORY_MAX: u64 = 256 * 1024 * 1024;

/// Of each event: all of them together are more than may be kept in memory.
const PADDING: fn(u64) -> usize = |_| 3_000;

/// What was measured while everything waited.
#[derive(Debug)]
struct Waiting {
    peak: u64,
    peak_after: u64,
    ready: Duration,
    lost: usize,
}

/// Records `events` for a receiver that is down, kills the daemon, starts it again, and lets the receiver come back.
fn wait_for_a_dead_receiver(events: u64, engine: &str) -> Result<Waiting> {
    let folder = folder()?;
    let port = daemon::free_port()?;
    let ledger = Ledger::default();
    let config = Config::default()
        .set("outbox", "engine", engine)
        .set("retry", "initial", "2s")
        .set("retry", "max", "5s")
        .set("retry", "give_up_after", "1h")
        .subscribe(Subscription::webhook("dead", &at(port, "/")).set("events", vec!["load:**"]));
    let mut daemon = Daemon::new(folder.path(), config)?;
    daemon.start()?;
    let shape = Shape { connections: 4, array: 100, padding: PADDING, events_max: events, ..Shape::default() };
    Load::start(daemon.address(), &shape, 0, &ledger).finish()?;
    let peak = process::peak(daemon.pid()?)?;
    daemon.kill9()?;
    let ready = daemon.start()?;

    let book = ledger.clone();
    let receiver = Receiver::on(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), move |request| {
        book.arrive(request);
        Reply::Status(200)
    })?;
    daemon.settled("dead", Duration::from_secs(180))?;
    drop(receiver);
    let found = ledger.difference();
    ensure!(found.promised as u64 == events, "{} of {events} were taken", found.promised);
    ensure!(found.wrong_id.is_empty(), "{:?}", found.wrong_id);
    Ok(Waiting { peak, peak_after: process::peak(daemon.pid()?)?, ready, lost: found.lost.len() })
}

#[test]
fn a_hundred_thousand_events_wait_for_a_dead_receiver_and_then_all_arrive() -> Result<()> {
    let found = wait_for_a_dead_receiver(size(100_000, 1_000_000), "sled")?;
    ensure!(found.lost == 0, "{found:?}");
    ensure!(found.peak <= MEMORY_MAX && found.peak_after <= MEMORY_MAX, "{found:?}");
    // The one figure of time in this suite: it is promised, and ten times what a start takes.
    ensure!(found.ready <= Duration::from_secs(1), "{found:?}");
    Ok(())
}

#[test]
fn control_a_store_that_keeps_everything_in_memory_is_seen_to_grow_and_to_forget() -> Result<()> {
    let found = wait_for_a_dead_receiver(100_000, "memory")?;
    ensure!(found.peak > MEMORY_MAX, "the test can not see memory grow: {found:?}");
    ensure!(found.lost > 0, "the test can not see loss: {found:?}");
    Ok(())
}
