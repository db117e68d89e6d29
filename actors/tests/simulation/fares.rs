//! How a subscription fares: circuits, disabling, and what its receiver asked for; over restarts too.

use crate::receiver::{Mood, Nature};
use crate::stage::{seconds, stage};
use crate::world::{Sabotage, World};
use posthaste_actors::scheduler::{CircuitState, Input};
use posthaste_actors::settings::Circuit;
use posthaste_events::builtin::News;
use posthaste_events::{RetryPolicy, SubscriptionId};
use posthaste_outbox::{Standing, Vitals};
use std::time::Duration;

const CIRCUIT: Circuit = Circuit { failures: 20, over: seconds(60), pause: seconds(30) };
const HOUR: Duration = seconds(3_600);

/// One subscription whose receiver fails.
fn failing(ends: Duration, circuit: Option<Circuit>, disable_after: Option<Duration>) -> (World, SubscriptionId) {
    let natures = vec![Nature::always(Mood::Fails, 0.0)];
    let (world, ids) = stage(natures, ends, Sabotage::None, |_, terms| {
        (terms.circuit, terms.disable_after) = (circuit, disable_after);
    });
    (world, ids[0])
}

impl World {
    /// How a subscription fares by what was noted, as a store tells it now.
    pub(crate) fn vitals(&self, id: SubscriptionId) -> Vitals {
        let Some((at, noted)) = self.noted.get(&id) else { return Vitals::default() };
        let past = self.now - *at;
        Vitals {
            failing_for: noted.failing_for.map(|so_long| so_long + past),
            failures: noted.failures,
            held_for: noted.held_for.saturating_sub(past),
            open_for: noted.open_for.map(|left| left.saturating_sub(past)),
        }
    }
}

fn told(world: &World) -> Vec<(&'static str, String)> {
    let name = |news: &News| match news {
        News::Failing { reason, .. } => Some(("failing", reason.clone())),
        News::Recovered { reason, .. } => Some(("recovered", reason.clone())),
        News::Disabled { reason, .. } => Some(("disabled", reason.clone())),
        _ => None,
    };
    world.model.news.iter().filter_map(name).collect()
}

/// Attempts that fail at a receiver that is up for 45 seconds of every 5 minutes, with 2 events a second for an hour.
fn failures_of_a_flapping_one(circuit: Option<Circuit>) -> (u64, u64) {
    let (mut world, id) = failing(HOUR, circuit, None);
    world.open();
    for cycle in 0..12 {
        world.turns(seconds(300 * cycle + 255), id, Mood::Accepts);
        world.turns(seconds(300 * cycle + 300), id, Mood::Fails);
    }
    world.record_each(seconds(1), Duration::from_millis(500), 7_000, &[id]);
    world.run_well();
    let tally = world.view(id).tally;
    (tally.failed, tally.delivered)
}

#[test]
fn a_flapping_receiver_costs_less_than_a_twentieth_of_the_attempts_that_it_would_without_a_circuit() {
    let (with, delivered) = failures_of_a_flapping_one(Some(CIRCUIT));
    let (without, delivered_without) = failures_of_a_flapping_one(None);
    println!("failed attempts: {with} with a circuit, {without} without; arrived: {delivered}, {delivered_without}");
    assert!(without > 20_000, "{without}: without a circuit it costs much");
    assert!(with * 20 < without, "{with} of {without}");
}

#[test]
fn a_circuit_tells_when_it_opens_and_when_it_closes_and_why() {
    let (mut world, id) = failing(seconds(300), Some(CIRCUIT), None);
    world.open();
    world.record_each(seconds(0), seconds(1), 280, &[id]);
    world.turns(seconds(200), id, Mood::Accepts);
    world.at(seconds(150), None, move |world| {
        let view = world.view(id);
        assert_ne!(view.circuit, CircuitState::Closed);
        assert!(view.circuit_reason.unwrap().starts_with("circuit: "));
        // Since the very first attempt.
        assert!(view.failing_for.unwrap() > seconds(148));
    });
    world.run_well();
    let told = told(&world);
    assert_eq!(told.iter().map(|(what, _)| *what).collect::<Vec<_>>(), ["failing", "recovered"]);
    assert!(told[0].1.starts_with("circuit: ") && told[0].1.ends_with("the last: status 500"), "{told:?}");
    let view = world.view(id);
    assert_eq!((view.circuit, view.circuit_reason, view.failing_for), (CircuitState::Closed, None, None));
}

#[test]
fn what_waited_for_a_circuit_meets_the_receiver_gradually() {
    let (mut world, id) = failing(seconds(400), Some(CIRCUIT), None);
    world.open();
    world.record_for(vec![vec![id]; 3_000]);
    // Down for 300 seconds, so that the circuit is open when it comes back.
    world.turns(seconds(300), id, Mood::Accepts);
    for n in 0..20_000 {
        world.at(seconds(300) + Duration::from_millis(5 * n), None, move |world| {
            let view = world.view(id);
            let arrived = view.tally.delivered as usize;
            if view.circuit == CircuitState::Closed && arrived < 64 && view.in_flight > arrived.max(1) {
                world.problems.push(format!("{} in flight after {arrived} arrived", view.in_flight));
            }
            world.most = world.most.max(view.in_flight);
        });
    }
    world.run_well();
    assert_eq!(world.most, 32, "in the end as many as are configured");
    assert!(world.view(id).tally.delivered > 2_000);
}

