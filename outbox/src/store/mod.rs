//! The embedded store: a row of small generations over a [`Disk`], a ledger in memory, one writer.
//!
//! This module holds what the parts share and in which order it is locked: writer, then inner, then catalogue, then
//! library. Nobody holds `inner` while waiting for the disk. The parts are functions that are called, by threads
//! ([`crate::lanes`]) or by a simulation; there is no thread here.
//!
//! | part | decides |
//! | --- | --- |
//! | [`commit`] | what one batch writes, who is answered what, what follows when a write or a sync fails |
//! | [`enrolling`] | what becomes of an enrolment that can not be made durable |
//! | [`rotate`] | when a generation ends, and what is written when it does |
//! | [`spare`] | which generation is made ahead of its time |
//! | [`replay`] | how a start finds out what is owed |
//! | [`replays`] | what a page of a replay shows and a step of it makes due |
//! | [`library`] | which generations are open, and what becomes of damaged ones |
//! | [`reading`] | where an event and its entries are found |
//! | [`walk`], [`newest`] | how many events and deliveries are read, each generation once |
//! | [`sweep`] | what is deleted, and what is carried forward instead |

pub(crate) mod catalog;
pub(crate) mod claim;
pub(crate) mod commit;
pub(crate) mod enrolling;
pub(crate) mod library;
pub(crate) mod manifest;
pub(crate) mod newest;
pub(crate) mod overlay;
pub(crate) mod reading;
pub(crate) mod replay;
pub(crate) mod replays;
pub(crate) mod rotate;
pub(crate) mod spare;
pub(crate) mod sweep;
pub(crate) mod walk;

use crate::definitions::{self, Shelf};
use crate::disk::{Disk, DiskError, Generation};
use crate::idempotency::Keys;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::refusals::Refusals;
use crate::replays::Replays;
use crate::steps::Moment;
use crate::time::OutboxTime;
use crate::{Define, Definition, Health, StoreError, Tell};
use catalog::Catalog;
use claim::Cache;
use library::{Library, Shared};
use overlay::Overlay;
use posthaste_events::SubscriptionId;
use posthaste_events::seams::Random;
use replays::Unwritten;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the parts of the store share.
pub(crate) struct Store {
    pub(crate) time: OutboxTime,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) limits: Limits,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) library: Library,
    writer: Mutex<Writer>,
    /// Locked last.
    spare: Mutex<spare::Spare>,
    inner: Mutex<Inner>,
    catalog: Mutex<Catalog>,
    /// Locked alone.
    shelf: Mutex<Shelf>,
    /// Generations that nobody needs and that could not be removed yet.
    dying: Mutex<BTreeSet<Generation>>,
    tell: Mutex<Option<Arc<Tell>>>,
    pub(crate) refusals: Refusals,
    /// Why nothing new is taken, where that is so.
    refusing: Mutex<Option<String>>,
    closed: AtomicBool,
    recorded: AtomicU64,
    syncs: AtomicU64,
    failures: AtomicU64,
    active_bytes: AtomicU64,
    damaged_keys: AtomicU64,
}

/// What only one writes with at a time.
pub(crate) struct Writer {
    /// The generation that is written; `None` after a failure, until another can be begun.
    pub(crate) active: Option<(Generation, Shared)>,
    /// The number of the next generation; never one that was tried before.
    pub(crate) next_generation: Generation,
    pub(crate) next_sequence: u64,
    pub(crate) keys: Keys,
    /// Closed generations whose manifest could not be written yet.
    pub(crate) unwritten: BTreeSet<Generation>,
    /// Before this time another attempt to begin a generation makes no sense; why.
    pub(crate) wait: Option<(u64, DiskError)>,
    /// When free space was last looked at, and what was found.
    pub(crate) free: Option<(u64, u64)>,
}

