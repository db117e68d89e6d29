//! Finds what there is to say of a type: its fields, who gets it, and what leaves.

use super::leaves::{Leaf, derived_places, leaves};
use crate::config::{Config, Subscription};
use posthaste_events::EventType;
use posthaste_events::Timestamp;
use posthaste_events::builtin::{ALL, News, test_of};
use posthaste_events::catalogue::declare::{Audience, FieldKind, Rule};
use posthaste_events::catalogue::{Declared, ListedField};
use posthaste_events::matching::Selector;
use posthaste_events::payload::Takes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// All that is said of one type.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    #[serde(rename = "type")]
    pub(super) event_type: String,
    pub(super) title: Option<String>,
    /// The layers that it stands on, the outermost first.
    pub(super) layers: Vec<String>,
    pub(super) declared: Standing,
    pub(super) receivers: Vec<Receiver>,
    /// What people are told; `None`: nobody is.
    pub(super) notification: Option<Told>,
    /// What leaves; `None`: nothing ever does.
    pub(super) telemetry: Option<Leaving>,
}

/// How a type stands in the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    Declared,
    Retired,
    /// Taken though it is not declared.
    Undeclared,
    /// One of the daemon's own.
    Daemon,
}

/// A subscription that gets such events.
#[derive(Debug, Serialize)]
pub(super) struct Receiver {
    pub(super) subscription: String,
    pub(super) deliveree: String,
    /// `notification` or `telemetry`.
    pub(super) payload: &'static str,
    pub(super) tenant: Option<String>,
    /// One entry for each set of conditions by which it may get one, OR-ed; an empty one: every such event.
    pub(super) when: Vec<Map<String, Value>>,
}

/// The notification.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// Whether there may be fields that nobody declared.
    pub(super) open: bool,
    pub(super) fields: Vec<Field>,
    pub(super) schema: Option<Value>,
    pub(super) example: Option<Value>,
}

/// A field of a notification.
#[derive(Debug, Serialize)]
pub(super) struct Field {
    pub(super) path: String,
    pub(super) layer: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) required: bool,
    pub(super) nullable: bool,
    pub(super) sensitive: bool,
    pub(super) minimum: Option<Value>,
    pub(super) maximum: Option<Value>,
    pub(super) length_max: Option<u64>,
    pub(super) values: Vec<Value>,
    pub(super) description: Option<String>,
}

/// What leaves as telemetry.
#[derive(Debug, Serialize)]
pub(super) struct Leaving {
    /// What times that leave are rounded down to, in seconds.
    pub(super) time_grain_seconds: u64,
    pub(super) event_properties: Vec<Leaf>,
    pub(super) derived_properties: Vec<Leaf>,
    /// Fields of which nothing leaves.
    pub(super) dropped: Vec<String>,
    pub(super) schema: Option<Value>,
    /// What leaves of the type's example.
    pub(super) example: Option<Value>,
}

/// Everything about one type.
pub(super) fn explained(config: &Config, event_type: &EventType) -> Explained {
    let name = event_type.as_str();
    let ours = ALL.contains(&name);
    let declared = if ours { None } else { config.catalogue.get(event_type) };
    let silent = declared.is_some_and(|d| d.audience == Audience::Telemetry);
    let grain = config.telemetry.map(|policy| policy.time_grain);
    let telemetry = grain.filter(|_| ours || declared.is_some());
    let takes = |takes| if takes == Takes::Notification { !silent } else { telemetry.is_some() };
    let standing = match declared {
        _ if ours => Standing::Daemon,
        Some(declared) if declared.retired => Standing::Retired,
        Some(_) => Standing::Declared,
        None => Standing::Undeclared,
    };
    Explained {
        event_type: name.to_owned(),
        title: declared.and_then(|d| d.title.clone()),
        layers: declared.map(|d| d.layers.clone()).unwrap_or_default(),
        declared: standing,
        receivers: config
            .subscriptions
            .iter()
            .filter(|s| takes(s.parsed.takes))
            .filter_map(|s| receiver(s, name, declared))
            .collect(),
        notification: (!silent).then(|| told(name, declared)),
        telemetry: telemetry.map(|grain| leaving(event_type, declared, grain)),
    }
}

fn receiver(subscription: &Subscription, event_type: &str, declared: Option<&Declared>) -> Option<Receiver> {
    // As it was written, without what comes from the environment or a file.
    let shown = Value::Object(subscription.shown.clone());
    let sets: Vec<&Value> = match shown.get("match").and_then(Value::as_array) {
        Some(sets) => sets.iter().collect(),
        None => vec![&shown],
    };
    // No event of the type meets a condition on a path that it lacks.
    let met = |s: &Selector| declared.is_none_or(|declared| s.wheres.iter().all(|w| declared.reaches(&w.path)));
    let wanting = subscription.selectors.iter().enumerate().filter(|(_, s)| s.wants_type(event_type) && met(s));
    let when: Vec<_> = wanting.map(|(at, _)| sets.get(at).map(|set| conditions(set)).unwrap_or_default()).collect();
    (!when.is_empty()).then(|| Receiver {
        subscription: subscription.name.clone(),
        deliveree: subscription.kind.clone(),
        payload: if subscription.parsed.takes == Takes::Notification { "notification" } else { "telemetry" },
        tenant: subscription.tenant.clone(),
        when,
    })
}

