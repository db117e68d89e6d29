//! How settlements, and cancellations of many, take effect in a ledger; the same for every store.
//!
//! What follows of each is for [`crate::steps`] to decide; where entries are kept is for the store.

use crate::ledger::Ledger;
use crate::steps::{self, Moment};
use crate::story::Entry;
use crate::{Settled, Settlement, Wish};
use posthaste_events::SubscriptionId;

/// A store's ledger, and where it keeps the entries that took effect there.
pub(crate) trait Keeps {
    fn ledger(&mut self) -> &mut Ledger;

    /// Keeps an entry about an event's delivery to a subscription, which took effect.
    fn keep(&mut self, about: (u64, SubscriptionId), entry: Entry);
}

/// Settles, one after the other. Adds to `due` who has something due again since a person asked for it, or since what was
/// settled had another of its key wait.
pub(crate) fn settle(
    keeps: &mut impl Keeps,
    settlements: Vec<Settlement>,
    at: Moment,
    due: &mut Vec<SubscriptionId>,
) -> Vec<Settled> {
    settlements.into_iter().map(|settlement| settle_one(keeps, settlement, at, due)).collect()
}

fn settle_one(keeps: &mut impl Keeps, settlement: Settlement, at: Moment, due: &mut Vec<SubscriptionId>) -> Settled {
    let (id, key) = (settlement.delivery, settlement.lease);
    let about = (id.event.sequence(), id.subscription);
    let lease = keeps.ledger().lease(key, at.now).filter(|l| (l.sequence, l.subscription) == about);
    let Some(lease) = lease.copied() else { return Settled::LeaseLost };
    let asked = steps::asked(&settlement.then);
    let answer = match steps::settle(&lease, settlement, at) {
        None => {
            keeps.ledger().release(key);
            Settled::Applied
        }
        Some(entry) => {
            let after = entry.after;
            keeps.ledger().apply(about.1, about.0, entry.progress(), entry.stand());
            keeps.keep(about, entry);
            steps::settled(asked, after)
        }
    };
    let waited = lease.wish == Some(Wish::Retry) || keeps.ledger().is_next_in_line(id.subscription, at.now);
    if waited && due.last() != Some(&id.subscription) {
        due.push(id.subscription);
    }
    answer
}

/// Cancels deliveries that are owed; a lease on one goes on.
pub(crate) fn cancel(keeps: &mut impl Keeps, owed: &[(SubscriptionId, u64)], reason: &str, at: Moment) {
    for (subscription, sequence) in owed.iter().copied() {
        let progress = keeps.ledger().look(subscription, sequence).map(|(_, p)| p).unwrap_or_default();
        if let Some(entry) = steps::cancelled(progress, reason, at) {
            keeps.ledger().apply_wish(subscription, sequence, entry.progress(), entry.stand());
            keeps.keep((sequence, subscription), entry);
        }
    }
}
