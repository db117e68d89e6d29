//! `POSTHASTE__SECTION__KEY`: environment variables that override keys of the file.
//!
//! A variable becomes an entry of the tree that stands in that variable, so that the readers judge it like any other
//! and name the variable where it is unknown or wrong.

use super::Env;
use super::node::{Entry, Node, Value};
use super::problem::{Place, Problems};
use super::source::parse_value;

const PREFIX: &str = "POSTHASTE__";

/// Puts every override into the tree.
pub(super) fn apply(root: &mut Node, env: &Env, problems: &mut Problems) {
    for (variable, text) in env {
        let Some(path) = variable.strip_prefix(PREFIX) else { continue };
        let place = Place::Variable(variable.as_str().into());
        let names: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        match names.as_slice() {
            [section, key] if !section.is_empty() && !key.is_empty() => {
                put(root, section, key, value(text, &place), &place, problems);
            }
            _ => problems.add(
                &place,
                format!("{variable} names no key"),
                "an override is POSTHASTE__SECTION__KEY, such as POSTHASTE__DAEMON__LISTEN",
            ),
        }
    }
}

/// The text as TOML where it is a value of TOML, else as a string.
fn value(text: &str, place: &Place) -> Node {
    let mut node = parse_value(text, place).unwrap_or_else(|| Node::new(Value::String(text.to_owned()), place.clone()));
    // What looks like another type may be meant as text: a folder named 2024.
    if matches!(node.value, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_)) {
        node.written = Some(text.to_owned());
    }
    node
}

fn put(root: &mut Node, section: &str, key: &str, node: Node, place: &Place, problems: &mut Problems) {
    let Value::Table(sections) = &mut root.value else { return };
    let at = sections.iter().position(|e| e.key == section).unwrap_or_else(|| {
        let table = Node::new(Value::Table(Vec::new()), place.clone());
        sections.push(Entry { key: section.to_owned(), place: place.clone(), node: table });
        sections.len() - 1
    });
    let Value::Table(entries) = &mut sections[at].node.value else {
        let what = format!("{place}: `{section}` is no section with keys");
        problems.add(place, what, "in a subscription, write \"env:NAME\" where the value stands");
        return;
    };
    entries.retain(|e| e.key != key);
    entries.push(Entry { key: key.to_owned(), place: place.clone(), node });
}
