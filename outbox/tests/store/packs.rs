//! What a generation says of all subscriptions at its head: over starts, over cuts at every call, and where a part of it is
//! damaged or gone.

use crate::fixture::*;
use crate::stepped::Stepped;
use posthaste_events::SubscriptionId;
use posthaste_outbox::disk::sim::{Fault, Leaves, SimDisk, Trouble};
use posthaste_outbox::disk::{Disk as _, Row};
use posthaste_outbox::*;
use std::sync::Arc;
use std::time::Duration;

/// So many that they take several rows.
const COUNT: usize = 600;

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Option<Fixture> {
    let limits = Limits { free_min: 0, ..Limits::default() };
    let (disk, random) = (Arc::new(disk.clone()), Arc::new(Counted::default()));
    let (outbox, stepper) = GenerationOutbox::open_by_hand(disk, Arc::clone(clock) as _, random, limits).ok()?;
    Some(Fixture::over(Stepped::wrap(Arc::new(outbox), Some(stepper)), Arc::clone(clock)))
}

fn wanted() -> Vec<Enrolment> {
    let enrolment = |n| Enrolment { name: format!("customer-{n}"), backlog_max: 1_000, ordered: false, kept: true };
    (0..COUNT).map(enrolment).collect()
}

async fn stand(f: &Fixture, n: u32, standing: Standing) -> bool {
    f.outbox.set_standing(SubscriptionId(n), standing).await.is_ok()
}

fn disabled() -> Standing {
    Standing::Disabled("410".into())
}

/// Two generations, killed: the second has its packs, and behind them the row of one that was disabled since.
async fn made(disk: &SimDisk, clock: &Arc<ManualClock>) {
    let f = open(disk, clock).unwrap();
    f.outbox.enroll(wanted()).await.unwrap();
    f.record_one(&[SubscriptionId(5), SubscriptionId(COUNT as u32 - 1)]).await;
    assert!(stand(&f, 5, Standing::Paused).await);
    drop(f);
    disk.kill();
    let f = open(disk, clock).unwrap();
    assert!(stand(&f, 7, Standing::Paused).await);
    assert!(stand(&f, 9, disabled()).await);
    f.record_one(&[SubscriptionId(5)]).await;
    drop(f);
    disk.kill();
}

/// How many rows of these kinds a generation has.
fn rows_of(disk: &SimDisk, generation: u64) -> (usize, usize) {
    let keyspace = disk.open(generation).unwrap();
    let rows = keyspace.range(&[], &[0xff; 24], 10_000).unwrap();
    keyspace.close();
    let of_kind = |kind: u8| rows.iter().filter(|(key, _): &&Row| key[0] == kind).count();
    (of_kind(b'T'), of_kind(b'S'))
}

/// Whether everybody is there under name and number, with what each is owed, and those stand so who must.
async fn whole(f: &Fixture) -> Result<(), String> {
    let roll = f.outbox.roll().await.unwrap().subscriptions;
    let names: Vec<String> = roll.iter().map(|s| s.name.clone()).collect();
    let expected: Vec<String> = wanted().into_iter().map(|e| e.name).collect();
    if names != expected || !roll.iter().all(|s| s.name == format!("customer-{}", s.id.0)) {
        return Err(format!("{} of {COUNT} are there", roll.len()));
    }
    if roll.iter().map(|s| s.owed).sum::<u64>() != 3 {
        return Err("what is owed is lost".into());
    }
    match (&roll[5].standing, &roll[9].standing) {
        (Standing::Paused, standing) if *standing == disabled() => Ok(()),
        stood => Err(format!("{stood:?}")),
    }
}

