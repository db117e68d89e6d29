//! Measures a generation on the real disk: filling it, opening it again, reading it, salvaging it.
//!
//! `cargo run --release -p posthaste-outbox --example disk [FOLDER]`

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it is here to measure and to print")]

use posthaste_outbox::disk::{Disk, DiskError, Row, SledDisk};
use posthaste_outbox::envelope;
use std::path::PathBuf;
use std::time::Instant;

const ROWS: u64 = 40_000;
const GROUP: u64 = 64;

fn main() -> Result<(), DiskError> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("posthaste-disk-{}", std::process::id()));
    let measured = measure(&dir);
    let _ = std::fs::remove_dir_all(&dir);
    measured
}

fn measure(dir: &std::path::Path) -> Result<(), DiskError> {
    let disk = SledDisk::open(dir)?;
    let keyspace = timed("create", || disk.create(1))?;
    timed(&format!("{ROWS} rows of 400 bytes, synced by {GROUP}"), || {
        for group in 0..ROWS / GROUP {
            keyspace.apply((group * GROUP..(group + 1) * GROUP).map(row).collect())?;
            keyspace.sync()?;
        }
        Ok(())
    })?;
    timed("close", || {
        keyspace.close();
        Ok(())
    })?;
    println!("size: {:.1} MB", disk.size(1)? as f64 / 1e6);
    let keyspace = timed("open", || disk.open(1))?;
    let rows = timed("read all", || keyspace.range(&[], &[0xFF; 9], usize::MAX))?;
    timed("get 1,000", || (0..1000).try_for_each(|n| keyspace.get(&row(n * 37 % ROWS).0).map(|_| ())))?;
    timed("first sync after opening", || {
        keyspace.apply(vec![row(ROWS)])?;
        keyspace.sync()
    })?;
    keyspace.close();
    let salvaged = timed("salvage", || disk.salvage(1))?;
    println!("{} rows read, {} salvaged", rows.len(), salvaged.len());
    timed("destroy", || disk.destroy(1))
}

fn timed<T>(what: &str, call: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    let start = Instant::now();
    let done = call();
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    done
}

fn row(n: u64) -> Row {
    let key = n.to_be_bytes().to_vec();
    let sealed = envelope::seal(&key, 1, 1, &[n as u8; 376]);
    (key, sealed)
}
