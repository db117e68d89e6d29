//! What ten thousand subscriptions cost beside ten: a start, an enrolment that changes nothing, a change of one, a record,
//! the first record of a generation, a scan, a put of one definition.
//!
//! `cargo run --release -p posthaste-outbox --example subscriptions`; prints the median of so many rounds, in milliseconds,
//! and the ratio of the two in the same run.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "an example that measures")]

use posthaste_events::seams::{Clock, Random};
use posthaste_events::{EventType, Facts, Origin, Payloads, Prepared, SubscriptionId, Timestamp};
use posthaste_outbox::disk::{Disk, SledDisk};
use posthaste_outbox::{Amend, Define, Definition, Enrolment, GenerationLimits, GenerationOutbox, Limits, Outbox};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const FEW: usize = 10;
const MANY: usize = 10_000;
const STARTS: usize = 7;
const ROUNDS: usize = 60;

struct System(Instant);

impl Clock for System {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Random for System {
    fn next(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

fn open(folder: &Path, events_max: u64) -> GenerationOutbox {
    let system = || Arc::new(System(Instant::now()));
    let generation = GenerationLimits { events_max, ..GenerationLimits::default() };
    let limits = Limits { free_min: 0, generation, ..Limits::default() };
    GenerationOutbox::open(Arc::new(SledDisk::open(folder).unwrap()), system(), system(), limits).unwrap()
}

fn enrolment(n: usize) -> Enrolment {
    Enrolment { name: format!("customer-{n}"), backlog_max: 1_000_000, ordered: false, kept: true }
}

fn put(n: usize, revision: u64) -> Define {
    Define::Put(Definition { name: format!("customer-{n}"), revision, body: vec![b'x'; 1_024].into() })
}

fn event(owed: SubscriptionId) -> Prepared {
    let facts = Facts {
        event_type: EventType::parse("project:job:failed").unwrap(),
        key: None,
        tenant: None,
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: Timestamp::from_millis(1_732_000_000_000),
    };
    let payloads = Payloads::restored(Some(vec![b'x'; 300].into()), None);
    let (facts, owed) = (Arc::new(facts), vec![owed]);
    Prepared { facts, idempotency: None, payloads, owed, quarantined: None, unnotified: None }
}

/// The times of one kind of work, by what it is.
#[derive(Default)]
struct Times(Vec<(&'static str, Vec<f64>)>);

impl Times {
    fn note(&mut self, what: &'static str, since: Instant) {
        let millis = since.elapsed().as_secs_f64() * 1_000.0;
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, times)) => times.push(millis),
            None => self.0.push((what, vec![millis])),
        }
    }

    fn medians(mut self) -> Vec<(&'static str, f64)> {
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        self.0.iter_mut().map(|(what, times)| (*what, median(times))).collect()
    }
}

async fn measure(count: usize) -> Result<Times, Box<dyn std::error::Error>> {
    let mut times = Times::default();
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path(), 20_000);
    outbox.define((0..count).map(|n| put(n, 1)).collect()).await?;
    let all = || (0..count).map(enrolment).collect::<Vec<_>>();
    outbox.enroll(all()).await?;
    outbox.close().await?;
    drop(outbox);
    for _ in 0..STARTS {
        let begun = Instant::now();
        let outbox = open(folder.path(), 20_000);
        times.note("open", begun);
        let read = Instant::now();
        assert_eq!(outbox.definitions().await?.len(), count);
        times.note("read of all definitions", read);
        let wanted = all();
        let enrolled = Instant::now();
        outbox.enroll(wanted).await?;
        times.note("enrolment of all at a start, which writes them", enrolled);
        times.note("start: these three", begun);
        let wanted = all();
        let enrolled = Instant::now();
        outbox.enroll(wanted).await?;
        times.note("enrolment of all that changes nothing", enrolled);
        let closed = Instant::now();
        outbox.close().await?;
        times.note("close", closed);
    }
    let outbox = open(folder.path(), 20_000);
    let roll = outbox.enroll(all()).await?;
    let (first, mut epoch) = (roll.subscriptions[0].id, roll.epoch);
    for n in 0..ROUNDS {
        let begun = Instant::now();
        outbox.record(vec![event(first)], epoch).await?;
        times.note("record", begun);
        let begun = Instant::now();
        let changed = Enrolment { backlog_max: 1_000 + n as u64, ..enrolment(n % count) };
        epoch = outbox.amend(vec![Amend::List(changed)]).await?.epoch;
        times.note("change of one", begun);
        let begun = Instant::now();
        outbox.define(vec![put(n * 7 % count, 2 + n as u64)]).await?;
        times.note("put of one definition", begun);
        let begun = Instant::now();
        assert_eq!(outbox.owing().await?.len(), 1);
        times.note("scan: owing", begun);
        let begun = Instant::now();
        assert_eq!(outbox.roll().await?.subscriptions.len(), count);
        times.note("roll", begun);
    }
    drop(outbox);
    // Each second record begins a generation, and the one before ends one.
    let outbox = open(folder.path(), 2);
    let epoch = outbox.enroll(all()).await?.epoch;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        outbox.record(vec![event(first)], epoch).await?;
        times.note("record, the first of a generation", begun);
        outbox.record(vec![event(first)], epoch).await?;
    }
    drop(outbox);
    // A put writes the file that its definition lies in, and so has this to beat.
    let (disk, bytes) = (SledDisk::open(folder.path())?, vec![b'x'; count.div_ceil(256) * 1_064]);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        disk.write_file("alone", &bytes)?;
        times.note("a file as long as that of a put, by the disk alone", begun);
    }
    Ok(times)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let few = measure(FEW).await.unwrap().medians();
    let many = measure(MANY).await.unwrap().medians();
    println!("{:<50} {FEW:>10} {MANY:>10}  ratio", "median, ms");
    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        println!("{what:<50} {few:>10.3} {many:>10.3} {:>6.2}", many / few);
    }
}
