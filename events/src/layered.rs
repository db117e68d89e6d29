//! Events declared in Rust: layers as structs that hold their parent, and types on them.
//!
//! What a [`Layer`] says of itself is what a `[layer]` of the catalogue says: its name, its parent, its place and its
//! fields. [`Declarations::with`] puts a type and the layers below it into a catalogue, which then builds both payloads
//! from the values, as it does for an event that came over HTTP: there is no other way for a value to become telemetry
//! than the rule of its field.
//!
//! ```
//! use posthaste_events::catalogue::declare::{Declarations, FieldDeclaration, FieldKind, Rule};
//! use posthaste_events::catalogue::{Catalogue, Unbuilt, Undeclared};
//! use posthaste_events::layered::{Event, Layer, Layered as _, Root, Typed as _, Values, values};
//!
//! struct Project {
//!     uuid: String,
//!     name: String,
//! }
//!
//! impl Layer for Project {
//!     const NAME: &'static str = "project";
//!     type Parent = Root;
//!     fn parent(&self) -> &Root {
//!         &Root
//!     }
//!     fn fields() -> Vec<FieldDeclaration> {
//!         let uuid = FieldDeclaration { required: true, identity: true, ..FieldDeclaration::new("uuid", FieldKind::String) };
//!         vec![uuid, FieldDeclaration { sensitive: true, ..FieldDeclaration::new("name", FieldKind::String) }]
//!     }
//!     fn values(&self) -> Result<Values, Unbuilt> {
//!         values([("uuid", self.uuid.as_str().into()), ("name", self.name.as_str().into())])
//!     }
//! }
//!
//! struct Job {
//!     project: Project,
//!     status: &'static str,
//!     parameters: Values,
//! }
//!
//! impl Layer for Job {
//!     const NAME: &'static str = "project:job";
//!     type Parent = Project;
//!     fn parent(&self) -> &Project {
//!         &self.project
//!     }
//!     fn fields() -> Vec<FieldDeclaration> {
//!         let status = FieldDeclaration {
//!             values: vec!["STARTED".into(), "FAILURE".into()],
//!             rule: Rule::Keep,
//!             ..FieldDeclaration::new("status", FieldKind::String)
//!         };
//!         vec![status, FieldDeclaration { rule: Rule::Count, ..FieldDeclaration::new("parameters", FieldKind::Object) }]
//!     }
//!     fn values(&self) -> Result<Values, Unbuilt> {
//!         values([("status", self.status.into()), ("parameters", self.parameters.clone().into())])
//!     }
//! }
//!
//! struct Run {
//!     job: Job,
//!     failed_steps: Vec<String>,
//! }
//!
//! impl Layer for Run {
//!     const NAME: &'static str = "project:job:run";
//!     type Parent = Job;
//!     fn parent(&self) -> &Job {
//!         &self.job
//!     }
//!     fn fields() -> Vec<FieldDeclaration> {
//!         vec![FieldDeclaration { rule: Rule::Count, ..FieldDeclaration::new("failed_steps", FieldKind::Array) }]
//!     }
//!     fn values(&self) -> Result<Values, Unbuilt> {
//!         values([("failed_steps", self.failed_steps.clone().into())])
//!     }
//! }
//!
//! struct RunFailed(Run);
//!
//! impl Event for RunFailed {
//!     const TYPE: &'static str = "project:job:run:failed";
//!     type Layer = Run;
//!     fn layer(&self) -> &Run {
//!         &self.0
//!     }
//! }
//!
//! let project = Project { uuid: "P".into(), name: "Churn".into() };
//! let job = Job { project, status: "FAILURE", parameters: values([("country", "BE".into())])? };
//! let failed = RunFailed(Run { job, failed_steps: vec!["load".into()] });
//! assert_eq!(
//!     failed.to_notification()?,
//!     r#"{"project":{"job":{"parameters":{"country":"BE"},"run":{"failed_steps":["load"]},"status":"FAILURE"},"name":"Churn","uuid":"P"}}"#
//! );
//! assert_eq!(
//!     failed.to_telemetry()?,
//!     r#"{"event":"project:job:run:failed","event_properties":{"project":{"job":{"status":"FAILURE"}}},"derived_properties":{"project":{"job":{"parameters_count":1,"run":{"failed_steps_count":1}}}}}"#
//! );
//! // Each layer builds on its parent's.
//! assert_eq!(failed.0.job.project.to_notification()?, r#"{"project":{"name":"Churn","uuid":"P"}}"#);
//! // The same in a catalogue, beside what was read from TOML.
//! let declarations = Declarations::default().with::<RunFailed>();
//! assert!(Catalogue::compile(&declarations, Undeclared::Reject).is_ok());
//! # Ok::<(), Unbuilt>(())
//! ```
//!
//! What leaves cannot be written by hand: both payloads come from the provided traits, which nobody else implements.
//!
//! ```compile_fail
//! use posthaste_events::catalogue::Unbuilt;
//! use posthaste_events::layered::Layered;
//! struct Mine;
//! impl Layered for Mine {
//!     fn to_telemetry(&self) -> Result<String, Unbuilt> {
//!         Ok(r#"{"event":"x","event_properties":{"name":"Ada"},"derived_properties":{}}"#.into())
//!     }
//! }
//! ```

