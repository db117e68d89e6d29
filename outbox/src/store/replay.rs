//! How a start finds out what is owed: the newest snapshot that is whole, and what was written after it.
//!
//! Usually that is the generation that was active alone. Where no snapshot is whole, every generation is read. What a
//! start finds it never writes to again: a descriptor that is opened now can miss an error of an earlier write, so the
//! generation that was active is synced, closed and another begun.

use super::catalog::Catalog;
use super::claim::Cache;
use super::library::{Library, Shared, for_each_in};
use super::manifest::Manifest;
use super::overlay::Overlay;
use super::replays::Unwritten;
use super::rotate::Snapshot;
use super::{Inner, Store, Writer};
use crate::disk::{Disk, DiskError, Generation, Keyspace, Row};
use crate::idempotency::{Keys, Known};
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::replays::Replays;
use crate::rows::{self, EventHead, Head, Kind, Pack};
use crate::time::{OutboxTime, millis};
use posthaste_events::seams::{Clock, Random};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

/// Leases of a start begin at its time shifted by so much: more than a start can give in its milliseconds.
const LEASES_SHIFT: u32 = 20;

/// What a start has found so far.
struct Found {
    ledger: Ledger,
    replays: Replays,
    /// The highest of everything.
    head: Head,
    catalog: Catalog,
    keys: Keys,
    library: Library,
    /// The closed generations whose manifest is to be written.
    unwritten: BTreeSet<Generation>,
    /// The generation up to which a snapshot told what is owed.
    covered: Option<Generation>,
}

impl Store {
    /// Opens what lies on a disk, or begins anew.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        limits: Limits,
    ) -> Result<Self, DiskError> {
        let generations = disk.generations()?;
        let found = find(&disk, &*clock, &limits, &generations)?;
        let Found { mut ledger, replays, head, catalog, keys, library, unwritten, covered } = found;
        let time = OutboxTime::new(clock, head.millis);
        ledger.begin_leases(time.now() << LEASES_SHIFT);
        // A generation that a snapshot covers is never written again, also where it is gone: a start would not read it.
        let highest = generations.last().copied().max(covered).unwrap_or(0);
        let committed = head.next_sequence.saturating_sub(1);
        ledger.know_last_owed(committed);
        let dirty_head = false;
        let inner = Inner {
            ledger,
            overlay: Overlay::default(),
            dirty: BTreeSet::new(),
            to_pack: false,
            replays,
            unwritten: Unwritten::default(),
            dirty_head,
            enrolling: false,
            committed,
            cache: Cache::default(),
        };
        let writer = Writer {
            active: None,
            next_generation: highest + 1,
            next_sequence: head.next_sequence.max(1),
            keys,
            unwritten,
            wait: None,
            free: None,
        };
        let store = Self {
            time,
            random,
            limits,
            disk,
            library,
            writer: Mutex::new(writer),
            spare: Mutex::default(),
            inner: Mutex::new(inner),
            catalog: Mutex::new(catalog),
            shelf: Mutex::default(),
            dying: Mutex::new(BTreeSet::new()),
            tell: Mutex::new(None),
            refusals: crate::refusals::Refusals::default(),
            refusing: Mutex::new(None),
            closed: AtomicBool::new(false),
            recorded: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            active_bytes: AtomicU64::new(0),
            damaged_keys: AtomicU64::new(0),
        };
        store.settle_in(highest, covered);
        Ok(store)
    }

    /// Writes down what the start found, so that the next one need not look for it, and begins a generation.
    fn settle_in(&self, highest: Generation, covered: Option<Generation>) {
        let mut writer = self.writer();
        let empty: Vec<Generation> =
            self.catalog().manifests().filter(|m| m.is_empty()).map(|m| m.generation).collect();
        let all: Vec<Generation> = self.catalog().manifests().map(|m| m.generation).collect();
        for generation in all {
            if let Ok(size) = self.disk.size(generation) {
                self.catalog().set_size(generation, size);
            }
        }
        let written = highest == 0 || covered == Some(highest) || {
            let snapshot = self.snapshot(&writer);
            self.write_down(&mut writer, highest, snapshot)
        };
        // Not sooner: one without events may be the only one that knows of a standing.
        for generation in empty.into_iter().filter(|_| written) {
            self.destroy(generation);
        }
        // A full disk must not keep the daemon from delivering what it owes; whoever records is told.
        let _ = self.ensure_active(&mut writer);
        self.judge_room(&mut writer);
    }
}

