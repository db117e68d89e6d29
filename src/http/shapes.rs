//! How things look in answers: the wire's own structs, apart from the domain's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthaste_actors::QUARANTINE;
use posthaste_actors::messages::{CircuitState, SubscriptionView, Watched};
use posthaste_actors::settings::Source;
use posthaste_events::catalogue::declare::{Audience, FieldKind};
use posthaste_events::catalogue::{Catalogue, Declared, FilterPath};
use posthaste_events::outcome::{ANSWER_KEPT_MAX, Trace};
use posthaste_events::{Attempt, EventType, Facts, Payloads};
use posthaste_outbox::query::{DeliveryRow, DeliveryView, EventRow, EventView};
use posthaste_outbox::{Recorded, Standing};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

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
    properties: Option<Cow<'a, RawValue>>,
    occurred_at: Option<String>,
    recorded_at: String,
    /// What leaves of it; in a listing only of what nobody is notified of, since there is nothing else to see.
    #[serde(skip_serializing_if = "Option::is_none")]
    telemetry: Option<Option<Telemetry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<Delivery<'a>>>,
}

impl<'a> Event<'a> {
    /// An event of a listing. With a catalogue its sensitive fields are masked, without one they are shown.
    pub(crate) fn row(row: &'a EventRow, mask: Option<&Catalogue>) -> Self {
        let facts: &Facts = &row.facts;
        let told = properties(&row.payloads).map(|raw| match mask {
            Some(catalogue) => masked(catalogue, &facts.event_type, raw),
            None => Cow::Borrowed(raw),
        });
        let silent = row.payloads.notification().is_none();
        Self {
            id: row.id.to_string(),
            event_type: facts.event_type.as_str(),
            key: facts.key.as_deref(),
            tenant: facts.tenant.as_deref(),
            origin: facts.origin.as_str(),
            sequence: row.id.sequence(),
            properties: if silent { empty() } else { told },
            occurred_at: facts.occurred_at.map(|t| t.to_string()),
            recorded_at: facts.recorded_at.to_string(),
            telemetry: silent.then(|| Telemetry::of(&row.payloads)),
            deliveries: None,
        }
    }

    /// An event alone, with its deliveries and with what leaves of it; masked as [`Event::row`] says.
    pub(crate) fn view(view: &'a EventView, mask: Option<&Catalogue>) -> Self {
        Self {
            telemetry: Some(Telemetry::of(&view.event.payloads)),
            deliveries: Some(view.deliveries.iter().map(Delivery::view).collect()),
            ..Self::row(&view.event, mask)
        }
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

/// The properties without what is sensitive. Where nothing is, the caller's own text stays as it is.
fn masked<'a>(catalogue: &Catalogue, event_type: &EventType, raw: &'a RawValue) -> Cow<'a, RawValue> {
    // What is kept was read when it was recorded; were it not readable now, nothing of it is shown.
    let Ok(mut data) = serde_json::from_str::<Value>(raw.get()) else { return Cow::Owned(RawValue::NULL.to_owned()) };
    if !catalogue.mask(event_type, &mut data) {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(to_raw_value(&data).unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

/// `{}`.
fn empty<'a>() -> Option<Cow<'a, RawValue>> {
    serde_json::from_str("{}").ok().map(Cow::Borrowed)
}

/// What leaves of an event towards analytics.
#[derive(Serialize)]
struct Telemetry {
    event_properties: Box<RawValue>,
    derived_properties: Box<RawValue>,
    time: String,
}

impl Telemetry {
    fn of(payloads: &Payloads) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            event_properties: Box<RawValue>,
            derived_properties: Box<RawValue>,
        }
        let telemetry = payloads.told_to_analytics()?;
        let Body { event_properties, derived_properties } = serde_json::from_slice(&telemetry.body).ok()?;
        Some(Self { event_properties, derived_properties, time: telemetry.at.to_string() })
    }
}

/// An event type as the catalogue declares it.
#[derive(Serialize)]
pub(crate) struct EventTypeShape<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    title: Option<&'a str>,
    layer: Option<&'a str>,
    audience: &'static str,
    schema: Value,
    telemetry_schema: Value,
    properties_schema: Value,
    filters: Vec<FilterShape>,
    example: Option<Value>,
    properties_example: Option<&'a Map<String, Value>>,
    retired: bool,
}

