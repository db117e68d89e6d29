//! `fields` of a layer or an event type: each field with its path, its type, its bounds and its rule.
//!
//! Which rule fits which type, and whether two fields stand at one path, is judged by the catalogue as a whole.

use super::super::nearest;
use super::super::node::{Entry, Node, Value};
use super::super::problem::Problems;
use super::super::section::{Section, unknown_key};
use super::spots::Spot;
use posthaste_events::catalogue::declare::{Audience, FieldDeclaration, FieldKind, LENGTH_BUCKETS, Rule};
use serde_json::Number;

/// The words of `type`, and what they mean.
pub(in super::super) const KINDS: [(&str, FieldKind); 6] = [
    ("string", FieldKind::String),
    ("integer", FieldKind::Integer),
    ("number", FieldKind::Number),
    ("boolean", FieldKind::Boolean),
    ("object", FieldKind::Object),
    ("array", FieldKind::Array),
];

/// The words of `telemetry`.
pub(in super::super) const RULES: [&str; 9] =
    ["drop", "keep", "count", "distinct", "sum", "count-by", "present", "bucket", "length-bucket"];

/// The words of `audience`.
pub(in super::super) const AUDIENCES: [&str; 2] = ["all", "telemetry"];

/// How long `length_max` may be: far above any payload.
const LENGTH_MAX: u64 = 1_000_000_000;

/// Reads the key `fields`; what could not be read is left out and marks `spot` as broken.
pub(super) fn read(section: &mut Section<'_, '_>, spot: &mut Spot) -> Vec<FieldDeclaration> {
    let Some(entry) = section.entry("fields") else { return Vec::new() };
    let mut fields = Vec::new();
    if entry.node.is_table() {
        walk("", &entry.node, &section.scope, section.problems, &mut fields);
    } else {
        section.wrong("fields", &entry.node, "is no table", "write fields.name = { type = \"string\" }");
        spot.broken = true;
    }
    let (fields, spots) = fields.into_iter().unzip();
    spot.fields = spots;
    fields
}

/// TOML reads dots outside quotes as tables, so `fields.a.b = { … }` is `fields."a.b" = { … }`.
fn walk(path: &str, node: &Node, scope: &str, problems: &mut Problems, into: &mut Vec<(FieldDeclaration, Spot)>) {
    for entry in node.entries() {
        let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        if is_step(&entry.node) {
            walk(&path, &entry.node, scope, problems, into);
        } else {
            let scope = format!("{scope}: field \"{path}\"");
            into.push(read_field(path, entry, scope, problems));
        }
    }
}

/// Whether a table only leads to fields: every value in it is a table itself, one named `type` too.
fn is_step(node: &Node) -> bool {
    node.is_table() && !node.entries().is_empty() && node.entries().iter().all(|e| e.node.is_table())
}

fn read_field(path: String, entry: &Entry, scope: String, problems: &mut Problems) -> (FieldDeclaration, Spot) {
    let before = problems.count();
    let mut section = Section::of(&entry.node, &entry.place, scope, problems);
    let mut spot = Spot::of(&section);
    let kind = read_kind(&mut section, entry);
    let mut field = FieldDeclaration::new(path, kind);
    let is_set = |read: Option<(bool, &Node)>| read.is_some_and(|(set, _)| set);
    field.required = is_set(section.boolean("required"));
    field.nullable = is_set(section.boolean("nullable"));
    field.sensitive = is_set(section.boolean("sensitive"));
    field.identity = is_set(section.boolean("identity"));
    field.description = section.string("description").map(|(text, _)| text.to_owned());
    field.minimum = section.json_number("minimum");
    field.maximum = section.json_number("maximum");
    let is_bounded = section.has("length_max");
    let length_max = section.integer("length_max", 0..=LENGTH_MAX, LENGTH_MAX);
    field.length_max = is_bounded.then_some(length_max);
    field.values = read_values(&mut section);
    field.audience = read_audience(&mut section);
    field.rule = read_rule(&mut section);
    field.derived_name = section.string("as").map(|(text, _)| text.to_owned());
    spot.broken = section.problems.count() > before;
    finish(section);
    (field, spot)
}

