//! The promises about definitions, and what is left of them after a fault at every call.

use crate::fixture::*;
use posthaste_events::{DeliveryId, State};
use posthaste_outbox::disk::Disk as _;
use posthaste_outbox::disk::sim::{Fault, SimDisk, Trouble};
use posthaste_outbox::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const RETENTION: std::time::Duration = std::time::Duration::from_secs(60);

fn put(name: &str, revision: u64) -> Define {
    Define::Put(Definition { name: name.into(), revision, body: format!("{{\"r\":{revision}}}").into() })
}

fn shown(definitions: &[Definition]) -> Vec<(&str, u64)> {
    definitions.iter().map(|d| (d.name.as_str(), d.revision)).collect()
}

pub(crate) async fn definitions_are_kept_by_name_and_changed_in_order(stores: Stores) {
    let f = stores.open();
    assert!(f.outbox.definitions().await.unwrap().is_empty());
    f.outbox.define(vec![put("b", 1), put("a", 1), put("c", 1)]).await.unwrap();
    f.outbox.define(vec![put("a", 2), Define::Remove("c".into()), Define::Remove("none".into())]).await.unwrap();
    f.outbox.define(vec![put("d", 1), Define::Remove("d".into()), put("d", 2)]).await.unwrap();
    let all = f.outbox.definitions().await.unwrap();
    assert_eq!(shown(&all), [("a", 2), ("b", 1), ("d", 2)]);
    assert_eq!(all[0].body, "{\"r\":2}");
}

pub(crate) async fn definitions_beyond_the_bounds_are_refused_and_change_nothing(stores: Stores) {
    let f = stores.open();
    let long = Definition { name: "long".into(), revision: 1, body: vec![b'x'; DEFINITION_MAX].into() };
    f.outbox.define(vec![Define::Put(long.clone())]).await.unwrap();
    let longer = Definition { body: vec![b'x'; DEFINITION_MAX + 1].into(), revision: 2, ..long.clone() };
    for wrong in [Define::Put(longer), put("", 1), put("a b", 1), put(&"n".repeat(65), 1)] {
        let refused = f.outbox.define(vec![put("before", 1), wrong]).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    }
    assert_eq!(f.outbox.definitions().await.unwrap(), [long]);
    let all: Vec<Define> = (1..DEFINITIONS_MAX).map(|n| put(&format!("s{n}"), 1)).collect();
    f.outbox.define(all).await.unwrap();
    assert!(f.outbox.define(vec![put("one-more", 1)]).await.is_err());
    f.outbox.define(vec![put("s1", 2)]).await.unwrap();
    assert_eq!(f.outbox.definitions().await.unwrap().len(), DEFINITIONS_MAX);
}

pub(crate) async fn a_name_that_was_deleted_begins_anew_when_it_comes_again(stores: Stores) {
    let f = stores.open();
    f.outbox.define(vec![put("a", 1)]).await.unwrap();
    let (old, _) = f.enroll(&["a", "other"]).await;
    let event = f.record_one(&old).await.id;
    f.outbox.set_standing(old[0], Standing::Disabled("410".into())).await.unwrap();
    f.outbox.note(vec![(old[0], Vitals { failures: 9, ..Vitals::default() })]).await.unwrap();
    f.enroll(&["other"]).await;
    f.outbox.define(vec![Define::Remove("a".into())]).await.unwrap();
    let names = |roll: Roll| roll.subscriptions.into_iter().map(|s| s.name).collect::<Vec<_>>();
    assert_eq!(names(f.outbox.roll().await.unwrap()), ["other"], "though something was left of what it is owed");
    f.outbox.define(vec![put("a", 1)]).await.unwrap();
    let (new, _) = f.enroll(&["a", "other"]).await;
    assert!(new[0] != old[0] && new[1] == old[1]);
    let roll = f.outbox.roll().await.unwrap();
    let anew = roll.subscriptions.iter().find(|s| s.id == new[0]).unwrap();
    assert_eq!((&anew.standing, anew.owed, anew.vitals), (&Standing::Active, 0, Vitals::default()));
    assert!(f.claim(new[0], 10).await.deliveries.is_empty(), "it gets none of what the old one was owed");
    f.outbox.sweep(std::time::Duration::from_secs(1)).await.unwrap();
    let left = DeliveryId { event, subscription: old[0] };
    let left = f.outbox.delivery(left).await.unwrap().unwrap().row;
    assert_eq!((left.state, left.subscription.as_str()), (State::Cancelled, "a"));
    // One that is only gone from the configuration goes on under its name.
    f.enroll(&["a"]).await;
    assert_eq!(f.enroll(&["a", "other"]).await.0, new);
}

