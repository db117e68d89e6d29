//! An event: what a caller says of it ([`Draft`]), and what is recorded ([`Prepared`]).

use crate::{EventType, Payloads, SubscriptionId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How long an idempotency key, a key or a tenant may be, in characters.
pub const NAME_CHARS_MAX: usize = 256;

/// An event as a caller brings it, already of the right form: checked by [`crate::json`] or made in Rust.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What happened.
    pub event_type: EventType,
    /// A JSON object, as compact JSON text.
    pub properties: String,
    /// Repeating it records nothing new. 1 to 256 characters.
    pub idempotency_key: Option<String>,
    /// When it happened; absent: when it is recorded.
    pub occurred_at: Option<Timestamp>,
    /// The entity that it is about, for ordering. 1 to 256 characters.
    pub key: Option<String>,
    /// Whose event it is. 1 to 256 characters.
    pub tenant: Option<String>,
}

impl Draft {
    /// An event of a type, with an empty object as properties.
    #[must_use]
    pub fn new(event_type: EventType) -> Self {
        Self { event_type, properties: "{}".into(), idempotency_key: None, occurred_at: None, key: None, tenant: None }
    }

    /// The same with these properties.
    #[must_use]
    pub fn properties(mut self, properties: &serde_json::Map<String, serde_json::Value>) -> Self {
        self.properties = serde_json::Value::Object(properties.clone()).to_string();
        self
    }
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// An application recorded it.
    Record,
    /// A client sent it through the relay: telemetry only.
    Relay,
    /// The daemon's own.
    Daemon,
}

impl Origin {
    /// The word for it in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Relay => "relay",
            Self::Daemon => "daemon",
        }
    }
}

/// What is known of an event beside its payloads; what travels with every delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What happened.
    pub event_type: EventType,
    /// The entity that it is about.
    pub key: Option<String>,
    /// Whose event it is.
    pub tenant: Option<String>,
    /// Where it came from.
    pub origin: Origin,
    /// When it happened, where the caller said so.
    pub occurred_at: Option<Timestamp>,
    /// When it was recorded, by the wall clock.
    pub recorded_at: Timestamp,
}

impl Facts {
    /// When it happened, else when it was recorded.
    #[must_use]
    pub fn happened_at(&self) -> Timestamp {
        self.occurred_at.unwrap_or(self.recorded_at)
    }
}

/// What makes two posts the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Idempotency {
    /// The hash of tenant and key: the first 16 bytes of a SHA-256.
    pub key: [u8; 16],
    /// The hash of what was read (type, properties, key, tenant, occurred_at), whatever the order of the properties.
    pub content: [u8; 16],
}

/// An event that was validated, matched and built: what an outbox records.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// What is known of it.
    pub facts: Arc<Facts>,
    /// Where the caller gave an idempotency key.
    pub idempotency: Option<Idempotency>,
    /// What it became.
    pub payloads: Payloads,
    /// To whom it is owed, ascending, each once.
    pub owed: Vec<SubscriptionId>,
    /// Why its telemetry could not be built, where that is so: it is kept, reported, and tried again.
    pub quarantined: Option<String>,
    /// What `where` and `filter` are held against, kept only where no notification tells it: else a change of the
    /// subscriptions while it is on its way would lose whom it is for. Not recorded.
    pub unnotified: Option<Arc<serde_json::Value>>,
}
