//! The scheduler's core on a simulated clock, network and store: thousands of seeds, each a small daemon's life full of
//! accidents, judged by a model that shares no code with the core. Every third life runs on the real generations over a
//! simulated disk, whose power goes; the others on the outbox in memory.
//!
//! `POSTHASTE_SEED=n` runs one seed again, exactly; `POSTHASTE_SEEDS=n` runs that many instead of 1,000.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod batches;
mod fares;
mod isolation;
mod model;
mod orders;
mod people;
mod rates;
mod receiver;
mod reserve;
mod seams;
mod stage;
mod store;
mod wishes;
mod world;

use world::{Sabotage, World};

const SEEDS: u64 = 1_000;

/// Runs a seed; what the model found wrong, and a digest of everything that happened.
fn run(seed: u64, sabotage: Sabotage) -> (Vec<String>, u64) {
    let mut world = World::new(seed, sabotage);
    world.run();
    let mut problems = world.problems.clone();
    problems.extend(model::judge(&mut world));
    (problems, world.digest)
}

#[expect(clippy::disallowed_methods, reason = "how a person asks a test for more")]
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

fn check(seed: u64) -> Option<String> {
    let (problems, _) = run(seed, Sabotage::None);
    let shown: Vec<_> = problems.iter().take(5).map(|p| format!("  {p}")).collect();
    (!problems.is_empty()).then(|| {
        format!(
            "seed {seed}: {} problems\n{}\nrun it again: POSTHASTE_SEED={seed} cargo test -p posthaste-actors --test simulation",
            problems.len(),
            shown.join("\n")
        )
    })
}

#[test]
fn every_delivery_of_a_thousand_lives_is_settled_as_the_model_says() {
    if let Some(seed) = asked("POSTHASTE_SEED") {
        assert_eq!(check(seed), None);
        return;
    }
    let seeds = asked("POSTHASTE_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| scope.spawn(move || (part..seeds).step_by(threads as usize).filter_map(check).collect()))
            .collect();
        parts.into_iter().flat_map(|part| -> Vec<String> { part.join().unwrap() }).collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {seeds} seeds failed\n{}",
        failures.len(),
        failures[..failures.len().min(5)].join("\n")
    );
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..5 {
        assert_eq!(run(seed, Sabotage::None), run(seed, Sabotage::None));
    }
    assert_ne!(run(1, Sabotage::None).1, run(2, Sabotage::None).1);
}

/// How many of the first hundred seeds the model finds fault with.
fn caught(sabotage: Sabotage) -> usize {
    caught_of(100, sabotage)
}

fn caught_of(seeds: u64, sabotage: Sabotage) -> usize {
    (0..seeds).filter(|seed| !run(*seed, sabotage).0.is_empty()).count()
}

#[test]
fn a_scheduler_that_forgets_a_retry_is_caught() {
    assert!(caught(Sabotage::ForgetRetry) >= 50);
}

#[test]
fn a_scheduler_that_never_scans_for_lost_hints_is_caught() {
    assert!(caught(Sabotage::NeverScan) >= 10);
}

#[test]
fn a_scheduler_that_does_not_hear_of_a_pause_is_caught() {
    // A scan finds it out within a second, so that few lives show it.
    assert!(caught_of(300, Sabotage::IgnorePause) >= 10);
}

#[test]
fn a_scheduler_that_does_not_hear_of_a_cancel_is_caught() {
    assert!(caught(Sabotage::IgnoreCancel) >= 20);
}

#[test]
fn a_scheduler_that_takes_a_failure_for_a_delivery_is_caught() {
    assert!(caught(Sabotage::FailureIsDelivery) >= 50);
}

#[test]
fn a_disk_that_only_says_that_it_synced_is_caught() {
    assert!(caught(Sabotage::SyncLies) >= 10);
}

#[test]
fn a_scheduler_that_allows_itself_more_than_a_rate_limit_is_caught() {
    assert!(caught(Sabotage::WiderRates) >= 20);
}

#[test]
fn the_storms_reach_what_they_are_for() {
    let mut sum = world::Reached::default();
    for seed in 0..50 {
        let mut world = World::new(seed, Sabotage::None);
        world.run();
        sum.add(world.reached());
    }
    let all = [
        sum.crashes,
        sum.forgotten,
        sum.leases_lost,
        sum.circuits_open,
        sum.disabled,
        sum.deaths,
        sum.deaths_told,
        sum.expired_unprobed,
        sum.kept,
    ];
    assert!(all.iter().all(|count| *count > 0), "{sum:?}");
}
