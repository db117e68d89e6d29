//! The promises about changes of a few subscriptions, and what is left of one that fails.

use crate::fixture::*;
use crate::stepped::Stepped;
use posthaste_outbox::disk::sim::{Call, Fault, SimDisk, Trouble};
use posthaste_outbox::*;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

fn list(name: &str, kept: bool) -> Amend {
    Amend::List(Enrolment { name: name.into(), backlog_max: 1_000, ordered: false, kept })
}

fn unlist(name: &str) -> Amend {
    Amend::Unlist(name.into())
}

fn names(roll: &Roll) -> Vec<(&str, u32, bool)> {
    roll.subscriptions.iter().map(|s| (s.name.as_str(), s.id.0, s.listed)).collect()
}

pub(crate) async fn a_change_of_a_few_is_as_an_enrolment_of_all_and_tells_of_those_few(stores: Stores) {
    let f = stores.open();
    let (ids, epoch) = f.enroll(&["a", "b", "c"]).await;
    f.record_one(&ids).await;
    let roll = f.outbox.amend(vec![list("d", true), unlist("b"), unlist("none"), unlist("a"), list("a", false)]).await;
    let roll = roll.unwrap();
    assert!(roll.epoch > epoch);
    assert_eq!(names(&roll), [("a", 0, true), ("b", 1, false), ("d", 3, true)]);
    let all = f.outbox.roll().await.unwrap();
    assert_eq!(names(&all), [("a", 0, true), ("b", 1, false), ("c", 2, true), ("d", 3, true)]);
    assert_eq!(all.epoch, roll.epoch);
    let stale = f.outbox.record(vec![event("{}", &ids)], epoch).await;
    assert!(matches!(stale, Err(RecordError::StaleEpoch)), "{stale:?}");
    assert!(f.claim(ids[1], 1).await.deliveries.is_empty());
    assert_eq!(f.claim(ids[0], 1).await.deliveries.len(), 1);
    // It goes on under its name, and somebody else's of that name is another.
    f.outbox.amend(vec![list("b", false)]).await.unwrap();
    assert_eq!(f.claim(ids[1], 1).await.deliveries.len(), 1);
    let taken = f.outbox.amend(vec![list("c", true)]).await.unwrap();
    assert_eq!(names(&taken), [("c", 4, true)]);
    let none = f.outbox.amend(Vec::new()).await.unwrap();
    assert!(none.epoch > taken.epoch && none.subscriptions.is_empty());
}

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Option<(Fixture, Stepper)> {
    let limits = Limits { free_min: 0, ..Limits::default() };
    let (disk, random) = (Arc::new(disk.clone()), Arc::new(Counted::default()));
    let opened = GenerationOutbox::open_by_hand(disk, Arc::clone(clock) as _, random, limits);
    let (outbox, stepper) = opened.ok()?;
    let stepped = Stepped::wrap(Arc::new(outbox), Some(stepper.clone()));
    Some((Fixture::over(stepped, Arc::clone(clock)), stepper))
}

/// Who is listed under which number, what each is owed, how each stands.
async fn told(f: &Fixture) -> Vec<(String, u32, bool, Standing, u64)> {
    let roll = f.outbox.roll().await.unwrap();
    roll.subscriptions.into_iter().map(|s| (s.name, s.id.0, s.listed, s.standing, s.owed)).collect()
}

#[test]
fn a_change_that_fails_at_any_call_leaves_all_as_they_were_and_one_that_stood_outlasts_a_crash() {
    let (mut stood, mut undone) = (0, 0);
    for trouble in [Trouble::Fail, Trouble::Full, Trouble::PowerCut] {
        for nth in 1..25 {
            run(async {
                let (disk, clock) = (SimDisk::new(nth), Arc::new(ManualClock::default()));
                let (f, _) = open(&disk, &clock).unwrap();
                let (ids, _) = f.enroll(&["a", "b", "c"]).await;
                f.record_one(&ids).await;
                f.outbox.set_standing(ids[1], Standing::Paused).await.unwrap();
                let before = told(&f).await;
                disk.arm(Fault { on: None, nth, trouble, lasting: false });
                let mut last = Ok(Roll::default());
                let mut kept = before.clone();
                for changes in [vec![unlist("b")], vec![list("a", true), list("d", true)], vec![list("b", false)]] {
                    let at = told(&f).await;
                    last = f.outbox.amend(changes).await;
                    match &last {
                        Ok(_) => kept = told(&f).await,
                        Err(_) => {
                            assert_eq!(told(&f).await, at, "{trouble:?} {nth}");
                            break;
                        }
                    }
                }
                undone += u32::from(last.is_err());
                stood += u32::from(kept != before);
                if last.is_err() && !disk.is_off() {
                    // What was taken back is written over what may stand on the disk.
                    clock.forward(Duration::from_secs(1));
                    let standing = f.outbox.subscribed("c".into()).await.unwrap().unwrap();
                    f.outbox.set_standing(standing.id, Standing::Active).await.unwrap();
                }
                let off = disk.is_off();
                drop(f);
                disk.crash();
                let (f, _) = open(&disk, &clock).unwrap();
                // Without power nobody could write it down: then it may have been done all the same.
                if !off {
                    let after = told(&f).await;
                    assert_eq!(after, kept, "{trouble:?} {nth}");
                }
            });
        }
    }
    assert!(stood > 10 && undone > 5, "{stood} stood, {undone} undone");
}

#[test]
fn the_upkeep_takes_nothing_from_whoever_an_enrolment_that_fails_would_have_replaced() {
    run(async {
        let (disk, clock) = (SimDisk::new(1), Arc::new(ManualClock::default()));
        let limits = Limits { free_min: 0, ..Limits::default() };
        let random = Arc::new(Counted::default());
        let on = Arc::new(disk.clone());
        let (by_hand, stepper) = GenerationOutbox::open_by_hand(on, Arc::clone(&clock) as _, random, limits).unwrap();
        let f = Fixture::over(Stepped::wrap(Arc::new(by_hand.clone()), Some(stepper.clone())), Arc::clone(&clock));
        let (ids, _) = f.enroll(&["owed", "not-owed"]).await;
        f.record_one(&ids[..1]).await;
        f.outbox.set_standing(ids[1], Standing::Paused).await.unwrap();
        let before = told(&f).await;
        // Both are to be replaced; while that waits for the disk, which will fail, the upkeep runs.
        let mut replacing = by_hand.amend(vec![list("owed", true), list("not-owed", true)]);
        let mut context = Context::from_waker(Waker::noop());
        assert!(replacing.as_mut().poll(&mut context).is_pending());
        assert_ne!(told(&f).await, before);
        let mut upkeep = by_hand.sweep(Duration::from_secs(1));
        assert!(upkeep.as_mut().poll(&mut context).is_pending());
        disk.arm(Fault { on: Some(Call::Apply), nth: 1, trouble: Trouble::Full, lasting: false });
        while stepper.step() {}
        assert!(upkeep.await.is_ok());
        assert!(replacing.await.is_err());
        assert_eq!(told(&f).await, before);
    });
}
