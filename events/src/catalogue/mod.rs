//! The catalogue: which event types are declared, layer by layer, and what each becomes.
//!
//! [`declare`] holds what was written; [`Catalogue::compile`] checks it as a whole. A compiled type answers whether
//! properties fit it, what a notification of them is, what leaves as telemetry, and both as JSON Schema.

mod check;
mod compile;
pub mod declare;
mod fields;
mod filters;
mod grow;
mod listed;
mod mask;
mod notification;
pub(crate) mod numbers;
mod relay;
mod rules;
mod schema;
mod shape;
mod telemetry;
mod telemetry_schema;
mod writer;

use crate::EventType;
use crate::builtin::is_ours;
use crate::payload::PAYLOAD_MAX;
use declare::{Audience, Declarations, Fault, FieldKind};
pub use listed::ListedField;
use rules::Plan;
use serde_json::{Map, Value};
use shape::Node;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What happens to an event whose type is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undeclared {
    /// It is refused.
    #[default]
    Reject,
    /// It is recorded and notified, yet never telemetry.
    Accept,
}

/// The declared event types, checked. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Catalogue {
    types: Arc<BTreeMap<EventType, Declared>>,
    undeclared: Undeclared,
}

/// What the catalogue says of one type. [`Catalogue::compile`] alone makes it, so that nobody brings a type of which
/// something else leaves than its declarations say:
///
/// ```compile_fail
/// use posthaste_events::catalogue::{Declared, declare::Audience};
/// let mine = Declared { title: None, retired: false, layer: None, audience: Audience::All, example: None };
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// What a person calls it.
    pub title: Option<String>,
    /// Recorded no more; kept so that what waits still means something.
    pub retired: bool,
    /// The layer that it stands on.
    pub layer: Option<String>,
    /// That layer and those below it, the outermost first.
    pub layers: Vec<String>,
    /// Who is told.
    pub audience: Audience,
    /// The properties of one such event.
    pub example: Option<Map<String, Value>>,
    shape: Arc<Node>,
    plan: Arc<Plan>,
}

/// Something wrong with properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Where it stands, or would stand: a JSON Pointer (RFC 6901) seen from the properties, `/project/uuid`.
    pub pointer: String,
    /// What is wrong, without the value.
    pub detail: String,
}

/// A payload that could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unbuilt(pub String);

/// A path of the notification that a `where` may name.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterPath {
    /// Names with dots between.
    pub path: String,
    /// What stands there.
    pub kind: FieldKind,
    /// The values that may stand there; empty: any of its kind.
    pub values: Vec<Value>,
    /// Paths that a `where` on this one must name too: the identities of the layers above.
    pub requires: Vec<String>,
    /// Whether what stands there leaves as telemetry exactly as it is: its rule is `keep`, and nothing of it is rounded.
    pub kept: bool,
}

/// Why the catalogue refuses an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The type is not declared.
    #[error(
        "the type {0:?} is not declared in the catalogue; declare it in events.toml, or set catalogue.undeclared = \"accept\""
    )]
    Undeclared(EventType),
    /// The type is retired.
    #[error("the type {0:?} is retired")]
    Retired(EventType),
    /// The type is the daemon's own.
    #[error("types of `posthaste:` are the daemon's own; nobody outside may record one")]
    Ours,
}

impl Catalogue {
    /// Checks declarations as a whole.
    ///
    /// # Errors
    /// Every [`Fault`]; never empty.
    pub fn compile(declarations: &Declarations, undeclared: Undeclared) -> Result<Self, Vec<Fault>> {
        Ok(Self { types: Arc::new(compile::compile(declarations)?), undeclared })
    }

    /// What is said of a type; `None` where it is not declared. The daemon's own are never declared.
    #[must_use]
    pub fn get(&self, event_type: &EventType) -> Option<&Declared> {
        self.types.get(event_type)
    }

    /// Every declared type, in order.
    pub fn types(&self) -> impl Iterator<Item = (&EventType, &Declared)> {
        self.types.iter()
    }

    /// What happens to types that are not declared.
    #[must_use]
    pub const fn undeclared(&self) -> Undeclared {
        self.undeclared
    }

    /// Whether an event of this type may be recorded by a caller; `None`: it may, though it is not declared.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub fn admit(&self, event_type: &EventType) -> Result<Option<&Declared>, Refused> {
        if is_ours(event_type.as_str()) {
            return Err(Refused::Ours);
        }
        match (self.get(event_type), self.undeclared) {
            (Some(declared), _) if declared.retired => Err(Refused::Retired(event_type.clone())),
            (Some(declared), _) => Ok(Some(declared)),
            (None, Undeclared::Accept) => Ok(None),
            (None, Undeclared::Reject) => Err(Refused::Undeclared(event_type.clone())),
        }
    }

    /// Masks the sensitive fields of a notification's `data` before it is shown; says whether there was one.
    ///
    /// Of a type that is not declared, though only declared ones are recorded, nobody knows any more what was sensitive:
    /// it was removed or renamed, and every value is masked. The daemon's own have nothing to mask.
    pub fn mask(&self, event_type: &EventType, data: &mut Value) -> bool {
        match self.get(event_type) {
            Some(declared) => mask::mask(&declared.shape, data),
            None => self.undeclared == Undeclared::Reject && !is_ours(event_type.as_str()) && mask::mask_values(data),
        }
    }
}

