//! A TOML document as a tree of values that know where they stand.
//!
//! Between the parser and the readers: overrides and `env:`/`file:` are applied to it, so no reader sees them.

use super::problem::Place;

/// How many characters of a value a problem shows.
const SHOWN_MAX: usize = 80;

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The text as it was written, where the value came about from it: `env:NAME`, `file:PATH`, an override's text.
    pub(super) written: Option<String>,
    /// Whether it is `env:` or `file:` text that stands for nothing: that was told, and what it looks like is not judged.
    pub(super) missing: bool,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Nothing in a configuration is a date; kept to be named.
    Date(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands; of a section, its header.
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    pub(super) const fn new(value: Value, place: Place) -> Self {
        Self { value, place, written: None, missing: false }
    }

    /// Whether it is missing, or something right in it, where it is a table.
    pub(super) fn has_missing(&self) -> bool {
        self.missing || self.entries().iter().any(|e| e.node.missing)
    }

    /// What a table holds under a key; nothing in what is no table.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.node)
    }

    /// The entries of a table; none of what is no table.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// What kind of value this is, with its article.
    pub(super) const fn kind(&self) -> &'static str {
        match self.value {
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "a boolean",
            Value::Date(_) => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// The value as a problem shows it: as it was written (so what `env:` and `file:` brought is never shown), and cut.
    /// Arrays and tables are named only, since a secret may stand deep in them.
    pub(super) fn shown(&self) -> String {
        if let Some(written) = self.fetched_by() {
            return quoted(written);
        }
        match &self.value {
            Value::String(text) => quoted(text),
            Value::Integer(n) => n.to_string(),
            Value::Float(n) => n.to_string(),
            Value::Boolean(b) => b.to_string(),
            Value::Date(text) => text.clone(),
            Value::Array(_) => "[…]".to_owned(),
            Value::Table(_) => "{…}".to_owned(),
        }
    }

    /// The text of a string that `env:` or `file:` brought, as it was written.
    pub(super) fn fetched_by(&self) -> Option<&str> {
        self.written.as_deref().filter(|w| w.starts_with("env:") || w.starts_with("file:"))
    }

    /// A finite number as JSON has it; nothing of what is none.
    pub(super) fn json_number(&self) -> Option<serde_json::Number> {
        match self.value {
            Value::Integer(n) => Some(n.into()),
            Value::Float(n) => serde_json::Number::from_f64(n),
            _ => None,
        }
    }

    /// Whether it is a table.
    pub(super) const fn is_table(&self) -> bool {
        matches!(self.value, Value::Table(_))
    }

    /// The value as JSON: what kinds of deliverees and catalogues take. Numbers that JSON does not know become null.
    pub(super) fn json(&self) -> serde_json::Value {
        self.json_of(false)
    }

    /// The same for listings: `env:` and `file:` stay as they were written.
    pub(super) fn json_shown(&self) -> serde_json::Value {
        self.json_of(true)
    }

    fn json_of(&self, as_written: bool) -> serde_json::Value {
        if let Some(written) = self.fetched_by().filter(|_| as_written) {
            return written.into();
        }
        match &self.value {
            Value::String(text) | Value::Date(text) => text.as_str().into(),
            Value::Integer(n) => (*n).into(),
            Value::Float(n) => (*n).into(),
            Value::Boolean(b) => (*b).into(),
            Value::Array(nodes) => nodes.iter().map(|n| n.json_of(as_written)).collect(),
            Value::Table(entries) => {
                serde_json::Value::Object(entries.iter().map(|e| (e.key.clone(), e.node.json_of(as_written))).collect())
            }
        }
    }
}

/// A text between quotes, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN_MAX).collect();
    if chars.next().is_some() { format!("\"{start}…\"") } else { format!("\"{start}\"") }
}
