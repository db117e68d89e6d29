//! Which subscriptions there are: those that are listed, and those that are still owed something.

use super::{Account, Ledger, Listed, Listing};
use crate::{Amend, Enrolment, Owing, Roll, Standing, Subscribed};
use posthaste_events::SubscriptionId;
use std::collections::{BTreeMap, BTreeSet, HashMap};

impl Ledger {
    /// Makes `wanted` the listed subscriptions and starts an epoch; those whose account changed. One that comes from elsewhere
    /// than the known one of its name (the configuration, or what the outbox keeps) is another: that one is deleted then.
    pub(crate) fn enroll(&mut self, wanted: &[Enrolment], now: u64) -> Vec<SubscriptionId> {
        self.last_epoch += 1;
        self.epoch = self.last_epoch;
        // What was deleted and is gone gives its name away, with nothing that belonged to it.
        let known = self.accounts().filter(|(_, a)| !(a.deleted && a.unlisted_since.is_some()));
        let (listed, left): (Vec<_>, Vec<_>) = known.partition(|(_, a)| a.unlisted_since.is_none());
        // Of two of a name the listed one counts.
        let known: HashMap<&str, (SubscriptionId, bool)> =
            left.into_iter().chain(listed).map(|(id, a)| (a.name.as_str(), (id, a.kept))).collect();
        let mut changed = BTreeSet::new();
        let mut numbers = Vec::with_capacity(wanted.len());
        for enrolment in wanted {
            match known.get(enrolment.name.as_str()).copied() {
                // Made by somebody else under the same name: what the one before was owed is not for it to see.
                Some((id, kept)) if kept != enrolment.kept => {
                    changed.insert(id);
                    numbers.push(None);
                }
                found => numbers.push(found.map(|(id, _)| id)),
            }
        }
        for id in &changed {
            self.accounts.entry(*id).and_modify(|account| account.deleted = true);
        }
        let mut listed = BTreeSet::new();
        for (enrolment, number) in wanted.iter().zip(numbers) {
            let id = number.unwrap_or_else(|| self.open(enrolment));
            listed.insert(id);
            let Some(account) = self.accounts.get_mut(&id) else { continue };
            if number.is_none() || account.unlisted_since.is_some() || account.backlog_max != enrolment.backlog_max {
                changed.insert(id);
            }
            if std::mem::take(&mut account.deleted) {
                changed.insert(id);
            }
            (account.unlisted_since, account.backlog_max) = (None, enrolment.backlog_max);
            account.held.turn(account.takes(), now);
            self.set_ordered(id, enrolment.ordered);
        }
        for (id, account) in &mut self.accounts {
            if !listed.contains(id) && account.unlisted_since.is_none() {
                account.unlisted_since = Some(now);
                account.held.turn(false, now);
                changed.insert(*id);
            }
        }
        changed.into_iter().collect()
    }

    /// Changes which subscriptions are listed by a few of them, and starts an epoch; those whose account changed.
    pub(crate) fn amend(&mut self, changes: &[Amend], now: u64) -> Vec<SubscriptionId> {
        let listed = self.accounts().filter(|(_, a)| a.unlisted_since.is_none());
        let mut wanted: BTreeMap<String, Enrolment> = listed
            .map(|(_, a)| {
                let (name, kept) = (a.name.clone(), a.kept);
                (name.clone(), Enrolment { name, backlog_max: a.backlog_max, ordered: a.is_ordered(), kept })
            })
            .collect();
        for change in changes {
            match change {
                Amend::List(enrolment) => drop(wanted.insert(enrolment.name.clone(), enrolment.clone())),
                Amend::Unlist(name) => drop(wanted.remove(name)),
            }
        }
        let wanted: Vec<Enrolment> = wanted.into_values().collect();
        self.enroll(&wanted, now)
    }

