//! What a start finds: on the real disk, and where what it would read is gone or damaged.

use crate::fixture::*;
use crate::world::{End, World};
use posthaste_events::{DeliveryId, State};
use posthaste_outbox::disk::{Disk, SledDisk};
use posthaste_outbox::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn a_restart_on_the_real_disk_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let open = || {
        let disk = Arc::new(SledDisk::open(folder.path()).unwrap());
        let generation = GenerationLimits { events_max: 10, ..GenerationLimits::default() };
        let limits = Limits { free_min: 0, generation, ..Limits::default() };
        let outbox = GenerationOutbox::open(disk, Arc::clone(&clock) as _, Arc::new(Counted::default()), limits);
        Fixture::over(Arc::new(outbox.unwrap()), Arc::clone(&clock))
    };
    run(async {
        let f = open();
        let (ids, epoch) = f.enroll(&["a", "b"]).await;
        let mut recorded = Vec::new();
        for n in 0..35 {
            recorded.push(f.record(vec![keyed(event(&n.to_string(), &ids), n, n)]).await[0]);
        }
        let given = f.claim(ids[0], 30).await.deliveries;
        for leased in &given[..20] {
            f.settle(leased, Then::Delivered).await;
        }
        f.settle(&given[20], Then::RetryIn(Duration::from_secs(9))).await;
        f.settle(&given[21], Then::Dead("no".into())).await;
        f.outbox.set_standing(ids[1], Standing::Paused).await.unwrap();
        // Dropped, not closed: as a kill leaves it, but for what waits 20 ms.
        drop(f);
        let f = open();
        let roll = f.outbox.roll().await.unwrap();
        let shown: Vec<_> = roll.subscriptions.iter().map(|s| (s.name.as_str(), s.standing.clone(), s.owed)).collect();
        assert_eq!(shown, [("a", Standing::Active, 14), ("b", Standing::Paused, 35)]);
        assert_eq!(roll.epoch, epoch);
        assert_eq!(f.view(&given[21]).await.row.state, State::Dead);
        assert_eq!(f.view(&given[20]).await.attempts, [failed(1)]);
        assert_eq!(f.settle(&given[25], Then::Delivered).await, Settled::LeaseLost);
        let again = f.record(vec![keyed(event("3", &ids), 3, 3)]).await[0];
        assert_eq!(again, Recorded { duplicate: true, ..recorded[3] });
        let next = f.record_one(&ids).await;
        assert!(next.id > recorded[34].id);
        assert_eq!(f.claim(ids[0], 100).await.deliveries.len(), 14);
        clock.forward(Duration::from_secs(9));
        let retried = f.claim_one(ids[0]).await;
        assert_eq!((retried.delivery, retried.attempt), (given[20].delivery, 2));
        let body = retried.payloads.notification().unwrap().clone();
        assert_eq!(body, *given[20].payloads.notification().unwrap());
        f.outbox.close().await.unwrap();
        drop(f);
        let f = open();
        let id = DeliveryId { event: recorded[34].id, subscription: ids[1] };
        assert_eq!(f.outbox.delivery(id).await.unwrap().unwrap().row.state, State::Held);
        assert_eq!(f.outbox.health().damaged_total, 0);
    });
}

/// A world that was busy for a while, over several generations.
async fn busy(seed: u64) -> World {
    let mut world = World::new(seed);
    world.open().unwrap();
    assert!(world.enroll().await);
    for _ in 0..150 {
        assert!(world.act().await);
    }
    world.check(false).await;
    world
}

#[test]
fn a_start_without_snapshots_or_manifests_reads_the_generations_instead() {
    for seed in 0..40 {
        run(async {
            let mut world = busy(seed).await;
            world.outbox().close().await.unwrap();
            for name in world.disk.files().unwrap() {
                if name.starts_with("ledger-") || (seed % 2 == 0 && name.starts_with("manifest-")) {
                    world.disk.remove_file(&name).unwrap();
                }
            }
            world.end(End::Killed).await;
            world.drain().await;
        });
    }
}

#[test]
fn a_damaged_snapshot_or_manifest_costs_nothing_but_time() {
    for seed in 0..40 {
        run(async {
            let mut world = busy(seed).await;
            world.outbox().close().await.unwrap();
            for name in world.disk.files().unwrap() {
                if name.starts_with("ledger-") || name.starts_with("manifest-") {
                    world.disk.flip_file(&name);
                }
            }
            world.end(End::Killed).await;
            world.drain().await;
        });
    }
}

#[test]
fn what_a_damaged_generation_lost_is_found_in_its_raw_bytes() {
    let noticed = AtomicU64::new(0);
    for seed in 0..40 {
        run(async {
            let mut world = busy(seed).await;
            world.outbox().close().await.unwrap();
            let generations = world.disk.generations().unwrap();
            let damaged = generations[seed as usize % generations.len()];
            if seed % 2 == 0 {
                world.disk.break_generation(damaged);
            } else {
                assert!(!world.disk.lose_rows(damaged, 4).is_empty());
            }
            world.end(End::Killed).await;
            world.drain().await;
            noticed.fetch_add(world.outbox().health().damaged_total.min(1), Ordering::Relaxed);
        });
    }
    // Not always: what nobody reads nobody misses.
    assert!(noticed.into_inner() > 20);
}

#[test]
fn a_check_of_everything_finds_what_nobody_read() {
    for lose in [false, true] {
        run(async {
            let world = busy(1).await;
            world.outbox().close().await.unwrap();
            let generations = world.disk.generations().unwrap();
            world.disk.kill();
            if lose {
                // What may be written twice is not missed: subscriptions that changed, the head, copies of replays.
                let missed = |lost: &[Vec<u8>]| lost.iter().any(|key| !b"SMR".contains(&key[0]));
                assert!((0..20).any(|_| missed(&world.disk.lose_rows(generations[0], 1))));
            }
            let (disk, clock) = (Arc::new(world.disk.clone()), Arc::clone(&world.clock));
            let outbox = GenerationOutbox::open(disk, clock, Arc::new(Counted::default()), Limits::default()).unwrap();
            assert_eq!(outbox.verify().await.unwrap() > 0, lose);
            assert_eq!(outbox.health().damaged_total > 0, lose);
        });
    }
}

#[test]
fn a_flipped_record_is_never_delivered_and_the_rest_is_served() {
    for seed in 0..40 {
        run(async {
            let mut world = busy(seed).await;
            let bodies: Vec<String> = world.model.events.values().map(|e| e.body.clone()).collect();
            world.outbox().close().await.unwrap();
            for generation in world.disk.generations().unwrap() {
                world.disk.flip_row(generation);
            }
            world.outbox = None;
            world.disk.kill();
            world.open().unwrap();
            world.clock.forward(Duration::from_secs(3_600));
            let mut served = 0;
            for id in world.subscriptions.clone() {
                world.outbox().set_standing(id, Standing::Active).await.unwrap();
                let want = Want { count: 1_000, fresh_min: 0, bytes: usize::MAX, lease: Duration::from_secs(30) };
                for leased in world.outbox().claim(id, want).await.unwrap().deliveries {
                    let body = String::from_utf8(leased.payloads.notification().unwrap().to_vec()).unwrap();
                    assert!(bodies.contains(&body), "{body}");
                    served += 1;
                }
            }
            let owed = world.model.owed().len();
            assert!(served > owed / 2, "{served} of {owed}");
        });
    }
}
