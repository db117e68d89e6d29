//! What the seam of the disk promises, on both of its implementations; and what each adds.

#![expect(clippy::unwrap_used, reason = "a test ends where it can not go on")]

use bytes::Bytes;
use posthaste_outbox::disk::sim::{Call, Fault, Leaves, Trouble};
use posthaste_outbox::disk::{Disk, DiskError, Row, SimDisk, SledDisk, VALUE_MAX};
use posthaste_outbox::envelope;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn row(key: u32, body: &[u8]) -> Row {
    let key = key.to_be_bytes().to_vec();
    let sealed = envelope::seal(&key, 1, 1, body);
    (key, sealed)
}

fn all(keyspace: &dyn posthaste_outbox::disk::Keyspace) -> Vec<Row> {
    keyspace.range(&[], &[0xFF; 300], usize::MAX).unwrap()
}

/// Runs a check on a disk of each kind.
fn on_each(check: impl Fn(&dyn Disk)) {
    let dir = tempfile::tempdir().unwrap();
    check(&SledDisk::open(dir.path()).unwrap());
    check(&SimDisk::new(1));
}

#[test]
fn rows_are_read_as_they_were_put_after_reopening_too() {
    on_each(|disk| {
        let rows: Vec<Row> = (0..300).map(|n| row(n, &vec![n as u8; n as usize * 7])).collect();
        let keyspace = disk.create(7).unwrap();
        for batch in rows.chunks(64) {
            keyspace.apply(batch.to_vec()).unwrap();
            keyspace.sync().unwrap();
        }
        assert_eq!(all(&*keyspace), rows);
        keyspace.close();
        let keyspace = disk.open(7).unwrap();
        assert_eq!(all(&*keyspace), rows);
        assert_eq!(keyspace.get(&rows[5].0).unwrap().as_ref(), Some(&rows[5].1));
        assert_eq!(keyspace.get(b"none").unwrap(), None);
        let (from, to) = (10_u32.to_be_bytes(), 20_u32.to_be_bytes());
        assert_eq!(keyspace.range(&from, &to, 100).unwrap(), rows[10..20]);
        assert_eq!(keyspace.range(&from, &to, 3).unwrap(), rows[10..13]);
        assert_eq!(keyspace.range(&to, &from, 3).unwrap(), []);
        assert!(disk.size(7).unwrap() > 10_000);
    });
}

#[test]
fn generations_exist_from_their_making_to_their_destruction() {
    on_each(|disk| {
        assert!(disk.generations().unwrap().is_empty());
        for generation in [3, 1, u64::MAX] {
            disk.create(generation).unwrap().close();
        }
        assert_eq!(disk.generations().unwrap(), [1, 3, u64::MAX]);
        assert!(matches!(disk.create(3), Err(DiskError::Failed(_))));
        assert!(matches!(disk.open(2), Err(DiskError::Failed(_))));
        disk.destroy(3).unwrap();
        disk.destroy(3).unwrap();
        assert_eq!(disk.generations().unwrap(), [1, u64::MAX]);
        assert!(disk.size(3).is_err());
    });
}

#[test]
fn files_are_replaced_whole_and_read_in_pieces() {
    on_each(|disk| {
        assert_eq!(disk.read_file("a.b-1").unwrap(), None);
        disk.write_file("a.b-1", b"first").unwrap();
        disk.write_file("a.b-1", b"second").unwrap();
        disk.write_file("other", b"").unwrap();
        disk.create(1).unwrap().close();
        assert_eq!(disk.files().unwrap(), ["a.b-1", "other"]);
        assert_eq!(disk.read_file("a.b-1").unwrap().unwrap(), b"second");
        assert_eq!(disk.read_at("a.b-1", 2, 3).unwrap(), b"con");
        assert_eq!(disk.read_at("a.b-1", 4, 30).unwrap(), b"nd");
        assert_eq!(disk.read_at("a.b-1", 40, 30).unwrap(), b"");
        assert!(disk.read_at("none", 0, 1).is_err());
        disk.remove_file("a.b-1").unwrap();
        disk.remove_file("a.b-1").unwrap();
        assert_eq!(disk.files().unwrap(), ["other"]);
        for name in ["", "a/b", "..", ".a", "A", "lock", "_a", "gen-0000000000000001"] {
            assert!(matches!(disk.write_file(name, b""), Err(DiskError::Failed(_))), "{name}");
        }
    });
}

#[test]
fn a_value_beyond_the_bound_is_refused() {
    on_each(|disk| {
        let keyspace = disk.create(1).unwrap();
        let value = |len| vec![(b"k".to_vec(), Bytes::from(vec![1; len]))];
        assert!(matches!(keyspace.apply(value(VALUE_MAX + 1)), Err(DiskError::Failed(_))));
        assert_eq!(keyspace.get(b"k").unwrap(), None);
        keyspace.apply(value(VALUE_MAX)).unwrap();
        keyspace.sync().unwrap();
    });
}

