//! Measures the built daemon end to end and prints a table: `cargo run --release -p posthaste-benches`.
//!
//! Daemon, load and receiver are processes of their own on loopback. Each scenario runs on the real store and on the
//! one that keeps nothing (the ceiling) in turn, so that a busy machine disturbs both alike. Ends by itself.

use anyhow::Result;
use clap::{Parser, Subcommand};
use posthaste_benches::load::{self, Order};
use posthaste_benches::measure::{self, SCENARIOS};
use posthaste_benches::neighbours::{self, STREETS};
use posthaste_benches::sink;
use posthaste_benches::table::Run;
use posthaste_tests::daemon::binary;
use std::io::{Write, stderr, stdout};
use std::path::PathBuf;

/// Measures the built daemon: deliveries a second, latency, memory, CPU.
#[derive(Debug, Parser)]
struct Wish {
    #[command(subcommand)]
    part: Option<Part>,
    /// Seconds of load in each measure.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How often each measure is made, on each store in turn.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Only scenarios whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only the real store, without its ceiling.
    #[arg(long)]
    no_ceiling: bool,
    /// What one subscription costs another, in place of the scenarios: dead and silent neighbours, many of them.
    #[arg(long)]
    neighbours: bool,
    /// Writes every figure to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What this program is when it started itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// Posts.
    #[command(hide = true)]
    Load(Order),
    /// Posts the largest batch that a receiver got, again and again.
    #[command(hide = true)]
    Again(load::Again),
    /// Receives.
    #[command(hide = true)]
    Sink,
}

fn main() -> Result<()> {
    let wish = Wish::parse();
    match &wish.part {
        Some(Part::Load(order)) => {
            writeln!(stdout(), "{}", serde_json::to_string(&load::run(order)?)?)?;
            Ok(())
        }
        Some(Part::Again(order)) => {
            writeln!(stdout(), "{}", serde_json::to_string(&load::again(order)?)?)?;
            Ok(())
        }
        Some(Part::Sink) => sink::run(),
        None if wish.neighbours => walk_all(&wish),
        None => measure_all(&wish),
    }
}

fn walk_all(wish: &Wish) -> Result<()> {
    writeln!(stderr(), "the daemon is {}", binary().display())?;
    let mut all = Vec::new();
    for street in STREETS.iter().filter(|s| s.name.contains(&wish.only)) {
        let seen = neighbours::walk(street, wish.seconds)?;
        writeln!(stderr(), "{}: p99 {:.2} ms", seen.name, seen.p99_ms)?;
        all.push(seen);
    }
    if let Some(file) = &wish.json {
        std::fs::write(file, serde_json::to_string_pretty(&all)?)?;
    }
    writeln!(stdout(), "{}", neighbours::table(&all))?;
    Ok(())
}

fn measure_all(wish: &Wish) -> Result<()> {
    writeln!(stderr(), "the daemon is {}", binary().display())?;
    let mut run = Run { alone_per_s: measure::alone(wish.seconds.min(3))?, seconds: wish.seconds, figures: Vec::new() };
    let engines: &[&str] = if wish.no_ceiling { &["sled"] } else { &["sled", "memory"] };
    for scenario in SCENARIOS.into_iter().filter(|s| s.name.contains(&wish.only)) {
        for _ in 0..wish.rounds {
            for engine in engines {
                let figures = measure::once(scenario, engine, wish.seconds)?;
                writeln!(stderr(), "{} on {engine}: {:.0} delivered/s", scenario.name, figures.delivered_per_s)?;
                run.figures.push(figures);
            }
        }
    }
    if let Some(file) = &wish.json {
        std::fs::write(file, serde_json::to_string_pretty(&run)?)?;
    }
    writeln!(stdout(), "{}", run.table())?;
    Ok(())
}
