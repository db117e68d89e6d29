//! Batches that wait for more: none waits longer than its deliveree allows, and none begins sooner while it is small.
//!
//! A calm world, so that a lane can always call; in the storms of the other lives batches wait as well. The controls let
//! the core wait longer, and not at all.

use crate::receiver::{Mood, Nature};
use crate::stage::plain_terms;
use crate::world::{Sabotage, SimLane, World};
use posthaste_actors::scheduler::{Input, Terms};
use posthaste_events::{BatchLimits, SubscriptionId};
use posthaste_outbox::{Enrolment, Standing};
use std::sync::Arc;
use std::time::Duration;

/// What hints, claims and their answers take, each up to 3 ms, some of them behind others.
const SLACK: Duration = Duration::from_millis(50);
const SEEDS: u64 = 60;

/// A lane whose receiver takes everything.
fn lane(id: SubscriptionId, name: &str, limits: BatchLimits) -> SimLane {
    let name: Arc<str> = name.into();
    let terms = Terms { concurrency: 64, limits, ..plain_terms(id, Arc::clone(&name)) };
    let nature = Nature::always(Mood::Accepts, 0.0);
    SimLane { name, terms, nature, standing: Standing::Active, listed: true }
}

/// Runs a calm life whose core is told `told` of each wait; what is wrong with it, and its calls.
fn life(seed: u64, told: impl Fn(Duration) -> Duration) -> (Vec<String>, usize) {
    let mut world = World::empty(seed, Sabotage::None);
    world.hints_lost = 0.0;
    world.calm = true;
    let wanted = (0..world.dice.between(1, 4)).map(|n| Enrolment {
        name: format!("sub-{n}"),
        backlog_max: 1_000_000,
        ordered: false,
        kept: false,
    });
    let roll = world.ask(world.store.outbox.enroll(wanted.collect())).unwrap();
    world.epoch = roll.epoch;
    for subscribed in roll.subscriptions {
        let (events, wait) = (world.dice.between(2, 100) as usize, world.dice.millis(20, 5_000));
        let limits = BatchLimits { events, bytes: 1_000_000, wait };
        world.lanes.insert(subscribed.id, lane(subscribed.id, &subscribed.name, limits));
    }
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
    let mut world = World::empty(1, Sabotage::None);
    world.hints_lost = 0.0;
    let wanted = vec![Enrolment { name: "large".into(), backlog_max: 1_000_000, ordered: false, kept: false }];
    let roll = world.ask(world.store.outbox.enroll(wanted)).unwrap();
    world.epoch = roll.epoch;
    let id = roll.subscriptions[0].id;
    // More than a subscription may have out at once.
    let limits = BatchLimits { events: 2_000, bytes: usize::MAX, wait: Duration::from_secs(60) };
    world.lanes.insert(id, lane(id, "large", limits));
    let roster = world.roster();
    world.tell_now(vec![Input::Roster(roster)]);
    world.at(Duration::ZERO, None, move |world| world.record_for(vec![vec![id]; 1_500]));
    world.ends = Some(Duration::from_secs(2));
    world.run();
    assert_eq!(world.problems.first(), None);
    assert!(world.model.calls_begun > 0);
}
