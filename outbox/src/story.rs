//! The story of a delivery: what happened to it, entry by entry, and how it is shown.

use crate::ledger::{Ledger, Place, Progress, Stand};
use crate::query::{DeliveryRow, DeliveryView};
use crate::time::OutboxTime;
use posthaste_events::{Attempt, DeliveryId, Facts, State, SubscriptionId, Timestamp};
use std::num::NonZeroU64;
use std::sync::Arc;

/// Why a delivery is dead that was never owed since its subscription was owed too much.
pub(crate) const BACKLOG: &str = "backlog";
/// Why a delivery was cancelled whose subscription was gone for too long.
pub(crate) const UNLISTED: &str = "unlisted";
/// How many attempts of a delivery are shown, and carried forward.
pub(crate) const ATTEMPTS_KEPT: usize = 100;

/// Something that happened to a delivery after its event was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// From 1; the highest one says where the delivery stands.
    pub(crate) number: u32,
    /// The attempt, where it was one.
    pub(crate) attempt: Option<Attempt>,
    /// The state since then: never `held`.
    pub(crate) after: State,
    /// When it is due, in the outbox's milliseconds, where it is pending.
    pub(crate) due: u64,
    /// Why it is dead or cancelled.
    pub(crate) reason: Option<String>,
    /// When this happened, by the wall clock.
    pub(crate) at: Timestamp,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// Since when it has been owed, where not since the recording.
    pub(crate) since: Option<NonZeroU64>,
    /// Whether the delivery is made by it, since its event was never owed to the subscription before. Kept in a row of its
    /// own; false where it was read.
    pub(crate) adopts: bool,
}

impl Entry {
    /// How far the delivery has come with it.
    pub(crate) const fn progress(&self) -> Progress {
        Progress { attempts: self.attempts, entries: self.number, since: self.since }
    }

    /// What it makes of the delivery.
    pub(crate) const fn stand(&self) -> Stand {
        if self.after.is_settled() { Stand::Settled } else { Stand::Due(self.due) }
    }
}

/// A delivery of which a row is to be shown.
pub(crate) struct Told<'a> {
    pub(crate) id: DeliveryId,
    pub(crate) facts: &'a Arc<Facts>,
    /// Whether it was dead when it was recorded.
    pub(crate) dead_at_birth: bool,
    /// Its newest entry.
    pub(crate) newest: Option<&'a Entry>,
}

/// How a delivery is shown. What is owed stands in the ledger; the newest entry tells the rest.
pub(crate) fn row(told: &Told<'_>, ledger: &Ledger, time: &OutboxTime) -> DeliveryRow {
    let subscription = told.id.subscription;
    let owed = ledger.look(subscription, told.id.event.sequence());
    let state = match (&owed, told.newest) {
        (Some(_), _) => State::Pending,
        (None, Some(entry)) => entry.after,
        (None, None) if told.dead_at_birth => State::Dead,
        (None, None) => State::Pending,
    };
    let shown = ledger.shown(subscription, state);
    let attempts = owed.map_or_else(|| told.newest.map_or(0, |entry| entry.attempts), |(_, known)| known.attempts);
    let next = match owed.map(|(place, _)| place) {
        Some(Place::Fresh) => Some(told.facts.recorded_at),
        Some(Place::Waiting(waiting)) => Some(time.shown(waiting.due)),
        Some(Place::Leased(_)) | None => None,
    };
    let settled = state.is_settled();
    let at = told.newest.map_or(told.facts.recorded_at, |entry| entry.at);
    let reason = told.newest.map_or_else(|| Some(BACKLOG.to_owned()), |entry| entry.reason.clone());
    DeliveryRow {
        id: told.id,
        subscription: name(ledger, subscription),
        facts: Arc::clone(told.facts),
        state: shown,
        reason: reason.filter(|_| settled),
        attempt_count: attempts,
        next_attempt_at: next.filter(|_| shown == State::Pending),
        settled_at: settled.then_some(at),
    }
}

/// A delivery with its attempts. `entries` ascend; the last one is the newest.
pub(crate) fn view(told: &Told<'_>, entries: &[Entry], ledger: &Ledger, time: &OutboxTime) -> DeliveryView {
    let attempts: Vec<Attempt> = entries.iter().filter_map(|entry| entry.attempt.clone()).collect();
    let beyond = attempts.len().saturating_sub(ATTEMPTS_KEPT);
    DeliveryView { row: row(told, ledger, time), attempts: attempts.into_iter().skip(beyond).collect() }
}

fn name(ledger: &Ledger, id: SubscriptionId) -> String {
    ledger.account(id).map(|account| account.name.to_string()).unwrap_or_default()
}