    /// Of these changes, those that are listed or still owed something.
    pub(crate) fn roll_of(&self, changes: &[Amend], now: u64) -> Roll {
        let mut roll = self.roll(now);
        roll.subscriptions.retain(|s| changes.iter().any(|change| change.name() == s.name));
        roll
    }

    /// What stands in the configuration now, to be put back with [`Ledger::unenroll`].
    pub(crate) fn listing(&self) -> Listing {
        let listed = |a: &Account| Listed {
            unlisted_since: a.unlisted_since,
            backlog_max: a.backlog_max,
            ordered: a.is_ordered(),
            deleted: a.deleted,
        };
        Listing { epoch: self.epoch, listed: self.accounts().map(|(id, a)| (id, listed(a))).collect() }
    }

    /// Takes an enrolment back: the epoch and the listed subscriptions are those of `before` again. A name that was new
    /// keeps its number, unlisted.
    pub(crate) fn unenroll(&mut self, before: &Listing, now: u64) {
        self.epoch = before.epoch;
        for (id, account) in &mut self.accounts {
            match before.listed.get(id) {
                Some(was) => {
                    (account.unlisted_since, account.backlog_max) = (was.unlisted_since, was.backlog_max);
                    account.deleted = was.deleted;
                }
                None => account.unlisted_since = account.unlisted_since.or(Some(now)),
            }
            account.held.turn(account.takes(), now);
        }
        before.listed.iter().for_each(|(id, was)| self.set_ordered(*id, was.ordered));
    }

    /// Has what a subscription is owed go by key from now on, or as it comes. It is not written down: whoever enrols
    /// says it anew.
    fn set_ordered(&mut self, id: SubscriptionId, ordered: bool) {
        let Some(account) = self.accounts.get_mut(&id).filter(|a| a.is_ordered() != ordered) else { return };
        if !ordered {
            return account.end_order();
        }
        let mut outside = BTreeSet::new();
        for lease in self.leases.values_mut().filter(|lease| lease.subscription == id) {
            lease.line = None;
            outside.insert(lease.sequence);
        }
        account.begin_order(outside);
    }

    fn open(&mut self, enrolment: &Enrolment) -> SubscriptionId {
        let id = SubscriptionId(self.next_subscription);
        self.next_subscription = self.next_subscription.saturating_add(1);
        let mut account = Account::new(enrolment.name.clone(), enrolment.backlog_max);
        account.kept = enrolment.kept;
        self.accounts.insert(id, account);
        id
    }

    /// Every subscription that is listed or still owed something.
    pub(crate) fn roll(&self, now: u64) -> Roll {
        let shown = self.accounts().filter(|(_, account)| is_shown(account));
        Roll { epoch: self.epoch, subscriptions: shown.map(|(id, account)| subscribed(id, account, now)).collect() }
    }

    /// Those of the roll that are owed something or take nothing.
    pub(crate) fn owing(&self) -> Vec<Owing> {
        let shown = self.accounts().filter(|(_, account)| is_shown(account));
        let owing = |(id, account): (SubscriptionId, &Account)| Owing {
            id,
            owed: account.owed(),
            active: account.standing == Standing::Active,
        };
        shown.map(owing).filter(Owing::is_told).collect()
    }

    /// The one of this name.
    pub(crate) fn subscribed(&self, name: &str, now: u64) -> Option<Subscribed> {
        let (id, account) = self.accounts().find(|(_, account)| account.name == name && is_shown(account))?;
        Some(subscribed(id, account, now))
    }
}

fn is_shown(account: &Account) -> bool {
    account.unlisted_since.is_none() || (account.owed() > 0 && !account.deleted)
}

fn subscribed(id: SubscriptionId, account: &Account, now: u64) -> Subscribed {
    Subscribed {
        id,
        name: account.name.clone(),
        listed: account.unlisted_since.is_none(),
        standing: account.standing.clone(),
        owed: account.owed(),
        vitals: account.noted.tell(now),
    }
}
