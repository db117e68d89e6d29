//! Reads what a caller sends as JSON: one whole text in UTF-8, at most 128 levels deep, no lone surrogate.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A text that is not one whole JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not one whole JSON text: {0}")]
pub struct NotJson(pub String);

/// Checks that `bytes` are one whole JSON text and reads it.
///
/// # Errors
/// [`NotJson`] with the place of the first fault: bytes that are not UTF-8, a lone surrogate, more than 128 levels.
pub fn read(bytes: &[u8]) -> Result<Value, NotJson> {
    let text = std::str::from_utf8(bytes).map_err(|e| NotJson(format!("byte {} is not UTF-8", e.valid_up_to())))?;
    serde_json::from_str(text).map_err(|e| NotJson(e.to_string()))
}

/// Removes the whitespace between the tokens of a valid JSON text; every token stays as it was written.
#[must_use]
pub fn compact(valid: &str) -> String {
    let mut out = String::with_capacity(valid.len());
    // Runs without such whitespace are copied whole. All bytes looked for are ASCII: every cut is a character's border.
    let (bytes, mut kept, mut at) = (valid.as_bytes(), 0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = behind_string(bytes, at + 1),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(&valid[kept..at]);
                (at, kept) = (at + 1, at + 1);
            }
            _ => at += 1,
        }
    }
    out.push_str(&valid[kept..]);
    out
}

/// The place behind the string whose first character is at `at`.
fn behind_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| matches!(b, b'"' | b'\\'))) {
        let escaped = bytes[at + found] == b'\\';
        at += found + 1 + usize::from(escaped);
        if !escaped {
            return at;
        }
    }
    bytes.len()
}

/// Feeds a value to a hash so that two texts with the same meaning give the same: keys sorted, numbers as read.
pub(crate) fn hash(value: &Value, into: &mut Sha256) {
    match value {
        Value::Null => into.update(b"n"),
        Value::Bool(b) => into.update([b'b', u8::from(*b)]),
        Value::Number(n) => {
            into.update(b"#");
            hash_text(&n.to_string(), into);
        }
        Value::String(s) => {
            into.update(b"s");
            hash_text(s, into);
        }
        Value::Array(items) => {
            into.update(b"[");
            into.update((items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| hash(item, into));
        }
        Value::Object(fields) => {
            into.update(b"{");
            into.update((fields.len() as u64).to_be_bytes());
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            for (key, field) in sorted {
                hash_text(key, into);
                hash(field, into);
            }
        }
    }
}

/// Feeds a text with its length, so that two neighbours can not be taken for one.
pub(crate) fn hash_text(text: &str, into: &mut Sha256) {
    into.update((text.len() as u64).to_be_bytes());
    into.update(text.as_bytes());
}

/// The first 16 bytes of a finished hash.
pub(crate) fn first_16(hash: Sha256) -> [u8; 16] {
    let digest = hash.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(text: &str) -> [u8; 16] {
        let mut sha = Sha256::new();
        hash(&read(text.as_bytes()).unwrap(), &mut sha);
        first_16(sha)
    }

    #[test]
    fn the_order_of_fields_and_white_space_do_not_count_but_values_do() {
        assert_eq!(digest(r#"{"a":1,"b":[true,null]}"#), digest("{ \"b\" : [ true, null ],\n\"a\":1}"));
        assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":"1"}"#));
        assert_ne!(digest(r#"["ab","c"]"#), digest(r#"["a","bc"]"#));
        assert_ne!(digest(r#"[[1],[2]]"#), digest(r#"[[1,2],[]]"#));
    }

    #[test]
    fn what_is_not_one_whole_json_text_is_refused() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for bytes in [&b""[..], b"{", b"{} {}", b"\xff", b"\"\\ud800\"", b"nul", deep.as_bytes(), b"{\"a\":1,}"] {
            assert!(read(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn a_compact_text_means_the_same(key in ".*", text in ".*", number: f64) {
            let value = serde_json::json!({ key: [text, number, {"x": null}] });
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty), value.to_string());
        }
    }
}
