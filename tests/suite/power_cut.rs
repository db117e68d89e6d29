//! R2: the power fails at random moments under load.

use crate::{folder, size};
use anyhow::{Result, ensure};
use posthaste_tests::ledger::Difference;
use posthaste_tests::{Config, Daemon, Ledger, Load, LoopImage, Receiver, Reply, Shape, Subscription, daemon};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

/// Bytes of payload, in turn: within a page, over a page, past where sled moves values into files of their own, and
/// near the largest that is taken.
const PADDING: [usize; 4] = [100, 4 * 1024, 20 * 1024, 200 * 1024];

/// Moves the daemon's data onto a disk.
fn onto(disk: &LoopImage) -> impl FnOnce(Config) -> Config {
    let data = disk.path().join("data").to_string_lossy().into_owned();
    |config| config.set("daemon", "data_dir", data)
}

/// Cuts the power once, starts again on what the disk holds, and lets everything arrive.
fn cut(padding: usize, fault: Option<&str>, random: &mut StdRng) -> Result<Difference> {
    let folder = folder()?;
    // Nobody listens before the cut: whatever arrives afterwards comes from the disk.
    let receiver = SocketAddr::from((Ipv4Addr::LOCALHOST, daemon::free_port()?));
    let ledger = Ledger::default();
    let disk = LoopImage::make(folder.path(), "before", 512)?;
    let all = Subscription::webhook("all", &format!("http://{receiver}/")).set("events", vec!["load:**"]);
    let config = Config::default().set("outbox", "free_min", "1MiB").subscribe(all);
    let mut daemon = Daemon::new(&folder.path().join("home"), config)?.with_fault(fault);
    daemon.configure(onto(&disk))?;
    daemon.start()?;
    let shape = Shape { padding: padder(padding), events_max: 20_000_000 / padding as u64, ..Shape::default() };
    let load = Load::start(daemon.address(), &shape, 0, &ledger);
    sleep(Duration::from_millis(random.random_range(150..1_500)));
    daemon.freeze()?;
    // What it had answered may still lie in the sockets: the load may read that, and keeps it as promised.
    sleep(Duration::from_millis(100));
    let after = disk.after_power_cut(folder.path(), "after")?;
    daemon.kill9()?;
    load.stop()?;
    drop(disk);
    let book = ledger.clone();
    let _receiver = Receiver::on(receiver, move |request| {
        book.arrive(request);
        Reply::Status(200)
    })?;
    daemon.configure(onto(&after))?;
    daemon.start()?;
    daemon.settled("all", Duration::from_secs(60))?;
    daemon.kill9()?;
    Ok(ledger.difference())
}

fn padder(padding: usize) -> fn(u64) -> usize {
    // A plain function for each size: the load's shape is copied to its threads.
    match padding {
        100 => |_| 100,
        4_096 => |_| 4 * 1024,
        20_480 => |_| 20 * 1024,
        _ => |_| 200 * 1024,
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() -> Result<()> {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..size(8, 40) {
        let padding = PADDING[round % PADDING.len()];
        let found = cut(padding, None, &mut random)?;
        ensure!(found.promised > 10, "too little load to prove anything: {found:?}");
        let whole = found.lost.is_empty() && found.wrong_id.is_empty();
        ensure!(whole, "seed {seed}, cut {round} with {padding} bytes: {found:?}");
    }
    Ok(())
}

#[test]
fn control_a_daemon_that_acknowledges_without_a_sync_loses_events_when_the_power_fails() -> Result<()> {
    let mut random = StdRng::seed_from_u64(1);
    let found = cut(PADDING[0], Some("skip-sync"), &mut random)?;
    ensure!(!found.lost.is_empty(), "the test can not see loss: {found:?}");
    Ok(())
}