#[test]
fn long_values_stay_in_the_file_that_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SledDisk::open(dir.path()).unwrap();
    let keyspace = disk.create(1).unwrap();
    for n in 0..400_u32 {
        // Keys of the greatest length, in a scattered order, so that pages are full and split everywhere.
        let mut key = vec![b'k'; envelope::KEY_MAX];
        key[..4].copy_from_slice(&n.wrapping_mul(0x9E37_79B9).to_be_bytes());
        let sealed = envelope::seal(&key, 1, 1, &vec![n as u8; envelope::body_max(key.len())]);
        keyspace.apply(vec![(key, sealed)]).unwrap();
        keyspace.sync().unwrap();
    }
    keyspace.close();
    let keyspace = disk.open(1).unwrap();
    keyspace.sync().unwrap();
    assert_eq!(fs::read_dir(dir.path().join("gen-0000000000000001/blobs")).unwrap().count(), 0);
    assert_eq!(all(&*keyspace).len(), 400);
}

#[test]
fn a_salvage_finds_every_row_of_an_undamaged_keyspace() {
    on_each(|disk| {
        let rows: Vec<Row> = (0..2000).map(|n| row(n, &vec![n as u8; (n % 600) as usize])).collect();
        let keyspace = disk.create(1).unwrap();
        for batch in rows.chunks(100) {
            keyspace.apply(batch.to_vec()).unwrap();
        }
        keyspace.sync().unwrap();
        keyspace.close();
        let found: BTreeSet<Row> = disk.salvage(1).unwrap().into_iter().collect();
        assert_eq!(found, rows.into_iter().collect());
    });
}

#[test]
fn a_keyspace_that_was_only_read_keeps_its_bytes_and_one_that_was_written_has_both() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SledDisk::open(dir.path()).unwrap();
    let keyspace = disk.create(1).unwrap();
    keyspace.apply(vec![row(1, b"a")]).unwrap();
    keyspace.sync().unwrap();
    keyspace.close();
    let bytes = || fs::read(dir.path().join("gen-0000000000000001/db")).unwrap();
    let before = bytes();
    let keyspace = disk.open(1).unwrap();
    keyspace.apply(vec![row(2, b"b")]).unwrap();
    assert_eq!(all(&*keyspace).len(), 2);
    assert!(disk.open(1).is_err() && disk.destroy(1).is_err(), "it is open");
    keyspace.close();
    assert_eq!(bytes(), before);

    let keyspace = disk.open(1).unwrap();
    assert_eq!(all(&*keyspace), [row(1, b"a")]);
    for n in 3..6 {
        keyspace.apply(vec![row(n, b"c")]).unwrap();
        keyspace.sync().unwrap();
    }
    keyspace.close();
    assert_eq!(all(&*disk.open(1).unwrap()).len(), 4);
    assert!(!dir.path().join("gen-0000000000000001.work").exists());
    assert_eq!(disk.salvage(1).unwrap().len(), 4);
    disk.destroy(1).unwrap();
}

#[test]
fn a_folder_is_held_by_one_and_free_again_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = SledDisk::open(dir.path()).unwrap();
    let error = SledDisk::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("another daemon runs on this data_dir") && error.contains(dir.path().to_str().unwrap()),
        "{error}"
    );
    drop(first);
    SledDisk::open(dir.path()).unwrap();
}

