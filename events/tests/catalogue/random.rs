//! Random declarations, and random properties that follow them, made from declarations alone: nothing compiled is asked.

use posthaste_events::catalogue::declare::{
    Audience, Declarations, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration, Rule,
};
use posthaste_events::catalogue::{Catalogue, Undeclared};
use serde_json::{Map, Value, json};

/// What stands in every text that is for telemetry alone.
pub(crate) const HIDDEN: &str = "hidden";
/// What stands in every sensitive text.
pub(crate) const SENSITIVE: &str = "sensitive";

const NAMES: [&str; 6] = ["a", "b", "c", "d/e", "f~g", "é"];
const KINDS: [FieldKind; 6] =
    [FieldKind::Boolean, FieldKind::Integer, FieldKind::Number, FieldKind::String, FieldKind::Object, FieldKind::Array];

/// Randomness from a seed (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// Whether it happens, `percent` times in a hundred.
    pub(crate) fn happens(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// Any JSON value, at most so deep.
pub(crate) fn value(dice: &mut Dice, deep: usize) -> Value {
    match dice.below(if deep == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => dice.happens(50).into(),
        2 => json!(dice.below(2_000)),
        3 => json!(i32::try_from(dice.below(3_000)).unwrap() as f32 / 8.0 + 0.0625),
        4 => dice.pick(&["", "x", "word1", "éé", "a longer text"]).into(),
        5 => (0..dice.below(4)).map(|_| value(dice, deep - 1)).collect(),
        _ => Value::Object((0..dice.below(4)).map(|_| (dice.pick(&NAMES).to_owned(), value(dice, deep - 1))).collect()),
    }
}

/// A field of any sort, its rule fitting or not.
fn field(dice: &mut Dice) -> FieldDeclaration {
    let mut steps: Vec<_> = (0..=dice.below(3)).map(|_| dice.pick(&NAMES)).collect();
    if dice.happens(25) {
        let at = dice.below(steps.len());
        steps.insert(at + 1, "*");
    }
    let kind = dice.pick(&KINDS);
    let mut field = FieldDeclaration::new(steps.join("."), kind);
    field.nullable = dice.happens(15);
    field.required = dice.happens(30);
    field.sensitive = dice.happens(15);
    field.identity = dice.happens(10);
    field.description = dice.happens(20).then(|| "what it means".to_owned());
    field.audience = if dice.happens(20) { Audience::Telemetry } else { Audience::All };
    let number = matches!(kind, FieldKind::Integer | FieldKind::Number);
    if number && dice.happens(60) {
        field.minimum = Some(dice.below(50).into());
        field.maximum = Some((dice.below(1_000) + 50).into());
    }
    if !number && kind != FieldKind::Boolean && dice.happens(20) {
        // An object of declared names must have room for all that are required in it: there are fewer than this.
        let least = if kind == FieldKind::Object { 16 } else { 1 };
        field.length_max = Some(dice.below(3) as u64 + least);
    }
    if kind == FieldKind::String && field.length_max.is_none() && dice.happens(40) {
        field.values = (0..=dice.below(4)).map(|i| json!(format!("word{i}"))).collect();
    }
    field.rule = dice.pick(&[
        Rule::Drop,
        Rule::Keep,
        Rule::Count,
        Rule::Distinct,
        Rule::Sum,
        Rule::CountBy,
        Rule::Present,
        Rule::Bucket(vec![1.into(), 10.into()]),
        Rule::LengthBucket(vec![]),
    ]);
    field
}

fn fields(dice: &mut Dice) -> Vec<FieldDeclaration> {
    (0..dice.below(7)).map(|_| field(dice)).collect()
}

/// Declarations without any care.
pub(crate) fn wild(dice: &mut Dice) -> Declarations {
    let names = ["a", "a:b", "a:b:c", "a.d", "x", "", "B", "a::b", "posthaste:test"];
    let paths = ["", "a", "a.b", "*", "a..b", "a.*", "*.*.c", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r", "\u{7}"];
    let odd = |dice: &mut Dice, of: &[&str]| dice.happens(30).then(|| dice.pick(of).to_owned());
    let wild_fields = |dice: &mut Dice| {
        let mut all = fields(dice);
        for field in &mut all {
            if let Some(path) = odd(dice, &paths) {
                field.path = path;
            }
            if dice.happens(20) {
                field.values = (0..dice.below(3)).map(|_| value(dice, 1)).collect();
            }
            field.derived_name = odd(dice, &paths);
            if dice.happens(20) {
                field.rule = Rule::Bucket((0..dice.below(3)).map(|_| dice.below(9).into()).collect());
            }
        }
        all
    };
    let layers = (0..dice.below(6))
        .map(|_| LayerDeclaration {
            name: dice.pick(&names).to_owned(),
            parent: odd(dice, &names),
            at: odd(dice, &paths),
            fields: wild_fields(dice),
        })
        .collect();
    let events = (0..dice.below(6))
        .map(|_| EventDeclaration {
            name: dice.pick(&names).to_owned(),
            layer: odd(dice, &names),
            fields: wild_fields(dice),
            example: value(dice, 3).as_object().cloned(),
            ..EventDeclaration::default()
        })
        .collect();
    Declarations { layers, events }
}

/// Declarations without a fault: those at fault are left out, as the compiler names them.
pub(crate) fn sound(dice: &mut Dice, telemetry_only: bool) -> Declarations {
    let layers = ["l", "l:m", "l:m:n", "o"].map(|name| LayerDeclaration {
        name: name.to_owned(),
        at: dice.happens(20).then(|| if dice.happens(50) { "l" } else { "p.q" }.to_owned()),
        fields: fields(dice),
        ..LayerDeclaration::default()
    });
    let events = ["l:m:n:t", "l:m:u", "l:v", "w", "l:m:x"].map(|name| EventDeclaration {
        name: name.to_owned(),
        fields: if dice.happens(60) { fields(dice) } else { Vec::new() },
        ..EventDeclaration::default()
    });
    let mut all = Declarations { layers: layers.into(), events: events.into() };
    let lists = all.layers.iter_mut().map(|l| &mut l.fields).chain(all.events.iter_mut().map(|e| &mut e.fields));
    if !telemetry_only {
        lists.flatten().for_each(|field| field.audience = Audience::All);
    }
    for _ in 0..100 {
        let Err(mut faults) = Catalogue::compile(&all, Undeclared::Reject) else { return all };
        // From the last on, so that places stay right.
        faults.sort_by_key(|fault| (fault.at.layer, fault.at.index, fault.at.field, fault.at.key));
        faults.dedup_by_key(|fault| (fault.at.layer, fault.at.index, fault.at.field));
        for fault in faults.into_iter().rev() {
            let list = if fault.at.layer {
                &mut all.layers[fault.at.index].fields
            } else {
                &mut all.events[fault.at.index].fields
            };
            match (fault.at.field, fault.at.key) {
                (Some(field), Some("telemetry" | "bucket" | "as")) => list[field].rule = Rule::Drop,
                (Some(field), _) => drop(list.remove(field)),
                (None, _) => all.layers[fault.at.index].at = None,
            }
        }
    }
    panic!("faults without end: {all:#?}");
}

/// A field with all its steps, from the top.
type Stood<'d> = (Vec<String>, &'d FieldDeclaration);

/// Random properties of such an event.
pub(crate) fn properties(dice: &mut Dice, declarations: &Declarations, event: &EventDeclaration) -> Value {
    let mut on = event.name.as_str();
    let mut chain = Vec::new();
    loop {
        if let Some(layer) = declarations.layers.iter().find(|l| l.name == on) {
            chain.push(layer);
        }
        match on.rsplit_once(':') {
            Some((up, _)) => on = up,
            None => break,
        }
    }
    let place = |layer: &LayerDeclaration| -> Vec<String> {
        let at = layer.at.clone().unwrap_or_else(|| layer.name.replace(':', "."));
        at.split('.').map(str::to_owned).collect()
    };
    let mut all: Vec<Stood<'_>> = Vec::new();
    let mut places: Vec<Vec<String>> = Vec::new();
    let full = |at: &[String], path: &str| at.iter().cloned().chain(path.split('.').map(str::to_owned)).collect();
    for layer in &chain {
        let at = place(layer);
        all.extend(layer.fields.iter().map(|f| (full(&at, &f.path), f)));
        places.extend((0..=at.len()).map(|end| at[..end].to_vec()));
    }
    let at = chain.first().map(|layer| place(layer)).unwrap_or_default();
    all.extend(event.fields.iter().map(|f| (full(&at, &f.path), f)));
    places.push(Vec::new());
    filled(dice, &all, &places, &mut Vec::new())
}

/// A value at `path` of which `all` are the fields at or below it.
fn filled(dice: &mut Dice, all: &[Stood<'_>], places: &[Vec<String>], path: &mut Vec<String>) -> Value {
    let own = all.iter().find(|(steps, _)| steps.len() == path.len()).map(|(_, field)| *field);
    let inside: Vec<_> = all.iter().filter(|(steps, _)| steps.len() > path.len()).cloned().collect();
    let place = places.contains(path);
    let entry = |dice: &mut Dice, path: &mut Vec<String>, name: &str| {
        let of: Vec<_> = inside.iter().filter(|(steps, _)| steps[path.len()] == name).cloned().collect();
        path.push(name.to_owned());
        let value = filled(dice, &of, places, path);
        path.pop();
        value
    };
    if let Some(field) = own {
        if field.nullable && dice.happens(20) {
            return Value::Null;
        }
        if inside.is_empty() && !place {
            return scalar(dice, field);
        }
    }
    let count = dice.below(own.and_then(|f| f.length_max).map_or(4, |max| max as usize + 1));
    let mut names: Vec<_> = inside.iter().map(|(steps, _)| steps[path.len()].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names == ["*"] {
        let array = own.map_or_else(|| !place && dice.happens(50), |f| f.kind == FieldKind::Array);
        if array {
            return (0..count).map(|_| entry(dice, path, "*")).collect();
        }
        return (0..count).map(|i| (format!("key{i}"), entry(dice, path, "*"))).collect::<Map<_, _>>().into();
    }
    let mut object = Map::new();
    for name in names {
        let needed = needed(&inside, places, path, name);
        // So many entries and no more may be in an object of bounded length.
        let room = own.and_then(|f| f.length_max).is_none_or(|max| object.len() < max as usize);
        if needed || (room && dice.happens(70)) {
            object.insert(name.to_owned(), entry(dice, path, name));
        }
    }
    object.into()
}

/// Whether what stands at `name` in `path` must be there.
fn needed(inside: &[Stood<'_>], places: &[Vec<String>], path: &[String], name: &str) -> bool {
    let full: Vec<_> = path.iter().cloned().chain([name.to_owned()]).collect();
    let below: Vec<_> = inside.iter().filter(|(steps, _)| steps.starts_with(&full)).cloned().collect();
    let itself = below.iter().any(|(steps, field)| steps.len() == full.len() && field.required);
    let mut names: Vec<_> = below.iter().filter_map(|(steps, _)| steps.get(full.len())).collect();
    names.dedup();
    itself || (places.contains(&full) && names.into_iter().any(|name| needed(&below, places, &full, name)))
}

/// A value that a field without others in it takes.
fn scalar(dice: &mut Dice, field: &FieldDeclaration) -> Value {
    let low = field.minimum.as_ref().and_then(serde_json::Number::as_u64).unwrap_or(0);
    let span = field.maximum.as_ref().and_then(serde_json::Number::as_u64).map_or(1_000, |high| high - low);
    let count = dice.below(field.length_max.map_or(4, |max| max as usize + 1));
    match field.kind {
        FieldKind::Boolean => dice.happens(50).into(),
        FieldKind::Integer => json!(low + dice.below(span as usize + 1) as u64),
        FieldKind::Number => json!(low as f64 + dice.below(span as usize) as f64 + 0.5),
        FieldKind::String if !field.values.is_empty() => dice.pick(&field.values),
        FieldKind::String if field.length_max.is_some() => "é".repeat(count).into(),
        FieldKind::String => canary(field).into(),
        FieldKind::Object => {
            (0..count).map(|i| (format!("free{i}"), canary(field).into())).collect::<Map<_, _>>().into()
        }
        FieldKind::Array => (0..count).map(|_| Value::from(canary(field))).collect(),
    }
}

/// A text that says who may see it.
fn canary(field: &FieldDeclaration) -> String {
    let hidden = if field.audience == Audience::Telemetry { HIDDEN } else { "" };
    let sensitive = if field.sensitive { SENSITIVE } else { "" };
    format!("text {hidden} {sensitive}")
}

/// The same with a few random changes.
pub(crate) fn mutated(dice: &mut Dice, mut data: Value) -> Value {
    for _ in 0..dice.below(3) {
        mutate(dice, &mut data);
    }
    if data.is_object() { data } else { json!({}) }
}

fn mutate(dice: &mut Dice, at: &mut Value) {
    match at {
        Value::Object(entries) if !entries.is_empty() && dice.happens(75) => {
            let nth = dice.below(entries.len());
            let Some(name) = entries.keys().nth(nth).cloned() else { return };
            if dice.happens(15) {
                entries.remove(&name);
            } else if let Some(entry) = entries.get_mut(&name) {
                mutate(dice, entry);
            }
        }
        Value::Object(entries) if dice.happens(60) => {
            let (name, new) = (dice.pick(&NAMES), value(dice, 2));
            entries.insert(name.to_owned(), new);
        }
        Value::Array(items) if !items.is_empty() && dice.happens(75) => {
            let nth = dice.below(items.len());
            mutate(dice, &mut items[nth]);
        }
        other => *other = value(dice, 2),
    }
}
