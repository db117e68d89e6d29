//! Tells an event in a few short lines for people in a chat. How they are marked up and escaped is left to the chat.

use super::{Event, data};
use serde_json::Value;

/// How many facts are told; the others are counted.
const FACTS_MAX: usize = 20;
/// How much of the path, and of the value, of a fact is told, in characters.
const PATH_MAX: usize = 80;
const VALUE_MAX: usize = 200;
/// How much of a key or a tenant is told, in characters.
const NAME_MAX: usize = 100;

/// An event in lines: none has a line end, a control character or a character that turns the direction of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    /// What happened.
    pub(super) event_type: String,
    /// When, and to whom.
    pub(super) about: String,
    /// The first facts of its data: path and value.
    pub(super) facts: Vec<(String, String)>,
    /// How many more there are.
    pub(super) more: usize,
    /// The event's id.
    pub(super) id: String,
}

impl Digest {
    pub(super) fn of(event: &Event<'_>) -> Result<Self, serde_json::Error> {
        let facts = event.facts;
        let at = facts.happened_at().to_string();
        let seconds = at.split('.').next().unwrap_or(&at).replace('T', " ");
        let mut about = format!("{seconds} UTC");
        for (name, value) in [("key", &facts.key), ("tenant", &facts.tenant)] {
            if let Some(value) = value {
                about.push_str(&format!(" · {name} {}", clean(value, NAME_MAX)));
            }
        }
        let mut told = Vec::new();
        // A number beyond what a float holds is a fact that nobody can tell in short.
        let data: Value = serde_json::from_str(data(event.body)?.get()).unwrap_or_default();
        walk("", &data, &mut told);
        let more = told.len().saturating_sub(FACTS_MAX);
        told.truncate(FACTS_MAX);
        let event_type = facts.event_type.as_str().to_owned();
        Ok(Self { event_type, about, facts: told, more, id: event.id.event.to_string() })
    }

    /// The most that fits: `render` gives a form of it and its size, of which `max` is allowed; facts are left out from the
    /// end. Without any, it is short enough for every chat.
    pub(super) fn fitted<T>(mut self, max: usize, render: impl Fn(&Self) -> (T, usize)) -> T {
        loop {
            let (rendered, size) = render(&self);
            if size <= max || self.facts.pop().is_none() {
                return rendered;
            }
            self.more += 1;
        }
    }

    /// What is said of those that are not told.
    pub(super) fn rest(&self) -> Option<String> {
        (self.more > 0).then(|| format!("… and {} more", self.more))
    }
}

/// Adds what a value says: of an object first what stands in it directly, then what is deeper.
fn walk(path: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    let said = match value {
        Value::Object(fields) => {
            let deep = |value: &&Value| matches!(value, Value::Object(inner) if !inner.is_empty());
            for wanted in [false, true] {
                for (name, value) in fields.iter().filter(|(_, value)| deep(value) == wanted) {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(&path, value, facts);
                }
            }
            // One without fields says nothing.
            return;
        }
        Value::Array(entries) if entries.len() == 1 => "1 entry".to_owned(),
        Value::Array(entries) => format!("{} entries", entries.len()),
        Value::String(text) => clean(text, VALUE_MAX),
        other => clean(&other.to_string(), VALUE_MAX),
    };
    facts.push((clean(path, PATH_MAX), said));
}

/// At most `max` characters of a text on one line, without those that nobody sees; `…` stands for what was cut.
fn clean(text: &str, max: usize) -> String {
    let unseen =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let mut kept = String::new();
    let (mut count, mut space) = (0, false);
    for c in text.chars().filter(|c| !unseen(*c)) {
        if c.is_whitespace() || c.is_control() {
            space = count > 0;
            continue;
        }
        let needed = 1 + usize::from(space);
        // One place is kept for what says that it was cut.
        if count + needed > max {
            while kept.chars().count() >= max {
                kept.pop();
            }
            kept.push('…');
            break;
        }
        if space {
            kept.push(' ');
        }
        kept.push(c);
        (count, space) = (count + needed, false);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};
    use serde_json::json;

    #[test]
    fn a_text_is_told_on_one_line_and_cut_at_a_character() {
        assert_eq!(clean("  a\r\n\tb \u{202e}c\u{0} ", 10), "a b c");
        assert_eq!(clean("abcdef", 6), "abcdef");
        assert_eq!(clean("abcdefg", 6), "abcde…");
        assert_eq!(clean("abcde fg", 6), "abcde…");
        assert_eq!(clean("ж👋🏽ж", 2), "ж…");
        assert_eq!(clean("\u{200b}\n", 5), "");
    }

    #[test]
    fn what_stands_directly_is_told_before_what_is_deeper() {
        let mut facts = Vec::new();
        let data = json!({ "a": { "deep": { "er": 1.5 } }, "b": [1, 2], "c": null, "d": {}, "e": ["x"], "f": true });
        walk("", &data, &mut facts);
        let lines: Vec<String> = facts.iter().map(|(path, value)| format!("{path}={value}")).collect();
        assert_eq!(lines, ["b=2 entries", "c=null", "e=1 entry", "f=true", "a.deep.er=1.5"]);
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_said_or_has_a_line_end(text in any::<String>(), max in 1_usize..300) {
            let cleaned = clean(&text, max);
            assert!(cleaned.chars().count() <= max && !cleaned.chars().any(char::is_control), "{cleaned:?}");
            assert_eq!(clean(&cleaned, max), cleaned);
        }
    }
}
