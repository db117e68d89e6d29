//! The end of a generation: its keys are sealed, its manifest and a snapshot of the ledger written, another begun.

use super::commit::{Batch, Carry};
use super::manifest::Manifest;
use super::{Inner, Store, Writer};
use crate::disk::{DiskError, Generation};
use crate::envelope;
use crate::ledger::Ledger;
use crate::replays::Replays;
use crate::rows::{self, Head, ReplayV1};
use crate::time::millis;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;

const SNAPSHOT_KIND: u8 = b'L';
/// Version 2 tells more of each subscription.
const VERSION: u8 = 2;
/// How many snapshots are kept: the newest, and one in case it is damaged.
pub(crate) const SNAPSHOTS_KEPT: usize = 2;
/// A generation ends after this share of the retention, so that deleting whole ones follows the retention closely.
const SHARES: u64 = 8;

/// The ledger as it was when a generation ended.
pub(crate) struct Snapshot {
    pub(crate) head: Head,
    ledger: serde_bytes::ByteBuf,
    replays: Vec<ReplayV1>,
    /// The version that the ledger is written in.
    version: u8,
}

#[derive(Serialize, Deserialize)]
struct SnapshotV1 {
    head: Head,
    ledger: serde_bytes::ByteBuf,
}

#[derive(Serialize, Deserialize)]
struct SnapshotV2 {
    first: SnapshotV1,
    replays: Vec<ReplayV1>,
}

impl Snapshot {
    pub(crate) fn file(generation: Generation) -> String {
        format!("ledger-{generation:016x}")
    }

    /// The generation whose snapshot a file of this name is.
    pub(crate) fn of_file(name: &str) -> Option<Generation> {
        Generation::from_str_radix(name.strip_prefix("ledger-")?, 16).ok()
    }

    fn into_bytes(self, generation: Generation) -> Vec<u8> {
        let body = SnapshotV2 { first: SnapshotV1 { head: self.head, ledger: self.ledger }, replays: self.replays };
        envelope::seal(Self::file(generation).as_bytes(), SNAPSHOT_KIND, VERSION, &rows::encode(&body)).to_vec()
    }

    pub(crate) fn from_bytes(generation: Generation, bytes: Vec<u8>) -> Result<Self, DiskError> {
        let opened = envelope::open(Self::file(generation).as_bytes(), &bytes.into())?;
        match (opened.kind, opened.version) {
            (SNAPSHOT_KIND, version @ 1) => {
                let SnapshotV1 { head, ledger } = rows::decode(&opened.body)?;
                Ok(Self { head, ledger, replays: Vec::new(), version })
            }
            (SNAPSHOT_KIND, version @ VERSION) => {
                let SnapshotV2 { first: SnapshotV1 { head, ledger }, replays } = rows::decode(&opened.body)?;
                Ok(Self { head, ledger, replays, version })
            }
            (_, version) => Err(rows::damaged(format!("a snapshot of version {version}"))),
        }
    }

    pub(crate) fn ledger(&self, first_lease: u64) -> Result<Ledger, DiskError> {
        Ledger::from_bytes(&self.ledger, self.version, first_lease)
    }

    /// The replays that it knows.
    pub(crate) fn replays(&mut self) -> Result<Replays, DiskError> {
        let mut replays = Replays::default();
        for written in std::mem::take(&mut self.replays) {
            replays.restore(written.try_into()?);
        }
        Ok(replays)
    }
}

impl Store {
    /// Ends the active generation where it has grown or aged enough.
    pub(crate) fn rotate_if_full(&self, writer: &mut Writer) {
        let Some((generation, _)) = writer.active else { return };
        let bounds = self.limits.generation;
        let full = self
            .catalog()
            .get(generation)
            .is_some_and(|m| m.events >= bounds.events_max || m.bytes >= bounds.bytes_max || m.rows >= bounds.rows_max);
        if full || self.is_old(generation) {
            self.rotate(writer);
        }
    }

    fn is_old(&self, generation: Generation) -> bool {
        let age = self.time.now();
        let longest = millis(self.limits.retention) / SHARES;
        self.catalog().get(generation).is_some_and(|m| m.rows > 0 && age.saturating_sub(m.times.0) >= longest)
    }