fn find(
    disk: &Arc<dyn Disk>,
    clock: &dyn Clock,
    limits: &Limits,
    generations: &[Generation],
) -> Result<Found, DiskError> {
    let files = disk.files()?;
    let mut catalog = Catalog::default();
    for generation in files.iter().filter_map(|name| Manifest::of_file(name)).filter(|g| generations.contains(g)) {
        match read_file(disk, &Manifest::file(generation), |bytes| Manifest::from_bytes(generation, bytes)) {
            Ok(manifest) => catalog.put(manifest),
            Err(DiskError::Damaged(what)) => {
                tracing::error!(generation, what, "a manifest is damaged; it is made again")
            }
            Err(error) => return Err(error),
        }
    }
    let snapshot = newest_snapshot(disk, &files)?;
    let covered = snapshot.as_ref().map(|(generation, ..)| *generation);
    let (head, ledger, replays) = match snapshot {
        Some((_, head, ledger, replays)) => (head, ledger, replays),
        None => {
            let head = Head { epoch: 0, next_subscription: 0, next_sequence: 1, millis: 0 };
            (head, Ledger::new(1), Replays::default())
        }
    };
    let wall = u64::try_from(clock.wall().millis()).unwrap_or(0);
    let keys = Keys::open(Arc::clone(disk), head.millis.max(wall), millis(limits.idempotency))?;
    let library = Library::new(Arc::clone(disk));
    let mut found = Found { ledger, replays, head, catalog, keys, library, unwritten: BTreeSet::new(), covered };
    for generation in generations {
        let replayed = covered.is_none_or(|covered| *generation > covered);
        if replayed || found.catalog.get(*generation).is_none() {
            found.read(*generation, replayed)?;
        }
    }
    Ok(found)
}

