//! Batches that wait for more: none waits longer than its deliveree allows, and none begins sooner while it is small.
//!
//! A calm world, so that a lane can always call; in the storms of the other lives batches wait as well. The controls let
//! the core wait longer, and not at all.

use crate::receiver::{Mood, Nature};
use crate::stage::{seconds, stage};
use crate::world::{Sabotage, World};
use posthaste_actors::scheduler::Input;
use posthaste_events::{BatchLimits, SubscriptionId};
use std::time::Duration;

/// What hints, claims and their answers take, each up to 3 ms, some of them behind others.
const SLACK: Duration = Duration::from_millis(50);
const SEEDS: u64 = 60;

/// Runs a calm life whose core is told `told` of each wait; what is wrong with it, and its calls.
fn life(seed: u64, told: impl Fn(Duration) -> Duration) -> (Vec<String>, usize) {
    let mut world = World::empty(seed, Sabotage::None);
    world.calm = true;
    let limits: Vec<BatchLimits> = (0..world.dice.between(1, 4))
        .map(|_| {
            let (events, wait) = (world.dice.between(2, 100) as usize, world.dice.millis(20, 5_000));
            BatchLimits { events, bytes: 1_000_000, wait }
        })
        .collect();
    let takes = Nature::always(Mood::Accepts, 0.0);
    world.populate(vec![takes; limits.len()], |n, terms| (terms.concurrency, terms.limits) = (64, limits[n]));
    let mut roster = world.roster();
    roster.iter_mut().for_each(|terms| terms.limits.wait = told(terms.limits.wait));
    world.tell_now(vec![Input::Roster(roster)]);
    let all: Vec<SubscriptionId> = world.lanes.keys().copied().collect();
    for _ in 0..world.dice.between(1, 200) {
        let (at, count) = (world.dice.millis(0, 20_000), world.dice.between(1, 5) as usize);
        let all = all.clone();
        world.at(at, None, move |world| world.record_for(vec![all; count]));
    }
    world.ends = Some(Duration::from_secs(60));
    world.run();
    let mut wrong = world.problems.clone();
    wrong.extend(world.model.begun(|id| world.lanes[&id].terms.limits.wait + SLACK));
    (wrong, world.model.calls_begun)
}

#[test]
fn a_batch_waits_for_more_as_long_as_it_may_and_no_longer() {
    for seed in 0..SEEDS {
        let (wrong, calls) = life(seed, |wait| wait);
        assert_eq!(wrong.first(), None, "seed {seed}");
        assert!(calls > 0);
    }
}

#[test]
fn a_scheduler_that_lets_batches_wait_too_long_is_caught() {
    let caught = (0..SEEDS).filter(|seed| !life(*seed, |wait| wait * 3 + SLACK * 2).0.is_empty()).count();
    assert!(caught as u64 >= SEEDS / 2, "{caught}");
}

#[test]
fn a_scheduler_whose_batches_wait_for_nobody_is_caught() {
    let caught = (0..SEEDS).filter(|seed| !life(*seed, |_| Duration::ZERO).0.is_empty()).count();
    assert!(caught as u64 >= SEEDS / 2, "{caught}");
}

#[test]
fn a_batch_that_can_not_grow_for_want_of_room_goes_at_once() {
    // More than a subscription may have out at once.
    let limits = BatchLimits { events: 2_000, bytes: usize::MAX, wait: seconds(60) };
    let takes = Nature::always(Mood::Accepts, 0.0);
    let (mut world, ids) = stage(vec![takes], seconds(2), Sabotage::None, |_, terms| {
        (terms.concurrency, terms.limits) = (64, limits);
    });
    world.open();
    world.at(Duration::ZERO, None, move |world| world.record_for(vec![ids; 1_500]));
    world.run_well();
    assert!(world.model.calls_begun > 0);
}