#[test]
fn the_first_batch_of_a_generation_packs_everybody_and_what_changes_later_counts_over_it() {
    run(async {
        let (disk, clock) = (SimDisk::new(1), Arc::new(ManualClock::default()));
        made(&disk, &clock).await;
        let generations = disk.generations().unwrap();
        for generation in &generations {
            let (packs, own) = rows_of(&disk, *generation);
            assert!((2..20).contains(&packs) && own == 1, "{packs} packs, {own} rows of one");
        }
        disk.kill();
        // The newest generation is read behind the snapshot, and alone; then without any snapshot, from the first on.
        for snapshots in [true, false] {
            let disk_files = disk.files().unwrap();
            for name in disk_files.iter().filter(|name| !snapshots && name.starts_with("ledger-")) {
                disk.remove_file(name).unwrap();
            }
            let f = open(&disk, &clock).unwrap();
            whole(&f).await.unwrap();
            assert_eq!(f.outbox.roll().await.unwrap().subscriptions[7].standing, Standing::Paused);
            assert_eq!(f.outbox.health().damaged_total, 0);
            drop(f);
            disk.kill();
        }
    });
}

/// How the packs of the newest generation are damaged.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// A bit of one is flipped; whether that struck, by the seed.
    Flipped,
    /// One is gone without a word.
    Gone,
}

/// What else could tell of those in a damaged pack.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Left {
    Snapshot,
    GenerationBefore,
    /// The control.
    Nothing,
}

#[test]
fn whom_a_damaged_pack_held_an_earlier_generation_or_a_snapshot_tells_of() {
    for damage in [Damage::Flipped, Damage::Gone] {
        for left in [Left::Snapshot, Left::GenerationBefore, Left::Nothing] {
            let mut struck = 0;
            for seed in 0..40 {
                run(async {
                    let (disk, clock) = (SimDisk::new(seed), Arc::new(ManualClock::default()));
                    made(&disk, &clock).await;
                    let generations = disk.generations().unwrap();
                    let newest = *generations.last().unwrap();
                    let hit = match damage {
                        Damage::Flipped => disk.flip_row(newest).is_some_and(|key| key[0] == b'T'),
                        Damage::Gone => disk.forget_last(b'T'),
                    };
                    if !hit {
                        return;
                    }
                    struck += 1;
                    for name in disk.files().unwrap() {
                        if left != Left::Snapshot && name.starts_with("ledger-") {
                            disk.remove_file(&name).unwrap();
                        }
                    }
                    if left == Left::Nothing {
                        disk.destroy(generations[0]).unwrap();
                    }
                    let f = open(&disk, &clock).unwrap();
                    let found = whole(&f).await;
                    assert_eq!(found.is_ok(), left != Left::Nothing, "{damage:?} {left:?} {seed}: {found:?}");
                    assert!(f.outbox.health().damaged_total > 0, "{damage:?} {left:?} {seed}");
                });
            }
            assert!(struck > 5, "{damage:?} struck {struck} packs");
        }
    }
}

#[test]
fn a_cut_or_a_failure_at_any_call_loses_nobody() {
    let mut met = 0;
    for (trouble, leaves) in [
        (Trouble::PowerCut, Leaves::Prefix),
        (Trouble::PowerCut, Leaves::Subset),
        (Trouble::Fail, Leaves::Subset),
        (Trouble::Full, Leaves::Nothing),
    ] {
        for nth in 1..60 {
            run(async {
                let (disk, clock) = (SimDisk::new(nth), Arc::new(ManualClock::default()));
                made(&disk, &clock).await;
                disk.set_leaves(leaves);
                disk.arm(Fault { on: None, nth, trouble, lasting: false });
                let before: u64 = disk.calls().values().sum();
                // A start, an enrolment of all, a change of one and of its standing, over as many generations as it takes.
                if let Some(f) = open(&disk, &clock) {
                    for n in 0..3 {
                        let _ = f.outbox.enroll(wanted()).await;
                        let one = Enrolment { backlog_max: 2_000 + n, ..wanted().swap_remove(n as usize) };
                        let _ = f.outbox.amend(vec![Amend::List(one)]).await;
                        stand(&f, 20, Standing::Paused).await;
                        clock.forward(Duration::from_secs(1));
                    }
                }
                met += u32::from(disk.calls().values().sum::<u64>() - before >= nth);
                disk.crash();
                let f = open(&disk, &clock).unwrap();
                whole(&f).await.unwrap_or_else(|wrong| panic!("{trouble:?} {leaves:?} at {nth}: {wrong}"));
                assert_eq!(f.outbox.health().damaged_total, 0, "{trouble:?} {leaves:?} at {nth}");
            });
        }
    }
    assert!(met > 100, "{met} faults were met");
}
