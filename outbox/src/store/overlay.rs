//! Entries that took effect and are not durable yet.
//!
//! A settlement changes the ledger at once and rides the next batch; until it is written, readers find it here. After a
//! failure the entries stay and are written again: so no entry is ever forgotten, and none is written under a number
//! that another one has.

use crate::story::Entry;
use posthaste_events::SubscriptionId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries by delivery, each list ascending.
pub(crate) type Entries = BTreeMap<(u64, SubscriptionId), Vec<Entry>>;

/// Entries that are not durable yet.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Those that no batch has taken.
    waiting: Entries,
    waiting_count: usize,
    /// Those that are being written.
    writing: Arc<Entries>,
}

impl Overlay {
    pub(crate) fn push(&mut self, sequence: u64, subscription: SubscriptionId, entry: Entry) {
        self.waiting.entry((sequence, subscription)).or_default().push(entry);
        self.waiting_count += 1;
    }

    /// How many wait to be written.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting_count
    }

    /// What is known here of a delivery.
    pub(crate) fn of(&self, sequence: u64, subscription: SubscriptionId) -> Vec<Entry> {
        let key = (sequence, subscription);
        [&*self.writing, &self.waiting].into_iter().filter_map(|m| m.get(&key)).flatten().cloned().collect()
    }

    /// The deliveries of an event of which something is known here; one may come twice.
    pub(crate) fn about(&self, sequence: u64) -> impl Iterator<Item = (u64, SubscriptionId)> {
        let all = (sequence, SubscriptionId(0))..=(sequence, SubscriptionId(u32::MAX));
        self.writing.range(all.clone()).chain(self.waiting.range(all)).map(|(about, _)| *about)
    }

    /// The newest entry of a delivery that is known here.
    pub(crate) fn newest(&self, sequence: u64, subscription: SubscriptionId) -> Option<&Entry> {
        let key = (sequence, subscription);
        [&self.waiting, &*self.writing].into_iter().find_map(|m| m.get(&key)?.last())
    }

    /// The subscriptions to which replays owe an event that was not theirs, as far as that is known here.
    pub(crate) fn adopted(&self, sequence: u64) -> Vec<SubscriptionId> {
        let all = (sequence, SubscriptionId(0))..=(sequence, SubscriptionId(u32::MAX));
        let of = |entries: &Entries| -> Vec<SubscriptionId> {
            let here = entries.range(all.clone()).filter(|(_, entries)| entries.iter().any(|entry| entry.adopts));
            here.map(|((_, subscription), _)| *subscription).collect()
        };
        [of(&self.writing), of(&self.waiting)].concat()
    }

    /// Takes what waits, to be written. Only one batch writes at a time.
    pub(crate) fn begin(&mut self) -> Arc<Entries> {
        self.waiting_count = 0;
        self.writing = Arc::new(std::mem::take(&mut self.waiting));
        Arc::clone(&self.writing)
    }

    /// What was being written is durable.
    pub(crate) fn done(&mut self) {
        self.writing = Arc::default();
    }

    /// What was being written waits again, before what came meanwhile.
    pub(crate) fn failed(&mut self) {
        let mut all = Arc::unwrap_or_clone(std::mem::take(&mut self.writing));
        for (key, entries) in std::mem::take(&mut self.waiting) {
            all.entry(key).or_default().extend(entries);
        }
        self.waiting_count = all.values().map(Vec::len).sum();
        self.waiting = all;
    }
}
