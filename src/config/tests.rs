//! The reader as a whole: each mistake that a person makes is named with file, line and word, all of them at once, and
//! no secret is shown.

use super::*;
use posthaste_events::catalogue::Undeclared;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::time::Duration;

const CANARY: &str = "canary-7f3a";

/// A good configuration: sections as they would be written, to be changed by [`with`].
const GOOD: &str = r#"[daemon]
listen = "127.0.0.1:8321"
data_dir = "data"

[retry]
initial = "5s"
multiplier = 2.0
jitter = 0.25

[outbox]
engine = "sled"

[catalogue]
files = []

[[subscription]]
name = "ops"
deliveree = "webhook"
events = ["project:**"]
url = "https://ops.example.com/hooks"
secrets = ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
timeout = "2s"
"#;

fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    load_in(tempfile::tempdir().unwrap().path(), text, env)
}

fn load_in(folder: &Path, text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let file = folder.join("config.toml");
    std::fs::write(&file, text).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(&file, &env)
}

/// [`GOOD`] with the line that begins with `key` replaced: what stands behind a `section.` is the key.
fn with(line: &str, instead: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    GOOD.replacen(line, instead, 1)
}

fn told(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut all, p| {
        let _ = writeln!(all, "{p}");
        all
    })
}

/// Asserts one problem that stands at the line that contains `at` and names every word.
fn refused(text: &str, at: &str, words: &[&str]) {
    refused_with(text, &[], at, words);
}

fn refused_with(text: &str, env: &[(&str, &str)], at: &str, words: &[&str]) {
    let problems = load_text(text, env).expect_err(text);
    let line = text.lines().position(|l| l.contains(at)).unwrap() + 1;
    let told = told(&problems);
    assert_eq!(problems.len(), 1, "{told}");
    assert!(told.contains(&format!("config.toml:{line}: ")), "line {line}: {told}");
    assert!(words.iter().all(|w| told.contains(w)), "{words:?}: {told}");
    assert!(!told.contains("whsec_A"), "{told}");
}

#[test]
fn a_good_configuration_is_read() {
    let config = load_text(GOOD, &[]).unwrap_or_else(|p| panic!("{}", told(&p)));
    assert_eq!(config.daemon.listen.to_string(), "127.0.0.1:8321");
    assert_eq!(config.subscriptions[0].name, "ops");
    assert_eq!(config.subscriptions[0].concurrency, 32);
    assert_eq!(config.subscriptions[0].selectors[0].events[0].as_str(), "project:**");
    assert_eq!(config.outbox, OutboxLimits::default());
}

#[test]
fn an_unknown_section_is_named() {
    refused(&format!("{GOOD}\n[outbux]\nengine = \"sled\"\n"), "[outbux]", &["outbux", "did you mean `outbox`?"]);
}

#[test]
fn an_unknown_key_is_named() {
    refused(&with("listen =", "lissten ="), "lissten", &["[daemon]", "lissten", "did you mean `listen`?"]);
}

#[test]
fn an_unknown_key_of_a_subscription_is_named_without_its_value() {
    let text = with("timeout = \"2s\"", &format!("timeout = \"2s\"\nurll = \"{CANARY}\""));
    refused(&text, "urll", &["subscription \"ops\"", "urll", "did you mean `url`?"]);
    assert!(!told(&load_text(&text, &[]).unwrap_err()).contains(CANARY));
}

#[test]
fn a_duration_without_unit_is_named() {
    refused(&with("initial = \"5s\"", "initial = \"5\""), "initial", &["[retry]", "initial = \"5\"", "250ms"]);
}

#[test]
fn a_duration_as_number_is_named() {
    refused(&with("initial = \"5s\"", "initial = 5"), "initial", &["initial = 5", "an integer"]);
}

#[test]
fn an_unknown_unit_is_named() {
    refused(&with("timeout = \"2s\"", "timeout = \"5 parsecs\""), "timeout", &["ops", "timeout", "5 parsecs"]);
}

#[test]
fn a_multiplier_below_one_is_named() {
    refused(&with("multiplier = 2.0", "multiplier = 0.5"), "multiplier", &["multiplier = 0.5", "from 1"]);
    refused(&with("multiplier = 2.0", "multiplier = nan"), "multiplier", &["multiplier"]);
    refused(&with("multiplier = 2.0", "multiplier = \"2\""), "multiplier", &["a string, not a number"]);
    assert!(load_text(&with("multiplier = 2.0", "multiplier = 2"), &[]).is_ok());
}

#[test]
fn a_jitter_above_one_is_named() {
    refused(&with("jitter = 0.25", "jitter = 7.0"), "jitter", &["jitter = 7", "from 0 to 1"]);
}

