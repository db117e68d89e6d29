//! Replays: orders to deliver again, or for the first time, what was recorded before.
//!
//! An order is durable, and so is how far it has come: each step writes what it makes due and its cursor in one batch,
//! so that every delivery that matches is made due exactly once, over pages and restarts. Whoever drives it reads a
//! page of candidates, chooses among them (matching is not a store's matter), and takes the step.

use crate::EventRow;
use posthaste_events::{Pattern, State, SubscriptionId, Timestamp};

/// How many replays may be under way, and how many that ended are remembered.
pub const REPLAYS_MAX: usize = 100;

/// The number of a replay; never used twice by one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayId(pub u64);

/// What is to be replayed: events that are kept, and fit all of these.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayOrder {
    /// To whom.
    pub subscription: SubscriptionId,
    /// Recorded at or after.
    pub since: Option<Timestamp>,
    /// Recorded before; a store puts the time of the order where nothing is said.
    pub until: Option<Timestamp>,
    /// Whose delivery is in this settled state (delivered, dead, cancelled). Absent: in any of them, or never owed to it.
    pub state: Option<State>,
    /// Of these types.
    pub event_type: Option<Pattern>,
    /// Of this tenant.
    pub tenant: Option<String>,
}

/// Where a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// It came to its end.
    Done,
    /// A person ended it, or its subscription is gone.
    Cancelled,
}

/// A replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Its number.
    pub id: ReplayId,
    /// What was ordered.
    pub order: ReplayOrder,
    /// Where it stands.
    pub state: ReplayState,
    /// How many deliveries were made due.
    pub replayed: u64,
    /// When it was ordered, by the wall clock.
    pub at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// An event that may be replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The event.
    pub event: EventRow,
    /// The state of its delivery to the subscription; `None`: it was never owed.
    pub delivery: Option<State>,
}

/// A piece of the candidates, in the order of recording.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayPage {
    /// Those that fit the order, at most as many as were asked for; deliveries that are owed at the moment are left out.
    pub candidates: Vec<Candidate>,
    /// The sequence from which the next page goes on: to be handed back with the step.
    pub cursor: u64,
    /// Whether nothing comes behind it.
    pub last: bool,
}