pub(crate) async fn a_name_that_somebody_else_takes_begins_anew_with_nothing_of_what_was_owed(stores: Stores) {
    let f = stores.open();
    let enroll = async |kept: bool| {
        let enrolment = Enrolment { name: "a".into(), backlog_max: 1_000, ordered: false, kept };
        f.outbox.enroll(vec![enrolment]).await.unwrap().subscriptions[0].id
    };
    let configured = enroll(false).await;
    let event = f.record_one(&[configured]).await.id;
    f.outbox.set_standing(configured, Standing::Paused).await.unwrap();
    // It leaves the configuration, and is owed something still when another comes by the API.
    f.outbox.enroll(vec![]).await.unwrap();
    let kept = enroll(true).await;
    assert_ne!(kept, configured);
    let roll = f.outbox.roll().await.unwrap().subscriptions;
    assert_eq!((roll.len(), &roll[0].standing, roll[0].owed), (1, &Standing::Active, 0));
    assert!(f.claim(kept, 10).await.deliveries.is_empty());
    assert_eq!(enroll(true).await, kept, "it is the same one from then on");
    f.record_one(&[kept]).await;
    // The configuration takes the name while the other is listed.
    let again = enroll(false).await;
    assert!(again != kept && again != configured);
    assert!(f.claim(again, 10).await.deliveries.is_empty());
    f.outbox.sweep(std::time::Duration::from_secs(1)).await.unwrap();
    let left = f.outbox.delivery(DeliveryId { event, subscription: configured }).await.unwrap().unwrap().row;
    assert_eq!(left.state, State::Cancelled);
    assert_eq!(f.outbox.health().owed, 0);
}

pub(crate) async fn one_that_is_being_removed_is_neither_resumed_nor_disabled_for_another_reason(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let deleted = Standing::Disabled(DELETED.into());
    assert_eq!(f.outbox.set_standing(ids[0], deleted.clone()).await.unwrap(), Some(Standing::Active));
    for standing in [Standing::Active, Standing::Paused, Standing::Disabled("410".into())] {
        assert_eq!(f.outbox.set_standing(ids[0], standing).await.unwrap(), None);
    }
    assert_eq!(f.outbox.roll().await.unwrap().subscriptions[0].standing, deleted);
}

/// The bytes of the newest snapshot, which tells of every account.
fn snapshot_len(disk: &SimDisk) -> usize {
    let files = disk.files().unwrap();
    let newest = files.iter().rfind(|name| name.starts_with("ledger-")).unwrap();
    disk.read_file(newest).unwrap().unwrap().len()
}

#[test]
fn ten_thousand_that_came_and_went_leave_nothing_behind() {
    run(async {
        let disk = SimDisk::new(5);
        let mut f = open(&disk).unwrap();
        let (mut lengths, mut seen) = (Vec::new(), 0);
        for round in 0..40 {
            let names: Vec<String> = (0..250).map(|n| format!("s{}-{n}", round % 3)).collect();
            let listed: Vec<&str> = names.iter().map(String::as_str).collect();
            f.outbox.define(names.iter().map(|name| put(name, 1)).collect()).await.unwrap();
            let (ids, _) = f.enroll(&listed).await;
            seen = seen.max(ids.iter().map(|id| id.0).max().unwrap());
            f.record_one(&ids).await;
            f.claim_one(ids[0]).await;
            f.enroll(&[]).await;
            f.outbox.define(names.into_iter().map(Define::Remove).collect()).await.unwrap();
            for _ in 0..8 {
                f.clock.forward(RETENTION);
                f.record(vec![event("{}", &[])]).await;
                f.outbox.sweep(RETENTION).await.unwrap();
            }
            if round % 10 == 9 {
                f.outbox.close().await.unwrap();
                drop(f);
                disk.kill();
                lengths.push(snapshot_len(&disk));
                f = open(&disk).unwrap();
            }
        }
        assert_eq!(seen, 9_999, "each was another one");
        assert!(lengths.iter().all(|len| *len < 1_000), "{lengths:?}");
        let files = disk.files().unwrap();
        assert!(!files.iter().any(|name| name.starts_with("definitions-")) && files.len() < 20, "{files:?}");
        assert!(disk.generations().unwrap().len() < 10);
    });
}

