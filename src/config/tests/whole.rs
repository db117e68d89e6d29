//! Several places at once: all problems, values from outside, overrides, what is not built, sets and circuits.

use super::*;
use std::time::Duration;

/// The same, taking events of any type, so that any path may stand in a condition.
fn accepting(text: &str) -> String {
    text.replace("files = []", "files = []\nundeclared = \"accept\"")
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_file() {
    let text = with("listen =", "lissten =")
        .replace("\"5s\"", "\"5\"")
        .replace("\"webhook\"", "\"pigeon\"")
        .replace("timeout =", "urll = \"x\"\ntimeout =");
    let problems = load_text(&text, &[]).unwrap_err();
    let words: Vec<_> = ["lissten", "initial", "pigeon", "urll"].into_iter().collect();
    assert_eq!(problems.len(), words.len(), "{}", told(&problems));
    for (problem, word) in problems.iter().zip(words) {
        assert!(problem.to_string().contains(word), "{word}: {problem}");
    }
}

#[test]
fn what_is_no_toml_is_refused_without_showing_it() {
    let text = format!("[daemon]\ntoken = \"{CANARY}\nlisten = ");
    let told = told(&load_text(&text, &[]).unwrap_err());
    assert!(told.contains("config.toml:2: ") && !told.contains(CANARY), "{told}");
    let missing = load(Path::new("no-such-file.toml"), &Env::new()).unwrap_err();
    assert!(missing[0].to_string().starts_with("no-such-file.toml:1: "), "{}", missing[0]);
}

#[test]
fn values_come_from_variables_and_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("where"), "elsewhere\r\n").unwrap();
    let text = with("\"data\"", "\"file:where\"").replace("\"127.0.0.1:8321\"", "\"env:LISTEN\"");
    let config = load_in(folder.path(), &text, &[("LISTEN", "127.0.0.1:99")]).unwrap();
    assert_eq!(config.daemon.data_dir, folder.path().join("elsewhere"));
    assert_eq!(config.daemon.listen.port(), 99);
}

#[test]
fn what_comes_from_outside_is_never_shown() {
    for line in [
        "listen = \"env:X\"",
        "data_dir = \"env:X\"\nlisten = \"env:X\"",
        "tokens = [{ name = \"a\", token = \"env:X\" }]",
    ] {
        let problems = load_text(&with("listen = \"127.0.0.1:8321\"\ndata_dir = \"data\"", line), &[("X", CANARY)]);
        assert!(!told(&problems.unwrap_err()).contains(CANARY), "{line}");
    }
    for key in ["url", "timeout", "format", "headers", "give_up_on", "ordering", "rate_limit", "secrets", "where"] {
        for value in ["\"env:X\"", "[\"env:X\"]", "{ a = \"env:X\" }"] {
            let text = with("url = \"https://ops.example.com/hooks\"", "").replace("timeout = \"2s\"", "");
            let text = text.replace("secrets = [", "# [");
            // What is quoted is written otherwise, and still hidden.
            for outside in [CANARY.to_owned(), format!("\"{CANARY}\t\"")] {
                if let Err(problems) = load_text(&format!("{text}\n{key} = {value}\n"), &[("X", &outside)]) {
                    assert!(!told(&problems).contains(CANARY), "{key}: {}", told(&problems));
                }
            }
        }
    }
}

#[test]
fn what_comes_from_outside_is_listed_as_it_was_written() {
    let text = accepting(&with("timeout = \"2s\"", "where = { a = \"env:X\" }"));
    let config = load_text(&text, &[("X", CANARY)]).unwrap_or_else(|p| panic!("{}", told(&p)));
    let subscription = &config.subscriptions[0];
    assert_eq!(subscription.selectors[0].wheres[0].equals, CANARY);
    assert!(!format!("{:?}", subscription.shown).contains(CANARY));
}

#[test]
fn a_subscription_has_another_mark_where_its_settings_or_the_hidden_part_of_its_url_changed() {
    let mark = |text: &str| load_text(text, &[]).unwrap().subscriptions[0].mark;
    let good = mark(GOOD);
    assert_eq!(mark(&with("[outbox]", "\n\n[outbox]")), good, "where it stands is nothing of it");
    assert_eq!(mark(&with("initial = \"5s\"", "initial = \"6s\"")), good);
    for (old, new) in [("com/hooks", "com/other"), ("\"2s\"", "\"3s\"")] {
        assert_ne!(mark(&with(old, new)), good, "{new}");
    }
}

