//! The text that leaves, as it is written: the one place that holds it.
//!
//! A [`Writer`] takes the catalogue's [`Word`]s, [`Count`]s, [`Measured`] numbers, `true`, `false` and null, and nothing
//! else. Who walks over an event has no other way to the text, so that nothing that the event brought gets into it.

use super::rules::{Count, Measured, Word, Words};
use crate::EventType;
#[cfg(feature = "fault-injection")]
use serde_json::Value;
use std::fmt::Write as _;

/// The text that leaves, as far as it is written.
pub(super) struct Writer(String);

impl Writer {
    /// Begins with the type, whose grammar needs no escaping.
    pub(super) fn of(event_type: &EventType) -> Self {
        let mut text = String::with_capacity(512);
        let _ = write!(text, r#"{{"event":"{event_type}""#);
        Self(text)
    }

    /// One of the two trees, which is there even where it is empty.
    pub(super) fn tree(&mut self, name: &'static str, inside: impl FnOnce(&mut Self)) {
        let _ = write!(self.0, r#","{name}":{{"#);
        inside(self);
        self.0.push('}');
    }

    /// The whole text.
    pub(super) fn done(mut self) -> String {
        self.0.push('}');
        self.0
    }

    /// A member of an object; nothing of it stays where `value` says that there is none.
    pub(super) fn member(&mut self, name: &Word, value: impl FnOnce(&mut Self) -> bool) -> bool {
        let before = self.0.len();
        self.divide();
        self.0.push_str(name.json());
        self.0.push(':');
        let written = value(self);
        if !written {
            self.0.truncate(before);
        }
        written
    }

    /// An object; says whether there is something in it.
    pub(super) fn object(&mut self, inside: impl FnOnce(&mut Self)) -> bool {
        self.0.push('{');
        let empty = self.0.len();
        inside(self);
        let some = self.0.len() > empty;
        self.0.push('}');
        some
    }

    /// An array.
    pub(super) fn list(&mut self, inside: impl FnOnce(&mut Self)) {
        self.0.push('[');
        inside(self);
        self.0.push(']');
    }

    /// An entry of an array; nothing of it stays where `value` says that there is none.
    pub(super) fn entry(&mut self, value: impl FnOnce(&mut Self) -> bool) {
        let before = self.0.len();
        self.divide();
        if !value(self) {
            self.0.truncate(before);
        }
    }

    /// A comma, but before the first.
    fn divide(&mut self) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
    }

    /// A text of the catalogue.
    pub(super) fn word(&mut self, word: &Word) {
        self.0.push_str(word.json());
    }

    /// A count.
    pub(super) fn count(&mut self, count: Count) {
        let _ = write!(self.0, "{count}");
    }

    /// A number on a declared grid.
    pub(super) fn measured(&mut self, number: Measured) {
        let _ = write!(self.0, "{number}");
    }

    /// `true` or `false`.
    pub(super) fn truth(&mut self, truth: bool) {
        self.0.push_str(if truth { "true" } else { "false" });
    }

    /// Anything at all: what must never be.
    #[cfg(feature = "fault-injection")]
    pub(super) fn leak(&mut self, value: &Value) {
        let _ = write!(self.0, "{value}");
    }

    /// Null.
    pub(super) fn null(&mut self) {
        self.0.push_str("null");
    }

    /// How often each word occurs; says whether one does.
    pub(super) fn tally(&mut self, words: &Words, counts: &[Count]) -> bool {
        self.object(|w| {
            for (word, count) in words.iter().zip(counts).filter(|(_, count)| !count.is_none()) {
                w.member(word, |w| {
                    w.count(*count);
                    true
                });
            }
        })
    }
}