fn open(disk: &SimDisk) -> Option<Fixture> {
    let clock = Arc::new(ManualClock::default());
    let limits = Limits { free_min: 0, retention: RETENTION, ..Limits::default() };
    let opened = GenerationOutbox::open_by_hand(
        Arc::new(disk.clone()),
        Arc::clone(&clock) as _,
        Arc::new(Counted::default()),
        limits,
    );
    let (outbox, stepper) = opened.ok()?;
    Some(Fixture::over(crate::stepped::Stepped::wrap(Arc::new(outbox), Some(stepper)), clock))
}

/// A fault at every call: what was acknowledged is there after a crash; what was not is there whole, or not at all.
#[test]
fn a_definition_that_was_acknowledged_outlasts_a_fault_at_any_call() {
    let (mut kept, mut gone) = (0, 0);
    for trouble in [Trouble::Fail, Trouble::Full, Trouble::PowerCut] {
        for nth in 1..120 {
            run(async {
                let disk = SimDisk::new(nth);
                let mut sure: BTreeMap<String, u64> = BTreeMap::new();
                let mut unsure: BTreeMap<String, Vec<u64>> = BTreeMap::new();
                let f = open(&disk).unwrap();
                disk.arm(Fault { on: None, nth, trouble, lasting: false });
                for n in 0..30_u64 {
                    let (name, revision) = (format!("s{}", n % 7), n + 1);
                    if f.outbox.define(vec![put(&name, revision)]).await.is_ok() {
                        unsure.remove(&name);
                        sure.insert(name, revision);
                    } else {
                        unsure.entry(name).or_default().push(revision);
                    }
                }
                drop(f);
                disk.crash();
                let f = open(&disk).unwrap();
                let after = f.outbox.definitions().await.unwrap();
                assert!(after.iter().all(|d| d.body == format!("{{\"r\":{}}}", d.revision)));
                for name in sure.keys().chain(unsure.keys()) {
                    let found = after.iter().find(|d| d.name == *name).map(|d| d.revision);
                    let (sure, unsure) = (sure.get(name).copied(), unsure.get(name));
                    let of_those = found.is_some_and(|found| unsure.is_some_and(|all| all.contains(&found)));
                    assert!(found == sure || of_those, "{name}: {found:?}, {sure:?}, {unsure:?}");
                    if unsure.is_some() {
                        (kept, gone) = (kept + u32::from(of_those), gone + u32::from(found == sure));
                    }
                }
                assert_eq!(f.outbox.health().damaged_total, 0);
            });
        }
    }
    // The control: the faults struck where it matters, before and after the writing.
    assert!(kept > 20 && gone > 20, "{kept} kept, {gone} gone");
}

#[test]
fn a_damaged_file_of_definitions_is_counted_and_the_others_are_served() {
    run(async {
        let disk = SimDisk::new(3);
        let f = open(&disk).unwrap();
        f.outbox.define((0..500).map(|n| put(&format!("s{n}"), 1)).collect()).await.unwrap();
        assert_eq!(f.outbox.health().damaged_total, 0);
        f.outbox.close().await.unwrap();
        drop(f);
        disk.kill();
        let files = disk.files().unwrap();
        let two: Vec<&String> = files.iter().filter(|name| name.starts_with("definitions-")).take(2).collect();
        assert!(two.len() == 2 && two.iter().all(|name| disk.flip_file(name)));
        let f = open(&disk).unwrap();
        for _ in 0..2 {
            assert!(f.outbox.definitions().await.unwrap().len() >= 498);
            assert_eq!(f.outbox.health().damaged_total, 2);
        }
    });
}
