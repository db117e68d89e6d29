//! What can be asked of an outbox, and the rows that it answers.

use posthaste_events::outcome::Attempt;
use posthaste_events::{DeliveryId, EventId, EventType, Facts, Payloads, State, SubscriptionId, Timestamp};
use std::sync::Arc;

/// Which events are wanted, the newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct EventQuery {
    /// Of this type only.
    pub event_type: Option<EventType>,
    /// Of this tenant only.
    pub tenant: Option<String>,
    /// Recorded at or after.
    pub since: Option<Timestamp>,
    /// Recorded before.
    pub until: Option<Timestamp>,
    /// Go on behind this one.
    pub after: Option<EventId>,
    /// Rows at most; 1 or more.
    pub limit: usize,
    /// Rows to be read at most, wanted or not; the page may then be short and still have a `next`.
    pub work_max: usize,
}

/// Which deliveries are wanted, those of the newest event first.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryQuery {
    /// In this state only.
    pub state: Option<State>,
    /// Of this subscription only.
    pub subscription: Option<SubscriptionId>,
    /// Of events of this tenant only.
    pub tenant: Option<String>,
    /// Created at or after.
    pub since: Option<Timestamp>,
    /// Go on behind this one.
    pub after: Option<DeliveryId>,
    /// Rows at most; 1 or more.
    pub limit: usize,
    /// Rows to be read at most, wanted or not; the page may then be short and still have a `next`.
    pub work_max: usize,
}

/// A piece of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T, C> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<C>,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// Its id.
    pub id: EventId,
    /// What is known of it.
    pub facts: Arc<Facts>,
    /// What it became.
    pub payloads: Payloads,
}

/// An event with everything about it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventView {
    /// The event.
    pub event: EventRow,
    /// Its deliveries, by subscription.
    pub deliveries: Vec<DeliveryView>,
}

/// A delivery as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryRow {
    /// Its id.
    pub id: DeliveryId,
    /// The name of its subscription.
    pub subscription: String,
    /// What is known of its event.
    pub facts: Arc<Facts>,
    /// Its state as shown: `held` where its subscription takes nothing.
    pub state: State,
    /// Why it is dead, where it is.
    pub reason: Option<String>,
    /// Attempts so far.
    pub attempt_count: u32,
    /// When it is tried next, by the wall clock; only of a pending one.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
}

/// A delivery with its attempts, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryView {
    /// The delivery.
    pub row: DeliveryRow,
    /// The attempts that are kept: at most the last 100.
    pub attempts: Vec<AttemptRow>,
}

/// An attempt as it is kept.
pub type AttemptRow = Attempt;