impl<'a> EventTypeShape<'a> {
    pub(crate) fn new(event_type: &'a EventType, declared: &'a Declared) -> Self {
        Self {
            event_type: event_type.as_str(),
            title: declared.title.as_deref(),
            layer: declared.layer.as_deref(),
            audience: match declared.audience {
                Audience::All => "all",
                Audience::Telemetry => "telemetry",
            },
            schema: declared.schema(),
            telemetry_schema: declared.telemetry_schema(),
            properties_schema: declared.properties_schema(),
            filters: declared.filters().into_iter().map(FilterShape::from).collect(),
            example: declared.told_example(),
            properties_example: declared.example.as_ref(),
            retired: declared.retired,
        }
    }
}

/// A path that a `where` may name.
#[derive(Serialize)]
struct FilterShape {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<Value>,
    requires: Vec<String>,
}

impl From<FilterPath> for FilterShape {
    fn from(FilterPath { path, kind, values, requires, kept: _ }: FilterPath) -> Self {
        let kind = match kind {
            FieldKind::Boolean => "boolean",
            FieldKind::Integer => "integer",
            FieldKind::Number => "number",
            FieldKind::String => "string",
            FieldKind::Object => "object",
            FieldKind::Array => "array",
        };
        Self { path, kind, values, requires }
    }
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
    error_class: Option<&'a str>,
    address: Option<String>,
    phases_ms: Phases,
    answer: Option<Cow<'a, str>>,
    /// An answer that is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_base64: Option<String>,
}

/// How long each phase of an attempt took, in milliseconds; one that did not happen is left out.
#[derive(Serialize)]
struct Phases {
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte: Option<f64>,
    total: f64,
}

impl Phases {
    fn new(attempt: &Attempt) -> Self {
        // To the microsecond, which three digits behind the point are.
        let millis = |took: Duration| took.as_micros() as f64 / 1_000.0;
        let trace = attempt.detail.trace.as_deref();
        let phase = |of: fn(&Trace) -> Option<Duration>| trace.and_then(of).map(millis);
        Self {
            dns: phase(|t| t.dns),
            connect: phase(|t| t.connect),
            tls: phase(|t| t.tls),
            first_byte: phase(|t| t.first_byte),
            total: millis(attempt.duration),
        }
    }
}

impl<'a> AttemptMade<'a> {
    fn new(attempt: &'a Attempt) -> Self {
        // What was cut at the bound may end within a character.
        let (answer, answer_base64) =
            match attempt.detail.answer.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
                None => (None, None),
                Some((_, Ok(text))) => (Some(Cow::Borrowed(text)), None),
                Some((bytes, Err(e))) if e.error_len().is_none() && bytes.len() >= ANSWER_KEPT_MAX => {
                    (Some(String::from_utf8_lossy(&bytes[..e.valid_up_to()])), None)
                }
                Some((bytes, Err(_))) => (None, Some(STANDARD.encode(bytes))),
            };
        let trace = attempt.detail.trace.as_deref();
        Self {
            number: attempt.number,
            at: attempt.at.to_string(),
            duration_ms: attempt.duration.as_millis(),
            status: attempt.detail.status,
            outcome: attempt.outcome.as_str(),
            error: attempt.detail.error.as_deref(),
            error_class: attempt.detail.class(),
            address: trace.and_then(|t| t.address).map(|a| a.to_string()),
            phases_ms: Phases::new(attempt),
            answer,
            answer_base64,
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
    let source = match view.source {
        _ if view.name == QUARANTINE => "built-in",
        Some(Source::Api { .. }) => "api",
        Some(Source::Config) | None => "config",
    };
    put("source", source.into());
    put("state", state.into());
    put("reason", reason.into());
    put("backlog", view.backlog.into());
    put("in_flight", view.in_flight.into());
    put("circuit_open", (view.circuit != CircuitState::Closed).into());
    put("circuit_state", view.circuit.as_str().into());
    put("circuit_reason", view.circuit_reason.clone().into());
    put("failing_since", view.failing_since.map(|t| t.to_string()).into());
    put("held_until", view.held_until.map(|t| t.to_string()).into());
    Value::Object(shape)
}

/// A page of a listing.
#[derive(Serialize)]
pub(crate) struct Listing<T> {
    pub(crate) data: Vec<T>,
    pub(crate) next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_events::catalogue::Undeclared;
    use posthaste_events::catalogue::declare::{Declarations, FieldDeclaration};
    use posthaste_events::layered::Attempted;
    use posthaste_events::layered::Failure;
    use posthaste_events::prepare::{Snapshot, TelemetryPolicy};
    use posthaste_events::{Draft, EventId, Timestamp};

