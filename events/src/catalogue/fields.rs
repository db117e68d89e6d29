//! Judges a field's declaration by itself: its path, its bounds and vocabulary, and whether its rule fits its type.
//!
//! Whether it can stand beside others is for `grow` to say.

use super::declare::{
    Audience, BUCKETS_MAX, FieldDeclaration, FieldKind, KEEP_SPAN_MAX, Rule, VALUES_MAX, WORD_CHARS_MAX,
};
use super::grow::a_kind;
use super::numbers::{compare, keeps, whole};
use serde_json::{Number, Value};
use std::cmp::Ordering;

/// How many steps a field's path or a layer's place may have.
pub(super) const PATH_STEPS_MAX: usize = 16;

/// What is wrong with a key of a field, and what to do about it. No key: the field's path.
pub(super) struct Wrong {
    pub(super) key: Option<&'static str>,
    pub(super) what: String,
    pub(super) hint: String,
}

fn wrong(key: &'static str, what: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong { key: Some(key), what: what.into(), hint: hint.into() }
}

/// The steps of a field's path or, without `*`, of a layer's place.
///
/// # Errors
/// What is wrong with it.
pub(super) fn steps(path: &str, entries: bool) -> Result<Vec<&str>, String> {
    let steps: Vec<_> = path.split('.').collect();
    if steps.len() > PATH_STEPS_MAX {
        return Err(format!("has {} names; at most {PATH_STEPS_MAX} are taken", steps.len()));
    }
    for step in &steps {
        let chars = step.chars().count();
        if chars == 0 || chars > WORD_CHARS_MAX {
            return Err(format!("has a name of {chars} characters; each has 1 to {WORD_CHARS_MAX}"));
        }
        if step.contains('*') && !(entries && *step == "*") {
            return Err(if entries { "has a `*` that is not a whole name" } else { "has a `*`" }.to_owned());
        }
        if step.chars().any(char::is_control) {
            return Err("has a control character in it".to_owned());
        }
    }
    Ok(steps)
}

/// The name of a field's derived value; `None`: its rule derives none, or all of its path is `*` and no name is said.
pub(super) fn derived_name(field: &FieldDeclaration) -> Option<String> {
    let ending = match field.rule {
        Rule::Drop | Rule::Keep => return None,
        Rule::Count => "count",
        Rule::Distinct => "distinct",
        Rule::Sum => "sum",
        Rule::CountBy => "count_by",
        Rule::Present => "present",
        Rule::Bucket(_) => "bucket",
        Rule::LengthBucket(_) => "length_bucket",
    };
    match &field.derived_name {
        Some(name) => Some(name.clone()),
        None => field.path.rsplit('.').find(|step| *step != "*").map(|name| format!("{name}_{ending}")),
    }
}

/// Everything that is wrong with a field by itself.
pub(super) fn judge(field: &FieldDeclaration) -> Vec<Wrong> {
    let mut found = Vec::new();
    bounds(field, &mut found);
    vocabulary(field, &mut found);
    who(field, &mut found);
    rule(field, &mut found);
    derived(field, &mut found);
    found
}

fn bounds(field: &FieldDeclaration, found: &mut Vec<Wrong>) {
    let number = matches!(field.kind, FieldKind::Integer | FieldKind::Number);
    for (key, bound) in [("minimum", &field.minimum), ("maximum", &field.maximum)] {
        let Some(bound) = bound else { continue };
        if !number {
            let what = format!("`{key} = {bound}` does not fit {}", a_kind(field.kind));
            found.push(wrong(key, what, "bounds are for `integer` and `number`; see `length_max` for the others"));
        } else if field.kind == FieldKind::Integer && whole(bound).is_none() {
            found.push(wrong(key, format!("`{key} = {bound}` is no whole number"), "the field is an integer"));
        }
    }
    if let (Some(low), Some(high)) = (&field.minimum, &field.maximum)
        && compare(low, high) == Ordering::Greater
    {
        let what = format!("`minimum = {low}` is above `maximum = {high}`");
        found.push(wrong("minimum", what, "no number would fit; swap them"));
    }
    if let Some(max) = field.length_max
        && !matches!(field.kind, FieldKind::String | FieldKind::Object | FieldKind::Array)
    {
        let what = format!("`length_max = {max}` does not fit {}", a_kind(field.kind));
        found.push(wrong("length_max", what, "it is for strings, objects and arrays"));
    }
}