use crate::catalogue::declare::{Audience, Declarations, EventDeclaration, FieldDeclaration, LayerDeclaration};
use crate::catalogue::{Catalogue, Declared, Unbuilt, Undeclared};
use crate::{Draft, EventType};
use serde_json::{Map, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The values of a layer or type by the names of its fields.
pub type Values = Map<String, Value>;

/// Values by their names. A convenience for [`Layer::values`].
///
/// # Errors
/// Never; it answers as [`Layer::values`] does.
pub fn values<const N: usize>(values: [(&str, Value); N]) -> Result<Values, Unbuilt> {
    Ok(values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A layer: what an event is about, with what that stands in.
pub trait Layer {
    /// Its name, of the grammar of types: `project:job`.
    const NAME: &'static str;
    /// Where its fields stand: names with dots between. `None`: its name with dots in place of `:`.
    const AT: Option<&'static str> = None;
    /// The layer that it builds on; [`Root`]: none. A layer on [`Root`] has a name that begins with no other layer's.
    type Parent: Layer;

    /// What it stands in.
    fn parent(&self) -> &Self::Parent;

    /// What it declares of its own fields.
    fn fields() -> Vec<FieldDeclaration>;

    /// Its own fields, in the shape in which they stand at its place. Runs once for each event.
    ///
    /// # Errors
    /// [`Unbuilt`] where one cannot be said. The event is recorded all the same, without the values of this layer, and
    /// quarantined; a panic counts as this.
    fn values(&self) -> Result<Values, Unbuilt>;
}

/// Below every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Root;

impl Layer for Root {
    const NAME: &'static str = "";
    const AT: Option<&'static str> = Some("");
    type Parent = Self;

    fn parent(&self) -> &Self {
        self
    }

    fn fields() -> Vec<FieldDeclaration> {
        Vec::new()
    }

    fn values(&self) -> Result<Values, Unbuilt> {
        Ok(Values::new())
    }
}

/// An event type on a layer.
pub trait Event {
    /// The type.
    const TYPE: &'static str;
    /// The layer that it stands on; [`Root`]: none.
    type Layer: Layer;

    /// What it is about.
    fn layer(&self) -> &Self::Layer;

    /// What a person calls it.
    #[must_use]
    fn title() -> Option<&'static str> {
        None
    }

    /// Who is told.
    #[must_use]
    fn audience() -> Audience {
        Audience::All
    }

    /// What it declares of its own fields, at the place of its layer.
    #[must_use]
    fn fields() -> Vec<FieldDeclaration> {
        Vec::new()
    }

    /// The properties of one such event; held against the fields when the catalogue is compiled.
    #[must_use]
    fn example() -> Option<Values> {
        None
    }

    /// Its own fields, as [`Layer::values`].
    ///
    /// # Errors
    /// As [`Layer::values`].
    fn values(&self) -> Result<Values, Unbuilt> {
        Ok(Values::new())
    }
}

/// An event as it is to be recorded, whatever came of building it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempted {
    /// The event, with the values of every layer that said them.
    pub draft: Draft,
    /// Why it is not whole: the first layer that failed, and how.
    pub failure: Option<Failure>,
}

/// A layer or type that could not say its values. Only who it was is kept of it; why is for the caller alone, since it
/// may say anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{who}: {why}")]
pub struct Failure {
    /// The name of the layer, or the type.
    pub who: &'static str,
    /// How it failed.
    pub why: String,
}

impl From<Failure> for Unbuilt {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

/// What every [`Layer`] can do.
pub trait Layered: sealed::Layered {
    /// Its declaration and those of the layers below it, the outermost first.
    fn declarations() -> Vec<LayerDeclaration>;

    /// Everything that it and the layers below it say, each at its place.
    ///
    /// # Errors
    /// [`Unbuilt`] of the first layer that failed, the outermost first.
    fn properties(&self) -> Result<Values, Unbuilt>;

    /// What people are told of it, built on the parent's: a JSON object. Compiles the declarations each time: to look at
    /// and to test; what is recorded is built by the catalogue.
    ///
    /// # Errors
    /// [`Unbuilt`] where a layer failed, its declarations are at fault, or its values do not fit them.
    fn to_notification(&self) -> Result<String, Unbuilt>;

    /// What leaves of it, built on the parent's: `{"event","event_properties","derived_properties"}`, under the layer's
    /// own name. Compiles as [`Layered::to_notification`] does.
    ///
    /// # Errors
    /// As [`Layered::to_notification`].
    fn to_telemetry(&self) -> Result<String, Unbuilt>;
}

/// What every [`Event`] can do.
pub trait Typed: sealed::Typed {
    /// The event to record. Whatever fails in building it is told in the answer and never lost.
    ///
    /// # Errors
    /// [`Unbuilt`] where [`Event::TYPE`] is no type: a fault of the program, not of the event.
    fn attempt(&self) -> Result<Attempted, Unbuilt>;

    /// As [`Layered::to_notification`].
    ///
    /// # Errors
    /// As there.
    fn to_notification(&self) -> Result<String, Unbuilt>;

    /// As [`Layered::to_telemetry`].
    ///
    /// # Errors
    /// As there.
    fn to_telemetry(&self) -> Result<String, Unbuilt>;
}

mod sealed {
    /// Every layer, by the one implementation below.
    pub trait Layered {}
    impl<L: super::Layer> Layered for L {}
    /// Every event, by the one implementation below.
    pub trait Typed {}
    impl<E: super::Event> Typed for E {}
}

impl<L: Layer> Layered for L {
    fn declarations() -> Vec<LayerDeclaration> {
        if L::NAME.is_empty() {
            return Vec::new();
        }
        let mut layers = L::Parent::declarations();
        layers.push(LayerDeclaration {
            name: L::NAME.to_owned(),
            parent: name_of::<L::Parent>(),
            at: L::AT.map(str::to_owned),
            fields: L::fields(),
        });
        layers
    }

    fn properties(&self) -> Result<Values, Unbuilt> {
        let (properties, failure) = said(self);
        failure.map_or(Ok(properties), |failure| Err(failure.into()))
    }

    fn to_notification(&self) -> Result<String, Unbuilt> {
        let (event_type, declarations) = as_a_type::<L>();
        let properties = Value::Object(self.properties()?);
        let declared = alone(event_type, &declarations, &properties)?.1;
        Ok(declared.notification(&properties, &properties.to_string()).into_owned())
    }

    fn to_telemetry(&self) -> Result<String, Unbuilt> {
        let (event_type, declarations) = as_a_type::<L>();
        let properties = Value::Object(self.properties()?);
        let (event_type, declared) = alone(event_type, &declarations, &properties)?;
        declared.telemetry(&event_type, &properties)
    }
}

impl<E: Event> Typed for E {
    fn attempt(&self) -> Result<Attempted, Unbuilt> {
        let event_type = EventType::parse(E::TYPE).map_err(|e| Unbuilt(e.to_string()))?;
        let (properties, failure) = event_said(self);
        Ok(Attempted { draft: Draft::new(event_type).properties(&properties), failure })
    }

    fn to_notification(&self) -> Result<String, Unbuilt> {
        let (properties, failure) = event_said(self);
        let properties = failure.map_or(Ok(Value::Object(properties)), |failure| Err(Unbuilt::from(failure)))?;
        let declared = alone(E::TYPE, &Declarations::default().with::<E>(), &properties)?.1;
        Ok(declared.notification(&properties, &properties.to_string()).into_owned())
    }

    fn to_telemetry(&self) -> Result<String, Unbuilt> {
        let (properties, failure) = event_said(self);
        let properties = failure.map_or(Ok(Value::Object(properties)), |failure| Err(Unbuilt::from(failure)))?;
        let (event_type, declared) = alone(E::TYPE, &Declarations::default().with::<E>(), &properties)?;
        declared.telemetry(&event_type, &properties)
    }
}

impl Declarations {
    /// The same with a type that is declared in Rust and the layers below it. A layer that is there already and says the
    /// same is not added again; one that says something else is a fault of the catalogue.
    #[must_use]
    pub fn with<E: Event>(mut self) -> Self {
        for layer in E::Layer::declarations() {
            if !self.layers.contains(&layer) {
                self.layers.push(layer);
            }
        }
        self.events.push(EventDeclaration {
            name: E::TYPE.to_owned(),
            layer: name_of::<E::Layer>(),
            title: E::title().map(str::to_owned),
            retired: false,
            audience: E::audience(),
            fields: E::fields(),
            example: E::example(),
        });
        self
    }
}

fn name_of<L: Layer>() -> Option<String> {
    (!L::NAME.is_empty()).then(|| L::NAME.to_owned())
}

/// A layer as a type of its own name without fields.
fn as_a_type<L: Layer>() -> (&'static str, Declarations) {
    let event = EventDeclaration { name: L::NAME.to_owned(), layer: name_of::<L>(), ..EventDeclaration::default() };
    (L::NAME, Declarations { layers: L::declarations(), events: vec![event] })
}

/// The one type of these declarations, which the properties fit.
fn alone(event_type: &str, declarations: &Declarations, properties: &Value) -> Result<(EventType, Declared), Unbuilt> {
    let event_type = EventType::parse(event_type).map_err(|e| Unbuilt(e.to_string()))?;
    let catalogue = Catalogue::compile(declarations, Undeclared::Reject).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(|fault| format!("{}; {}", fault.what, fault.hint)).collect();
        Unbuilt(told.join("\n"))
    })?;
    let declared = catalogue.get(&event_type).cloned().ok_or_else(|| Unbuilt("the type is not declared".to_owned()))?;
    match declared.check(properties).first() {
        Some(misfit) => Err(Unbuilt(format!("{}: {}", misfit.pointer, misfit.detail))),
        None => Ok((event_type, declared)),
    }
}

