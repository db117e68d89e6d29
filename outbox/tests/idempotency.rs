//! Idempotency keys are exact: compared with a map in memory, over restarts, crashes, merges and damage.

#![expect(clippy::unwrap_used, reason = "a test ends where it can not go on")]

use posthaste_events::EventId;
use posthaste_outbox::disk::sim::{Call, Fault, Trouble};
use posthaste_outbox::disk::{Disk, SimDisk, SledDisk};
use posthaste_outbox::idempotency::{Key, Keys, Known};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

const KEEP: u64 = 1000;

#[derive(Debug, Clone)]
enum Step {
    Insert(u16),
    Seal,
    SealFails(u64),
    Pass(u64),
    Forget,
    Tidy,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_u16..300).prop_map(Step::Insert),
        3 => Just(Step::Seal),
        1 => (1_u64..3).prop_map(Step::SealFails),
        2 => (1_u64..200).prop_map(Step::Pass),
        1 => Just(Step::Forget),
        3 => Just(Step::Tidy),
        1 => Just(Step::Restart),
    ]
}

/// Some keys share their first eight bytes, some their last, so that they meet in index and filter.
fn key(n: u16) -> Key {
    let mut key = [0; 16];
    let spread = u64::from(n / 3).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    match n % 3 {
        0 => key[..8].copy_from_slice(&spread),
        1 => key[8..].copy_from_slice(&spread),
        _ => {
            key[..8].copy_from_slice(&spread);
            key[8..].copy_from_slice(&spread);
        }
    }
    key
}

fn known(now: u64, sequence: u64) -> Known {
    let id = EventId::new(now, sequence, 7);
    Known { content: [sequence as u8; 16], id, deliveries: sequence as u32 }
}

/// What the store does: it notes keys while a generation lasts, seals at its end, and replays after a restart.
fn compare(disk: Arc<dyn Disk>, sim: Option<SimDisk>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut now = 5000;
    let mut keys = Keys::open(Arc::clone(&disk), now, KEEP).unwrap();
    let mut model: HashMap<Key, Known> = HashMap::new();
    let mut active: Vec<(Key, Known)> = Vec::new();
    let mut generation = 1;
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Insert(which) => {
                let (key, known) = (key(which), known(now, n as u64));
                if keys.look_up(&key, now).unwrap().is_none() {
                    keys.insert(key, known);
                    active.push((key, known));
                    model.insert(key, known);
                }
            }
            Step::Seal => {
                keys.seal(generation).unwrap();
                generation += 1;
                active.clear();
            }
            Step::SealFails(nth) => {
                if let Some(sim) = &sim {
                    sim.arm(Fault { on: Some(Call::WriteFile), nth, trouble: Trouble::Fail, lasting: false });
                    // Sealed or not, the generation may go on and be sealed again.
                    let _ = keys.seal(generation);
                    sim.crash();
                    keys = reopen(&disk, now, &active);
                }
            }
            Step::Pass(ms) => now += ms,
            Step::Forget => keys.forget(now).unwrap(),
            Step::Tidy => while keys.tidy(now).unwrap() {},
            Step::Restart => {
                if let Some(sim) = &sim {
                    sim.crash();
                }
                keys = reopen(&disk, now, &active);
            }
        }
        model.retain(|_, known| now < known.id.millis() + KEEP);
        if n % 20 == 0 {
            for which in 0..300 {
                let key = key(which);
                prop_assert_eq!(keys.look_up(&key, now).unwrap(), model.get(&key).copied(), "key {}", which);
            }
        }
    }
    prop_assert_eq!(keys.damaged_total(), 0);
    Ok(())
}

