//! What should leave of properties, worked out again in the plainest way: value by value, from the tree of the generator.

use super::values::{grid, keeps};
use super::{Inside, Spot};
use posthaste_events::catalogue::declare::{FieldDeclaration, FieldKind, Rule};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// `event_properties` and `derived_properties`.
pub(crate) fn leaves(top: &Spot, properties: &Value) -> (Value, Value) {
    let mut derived = json!({});
    if let Inside::Names(names) = &top.inside {
        for (name, spot) in names {
            let found: Vec<_> = properties.get(name).into_iter().collect();
            derive(spot, &Place { above: Vec::new(), name, starred: false, over: false }, &found, &mut derived);
        }
    }
    (kept(top, properties).unwrap_or(json!({})), derived)
}

fn kept(spot: &Spot, value: &Value) -> Option<Value> {
    match (&spot.inside, value) {
        (Inside::Nothing, value) => {
            let field = spot.field.as_ref().filter(|f| f.rule == Rule::Keep)?;
            Some(rounded(field, value))
        }
        (Inside::Names(names), value) => {
            let members: Map<_, _> =
                names.iter().filter_map(|(name, spot)| Some((name.clone(), kept(spot, value.get(name)?)?))).collect();
            (!members.is_empty()).then(|| members.into())
        }
        (Inside::Each(entry), Value::Array(items)) if keeps(entry) => {
            let empty = if matches!(entry.inside, Inside::Each(_)) { json!([]) } else { json!({}) };
            Some(items.iter().map(|item| kept(entry, item).unwrap_or_else(|| empty.clone())).collect())
        }
        (Inside::Each(_), _) => None,
    }
}

fn rounded(field: &FieldDeclaration, value: &Value) -> Value {
    match (field.kind, value.as_f64(), grid(field)) {
        (FieldKind::Number, Some(n), Some((least, most, scale))) => {
            written(((n * scale).round() / scale).clamp(least, most))
        }
        _ => value.clone(),
    }
}

/// A whole number has no fraction where it leaves, however it was written.
fn written(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 1e15 { json!(n as i64) } else { json!(n) }
}

/// Where a field stands.
struct Place<'a> {
    above: Vec<&'a str>,
    name: &'a str,
    /// It is one of many.
    starred: bool,
    /// What holds the many is there.
    over: bool,
}

fn derive<'a>(spot: &'a Spot, place: &Place<'a>, found: &[&Value], into: &mut Value) {
    if let Some(field) = &spot.field
        && let Some((ending, value)) = measure(field, place, found)
    {
        let mut object = &mut *into;
        for name in &place.above {
            object = object.as_object_mut().unwrap().entry(*name).or_insert(json!({}));
        }
        let name = field.derived_name.clone().unwrap_or_else(|| format!("{}{ending}", place.name));
        object.as_object_mut().unwrap().insert(name, value);
    }
    match &spot.inside {
        Inside::Nothing => {}
        Inside::Names(names) => {
            for (name, spot) in names {
                let above = place.above.iter().copied().chain([place.name]).collect();
                let found: Vec<_> = found.iter().filter_map(|value| value.get(name)).collect();
                derive(spot, &Place { above, name, ..*place }, &found, into);
            }
        }
        Inside::Each(entry) => {
            let holds = |value: &&&Value| value.is_object() || value.is_array();
            let over = if place.starred { place.over } else { found.iter().any(|value| holds(&value)) };
            let mut entries: Vec<&Value> = Vec::new();
            for value in found {
                match value {
                    Value::Object(fields) => entries.extend(fields.values()),
                    Value::Array(items) => entries.extend(items),
                    _ => {}
                }
            }
            let above = place.above.clone();
            derive(entry, &Place { above, name: place.name, starred: true, over }, &entries, into);
        }
    }
}

fn measure(field: &FieldDeclaration, place: &Place<'_>, found: &[&Value]) -> Option<(&'static str, Value)> {
    if field.rule == Rule::Present {
        let there = found.iter().filter(|value| !value.is_null()).count();
        return Some(("_present", if place.starred { json!(there) } else { json!(there > 0) }));
    }
    if place.starred && !place.over {
        return None;
    }
    let found: Vec<&Value> = found.iter().copied().filter(|value| !value.is_null()).collect();
    if found.is_empty() && !place.starred {
        return None;
    }
    let entries = |value: &Value| value.as_array().map_or_else(|| value.as_object().map_or(0, Map::len), Vec::len);
    let scalars = || {
        found.iter().flat_map(|value| match value {
            Value::Array(items) => items.iter().collect(),
            value => vec![*value],
        })
    };
    Some(match &field.rule {
        Rule::Drop | Rule::Keep | Rule::Present => return None,
        Rule::Count => ("_count", json!(found.iter().map(|value| entries(value)).sum::<usize>())),
        Rule::Distinct => {
            let different: BTreeSet<String> = scalars()
                .filter(|value| !(value.is_null() || value.is_array() || value.is_object()))
                .map(|value| value.as_f64().map_or_else(|| value.to_string(), |n| format!("#{n}")))
                .collect();
            ("_distinct", json!(different.len()))
        }
        Rule::Sum if field.kind == FieldKind::Integer => {
            ("_sum", json!(found.iter().filter_map(|value| value.as_i64()).sum::<i64>()))
        }
        Rule::Sum => {
            let (_, _, scale) = grid(field)?;
            let steps = found.iter().filter_map(|value| value.as_f64()).map(|n| (n * scale).round() as i64);
            ("_sum", written(steps.sum::<i64>() as f64 / scale))
        }
        Rule::CountBy => {
            let known = |word: &str| field.values.iter().any(|value| value.as_str() == Some(word));
            let words = scalars().filter(|word| !word.is_null()).map(|word| match word.as_str() {
                Some(word) if known(word) => word.to_owned(),
                _ => "other".to_owned(),
            });
            ("_count_by", tally(words)?)
        }
        Rule::Bucket(bounds) => {
            let bounds: Vec<f64> = bounds.iter().filter_map(serde_json::Number::as_f64).collect();
            labelled("_bucket", &bounds, found.iter().filter_map(|value| value.as_f64()), place)?
        }
        Rule::LengthBucket(bounds) => {
            let bounds: Vec<f64> = bounds.iter().map(|bound| *bound as f64).collect();
            let length = |value: &&Value| value.as_str().map_or_else(|| entries(value), |text| text.chars().count());
            labelled("_length_bucket", &bounds, found.iter().map(|value| length(value) as f64), place)?
        }
    })
}

fn labelled(
    ending: &'static str,
    bounds: &[f64],
    sizes: impl Iterator<Item = f64>,
    place: &Place<'_>,
) -> Option<(&'static str, Value)> {
    let label = |size: f64| match bounds.iter().rposition(|bound| *bound <= size) {
        None => format!("<{}", bounds[0]),
        Some(at) => {
            bounds.get(at + 1).map_or_else(|| format!(">={}", bounds[at]), |next| format!("{}..{next}", bounds[at]))
        }
    };
    let mut labels = sizes.map(label);
    Some((ending, if place.starred { tally(labels)? } else { labels.next()?.into() }))
}

fn tally(words: impl Iterator<Item = String>) -> Option<Value> {
    let mut counts = BTreeMap::<String, usize>::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    (!counts.is_empty()).then(|| json!(counts))
}
