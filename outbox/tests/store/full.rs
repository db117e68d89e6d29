//! A disk without space, and one that fails while somebody enrols, waits or closes.

use crate::fixture::*;
use crate::stepped::Stepped;
use posthaste_outbox::disk::SimDisk;
use posthaste_outbox::disk::sim::{Call, Fault, Trouble};
use posthaste_outbox::*;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

const FREE_MIN: u64 = 100_000;
const SECOND: Duration = Duration::from_secs(1);

struct House {
    f: Fixture,
    stepper: Stepper,
    by_hand: Arc<dyn Outbox>,
}

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> House {
    let limits = Limits { free_min: FREE_MIN, ..Limits::default() };
    let (outbox, stepper) = GenerationOutbox::open_by_hand(
        Arc::new(disk.clone()),
        Arc::clone(clock) as _,
        Arc::new(Counted::default()),
        limits,
    )
    .unwrap();
    let by_hand: Arc<dyn Outbox> = Arc::new(outbox);
    let f = Fixture::over(Stepped::wrap(Arc::clone(&by_hand), Some(stepper.clone())), Arc::clone(clock));
    House { f, stepper, by_hand }
}

fn fresh(seed: u64) -> (SimDisk, Arc<ManualClock>, House) {
    let (disk, clock) = (SimDisk::new(seed), Arc::new(ManualClock::default()));
    let house = open(&disk, &clock);
    (disk, clock, house)
}

fn wanted(names: &[&str]) -> Vec<Enrolment> {
    names
        .iter()
        .map(|name| Enrolment { name: (*name).to_owned(), backlog_max: 1_000_000, ordered: false, kept: false })
        .collect()
}

fn listed(roll: &Roll) -> Vec<&str> {
    roll.subscriptions.iter().filter(|s| s.listed).map(|s| s.name.as_str()).collect()
}