fn vocabulary(field: &FieldDeclaration, found: &mut Vec<Wrong>) {
    let values = &field.values;
    if values.is_empty() {
        return;
    }
    let words = match field.kind {
        FieldKind::String => true,
        // Those are the words that its entries are counted by.
        FieldKind::Array if field.rule == Rule::CountBy => true,
        FieldKind::Integer | FieldKind::Number => false,
        kind => {
            let what = format!("`values` does not fit {}", a_kind(kind));
            return found.push(wrong("values", what, "it is for strings and numbers"));
        }
    };
    if values.len() > VALUES_MAX {
        let what = format!("`values` has {} entries; at most {VALUES_MAX} are taken", values.len());
        found.push(wrong("values", what, "a vocabulary is short; is this free text?"));
    }
    for value in values.iter().take(VALUES_MAX) {
        let fits = match (value, field.kind) {
            (Value::String(word), _) if words => {
                if word.chars().count() > WORD_CHARS_MAX {
                    let what =
                        format!("a word in `values` has more than {WORD_CHARS_MAX} characters: {}", short(value));
                    found.push(wrong("values", what, "shorten it"));
                }
                true
            }
            (Value::Number(n), FieldKind::Integer) => whole(n).is_some() && within(field, n, found),
            (Value::Number(n), FieldKind::Number) => within(field, n, found),
            _ => false,
        };
        if !fits {
            let what = format!("{} in `values` is not {}", short(value), a_kind(field.kind));
            found.push(wrong("values", what, "every value is of the field's type"));
        }
    }
    let same = |a: &Value, b: &Value| match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Ordering::Equal,
        _ => a == b,
    };
    let values = &values[..values.len().min(VALUES_MAX)];
    if let Some(twice) =
        values.iter().enumerate().find_map(|(i, v)| values[..i].iter().any(|w| same(v, w)).then_some(v))
    {
        found.push(wrong("values", format!("{} is in `values` twice", short(twice)), "name each value once"));
    }
}

/// Tells of a value outside the field's own bounds; it fits the type all the same.
fn within(field: &FieldDeclaration, number: &Number, found: &mut Vec<Wrong>) -> bool {
    let below = field.minimum.as_ref().is_some_and(|low| compare(number, low) == Ordering::Less);
    let above = field.maximum.as_ref().is_some_and(|high| compare(number, high) == Ordering::Greater);
    if below || above {
        let what = format!("{number} in `values` is outside of `minimum` and `maximum`");
        found.push(wrong("values", what, "leave the bounds out, or the value"));
    }
    true
}

fn who(field: &FieldDeclaration, found: &mut Vec<Wrong>) {
    let under_entries = field.path.split('.').any(|step| step == "*");
    if field.identity && (field.kind != FieldKind::String || under_entries) {
        let what = format!(
            "`identity = true` does not fit {}{}",
            a_kind(field.kind),
            if under_entries { " under `*`" } else { "" }
        );
        found.push(wrong("identity", what, "what identifies a layer is one string, such as its uuid"));
    }
    if field.identity && field.audience == Audience::Telemetry {
        let what = "`identity = true` is never in a notification";
        found.push(wrong("identity", what, "it serves a `where`, which looks at notifications; drop `audience`"));
    }
    if field.required && field.path.rsplit('.').next() == Some("*") {
        let what = "`required = true` of each entry says nothing";
        found.push(wrong("required", what, "require the object or array, or a field of the entries"));
    }
}

