//! Which events a subscription wants: `events` and `where`, or several such sets as `[[subscription.match]]`.

use super::node::{Node, Value};
use super::section::Section;
use posthaste_events::Pattern;
use posthaste_events::matching::{Selector, Where};
use serde_json::Map;

/// How many conditions one `where` may have; each is looked at for every event.
const WHERES_MAX: usize = 32;
/// How many sets a subscription may have.
const SETS_MAX: usize = 32;
const KEYS: [&str; 3] = ["events", "where", "filter"];

/// Reads the sets, each for the subscription's tenant; one that wants everything where nothing is said.
pub(super) fn read(section: &mut Section<'_, '_>, tenant: Option<&str>) -> Vec<Selector> {
    if !section.has("match") {
        let _ = section.node("match");
        return vec![read_set(section, tenant)];
    }
    for key in KEYS {
        if section.has(key) {
            let place = section.place_of(key);
            section.unseen(&place, key, "stands beside [[subscription.match]]", "put it into one of those sets");
        }
    }
    let single = read_set(section, tenant);
    let sets = section.array("match").unwrap_or_default();
    if sets.is_empty() || sets.len() > SETS_MAX {
        let place = section.place_of("match");
        section.unseen(&place, "match", format!("has not 1 to {SETS_MAX} sets"), "leave it out to want every event");
        return vec![single];
    }
    let mut selectors = Vec::with_capacity(sets.len());
    for (at, node) in sets.iter().enumerate() {
        let scope = format!("{}: match {}", section.scope, at + 1);
        let mut set = Section::of(node, &node.place, scope, section.problems);
        if !matches!(node.value, Value::Table(_)) {
            set.unseen(&node.place, "it", format!("is {}, not a table", node.kind()), "write [[subscription.match]]");
            continue;
        }
        selectors.push(read_set(&mut set, tenant));
        set.finish();
    }
    selectors
}

/// Puts what was written into how the subscription is shown.
pub(super) fn show(node: &Node, shown: &mut Map<String, serde_json::Value>) {
    for key in KEYS.into_iter().chain(["match"]) {
        if let Some(value) = node.get(key) {
            shown.insert(key.into(), value.json_shown());
        }
    }
}

fn read_set(section: &mut Section<'_, '_>, tenant: Option<&str>) -> Selector {
    let mut events = Vec::new();
    let given = section.strings("events");
    if given.as_ref().is_some_and(Vec::is_empty) && section.node("events").is_some_and(is_empty) {
        let place = section.place_of("events");
        section.unseen(&place, "events", "is empty", "leave it out for every event, or name some");
    }
    for (text, node) in given.unwrap_or_default() {
        match Pattern::parse(text) {
            Ok(pattern) => events.push(pattern),
            Err(why) => section.wrong(
                "events",
                node,
                format!("is no pattern: {why}"),
                "such as \"project:**\" or \"*:created\"",
            ),
        }
    }
    if let Some((_, node)) = section.string("filter") {
        section.not_built("filter", node);
    }
    Selector { events, wheres: read_where(section), filter: None, tenant: tenant.map(str::to_owned) }
}

fn is_empty(node: &Node) -> bool {
    matches!(&node.value, Value::Array(nodes) if nodes.is_empty())
}

fn read_where(section: &mut Section<'_, '_>) -> Vec<Where> {
    let Some(entry) = section.entry("where") else { return Vec::new() };
    if !matches!(entry.node.value, Value::Table(_)) {
        section.wrong("where", &entry.node, "is no table", "write where = { \"project.uuid\" = \"…\" }");
        return Vec::new();
    }
    let mut wheres = Vec::new();
    collect("", &entry.node, section, &mut wheres);
    if wheres.len() > WHERES_MAX {
        section.unseen(&entry.place, "where", format!("has more than {WHERES_MAX} conditions"), "ask for less");
    }
    wheres
}

/// `where.project.uuid = "…"` is `where = { "project.uuid" = "…" }`: TOML reads dots outside quotes as tables.
fn collect(path: &str, node: &Node, section: &mut Section<'_, '_>, into: &mut Vec<Where>) {
    for entry in node.entries() {
        let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        let key = format!("where: \"{path}\"");
        if path.split('.').any(str::is_empty) {
            section.unseen(
                &entry.place,
                &key,
                "has an empty name",
                "write names with dots between, such as \"project.uuid\"",
            );
            continue;
        }
        match &entry.node.value {
            Value::Table(_) => collect(&path, &entry.node, section, into),
            Value::Float(n) if !n.is_finite() => {
                section.wrong(&key, &entry.node, "is no number of JSON", "write a finite number")
            }
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
                into.push(Where::new(&path, entry.node.json()));
            }
            Value::Date(_) | Value::Array(_) => {
                let why = format!("is {}", entry.node.kind());
                section.wrong(&key, &entry.node, why, "equality is with a string, a number or a boolean");
            }
        }
    }
}
