//! What the tests of this crate run: an engine on the current thread, its clock, its receivers.

use crate::engine::{Config, Engine, launch};
use crate::messages::{
    InspectDelivery, InspectSubscriptions, Pause, RecordBatch, Resume, SubscriptionView, Watch, Watched,
};
use crate::settings::{Settings, Source, Subscription};
use posthaste_events::catalogue::declare::Declarations;
use posthaste_events::catalogue::{Catalogue, Undeclared};
use posthaste_events::matching::Selector;
use posthaste_events::outcome::Detail;
use posthaste_events::seams::{Clock, Random};
use posthaste_events::{
    Anonymous, AnyDeliveree, Delivery, DeliveryId, Draft, EventId, EventType, Installation, Notification, OneByOne,
    Outcome, Pattern, RetryPolicy, State, SubscriptionId, Takes, Timestamp,
};
use posthaste_outbox::{Limits, MemoryOutbox, Outbox};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

/// The clock of the runtime, which is paused.
pub(super) struct PausedClock(Instant);

impl Clock for PausedClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + self.0.elapsed().as_micros() as i64)
    }
}

/// The same numbers in each run.
#[derive(Default)]
pub(super) struct Counted(AtomicU64);

impl Random for Counted {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// An engine under test.
pub(super) struct House {
    pub(super) engine: Engine,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) clock: Arc<PausedClock>,
    pub(super) finished: Arc<Notify>,
    pub(super) watched: broadcast::Receiver<Arc<Watched>>,
}

pub(super) fn clock() -> Arc<PausedClock> {
    tokio::time::pause();
    Arc::new(PausedClock(Instant::now()))
}

pub(super) fn memory(clock: &Arc<PausedClock>) -> MemoryOutbox {
    let limits = Limits { retention: Duration::from_secs(1_000_000), ..Limits::default() };
    MemoryOutbox::new(Arc::clone(clock) as Arc<dyn Clock>, Arc::new(Counted::default()), limits)
}

impl House {
    pub(super) async fn with(subscriptions: Vec<Subscription>) -> Self {
        let clock = clock();
        let outbox = Arc::new(memory(&clock));
        Self::on(subscriptions, outbox, clock, true).await
    }

    pub(super) async fn on(
        subscriptions: Vec<Subscription>,
        outbox: Arc<dyn Outbox>,
        clock: Arc<PausedClock>,
        restores: bool,
    ) -> Self {
        Self::made(settings(subscriptions), outbox, clock, Arc::new(Counted::default()), restores).await
    }

    /// One that goes by these settings.
    pub(super) async fn by(settings: Settings, outbox: Arc<dyn Outbox>, clock: Arc<PausedClock>) -> Self {
        Self::made(settings, outbox, clock, Arc::new(Counted::default()), true).await
    }

    pub(super) async fn with_random(
        subscriptions: Vec<Subscription>,
        outbox: Arc<dyn Outbox>,
        clock: Arc<PausedClock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self::made(settings(subscriptions), outbox, clock, random, true).await
    }

    async fn made(
        settings: Settings,
        outbox: Arc<dyn Outbox>,
        clock: Arc<PausedClock>,
        random: Arc<dyn Random>,
        restores: bool,
    ) -> Self {
        let config = Config {
            settings,
            outbox: Arc::clone(&outbox),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random,
            installation: Installation::new(&[7; 32]),
        };
        let finished = Arc::new(Notify::new());
        let (_, ended) = watch::channel(false);
        let engine = launch(config, Arc::clone(&finished), ended, restores).await.unwrap();
        let watched = engine.registry.send(Watch).await.unwrap();
        Self { engine, outbox, clock, finished, watched }
    }

