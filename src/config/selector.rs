//! Which events a subscription wants: `events`, `where` and `filter`, or several such sets as `[[subscription.match]]`.

use super::conditions;
use super::nearest;
use super::node::{Node, Value};
use super::section::Section;
use posthaste_events::catalogue::Catalogue;
use posthaste_events::catalogue::declare::Audience;
use posthaste_events::filter::Filter;
use posthaste_events::matching::Selector;
use posthaste_events::{EventType, Pattern, Takes};
use serde_json::Map;

/// How many sets a subscription may have.
const SETS_MAX: usize = 32;
const KEYS: [&str; 3] = ["events", "where", "filter"];

/// Reads the sets, each for the subscription's tenant; one that wants everything where nothing is said. `catalogue` is
/// what conditions are held against; none where something is wrong with it.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    tenant: Option<&str>,
    catalogue: Option<&Catalogue>,
) -> Vec<Selector> {
    if !section.has("match") {
        let _ = section.node("match");
        return vec![read_set(section, tenant, catalogue)];
    }
    for key in KEYS {
        if section.has(key) {
            let place = section.place_of(key);
            section.unseen(&place, key, "stands beside [[subscription.match]]", "put it into one of those sets");
        }
    }
    let single = read_set(section, tenant, None);
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
        selectors.push(read_set(&mut set, tenant, catalogue));
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

/// Judges the sets by the payload that the deliveree takes.
pub(super) fn judge_payload(node: &Node, takes: Takes, catalogue: Option<&Catalogue>, section: &mut Section<'_, '_>) {
    let sets = match node.get("match").map(|n| &n.value) {
        Some(Value::Array(sets)) => sets.iter().collect(),
        _ => vec![node],
    };
    match (takes, catalogue) {
        (Takes::Notification, Some(catalogue)) => judge_audience(&sets, catalogue, section),
        (Takes::Notification, None) => {}
        (Takes::Telemetry, catalogue) => judge_choice(&sets, catalogue, section),
    }
}

/// Refuses what chooses telemetry by what does not leave: `where` on such a path, a `filter` over more than `type`.
fn judge_choice(sets: &[&Node], catalogue: Option<&Catalogue>, section: &mut Section<'_, '_>) {
    for set in sets {
        let events = match set.get("events").map(|n| &n.value) {
            Some(Value::Array(nodes)) => nodes.iter().filter_map(pattern).collect(),
            _ => Vec::new(),
        };
        if let Some(catalogue) = catalogue {
            conditions::judge_kept(set, &events, catalogue, section);
        }
        let Some(node) = set.get("filter") else { continue };
        let Value::String(text) = &node.value else { continue };
        // What is no filter is told already.
        let Ok(filter) = Filter::compile(text) else { continue };
        let others: Vec<&str> = filter.variables().iter().copied().filter(|name| *name != "type").collect();
        if !others.is_empty() {
            let why = format!("chooses telemetry by {}, which does not leave", nearest::listed(&others));
            section.wrong("filter", node, why, "write a filter over `type` alone, or leave it out");
        }
    }
}

fn pattern(node: &Node) -> Option<Pattern> {
    match &node.value {
        Value::String(text) => Pattern::parse(text).ok(),
        _ => None,
    }
}

/// Refuses types by name that only analytics gets, where the deliveree takes notifications: it would get nothing.
fn judge_audience(sets: &[&Node], catalogue: &Catalogue, section: &mut Section<'_, '_>) {
    for set in sets {
        let Some(Value::Array(events)) = set.get("events").map(|n| &n.value) else { continue };
        for node in events {
            let Value::String(text) = &node.value else { continue };
            let declared = EventType::parse(text).ok().and_then(|name| catalogue.get(&name));
            if declared.is_some_and(|d| d.audience == Audience::Telemetry) {
                let hint = "leave it out here; deliveree = \"analytics\" gets it";
                section.wrong("events", node, "is for analytics alone (audience = \"telemetry\")", hint);
            }
        }
    }
}

fn read_set(section: &mut Section<'_, '_>, tenant: Option<&str>, catalogue: Option<&Catalogue>) -> Selector {
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
    let filter = read_filter(section);
    let wheres = conditions::read(section, &events, catalogue);
    Selector { events, wheres, filter, tenant: tenant.map(str::to_owned) }
}

fn read_filter(section: &mut Section<'_, '_>) -> Option<Filter> {
    let (text, node) = section.string("filter")?;
    match Filter::compile(text) {
        Ok(filter) => Some(filter),
        Err(why) => {
            // What is wrong with it may quote it.
            let why =
                if node.fetched_by().is_some() { "is no filter".to_owned() } else { format!("is no filter: {why}") };
            section.wrong(
                "filter",
                node,
                why,
                "write an expression of CEL that is true or false: \"data.total > 100\"",
            );
            None
        }
    }
}

fn is_empty(node: &Node) -> bool {
    matches!(&node.value, Value::Array(nodes) if nodes.is_empty())
}
