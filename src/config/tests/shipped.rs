//! The shipped files: good as they are, complete, and equal to the code's defaults.

use super::*;
use posthaste_events::filter::Filter;
use posthaste_events::matching::Selector;
use posthaste_events::{EventType, Takes};
use std::collections::BTreeSet;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> String {
    std::fs::read_to_string(root().join("config.toml")).unwrap()
}

/// A folder with the shipped catalogue.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("events.toml"), folder.path().join("events.toml")).unwrap();
    folder
}

/// Loads a text as if it stood beside the shipped catalogue.
fn load_beside(text: &str, folder: &tempfile::TempDir) -> Config {
    load_in(folder.path(), text, &[]).unwrap_or_else(|p| panic!("{}", told(&p)))
}

#[test]
fn the_shipped_configuration_is_good_and_needs_nothing() {
    let config = load(&root().join("config.toml"), &Env::new()).unwrap_or_else(|p| panic!("{}", told(&p)));
    let names: Vec<_> = config.subscriptions.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["console", "telemetry", "listen"]);
    for wanted in ["project:created", "project:updated", "project:deleted"] {
        assert!(config.catalogue.types().any(|(t, _)| t.as_str() == wanted), "{wanted}");
    }
    assert!(config.subscriptions[0].selectors[0].wants_type("posthaste:daemon:started"));
    assert!(config.subscriptions[2].selectors[0].wants_type("project:created"));
    assert_eq!(config.subscriptions[1].parsed.takes, Takes::Telemetry);
    assert_eq!(config.subscriptions[1].selectors, [Selector::default()]);
}

#[test]
fn what_it_writes_out_are_the_defaults() {
    // The least that says the same: what is left out here stands in the shipped file with its default.
    let least = r#"
        network.allow_networks = ["127.0.0.0/8"]
        [[subscription]]
        name = "console"
        deliveree = "console"
        events = ["**", "posthaste:**"]
        [[subscription]]
        name = "telemetry"
        deliveree = "analytics"
        backend = "file"
        path = "data/telemetry.ndjson"
        [[subscription]]
        name = "listen"
        deliveree = "webhook"
        events = ["project:**"]
        url = "http://127.0.0.1:8322/"
        secrets = ["whsec_dGhpcy1zZWNyZXQtaXMtZm9yLWRldmVsb3BtZW50LW9ubHk="]
    "#;
    let folder = folder();
    assert_eq!(format!("{:#?}", load_beside(&shipped(), &folder)), format!("{:#?}", load_beside(least, &folder)));
}

/// The keys that readers ask for, from what they answer to one that nobody knows.
pub(super) fn known_keys(text: &str) -> BTreeSet<String> {
    let problems = load_text(text, &[]).unwrap_err();
    let unknown = problems.iter().find(|p| p.what.contains("unknown")).unwrap_or_else(|| panic!("{}", told(&problems)));
    unknown.hint.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_setting_that_the_code_reads_stands_in_it() {
    const NOBODY: &str = "zzzzzzzzzzzzzzzzzz = 1";
    let text = shipped();
    let shows = |key: &str| {
        let is = |line: &str| {
            let line = line.trim_start_matches('#');
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
                || line.contains(&format!("[{key}]"))
                || line.contains(&format!("{{ {key} = "))
                || line.contains(&format!(", {key} = "))
                || line.contains(&format!("[[subscription.{key}]]"))
        };
        text.lines().any(is)
    };
    let sections = ["daemon", "outbox", "retry", "network", "catalogue", "telemetry", "relay"];
    let mut seen = 0;
    for section in sections {
        for key in known_keys(&format!("[{section}]\n{NOBODY}\n[[subscription]]\n")) {
            assert!(shows(&key), "[{section}] {key}");
            seen += 1;
        }
    }
    for kind in ["webhook", "console", "analytics"] {
        let keys = known_keys(&format!(
            "[catalogue]\nfiles = []\n[[subscription]]\nname = \"a\"\ndeliveree = \"{kind}\"\n{NOBODY}\n"
        ));
        for key in keys {
            assert!(shows(&key), "{kind}: {key}");
            seen += 1;
        }
    }
    assert!(known_keys(&format!("[zzzzzzzzzzzzzzzzzz]\n{NOBODY}")).len() >= sections.len());
    assert!(seen > 40, "{seen}");
    assert!(!shows("zzz"));
}

#[test]
fn what_it_comments_out_is_built_or_said_not_to_be() {
    // With every `#key` put in force, only what says "not built yet" is refused.
    let text: String = shipped()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) && !line.contains("not built yet") => {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        // The sets of `match` stand instead of `events`, so they are tried by themselves elsewhere.
        .take_while(|line| !line.starts_with("# Several sets"))
        .collect();
    // A key of one's own is made, not shipped.
    let text = text.replace("encryption_key = \"file:key\"", "");
    let config = load_beside(&text, &folder());
    let listen = &config.subscriptions[2];
    assert_eq!((listen.tenant.as_deref(), listen.retry.attempts), (Some("acme"), Some(10)));
    assert_eq!(listen.selectors[0].filter.as_ref().map(Filter::as_str), Some("size(data.name) > 0"));
    assert_eq!(listen.selectors[0].wheres.len(), 1);
    assert_eq!(config.subscriptions[0].retry.attempts, Some(30));
}

/// What the first steps of the README send, and every example of the catalogue, is taken and told.
#[test]
fn what_the_pages_send_fits_the_shipped_catalogue_and_its_telemetry_tells_something() {
    let catalogue = load(&root().join("config.toml"), &Env::new()).unwrap().catalogue;
    for (name, properties) in [
        ("project:created", serde_json::json!({})),
        ("project:created", serde_json::json!({ "name": "x" })),
        ("project:updated", serde_json::json!({ "name": "y" })),
        ("project:deleted", serde_json::json!({})),
        ("shop:order:placed", serde_json::json!({ "order": "o-1", "total": 42.5, "currency": "EUR" })),
        ("shop:order:paid", serde_json::json!({ "order": "o-1", "total": 42.5, "currency": "EUR" })),
        ("shop:order:shipped", serde_json::json!({ "order": "o-1", "parcel": "p-1" })),
    ] {
        let declared = catalogue.get(&EventType::parse(name).unwrap()).unwrap();
        assert_eq!(declared.check(&properties), [], "{name}");
    }
    let mut rules = BTreeSet::new();
    for (name, declared) in catalogue.types() {
        let example = serde_json::Value::Object(declared.example.clone().unwrap_or_else(|| panic!("{name}")));
        let leaves = declared.telemetry(name, &example).unwrap();
        assert!(
            leaves.len() > format!(r#"{{"event":"{name}","event_properties":{{}},"derived_properties":{{}}}}"#).len(),
            "{leaves}"
        );
        for hidden in ["o-1", "SPRING", "ada@", "b-7", "p-1", "42.5"] {
            assert!(!leaves.contains(hidden), "{leaves}");
        }
        let endings =
            ["_count\"", "_sum", "_distinct", "_count_by", "_present", "_bucket", "_length_bucket", "currency"];
        rules.extend(endings.into_iter().filter(|ending| leaves.contains(ending)));
    }
    assert_eq!(rules.len(), 8, "{rules:?}");
}

#[test]
fn the_configurations_of_the_examples_are_good() {
    let examples = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for file in examples.map(|path| path.join("config.toml")).filter(|path| path.is_file()) {
        load(&file, &Env::new()).unwrap_or_else(|p| panic!("{}", told(&p)));
        seen += 1;
    }
    assert!(seen > 0);
}
