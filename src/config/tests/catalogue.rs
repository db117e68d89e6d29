//! Catalogue files.

use super::*;
use posthaste_events::EventType;
use posthaste_events::catalogue::Undeclared;
use posthaste_events::catalogue::declare::{Audience, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration};

/// Loads the good configuration with this as its catalogue.
pub(super) fn load_catalogue(events: &str) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), events).unwrap();
    load_in(folder.path(), &with("files = []", "files = [\"events.toml\"]"), &[])
}

#[test]
fn the_catalogue_declares_types() {
    let text = "[event.\"a:b\"]\ntitle = \"A\"\nexample = { }\n[event.c]\nretired = true\n";
    let catalogue = load_catalogue(text).unwrap_or_else(|p| panic!("{}", told(&p))).catalogue;
    assert_eq!(catalogue.undeclared(), Undeclared::Reject);
    let said: Vec<_> = catalogue.types().map(|(t, d)| (t.as_str(), d.title.as_deref(), d.retired)).collect();
    assert_eq!(said, [("a:b", Some("A"), false), ("c", None, true)]);
}

/// A catalogue that says everything that may be said.
const WHOLE: &str = r#"
[layer."project"]
fields.uuid = { type = "string", required = true, identity = true, description = "Which project" }
fields.name = { type = "string", sensitive = true, length_max = 80, nullable = true, telemetry = "length-bucket" }
fields."old.name" = { type = "string", telemetry = "length-bucket", bucket = [1, 20] }
fields.type = { type = "string", values = ["small", "large"], telemetry = "keep" }

[layer."project:job"]
fields.status = { type = "string", values = ["PENDING", "SUCCESS", "FAILURE"], telemetry = "keep" }
fields.parameters = { type = "object", telemetry = "count", as = "parameters_given" }
fields.heartbeat = { type = "boolean", telemetry = "keep", audience = "telemetry" }
fields.runs = { type = "integer", minimum = 0, maximum = 1000, telemetry = "sum" }
fields.cost = { type = "number", minimum = 0.5, maximum = 99.5, telemetry = "bucket", bucket = [1, 10.5] }
fields.seconds = { type = "number", bucket = [1, 60, 3600] }
fields.tags = { type = "array", telemetry = "distinct" }
fields.note = { type = "string", telemetry = "present" }
fields.steps = { type = "array" }
fields."steps.*.kind" = { type = "string", values = ["notebook", "script"], telemetry = "count-by" }
fields."steps.*.secret" = { type = "string", telemetry = "drop", audience = "all" }
fields.size.rows = { type = "integer", values = [1, 10] }

[layer."cron-job"]
parent = "project:job"
at = "project.job"
fields.schedule = { type = "string" }

[event."project:job:failed"]
title = "A job failed"
fields.reason = { type = "string" }
example = { project = { uuid = "p", type = "small", job = { status = "FAILURE", reason = "x", size = { rows = 1 } } } }

[event."cron-job:fired"]
layer = "cron-job"

[event."view:loaded"]
audience = "telemetry"

[event."view:faxed"]
retired = true
"#;

#[test]
fn a_catalogue_that_says_everything_is_read() {
    let catalogue = load_catalogue(WHOLE).unwrap_or_else(|p| panic!("{}", told(&p))).catalogue;
    let of = |name: &str| catalogue.get(&EventType::parse(name).unwrap()).unwrap();
    let failed = of("project:job:failed");
    assert_eq!(failed.layer.as_deref(), Some("project:job"));
    assert_eq!(failed.check(&serde_json::Value::Object(failed.example.clone().unwrap())), []);
    assert_eq!(of("cron-job:fired").layer.as_deref(), Some("cron-job"));
    assert_eq!(of("view:loaded").audience, Audience::Telemetry);
    assert!(of("view:faxed").retired);
    // A word of each part of a field's declaration, as events are held against it.
    let schema = failed.schema().to_string();
    for word in ["Which project", "\"small\"", "\"maxLength\":80", "\"maximum\":99.5", "\"rows\"", "\"reason\""] {
        assert!(schema.contains(word), "{word}: {schema}");
    }
    assert!(!schema.contains("heartbeat"), "{schema}");
    let leaves = failed.telemetry_schema().to_string();
    for word in
        ["heartbeat", "parameters_given", "note_present", "kind_count_by", "old", "60..3600", "name_length_bucket"]
    {
        assert!(leaves.contains(word), "{word}: {leaves}");
    }
}