/// What every call works on.
pub(crate) struct Inner {
    pub(crate) ledger: Ledger,
    pub(crate) overlay: Overlay,
    /// Subscriptions whose row is to be written.
    pub(crate) dirty: BTreeSet<SubscriptionId>,
    /// Whether all subscriptions are to be written: the next batch is the first of its generation.
    pub(crate) to_pack: bool,
    pub(crate) replays: Replays,
    /// The replays of which rows are to be written.
    pub(crate) unwritten: Unwritten,
    /// Whether the head is to be written.
    pub(crate) dirty_head: bool,
    /// Whether an enrolment is under way, which may yet be undone.
    pub(crate) enrolling: bool,
    /// The highest sequence that is durable: above it nothing is shown.
    pub(crate) committed: u64,
    pub(crate) cache: Cache,
}

impl Store {
    // A panic while a lock was held is logged where it is caught; what it guarded is never left half changed in a way
    // that a later call could not stand.
    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { now: self.time.now(), wall: self.time.wall() }
    }

    pub(crate) fn set_tell(&self, tell: Arc<Tell>) {
        *self.tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
    }

    /// Tells whoever asked which subscriptions have something due.
    pub(crate) fn hint(&self, due: &[SubscriptionId]) {
        let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(tell) = tell.filter(|_| !due.is_empty()) {
            tell(due);
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    pub(crate) fn set_refusing(&self, why: Option<String>) {
        let mut refusing = self.refusing.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*refusing, &why) {
            (None, Some(why)) => tracing::warn!(why, "nothing new is taken"),
            (Some(_), None) => tracing::info!("new events are taken again"),
            // The same, or in other words: how much is free changes all the time.
            (None, None) | (Some(_), Some(_)) => {}
        }
        *refusing = why;
    }

    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Every definition that is kept, by name.
    pub(crate) fn definitions(&self) -> Result<Vec<Definition>, DiskError> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, damaged) = shelf.all(&*self.disk)?;
        self.library.note_damage(damaged);
        Ok(all)
    }

    /// Changes definitions; durable when it returns. Whether accounts were marked, which is durable once what waits to be
    /// written is.
    pub(crate) fn define(&self, changes: Vec<Define>) -> Result<bool, DiskError> {
        let marks = definitions::deletions(&changes);
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let damaged = shelf.change(&*self.disk, changes)?;
        drop(shelf);
        self.library.note_damage(damaged);
        let mut inner = self.inner();
        let marked = inner.ledger.mark_deleted(&marks);
        inner.dirty.extend(marked.iter().copied());
        Ok(!marked.is_empty())
    }

    /// Whether something waits to be written for which nobody waits.
    pub(crate) fn unwritten(&self) -> bool {
        let inner = self.inner();
        inner.overlay.waiting() > 0
            || !inner.dirty.is_empty()
            || inner.to_pack
            || inner.dirty_head
            || !inner.unwritten.is_empty()
    }

    /// Lets the disk go without writing anything.
    pub(crate) fn let_go(&self) {
        self.closed.store(true, Ordering::Release);
        let mut writer = self.writer();
        writer.active = None;
        self.drop_spare(&writer);
        drop(writer);
        self.library.close_all();
    }

    /// Counts a failed call and says so.
    pub(crate) fn failed(&self, what: &str, error: &DiskError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%error, "{what}");
    }

    pub(crate) fn health(&self) -> Health {
        let (generations, closed_bytes) = {
            let catalog = self.catalog();
            (catalog.len(), catalog.bytes())
        };
        let (owed, leased) = {
            let inner = self.inner();
            (inner.ledger.owed(), inner.ledger.leased())
        };
        Health {
            refusing: self.refusing.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            disk_bytes: closed_bytes + self.active_bytes.load(Ordering::Relaxed),
            generations,
            recorded_total: self.recorded.load(Ordering::Relaxed),
            syncs_total: self.syncs.load(Ordering::Relaxed),
            failures_total: self.failures.load(Ordering::Relaxed),
            damaged_total: self.library.damaged_total() + self.damaged_keys.load(Ordering::Relaxed),
            owed,
            leased,
        }
    }
}

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> Self {
        Self::Failed(error.to_string())
    }
}
