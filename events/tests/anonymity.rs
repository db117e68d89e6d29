//! Whatever a catalogue declares and an event brings: what leaves holds nothing but what the rules let through.
//!
//! Judges look at random catalogues and events: that no canary leaves, that no word leaves that is not the catalogue's,
//! that what leaves fits the telemetry schema (judged by a crate that is not ours) and the relay, that nothing that a rule
//! hides changes a byte of it, and that it is what a plain model of the rules says. With the feature `fault-injection` one dropped field leaves all the
//! same, which they must find. `POSTHASTE_LONG=1` looks at ten times as many cases; `POSTHASTE_SEED=n` at that one.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod generate;

use generate::values::{self, canary};
use generate::{CANARY, CANARY_NUMBER, Generated, Seeded, Spot, model};
use posthaste_events::EventType;
use posthaste_events::catalogue::declare::{Declarations, FieldDeclaration, LENGTH_BUCKETS, Rule};
use posthaste_events::catalogue::{Catalogue, Declared, Undeclared};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Who found that something leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Judge {
    Canary,
    Vocabulary,
    Schema,
    Interference,
    Relay,
    Model,
}

/// A type with all that is to be known of it to judge what leaves.
struct Case {
    declared: Declared,
    event_type: EventType,
    words: BTreeSet<String>,
    schema: jsonschema::Validator,
    top: Spot,
}

impl Case {
    fn of(generated: Generated) -> Self {
        let (declarations, event_type) = (generated.declarations, EventType::parse(&generated.event_type).unwrap());
        let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).expect("a random catalogue is sound");
        let declared = catalogue.get(&event_type).unwrap().clone();
        let schema = jsonschema::validator_for(&declared.telemetry_schema()).unwrap();
        let mut words = BTreeSet::from(["event", "event_properties", "derived_properties"].map(str::to_owned));
        words.insert(generated.event_type);
        add_words(&declarations, &mut words);
        Self { declared, event_type, words, schema, top: generated.top }
    }

    fn telemetry(&self, properties: &Value) -> String {
        assert_eq!(self.declared.check(properties), [], "{properties}");
        self.declared.telemetry(&self.event_type, properties).unwrap()
    }

    /// What is wrong with what leaves of properties, of which `others` differ in what the rules hide alone.
    fn judge(&self, properties: &Value, others: &Value) -> Vec<(Judge, String)> {
        let text = self.telemetry(properties);
        let mut found = self.judge_text(&text);
        let varied = self.telemetry(others);
        if varied != text {
            found.push((Judge::Interference, format!("{text}\n{varied}")));
        }
        let all: Value = serde_json::from_str(&text).unwrap();
        let (kept, derived) = model::leaves(&self.top, properties);
        if (&all["event_properties"], &all["derived_properties"]) != (&kept, &derived) {
            found.push((Judge::Model, format!("{text}\n{kept}\n{derived}")));
        }
        let (relayed, dropped) =
            self.declared.relay(&self.event_type, &all["event_properties"], &all["derived_properties"]);
        if relayed != text || !dropped.is_empty() {
            found.push((Judge::Relay, format!("{text}\n{relayed} without {dropped:?}")));
        }
        found
    }

    fn judge_text(&self, text: &str) -> Vec<(Judge, String)> {
        let all: Value = serde_json::from_str(text).unwrap();
        let mut found = Vec::new();
        if text.contains(CANARY) || largest(&all) >= CANARY_NUMBER as f64 {
            found.push((Judge::Canary, text.to_owned()));
        }
        found.extend(unknown(&all, &self.words).map(|word| (Judge::Vocabulary, format!("{word:?} in {text}"))));
        found.extend(self.schema.iter_errors(&all).map(|e| (Judge::Schema, format!("{e} in {text}"))));
        found
    }
}

/// Every text that may leave, worked out from the declarations.
fn add_words(declarations: &Declarations, words: &mut BTreeSet<String>) {
    for layer in &declarations.layers {
        words.extend(layer.name.split(':').map(str::to_owned));
        layer.fields.iter().for_each(|field| add_field(field, words));
    }
    declarations.events.iter().flat_map(|event| &event.fields).for_each(|field| add_field(field, words));
}