/// The newest snapshot that is whole.
fn newest_snapshot(
    disk: &Arc<dyn Disk>,
    files: &[String],
) -> Result<Option<(Generation, Head, Ledger, Replays)>, DiskError> {
    let mut snapshots: Vec<Generation> = files.iter().filter_map(|name| Snapshot::of_file(name)).collect();
    snapshots.sort_unstable();
    for generation in snapshots.into_iter().rev() {
        let read = read_file(disk, &Snapshot::file(generation), |bytes| {
            let mut snapshot = Snapshot::from_bytes(generation, bytes)?;
            Ok((generation, snapshot.head, snapshot.ledger(1)?, snapshot.replays()?))
        });
        match read {
            Ok(whole) => return Ok(Some(whole)),
            Err(DiskError::Damaged(what)) => {
                tracing::error!(generation, what, "a snapshot is damaged; an older one is used, and more is read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn read_file<T>(
    disk: &Arc<dyn Disk>,
    name: &str,
    read: impl FnOnce(Vec<u8>) -> Result<T, DiskError>,
) -> Result<T, DiskError> {
    read(disk.read_file(name)?.ok_or_else(|| rows::damaged("it is gone"))?)
}

impl Found {
    /// Reads a generation: makes its manifest where there is none, and replays it.
    fn read(&mut self, generation: Generation, replay: bool) -> Result<(), DiskError> {
        let known = self.catalog.get(generation).cloned();
        let is_new = known.is_none();
        let manifest = known.unwrap_or_else(|| Manifest { exact: false, ..Manifest::begun(generation, 0) });
        let keyspace = self.library.open(&manifest)?;
        if is_new {
            // What a kill left in the page cache counts as recorded, so it must be as durable as anything else.
            keyspace.sync()?;
        }
        let mut made = match self.rows(keyspace, &manifest, replay, false) {
            Err(DiskError::Damaged(what)) => {
                tracing::error!(generation, what, "a generation is damaged; its raw bytes are searched");
                self.library.distrust(generation);
                let keyspace = self.library.open(&manifest)?;
                // Taking a row in twice changes nothing.
                self.rows(keyspace, &manifest, replay, true)?
            }
            made => made?,
        };
        if is_new {
            made.times.1 = self.head.millis;
            self.unwritten.insert(generation);
            self.catalog.put(made);
        } else if replay && !manifest.exact {
            // A write failed in it, and its manifest knows nothing of that batch: what of it the disk kept all the same counts,
            // so it must be found again.
            self.unwritten.insert(generation);
            self.catalog.change(generation, |known| {
                known.foreign |= &made.foreign;
                known.adopted |= &made.adopted;
            });
        }
        Ok(())
    }

    /// Takes every row in: subscriptions, then events, then what happened to their deliveries. What is damaged fails
    /// it, or is passed over where nothing better can be found.
    fn rows(
        &mut self,
        keyspace: Shared,
        manifest: &Manifest,
        replay: bool,
        pass_over: bool,
    ) -> Result<Manifest, DiskError> {
        let generation = manifest.generation;
        let mut made = Manifest { exact: true, void: manifest.void.clone(), ..Manifest::begun(generation, 0) };
        self.packs(keyspace.as_ref().as_ref(), &mut made, replay, pass_over)?;
        let ranges: [(&[u8], &[u8]); 5] = [(b"M", b"N"), (b"S", b"T"), (b"B", b"M"), (b"N", b"S"), (b"A", b"B")];
        for (from, to) in ranges {
            for_each_in(keyspace.as_ref().as_ref(), from, to, |rows| {
                made.note(rows, 0);
                for row in rows {
                    match self.row(row, keyspace.as_ref().as_ref(), &mut made, replay) {
                        Err(DiskError::Damaged(what)) if pass_over => {
                            self.library.note_damage(1);
                            tracing::error!(generation, what, "a record is lost");
                        }
                        result => result?,
                    }
                }
                Ok(())
            })?;
        }
        Ok(made)
    }

    /// Takes in what a generation said of all subscriptions at its head, before what it says of those that changed since.
    /// Where a part of it is damaged or gone, those in it are as an earlier generation or a snapshot says.
    fn packs(
        &mut self,
        keyspace: &dyn Keyspace,
        made: &mut Manifest,
        replay: bool,
        pass_over: bool,
    ) -> Result<(), DiskError> {
        let (mut written, mut found) = (0, 0);
        for_each_in(keyspace, b"T", b"U", |rows| {
            made.note(rows, 0);
            for (key, sealed) in rows {
                match rows::read_pack(key, sealed) {
                    Err(DiskError::Damaged(_)) if pass_over => continue,
                    pack => {
                        let Pack { of, subscriptions } = pack?;
                        (written, found) = (of, found + 1);
                        for (id, account) in subscriptions.into_iter().filter(|_| replay) {
                            self.ledger.restore(id, account);
                        }
                    }
                }
            }
            Ok(())
        })?;
        let lost = u64::from(written).saturating_sub(found);
        match lost {
            0 => Ok(()),
            lost if pass_over => {
                self.library.note_damage(lost);
                tracing::error!(generation = made.generation, lost, "records of many subscriptions are lost");
                Ok(())
            }
            lost => Err(rows::damaged(format!("{lost} records of many subscriptions are gone"))),
        }
    }

    fn row(
        &mut self,
        (key, sealed): &Row,
        keyspace: &dyn Keyspace,
        made: &mut Manifest,
        replay: bool,
    ) -> Result<(), DiskError> {
        match key.first().copied() {
            Some(kind) if kind == Kind::Event as u8 || kind == Kind::Carried as u8 => {
                let event = rows::read_event_head(key, sealed, &mut |key| keyspace.get(key))?;
                self.event(&event, kind == Kind::Carried as u8, made, replay);
            }
            Some(kind) if kind == Kind::Entry as u8 => {
                let entry = rows::read_entry(key, sealed)?;
                let Some((sequence, subscription)) = rows::delivery_of(key) else { return Ok(()) };
                if !made.spans(sequence) {
                    made.foreign.insert(sequence);
                }
                if replay {
                    self.ledger.replay(subscription, sequence, entry.progress(), entry.stand());
                }
            }
            Some(kind) if kind == Kind::History as u8 => {
                made.foreign.extend(rows::sequence_of(key));
            }
            Some(kind) if kind == Kind::Subscription as u8 => {
                let (id, account) = rows::read_subscription(key, sealed)?;
                if replay {
                    self.ledger.restore(id, account);
                }
            }
            Some(kind) if (kind == Kind::Replay as u8 || kind == Kind::ReplayChange as u8) && replay => {
                self.replays.restore(rows::read_replay(key, sealed)?);
            }
            Some(kind) if kind == Kind::Head as u8 => {
                let head = rows::read_head(key, sealed)?;
                made.times.0 = made.times.0.max(head.millis);
                self.head.millis = self.head.millis.max(head.millis);
                self.head.next_sequence = self.head.next_sequence.max(head.next_sequence);
                if replay {
                    self.ledger.restore_counters(head.epoch, head.next_subscription);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn event(&mut self, event: &EventHead, carried: bool, made: &mut Manifest, replay: bool) {
        let sequence = event.id.sequence();
        self.head.next_sequence = self.head.next_sequence.max(sequence + 1);
        self.head.millis = self.head.millis.max(event.id.millis());
        if carried {
            made.carried.insert(sequence);
        }
        if made.void.contains(sequence) || !replay {
            return;
        }
        for (subscription, _) in event.owed.iter().filter(|(_, born)| born.owed()) {
            self.ledger.owe_unless_known(*subscription, sequence);
        }
        if let Some(idempotency) = event.idempotency.filter(|_| !carried) {
            let deliveries = u32::try_from(event.owed.len()).unwrap_or(u32::MAX);
            self.keys.insert(idempotency.key, Known { content: idempotency.content, id: event.id, deliveries });
        }
    }
}
