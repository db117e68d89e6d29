//! Reads one table of a configuration: each key by its type; what nobody asked for is unknown.
//!
//! Every reader answers with the default where a key is absent or wrong, so that reading goes on and finds the other
//! problems too; a configuration with a problem is never used.

use super::nearest;
use super::node::{Entry, Node, Value};
use super::problem::{Place, Problems};
use super::units::{self, DURATION_HINT, SIZE_HINT};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A table being read.
pub(super) struct Section<'a, 'p> {
    entries: &'a [Entry],
    /// Where its header or key stands; of an absent one, what it is missing in.
    pub(super) place: Place,
    /// How problems name it: `[retry]`, `subscription "ops"`; nothing for the top.
    pub(super) scope: String,
    known: Vec<&'static str>,
    /// Whether problems leave out every value that stands here.
    hushed: bool,
    pub(super) problems: &'p mut Problems,
}

impl<'a, 'p> Section<'a, 'p> {
    /// The whole document.
    pub(super) fn top(root: &'a Node, problems: &'p mut Problems) -> Self {
        Self::of(root, &root.place, String::new(), problems)
    }

    /// A table that stands at `place`; in anything else nothing is found.
    pub(super) fn of(node: &'a Node, place: &Place, scope: String, problems: &'p mut Problems) -> Self {
        Self { entries: node.entries(), place: place.clone(), scope, known: Vec::new(), hushed: false, problems }
    }

    /// The same, whose problems show no value: secrets stand here, and one may stand at another key by mistake.
    pub(super) fn hushed(self) -> Self {
        Self { hushed: true, ..self }
    }