#[test]
fn only_its_user_can_read_what_it_makes() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SledDisk::open(&dir.path().join("new/one")).unwrap();
    disk.write_file("file", b"secret").unwrap();
    let keyspace = disk.create(1).unwrap();
    keyspace.apply(vec![row(1, b"secret")]).unwrap();
    keyspace.sync().unwrap();
    for path in files_below(dir.path()) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
    assert_eq!(fs::metadata(dir.path().join("new/one")).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn what_was_half_made_or_half_removed_is_swept_away_and_strange_things_stay() {
    let dir = tempfile::tempdir().unwrap();
    SledDisk::open(dir.path()).unwrap().create(1).unwrap().close();
    for folder in
        ["gen-0000000000000002.new", "gen-0000000000000003.old", "gen-0000000000000001.work", "gen-2", "mine.old"]
    {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    fs::write(dir.path().join("_half"), b"x").unwrap();
    let disk = SledDisk::open(dir.path()).unwrap();
    assert_eq!(disk.generations().unwrap(), [1]);
    assert_eq!(disk.files().unwrap(), [""; 0]);
    let left: BTreeSet<String> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left, ["gen-0000000000000001", "gen-2", "lock", "mine.old", "reserve"].map(String::from).into());
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// R5: flipped bits in each file of a closed keyspace. Nothing escapes as a panic or a hang, what is read or salvaged is
/// whole, and a scan finds all but what lay on the flipped byte.
#[test]
fn flipped_bits_cost_rows_but_never_give_wrong_ones() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let rows: BTreeSet<Row> =
        (0..4000_u32).map(|n| row(n.wrapping_mul(0x9E37_79B9), &vec![n as u8; (n % 600) as usize])).collect();
    let disk = SledDisk::open(&whole).unwrap();
    let keyspace = disk.create(1).unwrap();
    for batch in rows.iter().cloned().collect::<Vec<_>>().chunks(40) {
        keyspace.apply(batch.to_vec()).unwrap();
        keyspace.sync().unwrap();
    }
    keyspace.close();
    // Opened again once, so that there is a snapshot to damage.
    disk.open(1).unwrap().close();
    drop(disk);

    let (mut lossy, mut refused) = (0, 0);
    for round in 0..40_u64 {
        let copy = dir.path().join(format!("copy-{round}"));
        copy_dir(&whole, &copy);
        let victims = files_below(&copy.join("gen-0000000000000001"));
        // Mostly the data, each other file now and then.
        let victim = if round % 4 == 0 { &victims[round as usize / 4 % victims.len()] } else { &victims[1] };
        let mut bytes = fs::read(victim).unwrap();
        let bit = round.wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(17) as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(victim, bytes).unwrap();

        let disk = SledDisk::open(&copy).unwrap();
        match disk.open(1).and_then(|keyspace| keyspace.range(&[], &[0xFF; 8], usize::MAX)) {
            Ok(read) => {
                let sound: Vec<_> = read.into_iter().filter(|(k, v)| envelope::open(k, v).is_ok()).collect();
                lossy += usize::from(sound.len() < rows.len());
                assert!(sound.iter().all(|row| rows.contains(row)), "a wrong row after round {round}");
            }
            Err(DiskError::Damaged(_) | DiskError::Failed(_)) => refused += 1,
            Err(DiskError::NoSpace) => panic!("there is space"),
        }
        let found: BTreeSet<Row> = disk.salvage(1).unwrap().into_iter().collect();
        assert!(found.is_subset(&rows), "a wrong row salvaged after round {round}");
        assert!(found.len() + 1 >= rows.len(), "{} of {} rows salvaged after round {round}", found.len(), rows.len());
        drop(disk);
        fs::remove_dir_all(&copy).unwrap();
    }
    // The control: sled alone lost rows, or panicked.
    assert!(lossy > 0 && refused > 0, "{lossy} lossy, {refused} refused");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_dir(&path, &target) } else { fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

proptest! {
    #[test]
    fn a_crash_keeps_what_was_synced_and_some_of_the_rest(
        seed: u64,
        steps in prop::collection::vec((0_u32..50, any::<bool>()), 1..40),
        leaves in prop_oneof![Just(Leaves::Prefix), Just(Leaves::Subset), Just(Leaves::Nothing)],
    ) {
        let disk = SimDisk::new(seed);
        disk.set_leaves(leaves);
        let keyspace = disk.create(1).unwrap();
        let (mut synced, mut waiting) = (BTreeSet::new(), Vec::new());
        for (n, (key, sync)) in steps.into_iter().enumerate() {
            let rows = vec![row(key + n as u32 * 100, b"a"), row(key + n as u32 * 100 + 50, b"b")];
            keyspace.apply(rows.clone()).unwrap();
            waiting.push(rows);
            if sync {
                keyspace.sync().unwrap();
                synced.extend(waiting.drain(..).flatten());
            }
        }
        disk.crash();
        prop_assert!(keyspace.sync().is_err());
        let left: BTreeSet<Row> = all(&*disk.open(1).unwrap()).into_iter().collect();
        prop_assert!(left.is_superset(&synced));
        let kept: Vec<bool> = waiting.iter().map(|rows| rows.iter().all(|row| left.contains(row))).collect();
        let any: Vec<bool> = waiting.iter().map(|rows| rows.iter().any(|row| left.contains(row))).collect();
        prop_assert_eq!(&kept, &any, "a batch is kept whole or not at all");
        prop_assert!(leaves == Leaves::Subset || kept.is_sorted_by(|a, b| a >= b));
        prop_assert!(leaves != Leaves::Nothing || !kept.contains(&true));
    }
}

#[test]
fn a_disk_that_lies_loses_what_it_said_was_synced() {
    let disk = SimDisk::new(1);
    disk.lie_on_sync(true);
    let keyspace = disk.create(1).unwrap();
    keyspace.apply(vec![row(1, b"a")]).unwrap();
    keyspace.sync().unwrap();
    disk.crash();
    assert_eq!(all(&*disk.open(1).unwrap()), []);
}

#[test]
fn a_failed_sync_poisons_its_keyspace_and_no_later_sync_saves_what_it_was_about() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let keyspace = disk.create(1).unwrap();
        keyspace.apply(vec![row(1, b"a")]).unwrap();
        disk.arm(Fault { on: Some(Call::Sync), nth: 1, trouble: Trouble::Fail, lasting: false });
        assert!(keyspace.sync().is_err());
        assert!(keyspace.sync().is_err());
        assert!(keyspace.apply(vec![row(2, b"a")]).is_err());
        keyspace.close();
        let keyspace = disk.open(1).unwrap();
        assert_eq!(all(&*keyspace).len(), 1);
        keyspace.apply(vec![row(3, b"a")]).unwrap();
        keyspace.sync().unwrap();
        disk.crash();
        match all(&*disk.open(1).unwrap())[..] {
            [_] => lost += 1,
            [_, _] => kept += 1,
            ref rows => panic!("{rows:?}"),
        }
    }
    assert!(lost > 0 && kept > 0);
}

