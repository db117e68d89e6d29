//! What a record, a start and a change cost with ten, a thousand and ten thousand subscriptions, of which few want an event.
//!
//! `cargo run --release -p posthaste-actors --example many`. Each subscription is of a tenant of its own; each event is of one
//! tenant, recorded by one caller that waits for each answer, on a real disk. Figures are medians.

#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement")]

use posthaste_actors::messages::{InspectSubscription, Record, Reload, Stop};
use posthaste_actors::settings::{Settings, Source, Subscription};
use posthaste_actors::{Config, Engine};
use posthaste_events::catalogue::declare::Declarations;
use posthaste_events::catalogue::{Catalogue, Undeclared};
use posthaste_events::matching::Selector;
use posthaste_events::outcome::Detail;
use posthaste_events::seams::{Clock, Random};
use posthaste_events::{
    AnyDeliveree, Draft, EventType, Installation, OneByOne, Outcome, Pattern, RetryPolicy, Takes, Timestamp,
};
use posthaste_outbox::disk::SledDisk;
use posthaste_outbox::{GenerationOutbox, Limits};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

struct Real(Instant);

impl Clock for Real {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
    }
}

struct Counted(AtomicU64);

impl Random for Counted {
    fn next(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

fn settings(count: usize) -> Settings {
    let subscription = |n: usize| Subscription {
        name: format!("customer-{n:05}"),
        kind: "test".to_owned(),
        tenant: Some(format!("tenant-{n}")),
        selectors: vec![Selector {
            events: vec![Pattern::parse("project:**").unwrap()],
            tenant: Some(format!("tenant-{n}")),
            ..Selector::default()
        }],
        retry: RetryPolicy::default(),
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
        make: Arc::new(|| {
            let take = |_| async { Outcome::Delivered(Detail::default()) };
            AnyDeliveree::Notification(Arc::new(OneByOne::new(Duration::from_secs(15), take)))
        }),
    };
    let catalogue = Catalogue::compile(&Declarations::default(), Undeclared::Accept).unwrap();
    let subscriptions = (0..count).map(subscription).collect();
    Settings { subscriptions, catalogue, backlog_max: 1_000_000, telemetry: None, author: None }
}

async fn start(folder: &Path, settings: Settings) -> (Engine, Arc<Real>, Duration) {
    // The one before may hold it for a moment.
    for _ in 0..200 {
        if SledDisk::open(folder).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    let clock = Arc::new(Real(Instant::now()));
    let random: Arc<dyn Random> = Arc::new(Counted(AtomicU64::new(1)));
    let disk = Arc::new(SledDisk::open(folder).unwrap());
    let limits = Limits { free_min: 0, ..Limits::default() };
    let outbox = GenerationOutbox::open(disk, Arc::clone(&clock) as _, Arc::clone(&random), limits).unwrap();
    let installation = Installation::new(&[7; 32]);
    let config = Config { settings, outbox: Arc::new(outbox), clock: Arc::clone(&clock) as _, random, installation };
    let engine = posthaste_actors::start(config).await.unwrap();
    (engine, clock, begun.elapsed())
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

async fn stop(engine: Engine) {
    engine.registry.send(Stop { grace: Duration::ZERO }).await.unwrap().unwrap();
    engine.stopped().await;
}

async fn measure(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    stop(start(folder.path(), settings(count)).await.0).await;
    let mut starts = Vec::new();
    for _ in 0..4 {
        let (engine, _, took) = start(folder.path(), settings(count)).await;
        starts.push(took);
        stop(engine).await;
    }
    let (engine, clock, took) = start(folder.path(), settings(count)).await;
    starts.push(took);
    let (mut prepared, mut recorded, mut looked, mut changed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..2_000 {
        let snapshot = engine.snapshot.current();
        let mut draft = Draft::new(EventType::parse("project:job:failed").unwrap());
        draft.tenant = Some(format!("tenant-{}", n % count));
        let begun = Instant::now();
        let event = snapshot.prepare(draft, clock.wall()).unwrap();
        prepared.push(begun.elapsed());
        engine.registry.send(Record { event, epoch: snapshot.epoch }).await.unwrap().unwrap();
        recorded.push(begun.elapsed());
    }
    for n in 0..50 {
        let begun = Instant::now();
        engine.registry.send(InspectSubscription(format!("customer-{:05}", n % count))).await.unwrap().unwrap();
        looked.push(begun.elapsed());
    }
    for n in 0..5 {
        let settings = settings(count + 1 + n % 2);
        let begun = Instant::now();
        engine.registry.send(Reload(settings)).await.unwrap().unwrap();
        changed.push(begun.elapsed());
    }
    println!(
        "{count:>6} subscriptions: start {:?}, prepare {:?}, record {:?}, look at one {:?}, change {:?}",
        median(starts),
        median(prepared),
        median(recorded),
        median(looked),
        median(changed)
    );
    stop(engine).await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for count in [10, 1_000, 10_000, 10] {
        measure(count).await;
    }
}
