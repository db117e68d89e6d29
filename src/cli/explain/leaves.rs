//! Reads out of a telemetry schema, and nothing else, what may leave: so what is explained is what is enforced.

use posthaste_events::catalogue::ListedField;
use posthaste_events::catalogue::declare::Rule;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// One value that may leave.
#[derive(Debug, Serialize)]
pub(super) struct Leaf {
    /// Names with dots between, `*` for each entry of a list.
    pub(super) path: String,
    /// What it may be, in words.
    pub(super) values: String,
    /// The rule that makes it, where it is derived.
    pub(super) rule: Option<&'static str>,
    /// The field that it is derived from.
    pub(super) of: Option<String>,
    pub(super) description: Option<String>,
}

/// Where derived values stand, each with its rule and the path of its field.
pub(super) type Places = BTreeMap<String, (&'static str, String)>;

/// Where the values that fields are derived to stand. What is wrong here leaves a value without its origin, no more:
/// what leaves is read from the schema.
pub(super) fn derived_places(fields: &[ListedField]) -> Places {
    let place = |field: &ListedField| {
        let (rule, ending) = match &field.declaration.rule {
            Rule::Drop | Rule::Keep => return None,
            Rule::Count => ("count", "count"),
            Rule::Distinct => ("distinct", "distinct"),
            Rule::Sum => ("sum", "sum"),
            Rule::CountBy => ("count-by", "count_by"),
            Rule::Present => ("present", "present"),
            Rule::Bucket(_) => ("bucket", "bucket"),
            Rule::LengthBucket(_) => ("length-bucket", "length_bucket"),
        };
        // Of a `*` the names are data: it has no place where something derived stands.
        let mut steps: Vec<&str> = field.path.split('.').filter(|step| *step != "*").collect();
        let own = steps.pop()?;
        let name = field.declaration.derived_name.clone().unwrap_or_else(|| format!("{own}_{ending}"));
        steps.push(&name);
        Some((steps.join("."), (rule, field.path.clone())))
    };
    fields.iter().filter_map(place).collect()
}

/// Every value that a schema lets through, by path.
pub(super) fn leaves(schema: &Value, places: &Places) -> Vec<Leaf> {
    let mut found = Vec::new();
    walk(schema, String::new(), places, &mut found);
    found
}

fn walk(schema: &Value, path: String, places: &Places, found: &mut Vec<Leaf>) {
    let below = |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
    let place = places.get(&path);
    let properties = schema.get("properties").and_then(Value::as_object);
    match (properties, schema.get("items")) {
        (Some(properties), _) if place.is_none() => {
            properties.iter().for_each(|(name, inner)| walk(inner, below(name), places, found));
        }
        (None, Some(items)) if place.is_none() => {
            // Every entry keeps its place, so that their number leaves too.
            let values = "how many entries".to_owned();
            found.push(Leaf { path: path.clone(), values, rule: None, of: None, description: None });
            walk(items, below("*"), places, found);
        }
        _ => found.push(Leaf {
            values: in_words(schema),
            rule: place.map(|(rule, _)| *rule),
            of: place.map(|(_, field)| field.clone()),
            description: schema.get("description").and_then(Value::as_str).map(str::to_owned),
            path,
        }),
    }
}

/// What a value may be.
fn in_words(schema: &Value) -> String {
    if let Some(words) = schema.get("properties").and_then(Value::as_object) {
        let words: Vec<&str> = words.keys().map(String::as_str).collect();
        return format!("how many of each: {}", words.join(", "));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(word).collect::<Vec<_>>().join(" | ");
    }
    let kinds = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().map(word).collect::<Vec<_>>().join(" or "),
        Some(kind) => word(kind),
        None => "anything".to_owned(),
    };
    match (schema.get("minimum"), schema.get("maximum")) {
        (Some(least), Some(most)) => format!("{kinds}, {least} to {most}"),
        (Some(least), None) => format!("{kinds}, {least} or more"),
        (None, Some(most)) => format!("{kinds}, at most {most}"),
        (None, None) => kinds,
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