#[test]
fn the_power_goes_at_the_named_call_and_comes_back_at_a_crash() {
    let disk = SimDisk::new(3);
    disk.arm(Fault { on: None, nth: 3, trouble: Trouble::PowerCut, lasting: false });
    let keyspace = disk.create(1).unwrap();
    keyspace.apply(vec![row(1, b"a")]).unwrap();
    assert!(keyspace.sync().is_err());
    assert!(disk.files().is_err() && disk.open(1).is_err());
    disk.crash();
    assert!(disk.open(1).is_ok());
    assert_eq!(disk.calls()[&Call::Open], 2);
}

#[test]
fn a_killed_process_leaves_what_it_applied_and_a_later_crash_takes_it() {
    let disk = SimDisk::new(1);
    disk.set_leaves(Leaves::Nothing);
    let keyspace = disk.create(1).unwrap();
    keyspace.apply(vec![row(1, b"a")]).unwrap();
    disk.kill();
    assert!(keyspace.get(b"").is_err());
    assert_eq!(all(&*disk.open(1).unwrap()).len(), 1);
    disk.crash();
    assert_eq!(all(&*disk.open(1).unwrap()).len(), 0);
}

#[test]
fn a_full_disk_refuses_and_takes_again_once_there_is_space() {
    let disk = SimDisk::new(1);
    let keyspace = disk.create(1).unwrap();
    disk.set_capacity(Some(100));
    assert!(matches!(keyspace.apply(vec![row(1, &[0; 100])]), Err(DiskError::NoSpace)));
    assert!(matches!(disk.write_file("f", &[0; 101]), Err(DiskError::NoSpace)));
    disk.write_file("f", &[0; 90]).unwrap();
    assert_eq!(disk.free().unwrap(), 10);
    disk.remove_file("f").unwrap();
    keyspace.apply(vec![row(1, &[0; 60])]).unwrap();
    assert_eq!(all(&*keyspace).len(), 1);
}

#[test]
fn damage_is_found_by_the_envelope_or_by_a_salvage() {
    let disk = SimDisk::new(1);
    let keyspace = disk.create(1).unwrap();
    keyspace.apply((0..10).map(|n| row(n, b"body")).collect()).unwrap();
    keyspace.sync().unwrap();
    let flipped = disk.flip_row(1).unwrap();
    let value = keyspace.get(&flipped).unwrap().unwrap();
    assert!(matches!(envelope::open(&flipped, &value), Err(DiskError::Damaged(_))));
    let lost = disk.lose_rows(1, 3);
    assert!(!lost.is_empty() && keyspace.get(&lost[0]).unwrap().is_none());
    keyspace.close();
    disk.break_generation(1);
    assert!(matches!(disk.open(1), Err(DiskError::Damaged(_))));
    let found: Vec<Vec<u8>> = disk.salvage(1).unwrap().into_iter().map(|(key, _)| key).collect();
    assert!(found.len() >= 9 && !found.contains(&flipped));
}

#[test]
fn the_same_seed_and_calls_make_the_same_run() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let keyspace = disk.create(1).unwrap();
        for n in 0..20 {
            disk.arm(Fault { on: Some(Call::Apply), nth: 3, trouble: Trouble::Fail, lasting: false });
            let _ = keyspace.apply(vec![row(n, b"a")]);
        }
        disk.crash();
        all(&*disk.open(1).unwrap())
    };
    assert_eq!(run(5), run(5));
    assert!((0..9).any(|seed| run(seed) != run(5)));
}

#[test]
fn room_is_kept_in_reserve_and_is_no_file_of_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SledDisk::open(dir.path()).unwrap();
    assert_eq!(fs::metadata(dir.path().join("reserve")).unwrap().len(), 4 << 20);
    assert!(disk.files().unwrap().is_empty());
    assert!(disk.write_file("reserve", b"x").is_err());
}
