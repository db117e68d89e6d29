//! Upkeep: what is deleted, and what is carried forward instead.
//!
//! Generations go whole, the oldest first, when they are past the retention or the disk holds too much. What such a
//! generation still owes is written again into the active one, synced, and only then is the old one removed; that is
//! done while it frees more than it costs. What a snapshot does not cover yet is never removed.

use super::commit::{Batch, Carry};
use super::library::{for_each_in, for_each_row};
use super::manifest::Manifest;
use super::rotate::{SNAPSHOTS_KEPT, Snapshot};
use super::{Store, Writer};
use crate::disk::{DiskError, Generation, Keyspace, Row};
use crate::rows::{self, Born, Kind};
use crate::story::ATTEMPTS_KEPT;
use crate::time::millis;
use crate::{StoreError, Swept};
use posthaste_events::SubscriptionId;
use roaring::RoaringTreemap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many deliveries one call cancels at most.
pub(crate) const CANCELLED_MAX: usize = 1_000;
/// How many bytes are carried with one sync.
const CARRIED_AT_ONCE: usize = 1 << 20;

impl Store {
    /// Does a bounded piece of the upkeep: as many generations as the budget allows, at least one.
    pub(crate) fn sweep(&self, budget: Duration) -> Result<Swept, StoreError> {
        let begun = self.time.now();
        if let Some(millis) = self.time.leap() {
            tracing::warn!(millis, "the wall clock leapt; what is due goes by the outbox's own time");
        }
        let cancelled = self.end_grace(CANCELLED_MAX);
        self.tidy(begun)?;
        let mut swept = Swept { cancelled: cancelled as u64, more: cancelled == CANCELLED_MAX, ..Swept::default() };
        loop {
            let candidates = self.candidates()?;
            let Some(generation) = candidates.first() else { break };
            match self.clean(*generation)? {
                Some((forgotten, carried)) => {
                    swept.forgotten += forgotten;
                    swept.carried += carried;
                }
                // Somebody reads it: the next call will find it again.
                None => break,
            }
            if candidates.len() > 1 && self.time.now().saturating_sub(begun) >= millis(budget) {
                swept.more = true;
                break;
            }
        }
        Ok(swept)
    }

    /// What needs no generation: leases, keys, manifests, subscriptions, sizes; and the end of an aged generation.
    fn tidy(&self, now: u64) -> Result<(), StoreError> {
        let mut writer = self.writer();
        if let Err(error) = writer.keys.forget(now) {
            self.failed("forgotten idempotency keys could not be removed", &error);
        }
        self.rotate_if_full(&mut writer);
        self.judge_refusal(&mut writer);
        let active = writer.active.as_ref().map(|(generation, _)| *generation);
        let merge = writer.keys.plan(now);
        self.damaged_keys.store(writer.keys.damaged_total(), Ordering::Relaxed);
        drop(writer);
        self.bury();
        if let Some(merge) = merge {
            // Long, so beside the writer.
            let adopted = merge.run().and_then(|merged| self.writer().keys.adopt(merged));
            if let Err(error) = adopted {
                self.failed("files of idempotency keys could not be merged", &error);
            }
        }
        if let Some(size) = active.and_then(|generation| self.disk.size(generation).ok()) {
            self.active_bytes.store(size, Ordering::Relaxed);
        }
        let oldest = self.catalog().at_or_above(0).unwrap_or(u64::MAX);
        let mut inner = self.inner();
        inner.ledger.end_leases(now);
        let age = millis(self.limits.grace.saturating_add(self.limits.retention));
        if !inner.enrolling {
            inner.ledger.forget_subscriptions(now, age, oldest);
        }
        drop(inner);
        self.end_orphaned_replays();
        Ok(())
    }

    /// Finds out whether new events are taken, also while nobody records any.
    fn judge_refusal(&self, writer: &mut Writer) {
        if writer.active.is_none() && self.is_refusing() {
            // What fails is noted as the reason to refuse.
            let _ = self.ensure_active(writer);
        }
        self.judge_room(writer);
    }

