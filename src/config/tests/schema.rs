//! `docs/events.schema.json`, by which editors help: it knows what the reader knows, no more and no less.

use super::catalogue::load_catalogue;
use super::*;
use crate::config::catalogue::{AUDIENCES, KINDS, RULES};
use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeSet;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn schema() -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join("docs/events.schema.json")).unwrap()).unwrap()
}

fn validator() -> Validator {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::draft202012::new(&schema).unwrap()
}

/// A catalogue's text as JSON.
fn json(text: &str) -> Value {
    let mut problems = Problems::default();
    let root = source::parse_text(text, Path::new("events.toml"), &mut problems);
    assert_eq!(problems.count(), 0, "{text}");
    root.unwrap().json()
}

/// The keys that the reader asks for, from what it answers to one that nobody knows.
pub(super) fn known(table: &str) -> BTreeSet<String> {
    let problems = load_catalogue(&format!("{table}\nzzzzzzzzzzzzzzzzzz = 1\n")).unwrap_err();
    let unknown = problems.iter().find(|p| p.what.contains("unknown")).unwrap_or_else(|| panic!("{}", told(&problems)));
    unknown.hint.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn it_has_the_keys_that_the_reader_asks_for() {
    let schema = schema();
    for (table, pointer, least) in [
        ("", "", 2),
        ("[layer.l]", "/$defs/layer", 3),
        ("[event.e]", "/$defs/event", 6),
        ("[layer.l.fields.f]\ntype = \"string\"", "/$defs/field", 14),
    ] {
        let properties = schema.pointer(&format!("{pointer}/properties")).and_then(Value::as_object).unwrap();
        let keys: BTreeSet<String> = properties.keys().cloned().collect();
        assert_eq!(keys, known(table), "{table}");
        assert!(keys.len() >= least, "{table}: {keys:?}");
    }
}

#[test]
fn it_has_the_words_that_the_reader_knows() {
    let schema = schema();
    let words = |pointer: &str| -> Vec<String> {
        let known = schema.pointer(pointer).and_then(Value::as_array).unwrap();
        known.iter().map(|word| word["const"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(words("/$defs/field/properties/type/oneOf"), KINDS.map(|(word, _)| word));
    assert_eq!(words("/$defs/field/properties/telemetry/oneOf"), RULES);
    assert_eq!(words("/$defs/field/properties/audience/oneOf"), AUDIENCES);
    assert_eq!(words("/$defs/event/properties/audience/oneOf"), AUDIENCES);
}

#[test]
fn the_shipped_catalogue_and_those_of_the_examples_fit_it() {
    let validator = validator();
    let examples = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let files = examples.map(|path| path.join("events.toml")).filter(|path| path.is_file());
    let mut seen = 0;
    for file in files.chain([root().join("events.toml")]) {
        let catalogue = json(&std::fs::read_to_string(&file).unwrap());
        let errors: Vec<_> = validator.iter_errors(&catalogue).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", file.display());
        seen += 1;
    }
    assert!(seen >= 2, "{seen}");
    let shipped = std::fs::read_to_string(root().join("events.toml")).unwrap();
    assert!(shipped.starts_with("#:schema docs/events.schema.json\n"));
}

#[test]
fn it_refuses_what_the_reader_refuses() {
    let validator = validator();
    for text in [
        "[layer.\"A\"]",
        "[layer.a]\nparnt = \"b\"",
        "[layer.a]\nat = 1",
        "[event.\"posthaste:x\"]",
        "[event.posthaste]",
        "[event.a]\nretired = \"yes\"",
        "[event.a]\naudience = \"us\"",
        "[event.a]\nexample = 1",
        "[event.a]\nfields = 1",
        "[event.a]\nfields.x = { }",
        "[event.a]\nfields.x = 1",
        "[event.a]\nfields.x.y = 1",
        "[event.a]\nfields.x = { required = true }",
        "[event.a]\nfields.x = { type = \"strng\" }",
        "[event.a]\nfields.x = { type = \"string\", requird = true }",
        "[event.a]\nfields.x = { type = \"object\", y = { type = \"string\" } }",
        "[event.a]\nfields.x = { type = \"string\", length_max = -1 }",
        "[event.a]\nfields.x = { type = \"string\", values = [true] }",
        "[event.a]\nfields.x = { type = \"string\", telemetry = \"keeep\" }",
        "[event.a]\nfields.x = { type = \"number\", bucket = [\"1\"] }",
        "[event.a]\nfields.x = { type = \"number\", bucket = [] }",
        "[events.a]",
    ] {
        assert!(load_catalogue(text).is_err() && !validator.is_valid(&json(text)), "{text}");
    }
    for text in [
        "",
        "[event.\"posthaste2:x\"]",
        "[event.a]\nfields.x = { type = \"string\" }",
        "[event.a]\nfields.x.y = { type = \"string\" }",
        "[event.a]\nfields.\"x.*.y\" = { type = \"integer\", audience = \"all\" }",
        "[event.a]\nfields.type = { type = \"string\" }",
        "[event.a]\nfields.x.type.type = \"string\"",
    ] {
        let is_read = load_catalogue(text).map_err(|p| told(&p));
        assert!(is_read.is_ok() && validator.is_valid(&json(text)), "{text}: {is_read:?}");
    }
}