    #[test]
    fn what_a_quarantined_event_keeps_for_telemetry_alone_is_not_shown_even_to_whoever_sees_all() {
        let mut declarations = Declarations::of_types(&["a:b"]);
        let hidden =
            FieldDeclaration { audience: Audience::Telemetry, ..FieldDeclaration::new("hidden", FieldKind::String) };
        declarations.events[0].fields = vec![hidden, FieldDeclaration::new("told", FieldKind::String)];
        let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).unwrap();
        let telemetry = Some(TelemetryPolicy::default());
        let snapshot = Snapshot { catalogue, telemetry, ..Snapshot::default() };
        let properties = r#"{"hidden":"CANARY","told":"open"}"#;
        let draft = Draft { properties: properties.into(), ..Draft::new(EventType::parse("a:b").unwrap()) };
        let attempted = Attempted { draft, failure: Some(Failure { who: "a:b", why: "no".into() }) };
        let prepared = snapshot.prepare_attempted(attempted, Timestamp::from_millis(0)).unwrap();
        assert!(prepared.payloads.kept().unwrap().ends_with(properties.as_bytes()), "it is kept");
        let event = EventRow { id: EventId::new(1, 1, 1), facts: prepared.facts, payloads: prepared.payloads };
        let view = EventView { event, deliveries: Vec::new() };
        let shown = [Event::row(&view.event, None), Event::view(&view, None)];
        let shown = shown.map(|event| serde_json::to_string(&event).unwrap());
        assert!(shown.iter().all(|text| text.contains("open") && !text.contains("CANARY")), "{shown:?}");
        assert!(shown[1].contains(r#""telemetry":null"#), "{}", shown[1]);
    }

    #[test]
    fn an_attempt_tells_its_phases_and_an_answer_that_is_no_text_in_base64() {
        use posthaste_events::AttemptOutcome;
        use posthaste_events::outcome::Detail;
        let shown = |detail: Detail| {
            let (at, duration) = (Timestamp::from_millis(0), Duration::from_micros(1_207));
            let attempt = Attempt { number: 1, at, duration, outcome: AttemptOutcome::Failed, detail };
            serde_json::to_value(AttemptMade::new(&attempt)).unwrap()
        };
        let trace = Trace {
            address: Some("127.0.0.1:80".parse().unwrap()),
            connect: Some(Duration::from_micros(81)),
            ..Trace::default()
        };
        let traced = shown(Detail { trace: Some(Box::new(trace)), ..Detail::error("tls: the certificate expired") });
        assert_eq!((&traced["error_class"], &traced["address"]), (&"tls".into(), &"127.0.0.1:80".into()));
        assert_eq!(traced["phases_ms"], serde_json::json!({"connect": 0.081, "total": 1.207}));
        let answered = |bytes: Vec<u8>| {
            let shown = shown(Detail { answer: Some(bytes.into()), ..Detail::default() });
            (shown["answer"].as_str().map(str::len), shown.get("answer_base64").cloned())
        };
        assert_eq!(answered(b"no".to_vec()), (Some(2), None));
        assert_eq!(answered(vec![0xff, 0]), (None, Some("/wA=".into())));
        let cut = ["x".repeat(ANSWER_KEPT_MAX - 1).into_bytes(), vec![0xc3]].concat();
        assert_eq!(answered(cut), (Some(ANSWER_KEPT_MAX - 1), None), "cut within a character");
    }
}
