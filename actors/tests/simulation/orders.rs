//! Lives in which every event is of some entity: the store gives the core no delivery while an older one of its entity is
//! owed, and no two of one entity at a time, whatever people and accidents do; and all of it is settled in the end.

use crate::model;
use crate::seams::Dice;
use crate::world::{Sabotage, World};
use posthaste_events::{DeliveryId, EventId, State};
use posthaste_outbox::{Claimed, LeaseId, Recorded};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Which events are of one entity.
#[derive(Default)]
pub(crate) struct Orders {
    /// How many entities there are; 0: events are of none.
    entities: u64,
    /// Whether subscriptions ask for order by key.
    pub(crate) kept: bool,
    dice: Option<Dice>,
    /// The entities of the events that are about to be recorded.
    coming: RefCell<Vec<u64>>,
    of: BTreeMap<EventId, u64>,
    out: BTreeMap<LeaseId, DeliveryId>,
    /// Deliveries that were given out while a younger one of their entity waited.
    pub(crate) waited_for: u64,
}

impl Orders {
    fn of(seed: u64, kept: bool) -> Self {
        let dice = Dice::new(seed ^ 5);
        Self { entities: dice.between(1, 6), kept, dice: Some(dice), ..Self::default() }
    }

    /// The key of the next event.
    pub(crate) fn key(&self) -> Option<String> {
        let entity = self.dice.as_ref()?.between(1, self.entities);
        self.coming.borrow_mut().push(entity);
        Some(format!("entity-{entity}"))
    }

    /// The events that keys were asked for got these ids.
    pub(crate) fn recorded(&mut self, recorded: &[Recorded]) {
        let coming = std::mem::take(&mut *self.coming.borrow_mut());
        self.of.extend(recorded.iter().map(|recorded| recorded.id).zip(coming));
    }
}

impl World {
    /// Holds what a claim gave against everything that is known of it.
    pub(crate) fn judge_order(&mut self, claimed: &Claimed) {
        if self.orders.entities == 0 {
            return;
        }
        for leased in &claimed.deliveries {
            let (id, entity) = (leased.delivery, self.orders.of[&leased.delivery.event]);
            let alike = |other: &DeliveryId| {
                *other != id && other.subscription == id.subscription && self.orders.of[&other.event] == entity
            };
            let held = |lease: &LeaseId| self.model.leases.get(lease).is_some_and(|until| self.now < *until);
            if let Some((_, other)) = self.orders.out.iter().find(|(lease, other)| held(lease) && alike(other)) {
                self.problems.push(format!("{id} is given out while {other} of its entity is"));
            }
            let owed =
                self.model.deliveries.iter().filter(|(other, known)| alike(other) && known.state() == State::Pending);
            let (older, younger): (Vec<_>, Vec<_>) = owed.map(|(other, _)| *other).partition(|other| *other < id);
            if let Some(older) = older.first() {
                self.problems.push(format!("{id} is given out before {older} of its entity"));
            }
            self.orders.waited_for += u64::from(!younger.is_empty());
            self.orders.out.insert(leased.lease, id);
        }
    }
}

/// A life in which deliveries go by key, or as they come though somebody judges them by it.
fn live(seed: u64, kept: bool) -> (Vec<String>, u64) {
    let mut world = World::with_orders(seed, Sabotage::None, Orders::of(seed, kept));
    world.run();
    let mut problems = world.problems.clone();
    problems.extend(model::judge(&mut world));
    (problems, world.orders.waited_for)
}

#[test]
fn in_three_hundred_lives_no_delivery_overtakes_an_older_one_of_its_key() {
    let mut waited_for = 0;
    for seed in 0..300 {
        let (problems, waited) = live(seed, true);
        assert!(problems.is_empty(), "seed {seed}: {:?}", &problems[..problems.len().min(5)]);
        waited_for += waited;
    }
    assert!(waited_for > 1_000, "{waited_for} is too little to see anything by");
}

#[test]
fn deliveries_that_go_as_they_come_are_caught() {
    let caught = (0..30).filter(|seed| !live(*seed, false).0.is_empty()).count();
    assert!(caught >= 20, "{caught}");
}
