//! How often generations are opened for a look: bounded by their number, however many rows the look has.

use crate::fixture::*;
use crate::replays::everything;
use crate::stepped::Stepped;
use posthaste_events::{State, SubscriptionId};
use posthaste_outbox::disk::Disk as _;
use posthaste_outbox::disk::sim::{Call, SimDisk};
use posthaste_outbox::*;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 12;
const EACH: usize = 50;

struct Scattered {
    disk: SimDisk,
    f: Fixture,
    ids: Vec<SubscriptionId>,
}

impl Scattered {
    fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Fixture {
        let (disk, random) = (Arc::new(disk.clone()), Arc::new(Counted::default()));
        let limits = Limits { free_min: 0, ..Limits::default() };
        let (outbox, stepper) = GenerationOutbox::open_by_hand(disk, Arc::clone(clock) as _, random, limits).unwrap();
        Fixture::over(Stepped::wrap(Arc::new(outbox), Some(stepper)), Arc::clone(clock))
    }

    /// Hundreds of dead deliveries over a dozen restarts: each was recorded into one generation, tried in several of the
    /// others, and died in the last.
    async fn made() -> Self {
        let (disk, clock) = (SimDisk::new(11), Arc::new(ManualClock::default()));
        let mut f = Self::open(&disk, &clock);
        let mut ids = Vec::new();
        for round in 0..ROUNDS {
            ids = f.enroll(&["a", "b"]).await.0;
            f.record((0..EACH).map(|_| event("{}", &ids)).collect()).await;
            clock.forward(SECOND);
            for leased in f.claim(ids[0], ROUNDS * EACH).await.deliveries {
                let last = round + 1 == ROUNDS;
                f.settle(&leased, if last { Then::Dead("no".into()) } else { Then::RetryIn(SECOND) }).await;
            }
            // Durable, and no more: a kill.
            f.outbox.set_standing(ids[1], Standing::Active).await.unwrap();
            drop(f);
            disk.kill();
            f = Self::open(&disk, &clock);
        }
        f.enroll(&["a", "b"]).await;
        assert!(disk.generations().unwrap().len() >= ROUNDS);
        Self { disk, f, ids }
    }

    fn opened(&self) -> u64 {
        self.disk.calls().get(&Call::Open).copied().unwrap_or(0)
    }
}

#[test]
fn a_page_of_deliveries_opens_each_generation_a_few_times_and_not_once_for_each_row() {
    run(async {
        let scattered = Scattered::made().await;
        let generations = scattered.disk.generations().unwrap().len() as u64;
        let all = ROUNDS * EACH;
        let query = DeliveryQuery {
            state: Some(State::Dead),
            subscription: Some(scattered.ids[0]),
            tenant: None,
            since: None,
            after: None,
            limit: 1_000,
            work_max: 10_000,
        };
        for (subscription, limit) in [(Some(scattered.ids[0]), 1_000), (None, 1_000), (None, 500)] {
            let before = scattered.opened();
            let page = DeliveryQuery { subscription, limit, ..query.clone() };
            let rows = scattered.f.outbox.deliveries(page).await.unwrap().rows;
            assert_eq!(rows.len(), all.min(limit));
            assert!(rows.iter().all(|row| row.attempt_count >= 1 && row.reason.as_deref() == Some("no")));
            let opened = scattered.opened() - before;
            assert!(opened <= 3 * generations, "{opened} opened for {limit} rows, of {generations}");
        }
        // The control: the rows one by one open far more, so that what lies where does matter.
        let rows = scattered.f.outbox.deliveries(query).await.unwrap().rows;
        let before = scattered.opened();
        for row in rows.into_iter().rev().take(20) {
            scattered.f.outbox.delivery(row.id).await.unwrap().unwrap();
        }
        assert!(scattered.opened() - before > 3 * generations);
    });
}

#[test]
fn a_replay_opens_each_generation_a_few_times_for_a_page_and_a_step() {
    run(async {
        let scattered = Scattered::made().await;
        let generations = scattered.disk.generations().unwrap().len() as u64;
        let outbox = &scattered.f.outbox;
        let id = outbox.order_replay(everything(scattered.ids[0])).await.unwrap().id;
        let before = scattered.opened();
        let page = outbox.replay_page(id, 1_000).await.unwrap().unwrap();
        assert_eq!((page.candidates.len(), page.last), (ROUNDS * EACH, true));
        let read = scattered.opened();
        assert!(read - before <= 4 * generations, "{} opened for a page, of {generations}", read - before);
        assert_eq!(outbox.replay_step(id, page).await.unwrap().unwrap().replayed as usize, ROUNDS * EACH);
        let opened = scattered.opened() - read;
        assert!(opened <= 2 * generations, "{opened} opened for a step, of {generations}");
    });
}