#[test]
fn wrong_catalogues_are_named_with_their_own_file_and_line() {
    for (text, line, words) in [
        ("\n[event.\"A\"]", 2, ["event \"A\"", "no type"]),
        ("[event.\"posthaste:x\"]", 1, ["posthaste:x", "daemon's own"]),
        ("[event.a]\ntitel = \"x\"", 2, ["titel", "did you mean `title`?"]),
        ("[event.a]\ntitle = 1", 2, ["title = 1", "a string"]),
        ("[event.a]\naudience = \"telemetri\"", 2, ["audience = \"telemetri\"", "did you mean `telemetry`?"]),
        ("[event.a]\nretired = \"yes\"", 2, ["retired = \"yes\"", "a boolean"]),
        ("[event.a]\nlayer = 1", 2, ["event \"a\": layer = 1", "a string"]),
        ("[event.a]\nfields = 1", 2, ["fields = 1", "no table"]),
        ("[layer.\"A\"]", 1, ["layer \"A\"", "[layer.\"project:job\"]"]),
        ("[layer.a]\nparnt = \"b\"", 2, ["layer \"a\"", "did you mean `parent`?"]),
        ("[layer.a]\nat = []", 2, ["layer \"a\": at = […]", "a string"]),
        ("[layer]\na = 1", 2, ["layer \"a\"", "an integer, not a table"]),
        ("layer = 1", 1, ["[layer]", "an integer"]),
        ("[events.a]", 1, ["events", "did you mean `event`?"]),
        ("event = 1", 1, ["[event]", "an integer"]),
        ("[event]\na = 1", 2, ["event \"a\"", "an integer"]),
        ("[event.a]\nexample = 1", 2, ["example", "table"]),
        ("[event.a]\nfields.x = { type = \"number\" }\nexample = { x = nan }", 3, ["example", "finite"]),
        ("[event.a]\n[event.a]", 2, ["events.toml", "duplicate"]),
    ] {
        named(text, line, &words);
    }
}

#[test]
fn wrong_fields_are_named_with_layer_path_and_key() {
    for (field, words) in [
        ("fields.x = { type = \"strng\" }", ["layer \"l\": field \"x\": type = \"strng\"", "did you mean `string`?"]),
        ("fields.x = { }", ["field \"x\": type is missing", "`boolean`"]),
        ("fields.x = { required = true }", ["field \"x\": type is missing", "`array`"]),
        ("fields.x = \"string\"", ["field \"x\"", "a string, not a table"]),
        ("fields.x.required = true", ["field \"x\": type is missing", "`object`"]),
        ("fields.x.y.type = 7", ["field \"x.y\": type = 7", "an integer, not a string"]),
        ("fields.x = { type = \"string\", requird = true }", ["unknown key `requird`", "did you mean `required`?"]),
        ("fields.x = { type = \"object\", y = { type = \"string\" } }", ["`y` is no key", "fields.\"….y\""]),
        ("fields.x = { type = \"string\", required = 1 }", ["required = 1", "a boolean"]),
        ("fields.x = { type = \"string\", nullable = 1 }", ["nullable = 1", "a boolean"]),
        ("fields.x = { type = \"string\", sensitive = 1 }", ["sensitive = 1", "a boolean"]),
        ("fields.x = { type = \"string\", identity = 1 }", ["identity = 1", "a boolean"]),
        ("fields.x = { type = \"string\", description = 1 }", ["description = 1", "a string"]),
        ("fields.x = { type = \"number\", minimum = \"1\" }", ["minimum = \"1\"", "number"]),
        ("fields.x = { type = \"number\", maximum = inf }", ["maximum = inf", "number of JSON"]),
        ("fields.x = { type = \"string\", length_max = -1 }", ["length_max = -1", "out of bounds"]),
        ("fields.x = { type = \"string\", values = \"a\" }", ["values = \"a\"", "an array"]),
        ("fields.x = { type = \"string\", values = [true] }", ["values = true", "a string or a number"]),
        ("fields.x = { type = \"string\", audience = \"us\" }", ["audience = \"us\"", "`telemetry`"]),
        ("fields.x = { type = \"string\", telemetry = \"keeep\" }", ["telemetry = \"keeep\"", "did you mean `keep`?"]),
        (
            "fields.x = { type = \"number\", telemetry = \"bucket\" }",
            ["telemetry = \"bucket\" has no bounds", "bucket = ["],
        ),
        ("fields.x = { type = \"array\", telemetry = \"count\", bucket = [1] }", ["bucket stands beside", "\"count\""]),
        ("fields.x = { type = \"number\", bucket = [\"1\"] }", ["bucket = \"1\"", "a number"]),
        ("fields.x = { type = \"number\", bucket = 1 }", ["bucket = 1", "an array"]),
        (
            "fields.x = { type = \"string\", telemetry = \"length-bucket\", bucket = [1.5] }",
            ["bucket = 1.5 is no length", "whole numbers"],
        ),
        ("fields.x = { type = \"array\", telemetry = \"count\", as = 1 }", ["as = 1", "a string"]),
    ] {
        named(&format!("[layer.l]\n{field}\n[event.\"l:e\"]"), 2, &words);
    }
}