    /// The generations that may go, the oldest first.
    fn candidates(&self) -> Result<Vec<Generation>, DiskError> {
        let mut snapshots: Vec<_> = self.disk.files()?.iter().filter_map(|name| Snapshot::of_file(name)).collect();
        snapshots.sort_unstable();
        // Also the oldest snapshot that is kept must tell of everything that is gone.
        let Some(covered) = snapshots.iter().rev().take(SNAPSHOTS_KEPT).next_back().copied() else {
            return Ok(Vec::new());
        };
        let old = self.time.now().saturating_sub(millis(self.limits.retention));
        let (manifests, mut beyond) = {
            let catalog = self.catalog();
            let bytes = catalog.bytes() + self.active_bytes.load(Ordering::Relaxed);
            let closed: Vec<(Manifest, u64)> = catalog
                .manifests()
                .filter(|m| m.generation <= covered)
                .map(|m| (m.clone(), catalog.size(m.generation)))
                .collect();
            (closed, bytes.saturating_sub(self.limits.retention_max))
        };
        let mut candidates = Vec::new();
        for (manifest, size) in manifests {
            if (manifest.times.1 <= old || beyond > 0) && self.frees_more_than_it_costs(&manifest) {
                beyond = beyond.saturating_sub(size);
                candidates.push(manifest.generation);
            }
        }
        Ok(candidates)
    }

    /// Whether at most half of a generation's events are still owed.
    fn frees_more_than_it_costs(&self, manifest: &Manifest) -> bool {
        let owed = self.owed_of(manifest).len();
        owed * 2 <= manifest.events + manifest.carried.len()
    }

    /// The events that lie in a generation of which anything is owed.
    fn owed_of(&self, manifest: &Manifest) -> RoaringTreemap {
        let inner = self.inner();
        let mut owed = manifest.sequences.map(|(a, b)| inner.ledger.owed_within(a, b)).unwrap_or_default();
        if let (Some(first), Some(last)) = (manifest.carried.min(), manifest.carried.max()) {
            owed |= inner.ledger.owed_within(first, last) & &manifest.carried;
        }
        drop(inner);
        let catalog = self.catalog();
        owed.iter().filter(|s| catalog.home(*s).is_some_and(|(home, _)| home == manifest.generation)).collect()
    }

    /// Carries forward what a generation owes and removes it; how many events are gone and how many were carried, or
    /// `None` where somebody still reads it.
    fn clean(&self, generation: Generation) -> Result<Option<(u64, u64)>, DiskError> {
        let Some(manifest) = self.catalog().get(generation).cloned() else { return Ok(Some((0, 0))) };
        let owed = self.owed_of(&manifest);
        let events = manifest.events + manifest.carried.len();
        let mut elsewhere = Vec::new();
        {
            let catalog = self.catalog();
            let foreign = manifest.foreign.iter();
            elsewhere.extend(foreign.filter(|s| catalog.home(*s).is_some_and(|(home, _)| home != generation)));
        }
        // Also where nothing is carried: what was settled in this generation must be durable before it goes.
        self.commit(&mut self.writer(), Batch::default())?;
        let sequences: Vec<u64> = owed.iter().chain(elsewhere).collect();
        let mut rest = &sequences[..];
        while !rest.is_empty() {
            rest = self.carry(generation, &owed, rest)?;
        }
        if !self.library.close(generation) {
            return Ok(None);
        }
        self.destroy(generation);
        Ok(Some((events.saturating_sub(owed.len()), owed.len())))
    }