/// What a layer and those below it say, and the first failure.
fn said<L: Layer>(layer: &L) -> (Values, Option<Failure>) {
    if L::NAME.is_empty() {
        return (Values::new(), None);
    }
    let (mut properties, failure) = below(L::NAME, || layer.parent());
    let own = place::<L>(&mut properties, guarded(L::NAME, || layer.values()));
    (properties, failure.or(own))
}

fn event_said<E: Event>(event: &E) -> (Values, Option<Failure>) {
    let (mut properties, failure) = below(E::TYPE, || event.layer());
    let own = place::<E::Layer>(&mut properties, guarded(E::TYPE, || event.values()));
    (properties, failure.or(own))
}

/// What the layer below says; one that cannot be had says nothing.
fn below<'a, L: Layer + 'a>(who: &'static str, layer: impl FnOnce() -> &'a L) -> (Values, Option<Failure>) {
    match catch_unwind(AssertUnwindSafe(layer)) {
        Ok(layer) => said(layer),
        Err(_) => (Values::new(), Some(Failure { who, why: "giving the layer below it panicked".to_owned() })),
    }
}

/// What is said; a failure and a panic name who said it.
fn guarded(who: &'static str, said: impl FnOnce() -> Result<Values, Unbuilt>) -> Result<Values, Failure> {
    match catch_unwind(AssertUnwindSafe(said)) {
        Ok(said) => said.map_err(|e| Failure { who, why: e.to_string() }),
        Err(_) => Err(Failure { who, why: "saying its values panicked".to_owned() }),
    }
}

/// Puts values at the place of a layer, or says why not. The place is there even where nothing was said.
fn place<L: Layer>(properties: &mut Values, said: Result<Values, Failure>) -> Option<Failure> {
    let failed = |why| Some(Failure { who: L::NAME, why });
    let at = L::AT.map_or_else(|| L::NAME.replace(':', "."), str::to_owned);
    let mut object = properties;
    for name in at.split('.').filter(|name| !name.is_empty()) {
        let entry = object.entry(name).or_insert_with(|| Value::Object(Values::new()));
        match entry {
            Value::Object(inside) => object = inside,
            _ => return failed(format!("something else stands at its place, {at}")),
        }
    }
    let own = match said {
        Ok(own) => own,
        Err(failure) => return Some(failure),
    };
    merge(object, own).err().and_then(|name| failed(format!("{name:?} at {at:?} is said twice")))
}

/// Puts values beside those that are there, objects into objects; a name that is said twice is given back.
fn merge(into: &mut Values, own: Values) -> Result<(), String> {
    for (name, value) in own {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(there)), Value::Object(more)) => merge(there, more)?,
            (Some(_), _) => return Err(name),
            (None, value) => drop(into.insert(name, value)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
