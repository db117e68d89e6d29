//! A JSON object as the tree that the readers read: what comes by the API is judged by the same words as a file.
//!
//! What no caller may say is found here, wherever it stands: `env:` and `file:`, which would read the daemon's own
//! variables and files, and null, which stands for nothing in a configuration.

use super::node::{Entry, Node, Value};
use super::problem::{Place, Problems};
use serde_json::{Map, Value as Json};

/// How deep arrays and objects may be nested.
const DEPTH_MAX: usize = 32;

/// The tree of an object whose members stand right below the document's root.
pub(super) fn tree(object: &Map<String, Json>, problems: &mut Problems) -> Node {
    table(object, &Place::Pointer("".into()), DEPTH_MAX, problems)
}

fn table(object: &Map<String, Json>, place: &Place, levels: usize, problems: &mut Problems) -> Node {
    let mut entries = Vec::with_capacity(object.len());
    for (key, value) in object {
        let at = place.below(key);
        if let Some(node) = node(value, &at, levels, problems) {
            entries.push(Entry { key: key.clone(), place: at, node });
        }
    }
    Node::new(Value::Table(entries), place.clone())
}

/// A value; `None` where it is none that a configuration knows, which is a problem then.
fn node(json: &Json, place: &Place, levels: usize, problems: &mut Problems) -> Option<Node> {
    let value = match json {
        Json::Null => {
            problems.add(place, "this is null", "leave it out");
            return None;
        }
        Json::Bool(b) => Value::Boolean(*b),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => Value::Integer(n),
            (None, Some(n)) if !number.is_u64() => Value::Float(n),
            _ => {
                problems.add(place, "this number is too large", "whole numbers have 64 bits with a sign");
                return None;
            }
        },
        Json::String(text) if text.starts_with("env:") || text.starts_with("file:") => {
            let hint = "only the daemon's own configuration reads its variables and files; write the value itself";
            problems.add(place, "`env:` and `file:` are not read here", hint);
            return None;
        }
        Json::String(text) => Value::String(text.clone()),
        Json::Array(_) | Json::Object(_) if levels == 0 => {
            problems.add(place, format!("this is nested deeper than {DEPTH_MAX} levels"), "nothing here needs that");
            return None;
        }
        Json::Array(values) => {
            let nodes = (0..)
                .zip(values)
                .filter_map(|(at, value): (usize, _)| node(value, &place.below(&at.to_string()), levels - 1, problems));
            Value::Array(nodes.collect())
        }
        Json::Object(object) => return Some(table(object, place, levels - 1, problems)),
    };
    Some(Node::new(value, place.clone()))
}
