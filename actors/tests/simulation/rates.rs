//! A rate limit holds at the receiver's clock, is used up, and costs nobody else anything.

use crate::receiver::{Mood, Nature};
use crate::stage::{seconds, stage};
use crate::world::{Sabotage, World};
use posthaste_actors::scheduler::Input;
use posthaste_actors::settings::Rate;
use posthaste_events::SubscriptionId;
use std::time::Duration;

const LIMIT: Rate = Rate { calls: 20, per: Duration::from_secs(1) };
const WAITING: usize = 2_000;

/// Two subscriptions: one with a limit for which `WAITING` deliveries wait, and one without that gets 10 a second.
fn world(slow: f64, sabotage: Sabotage) -> (World, SubscriptionId, SubscriptionId) {
    let natures = [slow, 0.0].map(|slow| Nature::always(Mood::Accepts, slow));
    let (mut world, ids) = stage(natures.into(), seconds(60), sabotage, |n, terms| {
        (terms.concurrency, terms.rate) = if n == 0 { (100, Some(LIMIT)) } else { (4, None) };
    });
    let (limited, free) = (ids[0], ids[1]);
    for _ in 0..WAITING / 100 {
        world.record_for(vec![vec![limited]; 100]);
    }
    world.open();
    for n in 0..300 {
        world.at(Duration::from_millis(100 * n), None, move |world| {
            world.record_for(vec![vec![free]]);
            // What is claimed and cannot be sent yet stays small.
            let (out, _) = world.core.out();
            if out > 2 * LIMIT.calls as usize + 20 {
                world.problems.push(format!("{out} are out"));
            }
        });
    }
    (world, limited, free)
}

#[test]
fn a_limit_is_used_up_and_never_passed_at_the_receiver() {
    let (mut world, limited, _) = world(0.0, Sabotage::None);
    world.run();
    assert_eq!((world.above_the_limit(), world.problems.clone()), (vec![], vec![]));
    let arrived = world.model.arrivals[&limited].iter().filter(|at| **at < Duration::from_secs(51)).count();
    // 50 seconds after the first, in which nothing is known of what went before.
    assert!((900..=1_000).contains(&arrived), "{arrived}");
}

#[test]
fn a_limit_holds_where_answers_take_seconds() {
    let (mut world, limited, _) = world(0.5, Sabotage::None);
    world.run();
    assert_eq!((world.above_the_limit(), world.problems.clone()), (vec![], vec![]));
    // A slot is taken for the span and the call: 20 in about 2.3 seconds.
    let arrived = world.model.arrivals[&limited].len();
    assert!(arrived > 350, "{arrived}");
}

#[test]
fn a_limit_that_comes_by_a_reload_counts_what_went_before_it() {
    let nature = Nature::always(Mood::Accepts, 0.0);
    let (mut world, ids) = stage(vec![nature], seconds(10), Sabotage::None, |_, _| {});
    let id = ids[0];
    world.open();
    world.record_each(seconds(0), Duration::from_millis(5), 100, &ids);
    let reload = Duration::from_millis(600);
    world.at(reload, None, move |world| {
        world.lane(id).terms.rate = Some(LIMIT);
        let roster = world.roster();
        world.tell_now(vec![Input::Roster(roster)]);
        world.record_for(vec![vec![id]; 100]);
    });
    world.run_well();
    let begun = world.model.begun_at(id);
    assert_eq!(begun.iter().filter(|at| **at < reload).count(), 100);
    assert_eq!(begun.iter().filter(|at| (reload..reload + seconds(1)).contains(*at)).count(), 0);
    assert!(begun.len() > 200 - LIMIT.calls as usize, "{}", begun.len());
}

#[test]
fn a_limit_that_is_told_a_tenth_too_wide_is_seen_at_the_receiver() {
    let (mut world, ..) = world(0.0, Sabotage::WiderRates);
    world.run();
    assert!(world.above_the_limit().len() > 100);
}

#[test]
fn a_limited_one_with_thousands_waiting_costs_the_others_nothing() {
    let (mut world, _, free) = world(0.5, Sabotage::None);
    world.run();
    let latencies = world.model.latencies(|id| id == free);
    assert_eq!((latencies.len(), world.problems.clone()), (300, vec![]));
    let p99 = latencies[latencies.len() * 99 / 100];
    // As long as the simulated network and store take at most, when nobody else is there.
    assert!(p99 <= Duration::from_millis(33), "{p99:?}");
}