#[test]
fn a_variable_overrides_a_key() {
    let env = [
        ("POSTHASTE__DAEMON__LISTEN", "127.0.0.1:77"),
        ("POSTHASTE__DAEMON__DATA_DIR", "2024"),
        ("POSTHASTE__RETRY__JITTER", "0.5"),
        ("POSTHASTE__NETWORK__ALLOW_NETWORKS", "[\"10.0.0.0/8\"]"),
        ("POSTHASTE_URL", "not ours"),
    ];
    let config = load_text(GOOD, &env).unwrap_or_else(|p| panic!("{}", told(&p)));
    assert_eq!(config.daemon.listen.port(), 77);
    assert!(config.daemon.data_dir.ends_with("2024"));
    assert!((config.subscriptions[0].retry.jitter - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.networks.allow[0].to_string(), "10.0.0.0/8");
}

#[test]
fn a_wrong_override_is_named_by_its_variable() {
    for (variable, value, word) in [
        ("POSTHASTE__DAEMON__LISSTEN", "x", "did you mean `listen`?"),
        ("POSTHASTE__DEMON__LISTEN", "x", "did you mean `daemon`?"),
        ("POSTHASTE__DAEMON", "x", "names no key"),
        ("POSTHASTE__A__B__C", "x", "names no key"),
        ("POSTHASTE__SUBSCRIPTION__URL", "x", "no section"),
        ("POSTHASTE__RETRY__INITIAL", "5", "is not a duration"),
        ("POSTHASTE__RETRY__JITTER", "much", "a string, not a number"),
    ] {
        let problems = load_text(GOOD, &[(variable, value)]).expect_err(variable);
        let told = told(&problems);
        assert!(problems.len() == 1 && told.starts_with(variable) && told.contains(word), "{told}");
    }
}

#[test]
fn a_feature_that_is_not_built_is_refused_by_name() {
    let key = |line: &str| with("timeout = \"2s\"", line);
    let text = with("engine = \"sled\"", "engine = \"postgres\"\nurl = \"postgres://x\"");
    refused(&text, "engine", &["not built yet", "engine"]);
    assert!(load_text(&key("ordering = \"none\"\nformat = \"standard\""), &[]).is_ok());
}

#[test]
fn conditions_are_strings_numbers_and_booleans_on_paths() {
    let key = |line: &str| accepting(&with("timeout = \"2s\"", line));
    let text = key("where = { \"project.uuid\" = \"p\", n = 1, ok = true }");
    let wheres = load_text(&text, &[]).unwrap().subscriptions[0].selectors[0].wheres.clone();
    assert_eq!(wheres.len(), 3);
    assert_eq!(wheres[0].path, ["project", "uuid"]);
    // TOML reads dots outside quotes as tables; the same is meant.
    let dotted =
        load_text(&key("where.project.uuid = \"p\""), &[]).unwrap().subscriptions[0].selectors[0].wheres.clone();
    assert_eq!(dotted, wheres[..1]);
    refused(&key("where = { a = [1] }"), "where", &["where: \"a\" = […]", "an array"]);
    refused(&key("where = { a = 2024-01-01 }"), "where", &["a date"]);
    refused(&key("where = { \"a..b\" = 1 }"), "where", &["a..b", "empty name"]);
    refused(&key("where = { a = nan }"), "where", &["no number of JSON"]);
    refused(&key("where = \"a\""), "where", &["where = \"a\"", "no table"]);
}

#[test]
fn several_sets_stand_in_match() {
    let base = accepting(&with("events = [\"project:**\"]\n", ""));
    let sets = "\n[[subscription.match]]\nevents = [\"a:**\"]\n[[subscription.match]]\nevents = [\"b:c\"]\nwhere = { n = 1 }\n";
    let config = load_text(&format!("{base}{sets}"), &[]).unwrap_or_else(|p| panic!("{}", told(&p)));
    let selectors = &config.subscriptions[0].selectors;
    assert_eq!((selectors.len(), selectors[1].wheres.len()), (2, 1));
    refused(&format!("{}{sets}", accepting(GOOD)), "events = [\"project", &["events", "beside [[subscription.match]]"]);
    refused(&format!("{base}{sets}evnts = []\n"), "evnts", &["match 2", "did you mean `events`?"]);
    refused(&base.replace("timeout = \"2s\"", "match = []"), "match", &["match", "1 to 32"]);
}

#[test]
fn circuits_are_tables_or_false() {
    let key = |line: &str| load_text(&with("timeout = \"2s\"", line), &[]).map(|c| c.subscriptions[0].circuit);
    assert_eq!(key("circuit = false").unwrap(), None);
    assert_eq!(key("").unwrap(), Some(posthaste_actors::settings::Circuit::default()));
    let own = key("circuit = { failures = 3 }").unwrap().unwrap();
    assert_eq!((own.failures, own.pause), (3, Duration::from_secs(30)));
    for wrong in ["true", "\"off\"", "{ failures = 0 }", "{ over = \"0s\" }", "{ paus = \"1s\" }"] {
        assert_eq!(key(&format!("circuit = {wrong}")).unwrap_err().len(), 1, "{wrong}");
    }
}

#[test]
fn a_subscription_replaces_single_keys_of_retry() {
    let config = load_text(&with("timeout = \"2s\"", "retry = { attempts = 3 }"), &[]).unwrap();
    let retry = &config.subscriptions[0].retry;
    assert_eq!((retry.attempts, retry.initial), (Some(3), Duration::from_secs(5)));
    refused(&with("timeout = \"2s\"", "retry = { attempts = 0 }"), "attempts", &["ops", "retry", "attempts = 0"]);
    refused(&with("timeout = \"2s\"", "retry = 3"), "retry = 3", &["ops", "retry", "an integer"]);
}

#[test]
fn a_control_character_in_a_value_cannot_reach_the_terminal() {
    let told = told(&load_text(&with("127.0.0.1:8321", "\\u001b[2J\\nx"), &[]).unwrap_err());
    assert!(!told.contains('\u{1b}') && told.contains("\\u{1b}[2J\\nx") && told.lines().count() == 1, "{told}");
}
