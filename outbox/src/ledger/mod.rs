//! The ledger: what is owed to whom, in memory.
//!
//! Decides what a claim gives, what a settlement, a wish and an enrolment change, whose grace is over. Pure: `now` is
//! an argument, in the outbox's milliseconds. The same [`Ledger::apply`] serves live operation and replay. It leaves to
//! the stores what an event is, and what must be written before a change may be seen.

mod account;
mod held;
mod names;
mod noted;
mod order;
mod part;
mod roll;
mod snapshot;

pub(crate) use account::{Account, Place, Waiting};
pub(crate) use held::Held;
pub(crate) use noted::Noted;
pub(crate) use order::{LEARNT_MAX, line_of};
pub(crate) use part::Part;
pub(crate) use roll::Enrolled;
pub(crate) use snapshot::{bitmap, read_bitmap};

use crate::{DELETED, Epoch, LeaseId, Standing, Wish};
use names::Names;
use order::Line;
use posthaste_events::{State, SubscriptionId};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;

/// A lease, as the ledger numbers it.
pub(crate) type LeaseKey = u64;

/// How far a delivery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// Entries written so far: attempts, and what a person asked for.
    pub(crate) entries: u32,
    /// Since when it has been owed, where that is not the time of recording: a person asked for it again.
    pub(crate) since: Option<NonZeroU64>,
}

/// A delivery that a claim gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) lease: LeaseId,
    pub(crate) sequence: u64,
    pub(crate) progress: Progress,
}

/// A lease and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) subscription: SubscriptionId,
    pub(crate) sequence: u64,
    pub(crate) until: u64,
    pub(crate) progress: Progress,
    /// What a person wanted of the delivery since it was given out.
    pub(crate) wish: Option<Wish>,
    /// When it was due before it was given out; `None`: never tried.
    due: Option<u64>,
    /// Where its subscription's deliveries go by key: the line that waits for it, once that was learnt.
    line: Option<Line>,
}

/// What an entry makes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Owed, and due then.
    Due(u64),
    /// Settled.
    Settled,
}

/// What is owed to whom.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Ledger {
    epoch: Epoch,
    /// The highest epoch that was ever started; above `epoch` after an enrolment was undone.
    last_epoch: Epoch,
    accounts: BTreeMap<SubscriptionId, Account>,
    names: Names,
    /// Never falls, also when the account with the highest number goes.
    next_subscription: u32,
    leases: HashMap<LeaseKey, Lease>,
    /// The leases whose delivery was cancelled meanwhile: it is owed no more, and stands in no account.
    cancelled: HashMap<(SubscriptionId, u64), LeaseKey>,
    /// The leases by their ends.
    ends: BTreeSet<(u64, LeaseKey)>,
    next_lease: LeaseKey,
}

impl Ledger {
    /// An empty one. `first_lease` must be higher than any lease that this store ever gave.
    pub(crate) fn new(first_lease: LeaseKey) -> Self {
        Self { next_lease: first_lease, ..Self::default() }
    }

