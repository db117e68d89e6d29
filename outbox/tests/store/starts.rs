//! Starts that are cut off, one after the other.

use crate::fixture::*;
use crate::stepped::Stepped;
use posthaste_outbox::disk::sim::{Call, Fault, SimDisk, Trouble};
use posthaste_outbox::*;
use std::sync::Arc;

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Option<Fixture> {
    let (of_outbox, random) = (Arc::new(disk.clone()), Arc::new(Counted::default()));
    let limits = Limits { free_min: 0, ..Limits::default() };
    let (outbox, stepper) = GenerationOutbox::open_by_hand(of_outbox, Arc::clone(clock) as _, random, limits).ok()?;
    Some(Fixture::over(Stepped::wrap(Arc::new(outbox), Some(stepper)), Arc::clone(clock)))
}

/// A store of which the last generation has no event, yet says what stands since.
async fn paused(disk: &SimDisk, clock: &Arc<ManualClock>) {
    let f = open(disk, clock).unwrap();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    f.record_one(&ids).await;
    f.outbox.close().await.unwrap();
    drop(f);
    disk.kill();
    let f = open(disk, clock).unwrap();
    f.outbox.set_standing(ids[0], Standing::Paused).await.unwrap();
    f.outbox.note(vec![(ids[1], Vitals { failures: 7, ..Vitals::default() })]).await.unwrap();
    // Durable with it.
    f.outbox.set_standing(ids[0], Standing::Paused).await.unwrap();
    drop(f);
    disk.kill();
}

#[test]
fn what_a_generation_without_events_says_outlasts_a_start_that_is_cut_off_at_any_call() {
    let mut cut = 0;
    for trouble in [Trouble::PowerCut, Trouble::Fail] {
        for nth in 1..40 {
            run(async {
                let (disk, clock) = (SimDisk::new(nth), Arc::new(ManualClock::default()));
                paused(&disk, &clock).await;
                disk.arm(Fault { on: None, nth, trouble, lasting: false });
                let first = open(&disk, &clock);
                cut += u32::from(first.is_none() || disk.is_off());
                drop(first);
                disk.crash();
                let f = open(&disk, &clock).unwrap();
                let roll = f.outbox.roll().await.unwrap();
                assert_eq!(roll.subscriptions[0].standing, Standing::Paused, "{trouble:?} {nth}");
                assert_eq!(roll.subscriptions[1].vitals.failures, 7, "{trouble:?} {nth}");
            });
        }
    }
    assert!(cut > 10, "{cut} starts were cut off");
}

#[test]
fn what_is_recorded_after_a_start_that_could_begin_no_generation_is_found_by_the_next() {
    // By the seed the call that fails is done all the same, or not.
    for seed in 0..20 {
        run(async {
            let (disk, clock) = (SimDisk::new(seed), Arc::new(ManualClock::default()));
            paused(&disk, &clock).await;
            // The generation without events goes, a snapshot covers its number, and no other can be begun.
            disk.arm(Fault { on: Some(Call::Create), nth: 1, trouble: Trouble::Fail, lasting: true });
            drop(open(&disk, &clock).unwrap());
            disk.kill();
            let f = open(&disk, &clock).unwrap();
            let (ids, _) = f.enroll(&["a", "b"]).await;
            let recorded = f.record_one(&ids).await;
            drop(f);
            disk.kill();
            let f = open(&disk, &clock).unwrap();
            f.enroll(&["a", "b"]).await;
            let owed = f.claim(ids[1], 10).await.deliveries;
            assert_eq!(owed.last().map(|leased| leased.delivery.event), Some(recorded.id));
            assert_eq!(owed.len(), 2);
        });
    }
}
