//! First attempts keep reserved room: a flood of due retries starves nothing that is new, of the same subscription or of
//! others. The control takes the reserve away.

use crate::receiver::{Mood, Nature};
use crate::stage::{seconds, stage};
use crate::world::Sabotage;
use posthaste_events::RetryPolicy;
use std::time::Duration;

const RETRIES: usize = 20_000;

/// How long events waited for their first attempt that were recorded while `RETRIES` retries were due, the 99th
/// percentile: those of the failing subscription, and those of a healthy one.
fn waited(reserved: bool) -> (Duration, Duration) {
    let natures = vec![Nature::always(Mood::Fails, 0.0), Nature::always(Mood::Accepts, 0.0)];
    let (mut world, ids) = stage(natures, seconds(400), Sabotage::None, |_, terms| {
        // All of them are due again soon after they failed, for ever.
        let initial = seconds(20);
        terms.retry = RetryPolicy { initial, multiplier: 1.0, max: initial, ..RetryPolicy::default() };
    });
    if !reserved {
        world.core.reserve_nothing();
    }
    world.open();
    let (failing, healthy) = (ids[0], ids[1]);
    for _ in 0..RETRIES / 100 {
        world.record_for(vec![vec![failing]; 100]);
    }
    // By then each was tried, and far more are due at any time than its receiver is asked in that.
    let later = seconds(200);
    world.record_each(later, Duration::from_millis(500), 200, &ids);
    world.run_well();
    let tried = world.view(failing).tally.failed as usize;
    assert!(tried > RETRIES, "{tried}: retries are under way");
    let p99 = |id| {
        let waits = world.model.waits(id, later, world.now);
        assert_eq!(waits.len(), 200);
        waits[waits.len() * 99 / 100]
    };
    (p99(failing), p99(healthy))
}

#[test]
fn twenty_thousand_due_retries_starve_no_new_event_of_their_subscription_nor_of_another() {
    let (failing, healthy) = waited(true);
    println!("beside {RETRIES} retries: new events of the failing one wait {failing:?}, of a healthy one {healthy:?}");
    assert!(failing < seconds(1), "{failing:?}");
    assert!(healthy < Duration::from_millis(20), "{healthy:?}");
}

#[test]
fn without_reserved_room_new_events_wait_for_the_retries() {
    let (failing, healthy) = waited(false);
    assert!(failing > seconds(30), "{failing:?}");
    assert!(healthy < Duration::from_millis(20), "{healthy:?}");
}
