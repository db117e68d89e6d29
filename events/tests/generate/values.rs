//! Properties that fit a generated catalogue, and what may be changed in them without a change of what leaves.

use super::{CANARY, CANARY_NUMBER, Inside, Seeded, Spot};
use posthaste_events::catalogue::declare::{FieldDeclaration, FieldKind, Rule};
use serde_json::{Map, Number, Value, json};
use std::collections::BTreeMap;

/// A value that fits.
pub(crate) fn value(spot: &Spot, rng: &mut Seeded) -> Value {
    if spot.field.as_ref().is_some_and(|f| f.nullable) && rng.chance(15) {
        return Value::Null;
    }
    match &spot.inside {
        Inside::Nothing => spot.field.as_ref().map_or(Value::Null, |field| alone(field, rng)),
        Inside::Names(names) => {
            let mut fields = Map::new();
            for (name, spot) in names {
                if spot.place || spot.field.as_ref().is_some_and(|f| f.required) || rng.chance(80) {
                    fields.insert(name.clone(), value(spot, rng));
                }
            }
            fields.into()
        }
        Inside::Each(entry) => {
            let entries: Vec<_> = (0..rng.below(5)).map(|_| value(entry, rng)).collect();
            let object = match spot.field.as_ref().map(|f| f.kind) {
                Some(kind) => kind == FieldKind::Object,
                None => rng.chance(50),
            };
            hold(object, entries, rng)
        }
    }
}

/// Another value, of which the same leaves.
pub(crate) fn vary(spot: &Spot, value: &Value, rng: &mut Seeded) -> Value {
    if value.is_null() {
        let dropped = matches!(spot.inside, Inside::Nothing) && is_dropped(spot);
        return if dropped && spot.field.is_some() { self::value(spot, rng) } else { Value::Null };
    }
    match (&spot.inside, value) {
        (Inside::Nothing, value) => spot.field.as_ref().map_or(Value::Null, |field| vary_alone(field, value, rng)),
        (Inside::Names(names), Value::Object(fields)) => {
            let counted = spot.field.as_ref().is_some_and(|f| matches!(f.rule, Rule::Count | Rule::LengthBucket(_)));
            vary_names(names, fields, counted, rng)
        }
        (Inside::Each(entry), Value::Object(_) | Value::Array(_)) => {
            let mut entries: Vec<Value> = match value {
                Value::Object(fields) => fields.values().map(|value| vary(entry, value, rng)).collect(),
                _ => value.as_array().into_iter().flatten().map(|value| vary(entry, value, rng)).collect(),
            };
            let object = match spot.field.as_ref().map(|f| f.kind) {
                Some(kind) => kind == FieldKind::Object,
                None => rng.chance(50),
            };
            if !keeps(entry) {
                shuffle(&mut entries, rng);
            }
            hold(object, entries, rng)
        }
        (_, other) => other.clone(),
    }
}

fn vary_names(names: &BTreeMap<String, Spot>, fields: &Map<String, Value>, counted: bool, rng: &mut Seeded) -> Value {
    let mut varied = Map::new();
    for (name, spot) in names {
        let loose = is_dropped(spot)
            && matches!(spot.inside, Inside::Nothing)
            && spot.field.as_ref().is_some_and(|f| !f.required)
            && !counted;
        match fields.get(name) {
            Some(_) if loose && rng.chance(20) => {}
            Some(value) => drop(varied.insert(name.clone(), vary(spot, value, rng))),
            None if loose && rng.chance(50) => drop(varied.insert(name.clone(), value(spot, rng))),
            None => {}
        }
    }
    varied.into()
}

/// Whether nothing leaves by its own rule.
pub(crate) fn is_dropped(spot: &Spot) -> bool {
    spot.field.as_ref().is_none_or(|f| f.rule == Rule::Drop)
}

/// Whether something below is kept, which makes the order of entries leave.
pub(crate) fn keeps(spot: &Spot) -> bool {
    spot.field.as_ref().is_some_and(|f| f.rule == Rule::Keep)
        || match &spot.inside {
            Inside::Nothing => false,
            Inside::Names(names) => names.values().any(keeps),
            Inside::Each(entry) => keeps(entry),
        }
}

/// An object under names that must not leave, or an array.
fn hold(object: bool, entries: Vec<Value>, rng: &mut Seeded) -> Value {
    if object {
        entries.into_iter().map(|value| (canary(rng), value)).collect::<Map<_, _>>().into()
    } else {
        entries.into()
    }
}