    /// Numbers leases from here on; nothing is leased yet.
    pub(crate) const fn begin_leases(&mut self, first_lease: LeaseKey) {
        self.next_lease = first_lease;
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The highest epoch that was ever started: what is written down, so that none is started twice.
    pub(crate) const fn last_epoch(&self) -> Epoch {
        self.last_epoch
    }

    pub(crate) fn account(&self, id: SubscriptionId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = (SubscriptionId, &Account)> {
        self.accounts.iter().map(|(id, account)| (*id, account))
    }

    pub(crate) fn owed(&self) -> u64 {
        self.accounts.values().map(Account::owed).sum()
    }

    pub(crate) fn leased(&self) -> u64 {
        self.leases.len() as u64
    }

    /// Puts an account as it was written, with what it is owed in this ledger kept.
    pub(crate) fn restore(&mut self, id: SubscriptionId, written: Account) {
        self.next_subscription = self.next_subscription.max(id.0.saturating_add(1));
        let account = self.accounts.entry(id).or_insert_with(|| Account::new("", 0));
        if account.name != written.name {
            self.names.remove(&account.name, id);
            account.name = written.name;
        }
        self.names.add(&account.name, id);
        account.unlisted_since = written.unlisted_since;
        account.standing = written.standing;
        account.backlog_max = written.backlog_max;
        account.held = written.held;
        (account.noted, account.deleted, account.kept) = (written.noted, written.deleted, written.kept);
        account.last_owed = account.last_owed.max(written.last_owed);
    }

    /// Says up to where those may be owed events of which nobody noted it.
    pub(crate) fn know_last_owed(&mut self, last: u64) {
        for account in self.accounts.values_mut().filter(|account| account.last_owed == u64::MAX) {
            account.last_owed = last;
        }
    }

    /// Sets epoch and the next number of a subscription as they were written; neither falls.
    pub(crate) fn restore_counters(&mut self, epoch: Epoch, next_subscription: u32) {
        self.last_epoch = self.last_epoch.max(epoch);
        self.epoch = self.last_epoch;
        self.next_subscription = self.next_subscription.max(next_subscription);
    }

    pub(crate) const fn next_subscription(&self) -> u32 {
        self.next_subscription
    }

    /// Sets a standing; the one before, or `None` where there is no such subscription, or it is being removed.
    pub(crate) fn set_standing(&mut self, id: SubscriptionId, standing: Standing, now: u64) -> Option<Standing> {
        let leaves = |account: &Account| matches!(&account.standing, Standing::Disabled(why) if why == DELETED);
        if self.accounts.get(&id).is_some_and(leaves) {
            return None;
        }
        self.put_standing(id, standing, now)
    }

    /// The same for one that is being removed too: to take a change back that could not be written.
    pub(crate) fn put_standing(&mut self, id: SubscriptionId, standing: Standing, now: u64) -> Option<Standing> {
        let account = self.accounts.get_mut(&id)?;
        let before = std::mem::replace(&mut account.standing, standing);
        account.held.turn(account.takes(), now);
        Some(before)
    }

    /// Notes how a subscription fares; whether there is one of that number, and it changed.
    pub(crate) fn note(&mut self, id: SubscriptionId, vitals: &crate::Vitals, now: u64) -> bool {
        let noted = Noted::told(vitals, now);
        self.accounts.get_mut(&id).is_some_and(|account| std::mem::replace(&mut account.noted, noted) != noted)
    }

    /// Notes a new event's delivery.
    pub(crate) fn owe(&mut self, id: SubscriptionId, sequence: u64) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.put_fresh(sequence, None);
        }
    }

