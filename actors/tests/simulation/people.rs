//! What people and accidents do while the storm lasts: events, pauses, reloads, crashes, stalls.

use crate::world::World;
use bytes::Bytes;
use posthaste_actors::scheduler::{Core, Input};
use posthaste_events::{EventType, Facts, Origin, Payloads, Prepared, SubscriptionId};
use posthaste_outbox::{Enrolment, Roll, Standing};
use std::sync::Arc;
use std::time::Duration;

impl World {
    /// Plans a life.
    pub(crate) fn plan(&mut self) {
        let storm = self.storm_until;
        let within = |world: &World| storm.mul_f64(posthaste_events::seams::Random::unit(&world.dice));
        for _ in 0..self.dice.between(3, 25) {
            let (at, count) = (within(self), self.dice.between(1, 12));
            self.at(at, None, move |world| world.record(count));
        }
        let ids: Vec<_> = self.lanes.keys().copied().collect();
        for id in ids {
            for _ in 0..self.dice.between(0, 2) {
                let (at, pause) = (within(self), self.dice.millis(100, 20_000));
                self.at(at, None, move |world| world.pause(id, pause));
            }
            if self.dice.chance(0.15) {
                let (at, pause) = (within(self), self.dice.millis(100, 20_000));
                self.at(at, None, move |world| world.unlist(id, pause));
            }
        }
        self.plan_wishes();
        for _ in 0..self.dice.between(0, 3) {
            let at = within(self);
            self.at(at, None, World::crash);
        }
        if self.dice.chance(0.2) {
            let (at, stall) = (within(self), self.dice.millis(1_000, 90_000));
            self.at(at, None, move |world| world.stalled_until = world.now + stall);
        }
        self.at(storm, None, |world| {
            for id in world.lanes.keys().copied().collect::<Vec<_>>() {
                world.list(id, true);
                world.resume(id);
            }
        });
    }

    fn record(&mut self, count: u64) {
        if let Some(wait) = self.away() {
            self.at(wait, None, move |world| world.record(count));
            return;
        }
        let mut owed = Vec::new();
        for _ in 0..count {
            let listed = self.lanes.iter().filter(|(_, lane)| lane.listed && self.dice.chance(0.6));
            owed.push(listed.map(|(id, _)| *id).collect());
        }
        self.record_for(owed);
    }

    /// Records an event for each of these.
    pub(crate) fn record_for(&mut self, owed: Vec<Vec<SubscriptionId>>) {
        let events: Vec<_> = owed
            .iter()
            .map(|owed| {
                // In a calm world nobody's share of the window is taken.
                let size = if !self.calm && self.dice.chance(0.05) { 200_000 } else { self.dice.between(10, 2_000) };
                let facts = Facts {
                    event_type: EventType::parse("sim:happened").unwrap(),
                    key: self.orders.key(),
                    tenant: None,
                    origin: if self.dice.chance(0.1) { Origin::Daemon } else { Origin::Record },
                    occurred_at: None,
                    recorded_at: posthaste_events::seams::Clock::wall(&*self.clock),
                };
                let payloads = Payloads::restored(Some(Bytes::from(vec![b'x'; size as usize])), None);
                Prepared {
                    facts: Arc::new(facts),
                    idempotency: None,
                    payloads,
                    owed: owed.clone(),
                    quarantined: None,
                    unnotified: None,
                }
            })
            .collect();
        let recorded = self.ask(self.store.outbox.record(events, self.epoch)).unwrap();
        self.orders.recorded(&recorded);
        for (recorded, owed) in recorded.iter().zip(owed) {
            self.model_recorded(recorded.id, &owed);
        }
    }

    pub(crate) fn pause(&mut self, id: SubscriptionId, pause: Duration) {
        if let Some(wait) = self.away() {
            // Whoever asks waits for the answer, and gets it in turn.
            self.at(wait, None, move |world| world.pause(id, pause));
            return;
        }
        // As the registry does it: first nothing begins any more, then it is written down.
        if self.sabotage != crate::world::Sabotage::IgnorePause {
            self.tell_now(vec![Input::Standing { subscription: id, active: false }]);
        }
        self.ask(self.store.outbox.set_standing(id, Standing::Paused)).unwrap();
        self.lane(id).standing = Standing::Paused;
        self.at(pause, None, move |world| world.resume(id));
    }

    pub(crate) fn resume(&mut self, id: SubscriptionId) {
        if let Some(wait) = self.away() {
            self.at(wait, None, move |world| world.resume(id));
            return;
        }
        self.ask(self.store.outbox.set_standing(id, Standing::Active)).unwrap();
        self.lane(id).standing = Standing::Active;
        // Sometimes nobody tells the scheduler, which must find out by itself.
        if self.dice.chance(0.85) {
            self.tell(vec![Input::Standing { subscription: id, active: true }]);
            self.hurry(id);
        }
    }

    fn unlist(&mut self, id: SubscriptionId, pause: Duration) {
        if let Some(wait) = self.away() {
            self.at(wait, None, move |world| world.unlist(id, pause));
            return;
        }
        self.list(id, false);
        self.at(pause, None, move |world| world.list(id, true));
    }

    fn list(&mut self, id: SubscriptionId, listed: bool) {
        if let Some(wait) = self.away() {
            self.at(wait, None, move |world| world.list(id, listed));
            return;
        }
        self.lane(id).listed = listed;
        // With a subscription that goes, what its receiver asked for is forgotten.
        self.model_unlisted(id);
        self.enroll();
        let terms: Vec<_> = self.roster().into_iter().filter(|terms| terms.id == id).collect();
        let gone = if listed { Vec::new() } else { vec![id] };
        self.tell_now(vec![Input::Amended { terms, gone }]);
    }

    pub(crate) fn enroll(&mut self) -> Roll {
        let wanted = self.lanes.values().filter(|lane| lane.listed);
        let wanted = wanted
            .map(|lane| Enrolment {
                name: lane.name.to_string(),
                backlog_max: 1_000_000,
                ordered: self.orders.kept,
                kept: false,
            })
            .collect();
        let roll = self.ask(self.store.outbox.enroll(wanted)).unwrap();
        self.epoch = roll.epoch;
        roll
    }

    /// The process dies; its calls go on at the receivers, and nobody hears of them.
    pub(crate) fn crash(&mut self) {
        if !self.running {
            return;
        }
        self.generation += 1;
        self.core = Core::default();
        self.wake_at = None;
        self.stalled_until = Duration::ZERO;
        self.crashes += 1;
        let power = self.dice.chance(0.7);
        self.store.crash(power);
        self.model_crashed();
        let generation = Some(self.generation);
        let down = self.dice.millis(50, 3_000);
        self.running = false;
        self.at(down, generation, |world| {
            world.running = true;
            let roll = world.enroll();
            let mut roster = world.roster();
            for terms in &mut roster {
                terms.waits = roll.subscriptions.iter().any(|s| s.id == terms.id && s.owed > 0);
            }
            world.tell_now(vec![Input::Roster(roster)]);
        });
    }
}
