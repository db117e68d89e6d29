//! The promises about definitions, and what is left of them after a fault at every call.

use crate::fixture::*;
use posthaste_outbox::disk::sim::{Fault, SimDisk, Trouble};
use posthaste_outbox::*;
use std::collections::BTreeMap;
use std::sync::Arc;

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

fn open(disk: &SimDisk) -> Option<Fixture> {
    let clock = Arc::new(ManualClock::default());
    let limits = Limits { free_min: 0, ..Limits::default() };
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
        let files = posthaste_outbox::disk::Disk::files(&disk).unwrap();
        let two: Vec<&String> = files.iter().filter(|name| name.starts_with("definitions-")).take(2).collect();
        assert!(two.len() == 2 && two.iter().all(|name| disk.flip_file(name)));
        let f = open(&disk).unwrap();
        for _ in 0..2 {
            assert!(f.outbox.definitions().await.unwrap().len() >= 498);
            assert_eq!(f.outbox.health().damaged_total, 2);
        }
    });
}
