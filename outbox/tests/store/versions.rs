//! What an earlier version wrote is read by this one.
//!
//! `tests/fixtures/v1` is the data of a store as the code before rows of version 2 left it when its process ended without a
//! close: 21 events over three generations, owed to `one`, `two` (paused) and `small` (a backlog of 3 at most), six of whose
//! seven claims were settled each way.

use crate::fixture::*;
use posthaste_events::{AttemptOutcome, State};
use posthaste_outbox::disk::SledDisk;
use posthaste_outbox::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn open(folder: &Path) -> Fixture {
    let limits = Limits {
        free_min: 0,
        retention: Duration::from_secs(3_600),
        generation: GenerationLimits { events_max: 8, rows_max: 40, ..GenerationLimits::default() },
        ..Limits::default()
    };
    let (disk, clock) = (Arc::new(SledDisk::open(folder).unwrap()), Arc::new(ManualClock::default()));
    let outbox = GenerationOutbox::open(disk, Arc::clone(&clock) as _, Arc::new(Counted::default()), limits).unwrap();
    Fixture::over(Arc::new(outbox), clock)
}

async fn states(f: &Fixture) -> BTreeMap<(String, &'static str), usize> {
    let query = DeliveryQuery {
        state: None,
        subscription: None,
        tenant: None,
        since: None,
        after: None,
        limit: 1_000,
        work_max: 10_000,
    };
    let mut counted = BTreeMap::new();
    for row in f.outbox.deliveries(query).await.unwrap().rows {
        *counted.entry((row.subscription, row.state.as_str())).or_default() += 1;
    }
    counted
}

#[test]
fn what_the_first_version_wrote_is_shown_delivered_and_written_on() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1")), folder.path());
        let f = open(folder.path());
        let (ids, _) = f.enroll_bounded(&["one", "two", "small"], 1_000).await;
        let roll = f.outbox.roll().await.unwrap();
        let told: Vec<_> = roll.subscriptions.iter().map(|s| (s.standing.clone(), s.owed, s.vitals)).collect();
        let well = Vitals::default();
        assert_eq!(told, [(Standing::Active, 9, well), (Standing::Paused, 21, well), (Standing::Active, 3, well)]);
        let count = |name: &str, state, count| ((name.to_owned(), state), count);
        let expected = [
            count("one", "dead", 6),
            count("one", "delivered", 6),
            count("one", "pending", 9),
            count("small", "dead", 18),
            count("small", "pending", 3),
            count("two", "held", 21),
        ];
        assert_eq!(states(&f).await, BTreeMap::from(expected));
        let event = f.outbox.events(first_page()).await.unwrap().rows.pop().unwrap();
        let view = f.outbox.event(event.id).await.unwrap().unwrap();
        let attempt = &view.deliveries[0].attempts[0];
        assert_eq!((attempt.outcome, attempt.detail.status), (AttemptOutcome::Delivered, Some(204)));
        assert_eq!((attempt.detail.answer.as_deref(), &attempt.detail.trace), (Some(&b"oh"[..]), &None));
        // What it owes arrives, with its payloads, the long one too; what it repeats is known.
        f.clock.forward(Duration::from_secs(100));
        f.outbox.set_standing(ids[1], Standing::Active).await.unwrap();
        let mut longest = 0;
        for id in &ids {
            for leased in f.claim(*id, 100).await.deliveries {
                longest = longest.max(leased.payloads.len());
                assert_eq!(f.settle(&leased, Then::Delivered).await, Settled::Applied);
            }
        }
        assert!(longest > 9_000);
        let known = keyed(crate::fixture::event("{}", &ids), 20, 20);
        assert!(f.record(vec![known]).await[0].duplicate);
        f.record_one(&ids).await;
        f.outbox.note(vec![(ids[0], Vitals { failures: 2, ..well })]).await.unwrap();
        f.outbox.close().await.unwrap();
        drop(f);
        let f = open(folder.path());
        f.enroll_bounded(&["one", "two", "small"], 1_000).await;
        let roll = f.outbox.roll().await.unwrap();
        assert_eq!(
            roll.subscriptions.iter().map(|s| (s.owed, s.vitals.failures)).collect::<Vec<_>>(),
            [(1, 2), (1, 0), (1, 0)]
        );
        assert_eq!(states(&f).await[&("two".to_owned(), State::Delivered.as_str())], 21);
        assert_eq!((f.outbox.health().damaged_total, f.outbox.health().failures_total), (0, 0));
    });
}

fn first_page() -> EventQuery {
    EventQuery { event_type: None, tenant: None, since: None, until: None, after: None, limit: 1_000, work_max: 10_000 }
}