#[test]
fn what_only_the_whole_shows_is_named_at_its_line_too() {
    for (text, line, words) in [
        ("[layer.a]\nat = \"a\"\nparent = \"b\"", 3, ["layer \"a\"", "parent = \"b\""]),
        ("[layer.a]\nparent = \"a\"", 2, ["layer \"a\"", "parent"]),
        ("[event.a]\ntitle = \"x\"\nlayer = \"b\"", 3, ["event \"a\"", "layer = \"b\""]),
        ("[layer.a]\nat = \"a..b\"", 2, ["layer \"a\"", "at ="]),
        (
            "[layer.a]\nfields.x = { type = \"string\" }\n[layer.\"a:b\"]\nat = \"a\"\nfields.x = { type = \"string\" }",
            5,
            ["layer \"a:b\"", "\"x\""],
        ),
        (
            "[event.a]\n[event.a.fields.x]\ntype = \"string\"\ntelemetry = \"keep\"",
            4,
            ["event \"a\": field \"x\"", "telemetry"],
        ),
        ("[event.a]\nfields.x = { type = \"string\" }\nexample = { x = 1 }", 3, ["event \"a\"", "example"]),
        ("[event.a.fields.x]\ntype = \"number\"\nbucket = [3, 2]", 3, ["field \"x\"", "bucket"]),
        ("[event.a.fields.x]\ntype = \"number\"\n\nminimum = 3\nmaximum = 1", 4, ["field \"x\"", "minimum"]),
    ] {
        named(text, line, &words);
    }
}

#[test]
fn a_mistake_is_told_once_and_not_again_for_what_follows_from_it() {
    // The example has the field that could not be read, and the type stands on the layer whose name is wrong.
    named("[event.a]\nfields.x = { type = \"intger\" }\nexample = { x = 1 }", 2, &["intger"]);
    named("[layer.\"A\"]\n[event.b]\nlayer = \"A\"", 1, &["layer \"A\""]);
    // What does not follow is told with it.
    let text =
        "[event.a]\ntitel = \"x\"\nlayer = \"b\"\n[event.c]\nfields.x = { type = \"string\", telemetry = \"keep\" }";
    let problems = load_catalogue(text).unwrap_err();
    assert_eq!(problems.len(), 3, "{}", told(&problems));
    let problems =
        load_catalogue("[layer.a]\nparent = \"zz\"\n[event.b]\nfields.x = { type = \"strng\" }").unwrap_err();
    assert_eq!(problems.len(), 2, "{}", told(&problems));
}

/// Asserts one problem at a line of the catalogue.
fn named(text: &str, line: usize, words: &[&str]) {
    let problems = load_catalogue(text).expect_err(text);
    let told = told(&problems);
    assert!(problems.len() == 1 && told.contains(&format!("events.toml:{line}: ")), "{text}: {told}");
    assert!(words.iter().all(|w| told.contains(w)), "{words:?}: {told}");
}

