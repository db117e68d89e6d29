//! The generation that is made ahead of its time.

use crate::fixture::*;
use crate::stepped::Stepped;
use posthaste_outbox::disk::sim::Call;
use posthaste_outbox::disk::{Disk, SimDisk};
use posthaste_outbox::*;
use std::sync::Arc;

fn open(disk: &SimDisk) -> (Fixture, Stepper) {
    let generation = GenerationLimits { events_max: 16, ..GenerationLimits::default() };
    let limits = Limits { free_min: 0, generation, ..Limits::default() };
    let clock = Arc::new(ManualClock::default());
    let (outbox, stepper) = GenerationOutbox::open_by_hand(
        Arc::new(disk.clone()),
        Arc::clone(&clock) as _,
        Arc::new(Counted::default()),
        limits,
    )
    .unwrap();
    let by_hand = Stepped::wrap(Arc::new(outbox), Some(stepper.clone()));
    (Fixture::over(by_hand, clock), stepper)
}

#[test]
fn the_next_generation_is_there_before_it_is_needed_and_then_used() {
    let disk = SimDisk::new(1);
    run(async {
        let (f, stepper) = open(&disk);
        let (ids, _) = f.enroll(&["a"]).await;
        for _ in 0..13 {
            f.record_one(&ids).await;
        }
        while stepper.step() {}
        assert_eq!(disk.generations().unwrap(), [1], "not before its time");
        f.record_one(&ids).await;
        while stepper.step() {}
        assert_eq!(disk.generations().unwrap(), [1, 2]);
        let made = disk.calls()[&Call::Create];
        for _ in 0..4 {
            f.record_one(&ids).await;
        }
        assert_eq!(disk.calls()[&Call::Create], made, "nobody who records waits for another to be made");
        assert_eq!(disk.generations().unwrap(), [1, 2]);
        assert_eq!(f.claim(ids[0], 100).await.deliveries.len(), 18);
    });
}

#[test]
fn one_that_was_never_used_is_gone_after_a_stop_and_after_a_crash() {
    for crash in [false, true] {
        let disk = SimDisk::new(2);
        run(async {
            let (f, stepper) = open(&disk);
            let (ids, _) = f.enroll(&["a"]).await;
            for _ in 0..14 {
                f.record_one(&ids).await;
            }
            while stepper.step() {}
            assert_eq!(disk.generations().unwrap(), [1, 2]);
            // What is recorded after it was made lies in an older generation than the newest.
            f.record_one(&ids).await;
            if crash {
                disk.crash();
                // Nobody tidies up after a crash.
                std::mem::forget((f, stepper));
            } else {
                f.outbox.close().await.unwrap();
                assert_eq!(disk.generations().unwrap(), [1]);
                drop((f, stepper));
            }
            let (f, _stepper) = open(&disk);
            let roll = f.outbox.roll().await.unwrap();
            assert_eq!(roll.subscriptions[0].owed, 15);
            assert_eq!(disk.generations().unwrap(), [1, if crash { 3 } else { 2 }]);
        });
    }
}
