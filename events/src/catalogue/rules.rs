//! What of a type leaves as telemetry: its rules, compiled to two trees of what to write.
//!
//! [`Plan::of`] reads declarations alone and makes the only [`Word`]s that there are. `telemetry` walks a plan over
//! properties, `relay` over what a client brings, `telemetry_schema` describes it. A rule that does not fit its field is
//! a fault of the catalogue, found elsewhere; here nothing leaves by it.

#[cfg(feature = "fault-injection")]
mod leak;
mod numbers;
mod words;

pub(super) use numbers::{COUNT_MAX, Count, Grid, Measured, Scalar, Size};
pub(super) use words::{Word, Words};

use super::declare::{FieldDeclaration, FieldKind, LENGTH_BUCKETS, Rule};
use super::shape::{Inside, Node};
use serde_json::{Number, Value};
use std::cmp::Ordering;
use std::sync::Arc;

/// What counts values outside a vocabulary.
pub(super) const OTHER: &str = "other";

/// What leaves of a type.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Plan {
    /// `event_properties`: what is kept, at its own place.
    pub(super) kept: Vec<(Word, Kept)>,
    /// `derived_properties`: what is derived, beside what it is derived from.
    pub(super) derived: Vec<(Word, Derived)>,
}

/// A place of the tree of what is kept.
#[derive(Debug, PartialEq)]
pub(super) enum Kept {
    /// An object with these names, sorted.
    Object(Vec<(Word, Kept)>),
    /// An array, each of whose entries is this.
    List(Box<Kept>),
    /// A value.
    Value {
        /// Which values may leave.
        allowed: Allowed,
        /// What is declared of it.
        field: Arc<FieldDeclaration>,
    },
    /// A value of any kind: what must never be.
    #[cfg(feature = "fault-injection")]
    Leaking,
}

/// Which values may leave as they are.
#[derive(Debug, PartialEq)]
pub(super) enum Allowed {
    /// `true` and `false`.
    Truth,
    /// Words of a vocabulary.
    Words(Words),
    /// These numbers.
    Numbers(Vec<(Size, Word)>),
    /// Numbers within bounds.
    Grid(Grid),
}

/// A place of the tree of what is derived.
#[derive(Debug, PartialEq)]
pub(super) enum Derived {
    /// An object with these names, sorted.
    Object {
        /// Whether it stands for the object of this name in the properties; else it is only written, for a `*` came
        /// before.
        enter: bool,
        /// What it has.
        members: Vec<(Word, Derived)>,
    },
    /// A value.
    Value(Box<Derivation>),
}

/// How a value is derived.
#[derive(Debug, PartialEq)]
pub(super) struct Derivation {
    /// Where it is derived from, seen from the object that it is written in.
    pub(super) from: Vec<Step>,
    /// How.
    pub(super) measure: Measure,
    /// What is declared of it.
    pub(super) field: Arc<FieldDeclaration>,
}

impl Derivation {
    /// Whether it is over all that a path with `*` finds.
    pub(super) fn over_all(&self) -> bool {
        self.from.contains(&Step::Each)
    }
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// To the entry of this name.
    Name(Box<str>),
    /// To each entry.
    Each,
}

/// How a derived value is made.
#[derive(Debug, PartialEq)]
pub(super) enum Measure {
    /// How many entries.
    Count,
    /// How many different values.
    Distinct,
    /// The sum.
    Sum(Grid),
    /// How often each word occurs.
    CountBy {
        /// The vocabulary, with [`OTHER`].
        words: Words,
        /// The place of [`OTHER`] in it.
        other: usize,
    },
    /// Whether it is there.
    Present,
    /// Between which bounds a number lies.
    Bucket(Buckets),
    /// Between which bounds a length lies.
    LengthBucket(Buckets),
}

/// Bounds and what lies between them.
#[derive(Debug, PartialEq)]
pub(super) struct Buckets {
    bounds: Vec<Size>,
    /// For each bucket from the lowest the place of its label.
    places: Vec<usize>,
    /// The labels, sorted.
    pub(super) labels: Words,
}

impl Buckets {
    /// Half-open buckets: below the first bound, from each to the next, from the last on.
    fn of(bounds: &[Number]) -> Option<Self> {
        let sizes: Vec<Size> = bounds.iter().map(Size::of).collect();
        let ascending = sizes.windows(2).all(|two| two[0].compare(two[1]) == Ordering::Less);
        let (first, last) = (bounds.first()?, bounds.last()?);
        if !ascending {
            return None;
        }
        let mut texts = vec![format!("<{first}")];
        texts.extend(bounds.windows(2).map(|two| format!("{}..{}", two[0], two[1])));
        texts.push(format!(">={last}"));
        let labels = Words::declared(texts.iter().map(String::as_str));
        let places = texts.iter().map(|text| labels.place(text)).collect::<Option<_>>()?;
        Some(Self { bounds: sizes, places, labels })
    }

    /// The place of the label of what has this size.
    pub(super) fn place(&self, size: Size) -> Option<usize> {
        let below = self.bounds.partition_point(|bound| bound.compare(size) != Ordering::Greater);
        self.places.get(below).copied()
    }
}

impl Plan {
    /// What leaves of what is declared.
    pub(super) fn of(shape: &Node) -> Self {
        let kept = match kept(shape) {
            Some(Kept::Object(members)) => members,
            _ => Vec::new(),
        };
        let mut plan = Self { kept, derived: Vec::new() };
        collect(shape, &mut Vec::new(), &mut plan.derived);
        plan
    }
}