fn reopen(disk: &Arc<dyn Disk>, now: u64, active: &[(Key, Known)]) -> Keys {
    let mut keys = Keys::open(Arc::clone(disk), now, KEEP).unwrap();
    active.iter().for_each(|(key, known)| keys.insert(*key, *known));
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn keys_are_known_exactly_as_a_map_knows_them(seed: u64, steps in prop::collection::vec(step(), 1..300)) {
        let sim = SimDisk::new(seed);
        compare(Arc::new(sim.clone()), Some(sim), steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn on_the_real_disk_too(steps in prop::collection::vec(step(), 1..300)) {
        let dir = tempfile::tempdir().unwrap();
        compare(Arc::new(SledDisk::open(dir.path()).unwrap()), None, steps)?;
    }
}

/// Fills files with keys: `files` of them, `each` keys in each, all recorded at 1,000.
fn filled(disk: &SimDisk, files: u64, each: u64) -> Keys {
    let mut keys = Keys::open(Arc::new(disk.clone()), 1000, KEEP).unwrap();
    for file in 0..files {
        for n in 0..each {
            keys.insert(wide(file * each + n), known(1000, file * each + n));
        }
        keys.seal(file).unwrap();
    }
    keys
}

fn wide(n: u64) -> Key {
    let spread = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (u128::from(spread) << 64 | u128::from(n)).to_be_bytes()
}

#[test]
fn many_generations_become_few_files_and_each_key_is_still_known() {
    let disk = SimDisk::new(1);
    let mut keys = Keys::open(Arc::new(disk.clone()), 1000, KEEP).unwrap();
    for generation in 0..100 {
        for n in 0..5000 {
            let n = generation * 5000 + n;
            keys.insert(wide(n), known(1000, n));
        }
        keys.seal(generation).unwrap();
        while keys.tidy(1000).unwrap() {}
    }
    let (count, files, memory) = keys.sealed();
    assert_eq!(count, 500_000);
    assert!(files <= 20 && files == disk.files().unwrap().len(), "{files}");
    assert!(memory as u64 <= count * 5 / 2 + files as u64 * 8192, "{memory}");
    for n in (0..500_000).step_by(997) {
        assert_eq!(keys.look_up(&wide(n), 1500).unwrap(), Some(known(1000, n)));
        assert_eq!(keys.look_up(&wide(n + 500_000), 1500).unwrap(), None);
    }
    keys.forget(1000 + KEEP).unwrap();
    assert!(disk.files().unwrap().is_empty());
}

#[test]
fn a_merge_drops_what_is_forgotten() {
    let disk = SimDisk::new(1);
    let mut keys = filled(&disk, 7, 10);
    keys.insert(wide(1 << 40), known(1900, 1));
    keys.seal(7).unwrap();
    assert!(keys.tidy(2500).unwrap());
    assert_eq!(keys.sealed().0, 1);
    assert_eq!(keys.look_up(&wide(1 << 40), 2500).unwrap(), Some(known(1900, 1)));
}

#[test]
fn a_crash_at_any_call_of_sealing_and_merging_forgets_nothing() {
    for nth in 1.. {
        let disk = SimDisk::new(nth);
        let mut keys = filled(&disk, 7, 20);
        disk.arm(Fault { on: None, nth, trouble: Trouble::PowerCut, lasting: false });
        for n in 140..160 {
            keys.insert(wide(n), known(1000, n));
        }
        let done = keys.seal(7).and_then(|()| keys.tidy(1000));
        disk.crash();
        let mut keys = Keys::open(Arc::new(disk.clone()), 1000, KEEP).unwrap();
        (140..160).for_each(|n| keys.insert(wide(n), known(1000, n)));
        keys.seal(7).unwrap();
        keys.tidy(1000).unwrap();
        for n in 0..160 {
            assert_eq!(keys.look_up(&wide(n), 1000).unwrap(), Some(known(1000, n)), "key {n} after a crash at {nth}");
        }
        assert_eq!((keys.damaged_total(), keys.look_up(&wide(160), 1000).unwrap()), (0, None));
        if done.is_ok() {
            assert!(nth > 10, "a merge of eight files removes them one by one");
            return;
        }
    }
}

#[test]
fn a_flipped_bit_costs_the_keys_of_a_block_or_a_file_and_is_counted() {
    let mut unknown = 0;
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        drop(filled(&disk, 3, 200));
        let name = disk.files().unwrap().remove(1);
        assert!(disk.flip_file(&name));
        let mut keys = Keys::open(Arc::new(disk.clone()), 1000, KEEP).unwrap();
        let mut lost = 0;
        for n in 0..600 {
            match keys.look_up(&wide(n), 1000).unwrap() {
                Some(found) => assert_eq!(found, known(1000, n), "a wrong answer"),
                None => lost += 1,
            }
        }
        assert!(lost == 200 || (1..=64).contains(&lost), "{lost} lost");
        assert!(keys.damaged_total() > 0);
        unknown += lost;
        // A merge passes over it as well.
        for generation in 10..20 {
            keys.insert(wide(generation << 32), known(1000, generation));
            keys.seal(generation).unwrap();
            keys.tidy(1000).unwrap();
        }
        assert_eq!(keys.look_up(&wide(0), 1000).unwrap(), Some(known(1000, 0)));
    }
    assert!(unknown > 0);
}

#[test]
fn a_failing_read_is_an_error_and_not_an_unknown_key() {
    let disk = SimDisk::new(1);
    let keys = filled(&disk, 1, 10);
    disk.arm(Fault { on: Some(Call::ReadAt), nth: 1, trouble: Trouble::Fail, lasting: false });
    assert!(keys.look_up(&wide(3), 1000).is_err());
    assert_eq!(keys.look_up(&wide(3), 1000).unwrap(), Some(known(1000, 3)));
}
