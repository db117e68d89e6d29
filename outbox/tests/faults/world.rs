//! A store over a simulated disk, what its callers know of it, and what they do with it.

use crate::seams::{Counted, ManualClock, attempt, event, keyed};
use posthaste_events::{AttemptOutcome, BoxFuture, DeliveryId, EventId, State, SubscriptionId};
use posthaste_outbox::disk::sim::SimDisk;
use posthaste_outbox::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub(crate) const ROUNDS: u64 = 20;
pub(crate) const NAMES: [&str; 2] = ["one", "two"];

/// A store, and what its callers know of it.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<Counted>,
    pub(crate) store: Option<(GenerationOutbox, Stepper)>,
    pub(crate) subscriptions: Vec<SubscriptionId>,
    pub(crate) epoch: Epoch,
    pub(crate) recorded: BTreeMap<EventId, Told>,
    /// The bodies of events that were refused: they may have been recorded all the same.
    pub(crate) refused: BTreeSet<String>,
    /// Deliveries that were ever reported so.
    pub(crate) delivered: BTreeSet<DeliveryId>,
    pub(crate) dead: BTreeSet<DeliveryId>,
    /// Reported as delivered since the store was opened; a crash may still forget it.
    pub(crate) perhaps: BTreeSet<DeliveryId>,
    /// Reported as delivered, and something recorded after it was acknowledged: these are never offered again.
    pub(crate) surely: BTreeSet<DeliveryId>,
    pub(crate) carried: u64,
    pub(crate) forgotten: u64,
}

/// What was acknowledged of an event.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) body: String,
    pub(crate) owed: Vec<SubscriptionId>,
    pub(crate) key: Option<u8>,
}

