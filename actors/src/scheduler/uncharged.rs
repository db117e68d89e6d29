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
pub(super) struct Uncharged(BTreeMap<DeliveryId, u32>);

impl Uncharged {
    /// How many attempts of a delivery are not charged; 0 where nothing is remembered.
    pub(super) fn of(&self, delivery: DeliveryId) -> u32 {
        self.0.get(&delivery).copied().unwrap_or(0)
    }

    /// One more attempt of a delivery is not charged.
    pub(super) fn add(&mut self, delivery: DeliveryId) {
        let count = self.0.entry(delivery).or_insert(0);
        *count = count.saturating_add(1);
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
            uncharged.add(delivery(n));
        }
        let newest = delivery(UNCHARGED_MAX as u64);
        uncharged.add(newest);
        assert_eq!((uncharged.of(newest), uncharged.of(delivery(1)), uncharged.of(delivery(0))), (2, 1, 0));
        assert_eq!(uncharged.0.len(), UNCHARGED_MAX);
        uncharged.forget(newest);
        assert_eq!(uncharged.of(newest), 0);
    }
}
