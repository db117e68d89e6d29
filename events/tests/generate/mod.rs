//! Random catalogues, events that fit them, and for each event another that differs only in what the rules hide.
//!
//! A catalogue is grown as a tree of [`Spot`]s, from which the declarations are written; values are drawn from the tree,
//! so that nothing here asks the code under test what fits or what leaves. Everything that no rule lets through is a
//! canary: a text with [`CANARY`] in it, a number of at least [`CANARY_NUMBER`].

pub(crate) mod model;
pub(crate) mod values;

use posthaste_events::catalogue::declare::{
    Audience, Declarations, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration, Rule,
};
use serde_json::{Number, Value, json};
use std::collections::BTreeMap;

/// In every text that must not leave.
pub(crate) const CANARY: &str = "CANARY";
/// No number that may leave is as large.
pub(crate) const CANARY_NUMBER: i64 = 7_771_000_000;

/// Random numbers from a seed: SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Seeded(pub u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// From -1 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

/// One place in the properties.
pub(crate) struct Spot {
    pub(crate) field: Option<FieldDeclaration>,
    /// The place of a layer.
    pub(crate) place: bool,
    pub(crate) inside: Inside,
}

pub(crate) enum Inside {
    Nothing,
    Names(BTreeMap<String, Spot>),
    Each(Box<Spot>),
}

/// A catalogue of one type, on up to five layers.
pub(crate) struct Generated {
    pub(crate) declarations: Declarations,
    pub(crate) event_type: String,
    pub(crate) top: Spot,
}

/// What surrounds a field.
#[derive(Clone, Copy)]
struct Around {
    /// How many more containers may be inside one another.
    deep: usize,
    /// It is one of many.
    starred: bool,
    /// All that hold many are declared arrays, so that what is kept can leave.
    keeps: bool,
    /// It has no name of its own.
    entry: bool,
}

pub(crate) struct Grower<'a> {
    rng: &'a mut Seeded,
    named: usize,
}

/// A random catalogue.
pub(crate) fn catalogue(rng: &mut Seeded) -> Generated {
    let mut grower = Grower { rng, named: 0 };
    let deep = grower.rng.below(6);
    let event_fields = grower.fields();
    let mut event = EventDeclaration { name: "happened".into(), ..EventDeclaration::default() };
    declare(&event_fields, "", &mut event.fields);
    let mut inner = event_fields;
    let mut layers = Vec::new();
    let names: Vec<String> = (0..deep).map(|n| format!("l{n}")).collect();
    for level in (0..deep).rev() {
        let own = grower.fields();
        let mut layer = LayerDeclaration { name: names[..=level].join(":"), ..LayerDeclaration::default() };
        declare(&own, "", &mut layer.fields);
        layers.push(layer);
        inner.extend(own);
        let place = Spot { field: None, place: true, inside: Inside::Names(inner) };
        inner = BTreeMap::from([(names[level].clone(), place)]);
    }
    if grower.rng.chance(50) {
        layers.reverse();
    }
    if deep > 0 {
        event.name = format!("{}:happened", names.join(":"));
    }
    let top = Spot { field: None, place: true, inside: Inside::Names(inner) };
    Generated { event_type: event.name.clone(), declarations: Declarations { layers, events: vec![event] }, top }
}

