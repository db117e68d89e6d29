//! Random catalogues and random properties: what is held of every catalogue, and an independent judge of the schemas.

#![expect(clippy::unwrap_used, reason = "a test ends where it can not go on")]

mod random;

use posthaste_events::EventType;
use posthaste_events::catalogue::declare::{Audience, Declarations};
use posthaste_events::catalogue::{Catalogue, Declared, Undeclared};
use proptest::prelude::*;
use random::{Dice, mutated, properties, sound, value, wild};
use serde_json::Value;

/// How many random catalogues each property is tried on.
const CASES: u32 = 256;
/// How many events are made of each catalogue.
const EVENTS: usize = 20;

fn compiled(declarations: &Declarations) -> Catalogue {
    Catalogue::compile(declarations, Undeclared::Reject).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn declared<'c>(catalogue: &'c Catalogue, name: &str) -> &'c Declared {
    catalogue.get(&EventType::parse(name).unwrap()).unwrap()
}

/// Whether a text within has this in it.
fn holds_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(s) => s.contains(text),
        Value::Array(items) => items.iter().any(|item| holds_text(item, text)),
        Value::Object(fields) => fields.values().any(|field| holds_text(field, text)),
        _ => false,
    }
}

proptest! {
    // A smaller seed is no simpler case.
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn any_declarations_compile_or_have_faults_and_never_panic(seed: u64) {
        let mut dice = Dice::new(seed);
        let declarations = wild(&mut dice);
        match Catalogue::compile(&declarations, Undeclared::Reject) {
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                for fault in faults {
                    let (list, field) = (fault.at.index, fault.at.field.unwrap_or(0));
                    let fields = if fault.at.layer { declarations.layers[list].fields.len() } else { declarations.events[list].fields.len() };
                    prop_assert!(fault.at.field.is_none() || field < fields, "{fault:?}");
                }
            }
            Ok(catalogue) => for (name, declared) in catalogue.types() {
                let mut any = value(&mut dice, 4);
                let _ = (declared.check(&any), declared.schema(), declared.filters(), declared.notification(&any, "{}"));
                catalogue.mask(name, &mut any);
            },
        }
    }

    #[test]
    fn properties_that_follow_the_catalogue_fit_and_their_notification_has_nothing_of_telemetrys(seed: u64) {
        let mut dice = Dice::new(seed);
        let declarations = sound(&mut dice, true);
        let catalogue = compiled(&declarations);
        for event in &declarations.events {
            let declared = declared(&catalogue, &event.name);
            let schema = jsonschema::validator_for(&declared.schema()).unwrap();
            for _ in 0..EVENTS {
                let data = properties(&mut dice, &declarations, event);
                prop_assert_eq!(declared.check(&data), vec![], "{}", data);
                let text = data.to_string();
                let told: Value = serde_json::from_str(&declared.notification(&data, &text)).unwrap();
                prop_assert!(!holds_text(&told, random::HIDDEN), "{} of {}", told, data);
                let errors: Vec<_> = schema.iter_errors(&told).map(|e| e.to_string()).collect();
                prop_assert!(errors.is_empty(), "{:?} of {}", errors, told);
                // Cut again, nothing more is cut.
                let again = told.to_string();
                prop_assert_eq!(declared.notification(&told, &again), again.as_str());
                for filter in declared.filters() {
                    let path: Vec<_> = filter.path.split('.').map(str::to_owned).collect();
                    prop_assert_eq!(declared.filter(&path), Some(filter));
                }
            }
        }
    }

    #[test]
    fn the_schema_agrees_with_the_check(seed: u64) {
        let mut dice = Dice::new(seed);
        let mut declarations = sound(&mut dice, true);
        let fields = declarations.layers.iter_mut().flat_map(|l| &mut l.fields);
        fields.chain(declarations.events.iter_mut().flat_map(|e| &mut e.fields)).for_each(|f| f.audience = Audience::All);
        let catalogue = compiled(&declarations);
        for event in &declarations.events {
            let declared = declared(&catalogue, &event.name);
            let schema = jsonschema::validator_for(&declared.schema()).unwrap();
            for _ in 0..EVENTS {
                let data = properties(&mut dice, &declarations, event);
                let data = mutated(&mut dice, data);
                let misfits = declared.check(&data);
                prop_assert_eq!(misfits.is_empty(), schema.is_valid(&data), "{:?} of {}", misfits, data);
                for misfit in misfits {
                    let there = data.pointer(&misfit.pointer).is_some();
                    prop_assert_eq!(there, misfit.detail != "is required", "{:?} of {}", misfit, data);
                }
            }
        }
    }

    #[test]
    fn no_sensitive_value_is_shown(seed: u64) {
        let mut dice = Dice::new(seed);
        let declarations = sound(&mut dice, false);
        let catalogue = compiled(&declarations);
        for event in &declarations.events {
            let name = EventType::parse(&event.name).unwrap();
            for _ in 0..EVENTS {
                let data = properties(&mut dice, &declarations, event);
                let mut shown = data.clone();
                let masked = catalogue.mask(&name, &mut shown);
                prop_assert!(!holds_text(&shown, random::SENSITIVE), "{} of {}", shown, data);
                prop_assert_eq!(masked, shown != data, "{}", data);
            }
        }
    }
}

#[test]
fn random_catalogues_have_what_they_are_to_try() {
    let mut dice = Dice::new(7);
    let (mut hidden, mut sensitive, mut refused, mut faults) = (0, 0, 0, 0);
    for _ in 0..200 {
        let declarations = sound(&mut dice, true);
        let catalogue = compiled(&declarations);
        for event in &declarations.events {
            let data = properties(&mut dice, &declarations, event);
            hidden += usize::from(holds_text(&data, random::HIDDEN));
            sensitive += usize::from(holds_text(&data, random::SENSITIVE));
            let data = mutated(&mut dice, data);
            refused += usize::from(!declared(&catalogue, &event.name).check(&data).is_empty());
        }
        faults += usize::from(Catalogue::compile(&wild(&mut dice), Undeclared::Reject).is_err());
    }
    assert!(hidden > 20 && sensitive > 20 && refused > 50 && faults > 50, "{hidden} {sensitive} {refused} {faults}");
}
