//! `where`: equality on paths of the notification, held against what the catalogue declares.
//!
//! A condition that no event can meet is a mistake that would otherwise show as silence: a path that a type does not
//! have, a value of another kind, a word that is none of its vocabulary, a job without its project.

use super::nearest;
use super::node::{Node, Value};
use super::section::Section;
use posthaste_events::builtin::OURS;
use posthaste_events::catalogue::declare::FieldKind;
use posthaste_events::catalogue::{Catalogue, Declared, Undeclared};
use posthaste_events::matching::{Where, same};
use posthaste_events::{EventType, Pattern};
use serde_json::Value as Json;

/// How many conditions one `where` may have; each is looked at for every event.
const WHERES_MAX: usize = 32;
/// How many known paths or words a hint lists.
const LISTED_MAX: usize = 12;

/// A condition as it was written.
struct Condition<'a> {
    path: String,
    node: &'a Node,
}

/// Reads the key `where` of a set that asks for `events`.
pub(super) fn read(section: &mut Section<'_, '_>, events: &[Pattern], catalogue: Option<&Catalogue>) -> Vec<Where> {
    let Some(entry) = section.entry("where") else { return Vec::new() };
    if !entry.node.is_table() {
        section.wrong("where", &entry.node, "is no table", "write where = { \"project.uuid\" = \"…\" }");
        return Vec::new();
    }
    let mut conditions = Vec::new();
    collect("", &entry.node, section, &mut conditions);
    if conditions.len() > WHERES_MAX {
        section.unseen(&entry.place, "where", format!("has more than {WHERES_MAX} conditions"), "ask for less");
    } else if let Some(catalogue) = catalogue {
        judge(&conditions, events, catalogue, section);
    }
    conditions.iter().map(|c| Where::new(&c.path, c.node.json())).collect()
}

/// `where.project.uuid = "…"` is `where = { "project.uuid" = "…" }`: TOML reads dots outside quotes as tables.
fn collect<'a>(path: &str, node: &'a Node, section: &mut Section<'_, '_>, into: &mut Vec<Condition<'a>>) {
    for entry in node.entries() {
        let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        let key = named(&path);
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
                into.push(Condition { path, node: &entry.node });
            }
            Value::Date(_) | Value::Array(_) => {
                let why = format!("is {}", entry.node.kind());
                section.wrong(&key, &entry.node, why, "equality is with a string, a number or a boolean");
            }
        }
    }
}

fn named(path: &str) -> String {
    format!("where: \"{path}\"")
}

/// Why an event of a type can not meet a condition; the greater, the nearer it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Unmet {
    NoPath,
    Kind(&'static str),
    Word(Vec<String>),
    Alone(Vec<String>),
}

