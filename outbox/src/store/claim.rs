//! Claims and what ends them: settlements, renewals, wishes.
//!
//! What was just recorded is claimed from memory; what is older is read by whoever runs [`Store::claim_read`], and so are
//! the keys of what goes by key.

use super::Store;
use super::reading::told;
use crate::disk::DiskError;
use crate::ledger::{LEARNT_MAX, Part, Place, Progress, Stand, Taken, line_of};
use crate::query::EventRow;
use crate::steps;
use crate::story::{self, Entry, UNLISTED};
use crate::time::{millis, millis_up};
use crate::{Answer, Cancelled, Claimed, LeaseId, Leased, Settled, Settlement, Standing, Vitals, Want, Wish};
use posthaste_events::{DeliveryId, State, SubscriptionId};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// How many bytes of payload the newest events may take in memory.
const CACHE_MAX: usize = 8 << 20;
/// What an event takes in the cache beside its payloads, about.
const CACHE_EACH: usize = 512;
/// With more unwritten entries than this no further deliveries are given out: the disk can not keep up.
const UNWRITTEN_MAX: usize = 100_000;
/// How often a wish is judged anew whose delivery changed while it was read.
const TRIES: usize = 8;

/// The newest events, so that they can be given out without a read.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    events: BTreeMap<u64, EventRow>,
    order: VecDeque<u64>,
    bytes: usize,
}

impl Cache {
    pub(crate) fn put(&mut self, event: EventRow) {
        let (sequence, bytes) = (event.id.sequence(), size(&event));
        if bytes > CACHE_MAX / 8 || self.events.contains_key(&sequence) {
            return;
        }
        self.bytes += bytes;
        self.events.insert(sequence, event);
        self.order.push_back(sequence);
        while self.bytes > CACHE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.events.remove(&oldest).as_ref().map_or(0, size);
        }
    }

    fn get(&self, sequence: u64) -> Option<&EventRow> {
        self.events.get(&sequence)
    }
}

fn size(event: &EventRow) -> usize {
    event.payloads.len() + CACHE_EACH
}

/// A claim whose events must be read first; dropped before it is finished, what it leased is released.
pub(crate) struct ToRead {
    subscription: SubscriptionId,
    want: Want,
    /// `None` where keys must be learnt before anything can be leased.
    taken: Option<Vec<Taken>>,
    store: Arc<Store>,
}

impl Drop for ToRead {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.as_ref().filter(|taken| !taken.is_empty()) {
            self.store.release(taken.iter().map(|t| t.lease));
        }
    }
}

impl Store {
    /// Leases what is due; answers at once where the events are in memory.
    pub(crate) fn claim(self: &Arc<Self>, subscription: SubscriptionId, want: Want) -> Result<Claimed, ToRead> {
        let now = self.time.now();
        let until = now.saturating_add(millis_up(want.lease));
        let mut inner = self.inner();
        if inner.overlay.waiting() > UNWRITTEN_MAX {
            return Ok(Claimed { deliveries: Vec::new(), next_due: Some(Duration::from_secs(1)) });
        }
        let part = Part::of(&want);
        if !inner.learn(subscription, part, now) {
            return Err(ToRead { subscription, want, taken: None, store: Arc::clone(self) });
        }
        let taken = inner.ledger.claim(subscription, part, now, until);
        let events: Option<Vec<EventRow>> = taken.iter().map(|t| inner.cache.get(t.sequence).cloned()).collect();
        drop(inner);
        match events {
            Some(events) => Ok(self.give(subscription, want, taken.into_iter().zip(events.into_iter().map(Some)))),
            None => Err(ToRead { subscription, want, taken: Some(taken), store: Arc::clone(self) }),
        }
    }

    /// Learns the keys that a claim needs, or a bounded piece of them, from the disk.
    fn learn(&self, subscription: SubscriptionId, part: Part) -> Result<(), DiskError> {
        for _ in 0..LEARNT_MAX {
            let (sequence, cached) = {
                let inner = self.inner();
                let Some(sequence) = inner.ledger.to_learn(subscription, part, self.time.now()) else { break };
                (sequence, inner.cache.get(sequence).cloned())
            };
            let event = match cached {
                Some(event) => Some(event),
                None => self.load(sequence)?.map(|(kept, _)| kept.event),
            };
            // One that is lost waits for nobody: it is given out alone, and ends there.
            let line = line_of(event.as_ref().and_then(|event| event.facts.key.as_deref()), sequence);
            let mut inner = self.inner();
            // What waits for another is read again when its time comes; what is given out next is not.
            if inner.ledger.learn(subscription, sequence, line)
                && let Some(event) = event
            {
                inner.cache.put(event);
            }
        }
        Ok(())
    }

