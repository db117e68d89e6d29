//! What the promises run on: a store, a clock that stands still until it is moved, and shorthands.

pub(crate) use crate::seams::*;

use crate::stepped::Stepped;
use posthaste_events::seams::Clock;
use posthaste_events::{Attempt, AttemptOutcome, Prepared, SubscriptionId};
use posthaste_outbox::disk::{SimDisk, SledDisk};
use posthaste_outbox::{
    Claimed, DeliveryView, Enrolment, Epoch, GenerationLimits, GenerationOutbox, Leased, Limits, MemoryOutbox, Outbox,
    Recorded, Settled, Settlement, Then, Want,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Which store a promise runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stores {
    Memory,
    /// Generations over sled in a folder of its own, with threads.
    Sled,
    /// Generations over a simulated disk, by hand.
    Simulated,
    /// The same with generations of a few events, so that each promise runs over many of them.
    Small,
}

impl ManualClock {
    /// Moves the wall clock alone.
    pub(crate) fn leap(&self, millis: i64) {
        self.leapt.fetch_add(millis, Ordering::SeqCst);
    }
}

/// A store with what belongs to it.
pub(crate) struct Fixture {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) clock: Arc<ManualClock>,
    _folder: Option<tempfile::TempDir>,
}

impl Stores {
    pub(crate) fn open(self) -> Fixture {
        self.open_with(Limits { free_min: 0, ..Limits::default() })
    }

    pub(crate) fn open_with(self, limits: Limits) -> Fixture {
        let clock = Arc::new(ManualClock::default());
        let random = Arc::new(Counted::default());
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let (outbox, stepper, folder): (Arc<dyn Outbox>, _, _) = match self {
            Self::Memory => (Arc::new(MemoryOutbox::new(time, random, limits)), None, None),
            Self::Sled => {
                let folder = tempfile::tempdir().unwrap();
                let disk = Arc::new(SledDisk::open(folder.path()).unwrap());
                (Arc::new(GenerationOutbox::open(disk, time, random, limits).unwrap()), None, Some(folder))
            }
            Self::Simulated | Self::Small => {
                let mut limits = limits;
                if self == Self::Small {
                    limits.generation = GenerationLimits { events_max: 2, rows_max: 5, ..limits.generation };
                }
                let disk = Arc::new(SimDisk::new(7));
                let (outbox, stepper) = GenerationOutbox::open_by_hand(disk, time, random, limits).unwrap();
                (Arc::new(outbox), Some(stepper), None)
            }
        };
        Fixture { outbox: Stepped::wrap(outbox, stepper), clock, _folder: folder }
    }
}

/// Runs a promise to its end.
pub(crate) fn run(promise: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(promise);
}

/// An attempt that failed, as a scheduler reports it.
pub(crate) fn failed(number: u32) -> Attempt {
    attempt(number, AttemptOutcome::Failed)
}

impl Fixture {
    /// A store that was opened elsewhere.
    pub(crate) fn over(outbox: Arc<dyn Outbox>, clock: Arc<ManualClock>) -> Self {
        Self { outbox, clock, _folder: None }
    }

    /// Lists these names; their numbers, in this order, and the epoch.
    pub(crate) async fn enroll(&self, names: &[&str]) -> (Vec<SubscriptionId>, Epoch) {
        self.enroll_bounded(names, 1_000_000).await
    }

    pub(crate) async fn enroll_bounded(&self, names: &[&str], backlog_max: u64) -> (Vec<SubscriptionId>, Epoch) {
        let wanted = names
            .iter()
            .map(|name| Enrolment { name: (*name).to_owned(), backlog_max, ordered: false, kept: false })
            .collect();
        let roll = self.outbox.enroll(wanted).await.unwrap();
        let id = |name: &&str| roll.subscriptions.iter().find(|s| s.name == **name).unwrap().id;
        (names.iter().map(id).collect(), roll.epoch)
    }

    pub(crate) async fn epoch(&self) -> Epoch {
        self.outbox.roll().await.unwrap().epoch
    }

    pub(crate) async fn record(&self, events: Vec<Prepared>) -> Vec<Recorded> {
        self.outbox.record(events, self.epoch().await).await.unwrap()
    }

    /// Records one event with a small payload.
    pub(crate) async fn record_one(&self, owed: &[SubscriptionId]) -> Recorded {
        self.record(vec![event("{}", owed)]).await[0]
    }

    pub(crate) async fn claim(&self, subscription: SubscriptionId, count: usize) -> Claimed {
        let want = Want { count, fresh_min: 0, bytes: usize::MAX, lease: Duration::from_secs(30) };
        self.outbox.claim(subscription, want).await.unwrap()
    }

    /// Claims the one delivery that is due.
    pub(crate) async fn claim_one(&self, subscription: SubscriptionId) -> Leased {
        let claimed = self.claim(subscription, 10).await;
        assert_eq!(claimed.deliveries.len(), 1, "{claimed:?}");
        claimed.deliveries.into_iter().next().unwrap()
    }

    /// Settles a delivery after an attempt that ended so.
    pub(crate) async fn settle(&self, leased: &Leased, then: Then) -> Settled {
        let mut attempt = failed(leased.attempt);
        if then == Then::Delivered {
            attempt.outcome = AttemptOutcome::Delivered;
        }
        let attempt = (then != Then::Release).then_some(attempt);
        let settlement = Settlement { lease: leased.lease, delivery: leased.delivery, attempt, then };
        self.outbox.settle(vec![settlement]).await.unwrap()[0]
    }

    pub(crate) async fn view(&self, leased: &Leased) -> DeliveryView {
        self.outbox.delivery(leased.delivery).await.unwrap().unwrap()
    }
}