#[test]
fn what_our_own_side_keeps_from_being_tried_opens_no_circuit_and_disables_nothing() {
    let circuit = Circuit { failures: 1, over: Duration::ZERO, ..CIRCUIT };
    let natures = vec![Nature::always(Mood::CannotBeTried, 0.0)];
    let (mut world, ids) = stage(natures, HOUR, Sabotage::None, |_, terms| {
        (terms.circuit, terms.disable_after) = (Some(circuit), Some(seconds(60)));
    });
    world.open();
    world.record_each(seconds(0), seconds(1), 100, &ids);
    world.run_well();
    let view = world.view(ids[0]);
    assert!(view.tally.unattempted > 1_000);
    assert_eq!((view.circuit, view.failing_for, told(&world)), (CircuitState::Closed, None, vec![]));
}

#[test]
fn a_rejection_says_that_the_receiver_is_there_so_it_opens_nothing_and_closes_a_probe() {
    let (mut world, id) = failing(seconds(600), Some(CIRCUIT), Some(seconds(300)));
    world.open();
    world.turns(seconds(0), id, Mood::Refuses);
    world.record_each(seconds(1), seconds(1), 400, &[id]);
    world.run_well();
    let view = world.view(id);
    assert_eq!((view.tally.rejected, view.circuit, view.failing_for), (400, CircuitState::Closed, None));
    assert_eq!(told(&world), vec![]);

    let (mut world, id) = failing(seconds(300), Some(CIRCUIT), None);
    world.open();
    world.record_each(seconds(0), seconds(1), 100, &[id]);
    world.turns(seconds(100), id, Mood::Refuses);
    world.at(seconds(99), None, move |world| assert_ne!(world.view(id).circuit, CircuitState::Closed));
    world.run_well();
    let view = world.view(id);
    assert_eq!(view.circuit, CircuitState::Closed);
    assert!(view.failing_for.is_some(), "nothing arrived yet");
}

/// Whether it is disabled, for how long it waits, and whether it fails, once a call of one second was answered so, where
/// the settings change meanwhile or not.
fn fares_after(mood: Mood, changes: bool) -> (bool, bool, bool) {
    // The receiver is slow for the first call alone, which is the only one.
    let retry = RetryPolicy { initial: HOUR, max: HOUR, ..RetryPolicy::default() };
    let (mut world, ids) = stage(vec![Nature::always(mood, 1.0)], seconds(30), Sabotage::None, |_, terms| {
        terms.retry = retry.clone();
    });
    let id = ids[0];
    world.left_alone = true;
    world.asked_wait = Some(HOUR);
    world.open();
    world.record_for(vec![ids]);
    world.at(Duration::from_millis(90), None, move |world| {
        assert_eq!(world.view(id).in_flight, 1);
        if changes {
            world.lane(id).terms.mark += 1;
            let roster = world.roster();
            world.tell_now(vec![Input::Roster(roster)]);
        }
    });
    world.run_well();
    let view = world.view(id);
    assert_eq!((view.in_flight, view.tally.failed), (0, 1));
    (!told(&world).is_empty(), view.held_until > world.now, view.failing_for.is_some())
}

#[test]
fn what_an_old_receiver_answers_is_not_held_against_the_new_one() {
    for mood in [Mood::IsGone, Mood::AsksToWait, Mood::Fails] {
        assert_eq!(fares_after(mood, true), (false, false, false), "{mood:?}");
        let same = (mood == Mood::IsGone, mood == Mood::AsksToWait, true);
        assert_eq!(fares_after(mood, false), same, "{mood:?}");
    }
}

/// How many attempts fail in the 20 seconds after a crash in the middle of a pause of the circuit.
fn attempts_after_a_crash(forgetful: bool) -> u64 {
    let (mut world, id) = failing(seconds(620), Some(Circuit { pause: seconds(600), ..CIRCUIT }), None);
    world.forgetful = forgetful;
    world.open();
    world.record_each(seconds(0), seconds(1), 600, &[id]);
    world.at(seconds(590), None, World::crash);
    world.run_well();
    let view = world.view(id);
    assert_eq!(view.circuit == CircuitState::Open, !forgetful);
    view.tally.failed
}

#[test]
fn an_open_circuit_outlasts_a_restart() {
    assert_eq!(attempts_after_a_crash(false), 0);
    assert!(attempts_after_a_crash(true) > 50, "a store that keeps nothing of it is caught");
}

