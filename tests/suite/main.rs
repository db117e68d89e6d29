//! The built daemon from outside: what it must survive, each with a control that fails when the protection is gone.
//!
//! A control runs the same scenario with the protection taken out and must find the damage; without it a scenario
//! that looks the wrong way would pass for ever.

mod api;
mod backlog;
mod batches;
mod browser;
mod canaries;
mod dialling;
mod disabling;
mod disk_full;
mod foreign;
mod guard;
mod hostile;
mod keys;
mod kill;
mod kill_batches;
mod kill_replay;
mod late;
mod libraries;
mod listen;
mod manuals;
mod neighbours;
mod newcomer;
mod orchest;
mod ordering;
mod panics;
mod power_cut;
mod promises;
mod rates;
mod retention;
mod stop;
mod switched;
mod telemetry_file;
mod tidy;
mod tls;

use anyhow::Result;
use std::path::Path;

/// A folder of a test's own, gone when it ends.
fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("posthaste-").tempdir()?)
}

/// Whether the long sizes are wanted (`tests/run --long`).
fn long() -> bool {
    std::env::var_os("POSTHASTE_LONG").is_some_and(|v| v == "1")
}

/// One of two sizes.
fn size<T>(ci: T, in_long: T) -> T {
    if long() { in_long } else { ci }
}

/// A URL of a port on loopback.
fn at(port: u16, path: &str) -> String {
    format!("http://127.0.0.1:{port}{path}")
}

/// The folder of the suite's own files.
fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