fn conditions(set: &Value) -> Map<String, Value> {
    let kept = |key: &str| set.get(key).map(|value| (key.to_owned(), value.clone()));
    ["where", "filter"].into_iter().filter_map(kept).collect()
}

fn told(name: &str, declared: Option<&Declared>) -> Told {
    match declared {
        Some(declared) => Told {
            open: false,
            fields: declared.fields().into_iter().filter(|field| field.told).map(field).collect(),
            schema: Some(declared.schema()),
            example: declared.told_example(),
        },
        None => Told { open: true, fields: Vec::new(), schema: None, example: ours(name) },
    }
}

/// The data of one of the daemon's own, for example.
fn ours(name: &str) -> Option<Value> {
    let [subscription, event, delivery] = ["ops", "evt_…", "dlv_…"].map(str::to_owned);
    let reason = |text: &str| text.to_owned();
    let test = test_of(&subscription);
    let news = [
        News::Started { version: "0.1.0".to_owned() },
        News::Disabled { subscription: subscription.clone(), reason: reason("410") },
        News::Failing { subscription: subscription.clone(), reason: reason("circuit: 20 attempts failed") },
        News::Recovered { subscription: subscription.clone(), reason: reason("disabled") },
        News::Quarantined { event: event.clone(), reason: reason("it has too many bytes"), count: 1 },
        News::Dead { subscription, event, delivery, reason: reason("attempts"), count: 1 },
    ];
    let mut drafts = news.iter().filter_map(News::draft).chain(test);
    let draft = drafts.find(|draft| draft.event_type.as_str() == name)?;
    serde_json::from_str(&draft.properties).ok()
}

fn field(listed: ListedField) -> Field {
    let declaration = listed.declaration;
    Field {
        path: listed.path,
        layer: listed.layer,
        kind: kind(declaration.kind),
        required: listed.required,
        nullable: declaration.nullable,
        sensitive: declaration.sensitive,
        minimum: declaration.minimum.clone().map(Value::Number),
        maximum: declaration.maximum.clone().map(Value::Number),
        length_max: declaration.length_max,
        // Of `count-by` others may come as well.
        values: if declaration.rule == Rule::CountBy { Vec::new() } else { declaration.values.clone() },
        description: declaration.description.clone(),
    }
}

const fn kind(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Boolean => "boolean",
        FieldKind::Integer => "integer",
        FieldKind::Number => "number",
        FieldKind::String => "string",
        FieldKind::Object => "object",
        FieldKind::Array => "array",
    }
}

fn leaving(event_type: &EventType, declared: Option<&Declared>, grain: Duration) -> Leaving {
    let time_grain_seconds = grain.as_secs();
    let Some(declared) = declared else {
        let empty = json!({ "event": event_type.as_str(), "event_properties": {}, "derived_properties": {} });
        return Leaving {
            time_grain_seconds,
            event_properties: Vec::new(),
            derived_properties: Vec::new(),
            dropped: Vec::new(),
            schema: None,
            example: Some(empty),
        };
    };
    let (schema, fields) = (declared.telemetry_schema(), declared.fields());
    let places = derived_places(&fields);
    let part = |name: &str| schema.get("properties").and_then(|parts| parts.get(name)).cloned().unwrap_or_default();
    let event_properties = leaves(&part("event_properties"), &Default::default());
    let derived_properties = leaves(&part("derived_properties"), &places);
    let told_of: BTreeSet<&str> = event_properties
        .iter()
        .map(|leaf| leaf.path.as_str())
        .chain(derived_properties.iter().filter_map(|leaf| leaf.of.as_deref()))
        .collect();
    // Of an object something may leave though nothing is told of it as a whole.
    let within = |path: &str| {
        told_of.iter().any(|of| of.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    let dropped = fields.iter().map(|f| f.path.clone()).filter(|path| !within(path)).collect();
    let example = declared.example.as_ref().map(|example| Value::Object(example.clone()));
    let example = example.and_then(|example| declared.telemetry(event_type, &example).ok());
    let example = example.and_then(|text| serde_json::from_str(&text).ok());
    Leaving { time_grain_seconds, event_properties, derived_properties, dropped, schema: Some(schema), example }
}

/// A time as it leaves, for example.
pub(super) fn rounded_example(grain_seconds: u64) -> Option<(String, String)> {
    let at = Timestamp::parse("2026-05-04T10:47:31Z").ok()?;
    let grain = i64::try_from(grain_seconds).ok()?.max(1);
    let rounded = Timestamp::from_millis(at.seconds().div_euclid(grain).checked_mul(grain)?.checked_mul(1_000)?);
    Some((at.to_string(), rounded.to_string()))
}