    /// Records events of a type; their ids.
    pub(super) async fn record(&self, event_type: &str, count: usize) -> Vec<EventId> {
        let snapshot = self.engine.snapshot.current();
        let draft = Draft::new(EventType::parse(event_type).unwrap());
        let prepared = snapshot.prepare(draft, self.clock.wall()).unwrap();
        let events = vec![prepared; count];
        let recorded = self.engine.registry.send(RecordBatch { events, epoch: snapshot.epoch }).await.unwrap().unwrap();
        recorded.into_iter().map(|r| r.id).collect()
    }

    /// Waits for the next attempts that are told.
    pub(super) async fn attempts(&mut self, count: usize) -> Vec<Arc<Watched>> {
        let mut attempts = Vec::new();
        while attempts.len() < count {
            attempts.push(self.watched.recv().await.unwrap());
        }
        attempts
    }

    pub(super) async fn subscription(&self, name: &str) -> SubscriptionView {
        let all = self.engine.registry.send(InspectSubscriptions).await.unwrap().unwrap();
        all.into_iter().find(|s| s.name == name).unwrap()
    }

    pub(super) async fn id(&self, name: &str) -> SubscriptionId {
        let roll = self.outbox.roll().await.unwrap();
        roll.subscriptions.iter().find(|s| s.name == name).unwrap().id
    }

    pub(super) async fn state(&self, event: EventId, name: &str) -> State {
        let delivery = DeliveryId { event, subscription: self.id(name).await };
        self.engine.registry.send(InspectDelivery(delivery)).await.unwrap().unwrap().unwrap().row.state
    }
}

pub(super) fn settings(subscriptions: Vec<Subscription>) -> Settings {
    let catalogue = Catalogue::compile(&Declarations::default(), Undeclared::Accept).unwrap();
    Settings { subscriptions, catalogue, backlog_max: 1_000_000, telemetry: None, author: None }
}

pub(super) fn pause(name: &str) -> Pause {
    Pause { subscription: name.to_owned(), bound: None }
}

pub(super) fn resume(name: &str) -> Resume {
    Resume { subscription: name.to_owned(), bound: None }
}

/// A subscription to everything, whose receiver is a function.
pub(super) fn subscription<F, Fut>(name: &str, receive: F) -> Subscription
where
    F: Fn(Delivery<Notification>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let make = move || {
        let deliveree = OneByOne::new(Duration::from_secs(15), receive.clone());
        AnyDeliveree::Notification(Arc::new(deliveree))
    };
    Subscription {
        name: name.to_owned(),
        kind: "test".to_owned(),
        tenant: None,
        selectors: vec![Selector::default()],
        retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::default() },
        concurrency: 32,
        circuit: None,
        rate: None,
        ordered: false,
        disable_after: None,
        source: Source::Config,
        shown: serde_json::Map::new(),
        reveal: Default::default(),
        ahead: None,
        mark: 0,
        takes: Takes::Notification,
        make: Arc::new(make),
    }
}

/// A subscription whose receiver takes everything at once.
pub(super) fn healthy(name: &str) -> Subscription {
    subscription(name, |_| async { delivered() })
}

/// A subscription to the telemetry of everything, whose receiver is a function.
pub(super) fn measured<F, Fut>(name: &str, receive: F) -> Subscription
where
    F: Fn(Delivery<Anonymous>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let make = move || {
        let deliveree = OneByOne::new(Duration::from_secs(15), receive.clone());
        AnyDeliveree::Anonymous(Arc::new(deliveree))
    };
    Subscription { takes: Takes::Telemetry, make: Arc::new(make), ..healthy(name) }
}

pub(super) fn delivered() -> Outcome {
    Outcome::Delivered(Detail { status: Some(200), ..Detail::default() })
}

pub(super) fn failed(status: u16) -> Outcome {
    Outcome::Retry { detail: Detail { status: Some(status), ..Detail::default() }, after: None }
}

/// The same subscription, to these types only.
pub(super) fn to(mut subscription: Subscription, pattern: &str) -> Subscription {
    let events = vec![Pattern::parse(pattern).unwrap()];
    subscription.selectors = vec![Selector { events, ..Selector::default() }];
    subscription
}
