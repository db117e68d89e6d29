//! Measures what a known key costs: bytes in memory, time of a look-up, of a seal and of a merge.
//!
//! `cargo run --release -p posthaste-outbox --example idempotency [KEYS]`

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it is here to measure and to print")]

use posthaste_events::EventId;
use posthaste_outbox::disk::{DiskError, SledDisk};
use posthaste_outbox::idempotency::{Key, Keys, Known};
use std::sync::Arc;
use std::time::{Duration, Instant};

const GENERATION: u64 = 20_000;

fn main() -> Result<(), DiskError> {
    let total: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5_000_000);
    let dir = std::env::temp_dir().join(format!("posthaste-keys-{}", std::process::id()));
    let measured = measure(&dir, total);
    let _ = std::fs::remove_dir_all(&dir);
    measured
}

fn measure(dir: &std::path::Path, total: u64) -> Result<(), DiskError> {
    let disk = Arc::new(SledDisk::open(dir)?);
    let mut keys = Keys::open(disk.clone(), 1, u64::MAX)?;
    let (mut seal, mut merge) = (Vec::new(), Vec::new());
    for generation in 0..total / GENERATION {
        for n in generation * GENERATION..(generation + 1) * GENERATION {
            keys.insert(key(n), Known { content: [1; 16], id: EventId::new(1, n, 0), deliveries: 1 });
        }
        let start = Instant::now();
        keys.seal(generation)?;
        seal.push(start.elapsed());
        let start = Instant::now();
        while keys.tidy(1)? {}
        merge.push(start.elapsed());
    }
    let (count, files, memory) = keys.sealed();
    println!("{count} keys in {files} files: {:.2} bytes a key in memory", memory as f64 / count as f64);
    println!("seal of {GENERATION}: {}; merges after it: {}", spread(&mut seal), spread(&mut merge));
    for (what, from) in [("unknown", total), ("known", 0)] {
        let rounds = 200_000.min(total);
        let start = Instant::now();
        let found = (0..rounds).filter(|n| {
            let n = from + n.wrapping_mul(7919) % total;
            keys.look_up(&key(n), 1).is_ok_and(|known| known.is_some())
        });
        let found = found.count();
        println!("look-up of {what}: {:.2} µs ({found} found)", start.elapsed().as_secs_f64() * 1e6 / rounds as f64);
    }
    let start = Instant::now();
    Keys::open(disk, 1, u64::MAX)?;
    println!("opening: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn key(n: u64) -> Key {
    let spread = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (u128::from(spread) << 64 | u128::from(spread.rotate_left(31).wrapping_mul(0xBF58_476D_1CE4_E5B9))).to_be_bytes()
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    let ms = |share| at(share).copied().unwrap_or_default().as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, longest {:.0} ms", ms(50), ms(100))
}
