//! How many events a second go through record, claim and settle on the real disk.
//!
//! `cargo run --release -p posthaste-outbox --example throughput -- [DIR]`. Each group is that many callers that record
//! one event of 300 bytes at a time; one consumer claims and settles what they record.

#![expect(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement")]

use posthaste_events::seams::{Clock, Random};
use posthaste_events::{
    Attempt, AttemptOutcome, EventType, Facts, Origin, Payloads, Prepared, SubscriptionId, Timestamp,
};
use posthaste_outbox::disk::SledDisk;
use posthaste_outbox::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

const EVENTS: u64 = 300_000;

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

fn event(owed: SubscriptionId, clock: &Real) -> Prepared {
    let facts = Facts {
        event_type: EventType::parse("project:job:failed").unwrap(),
        key: Some("project-7".into()),
        tenant: Some("acme".into()),
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: clock.wall(),
    };
    let payloads = Payloads::restored(Some(vec![b'x'; 300].into()), None);
    Prepared {
        facts: Arc::new(facts),
        idempotency: None,
        payloads,
        owed: vec![owed],
        quarantined: None,
        unnotified: None,
    }
}

#[tokio::main]
async fn main() {
    let given = std::env::args().nth(1).map(PathBuf::from);
    for (group, kept) in [(64, true), (256, true), (256, false)] {
        let folder = tempfile::tempdir_in(given.clone().unwrap_or_else(std::env::temp_dir)).unwrap();
        let clock = Arc::new(Real(Instant::now()));
        let random = Arc::new(Counted(AtomicU64::new(1)));
        let limits = Limits { free_min: 0, ..Limits::default() };
        let outbox: Arc<dyn Outbox> = if kept {
            let disk = Arc::new(SledDisk::open(folder.path()).unwrap());
            Arc::new(GenerationOutbox::open(disk, Arc::clone(&clock) as _, random, limits).unwrap())
        } else {
            Arc::new(MemoryOutbox::forgetting(Arc::clone(&clock) as _, random, limits))
        };
        let before = cpu();
        let begun = Instant::now();
        measure(&outbox, &clock, group).await;
        let took = begun.elapsed();
        let cpu = (cpu() - before) * 1_000_000.0 / EVENTS as f64;
        let health = outbox.health();
        println!(
            "{} group {group:3}: {:6.0} events/s, {cpu:.1} µs CPU an event, {} syncs, {} generations, {} MB on disk, {} MB resident",
            if kept { "generations" } else { "memory     " },
            EVENTS as f64 / took.as_secs_f64(),
            health.syncs_total,
            health.generations,
            health.disk_bytes >> 20,
            resident() >> 20,
        );
        outbox.close().await.unwrap();
    }
    backlog(given).await;
}

/// How long a start takes over a backlog that nobody took, and a first read of it.
async fn backlog(given: Option<PathBuf>) {
    let folder = tempfile::tempdir_in(given.unwrap_or_else(std::env::temp_dir)).unwrap();
    let clock = Arc::new(Real(Instant::now()));
    let open = || {
        let disk = Arc::new(SledDisk::open(folder.path()).unwrap());
        let random = Arc::new(Counted(AtomicU64::new(1)));
        let limits = Limits { free_min: 0, ..Limits::default() };
        GenerationOutbox::open(disk, Arc::clone(&clock) as _, random, limits).unwrap()
    };
    let outbox = open();
    let roll = outbox
        .enroll(vec![Enrolment { name: "a".into(), backlog_max: 1_000_000, ordered: false, kept: false }])
        .await
        .unwrap();
    let (id, epoch) = (roll.subscriptions[0].id, roll.epoch);
    for _ in 0..200 {
        let events = (0..1_000).map(|_| event(id, &clock)).collect();
        outbox.record(events, epoch).await.unwrap();
    }
    drop(outbox);
    let begun = Instant::now();
    let outbox = open();
    let opened = begun.elapsed();
    let begun = Instant::now();
    let mut drained = 0;
    while drained < 200_000 {
        let want = Want { count: 256, fresh_min: 0, bytes: 1 << 20, lease: Duration::from_secs(600) };
        drained += outbox.claim(id, want).await.unwrap().deliveries.len();
    }
    println!(
        "backlog of 200,000: opened in {} ms, claimed at {:.0}/s, {} MB resident",
        opened.as_millis(),
        200_000.0 / begun.elapsed().as_secs_f64(),
        resident() >> 20,
    );
}

async fn measure(outbox: &Arc<dyn Outbox>, clock: &Arc<Real>, group: u64) {
    let roll = outbox
        .enroll(vec![Enrolment { name: "a".into(), backlog_max: 1_000_000, ordered: false, kept: false }])
        .await
        .unwrap();
    let (id, epoch) = (roll.subscriptions[0].id, roll.epoch);
    let due = Arc::new(Notify::new());
    let hinted = Arc::clone(&due);
    outbox.on_due(Box::new(move |_| hinted.notify_one()));
    for n in 0..group {
        let share = EVENTS / group + u64::from(n < EVENTS % group);
        let (outbox, clock) = (Arc::clone(outbox), Arc::clone(clock));
        tokio::spawn(async move {
            for _ in 0..share {
                outbox.record(vec![event(id, &clock)], epoch).await.unwrap();
            }
        });
    }
    let mut settled = 0;
    while settled < EVENTS {
        let want = Want { count: 256, fresh_min: 0, bytes: 1 << 20, lease: Duration::from_secs(30) };
        let claimed = outbox.claim(id, want).await.unwrap();
        if claimed.deliveries.is_empty() {
            due.notified().await;
            continue;
        }
        settled += claimed.deliveries.len() as u64;
        let settlements = claimed.deliveries.into_iter().map(|leased| {
            let attempt = Attempt {
                number: leased.attempt,
                at: clock.wall(),
                duration: Duration::from_millis(1),
                outcome: AttemptOutcome::Delivered,
                detail: posthaste_events::outcome::Detail { status: Some(200), ..Default::default() },
            };
            let (lease, delivery) = (leased.lease, leased.delivery);
            Settlement { lease, delivery, attempt: Some(attempt), then: Then::Delivered }
        });
        outbox.settle(settlements.collect()).await.unwrap();
    }
}

/// Seconds of CPU that this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
