//! The store of a world: in memory, or in generations over a simulated disk whose power can go.

use crate::seams::{Dice, SimClock};
use posthaste_events::{BoxFuture, SubscriptionId};
use posthaste_outbox::disk::SimDisk;
use posthaste_outbox::{GenerationLimits, GenerationOutbox, Limits, MemoryOutbox, Outbox, Stepper};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Hints that were given and not yet passed on.
pub(crate) type Hints = Arc<Mutex<Vec<SubscriptionId>>>;

/// A store and what drives it.
pub(crate) struct SimStore {
    pub(crate) outbox: Arc<dyn Outbox>,
    embedded: Option<Embedded>,
    hints: Hints,
}

struct Embedded {
    disk: SimDisk,
    stepper: Stepper,
    clock: Arc<SimClock>,
    limits: Limits,
    seed: u64,
}

fn limits() -> Limits {
    let years = Duration::from_secs(400 * 24 * 60 * 60);
    Limits { retention: years, grace: years, free_min: 0, ..Limits::default() }
}

impl SimStore {
    pub(crate) fn memory(seed: u64, clock: Arc<SimClock>, hints: Hints) -> Self {
        let outbox = Arc::new(MemoryOutbox::new(clock, Arc::new(Dice::new(seed ^ 1)), limits()));
        Self { outbox, embedded: None, hints }.listening()
    }

    /// Generations of a few events, so that a short life goes over many of them.
    pub(crate) fn generations(seed: u64, clock: Arc<SimClock>, hints: Hints, events_max: u64) -> Self {
        let generation = GenerationLimits { events_max, ..GenerationLimits::default() };
        let (limits, disk) = (Limits { generation, ..limits() }, SimDisk::new(seed));
        Self::open(Embedded::files(disk, clock, limits, seed), hints)
    }

    fn open((outbox, embedded): (GenerationOutbox, Embedded), hints: Hints) -> Self {
        Self { outbox: Arc::new(outbox), embedded: Some(embedded), hints }.listening()
    }

    fn listening(self) -> Self {
        let told = Arc::clone(&self.hints);
        self.outbox.on_due(Box::new(move |due| told.lock().unwrap().extend(due)));
        self
    }

    /// Whether a crash takes anything from it.
    pub(crate) const fn can_crash(&self) -> bool {
        self.embedded.is_some()
    }

    /// The process dies, and the machine with it where `power` says so; then it is opened again.
    pub(crate) fn crash(&mut self, power: bool) {
        let Some(Embedded { disk, clock, limits, seed, .. }) = self.embedded.take() else { return };
        // The old one must have no last words: its handles are dead before it is dropped.
        if power {
            disk.crash()
        } else {
            disk.kill()
        }
        *self = Self::open(Embedded::files(disk, clock, limits, seed), Arc::clone(&self.hints));
    }

    /// Lets syncs answer well and keep nothing.
    pub(crate) fn lie_on_sync(&self) {
        if let Some(embedded) = &self.embedded {
            embedded.disk.lie_on_sync(true);
        }
    }

    /// Writes and syncs what waits.
    pub(crate) fn sync(&self) {
        while self.embedded.as_ref().is_some_and(|e| e.stepper.step()) {}
    }

    /// Waits for an answer, doing the store's work meanwhile.
    pub(crate) fn wait<T>(&self, mut future: BoxFuture<T>) -> T {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
                return answer;
            }
            let worked = self.embedded.as_ref().is_some_and(|e| e.stepper.step());
            assert!(worked, "the store waits for nobody knows what");
        }
    }
}

impl Embedded {
    fn files(disk: SimDisk, clock: Arc<SimClock>, limits: Limits, seed: u64) -> (GenerationOutbox, Self) {
        let random = Arc::new(Dice::new(seed ^ 1));
        let opened =
            GenerationOutbox::open_by_hand(Arc::new(disk.clone()), clock.clone(), random, limits.clone()).unwrap();
        (opened.0, Self { disk, stepper: opened.1, clock, limits, seed })
    }
}
