//! How many attempts of which delivery are not charged to its receiver.
//!
//! A memory with a bound: nobody says when a delivery was cancelled that is not in flight, so that entries may stay
//! behind. One more than fits pushes out the one of the oldest event; attempts of that one are all charged then.

use posthaste_events::DeliveryId;
use std::collections::BTreeMap;

/// For how many deliveries it is remembered.
const UNCHARGED_MAX: usize = 65_536;

/// Attempts that our own side kept from being made, by delivery.
#[derive(Debug, Default)]
pub(super) struct Uncharged(BTreeMap<DeliveryId, Noted>);

#[derive(Debug, Default)]
struct Noted {
    count: u32,
    /// The number of the last of them.
    last: u32,
}

impl Uncharged {
    /// How many attempts of a delivery before this one are not charged; 0 where nothing is remembered.
    pub(super) fn before(&self, delivery: DeliveryId, attempt: u32) -> u32 {
        // One that was noted under the same number was lost with its lease: the outbox knows nothing of it.
        self.0.get(&delivery).map_or(0, |noted| noted.count - u32::from(noted.last >= attempt))
    }

    /// This attempt of a delivery is not charged.
    pub(super) fn add(&mut self, delivery: DeliveryId, attempt: u32) {
        let count = self.before(delivery, attempt).saturating_add(1);
        self.0.insert(delivery, Noted { count, last: attempt });
        if self.0.len() > UNCHARGED_MAX {
            // Ids of deliveries begin with the time of their event.
            self.0.pop_first();
        }
    }

    /// A delivery is tried no more.
    pub(super) fn forget(&mut self, delivery: DeliveryId) {
        self.0.remove(&delivery);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_events::{EventId, SubscriptionId};

    fn delivery(millis: u64) -> DeliveryId {
        DeliveryId { event: EventId::new(millis, millis, 0), subscription: SubscriptionId(1) }
    }

    #[test]
    fn what_stayed_behind_makes_room_for_what_is_new() {
        let mut uncharged = Uncharged::default();
        for n in 0..=UNCHARGED_MAX as u64 {
            uncharged.add(delivery(n), 1);
        }
        let newest = delivery(UNCHARGED_MAX as u64);
        uncharged.add(newest, 2);
        assert_eq!(
            (uncharged.before(newest, 3), uncharged.before(delivery(1), 3), uncharged.before(delivery(0), 3)),
            (2, 1, 0)
        );
        assert_eq!(uncharged.0.len(), UNCHARGED_MAX);
        uncharged.forget(newest);
        assert_eq!(uncharged.before(newest, 3), 0);
    }

    #[test]
    fn an_attempt_that_was_lost_with_its_lease_counts_once() {
        let mut uncharged = Uncharged::default();
        uncharged.add(delivery(1), 1);
        uncharged.add(delivery(1), 2);
        assert_eq!(uncharged.before(delivery(1), 2), 1, "the second was lost, and is made again");
        uncharged.add(delivery(1), 2);
        assert_eq!(uncharged.before(delivery(1), 3), 2);
    }
}
