//! What waits for the scheduler: the way in for outcomes, answers of the outbox and hints, from any thread.
//!
//! Adding never blocks and never fails. The bound is in what may be added: each delivery in flight has one outcome at
//! most, each call one end and [`SIGNALS_MAX`] signals, each request one answer, and hints are a set of subscriptions;
//! how many of them there are is bounded by the scheduler's window.

use crate::scheduler::{Input, Refusals};
use posthaste_events::seams::Clock;
use posthaste_events::{Origin, SubscriptionId};
use posthaste_outbox::Refused;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Signals that one call may give.
pub(crate) const SIGNALS_MAX: usize = 4;

/// The scheduler's way in.
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Waiting {
    inputs: Vec<Input>,
    due: BTreeSet<SubscriptionId>,
    /// What was dead at birth, summed up by subscription.
    refused: BTreeMap<SubscriptionId, Refusals>,
    /// When the scheduler wants to be woken, by the deciding clock.
    alarm: Option<Duration>,
}

impl Inbox {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { waiting: Mutex::default(), changed: Notify::new(), clock }
    }

    pub(crate) fn push(&self, input: Input) {
        let first = {
            let mut waiting = self.lock();
            waiting.inputs.push(input);
            waiting.inputs.len() == 1
        };
        // Whoever added before has already woken the scheduler, which takes everything at once.
        if first {
            self.changed.notify_one();
        }
    }

    /// Something is due for these.
    pub(crate) fn hint(&self, subscriptions: &[SubscriptionId]) {
        let first = {
            let mut waiting = self.lock();
            let first = waiting.due.is_empty();
            waiting.due.extend(subscriptions);
            first
        };
        if first {
            self.changed.notify_one();
        }
    }

    /// These were dead at birth.
    pub(crate) fn refuse(&self, refused: &[Refused]) {
        let first = {
            let mut waiting = self.lock();
            let first = waiting.refused.is_empty();
            for Refused { delivery, origin } in refused {
                let sum = waiting.refused.entry(delivery.subscription).or_default();
                sum.count += 1;
                if *origin != Origin::Daemon {
                    sum.told += 1;
                    sum.first.get_or_insert(*delivery);
                }
            }
            first
        };
        if first {
            self.changed.notify_one();
        }
    }

    pub(crate) fn set_alarm(&self, at: Duration) {
        let sooner = {
            let mut waiting = self.lock();
            let sooner = waiting.alarm.is_none_or(|old| at < old);
            waiting.alarm = Some(at);
            sooner
        };
        if sooner {
            self.changed.notify_one();
        }
    }

    /// Waits until there is something or the alarm rings, and takes all of it.
    pub(crate) async fn take(&self) -> Vec<Input> {
        loop {
            let alarm = {
                let mut waiting = self.lock();
                let now = self.clock.elapsed();
                let rings = waiting.alarm.is_some_and(|at| at <= now);
                if rings || !waiting.inputs.is_empty() || !waiting.due.is_empty() || !waiting.refused.is_empty() {
                    waiting.alarm = waiting.alarm.filter(|_| !rings);
                    return waiting.drain();
                }
                waiting.alarm.map(|at| at.saturating_sub(now))
            };
            match alarm {
                Some(wait) => {
                    let _rang_or_changed = tokio::time::timeout(wait, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What it guards is whole between any two statements, so a panic elsewhere changes nothing.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn drain(&mut self) -> Vec<Input> {
        // A vector of the same size again: the next round is likely to be as long.
        let room = Vec::with_capacity(self.inputs.len().min(1_024));
        let mut inputs = std::mem::replace(&mut self.inputs, room);
        if !self.due.is_empty() {
            inputs.push(Input::Due(std::mem::take(&mut self.due).into_iter().collect()));
        }
        if !self.refused.is_empty() {
            inputs.push(Input::Refused(std::mem::take(&mut self.refused)));
        }
        inputs
    }
}