    /// Ends the active generation. Failures are logged and leave a store that works: what a start then does not find
    /// written it reads from the generation itself.
    pub(crate) fn rotate(&self, writer: &mut Writer) {
        let Some((generation, keyspace)) = writer.active.take() else { return };
        let mut rows = Vec::new();
        let (snapshot, entries, replays) = {
            let mut inner = self.inner();
            // What the snapshot knows of must stand in a generation that it covers; and a step of a replay is never apart
            // from what it made due.
            let replays = std::mem::take(&mut inner.unwritten);
            replays.rows(&inner.replays, &mut rows);
            (self.snapshot_of(writer, &inner), inner.overlay.begin(), replays)
        };
        for ((sequence, subscription), entries) in entries.iter() {
            rows::write_entries(*sequence, *subscription, entries, &mut rows);
        }
        if !rows.is_empty() {
            let added = Manifest::of(&rows, self.time.now());
            if let Err(error) = self.write(&keyspace, rows) {
                drop(keyspace);
                self.abandon(writer, generation, &error);
                let mut inner = self.inner();
                inner.overlay.failed();
                inner.unwritten.extend(&replays);
                return;
            }
            self.note(generation, &added, &entries, &Carry::default());
            self.inner().overlay.done();
        }
        drop(keyspace);
        // Each open one takes memory: it stays open only where somebody will soon read it.
        let sequences = self.catalog().get(generation).and_then(|m| m.sequences);
        let owes = sequences.is_some_and(|(a, b)| !self.inner().ledger.owed_within(a, b).is_empty());
        self.library.activate(None, owes);
        self.write_down(writer, generation, snapshot);
    }

    /// The ledger as it is.
    pub(crate) fn snapshot(&self, writer: &Writer) -> Snapshot {
        self.snapshot_of(writer, &self.inner())
    }

    fn snapshot_of(&self, writer: &Writer, inner: &Inner) -> Snapshot {
        let head = Head {
            epoch: inner.ledger.last_epoch(),
            next_subscription: inner.ledger.next_subscription(),
            next_sequence: writer.next_sequence,
            millis: self.time.now(),
        };
        let ledger = serde_bytes::ByteBuf::from(inner.ledger.to_bytes());
        Snapshot { head, ledger, replays: inner.replays.iter().map(ReplayV1::from).collect(), version: VERSION }
    }

    /// Writes what is known of a generation that ended; whether a snapshot tells of it now.
    pub(crate) fn write_down(&self, writer: &mut Writer, generation: Generation, snapshot: Snapshot) -> bool {
        writer.unwritten.insert(generation);
        // What fails here is tried again before another generation begins.
        let _ = self.write_manifests(writer);
        // A snapshot keeps a start from reading the generation, and so from finding the keys in it.
        let mut written = false;
        if let Err(error) = writer.keys.seal(generation) {
            self.failed("idempotency keys could not be sealed; they stay in memory", &error);
        } else if let Err(error) = self.disk.write_file(&Snapshot::file(generation), &snapshot.into_bytes(generation)) {
            self.failed("a snapshot could not be written; the next start reads more", &error);
        } else {
            written = true;
            if let Err(error) = self.drop_snapshots() {
                self.failed("an old snapshot could not be removed", &error);
            }
        }
        if let Ok(size) = self.disk.size(generation) {
            self.catalog().set_size(generation, size);
        }
        self.active_bytes.store(0, Ordering::Relaxed);
        written
    }

    /// Writes the manifests that are not written yet; the last error.
    pub(crate) fn write_manifests(&self, writer: &mut Writer) -> Result<(), DiskError> {
        let mut result = Ok(());
        for generation in writer.unwritten.clone() {
            let Some(manifest) = self.catalog().get(generation).cloned() else {
                writer.unwritten.remove(&generation);
                continue;
            };
            match self.disk.write_file(&Manifest::file(generation), &manifest.to_bytes()) {
                Ok(()) => {
                    writer.unwritten.remove(&generation);
                }
                Err(error) => {
                    self.failed("a manifest could not be written; it is tried again", &error);
                    result = Err(error);
                }
            }
        }
        result
    }

    fn drop_snapshots(&self) -> Result<(), DiskError> {
        let mut snapshots: Vec<_> = self.disk.files()?.iter().filter_map(|name| Snapshot::of_file(name)).collect();
        snapshots.sort_unstable();
        let beyond = snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        snapshots.iter().take(beyond).try_for_each(|old| self.disk.remove_file(&Snapshot::file(*old)))
    }

    /// Makes everything durable and closes the store.
    pub(crate) fn close(&self) -> Result<(), crate::StoreError> {
        let mut writer = self.writer();
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let written = self.commit(&mut writer, Batch::default());
        self.closed.store(true, Ordering::Release);
        self.rotate(&mut writer);
        writer.active = None;
        self.drop_spare(&writer);
        self.bury();
        self.library.close_all();
        Ok(written?)
    }
}
