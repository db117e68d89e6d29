//! Writes what leaves of what a client brings already anonymized: only what the telemetry schema knows.
//!
//! The same [`Writer`] as for an event of our own: what a client says chooses among the catalogue's words, or is held
//! against the bounds of a count or a grid; nothing that it says is copied. What is left out is named.

use super::rules::{Buckets, Count, Derivation, Derived, Measure, Plan, Word, Words};
use super::telemetry::{Hears, is_member, write_kept};
use super::writer::Writer;
use crate::EventType;
use serde_json::Value;

/// How many places that were left out are named at most.
const DROPPED_MAX: usize = 100;

impl Plan {
    /// `{"event","event_properties","derived_properties"}` of what is known, and the JSON Pointers of what is not: the
    /// first 100.
    pub(super) fn relay(&self, event_type: &EventType, properties: &Value, derived: &Value) -> (String, Vec<String>) {
        let mut dropped = Vec::new();
        let mut writer = Writer::of(event_type);
        let mut hears = Dropped::below("/properties", &mut dropped);
        hears.object(properties);
        writer.tree("event_properties", |w| write_kept(&self.kept, properties, w, &mut hears));
        let mut hears = Dropped::below("/derived_properties", &mut dropped);
        hears.object(derived);
        writer.tree("derived_properties", |w| write_claimed(&self.derived, derived, w, &mut hears));
        (writer.done(), dropped)
    }
}

/// Names what is left out.
struct Dropped<'a> {
    pointer: String,
    /// How long the pointer was before each step.
    steps: Vec<usize>,
    dropped: &'a mut Vec<String>,
}

impl<'a> Dropped<'a> {
    fn below(root: &str, dropped: &'a mut Vec<String>) -> Self {
        Self { pointer: root.to_owned(), steps: Vec::new(), dropped }
    }

    /// What is no object is left out as a whole.
    fn object(&mut self, value: &Value) {
        if !value.is_object() {
            self.left_out();
        }
    }
}

impl Hears for Dropped<'_> {
    fn name(&mut self, name: &str) {
        self.steps.push(self.pointer.len());
        self.pointer.push('/');
        // RFC 6901 section 3.
        self.pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
    }

    fn place(&mut self, place: usize) {
        self.name(&place.to_string());
    }

    fn back(&mut self) {
        self.pointer.truncate(self.steps.pop().unwrap_or_default());
    }

    fn left_out(&mut self) {
        if self.dropped.len() < DROPPED_MAX {
            self.dropped.push(self.pointer.clone());
        }
    }

    fn unknown(&mut self, object: &Value, known: &dyn Fn(&str) -> bool) {
        for (name, _) in object.as_object().into_iter().flatten().filter(|(name, _)| !known(name)) {
            self.name(name);
            self.left_out();
            self.back();
        }
    }
}

/// Writes what is known of the derived values that a client claims.
fn write_claimed(members: &[(Word, Derived)], object: &Value, writer: &mut Writer, hears: &mut impl Hears) {
    for (name, derived) in members {
        let Some(value) = object.get(name.raw()) else { continue };
        hears.name(name.raw());
        writer.member(name, |w| match derived {
            Derived::Object { members, .. } if value.is_object() => {
                w.object(|w| write_claimed(members, value, w, hears))
            }
            Derived::Object { .. } => {
                hears.left_out();
                false
            }
            Derived::Value(derivation) => derivation.claimed(value, w, hears),
        });
        hears.back();
    }
    hears.unknown(object, &|name| is_member(members, name));
}

impl Derivation {
    /// Writes what a client claims to have derived; says whether something of it is known.
    fn claimed(&self, value: &Value, writer: &mut Writer, hears: &mut impl Hears) -> bool {
        let known = match &self.measure {
            Measure::CountBy { words, .. } if value.is_object() => return tally(words, value, writer, hears),
            Measure::Bucket(Buckets { labels, .. }) | Measure::LengthBucket(Buckets { labels, .. })
                if self.over_all() && value.is_object() =>
            {
                return tally(labels, value, writer, hears);
            }
            Measure::CountBy { .. } => None,
            Measure::Bucket(buckets) | Measure::LengthBucket(buckets) => {
                let label = value.as_str().filter(|_| !self.over_all()).and_then(|said| buckets.labels.find(said));
                label.map(|label| writer.word(label))
            }
            Measure::Present if !self.over_all() => value.as_bool().map(|truth| writer.truth(truth)),
            Measure::Count | Measure::Distinct | Measure::Present => {
                Count::claimed(value).map(|count| writer.count(count))
            }
            Measure::Sum(grid) => value.as_number().and_then(|n| grid.claimed_sum(n)).map(|sum| writer.measured(sum)),
        };
        if known.is_none() {
            hears.left_out();
        }
        known.is_some()
    }
}

/// Writes how often a client says that each word occurs; says whether one is known.
fn tally(words: &Words, object: &Value, writer: &mut Writer, hears: &mut impl Hears) -> bool {
    let some = writer.object(|w| {
        for word in words.iter() {
            let Some(value) = object.get(word.raw()) else { continue };
            hears.name(word.raw());
            match Count::claimed(value) {
                Some(count) => drop(w.member(word, |w| {
                    w.count(count);
                    true
                })),
                None => hears.left_out(),
            }
            hears.back();
        }
    });
    hears.unknown(object, &|name| words.find(name).is_some());
    some
}