#[test]
fn an_initial_wait_longer_than_the_longest_is_named() {
    refused(&with("initial = \"5s\"", "initial = \"7h\""), "initial", &["initial = \"7h\"", "max = \"6h\""]);
    let own = with("timeout = \"2s\"", "retry = { max = \"1s\" }");
    refused(&own, "max = \"1s\"", &["ops", "initial = \"5s\"", "max = \"1s\""]);
}

#[test]
fn a_missing_variable_is_named() {
    let text = with("secrets = [", "secrets = [\"env:POSTHASTE_NO_SUCH\", ");
    let problems = load_text(&text, &[]).unwrap_err();
    assert!(told(&problems).contains("POSTHASTE_NO_SUCH is not set"), "{}", told(&problems));
}

#[test]
fn a_missing_file_is_named() {
    let text = with("secrets = [", "secrets = [\"file:no/such/file\", ");
    let problems = load_text(&text, &[]).unwrap_err();
    assert!(told(&problems).contains("no/such/file cannot be read"), "{}", told(&problems));
}

#[test]
fn a_missing_catalogue_file_is_named() {
    refused(&with("files = []", "files = [\"nowhere.toml\"]"), "nowhere", &["[catalogue]", "nowhere.toml"]);
    refused(&with("files = []\n", ""), "[catalogue]", &["events.toml", "files = []"]);
}

#[test]
fn a_name_that_stands_twice_is_named() {
    let text = format!("{GOOD}\n[[subscription]]\ndeliveree = \"console\"\n  name = \"ops\"\n");
    refused(&text, "  name = \"ops\"", &["ops", "another subscription"]);
}

#[test]
fn names_are_short_and_plain() {
    for name in ["", "a b", "ä", &"x".repeat(65)] {
        let text = with("name = \"ops\"", &format!("name = \"{name}\""));
        refused(&text, "name =", &["name", "A-Z"]);
    }
    assert!(load_text(&with("name = \"ops\"", &format!("name = \"{}\"", "x".repeat(64))), &[]).is_ok());
    refused(&with("name = \"ops\"\n", ""), "[[subscription]]", &["name is missing"]);
}

#[test]
fn an_unknown_deliveree_is_named() {
    refused(&with("\"webhook\"", "\"pigeon\""), "pigeon", &["ops", "pigeon", "`console`", "`webhook`"]);
    refused(&with("\"webhook\"", "\"webhok\""), "webhok", &["did you mean `webhook`?"]);
    refused(&with("deliveree = \"webhook\"\n", ""), "[[subscription]]", &["deliveree is missing"]);
}

#[test]
fn wrong_patterns_are_named() {
    refused(&with("\"project:**\"", "\"a::b\""), "a::b", &["ops", "a::b", "segment is empty"]);
    refused(&with("\"project:**\"", "\"Project:**\""), "Project", &["Project:**", "'P'"]);
    refused(&with("[\"project:**\"]", "[]"), "events", &["events is empty"]);
    refused(&with("[\"project:**\"]", "\"project:**\""), "events", &["a string, not an array"]);
    refused(&with("[\"project:**\"]", "[7]"), "events", &["an integer, not a string"]);
}

#[test]
fn wrong_urls_are_named() {
    refused(&with("https://ops.example.com", ""), "url =", &["ops", "url"]);
    refused(&with("https://", "ftp://"), "url =", &["ops", "url"]);
    refused(&with("url = \"https://ops.example.com/hooks\"\n", ""), "[[subscription]]", &["ops", "url"]);
    refused(&with("ops.example.com", "127.0.0.1"), "url =", &["ops", "url"]);
}

#[test]
fn orderings_and_formats_and_rates_are_judged() {
    let key = |line: &str| with("timeout = \"2s\"", line);
    refused(&key("ordering = \"alphabetical\""), "ordering", &["ops", "alphabetical", "`none`"]);
    refused(&key("format = \"morse\""), "format", &["ops", "morse"]);
    refused(&key("rate_limit = \"fast\""), "rate_limit", &["ops", "fast", "100/s"]);
    refused(&key("concurrency = 0"), "concurrency", &["ops", "concurrency = 0", "from 1"]);
}

#[test]
fn an_unknown_engine_is_named() {
    refused(&with("engine = \"sled\"", "engine = \"clay\""), "engine", &["[outbox]", "clay", "`sled`"]);
}

#[test]
fn an_unreadable_address_is_named() {
    refused(&with("127.0.0.1:8321", "nowhere"), "listen", &["[daemon]", "listen = \"nowhere\"", "127.0.0.1:8321"]);
}

