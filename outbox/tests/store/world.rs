//! A store over a simulated disk, driven at random beside its model, through crashes and faults.

use crate::fixture::{Counted, ManualClock, event, failed, keyed};
use crate::model::{Event, History, Model, Stands};
use crate::stepped::Stepped;
use posthaste_events::{DeliveryId, EventId, Prepared, State, SubscriptionId};
use posthaste_outbox::disk::SimDisk;
use posthaste_outbox::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long settled events are kept here.
pub(crate) const RETENTION: Duration = Duration::from_secs(60);

/// How a store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Killed,
    PowerCut,
}

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    random: Arc<Counted>,
    pub(crate) outbox: Option<Arc<dyn Outbox>>,
    pub(crate) model: Model,
    pub(crate) dice: StdRng,
    pub(crate) subscriptions: Vec<SubscriptionId>,
    claimed: Vec<Leased>,
    /// How many deliveries replays made due.
    pub(crate) replayed: u64,
    /// Deliveries that a person asked for at some time.
    pub(crate) asked: BTreeSet<DeliveryId>,
    bodies: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            clock: Arc::new(ManualClock::default()),
            random: Arc::default(),
            outbox: None,
            model: Model::default(),
            dice: StdRng::seed_from_u64(seed),
            subscriptions: Vec::new(),
            claimed: Vec::new(),
            replayed: 0,
            asked: BTreeSet::new(),
            bodies: 0,
        }
    }

    pub(crate) fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::clone(self.outbox.as_ref().unwrap())
    }

    /// Opens the store; on an error the disk is as it is then, and it may be tried again.
    pub(crate) fn open(&mut self) -> Result<(), StoreError> {
        let generation = GenerationLimits { events_max: 6, rows_max: 25, ..GenerationLimits::default() };
        let limits = Limits { free_min: 0, retention: RETENTION, generation, ..Limits::default() };
        let (disk, clock, random) = (Arc::new(self.disk.clone()), Arc::clone(&self.clock), Arc::clone(&self.random));
        let (outbox, stepper) = GenerationOutbox::open_by_hand(disk, clock as _, random as _, limits)?;
        self.outbox = Some(Stepped::wrap(Arc::new(outbox), Some(stepper)));
        Ok(())
    }

    /// Lists three subscriptions; false where that failed.
    pub(crate) async fn enroll(&mut self) -> bool {
        let wanted = ["a", "b", "c"].map(|name| Enrolment {
            name: name.into(),
            backlog_max: 1_000_000,
            ordered: false,
            kept: false,
        });
        match self.outbox().enroll(wanted.to_vec()).await {
            Ok(roll) => {
                self.subscriptions = roll.subscriptions.iter().map(|s| s.id).collect();
                for id in &self.subscriptions {
                    self.model.standings.entry(*id).or_insert_with(|| History::new(Standing::Active));
                }
                self.model.durable();
                true
            }
            Err(_) => false,
        }
    }

    /// Has everything so far made durable; false where that failed.
    pub(crate) async fn write(&mut self) -> bool {
        let id = self.subscriptions[0];
        let standing = self.model.standings[&id].latest().clone();
        let written = self.outbox().set_standing(id, standing).await.is_ok();
        if written {
            self.model.durable();
        }
        written
    }

    /// Does something at random; false where the store failed at it.
    pub(crate) async fn act(&mut self) -> bool {
        match self.dice.random_range(0..100) {
            0..=34 => self.record().await,
            35..=54 => self.claim().await,
            55..=74 => self.settle().await,
            75..=80 => self.ask().await,
            81..=84 => self.set_standing().await,
            85..=86 => self.replay().await,
            87..=91 => {
                let by = Duration::from_millis(self.dice.random_range(1..8_000));
                self.clock.forward(by);
                true
            }
            92..=93 => self.cancel_owed().await,
            94..=95 => self.outbox().sweep(Duration::from_secs(1)).await.is_ok(),
            _ => self.repeat().await,
        }
    }

    async fn record(&mut self) -> bool {
        let count = self.dice.random_range(1..4);
        let mut events = Vec::new();
        for _ in 0..count {
            let owed: Vec<_> = self.subscriptions.iter().copied().filter(|_| self.dice.random_bool(0.6)).collect();
            self.bodies += 1;
            let length = if self.dice.random_bool(0.1) { 20_000 } else { 3 };
            let body = format!("{}{}", self.bodies, "x".repeat(length));
            let new_key = u8::try_from(self.bodies).ok().filter(|_| self.dice.random_bool(0.3));
            let prepared = event(&body, &owed);
            events.push(match new_key {
                Some(key) => keyed(prepared, key, key),
                None => prepared,
            });
        }
        let Ok(roll) = self.outbox().roll().await else { return false };
        match self.outbox().record(events.clone(), roll.epoch).await {
            Ok(answers) => {
                for (event, answer) in events.into_iter().zip(answers) {
                    assert!(!answer.duplicate);
                    self.acknowledged(event, answer.id);
                }
                self.model.durable();
                true
            }
            Err(_) => {
                self.model.doubtful.extend(events.into_iter().map(|e| (body_of(&e), e.owed)));
                false
            }
        }
    }

    fn acknowledged(&mut self, event: Prepared, id: EventId) {
        let body = body_of(&event);
        if let Some(idempotency) = event.idempotency {
            self.model.keys.insert(idempotency.key[0], id);
        }
        let before = self.model.events.insert(id, Event::new(body, &event.owed));
        assert!(before.is_none(), "an id was used twice: {id}");
    }

    /// Repeats an acknowledged key: the answer must be that of the first time.
    async fn repeat(&mut self) -> bool {
        let keys: Vec<_> = self.model.keys.iter().map(|(k, id)| (*k, *id)).collect();
        if keys.is_empty() {
            return true;
        }
        let (key, id) = keys[self.dice.random_range(0..keys.len())];
        let Ok(roll) = self.outbox().roll().await else { return false };
        let again = keyed(event("again", &self.subscriptions), key, key);
        match self.outbox().record(vec![again], roll.epoch).await {
            Ok(answers) => {
                assert!(answers[0].duplicate && answers[0].id == id, "key {key}: {answers:?} but {id}");
                self.model.durable();
                true
            }
            Err(_) => false,
        }
    }

    async fn claim(&mut self) -> bool {
        let subscription = self.subscriptions[self.dice.random_range(0..self.subscriptions.len())];
        let count = self.dice.random_range(1..6);
        let want = Want { count, fresh_min: 0, bytes: usize::MAX, lease: Duration::from_secs(30) };
        let Ok(claimed) = self.outbox().claim(subscription, want).await else { return false };
        for leased in claimed.deliveries {
            let latest = *self.model.delivery(leased.delivery.event, subscription).latest();
            assert_eq!(latest, Stands { state: State::Pending, attempts: leased.attempt - 1 }, "{leased:?}");
            let standing = self.model.standings[&subscription].latest();
            assert_eq!(*standing, Standing::Active, "claimed of one that takes nothing");
            self.claimed.push(leased);
        }
        true
    }

    async fn settle(&mut self) -> bool {
        let count = self.dice.random_range(0..=self.claimed.len().min(4));
        let chosen: Vec<Leased> = self.claimed.drain(..count).collect();
        let thens: Vec<Then> = chosen
            .iter()
            .map(|_| match self.dice.random_range(0..10) {
                0..=4 => Then::Delivered,
                5..=7 => Then::RetryIn(Duration::from_millis(self.dice.random_range(0..9_000))),
                8 => Then::Dead("no".into()),
                _ => Then::Release,
            })
            .collect();
        let settlement = |(leased, then): (&Leased, &Then)| Settlement {
            lease: leased.lease,
            delivery: leased.delivery,
            attempt: (*then != Then::Release).then(|| failed(leased.attempt)),
            then: then.clone(),
        };
        let settlements = chosen.iter().zip(&thens).map(settlement).collect();
        let Ok(answers) = self.outbox().settle(settlements).await else { return false };
        for ((leased, then), answer) in chosen.iter().zip(thens).zip(answers) {
            if answer == Settled::LeaseLost || then == Then::Release {
                continue;
            }
            let (id, asked) = (leased.delivery, self.asked.contains(&leased.delivery));
            let before = self.model.delivery(id.event, id.subscription).latest().state;
            assert!(matches!(before, State::Pending | State::Cancelled), "settled twice: {leased:?}");
            let state = match then {
                Then::Delivered => State::Delivered,
                _ if before == State::Cancelled => State::Cancelled,
                // Whoever asked for it while it was tried goes before its end, unless that was about an earlier attempt.
                Then::Dead(_) if asked => self.dead_or_pending(id).await,
                Then::Dead(_) => State::Dead,
                _ => State::Pending,
            };
            let history = self.model.delivery(id.event, id.subscription);
            history.push(Stands { state, attempts: leased.attempt });
        }
        true
    }

    async fn dead_or_pending(&self, id: DeliveryId) -> State {
        for _ in 0..10 {
            if let Ok(Some(view)) = self.outbox().delivery(id).await {
                let state = view.row.state.shown(true);
                assert!(matches!(state, State::Dead | State::Pending), "{state:?}");
                return state;
            }
        }
        // Nothing of it lasts then.
        assert!(self.disk.is_off(), "no answer about {id:?}");
        State::Dead
    }

    async fn ask(&mut self) -> bool {
        let all: Vec<_> =
            self.model.events.iter().flat_map(|(id, e)| e.deliveries.keys().map(move |s| (*id, *s))).collect();
        if all.is_empty() {
            return true;
        }
        let (event, subscription) = all[self.dice.random_range(0..all.len())];
        let wish = if self.dice.random_bool(0.6) { Wish::Retry } else { Wish::Cancel };
        let id = DeliveryId { event, subscription };
        if wish == Wish::Retry {
            self.asked.insert(id);
        }
        let answer = self.outbox().ask(id, wish).await;
        if matches!(answer, Ok(Answer::Unknown)) {
            // Past its retention: the next check says whether it may be.
            return true;
        }
        let history = self.model.delivery(event, subscription);
        let latest = *history.latest();
        let after = match wish {
            Wish::Retry => Stands { state: State::Pending, ..latest },
            Wish::Cancel => Stands { state: State::Cancelled, ..latest },
        };
        match answer {
            Ok(Answer::Done) => {
                assert_ne!(latest.state, State::Delivered);
                history.push(after);
                self.model.durable();
                true
            }
            Ok(Answer::NotNow(_)) => {
                assert!(latest.state == State::Delivered || (wish == Wish::Cancel && latest.state != State::Pending));
                true
            }
            Ok(Answer::Unknown) => true,
            Err(_) => {
                // It may have been done, here and after a crash.
                self.resolve(event, subscription, after).await;
                false
            }
        }
    }

    /// Cancels all that a subscription is owed.
    async fn cancel_owed(&mut self) -> bool {
        let id = self.subscriptions[self.dice.random_range(0..self.subscriptions.len())];
        let owed: Vec<EventId> = self.model.owed().into_iter().filter(|(_, s)| *s == id).map(|(e, _)| e).collect();
        let answer = self.outbox().cancel_owed(id, "off".into()).await;
        for event in &owed {
            let history = self.model.delivery(*event, id);
            let after = Stands { state: State::Cancelled, ..*history.latest() };
            match answer {
                Ok(_) => history.push(after),
                Err(_) => self.resolve(*event, id, after).await,
            }
        }
        let Ok(cancelled) = answer else { return false };
        assert_eq!(cancelled, Cancelled { count: owed.len() as u64, more: false });
        self.model.durable();
        true
    }

    /// Finds out whether a wish whose answer was an error was done all the same.
    pub(crate) async fn resolve(&mut self, event: EventId, subscription: SubscriptionId, after: Stands) {
        self.model.delivery(event, subscription).push(after);
        let id = DeliveryId { event, subscription };
        for _ in 0..10 {
            if let Ok(Some(view)) = self.outbox().delivery(id).await {
                let found = Stands { state: view.row.state.shown(true), attempts: view.row.attempt_count };
                if found != after {
                    self.model.delivery(event, subscription).push(found);
                }
                return;
            }
        }
    }

    async fn set_standing(&mut self) -> bool {
        let id = self.subscriptions[self.dice.random_range(0..self.subscriptions.len())];
        let standing = match self.dice.random_range(0..5) {
            0 => Standing::Paused,
            1 => Standing::Disabled("410".into()),
            _ => Standing::Active,
        };
        let history = self.model.standings.get_mut(&id).unwrap();
        let before = history.latest().clone();
        history.push(standing.clone());
        let done = self.outbox().set_standing(id, standing).await.is_ok();
        if done {
            self.model.durable();
        } else {
            self.model.standings.get_mut(&id).unwrap().push(before);
        }
        done
    }

    /// Ends the store in some way and opens it again, as often as that takes.
    pub(crate) async fn end(&mut self, end: End) {
        let closed = end == End::Closed && self.outbox().close().await.is_ok();
        if closed {
            self.model.durable();
        }
        self.outbox = None;
        self.claimed.clear();
        match end {
            End::PowerCut => self.disk.crash(),
            End::Closed | End::Killed => self.disk.kill(),
        }
        self.open().unwrap();
        self.check(!closed).await;
    }

    /// Every event with its deliveries, page by page.
    async fn shown(&self) -> Vec<EventView> {
        let mut query = EventQuery {
            event_type: None,
            tenant: None,
            since: None,
            until: None,
            after: None,
            limit: 7,
            work_max: 1_000,
        };
        let mut shown = Vec::new();
        loop {
            let page = self.outbox().events(query.clone()).await.unwrap();
            for row in page.rows {
                shown.push(self.outbox().event(row.id).await.unwrap().unwrap());
            }
            query.after = page.next;
            if query.after.is_none() {
                return shown;
            }
        }
    }

    /// Holds everything that the store shows against the model.
    pub(crate) async fn check(&mut self, crashed: bool) {
        let oldest_kept = self.now().saturating_sub(u64::try_from(RETENTION.as_millis()).unwrap());
        let shown = self.shown().await;
        self.model.check(&shown, crashed, oldest_kept);
        let roll = self.outbox().roll().await.unwrap();
        let standings: Vec<_> = roll.subscriptions.iter().map(|s| (s.id, s.standing.clone())).collect();
        self.model.check_standings(&standings, crashed);
        let owed: u64 = roll.subscriptions.iter().map(|s| s.owed).sum();
        assert_eq!(owed, self.model.owed().len() as u64, "how much is owed");
    }

    pub(crate) fn now(&self) -> u64 {
        use posthaste_events::seams::Clock as _;
        u64::try_from(self.clock.wall().millis()).unwrap()
    }

    /// Everything that is owed can be claimed, once each, and settled.
    pub(crate) async fn drain(&mut self) {
        for id in self.subscriptions.clone() {
            self.outbox().set_standing(id, Standing::Active).await.unwrap();
        }
        self.clock.forward(Duration::from_secs(3_600));
        let mut given: BTreeMap<(EventId, SubscriptionId), u32> = BTreeMap::new();
        for id in self.subscriptions.clone() {
            loop {
                let want = Want { count: 5, fresh_min: 0, bytes: usize::MAX, lease: Duration::from_secs(3_600) };
                let claimed = self.outbox().claim(id, want).await.unwrap();
                if claimed.deliveries.is_empty() {
                    break;
                }
                for leased in claimed.deliveries {
                    let body = self.model.events[&leased.delivery.event].body.clone();
                    assert_eq!(leased.payloads.notification().unwrap(), &body);
                    *given.entry((leased.delivery.event, id)).or_default() += 1;
                }
            }
        }
        assert!(given.values().all(|times| *times == 1), "{given:?}");
        assert_eq!(given.into_keys().collect::<BTreeSet<_>>(), self.model.owed());
    }
}

fn body_of(event: &Prepared) -> String {
    String::from_utf8(event.payloads.notification().unwrap().to_vec()).unwrap()
}
