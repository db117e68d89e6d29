//! The shipped files: good as they are, complete, and equal to the code's defaults.

use super::*;
use std::collections::BTreeSet;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> String {
    std::fs::read_to_string(root().join("config.toml")).unwrap()
}

/// Loads a text as if it stood beside the shipped catalogue.
fn load_beside(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("events.toml"), folder.path().join("events.toml")).unwrap();
    let mut config = load_in(folder.path(), text, &[]).unwrap_or_else(|p| panic!("{}", told(&p)));
    // The folder is another each time.
    config.file = PathBuf::new();
    config.daemon.data_dir = config.daemon.data_dir.strip_prefix(folder.path()).unwrap().to_owned();
    config
}

#[test]
fn the_shipped_configuration_is_good_and_needs_nothing() {
    let config = load(&root().join("config.toml"), &Env::new()).unwrap_or_else(|p| panic!("{}", told(&p)));
    let names: Vec<_> = config.subscriptions.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["console", "listen"]);
    for wanted in ["project:created", "project:updated", "project:deleted"] {
        assert!(config.catalogue.types().any(|(t, _)| t.as_str() == wanted), "{wanted}");
    }
    assert!(config.subscriptions[0].selectors[0].wants_type("posthaste:daemon:started"));
    assert!(config.subscriptions[1].selectors[0].wants_type("project:created"));
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
        name = "listen"
        deliveree = "webhook"
        events = ["project:**"]
        url = "http://127.0.0.1:8322/"
        secrets = ["whsec_dGhpcy1zZWNyZXQtaXMtZm9yLWRldmVsb3BtZW50LW9ubHk="]
    "#;
    assert_eq!(format!("{:#?}", load_beside(&shipped())), format!("{:#?}", load_beside(least)));
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
    for kind in ["webhook", "console"] {
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
    let config = load_beside(&text);
    assert_eq!(config.subscriptions[1].tenant.as_deref(), Some("acme"));
    assert_eq!(config.subscriptions[1].retry.attempts, Some(10));
    assert_eq!(config.subscriptions[0].retry.attempts, Some(30));
}
