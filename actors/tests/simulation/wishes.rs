//! What people want of single deliveries, and what must come of it: often while an attempt is in flight.

use crate::world::{Sabotage, World};
use posthaste_actors::scheduler::Input;
use posthaste_events::{DeliveryId, State, SubscriptionId};
use posthaste_outbox::{Answer, Settlement, Then, Wish};
use std::time::Duration;

impl World {
    /// Plans what people want.
    pub(crate) fn plan_wishes(&mut self) {
        for _ in 0..self.dice.between(0, 12) {
            let at = self.storm_until.mul_f64(posthaste_events::seams::Random::unit(&self.dice));
            let (first, both) = (self.dice.chance(0.5), self.dice.chance(0.5));
            let wish = if first { Wish::Cancel } else { Wish::Retry };
            let again = both.then(|| self.dice.millis(0, 5_000));
            self.at(at, None, move |world| {
                let Some(delivery) = world.some_delivery() else { return };
                world.wish(delivery, wish);
                if let Some(wait) = again {
                    world.at(wait, None, move |world| world.wish(delivery, Wish::Retry));
                }
            });
        }
    }

    /// One that is in flight, most often.
    fn some_delivery(&self) -> Option<DeliveryId> {
        let flying: Vec<_> = self.model.in_flight.keys().copied().collect();
        let all: Vec<_> = self.model.deliveries.keys().copied().collect();
        let among = if self.dice.chance(0.8) && !flying.is_empty() { flying } else { all };
        let last = among.len().checked_sub(1)?;
        among.get(self.dice.between(0, last as u64) as usize).copied()
    }

    pub(crate) fn wish(&mut self, delivery: DeliveryId, wish: Wish) {
        if let Some(wait) = self.away() {
            self.at(wait, None, move |world| world.wish(delivery, wish));
            return;
        }
        let answer = self.ask(self.store.outbox.ask(delivery, wish)).unwrap();
        self.model_wished(delivery, wish, answer);
        // As the registry does it.
        match (wish, answer) {
            (Wish::Retry, Answer::Done) => self.hurry(delivery.subscription),
            (Wish::Cancel, Answer::Done) if self.sabotage != Sabotage::IgnoreCancel => {
                self.tell_now(vec![Input::Withdraw(delivery)]);
            }
            _ => {}
        }
    }

    /// What a receiver asked to wait counts no more.
    pub(crate) fn hurry(&mut self, subscription: SubscriptionId) {
        self.model.slow_until.remove(&subscription);
        self.tell(vec![Input::Hurry(subscription)]);
    }

    fn model_wished(&mut self, id: DeliveryId, wish: Wish, answer: Answer) {
        let Some(known) = self.model.deliveries.get_mut(&id) else { return };
        let settled = known.state().is_settled();
        let expected = match (wish, known.state()) {
            (_, state @ State::Delivered) | (Wish::Cancel, state @ (State::Dead | State::Cancelled)) => {
                Answer::NotNow(state)
            }
            _ => Answer::Done,
        };
        if answer != expected {
            self.problems.push(format!("{wish:?} of {id} is answered {answer:?}, not {expected:?}"));
            return;
        }
        match (wish, answer) {
            (Wish::Cancel, Answer::Done) => {
                known.cancelled = true;
                self.model.unsettled -= 1;
            }
            (Wish::Retry, Answer::Done) => {
                (known.cancelled, known.end, known.hurried, known.asked) = (false, None, true, true);
                known.not_before = Duration::ZERO;
                self.model.unsettled += usize::from(settled);
            }
            _ => {}
        }
    }

    /// The store took an attempt, and what a person wanted meanwhile went before what should follow.
    pub(crate) fn model_kept(&mut self, settlement: &Settlement, state: State) {
        let id = settlement.delivery;
        self.seen.kept += 1;
        self.model.leases.remove(&settlement.lease);
        let Some(known) = self.model.deliveries.get_mut(&id) else { return };
        known.settled_at = self.now;
        known.applied.extend(settlement.attempt.as_ref().map(|a| (a.number, a.outcome)));
        let right = match state {
            State::Cancelled => known.cancelled && settlement.then != Then::Delivered,
            State::Pending => !known.cancelled && known.hurried && matches!(settlement.then, Then::Dead(_)),
            _ => false,
        };
        (known.hurried, known.not_before) = (false, Duration::ZERO);
        if !right {
            self.problems.push(format!("{id} is {state:?} after {:?}: {known:?}", settlement.then));
        }
    }
}
