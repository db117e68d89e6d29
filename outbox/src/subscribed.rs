//! What a store knows of subscriptions, and what it is told of them.
//!
//! Which of them an event goes to is for others to say: here each has a name, a number, a standing and a bound.

use crate::Epoch;
use posthaste_events::SubscriptionId;
use std::time::Duration;

/// A subscription as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// Its identity.
    pub name: String,
    /// How many deliveries it may be owed; past it a new one is dead at birth.
    pub backlog_max: u64,
    /// Whether its deliveries go by key: one of each key is given out at a time, in the order of recording, and the next
    /// once that one is settled. Deliveries of events without a key go as they come.
    pub ordered: bool,
    /// Whether it is one that the outbox keeps ([`crate::Definition`]), not one of the configuration. Where that changes, it is
    /// another subscription, with a new number; what the one before was owed is cancelled by the upkeep.
    pub kept: bool,
}

/// A change of the set of subscriptions that take new events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amend {
    /// It is listed like this from now on.
    List(Enrolment),
    /// The one of this name is listed no more; nothing where none is.
    Unlist(String),
}

impl Amend {
    /// The name that it is about.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::List(enrolment) => &enrolment.name,
            Self::Unlist(name) => name,
        }
    }
}

/// How a subscription fares, as far as that must outlast a restart. Waits are relative to when they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// How long ago the first attempt failed since one arrived last; `None` where none has.
    pub failing_for: Option<Duration>,
    /// How many attempts failed since.
    pub failures: u32,
    /// How long nothing may be sent yet, since its receiver asked for that (`Retry-After`).
    pub held_for: Duration,
    /// How long its open circuit pauses yet; `None` where it is closed.
    pub open_for: Option<Duration>,
}

/// Every subscription that a store knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roll {
    /// The epoch that holds now.
    pub epoch: Epoch,
    /// By number, ascending.
    pub subscriptions: Vec<Subscribed>,
}

/// A subscription as a store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribed {
    /// Its number in this store, never used twice.
    pub id: SubscriptionId,
    /// Its name.
    pub name: String,
    /// Whether it stands in the configuration.
    pub listed: bool,
    /// What it takes.
    pub standing: Standing,
    /// How many deliveries it is owed, held ones included.
    pub owed: u64,
    /// How it fares, as noted last.
    pub vitals: Vitals,
}

/// What a subscription is owed, and whether it takes it: all of it that a scan needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owing {
    /// Its number.
    pub id: SubscriptionId,
    /// How many deliveries it is owed, held ones included.
    pub owed: u64,
    /// Whether its standing is [`Standing::Active`]; an unlisted one may be active, and is given nothing.
    pub active: bool,
}

impl Owing {
    /// Whether [`crate::Outbox::owing`] tells of it.
    pub(crate) const fn is_told(&self) -> bool {
        self.owed > 0 || !self.active
    }
}

impl From<&Subscribed> for Owing {
    fn from(subscribed: &Subscribed) -> Self {
        Self { id: subscribed.id, owed: subscribed.owed, active: subscribed.standing == Standing::Active }
    }
}

/// Whether a subscription takes deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// It does.
    #[default]
    Active,
    /// A person paused it.
    Paused,
    /// It was disabled, for this reason.
    Disabled(String),
}
