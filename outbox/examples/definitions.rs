//! How long definitions take: a start with ten and with ten thousand of 1 KB, one put, and an enrolment of all of them.
//!
//! `cargo run --release -p posthaste-outbox --example definitions`; prints milliseconds, and the disk alone beside them.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "an example that measures")]

use posthaste_events::Timestamp;
use posthaste_events::seams::{Clock, Random};
use posthaste_outbox::disk::{Disk, SledDisk};
use posthaste_outbox::{Define, Definition, Enrolment, GenerationOutbox, Limits, Outbox};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

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

fn open(folder: &std::path::Path) -> GenerationOutbox {
    let system = || Arc::new(System(Instant::now()));
    let limits = Limits { free_min: 0, ..Limits::default() };
    GenerationOutbox::open(Arc::new(SledDisk::open(folder).unwrap()), system(), system(), limits).unwrap()
}

fn put(n: usize, revision: u64) -> Define {
    Define::Put(Definition { name: format!("customer-{n}"), revision, body: vec![b'x'; 1_024].into() })
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for count in [10, 1_000, 10_000] {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(folder.path());
        let begun = Instant::now();
        outbox.define((0..count).map(|n| put(n, 1)).collect()).await.unwrap();
        println!("{count:>6} definitions: written in {:.1} ms", millis(begun));
        let wanted = || {
            (0..count).map(|n| Enrolment {
                name: format!("customer-{n}"),
                backlog_max: 1_000,
                ordered: false,
                kept: false,
            })
        };
        outbox.enroll(wanted().collect()).await.unwrap();
        outbox.close().await.unwrap();
        drop(outbox);
        let begun = Instant::now();
        let outbox = open(folder.path());
        let opened = millis(begun);
        let begun = Instant::now();
        assert_eq!(outbox.definitions().await.unwrap().len(), count);
        let read = millis(begun);
        let begun = Instant::now();
        outbox.enroll(wanted().collect()).await.unwrap();
        println!("       start: opened in {opened:.1} ms, read in {read:.1} ms, enrolled in {:.1} ms", millis(begun));
        let begun = Instant::now();
        for n in 0..100 {
            outbox.define(vec![put(n * count / 100, 2)]).await.unwrap();
        }
        println!("       one put: {:.2} ms", millis(begun) / 100.0);
        outbox.close().await.unwrap();
        drop(outbox);
        let disk = SledDisk::open(folder.path()).unwrap();
        let bytes = vec![b'x'; 40 * 1_024];
        let begun = Instant::now();
        (0..100).for_each(|_| disk.write_file("alone", &bytes).unwrap());
        println!("       a file of 40 KiB by the disk alone: {:.2} ms", millis(begun) / 100.0);
    }
}
