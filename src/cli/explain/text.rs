//! Writes what is explained for a terminal.

use super::gather::{Explained, Field, Leaving, Receiver, Standing, Told};
use super::leaves::Leaf;
use crate::cli::output::plain;
use serde_json::{Map, Value};

pub(super) fn lines(explained: &[Explained], others: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for one in explained {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(of(one));
    }
    if others {
        lines.extend([String::new(), OTHERS.to_owned()]);
    }
    lines
}

/// What is said of the types that nobody declared, where they are taken.
pub(super) const OTHERS: &str = "Any other type is recorded and told as it comes (catalogue.undeclared = \"accept\"), and never leaves as telemetry.";

fn of(one: &Explained) -> Vec<String> {
    let mut lines = vec![heading(one)];
    if !one.layers.is_empty() {
        lines.push(format!("  layers: {}", one.layers.join(" > ")));
    }
    if let Some(note) = standing(one.declared) {
        lines.push(format!("  {note}"));
    }
    lines.push(if one.receivers.is_empty() { "  nobody gets it".to_owned() } else { "  goes to:".to_owned() });
    lines.extend(one.receivers.iter().map(|r| format!("    {}", receiver(r))));
    match &one.notification {
        Some(told) => notification(told, &mut lines),
        None => lines.push("  notification: none, it is for analytics alone".to_owned()),
    }
    match &one.telemetry {
        Some(leaving) => telemetry(leaving, &mut lines),
        None => lines.push("  telemetry: nothing leaves".to_owned()),
    }
    lines
}

fn heading(one: &Explained) -> String {
    match &one.title {
        Some(title) => format!("{}: {}", one.event_type, plain(title)),
        None => one.event_type.clone(),
    }
}

pub(super) const fn standing(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Declared => None,
        Standing::Retired => Some("retired: new ones are refused"),
        Standing::Undeclared => Some("not declared: recorded and told as it comes, never telemetry"),
        Standing::Daemon => Some("the daemon's own: only for those that name it"),
    }
}

pub(super) fn receiver(receiver: &Receiver) -> String {
    let Receiver { subscription, deliveree, payload, tenant, when } = receiver;
    let tenant = tenant.as_ref().map(|t| format!(", of tenant {} only", plain(t))).unwrap_or_default();
    format!("{subscription} ({deliveree}): {payload}{tenant}{}", conditions(when))
}

/// The conditions of sets that are OR-ed; nothing where one of them has none.
fn conditions(sets: &[Map<String, Value>]) -> String {
    if sets.iter().any(Map::is_empty) {
        return String::new();
    }
    let set = |set: &Map<String, Value>| {
        let mut words = Vec::new();
        set.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("filter", Value::String(filter)) => words.push(plain(filter)),
            _ => equal("", value, &mut words),
        });
        words.join(" and ")
    };
    format!(", where {}", sets.iter().map(set).collect::<Vec<_>>().join("; or "))
}

/// What paths must be equal to; they may be written as tables within tables.
fn equal(path: &str, value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(paths) => paths.iter().for_each(|(name, value)| {
            equal(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, into);
        }),
        value => into.push(format!("{} = {}", plain(path), plain(&value.to_string()))),
    }
}

fn notification(told: &Told, lines: &mut Vec<String>) {
    lines.push(if told.fields.is_empty() && !told.open {
        "  notification: no fields".to_owned()
    } else if told.open {
        "  notification: its properties".to_owned()
    } else {
        "  notification:".to_owned()
    });
    let width = widest(told.fields.iter().map(|f| &f.path));
    lines.extend(told.fields.iter().map(|f| format!("    {:width$}  {}", plain(&f.path), field(f))));
    lines.extend(told.example.as_ref().map(|example| format!("    example: {}", plain(&example.to_string()))));
}

/// What a field may be.
pub(super) fn field(field: &Field) -> String {
    let mut words = vec![if field.nullable { format!("{} or null", field.kind) } else { field.kind.to_owned() }];
    if !field.values.is_empty() {
        let values = field.values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        words.push(plain(&values.collect::<Vec<_>>().join(" | ")));
    }
    match (&field.minimum, &field.maximum) {
        (Some(least), Some(most)) => words.push(format!("{least} to {most}")),
        (Some(least), None) => words.push(format!("{least} or more")),
        (None, Some(most)) => words.push(format!("at most {most}")),
        (None, None) => {}
    }
    words.extend(field.length_max.map(|most| format!("length at most {most}")));
    words.extend(field.required.then(|| "required".to_owned()));
    words.extend(field.sensitive.then(|| "sensitive".to_owned()));
    words.join(", ")
}

fn telemetry(leaving: &Leaving, lines: &mut Vec<String>) {
    let parts = [("event_properties", &leaving.event_properties), ("derived_properties", &leaving.derived_properties)];
    let written: Vec<(String, String)> = parts
        .into_iter()
        .flat_map(|(part, leaves)| leaves.iter().map(move |l| (format!("{part}.{}", l.path), leaf(l))))
        .collect();
    lines.push(if written.is_empty() {
        "  telemetry: that it happened leaves, and no field".to_owned()
    } else {
        "  telemetry, all that leaves:".to_owned()
    });
    let width = widest(written.iter().map(|(path, _)| path));
    lines.extend(written.into_iter().map(|(path, what)| format!("    {:width$}  {what}", plain(&path))));
    if !leaving.dropped.is_empty() {
        lines.push(format!("    nothing of: {}", plain(&leaving.dropped.join(", "))));
    }
    lines.extend(leaving.example.as_ref().map(|example| format!("    example: {}", plain(&example.to_string()))));
}

/// What a value that leaves may be, and what it tells.
pub(super) fn leaf(leaf: &Leaf) -> String {
    let origin = match (leaf.rule, &leaf.of) {
        (Some(rule), Some(of)) => format!(" ({rule} of {of})"),
        _ => String::new(),
    };
    format!("{}{origin}", plain(&leaf.values))
}

fn widest<'a>(texts: impl Iterator<Item = &'a String>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}