#[test]
fn wrong_secrets_are_named_and_never_shown() {
    let inner = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for secret in ["whsec_", "whsec_AAECAwQFBgc=", "whsec_!!!!not*base64!!!!!!!!!!!!!!!!!!!", &inner[6..]] {
        let text = with(inner, secret);
        let problems = load_text(&text, &[]).expect_err(secret);
        let told = told(&problems);
        assert!(told.contains("subscription \"ops\"") && told.contains("secret"), "{told}");
        assert!(!told.contains("AAEC") && !told.contains("not*base64"), "{told}");
    }
}

fn token(rest: &str) -> String {
    with("data_dir = \"data\"", &format!("tokens = [{{ {rest} }}]"))
}

#[test]
fn wrong_tokens_are_named_and_never_shown() {
    let good = format!("token = \"{CANARY}-0123456789\"");
    for (rest, words) in [
        (format!("name = \"a\", {good}, scopes = [\"fly\"]"), ["fly", "unknown scope"]),
        (format!("name = \"a\", {good}, scopes = []"), ["scopes is empty", "`record`"]),
        (format!("name = \"a\", {good}"), ["scopes", "missing"]),
        (format!("{good}, scopes = [\"read\"]"), ["name", "missing"]),
        ("name = \"a\", scopes = [\"read\"]".to_owned(), ["token", "missing"]),
        ("name = \"a\", token = \"canary-7f3a\", scopes = [\"read\"]".to_owned(), ["token", "16"]),
        (format!("name = \"a\", {good}, scopes = [\"read\"], tenant = \"\""), ["tenant", "256"]),
        (format!("name = \"a\", {good}, scopes = [\"read\"], scope = \"x\""), ["unknown key `scope`", "scopes"]),
    ] {
        let text = token(&rest);
        refused(&text, "tokens =", &words);
        assert!(!told(&load_text(&text, &[]).unwrap_err()).contains(CANARY));
    }
    let twice =
        token(&format!("name = \"a\", {good}, scopes = [\"read\"] }}, {{ name = \"b\", {good}, scopes = [\"read\"]"));
    refused(&twice, "tokens =", &["same token"]);
}

#[test]
fn a_good_token_is_read() {
    let config = load_text(
        &token("name = \"app\", token = \"env:APP_TOKEN\", scopes = [\"record\", \"read\"], tenant = \"acme\""),
        &[("APP_TOKEN", "0123456789abcdef")],
    )
    .unwrap_or_else(|p| panic!("{}", told(&p)));
    let token = &config.daemon.tokens[0];
    assert_eq!((token.name.as_str(), token.token.reveal()), ("app", "0123456789abcdef"));
    assert_eq!((token.scopes.as_slice(), token.tenant.as_deref()), (&[Scope::Record, Scope::Read][..], Some("acme")));
}

#[test]
fn off_loopback_it_wants_tokens() {
    for address in ["0.0.0.0", "[::]", "10.1.2.3", "[::ffff:10.1.2.3]"] {
        let text = with("127.0.0.1", address);
        refused(&text, "listen =", &["listen", "tokens"]);
        let token = "tokens = [{ name = \"a\", token = \"0123456789abcdef\", scopes = [\"admin\"] }]";
        assert!(load_text(&text.replace("data_dir = \"data\"", token), &[]).is_ok());
        refused(&text.replace("data_dir = \"data\"", "tokens = []"), "listen =", &["listen", "tokens"]);
    }
    assert!(load_text(&with("127.0.0.1", "[::1]"), &[]).is_ok());
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
            if let Err(problems) = load_text(&format!("{text}\n{key} = {value}\n"), &[("X", CANARY)]) {
                assert!(!told(&problems).contains(CANARY), "{key}: {}", told(&problems));
            }
        }
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
    assert_eq!(config.allow_networks[0].to_string(), "10.0.0.0/8");
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
    let more = |text: &str| format!("{GOOD}\n{text}\n");
    for (text, at) in [
        (key("ordering = \"key\""), "ordering"),
        (key("rate_limit = \"100/s\""), "rate_limit"),
        (key("filter = \"data.total > 100\""), "filter"),
        (key("format = \"slack\""), "format"),
        (with("engine = \"sled\"", "engine = \"postgres\"\nurl = \"postgres://x\""), "engine"),
        (with("data_dir = \"data\"", "encryption_key = \"c2VjcmV0\""), "encryption_key"),
        (with("name = \"ops\"\ndeliveree = \"webhook\"", "name = \"ops\"\ndeliveree = \"analytics\""), "deliveree"),
        (more("[telemetry]\nenabled = false"), "enabled"),
        (more("[telemetry]\ntime_grain = \"2h\""), "time_grain"),
        (more("[relay]\ntypes = [\"a:**\"]"), "types = [\"a"),
        (more("[relay]\norigins = [\"https://example.com\"]"), "origins"),
        (more("[relay]\nrate_limit = \"5/s\""), "rate_limit"),
    ] {
        refused(&text, at, &["not built yet", at.split(' ').next().unwrap()]);
    }
    let defaults = "[telemetry]\nenabled = true\ntime_grain = \"1h\"\n[relay]\ntypes = [\"**\"]\norigins = []\nrate_limit = \"50/s\"";
    assert!(load_text(&more(defaults), &[]).is_ok());
    assert!(load_text(&key("ordering = \"none\"\nformat = \"standard\""), &[]).is_ok());
}