/// Begins something without waiting for it.
async fn begin<T>(future: &mut posthaste_events::BoxFuture<T>) {
    poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[test]
fn an_enrolment_that_fails_leaves_what_was_listed_and_recording_goes_on() {
    for on in [Call::Apply, Call::Sync] {
        let (disk, clock, House { f, .. }) = fresh(1);
        run(async {
            let (ids, epoch) = f.enroll(&["a", "b"]).await;
            disk.arm(Fault { on: Some(on), nth: 1, trouble: Trouble::Fail, lasting: false });
            assert!(f.outbox.enroll(wanted(&["b", "c"])).await.is_err());
            let roll = f.outbox.roll().await.unwrap();
            assert_eq!((roll.epoch, listed(&roll)), (epoch, vec!["a", "b"]));
            clock.forward(SECOND);
            // As everybody does who matched before.
            f.outbox.record(vec![event("{}", &ids)], epoch).await.unwrap();
            assert_eq!(f.claim(ids[0], 10).await.deliveries.len(), 1);
            let again = f.outbox.enroll(wanted(&["b", "c"])).await.unwrap();
            assert!(again.epoch > epoch + 1, "the one that failed is not given twice");
            assert_eq!(listed(&again), ["b", "c"]);
            disk.crash();
            std::mem::forget(f);
            let House { f, .. } = open(&disk, &clock);
            let found = f.outbox.roll().await.unwrap();
            assert_eq!((found.epoch, listed(&found)), (again.epoch, vec!["b", "c"]));
            assert_eq!(found.subscriptions, again.subscriptions, "no name has two numbers");
        });
    }
}

#[test]
fn a_pause_that_fails_has_not_happened() {
    for on in [Call::Apply, Call::Sync] {
        let (disk, clock, House { f, .. }) = fresh(9);
        run(async {
            let (ids, _) = f.enroll(&["a"]).await;
            f.record_one(&ids).await;
            disk.arm(Fault { on: Some(on), nth: 1, trouble: Trouble::Fail, lasting: false });
            assert!(f.outbox.set_standing(ids[0], Standing::Paused).await.is_err());
            assert_eq!(f.outbox.roll().await.unwrap().subscriptions[0].standing, Standing::Active);
            assert_eq!(f.claim(ids[0], 10).await.deliveries.len(), 1);
            clock.forward(SECOND);
            f.record_one(&ids).await;
            disk.crash();
            std::mem::forget(f);
            let House { f, .. } = open(&disk, &clock);
            assert_eq!(f.outbox.roll().await.unwrap().subscriptions[0].standing, Standing::Active);
        });
    }
}

#[test]
fn an_enrolment_that_nobody_waits_for_any_more_is_undone() {
    let (_, _, House { f, stepper, by_hand }) = fresh(2);
    run(async {
        let (ids, epoch) = f.enroll(&["a"]).await;
        let mut enrolling = by_hand.enroll(wanted(&["b"]));
        begin(&mut enrolling).await;
        drop(enrolling);
        while stepper.step() {}
        f.outbox.record(vec![event("{}", &ids)], epoch).await.unwrap();
        assert_eq!(listed(&f.outbox.roll().await.unwrap()), ["a"]);
    });
}

#[test]
fn a_start_on_a_full_disk_delivers_what_is_owed_refuses_what_is_new_and_recovers_by_itself() {
    let (disk, clock, House { f, .. }) = fresh(3);
    run(async {
        let (ids, _) = f.enroll(&["a"]).await;
        f.record((0..3).map(|_| event("{}", &ids)).collect()).await;
        disk.kill();
        std::mem::forget(f);
        disk.set_capacity(Some(0));
        disk.arm(Fault { on: Some(Call::Create), nth: 1, trouble: Trouble::Full, lasting: true });
        let House { f, .. } = open(&disk, &clock);
        assert!(f.outbox.health().refusing.is_some(), "also before anybody records");
        let (ids, epoch) = f.enroll(&["a"]).await;
        let refused = f.outbox.record(vec![event("{}", &ids)], epoch).await;
        assert!(matches!(refused, Err(RecordError::Full { .. })), "{refused:?}");
        assert!(f.outbox.enroll(wanted(&["a", "b"])).await.is_err(), "another set must be durable");
        let owed = f.claim(ids[0], 10).await.deliveries;
        assert_eq!(owed.len(), 3);
        for leased in &owed {
            assert_eq!(f.settle(leased, Then::Delivered).await, Settled::Applied);
        }
        disk.disarm();
        disk.set_capacity(None);
        clock.forward(SECOND);
        f.outbox.sweep(SECOND).await.unwrap();
        assert_eq!(f.outbox.health().refusing, None);
        f.record_one(&ids).await;
        assert_eq!(f.outbox.health().owed, 1);
    });
}

#[test]
fn whether_the_disk_is_full_is_judged_while_nobody_records() {
    let (disk, clock, House { f, stepper, by_hand }) = fresh(4);
    run(async {
        let (ids, _) = f.enroll(&["a"]).await;
        f.record_one(&ids).await;
        assert_eq!(f.outbox.health().refusing, None);
        for by_sweep in [true, false] {
            for full in [true, false] {
                disk.set_capacity(full.then_some(FREE_MIN / 2));
                clock.forward(SECOND);
                if by_sweep {
                    f.outbox.sweep(SECOND).await.unwrap();
                } else {
                    let leased = f.claim_one(ids[0]).await;
                    let settlement = Settlement {
                        lease: leased.lease,
                        delivery: leased.delivery,
                        attempt: Some(failed(1)),
                        then: Then::RetryIn(Duration::ZERO),
                    };
                    by_hand.settle(vec![settlement]).await.unwrap();
                    assert!(stepper.step());
                }
                assert_eq!(f.outbox.health().refusing.is_some(), full, "{by_sweep}");
            }
        }
    });
}

#[test]
fn a_panic_at_a_write_is_a_failure_and_loses_nothing_that_was_settled() {
    for on in [Call::Apply, Call::Sync] {
        let (disk, clock, House { f, .. }) = fresh(5);
        run(async {
            let (ids, epoch) = f.enroll(&["a"]).await;
            f.record_one(&ids).await;
            let leased = f.claim_one(ids[0]).await;
            assert_eq!(f.settle(&leased, Then::Dead("no".into())).await, Settled::Applied);
            disk.arm(Fault { on: Some(on), nth: 1, trouble: Trouble::Panic, lasting: false });
            let refused = f.outbox.record(vec![event("lost", &ids)], epoch).await;
            assert!(matches!(refused, Err(RecordError::Store(StoreError::Failed(_)))), "{refused:?}");
            assert_eq!(f.view(&leased).await.attempts, [failed(1)]);
            clock.forward(SECOND);
            let kept = f.record_one(&ids).await;
            disk.crash();
            std::mem::forget(f);
            let House { f, .. } = open(&disk, &clock);
            assert_eq!(f.view(&leased).await.attempts, [failed(1)]);
            assert_eq!(f.view(&leased).await.row.reason.as_deref(), Some("no"));
            let owed = f.claim(ids[0], 10).await.deliveries;
            assert_eq!(owed.iter().map(|l| l.delivery.event).collect::<Vec<_>>(), [kept.id]);
        });
    }
}

/// A store that must read what it is asked to claim: it was opened again.
async fn to_be_read(seed: u64) -> (House, Vec<posthaste_events::SubscriptionId>) {
    let (disk, clock, House { f, .. }) = fresh(seed);
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    f.outbox.close().await.unwrap();
    drop(f);
    disk.kill();
    (open(&disk, &clock), ids)
}

#[test]
fn a_claim_that_nobody_waits_for_any_more_gives_its_leases_back() {
    run(async {
        for read in [true, false] {
            let (House { f, stepper, by_hand }, ids) = to_be_read(6).await;
            let want = Want { count: 10, fresh_min: 0, bytes: usize::MAX, lease: Duration::from_secs(30) };
            let mut claiming = by_hand.claim(ids[0], want);
            begin(&mut claiming).await;
            assert_eq!(f.outbox.health().leased, 1);
            if read {
                while stepper.step() {}
            }
            drop(claiming);
            while stepper.step() {}
            assert_eq!(f.outbox.health().leased, u64::from(read), "what was answered in time is held");
        }
    });
}

#[test]
fn a_claim_that_can_not_be_read_gives_its_leases_back() {
    run(async {
        let (House { f, stepper, by_hand }, ids) = to_be_read(7).await;
        let want = Want { count: 10, fresh_min: 0, bytes: usize::MAX, lease: Duration::from_secs(30) };
        let mut others: Vec<_> = (0..4_096).map(|_| by_hand.claim(ids[0], want)).collect();
        // Each finds something to read: what the one before it took is given back.
        for other in &mut others {
            f.clock.forward(Duration::from_secs(30));
            begin(other).await;
        }
        f.clock.forward(Duration::from_secs(30));
        assert!(by_hand.claim(ids[0], want).await.is_err(), "more reads wait than are taken");
        assert_eq!(f.outbox.health().leased, 0);
        drop(others);
        while stepper.step() {}
        assert_eq!(f.claim(ids[0], 10).await.deliveries.len(), 1);
    });
}

#[test]
fn a_close_is_never_refused_and_waits_for_no_listing() {
    let (_, _, House { stepper, by_hand, .. }) = fresh(8);
    run(async {
        let query = EventQuery {
            event_type: None,
            tenant: None,
            since: None,
            until: None,
            after: None,
            limit: 10,
            work_max: 10,
        };
        let mut listings: Vec<_> = (0..4_096).map(|_| by_hand.events(query.clone())).collect();
        for listing in &mut listings {
            begin(listing).await;
        }
        assert!(by_hand.events(query).await.is_err(), "more reads wait than are taken");
        let mut closing = by_hand.close();
        begin(&mut closing).await;
        while stepper.step() {}
        closing.await.unwrap();
        assert!(matches!(listings.remove(0).await, Err(StoreError::Closed)), "it came first");
    });
}
