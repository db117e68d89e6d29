//! Writes what leaves of properties: walks a [`Plan`] over them and gives a [`Writer`] what the rules let through.
//!
//! What leaves is sorted by name, so that its order tells nothing.

use super::rules::{Allowed, Count, Derivation, Derived, Kept, Measure, Plan, Scalar, Size, Step, Word, Words};
use super::writer::Writer;
use crate::EventType;
use serde_json::Value;

impl Plan {
    /// `{"event","event_properties","derived_properties"}` of properties.
    pub(super) fn telemetry(&self, event_type: &EventType, properties: &Value) -> String {
        let mut writer = Writer::of(event_type);
        writer.tree("event_properties", |w| write_kept(&self.kept, properties, w, &mut Unheard));
        writer.tree("derived_properties", |w| write_derived(&self.derived, Some(properties), w));
        writer.done()
    }
}

/// Who wants to hear of what is left out.
pub(super) trait Hears {
    /// Looks at the entry of this name.
    fn name(&mut self, name: &str);
    /// Looks at the entry of this place.
    fn place(&mut self, place: usize);
    /// Is done with that entry.
    fn back(&mut self);
    /// What is looked at is left out.
    fn left_out(&mut self);
    /// The names of `object` that are not known are left out.
    fn unknown(&mut self, object: &Value, known: &dyn Fn(&str) -> bool);
}

/// Nobody: properties are full of what does not leave.
struct Unheard;

impl Hears for Unheard {
    fn name(&mut self, _: &str) {}
    fn place(&mut self, _: usize) {}
    fn back(&mut self) {}
    fn left_out(&mut self) {}
    fn unknown(&mut self, _: &Value, _: &dyn Fn(&str) -> bool) {}
}

/// Writes what is kept of an object.
pub(super) fn write_kept(members: &[(Word, Kept)], object: &Value, writer: &mut Writer, hears: &mut impl Hears) {
    for (name, kept) in members {
        let Some(value) = object.get(name.raw()) else { continue };
        hears.name(name.raw());
        writer.member(name, |w| kept.write(value, w, hears));
        hears.back();
    }
    hears.unknown(object, &|name| is_member(members, name));
}

/// Whether there is a member of this name; members are sorted.
pub(super) fn is_member<T>(members: &[(Word, T)], name: &str) -> bool {
    members.binary_search_by(|(word, _)| word.raw().cmp(name)).is_ok()
}

impl Kept {
    /// Writes what is kept of a value; says whether that is something.
    fn write(&self, value: &Value, writer: &mut Writer, hears: &mut impl Hears) -> bool {
        match (self, value) {
            (Self::Object(members), Value::Object(_)) => writer.object(|w| write_kept(members, value, w, hears)),
            (Self::List(entry), Value::Array(items)) => {
                writer.list(|w| {
                    for (at, item) in items.iter().enumerate() {
                        hears.place(at);
                        w.entry(|w| entry.write_entry(item, w, hears));
                        hears.back();
                    }
                });
                true
            }
            (Self::Value { field, .. }, Value::Null) if field.nullable => {
                writer.null();
                true
            }
            #[cfg(feature = "fault-injection")]
            (Self::Leaking, _) => {
                writer.leak(value);
                true
            }
            (Self::Value { allowed, .. }, _) if allowed.write(value, writer) => true,
            _ => {
                hears.left_out();
                false
            }
        }
    }

    /// Writes an entry of an array. An object or array stands there even when it is empty, so that the others keep their
    /// places.
    fn write_entry(&self, item: &Value, writer: &mut Writer, hears: &mut impl Hears) -> bool {
        let written = self.write(item, writer, hears);
        match (self, item) {
            (Self::Object(_), Value::Object(_)) => true,
            (Self::Object(_), _) => !writer.object(|_| ()),
            (Self::List(_), _) if !written => {
                writer.list(|_| ());
                true
            }
            _ => written,
        }
    }
}

impl Allowed {
    fn write(&self, value: &Value, writer: &mut Writer) -> bool {
        match (self, value) {
            (Self::Truth, Value::Bool(truth)) => writer.truth(*truth),
            (Self::Words(words), Value::String(said)) => match words.find(said) {
                Some(word) => writer.word(word),
                None => return false,
            },
            (Self::Numbers(numbers), Value::Number(said)) => {
                let said = Size::of(said);
                match numbers.iter().find(|(size, _)| size.compare(said).is_eq()) {
                    Some((_, word)) => writer.word(word),
                    None => return false,
                }
            }
            (Self::Grid(grid), Value::Number(said)) => match grid.keep(said) {
                Some(number) => writer.measured(number),
                None => return false,
            },
            _ => return false,
        }
        true
    }
}

/// Writes what is derived beside the entries of an object; `None` where the object is not there.
fn write_derived(members: &[(Word, Derived)], at: Option<&Value>, writer: &mut Writer) {
    for (name, derived) in members {
        writer.member(name, |w| match derived {
            Derived::Object { enter: true, members } => {
                w.object(|w| write_derived(members, at.and_then(|v| v.get(name.raw())), w))
            }
            Derived::Object { enter: false, members } => w.object(|w| write_derived(members, at, w)),
            Derived::Value(derivation) => derivation.write(at, w),
        });
    }
}

