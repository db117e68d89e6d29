//! The trees that the model writes into, and the random pieces that it writes.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value, json};

/// In every text that must not leave.
pub(super) const CANARY: &str = "canary";

/// How much of what may be absent is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fill {
    /// Everything.
    Whole,
    /// What must be there alone.
    Least,
    /// As it falls.
    AsItFalls,
}

/// An event, and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Made {
    /// Its type.
    pub(super) event_type: String,
    /// Its properties, as they are posted.
    pub(super) posted: Value,
    /// What people are told; `None`: nothing.
    pub(super) told: Option<Value>,
    /// What analytics get of it, as it is.
    pub(super) kept: Value,
    /// What analytics get instead of what was removed.
    pub(super) derived: Value,
}

impl Made {
    /// What analytics get.
    pub(super) fn telemetry(&self) -> Value {
        json!({ "event": self.event_type, "event_properties": self.kept, "derived_properties": self.derived })
    }

    /// Changes one thing of what is expected, another one for each seed; says what.
    pub(super) fn spoil(&mut self, seed: u64) -> String {
        let mut rng = StdRng::seed_from_u64(seed);
        let told = self.told.as_mut().map(|tree| ("told", tree));
        let mut trees: Vec<(&str, &mut Value)> = told.into_iter().collect();
        trees.push(("kept", &mut self.kept));
        trees.push(("derived", &mut self.derived));
        let (name, tree) = trees.swap_remove(rng.random_range(0..trees.len()));
        let (mut tree, mut path) = (tree, name.to_owned());
        loop {
            let keys: Vec<String> = match &*tree {
                Value::Object(fields) => fields.keys().cloned().collect(),
                Value::Array(items) => (0..items.len()).map(|at| at.to_string()).collect(),
                _ => Vec::new(),
            };
            if keys.is_empty() {
                break;
            }
            let key = keys[rng.random_range(0..keys.len())].clone();
            path = format!("{path}.{key}");
            tree = match tree {
                Value::Array(items) => &mut items[key.parse::<usize>().unwrap_or_default()],
                other => &mut other[key.as_str()],
            };
        }
        *tree = match &*tree {
            Value::Object(_) => json!({ "more": 1 }),
            Value::Array(_) => json!([1]),
            Value::Bool(value) => json!(!value),
            Value::Number(number) => json!(number.as_f64().unwrap_or_default() + 1.0),
            Value::String(text) => json!(format!("{text}.")),
            Value::Null => json!(false),
        };
        path
    }
}

/// An event in the making.
pub(super) struct Build {
    posted: Value,
    told: Value,
    kept: Value,
    derived: Value,
    fill: Fill,
    canaries: u64,
    seed: u64,
    pub(super) rng: StdRng,
}

impl Build {
    pub(super) fn new(fill: Fill, seed: u64) -> Self {
        let empty = || Value::Object(Map::new());
        let rng = StdRng::seed_from_u64(seed);
        Self { posted: empty(), told: empty(), kept: empty(), derived: empty(), fill, canaries: 0, seed, rng }
    }

    pub(super) fn made(self, event_type: &str, told: bool) -> Made {
        let Self { posted, told: tree, kept, derived, .. } = self;
        Made { event_type: event_type.to_owned(), posted, told: told.then_some(tree), kept, derived }
    }

    /// Whether what may be absent is there.
    pub(super) fn has(&mut self) -> bool {
        match self.fill {
            Fill::Whole => true,
            Fill::Least => false,
            Fill::AsItFalls => self.rng.random_bool(0.7),
        }
    }

    /// A few.
    pub(super) fn some(&mut self) -> u64 {
        self.rng.random_range(if self.fill == Fill::Whole { 1 } else { 0 }..4)
    }

    /// A text that is nowhere else and that no telemetry may have in it.
    pub(super) fn text(&mut self) -> Value {
        self.canaries += 1;
        json!(format!("{CANARY} /p?q={}&n={} ünï \"", self.seed, self.canaries))
    }

