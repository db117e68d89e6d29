//! What happens when the outbox does not keep up: callers are told, and nothing grows.

use super::House;
use super::house::{clock, healthy, memory, settings, to};
use crate::messages::{RecordBatch, Reload};
use posthaste_events::{BoxFuture, DeliveryId, Draft, EventId, EventType, Prepared, SubscriptionId, Timestamp};
use posthaste_outbox::query::{DeliveryQuery, DeliveryRow, DeliveryView, EventQuery, EventRow, EventView, Page};
use posthaste_outbox::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// An outbox that takes no event until it is let go, and counts how many wait.
pub(super) struct Stuck {
    pub(super) inner: MemoryOutbox,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) go: Arc<tokio::sync::Notify>,
    /// Whether enrolments fail.
    pub(super) full: Arc<AtomicBool>,
    /// How many calls more are told that their epoch is over.
    pub(super) stale: AtomicUsize,
}

impl Outbox for Stuck {
    fn record(&self, events: Vec<Prepared>, epoch: Epoch) -> BoxFuture<Result<Vec<Recorded>, RecordError>> {
        let is_stale = |left: usize| left.checked_sub(1);
        if self.stale.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_stale).is_ok() {
            return Box::pin(async { Err(RecordError::StaleEpoch) });
        }
        let (inner, go, waiting) = (self.inner.clone(), Arc::clone(&self.go), Arc::clone(&self.waiting));
        waiting.fetch_add(events.len(), Ordering::Relaxed);
        Box::pin(async move {
            go.notified().await;
            waiting.fetch_sub(events.len(), Ordering::Relaxed);
            inner.record(events, epoch).await
        })
    }

    fn enroll(&self, wanted: Vec<Enrolment>) -> BoxFuture<Result<Roll, StoreError>> {
        match self.full.load(Ordering::Relaxed) {
            true => Box::pin(async { Err(StoreError::Failed("the disk is full".to_owned())) }),
            false => self.inner.enroll(wanted),
        }
    }

    fn amend(&self, changes: Vec<Amend>) -> BoxFuture<Result<Roll, StoreError>> {
        match self.full.load(Ordering::Relaxed) {
            true => Box::pin(async { Err(StoreError::Failed("the disk is full".to_owned())) }),
            false => self.inner.amend(changes),
        }
    }

    fn claim(&self, subscription: SubscriptionId, want: Want) -> BoxFuture<Result<Claimed, StoreError>> {
        self.inner.claim(subscription, want)
    }

    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.inner.settle(settlements)
    }

    fn renew(&self, leases: Vec<LeaseId>, lease: Duration) -> BoxFuture<Result<Vec<bool>, StoreError>> {
        self.inner.renew(leases, lease)
    }

    fn ask(&self, delivery: DeliveryId, wish: Wish) -> BoxFuture<Result<Answer, StoreError>> {
        self.inner.ask(delivery, wish)
    }

    fn cancel_owed(&self, s: SubscriptionId, reason: String) -> BoxFuture<Result<Cancelled, StoreError>> {
        self.inner.cancel_owed(s, reason)
    }

    fn set_standing(&self, s: SubscriptionId, standing: Standing) -> BoxFuture<Result<Option<Standing>, StoreError>> {
        self.inner.set_standing(s, standing)
    }

    fn note(&self, vitals: Vec<(SubscriptionId, Vitals)>) -> BoxFuture<Result<(), StoreError>> {
        self.inner.note(vitals)
    }

    fn define(&self, changes: Vec<Define>) -> BoxFuture<Result<(), StoreError>> {
        self.inner.define(changes)
    }

    fn definitions(&self) -> BoxFuture<Result<Vec<Definition>, StoreError>> {
        self.inner.definitions()
    }

    fn order_replay(&self, order: ReplayOrder) -> BoxFuture<Result<Replay, StoreError>> {
        self.inner.order_replay(order)
    }

    fn replays(&self) -> BoxFuture<Result<Vec<Replay>, StoreError>> {
        self.inner.replays()
    }

    fn replay_page(&self, id: ReplayId, count: usize) -> BoxFuture<Result<Option<ReplayPage>, StoreError>> {
        self.inner.replay_page(id, count)
    }

    fn replay_step(&self, id: ReplayId, page: ReplayPage) -> BoxFuture<Result<Option<Replay>, StoreError>> {
        self.inner.replay_step(id, page)
    }

    fn cancel_replay(&self, id: ReplayId) -> BoxFuture<Result<Option<Replay>, StoreError>> {
        self.inner.cancel_replay(id)
    }

    fn roll(&self) -> BoxFuture<Result<Roll, StoreError>> {
        self.inner.roll()
    }

    fn owing(&self) -> BoxFuture<Result<Vec<Owing>, StoreError>> {
        self.inner.owing()
    }

    fn events(&self, query: EventQuery) -> BoxFuture<Result<Page<EventRow, EventId>, StoreError>> {
        self.inner.events(query)
    }

    fn deliveries(&self, query: DeliveryQuery) -> BoxFuture<Result<Page<DeliveryRow, DeliveryId>, StoreError>> {
        self.inner.deliveries(query)
    }

    fn event(&self, id: EventId) -> BoxFuture<Result<Option<EventView>, StoreError>> {
        self.inner.event(id)
    }

    fn delivery(&self, id: DeliveryId) -> BoxFuture<Result<Option<DeliveryView>, StoreError>> {
        self.inner.delivery(id)
    }

    fn sweep(&self, budget: Duration) -> BoxFuture<Result<Swept, StoreError>> {
        self.inner.sweep(budget)
    }

    fn on_due(&self, tell: Box<Tell>) {
        self.inner.on_due(tell);
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn close(&self) -> BoxFuture<Result<(), StoreError>> {
        self.inner.close()
    }
}