/// When a subscription is disabled that fails from the start, must be disabled after an hour, and crashes after 50 minutes.
fn disabled_at(forgetful: bool, arrives_at: Option<Duration>) -> Option<Duration> {
    let (mut world, id) = failing(3 * HOUR, Some(CIRCUIT), Some(HOUR));
    world.forgetful = forgetful;
    world.open();
    world.record_each(seconds(0), seconds(10), 600, &[id]);
    world.at(seconds(3_000), None, World::crash);
    if let Some(at) = arrives_at {
        world.turns(at, id, Mood::Accepts);
        world.turns(at + seconds(60), id, Mood::Fails);
    }
    for second in 0..10_000 {
        world.at(seconds(second), None, move |world| {
            if world.disabled_at.is_none() && matches!(world.lane(id).standing, Standing::Disabled(_)) {
                world.disabled_at = Some(world.now);
                let again = world.now;
                // A person sets it going: the clock begins anew.
                world.at(seconds(1), None, move |world| {
                    world.resume(id);
                    let failing_for = world.view(id).failing_for;
                    assert!(failing_for.is_none_or(|so_long| so_long < world.now - again));
                });
            }
        });
    }
    world.run_well();
    let disabled: Vec<_> = told(&world).into_iter().filter(|(what, _)| *what == "disabled").collect();
    assert_eq!(disabled[0].1, "failing: nothing arrived for 1h");
    world.disabled_at
}

#[test]
fn a_subscription_that_nothing_reaches_is_disabled_in_time_whatever_restarts_between() {
    let at = disabled_at(false, None).unwrap();
    assert!((HOUR..HOUR + seconds(120)).contains(&at), "{at:?}");
    let forgotten = disabled_at(true, None).unwrap();
    assert!(forgotten > HOUR + seconds(2_000), "a store that keeps nothing of it is caught: {forgotten:?}");
}

#[test]
fn one_delivery_that_arrives_starts_the_clock_of_disabling_anew() {
    let at = disabled_at(false, Some(seconds(3_500))).unwrap();
    assert!(at > seconds(3_500) + HOUR, "{at:?}");
}

/// When the first call comes after a receiver asked for ten minutes, and the process crashed after one.
fn called_again_at(forgetful: bool) -> Duration {
    let natures = vec![Nature::always(Mood::AsksToWait, 0.0)];
    let (mut world, ids) = stage(natures, seconds(900), Sabotage::None, |_, _| {});
    (world.asked_wait, world.forgetful) = (Some(seconds(600)), forgetful);
    let id = ids[0];
    world.open();
    world.record_each(seconds(0), seconds(900), 1, &ids);
    world.turns(seconds(30), id, Mood::Accepts);
    world.at(seconds(60), None, World::crash);
    // Another one, which nobody asked to wait by itself.
    world.record_each(seconds(90), seconds(900), 1, &ids);
    world.run_well();
    let begun = world.model.begun_at(id);
    *begun.last().unwrap()
}

#[test]
fn a_wait_that_a_receiver_asked_for_outlasts_a_restart() {
    let at = called_again_at(false);
    assert!((seconds(600)..seconds(603)).contains(&at), "{at:?}");
    assert!(called_again_at(true) < seconds(120), "a store that keeps nothing of it is caught");
}

#[test]
fn no_receiver_can_ask_for_more_than_a_day() {
    let natures = vec![Nature::always(Mood::AsksToWait, 0.0)];
    let (mut world, ids) = stage(natures, seconds(60), Sabotage::None, |_, _| {});
    world.asked_wait = Some(100 * HOUR);
    world.open();
    world.record_for(vec![ids.clone()]);
    world.run_well();
    let held = world.view(ids[0]).held_until;
    assert!(held > 23 * HOUR && held <= 24 * HOUR + seconds(1), "{held:?}");
}

#[test]
fn what_was_held_arrives_in_order_after_a_pause_a_disabling_and_an_open_circuit() {
    for way in ["paused", "disabled", "circuit"] {
        let mood = if way == "paused" { Mood::Accepts } else { Mood::Fails };
        let (mut world, ids) = stage(vec![Nature::always(mood, 0.0)], HOUR, Sabotage::None, |_, terms| {
            terms.concurrency = 1;
            match way {
                "disabled" => terms.disable_after = Some(seconds(60)),
                "circuit" => terms.circuit = Some(CIRCUIT),
                _ => {}
            }
        });
        let id = ids[0];
        world.left_alone = true;
        world.open();
        if way == "paused" {
            world.at(seconds(0), None, move |world| world.pause(id, seconds(400)));
        }
        world.record_each(seconds(0), seconds(1), 120, &ids);
        // What comes now is held, and was never tried.
        world.record_each(seconds(300), seconds(0), 500, &ids);
        world.turns(seconds(301), id, Mood::Accepts);
        world.at(seconds(400), None, move |world| world.resume(id));
        world.run_well();
        let arrived = world.model.arrived_in_order(id);
        let late: Vec<_> = arrived.iter().filter(|(recorded, _)| *recorded >= seconds(300)).collect();
        assert_eq!(late.len(), 500, "{way}");
        assert!(late.is_sorted_by_key(|(_, delivery)| *delivery), "{way}");
    }
}
