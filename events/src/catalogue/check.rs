//! Holds properties against the tree of their type.
//!
//! Runs for every event: nothing is allocated where all fits.

use super::Misfit;
use super::declare::{FieldDeclaration, FieldKind, Rule};
use super::grow::a_kind;
use super::numbers::{compare, whole};
use super::shape::{Inside, Node};
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// How many misfits are listed of one event.
pub(super) const MISFITS_MAX: usize = 100;
/// How many bytes a pointer may have; what lies deeper is told at the deepest container that fits.
const POINTER_BYTES_MAX: usize = 1_024;
/// How many names or values a detail lists.
const LISTED_MAX: usize = 16;

/// Everything that is wrong, at most [`MISFITS_MAX`].
pub(super) fn misfits(top: &Node, properties: &Value) -> Vec<Misfit> {
    let mut found = Found(Vec::new());
    found.inspect(top, properties, &Trail::Top);
    found.0
}

/// Where a walk is, as a list that lies on the stack.
enum Trail<'a> {
    Top,
    Name(&'a Self, &'a str),
    Entry(&'a Self, usize),
}

impl Trail<'_> {
    /// Writes the pointer (RFC 6901); `false`: it would be too long from here on.
    fn write(&self, pointer: &mut String) -> bool {
        let up = match self {
            Self::Top => return true,
            Self::Name(up, _) | Self::Entry(up, _) => up,
        };
        if !up.write(pointer) {
            return false;
        }
        let step = match self {
            // A long name is not copied to find out that it is too long.
            Self::Name(_, name) if pointer.len() + name.len() >= POINTER_BYTES_MAX => return false,
            Self::Name(_, name) => escaped(name),
            Self::Entry(_, index) => index.to_string(),
            Self::Top => return true,
        };
        let fits = pointer.len() + step.len() < POINTER_BYTES_MAX;
        if fits {
            pointer.push('/');
            pointer.push_str(&step);
        }
        fits
    }
}

struct Found(Vec<Misfit>);

impl Found {
    /// What a hostile caller sends is not looked at to the end.
    const fn full(&self) -> bool {
        self.0.len() >= MISFITS_MAX
    }

    fn push(&mut self, at: &Trail<'_>, detail: impl Into<String>) {
        if !self.full() {
            let mut pointer = String::new();
            at.write(&mut pointer);
            self.0.push(Misfit { pointer, detail: detail.into() });
        }
    }

    fn inspect(&mut self, node: &Node, value: &Value, at: &Trail<'_>) {
        if self.full() {
            return;
        }
        if let Some(field) = &node.field {
            if field.nullable && value.is_null() {
                return;
            }
            if let Some(detail) = wrong(field, value) {
                return self.push(at, detail);
            }
        }
        match (&node.inside, value) {
            (Inside::Nothing, _) => {}
            (Inside::Names(names), Value::Object(entries)) => self.named(names, entries, at),
            (Inside::Each(each), Value::Object(entries)) => {
                for (name, entry) in entries {
                    self.inspect(each, entry, &Trail::Name(at, name));
                    if self.full() {
                        return;
                    }
                }
            }
            (Inside::Each(each), Value::Array(entries)) if !node.place => {
                for (i, entry) in entries.iter().enumerate() {
                    self.inspect(each, entry, &Trail::Entry(at, i));
                    if self.full() {
                        return;
                    }
                }
            }
            (Inside::Each(_), _) if !node.place => self.push(at, "must be an object or an array"),
            (Inside::Names(_) | Inside::Each(_), _) => self.push(at, "must be an object"),
        }
    }

    fn named(&mut self, names: &BTreeMap<Arc<str>, Arc<Node>>, entries: &Map<String, Value>, at: &Trail<'_>) {
        // The same for each of them, so it is put together once.
        let mut known: Option<String> = None;
        for (name, entry) in entries {
            let at = Trail::Name(at, name);
            match names.get(name.as_str()) {
                Some(node) => self.inspect(node, entry, &at),
                None => self.push(&at, known.get_or_insert_with(|| undeclared(names)).as_str()),
            }
            if self.full() {
                return;
            }
        }
        for (name, node) in names.iter().filter(|(_, node)| node.marks.needed) {
            if !entries.contains_key(&**name) {
                self.missing(node, &Trail::Name(at, name));
            }
        }
    }