impl Derivation {
    /// Writes the derived value; says whether there is one.
    fn write(&self, at: Option<&Value>, writer: &mut Writer) -> bool {
        let all = self.over_all();
        // Over all entries of what is not there nothing is derived; over all of what is empty, nought.
        let there = at.is_some_and(|at| if all { entries_are_there(at, &self.from) } else { true });
        if !there && !matches!(self.measure, Measure::Present) {
            return false;
        }
        let mut found = Found { from: &self.from, at: at.filter(|_| there) };
        match &self.measure {
            Measure::Count => found.sum(Count::entries).is_some_and(|count| write_count(count, writer)),
            Measure::Present => {
                let present = found.sum(|value| (!value.is_null()).then_some(Count::ONE)).unwrap_or_default();
                if all {
                    writer.count(present)
                } else {
                    writer.truth(!present.is_none())
                }
                true
            }
            Measure::Distinct => {
                let (mut scalars, mut some) = (Vec::new(), all);
                found.each(&mut |value| match value {
                    Value::Array(items) => {
                        some = true;
                        scalars.extend(items.iter().filter_map(Scalar::of));
                    }
                    other => scalars.extend(Scalar::of(other)),
                });
                some |= !scalars.is_empty();
                some && write_count(Count::different(&mut scalars), writer)
            }
            Measure::Sum(grid) => {
                let mut steps = all.then_some(0_i128);
                found.each(&mut |value| {
                    if let Some(more) = value.as_number().and_then(|n| grid.steps(n)) {
                        steps = Some(steps.unwrap_or(0).saturating_add(more));
                    }
                });
                steps.map(|steps| writer.measured(grid.sum(steps))).is_some()
            }
            Measure::CountBy { words, other } => {
                let mut counts = vec![Count::default(); words.iter().len()];
                let mut say = |value: &Value| {
                    let place = value.as_str().and_then(|said| words.place(said)).unwrap_or(*other);
                    if let Some(count) = counts.get_mut(place).filter(|_| !value.is_null()) {
                        count.one_more();
                    }
                };
                found.each(&mut |value| match value {
                    Value::Array(items) => items.iter().for_each(&mut say),
                    value => say(value),
                });
                writer.tally(words, &counts)
            }
            Measure::Bucket(buckets) => {
                found.label(all, &buckets.labels, writer, |value| buckets.place(value.as_number().map(Size::of)?))
            }
            Measure::LengthBucket(buckets) => {
                found.label(all, &buckets.labels, writer, |value| buckets.place(Size::of_count(Count::length(value)?)))
            }
        }
    }
}

fn write_count(count: Count, writer: &mut Writer) -> bool {
    writer.count(count);
    true
}

/// Whether what the first `*` of a path goes over is there.
fn entries_are_there(mut at: &Value, path: &[Step]) -> bool {
    for step in path {
        match step {
            Step::Each => return at.is_object() || at.is_array(),
            Step::Name(name) => match at.get(&**name) {
                Some(value) => at = value,
                None => return false,
            },
        }
    }
    true
}

/// What a path finds.
struct Found<'a> {
    from: &'a [Step],
    at: Option<&'a Value>,
}

impl<'a> Found<'a> {
    /// Shows every value that is found.
    fn each(&mut self, show: &mut dyn FnMut(&'a Value)) {
        if let Some(at) = self.at {
            visit(at, self.from, show);
        }
    }

    /// The sum of what is counted; `None` where nothing is, unless a `*` found nothing to count.
    fn sum(&mut self, count: impl Fn(&Value) -> Option<Count>) -> Option<Count> {
        let mut sum = self.from.contains(&Step::Each).then(Count::default);
        self.each(&mut |value| {
            if let Some(more) = count(value) {
                sum = Some(sum.unwrap_or_default().plus(more));
            }
        });
        sum
    }

    /// Writes the label of the one value, or how often each label occurs; says whether there was one.
    fn label(
        &mut self,
        all: bool,
        labels: &Words,
        writer: &mut Writer,
        place: impl Fn(&Value) -> Option<usize>,
    ) -> bool {
        if all {
            let mut counts = vec![Count::default(); labels.iter().len()];
            self.each(&mut |value| {
                if let Some(count) = place(value).and_then(|at| counts.get_mut(at)) {
                    count.one_more();
                }
            });
            return writer.tally(labels, &counts);
        }
        let mut label = None;
        self.each(&mut |value| label = place(value).and_then(|at| labels.get(at)));
        label.map(|label| writer.word(label)).is_some()
    }
}

/// Shows every value that a path finds. As deep as the path, which the catalogue bounds.
fn visit<'a>(at: &'a Value, path: &[Step], show: &mut dyn FnMut(&'a Value)) {
    let Some((step, rest)) = path.split_first() else { return show(at) };
    match (step, at) {
        (Step::Name(name), Value::Object(fields)) => {
            if let Some(value) = fields.get(&**name) {
                visit(value, rest, show);
            }
        }
        (Step::Each, Value::Object(fields)) => fields.values().for_each(|value| visit(value, rest, show)),
        (Step::Each, Value::Array(items)) => items.iter().for_each(|value| visit(value, rest, show)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
