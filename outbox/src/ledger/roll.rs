//! Which subscriptions there are: those that are listed, and those that are still owed something.
//!
//! What changes some of them costs by what changes, however many there are.

use super::{Account, Ledger};
use crate::{Amend, Enrolment, Epoch, Owing, Roll, Standing, Subscribed};
use posthaste_events::SubscriptionId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

#[cfg(test)]
mod tests;

/// What an enrolment changed, so that it can be taken back.
#[derive(Debug)]
pub(crate) struct Enrolled {
    /// The epoch before it.
    epoch: Epoch,
    /// How the accounts stood that it changed; `None` of those that it made.
    before: BTreeMap<SubscriptionId, Option<Listed>>,
    /// Those of which something changed that is written down.
    pub(crate) changed: BTreeSet<SubscriptionId>,
}

/// How an account stood that an enrolment changed.
#[derive(Debug, Clone, Copy)]
struct Listed {
    unlisted_since: Option<u64>,
    backlog_max: u64,
    ordered: bool,
    deleted: bool,
}

impl Enrolled {
    /// Notes how an account stands before it is changed.
    fn touch(&mut self, id: SubscriptionId, account: &Account) {
        self.before.entry(id).or_insert(Some(Listed {
            unlisted_since: account.unlisted_since,
            backlog_max: account.backlog_max,
            ordered: account.is_ordered(),
            deleted: account.deleted,
        }));
    }
}

impl Ledger {
    /// Makes `wanted` the listed subscriptions and starts an epoch: the same as [`Ledger::amend`] by all of them, and by the
    /// unlisting of the rest.
    pub(crate) fn enroll(&mut self, wanted: Vec<Enrolment>, now: u64) -> Enrolled {
        let named: HashSet<&str> = wanted.iter().map(|enrolment| enrolment.name.as_str()).collect();
        let rest = self.accounts().filter(|(_, a)| a.unlisted_since.is_none() && !named.contains(&*a.name));
        let rest: Vec<Amend> = rest.map(|(_, a)| Amend::Unlist(a.name.to_string())).collect();
        let changes: Vec<Amend> = wanted.into_iter().map(Amend::List).chain(rest).collect();
        self.amend(&changes, now)
    }

    /// Changes which subscriptions are listed by a few of them, and starts an epoch. Of several changes of a name the last one
    /// counts. One that comes from elsewhere than the known one of its name (the configuration, or what the outbox keeps) is
    /// another: that one is deleted then.
    pub(crate) fn amend(&mut self, changes: &[Amend], now: u64) -> Enrolled {
        let mut enrolled = Enrolled { epoch: self.epoch, before: BTreeMap::new(), changed: BTreeSet::new() };
        self.last_epoch += 1;
        self.epoch = self.last_epoch;
        let last: HashMap<&str, usize> = changes.iter().enumerate().map(|(at, change)| (change.name(), at)).collect();
        for (at, change) in changes.iter().enumerate() {
            match change {
                change if last.get(change.name()) != Some(&at) => {}
                Amend::List(enrolment) => self.list(enrolment, now, &mut enrolled),
                Amend::Unlist(name) => self.unlist(name, None, now, &mut enrolled),
            }
        }
        enrolled
    }

    /// The one that has a name: the listed one, else the newest that did not give it away.
    fn holder(&self, name: &str) -> Option<(SubscriptionId, &Account)> {
        let named = self.names.of(name).iter().filter_map(|id| Some((*id, self.accounts.get(id)?)));
        let holds = named.filter(|(_, account)| account.holds_its_name());
        holds.max_by_key(|(id, account)| (account.unlisted_since.is_none(), *id))
    }

    fn list(&mut self, enrolment: &Enrolment, now: u64, enrolled: &mut Enrolled) {
        let known = self.holder(&enrolment.name).map(|(id, account)| (id, account.kept));
        let id = match known {
            Some((id, kept)) if kept == enrolment.kept => id,
            known => {
                // Made by somebody else under the same name: what the one before was owed is not for it to see.
                if let Some((id, account)) = known.and_then(|(id, _)| Some((id, self.accounts.get_mut(&id)?))) {
                    enrolled.touch(id, account);
                    account.deleted = true;
                    enrolled.changed.insert(id);
                }
                let id = self.open(enrolment);
                enrolled.before.insert(id, None);
                enrolled.changed.insert(id);
                id
            }
        };
        self.unlist(&enrolment.name, Some(id), now, enrolled);
        let Some(account) = self.accounts.get_mut(&id) else { return };
        let written = account.unlisted_since.is_some() || account.deleted;
        if written || account.backlog_max != enrolment.backlog_max {
            enrolled.touch(id, account);
            enrolled.changed.insert(id);
            (account.unlisted_since, account.deleted) = (None, false);
            account.backlog_max = enrolment.backlog_max;
        }
        account.held.turn(account.takes(), now);
        if account.is_ordered() != enrolment.ordered {
            enrolled.touch(id, account);
            self.set_ordered(id, enrolment.ordered);
        }
    }

