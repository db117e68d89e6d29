//! Describes what leaves of a type as JSON Schema (2020-12): closed, so that what it does not name does not leave.

use super::declare::FieldDeclaration;
use super::rules::{Allowed, COUNT_MAX, Derivation, Derived, Grid, Kept, Measure, Measured, Plan, Word, Words};
use serde_json::{Map, Value, json};

impl Plan {
    /// The schema of `{"event","event_properties","derived_properties"}`.
    pub(super) fn schema(&self) -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "event": { "type": "string" },
                "event_properties": object(&self.kept, Kept::schema),
                "derived_properties": object(&self.derived, Derived::schema),
            },
            "required": ["event", "event_properties", "derived_properties"],
            "additionalProperties": false,
        })
    }
}

/// An object that has at most these members.
fn object<T>(members: &[(Word, T)], schema: impl Fn(&T) -> Value) -> Value {
    let properties: Map<_, _> = members.iter().map(|(name, member)| (name.raw().to_owned(), schema(member))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

impl Kept {
    fn schema(&self) -> Value {
        match self {
            Self::Object(members) => object(members, Self::schema),
            Self::List(entry) => json!({ "type": "array", "items": entry.schema() }),
            #[cfg(feature = "fault-injection")]
            Self::Leaking => Value::Bool(false),
            Self::Value { allowed, field } => described(allowed.schema(field), field),
        }
    }
}

impl Allowed {
    fn schema(&self, field: &FieldDeclaration) -> Value {
        let mut schema = match self {
            Self::Truth => json!({ "type": "boolean" }),
            Self::Words(words) => vocabulary(words),
            Self::Numbers(numbers) => {
                json!({ "type": "number", "enum": numbers.iter().map(|(_, word)| number(word.raw())).collect::<Vec<_>>() })
            }
            Self::Grid(grid) => bounded(grid, grid.bounds()),
        };
        if field.nullable {
            let or_null = json!([schema["type"].take(), "null"]);
            schema["type"] = or_null;
            if let Some(Value::Array(values)) = schema.get_mut("enum") {
                values.push(Value::Null);
            }
        }
        schema
    }
}

impl Derived {
    fn schema(&self) -> Value {
        match self {
            Self::Object { members, .. } => object(members, Self::schema),
            Self::Value(derivation) => described(derivation.schema(), &derivation.field),
        }
    }
}

impl Derivation {
    fn schema(&self) -> Value {
        match &self.measure {
            Measure::Count | Measure::Distinct => count(),
            Measure::Present if self.over_all() => count(),
            Measure::Present => json!({ "type": "boolean" }),
            Measure::Sum(grid) => bounded(grid, grid.sums()),
            Measure::CountBy { words, .. } => tally(words),
            Measure::Bucket(buckets) | Measure::LengthBucket(buckets) if self.over_all() => tally(&buckets.labels),
            Measure::Bucket(buckets) | Measure::LengthBucket(buckets) => vocabulary(&buckets.labels),
        }
    }
}

fn described(mut schema: Value, field: &FieldDeclaration) -> Value {
    if let Some(description) = &field.description {
        schema["description"] = Value::from(description.as_str());
    }
    schema
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": COUNT_MAX })
}

fn tally(words: &Words) -> Value {
    let counts: Map<_, _> = words.iter().map(|word| (word.raw().to_owned(), count())).collect();
    json!({ "type": "object", "properties": counts, "additionalProperties": false })
}

fn vocabulary(words: &Words) -> Value {
    json!({ "type": "string", "enum": words.iter().map(Word::raw).collect::<Vec<_>>() })
}

fn bounded(grid: &Grid, (least, most): (Measured, Measured)) -> Value {
    let kind = match grid {
        Grid::Whole { .. } => "integer",
        Grid::Real { .. } => "number",
    };
    json!({ "type": kind, "minimum": number(&least.to_string()), "maximum": number(&most.to_string()) })
}

/// A number that was written by us.
fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
