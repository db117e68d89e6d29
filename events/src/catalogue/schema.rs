//! Writes the tree of a type as JSON Schema (2020-12): the notification's `data`, without what is for telemetry alone, or
//! the properties as they are recorded, with it.
//!
//! One difference remains: to JSON Schema `1.0` is an integer, to the catalogue only what is written as one.

use super::declare::{FieldDeclaration, FieldKind, Rule};
use super::shape::{Inside, Node};
use serde_json::{Map, Value, json};

/// The schema of a notification's `data`.
pub(super) fn schema(top: &Node, title: Option<&str>, retired: bool) -> Value {
    whole(of(top, false), title, retired)
}

/// The schema of the properties.
pub(super) fn properties_schema(top: &Node, title: Option<&str>, retired: bool) -> Value {
    whole(of(top, true), title, retired)
}

fn whole(mut schema: Map<String, Value>, title: Option<&str>, retired: bool) -> Value {
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    if let Some(title) = title {
        schema.insert("title".to_owned(), title.into());
    }
    if retired {
        schema.insert("deprecated".to_owned(), true.into());
    }
    Value::Object(schema)
}

/// The schema of one node; `all`: with what is for telemetry alone.
fn of(node: &Node, all: bool) -> Map<String, Value> {
    let mut schema = Map::new();
    let nullable = node.field.as_ref().is_some_and(|f| f.nullable);
    let kinds: &[&str] = match (node.field.as_ref().map(|f| f.kind), &node.inside) {
        (Some(FieldKind::Boolean), _) => &["boolean"],
        (Some(FieldKind::Integer), _) => &["integer"],
        (Some(FieldKind::Number), _) => &["number"],
        (Some(FieldKind::String), _) => &["string"],
        (Some(FieldKind::Array), _) => &["array"],
        (None, Inside::Each(_)) if !node.place => &["object", "array"],
        (Some(FieldKind::Object) | None, _) => &["object"],
    };
    let kinds: Vec<_> = kinds.iter().copied().chain(nullable.then_some("null")).collect();
    schema.insert("type".to_owned(), if let [kind] = kinds[..] { kind.into() } else { json!(kinds) });
    if let Some(field) = &node.field {
        limits(field, &mut schema);
    }
    match &node.inside {
        Inside::Nothing => {}
        Inside::Names(names) => {
            let told: Vec<_> = names.iter().filter(|(_, child)| all || !child.marks.hidden).collect();
            let required: Vec<_> =
                told.iter().filter(|(_, child)| child.marks.needed).map(|(name, _)| &***name).collect();
            if !required.is_empty() {
                schema.insert("required".to_owned(), json!(required));
            }
            let properties: Map<_, _> =
                told.into_iter().map(|(name, child)| (name.to_string(), Value::Object(of(child, all)))).collect();
            schema.insert("properties".to_owned(), properties.into());
            schema.insert("additionalProperties".to_owned(), false.into());
        }
        Inside::Each(each) => {
            // Were each entry hidden itself, the whole would be but for a field of its own: then it stays, emptied.
            let shown = all || !each.marks.hidden;
            let entry = if shown { Value::Object(of(each, all)) } else { Value::Bool(false) };
            if kinds.contains(&"object") {
                schema.insert("additionalProperties".to_owned(), entry.clone());
            }
            if kinds.contains(&"array") {
                schema.insert("items".to_owned(), entry);
            }
        }
    }
    schema
}

/// What a field says of itself.
fn limits(field: &FieldDeclaration, schema: &mut Map<String, Value>) {
    if let Some(description) = &field.description {
        schema.insert("description".to_owned(), description.as_str().into());
    }
    for (key, bound) in [("minimum", &field.minimum), ("maximum", &field.maximum)] {
        if let Some(bound) = bound {
            schema.insert(key.to_owned(), Value::Number(bound.clone()));
        }
    }
    if let Some(max) = field.length_max {
        let key = match field.kind {
            FieldKind::Object => "maxProperties",
            FieldKind::Array => "maxItems",
            _ => "maxLength",
        };
        schema.insert(key.to_owned(), max.into());
    }
    // The words of `count-by` are not all that may come.
    if !field.values.is_empty() && field.rule != Rule::CountBy {
        let null = field.nullable.then_some(Value::Null);
        schema.insert("enum".to_owned(), field.values.iter().cloned().chain(null).collect());
    }
}