    /// Makes of a delivery what its newest entry says, wherever it stands; a lease on it ends.
    pub(crate) fn apply(&mut self, id: SubscriptionId, sequence: u64, progress: Progress, stand: Stand) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        let mut line = account.line(sequence);
        let leased = match account.take(sequence) {
            Some(Place::Leased(key)) => Some(key),
            _ => self.cancelled.remove(&(id, sequence)),
        };
        if let Some(key) = leased
            && let Some(lease) = self.leases.remove(&key)
        {
            self.ends.remove(&(lease.until, key));
            line = lease.line;
            account.end_lease(sequence, line);
        }
        if let Stand::Due(due) = stand {
            account.put_waiting(sequence, Waiting { due, progress }, line);
        }
    }

    /// Makes of a delivery what a person asked for. A lease on it goes on: its attempt is under way, and none else may
    /// begin before it ends.
    pub(crate) fn apply_wish(&mut self, id: SubscriptionId, sequence: u64, progress: Progress, stand: Stand) {
        let key = match self.look(id, sequence) {
            Some((Place::Leased(key), _)) => Some(key),
            _ => self.cancelled.get(&(id, sequence)).copied(),
        };
        let leased = key.and_then(|key| Some((key, self.leases.get_mut(&key)?)));
        let (Some((key, lease)), Some(account)) = (leased, self.accounts.get_mut(&id)) else {
            return self.apply(id, sequence, progress, stand);
        };
        lease.progress = progress;
        match stand {
            Stand::Settled => {
                lease.wish = Some(Wish::Cancel);
                account.take(sequence);
                self.cancelled.insert((id, sequence), key);
            }
            Stand::Due(due) => {
                (lease.wish, lease.due) = (Some(Wish::Retry), Some(due));
                account.put_leased(sequence, key);
                self.cancelled.remove(&(id, sequence));
            }
        }
    }

    /// Notes that a delivery is to be tried again at once when this lease ends.
    pub(crate) fn retry_after_lease(&mut self, key: LeaseKey) {
        if let Some(lease) = self.leases.get_mut(&key) {
            lease.wish = Some(Wish::Retry);
        }
    }

    /// Notes an event's delivery at a replay, unless what was replayed before tells more of it.
    pub(crate) fn owe_unless_known(&mut self, id: SubscriptionId, sequence: u64) {
        if self.look(id, sequence).is_none() {
            self.owe(id, sequence);
        }
    }

    /// Applies an entry at a replay, where copies of older ones can come behind newer ones.
    pub(crate) fn replay(&mut self, id: SubscriptionId, sequence: u64, progress: Progress, stand: Stand) {
        if self.look(id, sequence).is_none_or(|(_, known)| known.entries <= progress.entries) {
            self.apply(id, sequence, progress, stand);
        }
    }

    /// Gives out as many due deliveries as are asked for until `until`.
    pub(crate) fn claim(&mut self, id: SubscriptionId, part: Part, now: u64, until: u64) -> Vec<Taken> {
        self.end_leases(now);
        let Some(account) = self.accounts.get_mut(&id).filter(|a| a.takes()) else { return Vec::new() };
        let mut given = Vec::new();
        for (sequence, waiting, line) in account.take_due(part, now) {
            let key = self.next_lease;
            self.next_lease += 1;
            let progress = waiting.map(|w| w.progress).unwrap_or_default();
            let due = waiting.map(|w| w.due);
            let lease = Lease { subscription: id, sequence, until, progress, wish: None, due, line };
            account.put_leased(sequence, key);
            self.leases.insert(key, lease);
            self.ends.insert((until, key));
            given.push(Taken { lease: LeaseId(key), sequence, progress });
        }
        given
    }

    /// The sequence whose key must be learnt before a claim can give all that is asked for; `None` where none must or none is left.
    pub(crate) fn to_learn(&self, id: SubscriptionId, part: Part, now: u64) -> Option<u64> {
        self.accounts.get(&id).filter(|a| a.takes())?.to_learn(part, now)
    }

    /// Learns the key of a delivery's event, as [`Ledger::to_learn`] asked; whether it may be given out.
    pub(crate) fn learn(&mut self, id: SubscriptionId, sequence: u64, line: Line) -> bool {
        let Some(account) = self.accounts.get_mut(&id) else { return false };
        if account.learn(sequence, line) {
            let key = account.leased.get(&sequence).or_else(|| self.cancelled.get(&(id, sequence)));
            if let Some(lease) = key.and_then(|key| self.leases.get_mut(key)) {
                lease.line = Some(line);
            }
        }
        account.is_first(sequence)
    }

    /// Whether something of a subscription's may be given out now that waited for another of its key, as far as that can
    /// be said without a look at how it came.
    pub(crate) fn is_next_in_line(&self, id: SubscriptionId, now: u64) -> bool {
        let account = self.accounts.get(&id).filter(|a| a.is_ordered() && a.takes());
        account.and_then(Account::next_due).is_some_and(|due| due <= now)
    }

    /// How long until the next delivery is due that is not given out; `None` where nothing else is owed or the
    /// subscription takes nothing. What waits for another of its key is not due.
    pub(crate) fn next_due(&self, id: SubscriptionId, now: u64) -> Option<u64> {
        let account = self.accounts.get(&id).filter(|a| a.takes())?;
        account.next_due().map(|due| due.saturating_sub(now))
    }

    /// A lease that still holds.
    pub(crate) fn lease(&self, lease: LeaseId, now: u64) -> Option<&Lease> {
        self.leases.get(&lease.0).filter(|l| now < l.until)
    }

    /// Puts a leased delivery back to where it came from; due at once, as if it had never been given out. One that was
    /// cancelled meanwhile stays so.
    pub(crate) fn release(&mut self, lease: LeaseId) {
        let Some(lease) = self.drop_lease(lease.0) else { return };
        if self.cancelled.remove(&(lease.subscription, lease.sequence)).is_some() {
            return;
        }
        let Some(account) = self.accounts.get_mut(&lease.subscription) else { return };
        match lease.due {
            Some(due) => account.put_waiting(lease.sequence, Waiting { due, progress: lease.progress }, lease.line),
            None => account.put_fresh(lease.sequence, lease.line),
        }
    }

    /// Prolongs a lease; false where it is lost.
    pub(crate) fn renew(&mut self, lease: LeaseId, now: u64, until: u64) -> bool {
        let Some(held) = self.leases.get_mut(&lease.0).filter(|l| now < l.until) else { return false };
        self.ends.remove(&(held.until, lease.0));
        held.until = until;
        self.ends.insert((until, lease.0));
        true
    }

    /// Puts back every delivery whose lease ran out.
    pub(crate) fn end_leases(&mut self, now: u64) {
        while let Some((_, key)) = self.ends.first().copied().filter(|(until, _)| *until <= now) {
            self.release(LeaseId(key));
        }
    }

    fn drop_lease(&mut self, key: LeaseKey) -> Option<Lease> {
        let lease = self.leases.remove(&key)?;
        self.ends.remove(&(lease.until, key));
        if let Some(account) = self.accounts.get_mut(&lease.subscription) {
            account.take(lease.sequence);
            account.end_lease(lease.sequence, lease.line);
        }
        Some(lease)
    }

    /// Where an owed delivery stands, and how far it has come; `None` where it is not owed.
    pub(crate) fn look(&self, id: SubscriptionId, sequence: u64) -> Option<(Place, Progress)> {
        let place = self.accounts.get(&id)?.place(sequence)?;
        let progress = match place {
            Place::Fresh => Progress::default(),
            Place::Waiting(waiting) => waiting.progress,
            Place::Leased(key) => self.leases.get(&key).map(|l| l.progress).unwrap_or_default(),
        };
        Some((place, progress))
    }

    /// How far a delivery has come that was cancelled while an attempt at it is under way.
    pub(crate) fn cancelled_under_way(&self, id: SubscriptionId, sequence: u64) -> Option<Progress> {
        let key = self.cancelled.get(&(id, sequence))?;
        self.leases.get(key).map(|lease| lease.progress)
    }

    /// The state of a delivery as shown, from its state as written.
    pub(crate) fn shown(&self, id: SubscriptionId, state: State) -> State {
        state.shown(self.accounts.get(&id).is_some_and(Account::takes))
    }

    /// Up to `count` deliveries whose subscription has been unlisted for longer than `grace`.
    pub(crate) fn beyond_grace(&self, now: u64, grace: u64, count: usize) -> Vec<(SubscriptionId, u64)> {
        let over = |a: &Account| a.unlisted_since.is_some_and(|since| a.deleted || now.saturating_sub(since) >= grace);
        let gone = self.accounts().filter(|(_, account)| over(account));
        gone.flat_map(|(id, a)| a.some_owed(count).into_iter().map(move |s| (id, s))).take(count).collect()
    }

    /// Up to `count` deliveries that a subscription is owed, and whether there are more.
    pub(crate) fn some_owed(&self, id: SubscriptionId, count: usize) -> (Vec<(SubscriptionId, u64)>, bool) {
        let Some(account) = self.accounts.get(&id) else { return (Vec::new(), false) };
        let some: Vec<_> = account.some_owed(count).into_iter().map(|sequence| (id, sequence)).collect();
        let more = account.owed() > some.len() as u64;
        (some, more)
    }

    /// Notes of the subscriptions of these names whether whoever made them took them away, or made them anew; those whose
    /// account changed.
    pub(crate) fn mark_deleted(&mut self, names: &HashMap<String, bool>) -> Vec<SubscriptionId> {
        let mut marked = Vec::new();
        for (name, deleted) in names {
            for id in self.names.of(name) {
                let Some(account) = self.accounts.get_mut(id).filter(|a| a.deleted != *deleted) else { continue };
                // One that is gone stays deleted: what is made anew is another.
                if *deleted || account.unlisted_since.is_none() {
                    account.deleted = *deleted;
                    marked.push(*id);
                }
            }
        }
        marked
    }

    /// Drops subscriptions that are owed nothing and have been unlisted for longer than `age`; deleted ones as soon as no
    /// event is kept that they were ever owed, `oldest` being the lowest sequence that is. How many.
    pub(crate) fn forget_subscriptions(&mut self, now: u64, age: u64, oldest: u64) -> usize {
        let over = |a: &Account, since: u64| {
            now.saturating_sub(since) >= age || (a.deleted && (a.last_owed == 0 || a.last_owed < oldest))
        };
        let gone = |a: &Account| a.unlisted_since.is_some_and(|since| over(a, since));
        let under_way: BTreeSet<SubscriptionId> = self.cancelled.keys().map(|(id, _)| *id).collect();
        let before = self.accounts.len();
        self.accounts.retain(|id, account| {
            let stays = account.owed() > 0 || under_way.contains(id) || !gone(account);
            if !stays {
                self.names.remove(&account.name, *id);
            }
            stays
        });
        before - self.accounts.len()
    }

    /// The sequences between two, both included, of which anything is owed.
    pub(crate) fn owed_within(&self, first: u64, last: u64) -> RoaringTreemap {
        let mut owed = RoaringTreemap::new();
        self.accounts.values().for_each(|account| account.add_owed_within(first, last, &mut owed));
        owed
    }
}
