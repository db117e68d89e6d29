//! Catalogue files.

use super::*;
use posthaste_events::catalogue::Undeclared;

/// Loads the good configuration with this as its catalogue.
pub(super) fn load_catalogue(events: &str) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), events).unwrap();
    load_in(folder.path(), &with("files = []", "files = [\"events.toml\"]"), &[])
}

#[test]
fn the_catalogue_declares_types() {
    let text = "[event.\"a:b\"]\ntitle = \"A\"\nexample = { n = 1 }\n[event.c]\nretired = true\n";
    let catalogue = load_catalogue(text).unwrap_or_else(|p| panic!("{}", told(&p))).catalogue;
    assert_eq!(catalogue.undeclared(), Undeclared::Reject);
    let said: Vec<_> = catalogue.types().map(|(t, d)| (t.as_str(), d.title.as_deref(), d.retired)).collect();
    assert_eq!(said, [("a:b", Some("A"), false), ("c", None, true)]);
}

#[test]
fn wrong_catalogues_are_named_with_their_own_file_and_line() {
    for (text, line, words) in [
        ("\n[event.\"A\"]", 2, ["event \"A\"", "no type"]),
        ("[event.\"posthaste:x\"]", 1, ["posthaste:x", "daemon's own"]),
        ("[event.a]\ntitel = \"x\"", 2, ["titel", "did you mean `title`?"]),
        ("[event.a]\ntitle = 1", 2, ["title = 1", "a string"]),
        ("[event.a]\nfields.x = { type = \"string\" }", 2, ["fields", "not built yet"]),
        ("[event.a]\naudience = \"telemetry\"", 2, ["audience", "not built yet"]),
        ("[layer.\"project\"]\nfields.uuid = { type = \"string\" }", 1, ["layer", "not built yet"]),
        ("[events.a]", 1, ["events", "did you mean `event`?"]),
        ("event = 1", 1, ["[event]", "an integer"]),
        ("[event]\na = 1", 2, ["event \"a\"", "an integer"]),
        ("[event.a]\nexample = 1", 2, ["example", "table"]),
        ("[event.a]\n[event.a]", 2, ["events.toml", "duplicate"]),
    ] {
        let problems = load_catalogue(text).expect_err(text);
        let told = told(&problems);
        assert!(problems.len() == 1 && told.contains(&format!("events.toml:{line}: ")), "{text}: {told}");
        assert!(words.iter().all(|w| told.contains(w)), "{words:?}: {told}");
    }
}

#[test]
fn a_type_stands_in_one_file_only() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["a.toml", "b.toml"] {
        std::fs::write(folder.path().join(file), "[event.\"a:b\"]\n").unwrap();
    }
    let problems = load_in(folder.path(), &with("files = []", "files = [\"a.toml\", \"b.toml\"]"), &[]).unwrap_err();
    assert!(told(&problems).contains("b.toml:1: event \"a:b\""), "{}", told(&problems));
}