/// Names what is unknown. A table among it is meant as a field inside this one.
fn finish(section: Section<'_, '_>) {
    let (unknown, known): (Vec<&Entry>, _) = (section.rest().collect(), section.known().to_vec());
    for entry in unknown {
        if entry.node.is_table() {
            let what = format!("{}: `{}` is no key of a field", section.scope, entry.key);
            let hint = format!("a field inside it stands beside it: fields.\"….{}\" = {{ … }}", entry.key);
            section.problems.add(&entry.place, what, hint);
        } else {
            unknown_key(entry, &section.scope, &known, section.problems);
        }
    }
}

/// The type; a string where it is missing or unknown, so that the rest is read all the same.
fn read_kind(section: &mut Section<'_, '_>, entry: &Entry) -> FieldKind {
    let words = KINDS.map(|(word, _)| word);
    if !entry.node.is_table() {
        let why = format!("is {}, not a table", entry.node.kind());
        section.unseen(&entry.place, "it", why, "write { type = \"string\" }");
    } else if !section.has("type") {
        let hint = format!("write one of {}", nearest::listed(&words));
        section.unseen(&entry.place, "type", "is missing", hint);
    }
    let said = section.word("type", &words);
    let kind = said.and_then(|(said, _)| KINDS.iter().find(|(word, _)| *word == said));
    kind.map_or(FieldKind::String, |(_, kind)| *kind)
}

pub(super) fn read_audience(section: &mut Section<'_, '_>) -> Audience {
    match section.word("audience", &AUDIENCES) {
        Some(("telemetry", _)) => Audience::Telemetry,
        _ => Audience::All,
    }
}

fn read_values(section: &mut Section<'_, '_>) -> Vec<serde_json::Value> {
    let nodes = section.array("values").unwrap_or_default();
    let mut values = Vec::with_capacity(nodes.len());
    for node in nodes {
        match (&node.value, node.json_number()) {
            (Value::String(word), _) => values.push(word.as_str().into()),
            (_, Some(number)) => values.push(number.into()),
            _ => section.expected("values", node, "a string or a number", "a vocabulary is of words or of numbers"),
        }
    }
    values
}

/// `bucket = [..]` alone is a rule; with `length-bucket` it gives its bounds.
fn read_rule(section: &mut Section<'_, '_>) -> Rule {
    let said = section.word("telemetry", &RULES);
    let is_said = section.has("telemetry");
    let is_bounded = section.has("bucket");
    let bounds = section.array("bucket").unwrap_or_default();
    match said.map(|(word, _)| word) {
        None if is_bounded && !is_said => Rule::Bucket(read_bounds(bounds, section)),
        Some("bucket") if is_bounded => Rule::Bucket(read_bounds(bounds, section)),
        Some("bucket") => {
            let place = section.place_of("telemetry");
            section.unseen(&place, "telemetry = \"bucket\"", "has no bounds", "write bucket = [1, 10, 100] beside it");
            Rule::Drop
        }
        Some("length-bucket") if is_bounded => Rule::LengthBucket(read_lengths(bounds, section)),
        Some("length-bucket") => Rule::LengthBucket(LENGTH_BUCKETS.to_vec()),
        Some(word) => {
            if is_bounded {
                let place = section.place_of("bucket");
                let why = format!("stands beside telemetry = \"{word}\"");
                section.unseen(&place, "bucket", why, "it gives bounds to \"bucket\" and \"length-bucket\" only");
            }
            match word {
                "keep" => Rule::Keep,
                "count" => Rule::Count,
                "distinct" => Rule::Distinct,
                "sum" => Rule::Sum,
                "count-by" => Rule::CountBy,
                "present" => Rule::Present,
                _ => Rule::Drop,
            }
        }
        None => Rule::Drop,
    }
}

fn read_bounds(nodes: &[Node], section: &mut Section<'_, '_>) -> Vec<Number> {
    let mut bounds = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node.json_number() {
            Some(bound) => bounds.push(bound),
            None => section.expected("bucket", node, "a number of JSON", "write bounds such as [1, 10, 100]"),
        }
    }
    bounds
}

fn read_lengths(nodes: &[Node], section: &mut Section<'_, '_>) -> Vec<u64> {
    let mut bounds = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node.json_number().and_then(|n| n.as_u64()) {
            Some(bound) => bounds.push(bound),
            None => section.wrong("bucket", node, "is no length", "write whole numbers such as [1, 10, 100]"),
        }
    }
    bounds
}
