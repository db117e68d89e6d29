//! R3: the disk fills up, and has space again later.

use crate::folder;
use anyhow::{Result, ensure};
use posthaste_tests::{Config, Daemon, Ledger, Load, LoopImage, Receiver, Reply, Shape, Subscription, until};
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
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

/// Records until it is refused, gives the space back, and looks whether everything acknowledged arrives.
fn full_and_free_again(free_min: &str, leave: u64) -> Result<()> {
    let folder = folder()?;
    let disk = LoopImage::make(folder.path(), "small", 96)?;
    let ledger = Ledger::default();
    let book = ledger.clone();
    let receiver = Receiver::start(move |request| {
        book.arrive(request);
        Reply::Status(200)
    })?;
    let config = Config::default()
        .set("outbox", "free_min", free_min)
        .subscribe(Subscription::webhook("all", &receiver.url("/")).set("events", vec!["load:**"]));
    let mut daemon = Daemon::new(&folder.path().join("home"), config)?;
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
    ensure!(shed > 0, "a full disk was never felt, {} bytes are free", free(disk.path())?);

    fs::remove_file(ballast)?;
    let mut client = daemon.client();
    until("recording again, without a restart", Duration::from_secs(20), || {
        let again = client.post("/v1/events", &json!({ "type": "load:posted", "properties": { "n": 1_000_000 } }))?;
        Ok((again.status == 202).then_some(()))
    })?;
    daemon.settled("all", Duration::from_secs(60))?;
    let found = ledger.difference();
    ensure!(found.lost.is_empty() && found.wrong_id.is_empty(), "{found:?}");
    daemon.kill9()
}

#[test]
fn below_the_least_free_space_it_takes_nothing_and_takes_again_when_there_is_space() -> Result<()> {
    full_and_free_again("16MiB", 20 * 1024 * 1024)
}

#[test]
fn on_a_disk_without_any_space_it_acknowledges_nothing_that_it_would_lose() -> Result<()> {
    full_and_free_again("0KiB", 2 * 1024 * 1024)
}