    /// Finishes a claim whose events must be read.
    pub(crate) fn claim_read(&self, mut claim: ToRead) -> Result<Claimed, DiskError> {
        let (subscription, want) = (claim.subscription, claim.want);
        if claim.taken.is_none() {
            let part = Part::of(&want);
            self.learn(subscription, part)?;
            let now = self.time.now();
            let until = now.saturating_add(millis_up(want.lease));
            claim.taken = Some(self.inner().ledger.claim(subscription, part, now, until));
        }
        let taken = claim.taken.as_deref().unwrap_or_default();
        let mut events: BTreeMap<u64, Option<EventRow>> = BTreeMap::new();
        let mut bytes = 0;
        // Ascending, so that each generation is opened once; what will not be given is not read.
        let mut sequences: Vec<u64> = taken.iter().map(|t| t.sequence).collect();
        sequences.sort_unstable();
        for sequence in sequences {
            if bytes > want.bytes {
                break;
            }
            let cached = self.inner().cache.get(sequence).cloned();
            let event = match cached {
                Some(event) => Some(event),
                None => self.load(sequence)?.map(|(kept, _)| kept.event),
            };
            bytes += event.as_ref().map_or(0, |e| e.payloads.len());
            if let Some(event) = &event {
                self.inner().cache.put(event.clone());
            }
            events.insert(sequence, event);
        }
        let mut read = Vec::with_capacity(taken.len());
        for t in claim.taken.take().unwrap_or_default() {
            match events.get(&t.sequence) {
                Some(event) => read.push((t, event.clone())),
                None => self.inner().ledger.release(t.lease),
            }
        }
        Ok(self.give(subscription, want, read.into_iter()))
    }

    /// Gives leased deliveries out, as many as the bytes allow. An event that is lost can be delivered to nobody: its
    /// delivery ends, and the log says so.
    fn give(
        &self,
        subscription: SubscriptionId,
        want: Want,
        read: impl Iterator<Item = (Taken, Option<EventRow>)>,
    ) -> Claimed {
        let now = self.time.now();
        let (mut deliveries, mut bytes) = (Vec::new(), 0_usize);
        let mut inner = self.inner();
        for (taken, event) in read {
            let Some(event) = event else {
                tracing::error!(sequence = taken.sequence, subscription = subscription.0, "what is owed is lost");
                self.library.note_damage(1);
                inner.ledger.apply(subscription, taken.sequence, taken.progress, Stand::Settled);
                continue;
            };
            bytes = bytes.saturating_add(event.payloads.len());
            if bytes > want.bytes && !deliveries.is_empty() {
                inner.ledger.release(taken.lease);
                continue;
            }
            let since = taken.progress.since.map_or(event.id.millis(), NonZeroU64::get);
            let held = inner.ledger.account(subscription).map_or(0, |account| account.held.within(since, now));
            deliveries.push(Leased {
                lease: taken.lease,
                delivery: DeliveryId { event: event.id, subscription },
                attempt: taken.progress.attempts.saturating_add(1),
                owed_for: Duration::from_millis(now.saturating_sub(since).saturating_sub(held)),
                facts: event.facts,
                payloads: event.payloads,
            });
        }
        let next_due = inner.ledger.next_due(subscription, now).map(Duration::from_millis);
        Claimed { deliveries, next_due }
    }

    /// Releases what was leased and given to nobody.
    pub(crate) fn release(&self, leases: impl Iterator<Item = LeaseId>) {
        let mut inner = self.inner();
        leases.for_each(|lease| inner.ledger.release(lease));
    }

    /// Settles; true with it where there is something to write. Tells who is due again since a person asked for it, or
    /// since what was settled had another of its key wait.
    pub(crate) fn settle(&self, settlements: Vec<Settlement>) -> (Vec<Settled>, bool) {
        let at = self.moment();
        let mut due = Vec::new();
        let mut inner = self.inner();
        let answers = settlements
            .into_iter()
            .map(|settlement| {
                let (id, key) = (settlement.delivery, settlement.lease);
                let about = (id.event.sequence(), id.subscription);
                let lease = inner.ledger.lease(key, at.now).filter(|l| (l.sequence, l.subscription) == about);
                let Some(lease) = lease.copied() else { return Settled::LeaseLost };
                let asked = steps::asked(&settlement.then);
                let answer = match steps::settle(&lease, settlement, at) {
                    None => {
                        inner.ledger.release(key);
                        Settled::Applied
                    }
                    Some(entry) => {
                        let after = entry.after;
                        inner.enter(about, entry);
                        steps::settled(asked, after)
                    }
                };
                let waited = lease.wish == Some(Wish::Retry) || inner.ledger.is_next_in_line(id.subscription, at.now);
                if waited && due.last() != Some(&id.subscription) {
                    due.push(id.subscription);
                }
                answer
            })
            .collect();
        let to_write = inner.overlay.waiting() > 0;
        drop(inner);
        self.hint(&due);
        (answers, to_write)
    }

    pub(crate) fn renew(&self, leases: Vec<LeaseId>, lease: Duration) -> Vec<bool> {
        let now = self.time.now();
        let until = now.saturating_add(millis_up(lease));
        let mut inner = self.inner();
        leases.into_iter().map(|lease| inner.ledger.renew(lease, now, until)).collect()
    }