impl Grower<'_> {
    /// A name that nothing else has: of the plain or of the awkward kind.
    fn name(&mut self) -> String {
        self.named += 1;
        let awkward = ["f", "f", "f", "a b", "x/~", "ü\"\\", "{", "_count"];
        format!("{}{}", self.rng.pick(&awkward), self.named)
    }

    fn fields(&mut self) -> BTreeMap<String, Spot> {
        let around = Around { deep: 3, starred: false, keeps: true, entry: false };
        (0..self.rng.below(6)).map(|_| (self.name(), self.spot(around))).collect()
    }

    fn spot(&mut self, around: Around) -> Spot {
        let kinds = if around.deep == 0 { 7 } else { 11 };
        match self.rng.below(kinds) {
            0..=4 => self.scalar(around),
            5 => self.free(around, FieldKind::Object),
            6 => self.free(around, FieldKind::Array),
            7 | 8 => {
                let inner = Around { deep: around.deep - 1, entry: false, ..around };
                let names = (0..=self.rng.below(3)).map(|_| (self.name(), self.spot(inner))).collect();
                Spot { field: self.holder(around, FieldKind::Object), place: false, inside: Inside::Names(names) }
            }
            _ => {
                let kind = *self.rng.pick(&[FieldKind::Array, FieldKind::Array, FieldKind::Object]);
                let field = self.holder(around, kind);
                let keeps = around.keeps && field.as_ref().is_some_and(|f| f.kind == FieldKind::Array);
                let inner = Around { deep: around.deep - 1, starred: true, keeps, entry: true };
                Spot { field, place: false, inside: Inside::Each(Box::new(self.spot(inner))) }
            }
        }
    }

    /// A container in which something is declared; half of them are not declared themselves.
    fn holder(&mut self, around: Around, kind: FieldKind) -> Option<FieldDeclaration> {
        let rules = [Rule::Drop, Rule::Drop, Rule::Count, Rule::Present, Rule::LengthBucket(vec![1, 3, 6])];
        let rule = self.rng.pick(&rules).clone();
        self.rng.chance(60).then(|| self.field(around, kind, rule))
    }

    fn field(&mut self, around: Around, kind: FieldKind, rule: Rule) -> FieldDeclaration {
        self.named += 1;
        let derives = !matches!(rule, Rule::Drop | Rule::Keep);
        // What has no name of its own would derive beside what it stands in.
        let derived_name = (derives && (around.entry || self.rng.chance(20))).then(|| format!("d{}", self.named));
        FieldDeclaration {
            nullable: self.rng.chance(20),
            required: !around.entry && self.rng.chance(20),
            sensitive: self.rng.chance(10),
            audience: if self.rng.chance(10) { Audience::Telemetry } else { Audience::All },
            rule,
            derived_name,
            ..FieldDeclaration::new("", kind)
        }
    }

    fn free(&mut self, around: Around, kind: FieldKind) -> Spot {
        let mut rules = vec![Rule::Drop, Rule::Count, Rule::Present, Rule::LengthBucket(vec![2, 4])];
        if kind == FieldKind::Array {
            rules.extend([Rule::Distinct, Rule::CountBy]);
        }
        let rule = self.rng.pick(&rules).clone();
        let mut field = self.field(around, kind, rule);
        if field.rule == Rule::CountBy {
            field.values = self.words();
        }
        Spot { field: Some(field), place: false, inside: Inside::Nothing }
    }

    fn words(&mut self) -> Vec<Value> {
        let words = ["A", "b c", "PENDING", "ä\"\\\n", "other", "{", "0"];
        let from = self.rng.below(words.len());
        words[from..].iter().take(1 + self.rng.below(4)).map(|word| Value::from(*word)).collect()
    }

    fn scalar(&mut self, around: Around) -> Spot {
        let kinds = [FieldKind::Boolean, FieldKind::Integer, FieldKind::Number, FieldKind::String];
        let kind = *self.rng.pick(&kinds);
        let number = matches!(kind, FieldKind::Integer | FieldKind::Number);
        let mut rules = vec![Rule::Drop, Rule::Drop, Rule::Present];
        if around.keeps {
            rules.extend([Rule::Keep, Rule::Keep, Rule::Keep]);
        }
        if around.starred {
            rules.push(Rule::Distinct);
        }
        if number {
            let bounds: [&[i64]; 3] = [&[0], &[1, 10, 100], &[-5, 5]];
            let bounds = self.rng.pick(&bounds).iter().map(|bound| Number::from(*bound)).collect();
            rules.extend([Rule::Sum, Rule::Bucket(bounds)]);
        }
        if kind == FieldKind::String {
            rules.extend([Rule::CountBy, Rule::LengthBucket(vec![1, 10, 30])]);
        }
        let rule = self.rng.pick(&rules).clone();
        let mut field = self.field(around, kind, rule);
        match (kind, &field.rule) {
            (FieldKind::String, Rule::Keep | Rule::CountBy) => field.values = self.words(),
            (FieldKind::Integer | FieldKind::Number, Rule::Keep) if self.rng.chance(30) => {
                field.values = vec![json!(1), json!(20), json!(-7)];
            }
            (FieldKind::Integer, Rule::Keep | Rule::Sum) => {
                let least = self.rng.below(20) as i64 - 10;
                (field.minimum, field.maximum) = (Some(least.into()), Some((least + 1_000).into()));
            }
            (FieldKind::Number, Rule::Keep | Rule::Sum) => {
                let bounds = [(0.0, 1.0), (-1.0, 1.0), (-273.15, 1_000.0), (0.0, 1_000_000.0), (1.0 / 3.0, 0.7)];
                let (least, most) = *self.rng.pick(&bounds);
                (field.minimum, field.maximum) = (Number::from_f64(least), Number::from_f64(most));
            }
            _ => {}
        }
        Spot { field: Some(field), place: false, inside: Inside::Nothing }
    }
}

/// Writes the declarations of what stands in a place.
fn declare(names: &BTreeMap<String, Spot>, at: &str, into: &mut Vec<FieldDeclaration>) {
    for (name, spot) in names {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        declare_spot(spot, path, into);
    }
}

fn declare_spot(spot: &Spot, path: String, into: &mut Vec<FieldDeclaration>) {
    match &spot.inside {
        Inside::Nothing => {}
        Inside::Names(names) => declare(names, &path, into),
        Inside::Each(entry) => declare_spot(entry, format!("{path}.*"), into),
    }
    if let Some(field) = &spot.field {
        into.push(FieldDeclaration { path, ..field.clone() });
    }
}
