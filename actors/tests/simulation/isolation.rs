//! R10 and R11 on the simulated clock: receivers that are dead, slow or flapping cost the healthy ones nothing. The
//! control takes the shares of the window away.

use crate::receiver::{Mood, Nature};
use crate::stage::plain_terms;
use crate::world::{Sabotage, SimLane, World};
use posthaste_actors::scheduler::{Input, Terms};
use posthaste_events::SubscriptionId;
use posthaste_outbox::{Enrolment, Standing};
use std::collections::BTreeSet;
use std::sync::Arc;
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
    let mut world = World::empty(1, Sabotage::None);
    world.hints_lost = 0.0;
    let natures: Vec<_> = case.natures.iter().flat_map(|(n, count)| std::iter::repeat_n(n.clone(), *count)).collect();
    let wanted = (0..natures.len()).map(|n| Enrolment {
        name: format!("sub-{n}"),
        backlog_max: 1_000_000,
        ordered: false,
        kept: false,
    });
    let roll = world.ask(world.store.outbox.enroll(wanted.collect())).unwrap();
    world.epoch = roll.epoch;
    if !case.shared {
        world.core.share_nothing();
    }
    for (subscribed, nature) in roll.subscriptions.into_iter().zip(natures) {
        let name: Arc<str> = subscribed.name.as_str().into();
        let healthy = nature.ends == Mood::Accepts && nature.slow == 0.0;
        // A dead one that may have any number of calls is the worst.
        let concurrency = if healthy { 32 } else { 100_000 };
        let terms = Terms { concurrency, ..plain_terms(subscribed.id, Arc::clone(&name)) };
        world.lanes.insert(subscribed.id, SimLane { name, terms, nature, standing: Standing::Active, listed: true });
    }
    let all: Vec<SubscriptionId> = world.lanes.keys().copied().collect();
    let healthy: BTreeSet<_> =
        world.lanes.iter().filter(|(_, l)| l.terms.concurrency == 32).map(|(id, _)| *id).collect();
    let dead: Vec<_> = all.iter().filter(|id| !healthy.contains(id)).copied().collect();
    if !dead.is_empty() {
        for _ in 0..case.waiting / 100 / dead.len() {
            world.record_for(vec![dead.clone(); 100]);
        }
    }
    let roster = world.roster();
    world.tell_now(vec![Input::Roster(roster)]);
    for n in 0..600 {
        let all = all.clone();
        world.at(Duration::from_millis(100 + 50 * n), None, move |world| world.record_for(vec![all]));
    }
    world.ends = Some(Duration::from_secs(40));
    world.run();
    assert_eq!(world.problems, Vec::<String>::new());
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

#[test]
fn a_hundred_receivers_of_which_many_are_dead_slow_or_flapping_do_not_disturb_the_healthy_ones() {
    let natures = vec![
        healthy(40),
        (Nature::always(Mood::NeverAnswers, 0.0), 30),
        (Nature::always(Mood::Accepts, 1.0), 20),
        (Nature::always(Mood::Flaps, 0.0), 10),
    ];
    let ratio = ratio(natures, 20_000, true);
    assert!(ratio <= 1.25, "{ratio}");
}

#[test]
fn without_shares_of_the_window_a_dead_one_is_felt_by_all() {
    let ratio = ratio(beside_a_dead_one(), 20_000, false);
    assert!(ratio > 100.0, "{ratio}");
}