/// What went wrong, in words: a run over a lying disk must find something.
pub(crate) type Check<T = ()> = Result<T, String>;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            clock: Arc::default(),
            random: Arc::default(),
            store: None,
            subscriptions: Vec::new(),
            epoch: 0,
            recorded: BTreeMap::new(),
            refused: BTreeSet::new(),
            delivered: BTreeSet::new(),
            dead: BTreeSet::new(),
            perhaps: BTreeSet::new(),
            surely: BTreeSet::new(),
            carried: 0,
            forgotten: 0,
        }
    }

    /// Waits for an answer, doing the store's work; a call that nobody would ever answer fails the test.
    pub(crate) fn wait<T>(&mut self, ask: impl FnOnce(&GenerationOutbox) -> BoxFuture<T>) -> Check<T> {
        let (outbox, stepper) = self.store.clone().ok_or("there is no store")?;
        let mut future = ask(&outbox);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(answer) => return Ok(answer),
                Poll::Pending if stepper.step() => {}
                Poll::Pending => return Err("a call is never answered".into()),
            }
        }
    }

    fn pass(&self, millis: u64) {
        self.clock.forward(Duration::from_millis(millis));
    }

    /// Opens the store and lists the subscriptions, as a daemon does at its start; over faults, as often as it takes.
    pub(crate) fn start(&mut self) -> Check {
        for _ in 0..12 {
            self.power();
            if self.store.is_none() {
                self.perhaps.clear();
                let limits = Limits {
                    free_min: 0,
                    retention: Duration::from_secs(4),
                    generation: GenerationLimits { events_max: 5, rows_max: 20, ..GenerationLimits::default() },
                    ..Limits::default()
                };
                let (disk, random) = (Arc::new(self.disk.clone()), Arc::clone(&self.random));
                self.store = GenerationOutbox::open_by_hand(disk, Arc::clone(&self.clock) as _, random, limits).ok();
            }
            if self.store.is_some() {
                let wanted = NAMES
                    .map(|name| Enrolment { name: name.into(), backlog_max: 1000, ordered: false, kept: false })
                    .to_vec();
                if let Ok(roll) = self.wait(|o| o.enroll(wanted))? {
                    let ids: Vec<_> = NAMES
                        .iter()
                        .filter_map(|n| roll.subscriptions.iter().find(|s| s.name == *n))
                        .map(|s| s.id)
                        .collect();
                    if !self.subscriptions.is_empty() && self.subscriptions != ids {
                        return Err(format!("the subscriptions were {:?} and are {ids:?}", self.subscriptions));
                    }
                    (self.subscriptions, self.epoch) = (ids, roll.epoch);
                    return Ok(());
                }
            }
            self.pass(600);
        }
        Err("the store does not come back".into())
    }

    /// Brings the power back, where it went.
    fn power(&mut self) {
        if self.disk.is_off() {
            self.store = None;
            self.disk.crash();
        }
    }

    fn crash(&mut self) -> Check {
        self.store = None;
        self.disk.crash();
        self.start()
    }

    fn record(&mut self, told: Vec<Told>) -> Check<bool> {
        let events = told.iter().map(|t| {
            let event = event(&t.body, &t.owed);
            t.key.map_or(event.clone(), |key| keyed(event, key, key))
        });
        let (events, epoch) = (events.collect(), self.epoch);
        match self.wait(|o| o.record(events, epoch))? {
            Ok(answers) => {
                for (answer, told) in answers.into_iter().zip(told) {
                    if answer.duplicate && !self.refused.contains(&told.body) {
                        return Err(format!("{told:?} was never recorded and counts as a duplicate"));
                    }
                    self.recorded.insert(answer.id, told);
                }
                self.surely.append(&mut self.perhaps);
                Ok(true)
            }
            Err(_) => {
                self.refused.extend(told.into_iter().map(|t| t.body));
                Ok(false)
            }
        }
    }

    /// Leases what is due and checks that it is what was recorded.
    fn claim(&mut self, subscription: SubscriptionId, count: usize) -> Check<Option<Claimed>> {
        let want = Want { count, fresh_min: 0, bytes: usize::MAX, lease: Duration::from_secs(1) };
        let Ok(claimed) = self.wait(|o| o.claim(subscription, want))? else { return Ok(None) };
        for leased in &claimed.deliveries {
            let body = leased.payloads.notification().map(|b| String::from_utf8_lossy(b).into_owned());
            let right = match self.recorded.get(&leased.delivery.event) {
                Some(told) => body.as_ref() == Some(&told.body) && told.owed.contains(&subscription),
                None => body.as_ref().is_some_and(|body| self.refused.contains(body)),
            };
            if !right {
                return Err(format!("{:?} is offered with {body:?}", leased.delivery));
            }
            if self.surely.contains(&leased.delivery) {
                return Err(format!("{:?} was delivered, durably, and is offered again", leased.delivery));
            }
        }
        Ok(Some(claimed))
    }

    fn settle(&mut self, leased: &Leased, then: Then) -> Check {
        let outcome = if then == Then::Delivered { AttemptOutcome::Delivered } else { AttemptOutcome::Failed };
        let settlement = Settlement {
            lease: leased.lease,
            delivery: leased.delivery,
            attempt: Some(attempt(leased.attempt, outcome)),
            then: then.clone(),
        };
        if let Ok(answers) = self.wait(|o| o.settle(vec![settlement]))?
            && answers == [Settled::Applied]
        {
            match then {
                Then::Delivered => {
                    self.delivered.insert(leased.delivery);
                    self.perhaps.insert(leased.delivery);
                }
                Then::Dead(_) => drop(self.dead.insert(leased.delivery)),
                Then::RetryIn(_) | Then::Release => {}
            }
        }
        Ok(())
    }

    /// What an application, a scheduler and the upkeep do, round by round.
    pub(crate) fn live(&mut self) -> Check {
        self.start()?;
        for round in 0..ROUNDS {
            let told = (0..=round % 3).map(|n| Told {
                body: format!("{round}-{n}-{}", "x".repeat(if round % 5 == 4 { 9000 } else { 20 })),
                owed: self.subscriptions.iter().copied().skip((n % 2) as usize).collect(),
                key: (n == 1).then_some(round as u8),
            });
            let told = told.collect();
            self.record(told)?;
            for subscription in self.subscriptions.clone() {
                let claimed = self.claim(subscription, 5)?.unwrap_or_default();
                for (n, leased) in claimed.deliveries.iter().enumerate() {
                    let then = match (round + n as u64) % 5 {
                        // Now and then one that outlasts the retention, so that it must be carried forward.
                        3 if round % 2 == 0 => Then::RetryIn(Duration::from_secs(60)),
                        3 => Then::RetryIn(Duration::from_millis(700)),
                        4 => Then::Dead("rejected".into()),
                        _ => Then::Delivered,
                    };
                    self.settle(leased, then)?;
                }
            }
            if round % 3 == 2 {
                // A failed upkeep is tried again at the next call.
                if let Ok(swept) = self.wait(|o| o.sweep(Duration::from_secs(1)))? {
                    self.carried += swept.carried;
                    self.forgotten += swept.forgotten;
                }
            }
            self.pass(500);
            if self.disk.is_off() {
                self.start()?;
            }
        }
        Ok(())
    }

    /// Once the faults are over: the store takes events again, and after another crash everything is there.
    pub(crate) fn settle_up(&mut self) -> Check {
        self.disk.disarm();
        self.disk.set_capacity(None);
        self.power();
        if self.store.is_none() {
            self.start()?;
        }
        let mut taken = false;
        for n in 0..5 {
            let told = Told { body: format!("last-{n}"), owed: self.subscriptions.clone(), key: None };
            taken = self.record(vec![told])?;
            if taken {
                break;
            }
            self.pass(600);
        }
        if !taken {
            return Err("nothing is taken any more".into());
        }
        self.crash()?;
        self.drain()?;
        self.look()
    }

    /// Delivers everything that is owed.
    pub(crate) fn drain(&mut self) -> Check {
        for subscription in self.subscriptions.clone() {
            let mut calls = 0;
            loop {
                calls += 1;
                let claimed = self.claim(subscription, 10)?.ok_or("a claim fails without a fault")?;
                for leased in &claimed.deliveries {
                    self.settle(leased, Then::Delivered)?;
                }
                match claimed.next_due {
                    None if claimed.deliveries.is_empty() => break,
                    due => self.clock.forward(due.unwrap_or_default()),
                }
                if calls > 500 {
                    return Err("what is owed has no end".into());
                }
            }
        }
        Ok(())
    }

    /// Looks at every event that was acknowledged.
    pub(crate) fn look(&mut self) -> Check {
        for (id, told) in std::mem::take(&mut self.recorded) {
            let owed = told.owed.iter().map(|subscription| DeliveryId { event: id, subscription: *subscription });
            let view = self.wait(|o| o.event(id))?.map_err(|e| format!("{id} can not be looked at: {e}"))?;
            let Some(view) = view else {
                let lost: Vec<_> = owed.filter(|d| !self.delivered.contains(d) && !self.dead.contains(d)).collect();
                if lost.is_empty() {
                    continue;
                }
                return Err(format!("{lost:?} were acknowledged and are lost"));
            };
            if view.event.payloads.notification().is_none_or(|body| *body != told.body.as_bytes()) {
                return Err(format!("{id} has another payload"));
            }
            let states: BTreeMap<_, _> = view.deliveries.iter().map(|d| (d.row.id, d.row.state)).collect();
            for delivery in owed {
                let right = match states.get(&delivery) {
                    Some(State::Delivered) => self.delivered.contains(&delivery),
                    Some(State::Dead) => self.dead.contains(&delivery),
                    _ => false,
                };
                if !right {
                    return Err(format!("{delivery:?} is {:?}", states.get(&delivery)));
                }
            }
            if let Some(key) = told.key {
                let again = keyed(event(&told.body, &told.owed), key, key);
                let epoch = self.epoch;
                let answer = self.wait(|o| o.record(vec![again], epoch))?.map_err(|e| e.to_string())?;
                if answer[0].id != id || !answer[0].duplicate {
                    return Err(format!("the key of {id} is forgotten"));
                }
            }
        }
        Ok(())
    }
}
