//! Takes out of properties what is for telemetry alone. Every other token stays as it was written.

use super::shape::{Inside, Node};
use serde::Deserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The properties without what is hidden; `text` is `properties` as compact JSON.
pub(super) fn notification<'a>(top: &Node, properties: &Value, text: &'a str) -> Cow<'a, str> {
    if !holds_hidden(top, properties) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    // `text` was read before, as `properties`; were it no JSON after all, nothing hidden would get out.
    match write_told(top, text, &mut out) {
        Ok(()) => Cow::Owned(out),
        Err(_) => Cow::Borrowed("{}"),
    }
}

/// Whether there is something to take out.
fn holds_hidden(node: &Node, value: &Value) -> bool {
    if !node.marks.hides || node.marks.hidden {
        return node.marks.hidden;
    }
    match (&node.inside, value) {
        (Inside::Names(names), Value::Object(entries)) => {
            entries.iter().any(|(name, entry)| names.get(name.as_str()).is_some_and(|n| holds_hidden(n, entry)))
        }
        (Inside::Each(each), Value::Object(entries)) => entries.values().any(|entry| holds_hidden(each, entry)),
        (Inside::Each(each), Value::Array(entries)) => entries.iter().any(|entry| holds_hidden(each, entry)),
        _ => false,
    }
}

/// Writes what is told of one value. The node is not hidden itself.
fn write_told(node: &Node, text: &str, out: &mut String) -> serde_json::Result<()> {
    let opens = text.as_bytes().first();
    if !node.marks.hides || !matches!(opens, Some(b'{' | b'[')) {
        out.push_str(text);
        return Ok(());
    }
    let Entries(entries) = serde_json::Deserializer::from_str(text).deserialize_any(EntriesVisitor)?;
    let object = opens == Some(&b'{');
    out.push(if object { '{' } else { '[' });
    let start = out.len();
    for (name, raw) in entries {
        let child = name.as_deref().and_then(|name| node.child(name)).or_else(|| node.child("*"));
        if child.is_some_and(|child| child.marks.hidden) {
            continue;
        }
        if out.len() > start {
            out.push(',');
        }
        if let Some(name) = name {
            out.push_str(&serde_json::to_string(&name)?);
            out.push(':');
        }
        match child {
            Some(child) => write_told(child, raw.get(), out)?,
            None => out.push_str(raw.get()),
        }
    }
    out.push(if object { '}' } else { ']' });
    Ok(())
}

/// The entries of an object, or of an array, which have no name, in their order and as they were written.
struct Entries<'a>(Vec<(Option<String>, &'a RawValue)>);

struct EntriesVisitor;

impl<'a> Visitor<'a> for EntriesVisitor {
    type Value = Entries<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Entries<'a>, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
            entries.push((Some(name), raw));
        }
        Ok(Entries(entries))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Entries<'a>, A::Error> {
        let mut entries = Vec::new();
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            entries.push((None, raw));
        }
        Ok(Entries(entries))
    }
}
