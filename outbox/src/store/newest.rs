//! The newest entries of many deliveries, and who adopted many events: each generation is read once for all of them.
//!
//! A listing that looked for the entries of each row by itself would open every generation for every row.

use super::Store;
use super::overlay::Overlay;
use super::reading::told;
use crate::disk::{DiskError, Generation, Keyspace};
use crate::listing::{self, Kept, Owed};
use crate::query::{DeliveryQuery, DeliveryRow, Page};
use crate::rows::{self, Kind};
use crate::store::library::for_each_in;
use crate::store::walk::Depth;
use crate::story::{self, Entry};
use posthaste_events::{DeliveryId, SubscriptionId};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How many events a listing prepares at a time: few at first, more the longer it goes on.
const CHUNK_MIN: usize = 64;
const CHUNK_MAX: usize = 4_096;

/// The newest entry of each delivery that has any, without its attempt.
pub(crate) type Newest = HashMap<(u64, SubscriptionId), Entry>;

/// What a listing prepared of its events.
#[derive(Default)]
struct Prepared {
    /// The events of which every entry was looked at.
    looked: HashSet<u64>,
    newest: Newest,
}

impl Store {
    /// The newest entries of a subscription's deliveries of these events.
    pub(crate) fn newest_of(&self, sequences: &[u64], subscription: SubscriptionId) -> Result<Newest, DiskError> {
        self.newest(sequences, Some(subscription))
    }

    /// The newest entries about these events, of every subscription where none is named.
    fn newest(&self, sequences: &[u64], subscription: Option<SubscriptionId>) -> Result<Newest, DiskError> {
        // Before the disk: what leaves the overlay meanwhile stands there by then.
        let fresh = newest_in_overlay(&self.inner().overlay, sequences, subscription);
        let mut newest = Newest::new();
        for (generation, sequences) in self.by_generation(sequences, |catalog, sequence| catalog.about(sequence)) {
            let found = self.read(generation, |keyspace, _| {
                let mut found = Vec::new();
                for sequence in &sequences {
                    newest_in(keyspace, *sequence, subscription, &mut found)?;
                }
                Ok(found)
            })?;
            found.unwrap_or_default().into_iter().for_each(|(about, entry)| keep(&mut newest, about, entry));
        }
        fresh.into_iter().for_each(|(about, entry)| keep(&mut newest, about, entry));
        Ok(newest)
    }

    /// These events by the generations that have something about them.
    fn by_generation(
        &self,
        sequences: &[u64],
        of: impl Fn(&super::catalog::Catalog, u64) -> Vec<Generation>,
    ) -> BTreeMap<Generation, Vec<u64>> {
        let mut grouped: BTreeMap<Generation, Vec<u64>> = BTreeMap::new();
        for sequence in sequences {
            // Let go each time: whoever records must not wait for a long page.
            let generations = of(&self.catalog(), *sequence);
            generations.into_iter().for_each(|generation| grouped.entry(generation).or_default().push(*sequence));
        }
        grouped
    }

    /// To whom replays owed an event.
    pub(crate) fn adopted(&self, sequence: u64) -> Result<Vec<SubscriptionId>, DiskError> {
        Ok(self.adopted_of(&[sequence])?.remove(&sequence).unwrap_or_default())
    }

    /// Adds to these events to whom replays owed them.
    pub(crate) fn add_adopted(&self, events: &mut [Kept]) -> Result<(), DiskError> {
        let sequences: Vec<u64> = events.iter().map(|kept| kept.event.id.sequence()).collect();
        let mut adopted = self.adopted_of(&sequences)?;
        for kept in events.iter_mut() {
            for subscription in adopted.remove(&kept.event.id.sequence()).unwrap_or_default() {
                kept.adopt(subscription);
            }
        }
        Ok(())
    }

    /// To whom replays owed these events.
    fn adopted_of(&self, sequences: &[u64]) -> Result<HashMap<u64, Vec<SubscriptionId>>, DiskError> {
        let mut adopted: HashMap<u64, Vec<SubscriptionId>> = HashMap::new();
        {
            let inner = self.inner();
            for sequence in sequences {
                let fresh = inner.overlay.adopted(*sequence);
                if !fresh.is_empty() {
                    adopted.insert(*sequence, fresh);
                }
            }
        }
        for (generation, sequences) in self.by_generation(sequences, |catalog, sequence| catalog.adopting(sequence)) {
            let found = self.read(generation, |keyspace, _| {
                let mut found = Vec::new();
                for sequence in &sequences {
                    let from = rows::event_key(Kind::Adopted, *sequence);
                    let to = rows::event_key(Kind::Adopted, sequence.saturating_add(1));
                    for_each_in(keyspace, &from, &to, |rows| {
                        found.extend(rows.iter().filter_map(|(key, _)| rows::delivery_of(key)));
                        Ok(())
                    })?;
                }
                Ok(found)
            })?;
            for (sequence, subscription) in found.unwrap_or_default() {
                adopted.entry(sequence).or_default().push(subscription);
            }
        }
        Ok(adopted)
    }