fn shuffle<T>(entries: &mut [T], rng: &mut Seeded) {
    for at in (1..entries.len()).rev() {
        entries.swap(at, rng.below(at + 1));
    }
}

/// A text that must not leave.
pub(crate) fn canary(rng: &mut Seeded) -> String {
    let more = ["", "\"", "\\u0041", "ü", "\u{1}", " and more and more and more"];
    format!("{CANARY}{:x}{}", rng.next() >> 20, rng.pick(&more))
}

/// A whole number that must not leave.
fn canary_number(rng: &mut Seeded) -> i64 {
    let n = CANARY_NUMBER + rng.below(1 << 40) as i64;
    if rng.chance(30) { -n } else { n }
}

fn scalar(rng: &mut Seeded) -> Value {
    match rng.below(4) {
        0 => json!(canary_number(rng)),
        1 => json!(canary_number(rng) as f64 + 0.25),
        _ => json!(canary(rng)),
    }
}

fn anything(rng: &mut Seeded, deep: usize) -> Value {
    match rng.below(6) {
        0 if deep > 0 => hold(true, (0..rng.below(3)).map(|_| anything(rng, deep - 1)).collect(), rng),
        1 if deep > 0 => (0..rng.below(3)).map(|_| anything(rng, deep - 1)).collect::<Vec<_>>().into(),
        2 => Value::Null,
        3 => rng.chance(50).into(),
        _ => scalar(rng),
    }
}

/// A value of a field in which nothing is declared.
fn alone(field: &FieldDeclaration, rng: &mut Seeded) -> Value {
    match field.kind {
        FieldKind::Boolean => rng.chance(50).into(),
        FieldKind::String if !field.values.is_empty() => word(field, rng),
        FieldKind::String if matches!(field.rule, Rule::LengthBucket(_)) => {
            let chars = rng.below(40);
            letters(chars, rng).into()
        }
        FieldKind::String => canary(rng).into(),
        FieldKind::Integer | FieldKind::Number if !field.values.is_empty() => rng.pick(&field.values).clone(),
        FieldKind::Integer => match (&field.minimum, &field.maximum, &field.rule) {
            (Some(least), Some(most), _) => {
                let (least, most) = (least.as_i64().unwrap(), most.as_i64().unwrap());
                json!(least + rng.below((most - least + 1) as usize) as i64)
            }
            (_, _, Rule::Bucket(_)) => json!(rng.below(240) as i64 - 20),
            _ => json!(canary_number(rng)),
        },
        FieldKind::Number => match (grid(field), &field.rule) {
            (Some((least, most, scale)), _) => {
                let k = (least + (most - least) * (rng.unit() + 1.0) / 2.0) * scale;
                json!(((k.round() + rng.unit() * 0.45) / scale).clamp(least, most))
            }
            (None, Rule::Bucket(_)) => json!(rng.unit() * 240.0),
            _ => json!(canary_number(rng) as f64 + 0.5),
        },
        FieldKind::Object => hold(true, (0..rng.below(6)).map(|_| anything(rng, 2)).collect(), rng),
        FieldKind::Array if field.rule == Rule::CountBy => {
            (0..rng.below(6)).map(|_| word(field, rng)).collect::<Vec<_>>().into()
        }
        FieldKind::Array => {
            let mut entries: Vec<_> = (0..rng.below(5)).map(|_| anything(rng, 2)).collect();
            entries.extend(entries.clone().into_iter().take(2));
            entries.into()
        }
    }
}

/// A word of the vocabulary, or with `count-by` also another.
fn word(field: &FieldDeclaration, rng: &mut Seeded) -> Value {
    if field.rule == Rule::CountBy && rng.chance(40) { canary(rng).into() } else { rng.pick(&field.values).clone() }
}

fn letters(chars: usize, rng: &mut Seeded) -> String {
    (0..chars).map(|_| *rng.pick(&['C', 'ä', '"', '漢'])).collect()
}

/// The bounds of a number that leaves, and how many steps it has in 1.
pub(crate) fn grid(field: &FieldDeclaration) -> Option<(f64, f64, f64)> {
    let (least, most) = (field.minimum.as_ref()?.as_f64()?, field.maximum.as_ref()?.as_f64()?);
    let mut scale = 1.0;
    while (most - least) * scale * 10.0 <= 1e6 && most.abs().max(least.abs()) * scale * 10.0 <= 1_125_899_906_842_624.0
    {
        scale *= 10.0;
    }
    Some((least, most, scale))
}

