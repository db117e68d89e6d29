//! R10 and R11 on the simulated clock: receivers that are dead, slow or flapping cost the healthy ones nothing. The
//! controls take the shares of the window away.

use crate::receiver::{Mood, Nature};
use crate::stage::{seconds, stage};
use crate::world::Sabotage;
use std::collections::BTreeSet;
use std::time::Duration;

/// A case: which receivers there are, and how many deliveries wait for the dead ones at the start.
struct Case {
    natures: Vec<(Nature, usize)>,
    waiting: usize,
    shared: bool,
}

fn healthy(count: usize) -> (Nature, usize) {
    (Nature::always(Mood::Accepts, 0.0), count)
}

/// The 99th percentile of the healthy ones' latencies, 20 events a second for all of them over 30 seconds.
fn p99(case: &Case) -> Duration {
    let natures: Vec<_> = case.natures.iter().flat_map(|(n, count)| std::iter::repeat_n(n.clone(), *count)).collect();
    let sound: Vec<bool> = natures.iter().map(|nature| nature.ends == Mood::Accepts && nature.slow == 0.0).collect();
    // A dead one that may have any number of calls is the worst.
    let (mut world, all) = stage(natures, seconds(40), Sabotage::None, |n, terms| {
        terms.concurrency = if sound[n] { 32 } else { 100_000 };
    });
    if !case.shared {
        world.core.share_nothing();
    }
    let healthy: BTreeSet<_> = all.iter().zip(&sound).filter(|(_, sound)| **sound).map(|(id, _)| *id).collect();
    let dead: Vec<_> = all.iter().filter(|id| !healthy.contains(id)).copied().collect();
    if !dead.is_empty() {
        for _ in 0..case.waiting / 100 / dead.len() {
            world.record_for(vec![dead.clone(); 100]);
        }
    }
    world.open();
    world.record_each(Duration::from_millis(100), Duration::from_millis(50), 600, &all);
    world.run_well();
    let latencies = world.model.latencies(|id| healthy.contains(&id));
    assert_eq!(latencies.len(), 600 * healthy.len(), "all that is healthy arrives");
    latencies[latencies.len() * 99 / 100]
}

fn ratio(natures: Vec<(Nature, usize)>, waiting: usize, shared: bool) -> f64 {
    let alone = p99(&Case { natures: vec![natures[0].clone()], waiting: 0, shared: true });
    p99(&Case { natures, waiting, shared }).as_secs_f64() / alone.as_secs_f64()
}

fn beside_a_dead_one() -> Vec<(Nature, usize)> {
    vec![healthy(10), (Nature::always(Mood::NeverAnswers, 0.0), 1)]
}

#[test]
fn a_dead_receiver_with_twenty_thousand_waiting_costs_the_healthy_ones_nothing() {
    let ratio = ratio(beside_a_dead_one(), 20_000, true);
    assert!(ratio <= 1.25, "{ratio}");
}

/// As R11 has it: 30 % dead, 20 % slow, 10 % flapping.
fn a_hundred() -> Vec<(Nature, usize)> {
    vec![
        healthy(40),
        (Nature::always(Mood::NeverAnswers, 0.0), 30),
        (Nature::always(Mood::Accepts, 1.0), 20),
        (Nature::always(Mood::Flaps, 0.0), 10),
    ]
}

#[test]
fn a_hundred_receivers_of_which_many_are_dead_slow_or_flapping_do_not_disturb_the_healthy_ones() {
    let ratio = ratio(a_hundred(), 20_000, true);
    assert!(ratio <= 1.25, "{ratio}");
}

#[test]
fn without_shares_of_the_window_the_sick_of_a_hundred_are_felt_by_the_healthy_ones() {
    let ratio = ratio(a_hundred(), 20_000, false);
    assert!(ratio > 10.0, "{ratio}");
}

#[test]
fn without_shares_of_the_window_a_dead_one_is_felt_by_all() {
    let ratio = ratio(beside_a_dead_one(), 20_000, false);
    assert!(ratio > 100.0, "{ratio}");
}
