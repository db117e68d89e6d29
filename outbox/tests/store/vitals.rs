//! The promises about how a subscription fares, and about what an attempt tells of the wire.

use crate::fixture::*;
use crate::stepped::Stepped;
use posthaste_events::outcome::Trace;
use posthaste_outbox::disk::SimDisk;
use posthaste_outbox::*;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn vitals(f: &Fixture) -> Vec<Vitals> {
    f.outbox.roll().await.unwrap().subscriptions.iter().map(|s| s.vitals).collect()
}

pub(crate) async fn how_a_subscription_fares_is_told_as_it_was_noted_and_its_times_go_on(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    assert_eq!(vitals(&f).await, [Vitals::default(); 2]);
    let noted =
        Vitals { failing_for: Some(5 * SECOND), failures: 12, held_for: 30 * SECOND, open_for: Some(20 * SECOND) };
    let unknown = posthaste_events::SubscriptionId(77);
    f.outbox.note(vec![(ids[1], noted), (unknown, noted)]).await.unwrap();
    assert_eq!(vitals(&f).await, [Vitals::default(), noted]);
    f.clock.forward(25 * SECOND);
    let later = Vitals {
        failing_for: Some(30 * SECOND),
        held_for: 5 * SECOND,
        // Over, and yet not closed: what comes next is a probe.
        open_for: Some(Duration::ZERO),
        ..noted
    };
    assert_eq!(vitals(&f).await, [Vitals::default(), later]);
    // A wall clock that leaps moves none of it, and whoever is listed again has it still.
    f.clock.leap(-3_600_000);
    f.enroll(&["a"]).await;
    f.enroll(&["a", "b"]).await;
    assert_eq!(vitals(&f).await, [Vitals::default(), later]);
    f.outbox.note(vec![(ids[1], Vitals::default())]).await.unwrap();
    assert_eq!(vitals(&f).await, [Vitals::default(); 2]);
}

pub(crate) async fn an_attempt_is_shown_with_how_it_went_on_the_wire(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let micros = |n| Some(Duration::from_micros(n));
    let traces = [
        None,
        Some(Trace::default()),
        Some(Trace { address: "127.0.0.1:443".parse().ok(), dns: micros(1), tls: micros(999), ..Trace::default() }),
        Some(Trace {
            address: "[2001:db8::1]:8443".parse().ok(),
            dns: micros(1_000),
            connect: micros(0),
            tls: micros(3_000_000),
            first_byte: micros(7),
        }),
    ];
    f.record_one(&ids).await;
    for trace in &traces {
        let leased = f.claim_one(ids[0]).await;
        let mut attempt = failed(leased.attempt);
        attempt.detail.trace = trace.clone().map(Box::new);
        let (lease, delivery, then) = (leased.lease, leased.delivery, Then::RetryIn(Duration::ZERO));
        f.outbox.settle(vec![Settlement { lease, delivery, attempt: Some(attempt), then }]).await.unwrap();
    }
    let leased = f.claim_one(ids[0]).await;
    let shown = f.view(&leased).await.attempts.into_iter().map(|a| a.detail.trace.map(|trace| *trace));
    assert_eq!(shown.collect::<Vec<_>>(), traces);
}

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Fixture {
    let limits = Limits {
        free_min: 0,
        generation: GenerationLimits { events_max: 3, ..GenerationLimits::default() },
        ..Limits::default()
    };
    let (outbox, stepper) = GenerationOutbox::open_by_hand(
        Arc::new(disk.clone()),
        Arc::clone(clock) as _,
        Arc::new(Counted::default()),
        limits,
    )
    .unwrap();
    Fixture::over(Stepped::wrap(Arc::new(outbox), Some(stepper)), Arc::clone(clock))
}

/// Noted, then something is recorded, then the power goes: what rode that sync is there, over any number of generations.
#[test]
fn how_a_subscription_fares_outlasts_a_power_cut_once_anything_after_it_is_durable() {
    for (generations, written) in [(0, false), (0, true), (1, true), (5, true)] {
        run(async {
            let (disk, clock) = (SimDisk::new(9), Arc::new(ManualClock::default()));
            let f = open(&disk, &clock);
            let (ids, _) = f.enroll(&["a", "b"]).await;
            let noted = Vitals { failing_for: Some(SECOND), failures: 3, held_for: 60 * SECOND, open_for: None };
            disk.set_leaves(posthaste_outbox::disk::sim::Leaves::Nothing);
            f.outbox.note(vec![(ids[0], noted)]).await.unwrap();
            if written {
                f.record_one(&ids).await;
            }
            for _ in 0..generations * 3 {
                f.record_one(&ids).await;
            }
            clock.forward(10 * SECOND);
            drop(f);
            disk.crash();
            let f = open(&disk, &clock);
            let (again, _) = f.enroll(&["a", "b"]).await;
            assert_eq!(again, ids);
            let expected = Vitals { failing_for: Some(11 * SECOND), held_for: 50 * SECOND, ..noted };
            // The control: what nothing was synced after is gone with the power.
            let expected = if written { expected } else { Vitals::default() };
            assert_eq!(vitals(&f).await, [expected, Vitals::default()]);
        });
    }
}

/// Nobody waits for it, and yet it is written: with the next batch of the writer.
#[test]
fn what_is_noted_is_written_though_nothing_else_is() {
    run(async {
        let (disk, clock) = (SimDisk::new(9), Arc::new(ManualClock::default()));
        let limits = Limits { free_min: 0, ..Limits::default() };
        let (outbox, stepper) = GenerationOutbox::open_by_hand(
            Arc::new(disk.clone()),
            Arc::clone(&clock) as _,
            Arc::new(Counted::default()),
            limits,
        )
        .unwrap();
        let f = Fixture::over(Stepped::wrap(Arc::new(outbox), Some(stepper.clone())), Arc::clone(&clock));
        let (ids, _) = f.enroll(&["a"]).await;
        let noted = Vitals { failures: 1, ..Vitals::default() };
        f.outbox.note(vec![(ids[0], noted)]).await.unwrap();
        let syncs = f.outbox.health().syncs_total;
        assert!(stepper.step());
        assert_eq!(f.outbox.health().syncs_total, syncs + 1);
        f.outbox.note(vec![(ids[0], noted)]).await.unwrap();
        assert!(!stepper.step(), "what is known already is written no second time");
        drop(f);
        disk.crash();
        let f = open(&disk, &clock);
        f.enroll(&["a"]).await;
        assert_eq!(vitals(&f).await, [noted]);
    });
}