    /// Lists nobody of this name any more, but for one.
    fn unlist(&mut self, name: &str, but: Option<SubscriptionId>, now: u64, enrolled: &mut Enrolled) {
        for id in self.names.of(name).iter().filter(|id| but != Some(**id)) {
            let Some(account) = self.accounts.get_mut(id).filter(|a| a.unlisted_since.is_none()) else { continue };
            enrolled.touch(*id, account);
            enrolled.changed.insert(*id);
            account.unlisted_since = Some(now);
            account.held.turn(false, now);
        }
    }

    /// Takes an enrolment back: the epoch and the listed subscriptions are those before it again. One that it made keeps its
    /// number, unlisted; where it took a name over, the name goes back.
    pub(crate) fn take_back(&mut self, enrolled: &Enrolled, now: u64) {
        self.epoch = enrolled.epoch;
        // Those that it made have the highest numbers: they come when all others are as they were.
        for (id, was) in &enrolled.before {
            let took_over = was.is_none() && self.has_another_holder(*id);
            let Some(account) = self.accounts.get_mut(id) else { continue };
            match was {
                Some(was) => {
                    (account.unlisted_since, account.backlog_max) = (was.unlisted_since, was.backlog_max);
                    account.deleted = was.deleted;
                }
                None => account.unlisted_since = Some(now),
            }
            if took_over {
                // It may have been written as listed: it is known for as long as what says so may be read.
                (account.deleted, account.last_owed) = (true, u64::MAX);
            }
            account.held.turn(account.takes(), now);
            if let Some(was) = was {
                self.set_ordered(*id, was.ordered);
            }
        }
    }

    fn has_another_holder(&self, id: SubscriptionId) -> bool {
        let of_name = self.accounts.get(&id).map(|account| self.names.of(&account.name)).unwrap_or_default();
        let others = of_name.iter().filter(|other| **other != id).filter_map(|other| self.accounts.get(other));
        others.into_iter().any(Account::holds_its_name)
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
        let mut account = Account::new(enrolment.name.as_str(), enrolment.backlog_max);
        account.kept = enrolment.kept;
        self.names.add(&account.name, id);
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

    /// Of these changes, those that are listed or still owed something.
    pub(crate) fn roll_of(&self, changes: &[Amend], now: u64) -> Roll {
        let names: BTreeSet<&str> = changes.iter().map(Amend::name).collect();
        let ids: BTreeSet<SubscriptionId> = names.iter().flat_map(|name| self.names.of(name)).copied().collect();
        let shown = ids.iter().filter_map(|id| Some((*id, self.accounts.get(id).filter(|a| is_shown(a))?)));
        Roll { epoch: self.epoch, subscriptions: shown.map(|(id, account)| subscribed(id, account, now)).collect() }
    }

    /// The one of this name; the listed one, where an older one is still owed something.
    pub(crate) fn subscribed(&self, name: &str, now: u64) -> Option<Subscribed> {
        let named = self.names.of(name).iter().filter_map(|id| Some((*id, self.accounts.get(id)?)));
        let shown = named.filter(|(_, account)| is_shown(account));
        let (id, account) = shown.max_by_key(|(_, account)| account.unlisted_since.is_none())?;
        Some(subscribed(id, account, now))
    }
}

fn is_shown(account: &Account) -> bool {
    account.unlisted_since.is_none() || (account.owed() > 0 && !account.deleted)
}

fn subscribed(id: SubscriptionId, account: &Account, now: u64) -> Subscribed {
    Subscribed {
        id,
        name: account.name.to_string(),
        listed: account.unlisted_since.is_none(),
        standing: account.standing.clone(),
        owed: account.owed(),
        vitals: account.noted.tell(now),
    }
}