#[actix::test]
async fn callers_beyond_the_bound_are_told_to_come_back_and_what_waits_stays_bounded() {
    let clock = clock();
    let (waiting, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
    let (inner, full, stale) = (memory(&clock), Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
    let outbox = Arc::new(Stuck { inner, waiting: Arc::clone(&waiting), go: Arc::clone(&go), full, stale });
    let mut house = House::on(vec![healthy("a")], outbox, clock, true).await;
    let snapshot = house.engine.snapshot.current();
    let event = snapshot.prepare(Draft::new(EventType::parse("a").unwrap()), Timestamp::from_millis(0)).unwrap();
    let batch = || RecordBatch { events: vec![event.clone(); 100], epoch: snapshot.epoch };
    let mut sent: Vec<_> = (0..300).map(|_| tokio::spawn(house.engine.registry.send(batch()))).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let taken = waiting.load(Ordering::Relaxed);
    assert!((10_000..=16_384).contains(&taken), "{taken} wait");

    let mut refused = 0;
    for answer in sent.extract_if(.., |task| task.is_finished()) {
        let answer = answer.await.unwrap().unwrap();
        assert!(
            matches!(answer, Err(RecordError::Full { retry_after, .. }) if retry_after > Duration::ZERO),
            "{answer:?}"
        );
        refused += 100;
    }
    assert_eq!(refused + taken, 30_000, "each was taken or told at once");

    // Once the outbox goes on so does everything that was taken, and there is room again.
    for answer in sent {
        go.notify_one();
        assert_eq!(answer.await.unwrap().unwrap().unwrap().len(), 100);
        assert_eq!(house.attempts(100).await.len(), 100);
    }
    go.notify_one();
    assert!(house.engine.registry.send(batch()).await.unwrap().is_ok());
}

/// What comes of an event whose epoch is found to be over so often, while a subscription changes ten times a second.
async fn recorded_while_all_changes(stale: usize) -> Result<Vec<Recorded>, RecordError> {
    let clock = clock();
    let go = Arc::new(tokio::sync::Notify::new());
    go.notify_one();
    let outbox = Stuck {
        inner: memory(&clock),
        waiting: Arc::default(),
        go,
        full: Arc::default(),
        stale: AtomicUsize::new(stale),
    };
    let house = House::on(vec![healthy("a")], Arc::new(outbox), clock, true).await;
    let snapshot = house.engine.snapshot.current();
    let event = snapshot.prepare(Draft::new(EventType::parse("a").unwrap()), Timestamp::from_millis(0)).unwrap();
    let batch = RecordBatch { events: vec![event], epoch: snapshot.epoch };
    let recording = tokio::spawn(house.engine.registry.send(batch));
    for n in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let changed = settings(vec![to(healthy("a"), if n % 2 == 0 { "a" } else { "**" })]);
        house.engine.registry.send(Reload(changed)).await.unwrap().unwrap();
    }
    recording.await.unwrap().unwrap()
}

#[actix::test]
async fn who_changes_subscriptions_in_a_loop_keeps_nobody_from_recording() {
    assert_eq!(recorded_while_all_changes(30).await.unwrap().len(), 1);
}

#[actix::test]
async fn after_seconds_of_changes_the_caller_is_told_to_come_back() {
    let answer = recorded_while_all_changes(usize::MAX).await;
    assert!(matches!(answer, Err(RecordError::Full { .. })), "{answer:?}");
}

#[actix::test]
async fn a_change_that_matches_nothing_else_begins_no_epoch() {
    let house = House::with(vec![to(healthy("a"), "shop:**")]).await;
    let epoch = house.engine.snapshot.current().epoch;
    let reload = async |changed| house.engine.registry.send(Reload(settings(vec![changed]))).await.unwrap().unwrap();
    let mut changed = to(healthy("a"), "shop:**");
    (changed.mark, changed.concurrency) = (7, 1);
    reload(changed).await;
    assert_eq!(house.engine.snapshot.current().epoch, epoch);
    reload(to(healthy("a"), "other:**")).await;
    assert!(house.engine.snapshot.current().epoch > epoch);
}