/// Whether the rule fits the type, and has the bounds that it needs.
fn rule(field: &FieldDeclaration, found: &mut Vec<Wrong>) {
    let kind = field.kind;
    let number = matches!(kind, FieldKind::Integer | FieldKind::Number);
    let container = matches!(kind, FieldKind::Object | FieldKind::Array);
    let under_entries = field.path.split('.').any(|step| step == "*");
    let misfit = |name: &str, hint: &str| {
        let key = if name == "bucket" { "bucket" } else { "telemetry" };
        wrong(key, format!("`telemetry = \"{name}\"` does not fit {}", a_kind(kind)), hint)
    };
    match &field.rule {
        Rule::Drop | Rule::Present => {}
        Rule::Keep if container => found.push(misfit("keep", "count it, or keep fields inside it")),
        Rule::Keep if kind == FieldKind::Boolean || !field.values.is_empty() => {}
        Rule::Keep if kind == FieldKind::String => found.push(wrong(
            "telemetry",
            "`telemetry = \"keep\"` would let free text leave",
            "close it with `values`, or use `present` or `length-bucket`",
        )),
        Rule::Keep => bounded(field, "keep", found),
        Rule::Sum if !number => found.push(misfit("sum", "sums are of integers and numbers")),
        Rule::Sum => bounded(field, "sum", found),
        Rule::Count if !container => found.push(misfit("count", "it counts the entries of an object or array")),
        Rule::Count => {}
        Rule::Distinct if kind == FieldKind::Object || (kind != FieldKind::Array && !under_entries) => {
            found.push(misfit("distinct", "it is for an array, or a scalar under `*`"));
        }
        Rule::Distinct => {}
        Rule::CountBy if !matches!(kind, FieldKind::String | FieldKind::Array) => {
            found.push(misfit("count-by", "it is for strings, and arrays of strings"));
        }
        Rule::CountBy if field.values.is_empty() => found.push(wrong(
            "telemetry",
            "`telemetry = \"count-by\"` has no `values` to count by",
            "name the words in `values`; the rest is counted as `other`",
        )),
        Rule::CountBy => {}
        Rule::Bucket(_) if !number => found.push(misfit("bucket", "it is for numbers; `length-bucket` for the others")),
        Rule::Bucket(bounds) => {
            let rising = bounds.windows(2).all(|pair| compare(&pair[0], &pair[1]) == Ordering::Less);
            buckets(bounds.len(), rising, found);
        }
        Rule::LengthBucket(_) if number || kind == FieldKind::Boolean => {
            found.push(misfit("length-bucket", "it is for strings, objects and arrays"));
        }
        // None said: there are bounds for that.
        Rule::LengthBucket(bounds) if bounds.is_empty() => {}
        Rule::LengthBucket(bounds) => buckets(bounds.len(), bounds.is_sorted_by(|a, b| a < b), found),
    }
}

/// Whether a number that leaves has bounds, and near enough ones.
fn bounded(field: &FieldDeclaration, name: &str, found: &mut Vec<Wrong>) {
    let (Some(low), Some(high)) = (&field.minimum, &field.maximum) else {
        let what = format!("`telemetry = \"{name}\"` needs `minimum` and `maximum`");
        return found.push(wrong("telemetry", what, "bound it, or use `bucket`: an unbounded number may be an id"));
    };
    // Bounds the wrong way round are told of elsewhere.
    if !keeps(low, high) {
        let what = format!("`telemetry = \"{name}\"` of numbers that span more than {KEEP_SPAN_MAX}");
        found.push(wrong("telemetry", what, "use `bucket`: so many different numbers may be ids"));
    }
}

fn buckets(count: usize, rising: bool, found: &mut Vec<Wrong>) {
    if count == 0 || count > BUCKETS_MAX {
        let what = format!("`bucket` has {count} bounds; it takes 1 to {BUCKETS_MAX}");
        found.push(wrong("bucket", what, "such as bucket = [1, 10, 100]"));
    } else if !rising {
        found.push(wrong("bucket", "the bounds of `bucket` do not rise", "write each bound once, the smallest first"));
    }
}

fn derived(field: &FieldDeclaration, found: &mut Vec<Wrong>) {
    let derives = !matches!(field.rule, Rule::Drop | Rule::Keep);
    match &field.derived_name {
        Some(name) if !derives => {
            let what = format!("`as = {}` names nothing", short(&Value::from(name.as_str())));
            found.push(wrong("as", what, "`drop` and `keep` derive no value"));
        }
        Some(name) if name.contains('.') || steps(name, false).is_err() => {
            let what = format!("`as = {}` is no name", short(&Value::from(name.as_str())));
            found.push(wrong("as", what, format!("a name has 1 to {WORD_CHARS_MAX} characters, without `.` and `*`")));
        }
        None if derives && derived_name(field).is_none() => {
            let what = format!("what is derived of `{}` has no name of its own", field.path);
            found.push(wrong("telemetry", what, "name it with `as`"));
        }
        _ => {}
    }
}

/// A value as it is shown in a fault: never a long text.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= WORD_CHARS_MAX {
        return text;
    }
    text.chars().take(WORD_CHARS_MAX).chain(['…']).collect()
}
