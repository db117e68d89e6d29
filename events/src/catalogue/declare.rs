//! What a catalogue declares, as it was read from TOML or given in Rust, not yet checked: layers, types, fields, rules.
//!
//! [`super::Catalogue::compile`] checks it as a whole and makes of it what events are held against.

use serde_json::{Map, Number, Value};

/// Everything that is declared.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Declarations {
    /// The layers, in the order in which they were declared.
    pub layers: Vec<LayerDeclaration>,
    /// The event types, in the order in which they were declared.
    pub events: Vec<EventDeclaration>,
}

impl Declarations {
    /// Types without layers and fields.
    #[must_use]
    pub fn of_types(names: &[&str]) -> Self {
        let event = |name: &&str| EventDeclaration { name: (*name).to_owned(), ..EventDeclaration::default() };
        Self { layers: Vec::new(), events: names.iter().map(event).collect() }
    }
}

/// A layer: fields that it adds to its parent's payloads, at its own place in them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerDeclaration {
    /// Its name, of the grammar of types: `project:job`.
    pub name: String,
    /// The layer that it builds on. `None`: the nearest declared layer whose name its own begins with, if there is one.
    pub parent: Option<String>,
    /// Where its fields stand: names with dots between. `None`: its name with dots in place of `:`.
    pub at: Option<String>,
    /// What it adds.
    pub fields: Vec<FieldDeclaration>,
}

/// An event type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventDeclaration {
    /// The type.
    pub name: String,
    /// The layer that it stands on. `None`: the nearest declared layer whose name its own begins with, if there is one.
    pub layer: Option<String>,
    /// What a person calls it.
    pub title: Option<String>,
    /// Recorded no more; kept so that what waits still means something.
    pub retired: bool,
    /// Who is told.
    pub audience: Audience,
    /// Fields of this type alone, at the place of its layer.
    pub fields: Vec<FieldDeclaration>,
    /// The properties of one such event; held against the fields when the catalogue is loaded.
    pub example: Option<Map<String, Value>>,
}

/// A field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDeclaration {
    /// Names with dots between, seen from the place of its layer; `*` for each entry of an object or an array.
    pub path: String,
    /// What it may be.
    pub kind: FieldKind,
    /// Whether `null` is a value of it too.
    pub nullable: bool,
    /// Whether it must be there (where what it stands in is there, for one inside another).
    pub required: bool,
    /// What it means.
    pub description: Option<String>,
    /// The smallest number.
    pub minimum: Option<Number>,
    /// The largest number.
    pub maximum: Option<Number>,
    /// How many characters a string, or entries an array or object, may have.
    pub length_max: Option<u64>,
    /// The closed vocabulary of a string, or the numbers that there are. With `count-by` others may come and count as
    /// `other`.
    pub values: Vec<Value>,
    /// Masked where it is shown (logs, listings), never in what is delivered.
    pub sensitive: bool,
    /// Identifies what its layer is about: a `where` on it needs those of the layers above too.
    pub identity: bool,
    /// Who is told.
    pub audience: Audience,
    /// What becomes of it towards analytics.
    pub rule: Rule,
    /// What its derived value is called; `None`: its own name and the rule's ending, such as `steps_count`.
    pub derived_name: Option<String>,
}

impl FieldDeclaration {
    /// A field without any bounds, optional, whose rule is [`Rule::Drop`].
    #[must_use]
    pub fn new(path: impl Into<String>, kind: FieldKind) -> Self {
        Self {
            path: path.into(),
            kind,
            nullable: false,
            required: false,
            description: None,
            minimum: None,
            maximum: None,
            length_max: None,
            values: Vec::new(),
            sensitive: false,
            identity: false,
            audience: Audience::All,
            rule: Rule::Drop,
            derived_name: None,
        }
    }
}

/// What a field may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Text.
    String,
    /// An object. Free inside where no field is declared below it, closed where one is.
    Object,
    /// An array. Free inside where no field is declared below it.
    Array,
}

/// Who is told of an event or a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// People and analytics.
    #[default]
    All,
    /// Analytics alone: never in a notification.
    Telemetry,
}

/// What becomes of a field towards analytics. No rule copies free text, an id, a time or a URL.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Rule {
    /// Nothing leaves.
    #[default]
    Drop,
    /// It leaves as it is: booleans, numbers whose bounds span at most [`KEEP_SPAN_MAX`], closed vocabularies.
    Keep,
    /// How many entries an object or array has.
    Count,
    /// How many different values there are, of the entries of an array, or over all that a path with `*` finds.
    Distinct,
    /// The sum of bounded numbers.
    Sum,
    /// How often each word of `values` occurs; the rest is `other`.
    CountBy,
    /// Whether it is there and not null.
    Present,
    /// Between which of these bounds a number lies.
    Bucket(Vec<Number>),
    /// Between which of these bounds the length of a text lies, in characters, or that of an object or array, in entries.
    LengthBucket(Vec<u64>),
}

/// How many whole numbers the bounds of a kept number may span: an id does not fit into it.
pub const KEEP_SPAN_MAX: u64 = 1_000_000;
/// How many values a closed vocabulary may have.
pub const VALUES_MAX: usize = 256;
/// How many characters a word of a vocabulary may have.
pub const WORD_CHARS_MAX: usize = 64;
/// How many bounds a bucket rule may have.
pub const BUCKETS_MAX: usize = 32;
/// The bounds of `length-bucket` where none are said.
pub const LENGTH_BUCKETS: [u64; 4] = [1, 10, 100, 1_000];
/// How many layers may stand on one another.
pub const LAYERS_DEEP_MAX: usize = 8;
/// How many fields one layer or type may declare.
pub const FIELDS_MAX: usize = 256;
/// How many types a catalogue may have.
pub const TYPES_MAX: usize = 10_000;

/// A fault of a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: of what is declared.
    pub at: At,
    /// What is wrong, naming the key and its value.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// A place in [`Declarations`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// Whether it is a layer, else a type.
    pub layer: bool,
    /// Its place in the list.
    pub index: usize,
    /// Which field of it, by its place in the list.
    pub field: Option<usize>,
    /// Which key of that: `parent`, `at`, `telemetry`, `values`, …
    pub key: Option<&'static str>,
}