#[test]
fn a_type_and_a_layer_stand_in_one_file_only_and_are_seen_from_every_other() {
    let load = |a: &str, b: &str| {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [("a.toml", a), ("b.toml", b)] {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        load_in(folder.path(), &with("files = []", "files = [\"a.toml\", \"b.toml\"]"), &[])
    };
    for (text, word) in [("[event.\"a:b\"]\n", "event \"a:b\""), ("[layer.\"a:b\"]\n", "layer \"a:b\"")] {
        let problems = load(text, text).unwrap_err();
        assert!(told(&problems).contains(&format!("b.toml:1: {word}")), "{}", told(&problems));
    }
    let config = load("[event.\"a:b\"]\n", "[layer.a]\nfields.x = { type = \"string\" }\n").unwrap();
    let name = EventType::parse("a:b").unwrap();
    assert_eq!(config.catalogue.get(&name).unwrap().layer.as_deref(), Some("a"));
}

/// A layer and a type on it, as Rust declares them.
fn in_rust(layer: &str, fields: &[(&str, FieldKind)], event: &str) -> Declarations {
    let fields = fields.iter().map(|(path, kind)| FieldDeclaration::new(*path, *kind)).collect();
    let layer = LayerDeclaration { name: layer.to_owned(), fields, ..LayerDeclaration::default() };
    let event = EventDeclaration { name: event.to_owned(), ..EventDeclaration::default() };
    Declarations { layers: vec![layer], events: vec![event] }
}

fn load_both(toml: &str, declared: &Declarations, condition: &str) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), toml).unwrap();
    let text = with("files = []", "files = [\"events.toml\"]").replace("timeout = \"2s\"", condition);
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    load_declared(&file, &Env::new(), &Kinds::built_in(), declared)
}

const PROJECT: &str = "[layer.project]\nfields.name = { type = \"string\" }\nfields.size = { type = \"integer\" }\n\
                       [event.\"project:created\"]\n";

#[test]
fn types_declared_in_rust_and_in_files_are_one_catalogue_that_conditions_are_held_against() {
    // The same layer, in another order.
    let fields = [("size", FieldKind::Integer), ("name", FieldKind::String)];
    let declared = in_rust("project", &fields, "project:deleted");
    let config = load_both(PROJECT, &declared, "where = { \"project.name\" = \"x\" }")
        .unwrap_or_else(|p| panic!("{}", told(&p)));
    let names: Vec<_> = config.catalogue.types().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["project:created", "project:deleted"]);
    assert_eq!(config.catalogue.types().filter(|(_, t)| t.layer.as_deref() == Some("project")).count(), 2);
    let wrong = "where = { \"project.names\" = \"x\" }";
    for declared in [&declared, &Declarations::default()] {
        let problems = load_both(PROJECT, declared, wrong).unwrap_err();
        assert!(problems.len() == 1 && told(&problems).contains("did you mean `project.name`?"), "{}", told(&problems));
    }
    // Rust says the parent, and a file need not.
    let toml = format!("{PROJECT}[layer.\"project:job\"]\nfields.n = {{ type = \"integer\" }}\n");
    let mut job = in_rust("project:job", &[("n", FieldKind::Integer)], "project:job:ended");
    job.layers[0].parent = Some("project".to_owned());
    assert!(load_both(&toml, &job, "").is_ok());
    // What only Rust declares is known to conditions too.
    let other = in_rust("project:job", &[("n", FieldKind::Integer)], "project:job:ended");
    assert!(load_both(PROJECT, &other, "where = { \"project.job.n\" = 1 }").is_ok());
    assert!(load_both(PROJECT, &Declarations::default(), "where = { \"project.job.n\" = 1 }").is_err());
}

#[test]
fn what_is_wrong_with_a_declaration_in_rust_is_a_problem_of_the_catalogue() {
    let fields = [("name", FieldKind::String)];
    for (declared, words) in [
        (in_rust("project", &fields, "project:deleted"), ["layer \"project\", declared in Rust", "is declared twice"]),
        (
            in_rust("other", &fields, "project:created"),
            ["event \"project:created\", declared in Rust", "is declared twice"],
        ),
        (in_rust("other", &fields, "posthaste:mine"), ["event \"posthaste:mine\"", "the daemon's own"]),
        (
            in_rust("other", &[("a..b", FieldKind::String)], "other:x"),
            ["layer \"other\", declared in Rust", "\"a..b\""],
        ),
    ] {
        let problems = load_both(PROJECT, &declared, "").unwrap_err();
        let told = told(&problems);
        assert_eq!(problems.len(), 1, "{told}");
        assert!(words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
        let line = GOOD.lines().position(|line| line == "[catalogue]").unwrap() + 1;
        assert!(told.contains(&format!("config.toml:{line}: ")), "{told}");
    }
}