fn add_field(field: &FieldDeclaration, words: &mut BTreeSet<String>) {
    let names: Vec<&str> = field.path.split('.').filter(|name| *name != "*").collect();
    let (own, way) = names.split_last().unwrap();
    words.extend(way.iter().map(|name| (*name).to_owned()));
    let labels = |bounds: &[String], words: &mut BTreeSet<String>| {
        words.insert(format!("<{}", bounds[0]));
        words.extend(bounds.windows(2).map(|two| format!("{}..{}", two[0], two[1])));
        words.insert(format!(">={}", bounds[bounds.len() - 1]));
    };
    let ending = match &field.rule {
        Rule::Drop => return,
        Rule::Keep => {
            words.insert((*own).to_owned());
            words.extend(field.values.iter().filter_map(Value::as_str).map(str::to_owned));
            return;
        }
        Rule::Count => "count",
        Rule::Distinct => "distinct",
        Rule::Sum => "sum",
        Rule::CountBy => {
            words.insert("other".to_owned());
            words.extend(field.values.iter().filter_map(Value::as_str).map(str::to_owned));
            "count_by"
        }
        Rule::Present => "present",
        Rule::Bucket(bounds) => {
            labels(&bounds.iter().map(ToString::to_string).collect::<Vec<_>>(), words);
            "bucket"
        }
        Rule::LengthBucket(bounds) => {
            let bounds = if bounds.is_empty() { &LENGTH_BUCKETS[..] } else { bounds };
            labels(&bounds.iter().map(ToString::to_string).collect::<Vec<_>>(), words);
            "length_bucket"
        }
    };
    words.insert(field.derived_name.clone().unwrap_or_else(|| format!("{own}_{ending}")));
}

/// The texts and names in a value that are no words.
fn unknown<'a>(value: &'a Value, words: &BTreeSet<String>) -> Box<dyn Iterator<Item = String> + 'a> {
    let mut found = Vec::new();
    fn look(value: &Value, words: &BTreeSet<String>, found: &mut Vec<String>) {
        match value {
            Value::String(text) if !words.contains(text) => found.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| look(item, words, found)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                if !words.contains(name) {
                    found.push(name.clone());
                }
                look(value, words, found);
            }),
            _ => {}
        }
    }
    look(value, words, &mut found);
    Box::new(found.into_iter())
}

fn largest(value: &Value) -> f64 {
    match value {
        Value::Number(n) => n.as_f64().unwrap().abs(),
        Value::Array(items) => items.iter().map(largest).fold(0.0, f64::max),
        Value::Object(fields) => fields.values().map(largest).fold(0.0, f64::max),
        _ => 0.0,
    }
}

/// The seeds to look at.
#[expect(clippy::disallowed_methods, reason = "the tests' own switches")]
fn seeds(cases: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = if number("POSTHASTE_LONG") == Some(1) { cases * 10 } else { cases };
    match number("POSTHASTE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..cases,
    }
}

#[test]
fn nothing_that_a_rule_hides_leaves_or_changes_what_leaves() {
    let (mut leaves, mut differ) = (0, 0);
    for seed in seeds(10_000) {
        let mut rng = Seeded(seed);
        let case = Case::of(generate::catalogue(&mut rng));
        let properties = values::value(&case.top, &mut rng);
        let others = values::vary(&case.top, &properties, &mut rng);
        let found = case.judge(&properties, &others);
        assert_eq!(
            found,
            [],
            "POSTHASTE_SEED={seed}\n{properties}\n{others}\n{:#?}",
            generate::catalogue(&mut Seeded(seed)).declarations
        );
        leaves += usize::from(case.telemetry(&properties).len() > 100);
        differ += usize::from(properties != others);
    }
    // Cases in which nothing leaves or nothing is hidden would show nothing; a single seed is not held to that.
    assert!(differ == 0 || leaves <= 1 || (leaves > 5_000 && differ > 5_000), "{leaves} {differ}");
}