/// Another value of which the same leaves by the rule of a field in which nothing is declared.
fn vary_alone(field: &FieldDeclaration, value: &Value, rng: &mut Seeded) -> Value {
    match &field.rule {
        Rule::Drop if field.nullable && rng.chance(20) => Value::Null,
        Rule::Drop => alone(field, rng),
        Rule::Present => alone(field, rng),
        Rule::Keep | Rule::Sum => finer(field, value, rng),
        Rule::Count => same_length(value, rng),
        Rule::Distinct => other_scalars(value, rng),
        Rule::CountBy => match value {
            Value::Array(items) => {
                let mut items: Vec<_> = items.iter().map(|item| other_word(field, item, rng)).collect();
                shuffle(&mut items, rng);
                items.into()
            }
            said => other_word(field, said, rng),
        },
        Rule::Bucket(bounds) => in_bucket(field.kind, bounds, value, rng),
        Rule::LengthBucket(bounds) => match value {
            Value::String(text) => {
                let chars = text.chars().count();
                let most = bounds.iter().map(|b| *b as usize).find(|b| *b > chars).unwrap_or(chars + 20);
                let least = bounds.iter().map(|b| *b as usize).filter(|b| *b <= chars).max().unwrap_or(0);
                let chars = least + rng.below(most - least);
                letters(chars, rng).into()
            }
            other => same_length(other, rng),
        },
    }
}

/// The same number but for bits that are finer than its grid.
fn finer(field: &FieldDeclaration, value: &Value, rng: &mut Seeded) -> Value {
    let (Some((least, most, scale)), Some(n), FieldKind::Number, true) =
        (grid(field), value.as_f64(), field.kind, field.values.is_empty())
    else {
        return value.clone();
    };
    let other = ((n * scale).round() + rng.unit() * 0.45) / scale;
    if (least..=most).contains(&other) { json!(other) } else { value.clone() }
}

fn same_length(value: &Value, rng: &mut Seeded) -> Value {
    match value {
        Value::Object(fields) => hold(true, fields.iter().map(|_| anything(rng, 2)).collect(), rng),
        Value::Array(items) => items.iter().map(|_| anything(rng, 2)).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

/// Other scalars, of which as many are the same; what is no scalar counts for nothing.
fn other_scalars(value: &Value, rng: &mut Seeded) -> Value {
    match value {
        Value::Array(items) => {
            let scalars = items.iter().filter(|item| !(item.is_null() || item.is_object() || item.is_array()));
            let mut items: Vec<_> = scalars.map(|item| other_scalars(item, rng)).collect();
            items.extend((0..rng.below(3)).map(|n| [Value::Null, json!([CANARY]), json!({ CANARY: 1 })][n].clone()));
            if let Some(twice) = items.first().cloned() {
                items.push(twice);
            }
            shuffle(&mut items, rng);
            items.into()
        }
        // The same scalar becomes the same one wherever it stands.
        Value::String(text) => format!("{text}~").into(),
        Value::Bool(truth) => (!truth).into(),
        Value::Number(n) => match n.as_i64() {
            Some(n) => json!(n + 1),
            None => json!(n.as_f64().unwrap() + 1.0),
        },
        other => other.clone(),
    }
}

fn other_word(field: &FieldDeclaration, said: &Value, rng: &mut Seeded) -> Value {
    if said.is_null() || field.values.contains(said) { said.clone() } else { canary(rng).into() }
}

fn in_bucket(kind: FieldKind, bounds: &[Number], value: &Value, rng: &mut Seeded) -> Value {
    let Some(n) = value.as_f64() else { return value.clone() };
    let bounds: Vec<f64> = bounds.iter().filter_map(Number::as_f64).collect();
    let least = bounds.iter().copied().filter(|bound| *bound <= n).fold(f64::NEG_INFINITY, f64::max);
    let most = bounds.iter().copied().filter(|bound| *bound > n).fold(f64::INFINITY, f64::min);
    let (least, most) = match (least.is_finite(), most.is_finite()) {
        (true, true) => (least, most),
        (true, false) => (least, least + 1e9),
        (false, _) => (most - 1e9, most),
    };
    let other = least + (most - least) * (rng.unit() + 1.0) / 2.0;
    // Down to a whole number stays at or above a bound that is one.
    if kind == FieldKind::Integer { json!(other.floor() as i64) } else { json!(other) }
}
