//! How things look in answers: the wire's own structs, apart from the domain's.

use posthaste_actors::messages::{SubscriptionView, Watched};
use posthaste_events::{Attempt, Facts, Payloads};
use posthaste_outbox::query::{DeliveryRow, DeliveryView, EventRow, EventView};
use posthaste_outbox::{Recorded, Standing};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The answer to one recorded event, appended to `into`. Written by hand: it is on the hottest path, and ids need no
/// escaping.
pub(crate) fn recorded(into: &mut String, recorded: &Recorded) {
    let Recorded { id, duplicate, deliveries } = recorded;
    // Writing to a string does not fail.
    let _ = write!(into, r#"{{"id":"{id}","duplicate":{duplicate},"deliveries":{deliveries}}}"#);
}

/// An event.
#[derive(Serialize)]
pub(crate) struct Event<'a> {
    id: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    key: Option<&'a str>,
    tenant: Option<&'a str>,
    origin: &'static str,
    sequence: u64,
    properties: Option<&'a RawValue>,
    occurred_at: Option<String>,
    recorded_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<Delivery<'a>>>,
}

impl<'a> Event<'a> {
    /// An event of a listing.
    pub(crate) fn row(row: &'a EventRow) -> Self {
        let facts: &Facts = &row.facts;
        Self {
            id: row.id.to_string(),
            event_type: facts.event_type.as_str(),
            key: facts.key.as_deref(),
            tenant: facts.tenant.as_deref(),
            origin: facts.origin.as_str(),
            sequence: row.id.sequence(),
            properties: properties(&row.payloads),
            occurred_at: facts.occurred_at.map(|t| t.to_string()),
            recorded_at: facts.recorded_at.to_string(),
            deliveries: None,
        }
    }

    /// An event alone, with its deliveries.
    pub(crate) fn view(view: &'a EventView) -> Self {
        Self { deliveries: Some(view.deliveries.iter().map(Delivery::view).collect()), ..Self::row(&view.event) }
    }
}

/// The properties as they stand in the notification: the caller's own JSON text.
fn properties(payloads: &Payloads) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let body: Body<'_> = serde_json::from_slice(payloads.notification()?).ok()?;
    Some(body.data)
}

/// A delivery.
#[derive(Serialize)]
pub(crate) struct Delivery<'a> {
    id: String,
    event: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    subscription: &'a str,
    tenant: Option<&'a str>,
    state: &'static str,
    reason: Option<&'a str>,
    attempt_count: u32,
    next_attempt_at: Option<String>,
    created_at: String,
    settled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptMade<'a>>>,
}

impl<'a> Delivery<'a> {
    /// A delivery of a listing.
    pub(crate) fn row(row: &'a DeliveryRow) -> Self {
        Self {
            id: row.id.to_string(),
            event: row.id.event.to_string(),
            event_type: row.facts.event_type.as_str(),
            subscription: &row.subscription,
            tenant: row.facts.tenant.as_deref(),
            state: row.state.as_str(),
            reason: row.reason.as_deref(),
            attempt_count: row.attempt_count,
            next_attempt_at: row.next_attempt_at.map(|t| t.to_string()),
            created_at: row.facts.recorded_at.to_string(),
            settled_at: row.settled_at.map(|t| t.to_string()),
            attempts: None,
        }
    }

    /// A delivery alone or in its event, with its attempts.
    pub(crate) fn view(view: &'a DeliveryView) -> Self {
        Self { attempts: Some(view.attempts.iter().map(AttemptMade::new).collect()), ..Self::row(&view.row) }
    }
}

/// An attempt.
#[derive(Serialize)]
pub(crate) struct AttemptMade<'a> {
    number: u32,
    at: String,
    duration_ms: u128,
    status: Option<u16>,
    outcome: &'static str,
    error: Option<&'a str>,
    answer: Option<String>,
}

impl<'a> AttemptMade<'a> {
    fn new(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at.to_string(),
            duration_ms: attempt.duration.as_millis(),
            status: attempt.detail.status,
            outcome: attempt.outcome.as_str(),
            error: attempt.detail.error.as_deref(),
            // An answer is whatever bytes the receiver sent.
            answer: attempt.detail.answer.as_ref().map(|a| String::from_utf8_lossy(a).into_owned()),
        }
    }
}

/// An attempt as it happens, a line of the live stream.
#[derive(Serialize)]
pub(crate) struct Tailed<'a> {
    event: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    tenant: Option<&'a str>,
    subscription: &'a str,
    delivery: String,
    state: &'static str,
    #[serde(flatten)]
    attempt: AttemptMade<'a>,
}

impl<'a> Tailed<'a> {
    pub(crate) fn new(watched: &'a Watched) -> Self {
        Self {
            event: watched.event.to_string(),
            event_type: watched.event_type.as_str(),
            tenant: watched.tenant.as_deref(),
            subscription: &watched.subscription,
            delivery: watched.delivery.to_string(),
            state: watched.state.as_str(),
            attempt: AttemptMade::new(&watched.attempt),
        }
    }
}

/// A subscription: its settings as shown, and how it stands.
pub(crate) fn subscription(view: &SubscriptionView) -> Value {
    let mut shape: Map<String, Value> = view.shown.clone();
    let (state, reason) = match &view.standing {
        Standing::Active => ("active", None),
        Standing::Paused => ("paused", None),
        Standing::Disabled(reason) => ("disabled", Some(reason.as_str())),
    };
    let mut put = |name: &str, value: Value| shape.insert(name.to_owned(), value);
    put("name", view.name.as_str().into());
    put("tenant", view.tenant.as_deref().into());
    put("source", "config".into());
    put("state", state.into());
    put("reason", reason.into());
    put("backlog", view.backlog.into());
    put("in_flight", view.in_flight.into());
    put("circuit_open", view.circuit_open.into());
    put("held_until", view.held_until.map(|t| t.to_string()).into());
    Value::Object(shape)
}

/// A page of a listing.
#[derive(Serialize)]
pub(crate) struct Listing<T> {
    pub(crate) data: Vec<T>,
    pub(crate) next: Option<String>,
}