    /// Carries the first of these events with one sync; the rest.
    fn carry<'a>(
        &self,
        generation: Generation,
        owed: &RoaringTreemap,
        sequences: &'a [u64],
    ) -> Result<&'a [u64], DiskError> {
        // Held from the reading on: an entry that is written meanwhile would stand in an older generation than the copy
        // of an event that does not know of it.
        let mut writer = self.writer();
        let (_, active) = self.ensure_active(&mut writer)?;
        let mut carry = Carry::default();
        let mut bytes = 0;
        let mut rest = sequences;
        while let Some((sequence, behind)) = rest.split_first()
            && bytes < CARRIED_AT_ONCE
        {
            rest = behind;
            let is_home = owed.contains(*sequence);
            let adopted = self.adopted(*sequence)?;
            let rows =
                self.read(generation, |keyspace, _| self.carried_rows(keyspace, *sequence, is_home, &adopted))?;
            carry.foreign.push(*sequence);
            carry.carried.extend(is_home.then_some(*sequence));
            for row in rows.unwrap_or_default() {
                bytes += row.0.len() + row.1.len();
                // After a failure the same may be carried twice: what stands there already is left as it is.
                if active.get(&row.0)?.is_none() {
                    carry.rows.push(row);
                }
            }
        }
        drop(active);
        self.commit(&mut writer, Batch { carry, ..Batch::default() })?;
        Ok(rest)
    }

    /// The rows of an event that go on in the active generation.
    fn carried_rows(
        &self,
        keyspace: &dyn Keyspace,
        sequence: u64,
        is_home: bool,
        adopted: &[SubscriptionId],
    ) -> Result<Vec<Row>, DiskError> {
        let mut carried = Vec::new();
        if is_home {
            let event = [Kind::Carried, Kind::Event].into_iter().find_map(|kind| {
                let key = rows::event_key(kind, sequence);
                keyspace.get(&key).map(|found| found.map(|sealed| (key, sealed))).transpose()
            });
            let Some((key, sealed)) = event.transpose()? else { return Ok(Vec::new()) };
            let (mut kept, prepared) = rows::read_event(&key, &sealed, &mut |key| keyspace.get(key))?;
            // From now on its row names whomever replays owed it to.
            adopted.iter().for_each(|subscription| kept.adopt(*subscription));
            let inner = self.inner();
            let owed: Vec<_> = kept
                .owed
                .iter()
                .map(|owed| {
                    let born = match (owed.dead_at_birth, inner.ledger.look(owed.subscription, sequence).is_some()) {
                        (false, true) => Born::Owed,
                        (false, false) => Born::Settled,
                        (true, true) => Born::DeadThenOwed,
                        (true, false) => Born::Dead,
                    };
                    (owed.subscription, born)
                })
                .collect();
            drop(inner);
            rows::write_event(Kind::Carried, kept.event.id, &prepared, &owed, &mut carried);
        }
        for kind in [Kind::Adopted, Kind::History, Kind::Entry] {
            let from = rows::event_key(kind, sequence);
            let to = rows::event_key(kind, sequence.saturating_add(1));
            for_each_in(keyspace, &from, &to, |rows| {
                for (key, sealed) in rows {
                    if kind == Kind::Adopted {
                        carried.extend((!is_home).then(|| (key.clone(), sealed.clone())));
                    } else {
                        carried.extend(self.carried_entry(key, sealed, sequence)?);
                    }
                }
                Ok(())
            })?;
        }
        Ok(carried)
    }

    /// An entry as it goes on: as what counts where it is a delivery's newest, else as history, or not at all.
    fn carried_entry(&self, key: &[u8], sealed: &bytes::Bytes, sequence: u64) -> Result<Option<Row>, DiskError> {
        let entry = rows::read_entry(key, sealed)?;
        let Some((_, subscription)) = rows::delivery_of(key) else { return Ok(None) };
        let known = self.inner().ledger.look(subscription, sequence).map(|(_, progress)| progress.entries);
        let counts = match known {
            Some(newest) => entry.number == newest,
            None => entry.after.is_settled() && key.first() == Some(&(Kind::Entry as u8)),
        };
        let beyond = known.is_some_and(|newest| newest.saturating_sub(entry.number) as usize >= ATTEMPTS_KEPT);
        let kind = if counts { Kind::Entry } else { Kind::History };
        Ok((!beyond).then(|| rows::write_entry(kind, sequence, subscription, &entry)))
    }

    /// Removes a closed generation and what is known of it; what fails is tried again by the next sweep.
    pub(crate) fn destroy(&self, generation: Generation) {
        // Forgotten first: a removal that fails may have been done all the same.
        self.catalog().remove(generation);
        self.dying.lock().unwrap_or_else(PoisonError::into_inner).insert(generation);
        self.bury();
    }

    /// Removes what could not be removed before.
    pub(crate) fn bury(&self) {
        let dying: Vec<Generation> = {
            let dying = self.dying.lock().unwrap_or_else(PoisonError::into_inner);
            dying.iter().copied().collect()
        };
        for generation in dying {
            if !self.library.close(generation) {
                continue;
            }
            let buried = self.disk.destroy(generation);
            match buried.and_then(|()| self.disk.remove_file(&Manifest::file(generation))) {
                Ok(()) => {
                    self.dying.lock().unwrap_or_else(PoisonError::into_inner).remove(&generation);
                }
                Err(error) => self.failed("an old generation could not be removed; it is tried again", &error),
            }
        }
    }

    /// Holds every closed generation against its manifest; the damaged or lost records found so far.
    pub(crate) fn verify(&self) -> Result<u64, DiskError> {
        let all: Vec<Manifest> = self.catalog().manifests().cloned().collect();
        for manifest in all {
            let keyspace = self.library.open(&manifest)?;
            for_each_row(keyspace.as_ref().as_ref(), |_| Ok(()))?;
        }
        Ok(self.library.damaged_total())
    }
}
