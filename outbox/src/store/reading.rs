//! Where an event and its entries are found, and how they are shown.
//!
//! Reads take what they find in the order overlay, then disk: an entry that leaves the overlay meanwhile stands on the
//! disk by then. Nothing above the highest durable sequence is shown.

use super::Store;
use super::manifest::Manifest;
use super::walk::Depth;
use crate::disk::{DiskError, Generation, Keyspace};
use crate::ledger::Place;
use crate::listing::{self, Kept, Owed};
use crate::query::{DeliveryView, EventQuery, EventRow, EventView, Page};
use crate::rows::{self, Kind};
use crate::story::{self, ATTEMPTS_KEPT, Entry, Told};
use posthaste_events::{DeliveryId, EventId, Prepared, SubscriptionId};
use std::collections::BTreeMap;

/// How many entries of one delivery are read at most.
const ENTRIES_MAX: usize = 4_096;
/// How often a read is tried again whose generation was closed, left or deleted meanwhile.
const TRIES: usize = 3;

impl Store {
    /// Reads from a generation. One that turns out to be damaged is read again from what a salvage finds.
    pub(crate) fn read<T>(
        &self,
        generation: Generation,
        read: impl Fn(&dyn Keyspace, &Manifest) -> Result<T, DiskError>,
    ) -> Result<Option<T>, DiskError> {
        let mut distrusted = false;
        loop {
            let Some(manifest) = self.catalog().get(generation).cloned() else { return Ok(None) };
            let keyspace = self.library.open(&manifest)?;
            match read(keyspace.as_ref().as_ref(), &manifest) {
                Err(DiskError::Damaged(what)) if !distrusted => {
                    tracing::error!(generation, what, "a damaged record");
                    self.library.distrust(generation);
                    distrusted = true;
                }
                result => return result.map(Some),
            }
        }
    }

    /// Reads an event; `None` where it is gone, never was, or is damaged beyond repair.
    pub(crate) fn load(&self, sequence: u64) -> Result<Option<(Kept, Prepared)>, DiskError> {
        let mut last = Ok(None);
        for _ in 0..TRIES {
            let Some((generation, carried)) = self.catalog().home(sequence) else { return Ok(None) };
            let kind = if carried { Kind::Carried } else { Kind::Event };
            let key = rows::event_key(kind, sequence);
            last = self
                .read(generation, |keyspace, _| match keyspace.get(&key)? {
                    Some(sealed) => rows::read_event(&key, &sealed, &mut |key| keyspace.get(key)).map(Some),
                    None => Ok(None),
                })
                .map(Option::flatten);
            // It may have been carried elsewhere while it was read.
            if matches!(last, Ok(Some(_))) || self.catalog().home(sequence) == Some((generation, carried)) {
                break;
            }
        }
        match last {
            Err(DiskError::Damaged(what)) => {
                self.library.note_damage(1);
                tracing::error!(sequence, what, "an event is damaged beyond repair");
                Ok(None)
            }
            result => result,
        }
    }

    /// Every entry of a delivery that is kept, ascending.
    pub(crate) fn entries(&self, sequence: u64, subscription: SubscriptionId) -> Result<Vec<Entry>, DiskError> {
        let fresh = self.inner().overlay.of(sequence, subscription);
        let mut entries: BTreeMap<u32, Entry> = BTreeMap::new();
        let about = self.catalog().about(sequence);
        for generation in about {
            let found = self.read(generation, |keyspace, _| entries_in(keyspace, sequence, subscription))?;
            entries.extend(found.unwrap_or_default().into_iter().map(|entry| (entry.number, entry)));
        }
        entries.extend(fresh.into_iter().map(|entry| (entry.number, entry)));
        Ok(entries.into_values().collect())
    }

    /// An event that may be shown.
    fn shown(&self, id: EventId) -> Result<Option<Kept>, DiskError> {
        if id.sequence() > self.inner().committed {
            return Ok(None);
        }
        let Some((kept, _)) = self.load(id.sequence())?.filter(|(kept, _)| kept.event.id == id) else {
            return Ok(None);
        };
        let mut one = [kept];
        self.add_adopted(&mut one)?;
        let [kept] = one;
        Ok(Some(kept))
    }

    /// A delivery that may be shown.
    pub(crate) fn owed(&self, id: DeliveryId) -> Result<Option<(Kept, Owed)>, DiskError> {
        let Some(kept) = self.shown(id.event)? else { return Ok(None) };
        let owed = kept.owed.iter().find(|owed| owed.subscription == id.subscription).copied();
        Ok(owed.map(|owed| (kept, owed)))
    }

    pub(crate) fn view_of(&self, kept: &Kept, owed: Owed) -> Result<DeliveryView, DiskError> {
        let sequence = kept.event.id.sequence();
        let fresh =
            |store: &Self| matches!(store.inner().ledger.look(owed.subscription, sequence), Some((Place::Fresh, _)));
        // One that was never tried has no entries; a backlog is listed without a search for them.
        let entries = if fresh(self) { Vec::new() } else { self.entries(sequence, owed.subscription)? };
        let inner = self.inner();
        Ok(story::view(&told(kept, owed, entries.last()), &entries, &inner.ledger, &self.time))
    }

    /// A delivery with its attempts.
    pub(crate) fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryView>, DiskError> {
        self.owed(id)?.map(|(kept, owed)| self.view_of(&kept, owed)).transpose()
    }

    /// An event with its deliveries.
    pub(crate) fn event(&self, id: EventId) -> Result<Option<EventView>, DiskError> {
        let Some(kept) = self.shown(id)? else { return Ok(None) };
        let deliveries = kept.owed.iter().map(|owed| self.view_of(&kept, *owed)).collect::<Result<_, _>>()?;
        Ok(Some(EventView { event: kept.event, deliveries }))
    }

    /// A page of events.
    pub(crate) fn list_events(&self, query: &EventQuery) -> Result<Page<EventRow, EventId>, DiskError> {
        let from = query.after.map_or(u64::MAX, |after| after.sequence().saturating_sub(1));
        listing::events(self.newest_first(from, Depth::Whole), query)
    }
}

/// The entries of a delivery in one keyspace, its history before what counts.
pub(crate) fn entries_in(
    keyspace: &dyn Keyspace,
    sequence: u64,
    subscription: SubscriptionId,
) -> Result<Vec<Entry>, DiskError> {
    let mut entries = Vec::new();
    for kind in [Kind::History, Kind::Entry] {
        let from = rows::entry_key(kind, sequence, subscription, 0);
        let mut to = rows::entry_key(kind, sequence, subscription, u32::MAX);
        to.push(0);
        for (key, sealed) in keyspace.range(&from, &to, ENTRIES_MAX)? {
            entries.push(rows::read_entry(&key, &sealed)?);
        }
    }
    let beyond = entries.len().saturating_sub(ATTEMPTS_KEPT * 2);
    Ok(entries.split_off(beyond))
}

pub(crate) fn told<'a>(kept: &'a Kept, owed: Owed, newest: Option<&'a Entry>) -> Told<'a> {
    let id = DeliveryId { event: kept.event.id, subscription: owed.subscription };
    Told { id, facts: &kept.event.facts, dead_at_birth: owed.dead_at_birth, newest }
}
