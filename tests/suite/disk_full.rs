//! R3: the disk fills up, and has space again later.

use crate::folder;
use anyhow::{Result, ensure};
use posthaste_tests::{
    Config, Daemon, Difference, Ledger, Load, LoopImage, Receiver, Reply, Shape, Subscription, until,
};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Fills what is free of a disk but for about `leave` bytes; removing the file gives the space back.
fn fill(folder: &Path, leave: u64) -> Result<std::path::PathBuf> {
    let ballast = folder.join("ballast");
    let mut file = File::create(&ballast)?;
    let block = vec![1_u8; 64 * 1024];
    while free(folder)? > leave + block.len() as u64 && file.write_all(&block).is_ok() {}
    file.sync_all()?;
    Ok(ballast)
}

fn free(folder: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// What was found after a disk had been full.
#[derive(Debug)]
struct Filled {
    shed: u64,
    difference: Difference,
}

/// Records while the receiver is down and the disk fills up, gives the space back, kills the daemon, and looks whether
/// everything acknowledged arrives once the receiver is there.
fn full_and_free_again(free_min: &str, leave: u64, fault: Option<&str>) -> Result<Filled> {
    let folder = folder()?;
    let disk = LoopImage::make(folder.path(), "small", 96)?;
    let ledger = Ledger::default();
    let (book, up) = (ledger.clone(), Arc::new(AtomicBool::new(false)));
    let is_up = Arc::clone(&up);
    let receiver = Receiver::start(move |request| {
        if !is_up.load(Ordering::SeqCst) {
            return Reply::Status(500);
        }
        book.arrive(request);
        Reply::Status(200)
    })?;
    let all = Subscription::webhook("all", &receiver.url("/")).set("events", vec!["load:**"]).set("circuit", false);
    let config = Config::default().set("outbox", "free_min", free_min).subscribe(all);
    let mut daemon = Daemon::new(&folder.path().join("home"), config)?.with_fault(fault);
    let data = disk.path().join("data").to_string_lossy().into_owned();
    daemon.configure(|config| config.set("daemon", "data_dir", data))?;
    daemon.start()?;
    let few = Shape { padding: |_| 8 * 1024, events_max: 200, ..Shape::default() };
    Load::start(daemon.address(), &few, 0, &ledger).finish()?;
    ensure!(ledger.promised() == 200, "with space everything is taken: {}", ledger.promised());

    let ballast = fill(disk.path(), leave)?;
    let many = Shape { padding: |_| 8 * 1024, events_max: 4_000, ..Shape::default() };
    // The load itself refuses a 503 without Retry-After, and any other answer than 202.
    let shed = Load::start(daemon.address(), &many, 1_000, &ledger).finish()?;
    fs::remove_file(ballast)?;
    if fault.is_none() {
        until("ready again by itself, without a restart or a post", Duration::from_secs(20), || {
            Ok(daemon.client().get("/readyz").ok().map(drop))
        })?;
        let one = json!({ "type": "load:posted", "properties": { "n": 1_000_000 } });
        ensure!(daemon.client().post("/v1/events", &one)?.status == 202, "it says it is ready and refuses");
    }
    daemon.kill9()?;
    daemon.start()?;
    up.store(true, Ordering::SeqCst);
    daemon.settled("all", Duration::from_secs(60))?;
    daemon.kill9()?;
    Ok(Filled { shed, difference: ledger.difference() })
}

#[test]
fn below_the_least_free_space_it_takes_nothing_and_takes_again_when_there_is_space() -> Result<()> {
    holds(full_and_free_again("16MiB", 20 * 1024 * 1024, None)?)
}

#[test]
fn on_a_disk_without_any_space_it_acknowledges_nothing_that_it_would_lose() -> Result<()> {
    holds(full_and_free_again("0KiB", 2 * 1024 * 1024, None)?)
}

fn holds(found: Filled) -> Result<()> {
    ensure!(found.shed > 0, "a full disk was never felt: {found:?}");
    ensure!(found.difference.lost.is_empty() && found.difference.wrong_id.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn control_a_store_that_hears_no_error_loses_what_it_acknowledged() -> Result<()> {
    let found = full_and_free_again("0KiB", 2 * 1024 * 1024, Some("unheard-errors"))?;
    ensure!(!found.difference.lost.is_empty(), "the test can not see loss: {found:?}");
    Ok(())
}