#[test]
fn conditions_are_strings_numbers_and_booleans_on_paths() {
    let key = |line: &str| with("timeout = \"2s\"", line);
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
    let base = with("events = [\"project:**\"]\n", "");
    let sets = "\n[[subscription.match]]\nevents = [\"a:**\"]\n[[subscription.match]]\nevents = [\"b:c\"]\nwhere = { n = 1 }\n";
    let config = load_text(&format!("{base}{sets}"), &[]).unwrap_or_else(|p| panic!("{}", told(&p)));
    let selectors = &config.subscriptions[0].selectors;
    assert_eq!((selectors.len(), selectors[1].wheres.len()), (2, 1));
    refused(&format!("{GOOD}{sets}"), "events = [\"project", &["events", "beside [[subscription.match]]"]);
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

fn load_catalogue(events: &str) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), events).unwrap();
    load_in(folder.path(), &with("files = []", "files = [\"events.toml\"]"), &[])
}

#[test]
fn the_catalogue_declares_types() {
    let text = "[event.\"a:b\"]\ntitle = \"A\"\nexample = { n = 1 }\n[event.c]\nretired = true\n";
    let catalogue = load_catalogue(text).unwrap_or_else(|p| panic!("{}", told(&p))).catalogue;
    assert_eq!(catalogue.undeclared, Undeclared::Reject);
    let said: Vec<_> = catalogue.types.iter().map(|(t, d)| (t.as_str(), d.title.as_deref(), d.retired)).collect();
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

#[test]
fn a_control_character_in_a_value_cannot_reach_the_terminal() {
    let told = told(&load_text(&with("127.0.0.1:8321", "\\u001b[2J\\nx"), &[]).unwrap_err());
    assert!(!told.contains('\u{1b}') && told.contains("\\u{1b}[2J\\nx") && told.lines().count() == 1, "{told}");
}

/// Values of every type, for keys that expect another.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        Just("nan".to_owned()),
        Just("-inf".to_owned()),
        Just("2024-01-01T00:00:00Z".to_owned()),
        "[a-zA-Z0-9:/*. -]{0,20}".prop_map(|s| format!("\"{s}\"")),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|v| format!("[{}]", v.join(", "))),
            ("[a-z]{1,8}", inner).prop_map(|(k, v)| format!("{{ {k} = {v} }}")),
        ]
    })
}

const PLACES: [(&str, &[&str]); 10] = [
    ("daemon", &["listen", "data_dir", "body_max", "encryption_key", "tokens"]),
    ("outbox", &["engine", "retention", "retention_max", "idempotency", "free_min", "backlog_max"]),
    ("retry", &["initial", "multiplier", "max", "jitter", "give_up_after", "attempts"]),
    ("network", &["allow_networks"]),
    ("catalogue", &["files", "undeclared"]),
    ("telemetry", &["enabled", "time_grain"]),
    ("relay", &["types", "origins", "rate_limit"]),
    (
        "[subscription]",
        &["name", "deliveree", "events", "where", "filter", "match", "tenant", "url", "secrets", "headers"],
    ),
    (
        "[subscription]",
        &["timeout", "concurrency", "rate_limit", "ordering", "format", "give_up_on", "circuit", "retry"],
    ),
    ("[subscription]", &["https_only", "payload", "backend"]),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,200}") {
        let _ = load_text(&text, &[]);
    }

    #[test]
    fn any_value_at_any_key_is_read_or_refused_without_panic(
        place in 0..PLACES.len(), key in any::<prop::sample::Index>(), value in any_value(), webhook in any::<bool>(),
    ) {
        let (section, keys) = PLACES[place];
        let key = keys[key.index(keys.len())];
        let name = if section.starts_with('[') && key != "deliveree" && webhook { "deliveree = \"webhook\"\n" } else { "" };
        let text = format!("[{section}]\n{name}{key} = {value}\n");
        if let Err(problems) = load_text(&text, &[]) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|p| !p.what.is_empty() && !p.hint.is_empty() && p.to_string().lines().count() == 1));
        }
    }

    #[test]
    fn any_override_is_taken_or_refused_without_panic(name in "[A-Z_]{0,20}", value in "\\PC{0,40}") {
        let _ = load_text(GOOD, &[(&format!("POSTHASTE__{name}"), &value)]);
    }
}