impl Declared {
    /// What is wrong with the properties of such an event, at most 100 misfits; empty: they fit.
    #[must_use]
    pub fn check(&self, properties: &Value) -> Vec<Misfit> {
        check::misfits(&self.shape, properties)
    }

    /// The first thing that is wrong with the properties, for what is kept and told of the event: it names nothing but
    /// what the catalogue says itself. `None`: they fit.
    pub(crate) fn told_misfit(&self, properties: &Value) -> Option<String> {
        let misfits = self.check(properties);
        let Misfit { pointer, detail } = misfits.first()?;
        Some(format!("{}: {detail}", check::public(&self.shape, pointer)))
    }

    /// The notification's `data`: the properties without what is telemetry's alone. `text` is `properties` as compact
    /// JSON, which is given back where nothing is to be taken out.
    #[must_use]
    pub fn notification<'a>(&self, properties: &Value, text: &'a str) -> Cow<'a, str> {
        notification::notification(&self.shape, properties, text)
    }

    /// What leaves as telemetry of properties that fit: `{"event","event_properties","derived_properties"}`.
    ///
    /// # Errors
    /// [`Unbuilt`] where it is longer than a payload may be.
    pub fn telemetry(&self, event_type: &EventType, properties: &Value) -> Result<String, Unbuilt> {
        let built = self.plan.telemetry(event_type, properties);
        if built.len() > PAYLOAD_MAX {
            return Err(Unbuilt(format!("the telemetry has {} bytes; at most {PAYLOAD_MAX} leave", built.len())));
        }
        Ok(built)
    }

    /// What leaves of already anonymized properties, as [`Declared::telemetry`], and the JSON Pointers of what the
    /// telemetry schema does not know, `/properties/…` or `/derived_properties/…`, which is dropped.
    #[must_use]
    pub fn relay(&self, event_type: &EventType, properties: &Value, derived: &Value) -> (String, Vec<String>) {
        self.plan.relay(event_type, properties, derived)
    }

    /// The same type, of which what stands at `path` (names with dots between) leaves as it is: the control of the test of
    /// anonymity. Its telemetry schema is still the right one.
    #[cfg(feature = "fault-injection")]
    #[must_use]
    pub fn leaking(&self, path: &str) -> Self {
        Self { plan: Arc::new(Plan::of(&self.shape).leaking(path)), ..self.clone() }
    }

    /// The JSON Schema (2020-12) of the notification's `data`.
    #[must_use]
    pub fn schema(&self) -> Value {
        schema::schema(&self.shape, self.title.as_deref(), self.retired)
    }

    /// The JSON Schema (2020-12) of the properties, as they are recorded: what is for telemetry alone is in it too.
    #[must_use]
    pub fn properties_schema(&self) -> Value {
        schema::properties_schema(&self.shape, self.title.as_deref(), self.retired)
    }

    /// The notification's `data` of the example.
    #[must_use]
    pub fn told_example(&self) -> Option<Value> {
        let properties = Value::Object(self.example.clone()?);
        let text = properties.to_string();
        serde_json::from_str(&self.notification(&properties, &text)).ok()
    }

    /// The JSON Schema (2020-12) of what leaves.
    #[must_use]
    pub fn telemetry_schema(&self) -> Value {
        self.plan.schema()
    }

    /// Every declared field, its layers' too, by path.
    #[must_use]
    pub fn fields(&self) -> Vec<ListedField> {
        listed::listed(&self.shape, &self.layers)
    }

    /// The paths that a `where` may name, in order.
    #[must_use]
    pub fn filters(&self) -> Vec<FilterPath> {
        filters::filters(&self.shape)
    }

    /// Whether a notification of this type may have a scalar at this path, be it inside of what is free or under `*`,
    /// where [`Declared::filter`] knows nothing.
    #[must_use]
    pub fn reaches(&self, path: &[String]) -> bool {
        filters::reaches(&self.shape, path)
    }

    /// What a `where` on this path looks at; `None`: no notification of this type has a scalar there that is declared.
    #[must_use]
    pub fn filter(&self, path: &[String]) -> Option<FilterPath> {
        filters::filter(&self.shape, path)
    }
}

#[cfg(test)]
mod tests;
