//! Takes back what was claimed and has not begun: a delivery that a person cancelled, the calls of a subscription that takes
//! none any more.
//!
//! It only ever gives leases back, so that one which is wanted all the same is claimed again. What has begun goes on.

use super::core::{Core, give_back};
use super::lane::Underway;
use posthaste_events::{DeliveryId, SubscriptionId};
use std::time::Duration;

impl Core {
    /// Lets no attempt at a delivery begin, but one that is asked for after this.
    pub(super) fn withdraw(&mut self, now: Duration, delivery: DeliveryId) {
        let id = delivery.subscription;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.claiming.is_some() {
            // It may have been given out before it was cancelled, and the answer be on its way.
            lane.withdrawn.insert(delivery);
        }
        let at = lane.ready.iter().position(|ready| ready.leased.delivery == delivery);
        if let Some(ready) = at.and_then(|at| lane.ready.remove(at)) {
            give_back(&mut self.window, &mut self.settlements, lane, &ready.leased, now);
            self.touch(id);
            return;
        }
        // The others of its call go back with it, and come again.
        let calls = self.calls.values_mut().filter(|call| call.subscription == id);
        calls.filter(|call| call.flying.iter().any(|f| f.delivery == delivery)).for_each(Underway::withdraw);
    }

    /// Gives back what waits for a call, and the calls that have not begun.
    pub(super) fn hold_back(&mut self, id: SubscriptionId, now: Duration) {
        self.release_ready(id, now);
        self.calls.values_mut().filter(|call| call.subscription == id).for_each(Underway::withdraw);
    }
}

impl Underway {
    /// Nothing is given back here: the call says that it ended, as every one does.
    fn withdraw(&mut self) {
        self.withdrawn |= self.start.take();
    }
}
