//! R1: kill -9 at random moments under load.

use crate::{folder, size};
use anyhow::{Result, ensure};
use posthaste_tests::ledger::Difference;
use posthaste_tests::{Config, Count, Daemon, Ledger, Load, Receiver, Reply, Shape, Subscription, signature};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::thread::sleep;
use std::time::Duration;

/// Fewer acknowledged events prove nothing.
const PROMISED_MIN: usize = 1_000;

/// What a storm of kills left.
struct Aftermath {
    difference: Difference,
    /// Deliveries whose signature did not hold.
    forged: u64,
}

/// Kills the daemon `cycles` times while events are posted and delivered, then lets it deliver the rest.
fn storm(cycles: u32, fault: Option<&str>, seed: u64) -> Result<Aftermath> {
    let folder = folder()?;
    let (ledger, forged) = (Ledger::default(), Count::default());
    let (book, bad) = (ledger.clone(), forged.clone());
    let receiver = Receiver::start(move |request| {
        if !signature::holds(request, posthaste_tests::config::SECRET) {
            bad.add(1);
        }
        // Every fourth is refused at first, so that each kill finds retries that wait.
        match book.arrive(request) {
            Some(n) if n % 4 == 0 && request.header("posthaste-attempt") == "1" => Reply::Status(503),
            _ => Reply::Status(200),
        }
    })?;
    let config = Config::default().subscribe(
        Subscription::webhook("all", &receiver.url("/")).set("events", vec!["load:**"]).set("concurrency", 8),
    );
    let mut daemon = Daemon::new(folder.path(), config)?.with_fault(fault);
    let mut random = StdRng::seed_from_u64(seed);
    daemon.start()?;
    let load = Load::start(daemon.address(), &Shape::default(), 0, &ledger);
    let mut killed = 0;
    // Where a machine is slow it takes more lives until there is enough to lose.
    while killed < cycles || ledger.promised() <= PROMISED_MIN {
        ensure!(killed < cycles * 10, "seed {seed}: {} promised in {killed} lives", ledger.promised());
        sleep(Duration::from_millis(random.random_range(20..400)));
        daemon.kill9()?;
        daemon.start()?;
        killed += 1;
    }
    sleep(Duration::from_millis(200));
    load.stop()?;
    daemon.settled("all", Duration::from_secs(60))?;
    Ok(Aftermath { difference: ledger.difference(), forged: forged.get() })
}

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_is_killed_under_load() -> Result<()> {
    let seed = rand::random();
    let after = storm(size(20, 200), None, seed)?;
    let found = &after.difference;
    ensure!(found.lost.is_empty() && found.wrong_id.is_empty(), "seed {seed}: {found:?}");
    ensure!(after.forged == 0, "seed {seed}: {} signatures did not hold", after.forged);
    Ok(())
}

#[test]
fn control_a_daemon_that_acknowledges_without_a_sync_loses_events_when_it_is_killed() -> Result<()> {
    let after = storm(8, Some("skip-sync"), 1)?;
    ensure!(!after.difference.lost.is_empty(), "the test can not see loss: {:?}", after.difference);
    Ok(())
}
