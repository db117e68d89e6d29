//! The generations over a disk that fails: at random, and at each call there is.

use crate::fixture::run;
use crate::world::{End, World};
use posthaste_outbox::disk::sim::{Call, Fault, Leaves, Trouble};
use rand::Rng as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

#[expect(clippy::disallowed_methods, reason = "how many seeds, and which, is said by whoever runs the tests")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs each seed, more with `POSTHASTE_SEEDS`; a failing one says how to run it alone.
fn each_seed(test: &str, run_one: impl Fn(u64)) {
    let all = number("POSTHASTE_SEED").map_or(0..number("POSTHASTE_SEEDS").unwrap_or(100), |seed| seed..seed + 1);
    for seed in all {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run_one(seed))) {
            eprintln!("run it again: POSTHASTE_SEED={seed} cargo test -p posthaste-outbox --test store {test}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn random_end(world: &mut World) -> End {
    [End::Closed, End::Killed, End::PowerCut][world.dice.random_range(0..3)]
}

#[test]
fn nothing_acknowledged_is_lost_over_restarts_kills_and_power_cuts() {
    let replayed = AtomicU64::new(0);
    each_seed("over_restarts", |seed| {
        run(async {
            let mut world = World::new(seed);
            world.disk.set_leaves([Leaves::Prefix, Leaves::Subset, Leaves::Nothing][(seed % 3) as usize]);
            world.open().unwrap();
            assert!(world.enroll().await);
            for _ in 0..6 {
                for _ in 0..40 {
                    assert!(world.act().await);
                }
                world.check(false).await;
                let end = random_end(&mut world);
                world.end(end).await;
            }
            world.drain().await;
            replayed.fetch_add(world.replayed, Ordering::Relaxed);
        });
    });
    assert!(replayed.into_inner() > 0, "nothing was ever replayed");
}

#[test]
fn nothing_acknowledged_is_lost_where_calls_fail_at_random() {
    each_seed("fail_at_random", |seed| {
        run(async {
            let mut world = World::new(seed);
            world.open().unwrap();
            assert!(world.enroll().await);
            for _ in 0..8 {
                for _ in 0..3 {
                    let trouble = [Trouble::Fail, Trouble::Full][world.dice.random_range(0..2)];
                    let nth = world.dice.random_range(1..60);
                    world.disk.arm(Fault { on: None, nth, trouble, lasting: false });
                }
                for _ in 0..30 {
                    if !world.act().await {
                        world.clock.forward(std::time::Duration::from_secs(1));
                    }
                }
                world.disk.disarm();
                world.clock.forward(std::time::Duration::from_secs(1));
                assert!(world.write().await, "it recovers by itself");
                world.check(false).await;
                let end = random_end(&mut world);
                world.end(end).await;
            }
            world.drain().await;
        });
    });
}

/// A fixed scenario with trouble at the `nth` call; `None` once the scenario has fewer calls.
async fn scenario(seed: u64, on: Option<Call>, nth: u64, trouble: Trouble, lie: bool) -> Option<()> {
    let mut world = World::new(seed);
    world.disk.lie_on_sync(lie);
    world.open().unwrap();
    assert!(world.enroll().await);
    let before: u64 = count(&world, on);
    world.disk.arm(Fault { on, nth, trouble, lasting: false });
    for _ in 0..60 {
        if !world.act().await {
            world.clock.forward(std::time::Duration::from_secs(1));
            if trouble == Trouble::PowerCut {
                break;
            }
        }
    }
    let struck = count(&world, on) - before >= nth;
    world.disk.disarm();
    world.end(End::PowerCut).await;
    world.disk.lie_on_sync(false);
    world.drain().await;
    struck.then_some(())
}

fn count(world: &World, on: Option<Call>) -> u64 {
    world.disk.calls().iter().filter(|(call, _)| on.is_none_or(|on| on == **call)).map(|(_, n)| n).sum()
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    for seed in 0..2 {
        let mut points = 0;
        for nth in 1.. {
            if run_scenario(seed, None, nth, Trouble::PowerCut, false).is_none() {
                break;
            }
            points = nth;
        }
        assert!(points > 100, "{points}");
    }
}

#[test]
fn any_write_or_sync_that_fails_is_never_acknowledged_and_nothing_is_lost() {
    for on in [Call::Apply, Call::Sync, Call::WriteFile, Call::Create] {
        for trouble in [Trouble::Fail, Trouble::Full] {
            let mut points = 0;
            for nth in 1.. {
                if run_scenario(3, Some(on), nth, trouble, false).is_none() {
                    break;
                }
                points = nth;
            }
            assert!(points > 3, "{on:?} {points}");
        }
    }
}

/// The negative control: the same test, on a disk whose syncs keep nothing, must find losses.
#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let lost = (1..40).filter(|nth| {
        let quiet = std::panic::AssertUnwindSafe(|| run_scenario(1, Some(Call::Sync), *nth, Trouble::PowerCut, true));
        catch_unwind(quiet).is_err()
    });
    assert!(lost.count() > 5);
}

fn run_scenario(seed: u64, on: Option<Call>, nth: u64, trouble: Trouble, lie: bool) -> Option<()> {
    let mut struck = None;
    run(async { struck = scenario(seed, on, nth, trouble, lie).await });
    struck
}