    /// A page of deliveries.
    pub(crate) fn list_deliveries(&self, query: &DeliveryQuery) -> Result<Page<DeliveryRow, DeliveryId>, DiskError> {
        let from = query.after.map_or(u64::MAX, |after| after.event.sequence());
        let prepared = RefCell::new(Prepared::default());
        let mut walk = self.newest_first(from, Depth::Facts);
        let mut chunk: std::vec::IntoIter<Kept> = Vec::new().into_iter();
        let mut size = query.limit.clamp(CHUNK_MIN, CHUNK_MAX);
        let events = std::iter::from_fn(|| {
            if let Some(kept) = chunk.next() {
                return Some(Ok(kept));
            }
            let events: Result<Vec<Kept>, DiskError> = walk.by_ref().take(size).collect();
            size = size.saturating_mul(2).min(CHUNK_MAX);
            match events.and_then(|events| self.prepare(events, query)) {
                Ok((events, made)) => {
                    chunk = events.into_iter();
                    *prepared.borrow_mut() = made;
                    chunk.next().map(Ok)
                }
                Err(error) => Some(Err(error)),
            }
        });
        listing::deliveries(events, query, |kept, owed| self.row_of(kept, owed, &prepared.borrow()))
    }

    /// Reads what the rows of these events will need. What is owed stands in the ledger, and needs nothing.
    fn prepare(&self, mut events: Vec<Kept>, query: &DeliveryQuery) -> Result<(Vec<Kept>, Prepared), DiskError> {
        self.add_adopted(&mut events)?;
        let mut sequences = Vec::new();
        {
            let inner = self.inner();
            for kept in events.iter().filter(|kept| listing::of_event(&kept.event.facts, query)) {
                let sequence = kept.event.id.sequence();
                let wanted = |owed: &&Owed| query.subscription.is_none_or(|wanted| wanted == owed.subscription);
                let settled = |owed: &Owed| inner.ledger.look(owed.subscription, sequence).is_none();
                if kept.owed.iter().filter(wanted).any(settled) {
                    sequences.push(sequence);
                }
            }
        }
        let newest = self.newest(&sequences, query.subscription)?;
        Ok((events, Prepared { looked: sequences.into_iter().collect(), newest }))
    }

    fn row_of(&self, kept: &Kept, owed: Owed, prepared: &Prepared) -> Result<DeliveryRow, DiskError> {
        let sequence = kept.event.id.sequence();
        {
            let inner = self.inner();
            let is_owed = inner.ledger.look(owed.subscription, sequence).is_some();
            if is_owed || prepared.looked.contains(&sequence) {
                let newest = prepared.newest.get(&(sequence, owed.subscription)).filter(|_| !is_owed);
                return Ok(story::row(&told(kept, owed, newest), &inner.ledger, &self.time));
            }
        }
        // It was owed when the page was prepared, and was settled since.
        Ok(self.view_of(kept, owed)?.row)
    }
}

fn keep(newest: &mut Newest, about: (u64, SubscriptionId), entry: Entry) {
    if newest.get(&about).is_none_or(|known| known.number <= entry.number) {
        newest.insert(about, Entry { attempt: None, ..entry });
    }
}

fn newest_in_overlay(overlay: &Overlay, sequences: &[u64], subscription: Option<SubscriptionId>) -> Newest {
    let mut newest = Newest::new();
    for sequence in sequences {
        for about in overlay.about(*sequence).filter(|about| subscription.is_none_or(|wanted| wanted == about.1)) {
            if let Some(entry) = overlay.newest(about.0, about.1) {
                keep(&mut newest, about, entry.clone());
            }
        }
    }
    newest
}

/// Adds the newest entries about an event in one keyspace. History is never the newest: a copy goes on as what counts.
fn newest_in(
    keyspace: &dyn Keyspace,
    sequence: u64,
    subscription: Option<SubscriptionId>,
    into: &mut Vec<((u64, SubscriptionId), Entry)>,
) -> Result<(), DiskError> {
    let (from, to) = match subscription {
        Some(subscription) => {
            let mut to = rows::entry_key(Kind::Entry, sequence, subscription, u32::MAX);
            to.push(0);
            (rows::entry_key(Kind::Entry, sequence, subscription, 0), to)
        }
        None => (rows::event_key(Kind::Entry, sequence), rows::event_key(Kind::Entry, sequence.saturating_add(1))),
    };
    for_each_in(keyspace, &from, &to, |rows| {
        for (at, (key, sealed)) in rows.iter().enumerate() {
            let Some(about) = rows::delivery_of(key) else { continue };
            // Of one delivery the last row counts: no other needs to be read.
            let next = rows.get(at + 1).and_then(|(key, _)| rows::delivery_of(key));
            if next != Some(about) {
                into.push((about, rows::read_entry(key, sealed)?));
            }
        }
        Ok(())
    })
}