    /// A table of this one, `[name]` at the top; one without keys where it is absent or something else.
    pub(super) fn section<'q>(&'q mut self, name: &'static str) -> Section<'a, 'q> {
        let entry = self.entry(name);
        let scope = if self.scope.is_empty() { format!("[{name}]") } else { format!("{}: {name}", self.scope) };
        let mut entries: &'a [Entry] = &[];
        let mut place = self.place.below(name);
        if let Some(entry) = entry {
            entries = entry.node.entries();
            place = entry.place.clone();
            if !matches!(entry.node.value, Value::Table(_)) {
                let hint = if self.scope.is_empty() {
                    format!("write [{name}] and its keys below")
                } else {
                    format!("write {name} = {{ … }}")
                };
                self.problems.add(&place, format!("{scope} is {}, not a table", entry.node.kind()), hint);
            }
        }
        Section { entries, place, scope, known: Vec::new(), hushed: self.hushed, problems: self.problems }
    }

    /// Whether a key stands here; asking does not make it known.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|e| e.key == key)
    }

    /// The keys that stand here.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        self.entries.iter()
    }

    /// The keys that stand here and that nobody has asked for yet.
    pub(super) fn rest(&self) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(|e| !self.known.contains(&e.key.as_str()))
    }

    /// The keys that somebody has asked for.
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// Where a key stands, or where it would.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.entries.iter().find(|e| e.key == key).map_or_else(|| self.place.below(key), |e| e.place.clone())
    }

    /// A key with its value.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.known.push(key);
        self.entries.iter().find(|e| e.key == key)
    }

    /// A value of any type.
    pub(super) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.entry(key).map(|e| &e.node)
    }

    /// A problem with the value of a key, which is shown unless the section is hushed.
    pub(super) fn wrong(&mut self, key: &str, node: &Node, why: impl Display, hint: impl Into<String>) {
        if node.missing {
            return;
        }
        let key = if self.hushed { key.to_owned() } else { format!("{key} = {}", node.shown()) };
        let what = format!("{} {why}", self.named(&key));
        self.problems.add(&node.place, what, hint);
    }

    /// A problem with a key, whose value is not shown.
    pub(super) fn unseen(&mut self, place: &Place, key: impl Display, why: impl Display, hint: impl Into<String>) {
        let what = format!("{} {why}", self.named(&key.to_string()));
        self.problems.add(place, what, hint);
    }

    /// A good value whose feature is not there yet: refused by name, never ignored.
    pub(super) fn not_built(&mut self, key: &str, node: &Node) {
        self.wrong(key, node, "is not built yet", "leave it out for now");
    }

    fn named(&self, key: &str) -> String {
        if self.scope.is_empty() { key.to_owned() } else { format!("{}: {key}", self.scope) }
    }

    pub(super) fn expected(&mut self, key: &str, node: &Node, what: &str, hint: impl Into<String>) {
        let why = format!("is {}, not {what}", node.kind());
        self.wrong(key, node, why, hint);
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str) -> Option<(&'a str, &'a Node)> {
        let node = self.node(key)?;
        match text(node) {
            Some(text) => Some((text, node)),
            None => {
                self.expected(key, node, "a string", format!("write {key} = \"…\""));
                None
            }
        }
    }

    /// A string that must not be shown in a problem.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<(&'a str, &'a Node)> {
        let node = self.node(key)?;
        match text(node) {
            Some(text) => Some((text, node)),
            None => {
                let why = format!("is {}, not a string", node.kind());
                self.unseen(&node.place, key, why, format!("write {key} = \"env:NAME\""));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Option<(bool, &'a Node)> {
        let node = self.node(key)?;
        if let Value::Boolean(b) = node.value {
            return Some((b, node));
        }
        self.expected(key, node, "a boolean", format!("write {key} = true or {key} = false"));
        None
    }

    /// A whole number within bounds.
    pub(super) fn integer(&mut self, key: &'static str, bounds: RangeInclusive<u64>, default: u64) -> u64 {
        let Some(node) = self.node(key) else { return default };
        let hint = format!("write a whole number from {} to {}", bounds.start(), bounds.end());
        match node.value {
            Value::Integer(n) => match u64::try_from(n).ok().filter(|n| bounds.contains(n)) {
                Some(n) => return n,
                None => self.wrong(key, node, "is out of bounds", hint),
            },
            _ => self.expected(key, node, "a whole number", hint),
        }
        default
    }

    /// A number within bounds; a whole one will do.
    pub(super) fn number(&mut self, key: &'static str, bounds: RangeInclusive<f64>, default: f64) -> f64 {
        let Some(node) = self.node(key) else { return default };
        let hint = format!("write a number from {} to {}", bounds.start(), bounds.end());
        let number = match node.value {
            Value::Float(n) => n,
            // What is too large to be exact is far out of any bounds here.
            Value::Integer(n) => n as f64,
            _ => {
                self.expected(key, node, "a number", hint);
                return default;
            }
        };
        // NaN is within no bounds.
        if bounds.contains(&number) {
            return number;
        }
        self.wrong(key, node, "is out of bounds", hint);
        default
    }

    /// A number of any size, as JSON has it.
    pub(super) fn json_number(&mut self, key: &'static str) -> Option<serde_json::Number> {
        let node = self.node(key)?;
        let number = node.json_number();
        if number.is_none() {
            self.expected(key, node, "a number of JSON", format!("write {key} = 1 or {key} = 0.5"));
        }
        number
    }

    /// A duration of at least `min`.
    pub(super) fn duration(&mut self, key: &'static str, min: Duration, default: Duration) -> Duration {
        let Some(node) = self.node(key) else { return default };
        match text(node).map(units::duration) {
            None => self.expected(key, node, "a duration", DURATION_HINT),
            Some(None) => self.wrong(key, node, "is not a duration", DURATION_HINT),
            Some(Some(d)) if d < min => {
                self.wrong(key, node, "is too short", format!("write at least \"{}\"", units::written(min)));
            }
            Some(Some(d)) => return d,
        }
        default
    }

    /// A size in bytes within bounds.
    pub(super) fn size(&mut self, key: &'static str, bounds: RangeInclusive<u64>, default: u64) -> u64 {
        let Some(node) = self.node(key) else { return default };
        match text(node).map(units::size) {
            None => self.expected(key, node, "a size", SIZE_HINT),
            Some(None) => self.wrong(key, node, "is not a size", SIZE_HINT),
            Some(Some(n)) if bounds.contains(&n) => return n,
            Some(Some(_)) => {
                let hint = format!("write {} to {}", size_written(*bounds.start()), size_written(*bounds.end()));
                self.wrong(key, node, "is out of bounds", hint);
            }
        }
        default
    }

    /// One of the known words.
    pub(super) fn word(&mut self, key: &'static str, known: &[&'static str]) -> Option<(&'static str, &'a Node)> {
        let (text, node) = self.string(key)?;
        match known.iter().find(|w| **w == text) {
            Some(word) => Some((word, node)),
            None => {
                self.wrong(key, node, "is unknown", nearest::hint(text, known));
                None
            }
        }
    }

    /// The values of an array.
    pub(super) fn array(&mut self, key: &'static str) -> Option<&'a [Node]> {
        let node = self.node(key)?;
        if let Value::Array(nodes) = &node.value {
            return Some(nodes);
        }
        self.expected(key, node, "an array", format!("write {key} = [ … ]"));
        None
    }

    /// The strings of an array; what is no string is a problem and left out.
    pub(super) fn strings(&mut self, key: &'static str) -> Option<Vec<(&'a str, &'a Node)>> {
        let nodes = self.array(key)?;
        let mut strings = Vec::with_capacity(nodes.len());
        for node in nodes {
            match text(node) {
                Some(text) => strings.push((text, node)),
                None => self.expected(key, node, "a string", "every entry stands between quotes"),
            }
        }
        Some(strings)
    }

    /// Names every key that nobody asked for.
    pub(super) fn finish(self) {
        let unknown: Vec<&Entry> = self.rest().collect();
        for entry in unknown {
            unknown_key(entry, &self.scope, &self.known, self.problems);
        }
    }
}

/// Names an unknown key, never its value: a secret may stand behind a mistyped one.
pub(super) fn unknown_key(entry: &Entry, scope: &str, known: &[&str], problems: &mut Problems) {
    let what = if scope.is_empty() {
        format!("unknown section or key `{}`", entry.key)
    } else {
        format!("{scope}: unknown key `{}`", entry.key)
    };
    problems.add(&entry.place, what, nearest::hint(&entry.key, known));
}

/// The text of a string, and of what a variable brought that only looks like another type.
fn text(node: &Node) -> Option<&str> {
    match (&node.value, &node.place) {
        (Value::String(text), _) => Some(text),
        (Value::Array(_) | Value::Table(_), _) | (_, Place::Line { .. } | Place::Pointer(_)) => None,
        (_, Place::Variable(_)) => node.written.as_deref(),
    }
}

fn size_written(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift) {
        Some((shift, name)) => format!("\"{}{name}\"", bytes >> shift),
        None => format!("\"{bytes}B\""),
    }
}