    /// Judges a wish; durable once what waits to be written is.
    pub(crate) fn ask(&self, delivery: DeliveryId, wish: Wish) -> Result<Answer, DiskError> {
        let at = self.moment();
        let about = (delivery.event.sequence(), delivery.subscription);
        self.inner().ledger.end_leases(at.now);
        let Some((kept, owed)) = self.owed(delivery)? else { return Ok(Answer::Unknown) };
        for _ in 0..TRIES {
            let is_owed = self.inner().ledger.look(about.1, about.0).is_some();
            let newest = if is_owed { None } else { self.entries(about.0, about.1)?.pop() };
            let mut inner = self.inner();
            let looked = inner.ledger.look(about.1, about.0);
            if looked.is_some() != is_owed {
                continue;
            }
            let state = story::row(&told(&kept, owed, newest.as_ref()), &inner.ledger, &self.time).state;
            let progress: Progress =
                looked.map(|(_, p)| p).or(newest.as_ref().map(Entry::progress)).unwrap_or_default();
            return match steps::wish(wish, state, looked.map(|(place, _)| place), progress, at) {
                Ok(entry) => {
                    inner.ledger.apply_wish(about.1, about.0, entry.progress(), entry.stand());
                    inner.overlay.push(about.0, about.1, entry);
                    Ok(Answer::Done)
                }
                Err(answer) => {
                    if let (Answer::Done, Some((Place::Leased(key), _))) = (answer, looked) {
                        inner.ledger.retry_after_lease(key);
                    }
                    Ok(answer)
                }
            };
        }
        Ok(Answer::NotNow(State::Pending))
    }

    /// Sets a standing; durable once what waits to be written is.
    pub(crate) fn set_standing(&self, subscription: SubscriptionId, standing: Standing) -> Option<Standing> {
        let mut inner = self.inner();
        inner.dirty.insert(subscription);
        inner.ledger.set_standing(subscription, standing, self.time.now())
    }

    /// Takes a change of a standing back.
    pub(crate) fn put_standing(&self, subscription: SubscriptionId, before: Standing) {
        let mut inner = self.inner();
        inner.dirty.insert(subscription);
        inner.ledger.put_standing(subscription, before, self.time.now());
    }

    /// Notes how subscriptions fare; whether there is something to write.
    pub(crate) fn note_vitals(&self, vitals: &[(SubscriptionId, Vitals)]) -> bool {
        let now = self.time.now();
        let mut inner = self.inner();
        let changed = vitals.iter().filter(|(id, vitals)| inner.ledger.note(*id, vitals, now)).map(|(id, _)| *id);
        let changed: Vec<SubscriptionId> = changed.collect();
        inner.dirty.extend(changed.iter().copied());
        !changed.is_empty()
    }

    /// Cancels up to `count` deliveries whose subscription was gone for too long; none while it may yet come back.
    pub(crate) fn end_grace(&self, count: usize) -> usize {
        let at = self.moment();
        let mut inner = self.inner();
        if inner.enrolling {
            return 0;
        }
        let beyond = inner.ledger.beyond_grace(at.now, millis(self.limits.grace), count);
        inner.cancel(&beyond, UNLISTED, at);
        beyond.len()
    }

    /// Cancels up to `count` deliveries that a subscription is owed; durable once what waits to be written is.
    pub(crate) fn cancel_owed(&self, subscription: SubscriptionId, reason: &str, count: usize) -> Cancelled {
        let at = self.moment();
        let mut inner = self.inner();
        inner.ledger.end_leases(at.now);
        let (owed, more) = inner.ledger.some_owed(subscription, count);
        inner.cancel(&owed, reason, at);
        Cancelled { count: owed.len() as u64, more }
    }
}

impl super::Inner {
    /// Cancels deliveries that are owed; a lease on one goes on.
    fn cancel(&mut self, owed: &[(SubscriptionId, u64)], reason: &str, at: steps::Moment) {
        for (subscription, sequence) in owed.iter().copied() {
            let progress = self.ledger.look(subscription, sequence).map(|(_, p)| p).unwrap_or_default();
            if let Some(entry) = steps::cancelled(progress, reason, at) {
                self.ledger.apply_wish(subscription, sequence, entry.progress(), entry.stand());
                self.overlay.push(sequence, subscription, entry);
            }
        }
    }

    /// Learns the keys that a claim needs from what is in memory, a bounded piece of them at most; false where one must
    /// be read.
    fn learn(&mut self, subscription: SubscriptionId, part: Part, now: u64) -> bool {
        for _ in 0..LEARNT_MAX {
            let Some(sequence) = self.ledger.to_learn(subscription, part, now) else { break };
            let Some(event) = self.cache.get(sequence) else { return false };
            self.ledger.learn(subscription, sequence, line_of(event.facts.key.as_deref(), sequence));
        }
        true
    }

    /// Lets an entry take effect, and has it written with the next batch.
    fn enter(&mut self, about: (u64, SubscriptionId), entry: Entry) {
        self.ledger.apply(about.1, about.0, entry.progress(), entry.stand());
        self.overlay.push(about.0, about.1, entry);
    }
}