#[test]
fn whatever_is_posted_to_the_relay_only_what_the_schema_knows_leaves() {
    for seed in seeds(3_000) {
        let mut rng = Seeded(seed ^ 0xA11_A1A5);
        let case = Case::of(generate::catalogue(&mut rng));
        let properties = values::value(&case.top, &mut rng);
        let all: Value = serde_json::from_str(&case.telemetry(&properties)).unwrap();
        let (kept, derived) = (&all["event_properties"], &all["derived_properties"]);
        let posted = [
            (properties.clone(), properties.clone()),
            (derived.clone(), kept.clone()),
            (spoilt(kept, &mut rng), spoilt(derived, &mut rng)),
            (spoilt(kept, &mut rng), spoilt(derived, &mut rng)),
        ];
        for (properties, derived) in posted {
            let (text, dropped) = case.declared.relay(&case.event_type, &properties, &derived);
            let mut found = case.judge_text(&text);
            // A client may claim a sum that is larger than any canary; that it fits the schema is all there is to say.
            found.retain(|(judge, _)| *judge != Judge::Canary || text.contains(CANARY));
            assert_eq!(found, [], "POSTHASTE_SEED={seed}\n{properties}\n{derived}");
            let all: Value = serde_json::from_str(&text).unwrap();
            let (again, none) =
                case.declared.relay(&case.event_type, &all["event_properties"], &all["derived_properties"]);
            assert_eq!((&again, none.len()), (&text, 0), "POSTHASTE_SEED={seed}");
            assert!(
                dropped
                    .iter()
                    .all(|p| resolves(p, "/properties", &properties) || resolves(p, "/derived_properties", &derived)),
                "POSTHASTE_SEED={seed}: {dropped:?}"
            );
            let canaries = [&properties, &derived].iter().any(|posted| posted.to_string().contains(CANARY));
            assert!(!canaries || !dropped.is_empty(), "POSTHASTE_SEED={seed}: a canary went without a word");
        }
    }
}

fn resolves(pointer: &str, root: &str, posted: &Value) -> bool {
    pointer.strip_prefix(root).is_some_and(|rest| posted.pointer(rest).is_some())
}

/// The same with something in it that does not fit.
fn spoilt(value: &Value, rng: &mut Seeded) -> Value {
    if rng.chance(10) {
        let wrong = [json!(null), json!(-1), json!(1e300), json!(0.5), json!(true), json!([]), json!({}), json!("A")];
        return if rng.chance(50) { canary(rng).into() } else { rng.pick(&wrong).clone() };
    }
    match value {
        Value::Object(fields) => {
            let mut fields: Map<_, _> = fields.iter().map(|(name, v)| (name.clone(), spoilt(v, rng))).collect();
            if rng.chance(20) {
                fields.insert(canary(rng), json!({ "A": 1 }));
            }
            fields.into()
        }
        Value::Array(items) => items.iter().map(|item| spoilt(item, rng)).collect::<Vec<_>>().into(),
        Value::Number(n) if rng.chance(30) => json!(n.as_f64().unwrap() + 1e-9),
        other => other.clone(),
    }
}

/// The control of the tests above.
#[cfg(feature = "fault-injection")]
mod control {
    use super::generate::Inside;
    use super::*;
    use std::collections::BTreeMap;

    /// The path of names to a dropped field that is there and holds a canary.
    fn dropped(spot: &Spot, value: &Value, path: &str) -> Option<String> {
        if matches!(spot.inside, Inside::Nothing) && spot.field.is_some() && values::is_dropped(spot) {
            return (value.to_string().contains(CANARY) || largest(value) >= CANARY_NUMBER as f64)
                .then(|| path.to_owned());
        }
        let Inside::Names(names) = &spot.inside else { return None };
        names.iter().find_map(|(name, spot)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            dropped(spot, value.get(name)?, &path)
        })
    }

    /// Were one field copied instead of dropped, they would not hold.
    #[test]
    fn a_single_dropped_field_that_leaves_is_found() {
        let (mut leaks, mut by) = (0, BTreeMap::<Judge, usize>::new());
        for seed in seeds(2_000) {
            let mut rng = Seeded(seed ^ 0x1EA4);
            let mut case = Case::of(generate::catalogue(&mut rng));
            let properties = values::value(&case.top, &mut rng);
            let others = values::vary(&case.top, &properties, &mut rng);
            let Some(path) = dropped(&case.top, &properties, "") else { continue };
            assert_eq!(case.judge(&properties, &others), [], "POSTHASTE_SEED={seed}");
            case.declared = case.declared.leaking(&path);
            let found: BTreeSet<_> = case.judge(&properties, &others).into_iter().map(|(judge, _)| judge).collect();
            assert!(found.contains(&Judge::Canary), "POSTHASTE_SEED={seed}: {path} leaves, found by {found:?}");
            leaks += 1;
            found.into_iter().for_each(|judge| *by.entry(judge).or_default() += 1);
        }
        assert!(leaks > 500, "{leaks}");
        for judge in [Judge::Vocabulary, Judge::Schema, Judge::Interference, Judge::Model] {
            assert!(by.get(&judge).copied().unwrap_or_default() * 2 > leaks, "{judge:?} found few of {leaks}: {by:?}");
        }
    }
}
