//! Masks what is sensitive before a notification is shown.
//!
//! Shown data may be older than the catalogue: what does not fit the tree is passed by.

use super::shape::{Inside, Node};
use serde_json::Value;

/// What a sensitive value is shown as.
const MASK: &str = "…";

/// Replaces every value of an object, each as a whole; says whether there was one.
pub(super) fn mask_values(value: &mut Value) -> bool {
    match value {
        Value::Object(entries) => {
            entries.values_mut().for_each(|entry| *entry = MASK.into());
            !entries.is_empty()
        }
        other => {
            *other = MASK.into();
            true
        }
    }
}

/// Replaces every sensitive value, objects and arrays as a whole; says whether there was one.
pub(super) fn mask(node: &Node, value: &mut Value) -> bool {
    if !node.marks.masks {
        return false;
    }
    if node.field.as_ref().is_some_and(|f| f.sensitive) {
        *value = MASK.into();
        return true;
    }
    let mut masked = false;
    match (&node.inside, value) {
        (Inside::Names(names), Value::Object(entries)) => {
            for (name, child) in names {
                masked |= entries.get_mut(&**name).is_some_and(|entry| mask(child, entry));
            }
        }
        (Inside::Each(each), Value::Object(entries)) => {
            entries.values_mut().for_each(|entry| masked |= mask(each, entry));
        }
        (Inside::Each(each), Value::Array(entries)) => {
            entries.iter_mut().for_each(|entry| masked |= mask(each, entry));
        }
        _ => {}
    }
    masked
}
