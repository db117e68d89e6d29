//! The backend `file`: a full disk, a kill and a power cut. Its lines stay whole, and what counts as delivered is there.
//!
//! The control for the power cut is that of the image itself: what nobody synced is gone on it.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Daemon, LoopImage, Subscription, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const CATALOGUE: &str = r#"
[event."load:posted"]
fields.n = { type = "integer", minimum = 0, maximum = 100000, telemetry = "keep" }
"#;

/// A daemon in `home` that writes telemetry to `path`.
fn daemon(home: &Path, path: &Path, rotate: &str) -> Result<Daemon> {
    fs::create_dir_all(home)?;
    fs::write(home.join("events.toml"), CATALOGUE)?;
    let product = Subscription::of("analytics", "product")
        .set("backend", "file")
        .set("path", path.to_string_lossy().into_owned())
        .set("rotate", rotate)
        .set("keep", 1_000)
        .set("batch", json!({ "events": 20, "wait": "50ms" }))
        .set("circuit", false);
    let config = Config::default().set("catalogue", "files", json!(["events.toml"])).subscribe(product);
    let mut daemon = Daemon::new(home, config)?;
    daemon.start()?;
    Ok(daemon)
}

fn record(daemon: &Daemon, numbers: std::ops::Range<u64>) -> Result<()> {
    let of = |n| json!({ "type": "load:posted", "properties": { "n": n } });
    let answer = daemon.client().post("/v1/events", &numbers.map(of).collect::<Vec<_>>().into())?;
    ensure!(answer.status == 202, "{}", answer.status);
    Ok(())
}

/// The ids under which each number stands in the files of a folder; every line must be whole.
fn written(folder: &Path) -> Result<BTreeMap<u64, Vec<String>>> {
    let mut all: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.is_file() || path.ends_with("ballast") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        ensure!(text.is_empty() || text.ends_with('\n'), "{} ends in half a line", path.display());
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()))?;
            let n = event["event_properties"]["n"].as_u64().context("a number")?;
            all.entry(n).or_default().push(event["id"].as_str().context("an id")?.to_owned());
        }
    }
    Ok(all)
}

/// Each number is there, under one id.
fn complete(written: &BTreeMap<u64, Vec<String>>, count: u64) -> Result<()> {
    ensure!(written.keys().copied().eq(0..count), "{} of {count} are there", written.len());
    let renamed = written.values().find(|ids| ids.iter().collect::<BTreeSet<_>>().len() > 1);
    ensure!(renamed.is_none(), "{renamed:?}");
    Ok(())
}

#[test]
fn on_a_full_disk_nothing_counts_as_delivered_and_no_line_is_torn() -> Result<()> {
    let folder = folder()?;
    let disk = LoopImage::make(folder.path(), "small", 16)?;
    let daemon = daemon(&folder.path().join("home"), &disk.path().join("t.ndjson"), "64MiB")?;
    record(&daemon, 0..50)?;
    daemon.settled("product", Duration::from_secs(20))?;
    // To the last byte: the reserve of the file system is root's, and so are we.
    let mut ballast = File::create(disk.path().join("ballast"))?;
    for size in [1 << 16, 1 << 10, 1] {
        while ballast.write_all(&vec![1; size]).is_ok() {}
    }
    record(&daemon, 50..550)?;
    until("an attempt that failed", Duration::from_secs(20), || {
        let page = daemon.client().get("/v1/deliveries?subscription=product&state=pending&limit=1")?;
        let Some(id) = page["data"][0]["id"].as_str() else { return Ok(None) };
        let one = daemon.client().get(&format!("/v1/deliveries/{id}"))?;
        let error = one["attempts"][0]["error"].as_str().unwrap_or_default();
        Ok(error.starts_with("file: No space left").then_some(()))
    })?;
    // What fitted before the disk was full may be there.
    ensure!(written(disk.path())?.len() < 550, "the disk was never full");
    drop(ballast);
    fs::remove_file(disk.path().join("ballast"))?;
    daemon.settled("product", Duration::from_secs(30))?;
    complete(&written(disk.path())?, 550)?;
    drop(daemon);
    Ok(())
}

#[test]
fn killed_again_and_again_it_writes_whole_lines_and_loses_none() -> Result<()> {
    let folder = folder()?;
    let files = folder.path().join("files");
    let mut daemon = daemon(&folder.path().join("home"), &files.join("t.ndjson"), "4KiB")?;
    let mut count = 0;
    for round in 0..12_u64 {
        record(&daemon, count..count + 300)?;
        count += 300;
        sleep(Duration::from_millis(3 + round * 7));
        daemon.kill9()?;
        daemon.start()?;
    }
    daemon.settled("product", Duration::from_secs(30))?;
    complete(&written(&files)?, count)
}

#[test]
fn what_counts_as_delivered_survives_a_power_cut() -> Result<()> {
    let folder = folder()?;
    let disk = LoopImage::make(folder.path(), "before", 32)?;
    // Two folders that are made: each must be there afterwards.
    let files = disk.path().join("new/files");
    let daemon = daemon(&folder.path().join("home"), &files.join("t.ndjson"), "16KiB")?;
    record(&daemon, 0..400)?;
    daemon.settled("product", Duration::from_secs(20))?;
    let after = disk.after_power_cut(folder.path(), "after")?;
    drop(daemon);
    complete(&written(&after.path().join("new/files"))?, 400)
}
