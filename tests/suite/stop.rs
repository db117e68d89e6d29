//! R6: a graceful stop under load, with slow receivers.

use crate::folder;
use anyhow::{Result, ensure};
use posthaste_tests::{Config, Count, Daemon, Ledger, Load, Receiver, Reply, Shape, Subscription, until};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How the daemon is ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Gracefully,
    Killed,
}

/// Ends the daemon while slow receivers have deliveries in flight, starts it again, and answers how many deliveries
/// were repeated though their receiver had said 200 to them.
fn stop_under_load(end: End) -> Result<u64> {
    let folder = folder()?;
    let ledger = Ledger::default();
    let (book, slow) = (ledger.clone(), Count::of(1));
    let slowness = slow.clone();
    let receiver = Receiver::start(move |request| {
        book.arrive(request);
        // Long enough that some are always in flight, short enough that a stop can wait for them.
        sleep(Duration::from_millis(1_500 * slowness.get()));
        Reply::Status(200)
    })?;
    let config = Config::default().subscribe(
        Subscription::webhook("slow", &receiver.url("/"))
            .set("events", vec!["load:**"])
            .set("timeout", "20s")
            .set("concurrency", 16),
    );
    let mut daemon = Daemon::new(folder.path(), config)?;
    daemon.start()?;
    let load = Load::start(daemon.address(), &Shape { connections: 4, ..Shape::default() }, 0, &ledger);
    until("deliveries in flight", Duration::from_secs(10), || Ok((ledger.arrived() >= 24).then_some(())))?;
    match end {
        End::Gracefully => {
            let begun = Instant::now();
            let status = daemon.stop(Duration::from_secs(10))?;
            ensure!(status.code() == Some(0), "it ended with {status} after {:?}", begun.elapsed());
        }
        End::Killed => daemon.kill9()?,
    }
    // It is gone; the requests that were in flight have been answered or broken by now.
    slow.set(0);
    load.stop()?;
    daemon.start()?;
    daemon.settled("slow", Duration::from_secs(60))?;
    let found = ledger.difference();
    ensure!(found.lost.is_empty() && found.wrong_id.is_empty(), "{found:?}");
    Ok(found.repeats)
}

#[test]
fn a_stop_under_load_ends_with_0_within_10_seconds_and_neither_loses_nor_repeats() -> Result<()> {
    let repeats = stop_under_load(End::Gracefully)?;
    ensure!(repeats == 0, "{repeats} deliveries were finished and yet repeated");
    Ok(())
}

#[test]
fn control_a_daemon_that_is_killed_repeats_what_was_in_flight() -> Result<()> {
    let repeats = stop_under_load(End::Killed)?;
    ensure!(repeats > 0, "the test can not see a repeat");
    Ok(())
}