    /// A small number.
    pub(super) fn number(&mut self) -> Value {
        json!(self.rng.random_range(0..=1_000_000_u32))
    }

    /// One of some words.
    pub(super) fn pick(&mut self, words: &[&str]) -> Value {
        json!(words[self.rng.random_range(0..words.len())])
    }

    /// One of some words and the same again, or a text that counts as `other`.
    pub(super) fn word_or_other(&mut self, words: &[&str]) -> (Value, String) {
        if self.rng.random_bool(0.2) {
            return (self.text(), "other".to_owned());
        }
        let word = self.pick(words);
        let same = word.as_str().unwrap_or_default().to_owned();
        (word, same)
    }

    /// An object with texts under some of these names.
    pub(super) fn object(&mut self, names: &[&str]) -> Value {
        let mut object = Map::new();
        for name in names {
            if self.has() {
                object.insert((*name).to_owned(), self.text());
            }
        }
        Value::Object(object)
    }

    /// An object with whatever names and values somebody chose.
    pub(super) fn bag(&mut self) -> Map<String, Value> {
        let mut bag = Map::new();
        for _ in 0..self.rng.random_range(0..4) {
            let key = self.text();
            let value = match self.rng.random_range(0..3) {
                0 => json!(self.rng.random_range(1_000_001..9_999_999)),
                1 => json!({ "deep": [self.text(), null, 1.5] }),
                _ => self.text(),
            };
            bag.insert(key.as_str().unwrap_or_default().to_owned(), value);
        }
        bag
    }

    /// A layer's own place, though nothing may stand in it.
    pub(super) fn place(&mut self, at: &str) {
        put(&mut self.posted, at, Value::Object(Map::new()));
        put(&mut self.told, at, Value::Object(Map::new()));
    }

    /// A text that people are told and that does not leave.
    pub(super) fn secret(&mut self, at: &str) {
        let text = self.text();
        self.told(at, text);
    }

    /// The same, where what may be absent is there.
    pub(super) fn perhaps_secret(&mut self, at: &str) {
        if self.has() {
            self.secret(at);
        }
    }

    /// People are told it, and it does not leave as it is.
    pub(super) fn told(&mut self, at: &str, value: Value) {
        put(&mut self.posted, at, value.clone());
        put(&mut self.told, at, value);
    }

    /// People are told it, and analytics too.
    pub(super) fn kept(&mut self, at: &str, value: Value) {
        self.told(at, value.clone());
        self.leaves(at, value);
    }

    /// It is posted, and people are not told it.
    pub(super) fn only(&mut self, at: &str, value: Value) {
        put(&mut self.posted, at, value);
    }

    /// Analytics get it in the place where it was.
    pub(super) fn leaves(&mut self, at: &str, value: Value) {
        put(&mut self.kept, at, value);
    }

    /// Analytics get it instead of something that was removed.
    pub(super) fn derived(&mut self, at: &str, value: Value) {
        put(&mut self.derived, at, value);
    }

    /// The sum of some counts; nought where there is none.
    pub(super) fn derived_sum(&mut self, at: &str, counts: &[usize]) {
        self.derived(at, json!(counts.iter().sum::<usize>()));
    }

    /// How often each word occurs; nothing where none does.
    pub(super) fn derived_map(&mut self, at: &str, counted: Map<String, Value>) {
        if !counted.is_empty() {
            self.derived(at, Value::Object(counted));
        }
    }
}

/// Texts as words.
pub(super) fn words(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Puts a value at a place; an object that is there already stays.
fn put(tree: &mut Value, at: &str, value: Value) {
    let place = at.split('.').fold(tree, |node, name| {
        if node.is_null() {
            *node = Value::Object(Map::new());
        }
        &mut node[name]
    });
    if !(place.is_object() && value == Value::Object(Map::new())) {
        *place = value;
    }
}