/// Names every condition that no event of a pattern can meet.
fn judge(conditions: &[Condition<'_>], events: &[Pattern], catalogue: &Catalogue, section: &mut Section<'_, '_>) {
    if conditions.is_empty() {
        return;
    }
    if events.is_empty() {
        judge_pattern(conditions, None, catalogue, section);
    }
    for pattern in events.iter().filter(|p| !p.begins_with(OURS)) {
        judge_pattern(conditions, Some(pattern), catalogue, section);
    }
}

fn judge_pattern(
    conditions: &[Condition<'_>],
    pattern: Option<&Pattern>,
    catalogue: &Catalogue,
    section: &mut Section<'_, '_>,
) {
    // For each condition the nearest that any type came to meeting it; nothing once one does.
    let mut unmet: Vec<Option<Unmet>> = conditions.iter().map(|_| Some(Unmet::NoPath)).collect();
    let mut meant: Vec<&Declared> = Vec::new();
    for (_, declared) in catalogue.types().filter(|(t, _)| pattern.is_none_or(|p| p.matches(t.as_str()))) {
        let of_type: Vec<Option<Unmet>> = conditions.iter().map(|c| meets(c, conditions, declared)).collect();
        if of_type.iter().all(Option::is_none) {
            return;
        }
        for (nearest, this) in unmet.iter_mut().zip(of_type) {
            *nearest = std::mem::take(nearest).and_then(|nearest| this.map(|this| nearest.max(this)));
        }
        meant.push(declared);
    }
    // Types that nobody declared may come too, with any path.
    let by_name = pattern.is_some_and(|p| EventType::parse(p.as_str()).is_ok());
    let is_open = catalogue.undeclared() == Undeclared::Accept && (meant.is_empty() || !by_name);
    let whose = whose(pattern, meant.is_empty());
    let mut is_told = is_open;
    for (condition, unmet) in conditions.iter().zip(unmet) {
        let Some(unmet) = unmet.filter(|unmet| !is_open || *unmet != Unmet::NoPath) else { continue };
        is_told = true;
        let (why, hint) = told(&unmet, condition, &whose, &meant);
        section.wrong(&named(&condition.path), condition.node, why, hint);
    }
    if let Some(first) = conditions.first().filter(|_| !is_told) {
        let why = format!("and the other conditions stand together on no type of {whose}");
        section.wrong(&named(&first.path), first.node, why, "ask for less, or use several [[subscription.match]]");
    }
}

/// Refuses the conditions of a set by which a subscription of telemetry would choose events by what does not leave: of
/// all that arrives there its receiver would know it all the same.
pub(super) fn judge_kept(set: &Node, events: &[Pattern], catalogue: &Catalogue, section: &mut Section<'_, '_>) {
    let mut conditions = Vec::new();
    if let Some(written) = set.get("where") {
        scalars("", written, &mut conditions);
    }
    let ours = events.iter().any(|p| p.begins_with(OURS));
    for condition in &conditions {
        let names: Vec<String> = condition.path.split('.').map(str::to_owned).collect();
        let drops = |declared: &Declared| match declared.filter(&names) {
            Some(path) => !path.kept,
            None => declared.reaches(&names),
        };
        let meant = |name: &EventType| events.is_empty() || events.iter().any(|p| p.matches(name.as_str()));
        let whose = match catalogue.types().find(|(name, declared)| meant(name) && drops(declared)) {
            Some((name, _)) => format!("\"{name}\""),
            None if ours => "the daemon's own events".to_owned(),
            None => continue,
        };
        let why = format!("chooses telemetry by what does not leave as it is of {whose}");
        let hint =
            "leave it out; telemetry is chosen by types, and by fields with telemetry = \"keep\" that are not rounded";
        section.wrong(&named(&condition.path), condition.node, why, hint);
    }
}

/// As [`collect`], of what was told already where it is wrong.
fn scalars<'a>(path: &str, node: &'a Node, into: &mut Vec<Condition<'a>>) {
    if !node.is_table() {
        into.push(Condition { path: path.to_owned(), node });
    }
    for entry in node.entries() {
        let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        scalars(&path, &entry.node, into);
    }
}

/// What a problem calls the types of a pattern.
fn whose(pattern: Option<&Pattern>, is_undeclared: bool) -> String {
    match pattern {
        None => "the catalogue".to_owned(),
        Some(pattern) if EventType::parse(pattern.as_str()).is_ok() && is_undeclared => {
            format!("\"{}\", which is not declared", pattern.as_str())
        }
        Some(pattern) => format!("\"{}\"", pattern.as_str()),
    }
}

/// Why an event of a type can not meet a condition; `None`: it can.
fn meets(condition: &Condition<'_>, all: &[Condition<'_>], declared: &Declared) -> Option<Unmet> {
    let names: Vec<String> = condition.path.split('.').map(str::to_owned).collect();
    let Some(path) = declared.filter(&names) else { return Some(Unmet::NoPath) };
    let value = condition.node.json();
    let (fits, article) = match path.kind {
        FieldKind::String => (value.is_string(), "a string"),
        FieldKind::Boolean => (value.is_boolean(), "a boolean"),
        FieldKind::Integer => (value.as_f64().is_some_and(|n| n.fract() == 0.0), "a whole number"),
        FieldKind::Number => (value.is_number(), "a number"),
        FieldKind::Object | FieldKind::Array => (false, "a scalar"),
    };
    if !fits {
        return Some(Unmet::Kind(article));
    }
    if !path.values.is_empty() && !path.values.iter().any(|v| same(v, &value)) {
        return Some(Unmet::Word(path.values.iter().take(LISTED_MAX).map(Json::to_string).collect()));
    }
    let missing = path.requires.iter().filter(|r| !all.iter().any(|c| c.path == **r));
    let missing: Vec<String> = missing.cloned().collect();
    (!missing.is_empty()).then_some(Unmet::Alone(missing))
}

/// Says what is wrong with a condition, and what to do.
fn told(unmet: &Unmet, condition: &Condition<'_>, whose: &str, meant: &[&Declared]) -> (String, String) {
    match unmet {
        Unmet::NoPath => (format!("is no path of {whose}"), path_hint(&condition.path, meant)),
        Unmet::Kind(article) => {
            (format!("is {}, yet {article} stands there in {whose}", condition.node.kind()), format!("write {article}"))
        }
        Unmet::Word(words) => {
            (format!("is none of what may stand there in {whose}"), format!("known are {}", words.join(", ")))
        }
        Unmet::Alone(missing) => {
            let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
            let why = format!("stands without {}, which it needs beside it", nearest::listed(&missing));
            (why, "put the identities of the layers above into the same where".to_owned())
        }
    }
}

fn path_hint(path: &str, meant: &[&Declared]) -> String {
    let mut known: Vec<String> = meant.iter().flat_map(|d| d.filters()).map(|f| f.path).collect();
    known.sort();
    known.dedup();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    match nearest::nearest(path, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => "declare its fields in the catalogue, or leave the condition out".to_owned(),
        None => format!("known are {}", nearest::listed(&known[..known.len().min(LISTED_MAX)])),
    }
}