fn kept(node: &Node) -> Option<Kept> {
    match &node.inside {
        Inside::Nothing => {
            let field = node.field.as_ref().filter(|f| f.rule == Rule::Keep)?;
            Some(Kept::Value { allowed: Allowed::of(field)?, field: Arc::clone(field) })
        }
        // The keys of an object are data; only the entries of an array have places of their own.
        Inside::Each(entry) => {
            let array = node.field.as_ref().is_some_and(|f| f.kind == FieldKind::Array);
            kept(entry).filter(|_| array).map(|entry| Kept::List(Box::new(entry)))
        }
        Inside::Names(names) => {
            let members: Vec<_> =
                names.iter().filter_map(|(name, node)| Some((Word::declared(name), kept(node)?))).collect();
            (!members.is_empty()).then_some(Kept::Object(members))
        }
    }
}

impl Allowed {
    fn of(field: &FieldDeclaration) -> Option<Self> {
        match field.kind {
            FieldKind::Boolean => Some(Self::Truth),
            FieldKind::String if !field.values.is_empty() => {
                Some(Self::Words(Words::declared(field.values.iter().filter_map(Value::as_str))))
            }
            FieldKind::Integer | FieldKind::Number if !field.values.is_empty() => {
                let number = |value: &Value| value.as_number().map(|n| (Size::of(n), Word::number(n)));
                Some(Self::Numbers(field.values.iter().filter_map(number).collect()))
            }
            FieldKind::Integer | FieldKind::Number => Grid::of(field).map(Self::Grid),
            FieldKind::String | FieldKind::Object | FieldKind::Array => None,
        }
    }
}

impl Measure {
    fn of(field: &FieldDeclaration) -> Option<Self> {
        let container = matches!(field.kind, FieldKind::Object | FieldKind::Array);
        let number = matches!(field.kind, FieldKind::Integer | FieldKind::Number);
        match &field.rule {
            Rule::Drop | Rule::Keep => None,
            Rule::Count => container.then_some(Self::Count),
            Rule::Distinct => (field.kind != FieldKind::Object).then_some(Self::Distinct),
            Rule::Sum => Grid::of(field).map(Self::Sum),
            Rule::CountBy if matches!(field.kind, FieldKind::String | FieldKind::Array) => {
                let words = Words::declared(field.values.iter().filter_map(Value::as_str).chain([OTHER]));
                words.place(OTHER).map(|other| Self::CountBy { words, other })
            }
            Rule::CountBy => None,
            Rule::Present => Some(Self::Present),
            Rule::Bucket(bounds) => Buckets::of(bounds).filter(|_| number).map(Self::Bucket),
            Rule::LengthBucket(bounds) => {
                let bounds = if bounds.is_empty() { &LENGTH_BUCKETS[..] } else { bounds };
                let bounds: Vec<Number> = bounds.iter().map(|bound| (*bound).into()).collect();
                let long = container || field.kind == FieldKind::String;
                Buckets::of(&bounds).filter(|_| long).map(Self::LengthBucket)
            }
        }
    }

    /// How the name of what it makes ends.
    const fn ending(&self) -> &'static str {
        match self {
            Self::Count => "_count",
            Self::Distinct => "_distinct",
            Self::Sum(_) => "_sum",
            Self::CountBy { .. } => "_count_by",
            Self::Present => "_present",
            Self::Bucket(_) => "_bucket",
            Self::LengthBucket(_) => "_length_bucket",
        }
    }
}

/// Finds every derived value at and below a node, in the order of the names.
fn collect(node: &Node, path: &mut Vec<Step>, into: &mut Vec<(Word, Derived)>) {
    if let Some(field) = &node.field
        && let Some(measure) = Measure::of(field)
    {
        place(into, path, measure, field);
    }
    let mut below = |step, node: &Node| {
        path.push(step);
        collect(node, path, into);
        path.pop();
    };
    match &node.inside {
        Inside::Nothing => {}
        Inside::Names(names) => names.iter().for_each(|(name, node)| below(Step::Name((**name).into()), node)),
        Inside::Each(entry) => below(Step::Each, entry),
    }
}

/// Puts a derived value beside the field that it is derived from; each `*` of the path falls out of its place.
fn place(mut into: &mut Vec<(Word, Derived)>, path: &[Step], measure: Measure, field: &Arc<FieldDeclaration>) {
    let mut names: Vec<&str> = path.iter().filter_map(Step::name).collect();
    let Some(own) = names.pop() else { return };
    let name = field.derived_name.clone().unwrap_or_else(|| format!("{own}{}", measure.ending()));
    // Objects up to the first `*` are entered in the properties too, what comes then is found from there.
    let named = path.iter().take_while(|step| **step != Step::Each).count();
    let entered = names.len().min(named);
    for (at, name) in names.iter().enumerate() {
        let object = || Derived::Object { enter: at < entered, members: Vec::new() };
        match member(into, name, object) {
            Derived::Object { members, .. } => into = members,
            // Two values at one place are a fault of the catalogue; the first one stays.
            Derived::Value(_) => return,
        }
    }
    let from = path[entered..].to_vec();
    member(into, &name, || Derived::Value(Box::new(Derivation { from, measure, field: Arc::clone(field) })));
}

/// The member of this name, made where there is none; members stay sorted.
fn member<'a, T>(members: &'a mut Vec<(Word, T)>, name: &str, made: impl FnOnce() -> T) -> &'a mut T {
    let at = members.binary_search_by(|(word, _)| word.raw().cmp(name)).unwrap_or_else(|at| {
        members.insert(at, (Word::declared(name), made()));
        at
    });
    &mut members[at].1
}

impl Step {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Each => None,
        }
    }
}