    /// Tells of what is required at or in a node that is not there.
    fn missing(&mut self, node: &Node, at: &Trail<'_>) {
        if node.field.as_ref().is_some_and(|f| f.required) {
            return self.push(at, "is required");
        }
        for (name, child) in node.children().filter(|(_, child)| child.marks.needed) {
            self.missing(child, &Trail::Name(at, name));
        }
    }
}

/// The steps of a pointer that only the catalogue named, for what is kept and told of an event: where the next one would
/// be a caller's own (an entry, a name that nobody declared) or lies in something sensitive, `…` stands for the rest.
pub(super) fn public(top: &Node, pointer: &str) -> String {
    let (mut node, mut told) = (top, String::new());
    for step in pointer.split('/').skip(1) {
        let sensitive = node.field.as_ref().is_some_and(|f| f.sensitive);
        let next = match &node.inside {
            Inside::Names(names) if !sensitive => names.iter().find(|(name, _)| escaped(name) == step),
            _ => None,
        };
        told.push('/');
        let Some((_, next)) = next else {
            told.push('…');
            break;
        };
        told.push_str(step);
        node = next;
    }
    told
}

/// A name as a step of a pointer (RFC 6901 section 3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What is wrong with a value that is not a `null` of a nullable field, not looking into it.
fn wrong(field: &FieldDeclaration, value: &Value) -> Option<String> {
    let length = match (field.kind, value) {
        (FieldKind::Boolean, Value::Bool(_)) => return None,
        (FieldKind::Integer, Value::Number(n)) if whole(n).is_some() => return outside(field, value),
        (FieldKind::Number, Value::Number(_)) => return outside(field, value),
        // The characters are counted only where the bytes do not settle it.
        (FieldKind::String, Value::String(text)) => match field.length_max {
            Some(max) if text.len() as u64 > max => text.chars().count(),
            _ => 0,
        },
        (FieldKind::Object, Value::Object(entries)) => entries.len(),
        (FieldKind::Array, Value::Array(entries)) => entries.len(),
        (kind, _) => {
            return Some(format!("must be {}{}", a_kind(kind), if field.nullable { " or null" } else { "" }));
        }
    };
    if let Some(max) = field.length_max
        && length as u64 > max
    {
        let of = if field.kind == FieldKind::String { "characters" } else { "entries" };
        return Some(format!("may have {max} {of}, has {length}"));
    }
    if field.kind == FieldKind::String && field.rule != Rule::CountBy { not_a_word(field, value) } else { None }
}

/// What is wrong with a number: bounds and vocabulary.
fn outside(field: &FieldDeclaration, value: &Value) -> Option<String> {
    let number = value.as_number()?;
    if let Some(low) = &field.minimum
        && compare(number, low) == Ordering::Less
    {
        return Some(format!("must be at least {low}"));
    }
    if let Some(high) = &field.maximum
        && compare(number, high) == Ordering::Greater
    {
        return Some(format!("must be at most {high}"));
    }
    not_a_word(field, value)
}

/// What is wrong with a value that must be of a vocabulary.
fn not_a_word(field: &FieldDeclaration, value: &Value) -> Option<String> {
    let same = |word: &Value| match (word, value) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Ordering::Equal,
        _ => word == value,
    };
    let fits = field.values.is_empty() || field.values.iter().any(same);
    (!fits).then(|| format!("must be one of {}", list(field.values.iter().map(Value::to_string))))
}

fn undeclared(names: &BTreeMap<Arc<str>, Arc<Node>>) -> String {
    if names.is_empty() {
        return "is not declared; the catalogue declares nothing here".to_owned();
    }
    format!("is not declared; the catalogue declares {}", list(names.keys().map(|name| format!("`{name}`"))))
}

/// A few of a list, and how many there are if that is not all.
fn list(words: impl ExactSizeIterator<Item = String>) -> String {
    let count = words.len();
    let mut text = words.take(LISTED_MAX).collect::<Vec<_>>().join(", ");
    if count > LISTED_MAX {
        let _ = write!(text, " and {} more", count - LISTED_MAX);
    }
    text
}
