//! Each mistake that a person makes in one place, named with line and word.

use super::*;

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
        (format!("name = \"a\", {good}, scopes = [\"fly\"]"), ["scopes, entry 1 \"fly\"", "unknown scope"]),
        (format!("name = \"a\", {good}, scopes = [\"{}\"]", "s".repeat(16)), ["scopes, entry 1 is", "unknown scope"]),
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
fn a_secret_at_the_wrong_place_is_never_shown() {
    for wrong in [
        format!("tokens = \"{CANARY}\""),
        format!("tokens = [\"{CANARY}\"]"),
        format!("tokens = {{ a = \"{CANARY}\" }}"),
        format!("tokens = [{{ name = \"{}\" }}]", CANARY.repeat(9)),
        format!("tokens = [{{ tenant = \"{}\" }}]", CANARY.repeat(50)),
        format!("tokens = [{{ scopes = [\"{CANARY}\"] }}]"),
        format!("tokens = [{{ scopes = \"{CANARY}\" }}]"),
        format!("tokens = [{{ tokn = \"{CANARY}\", token = 7 }}]"),
        format!("encryption_key = \"{CANARY}\""),
        format!("encryption_key = [\"{CANARY}\"]"),
    ] {
        let problems = load_text(&with("data_dir = \"data\"", &wrong), &[]).expect_err(&wrong);
        assert!(!told(&problems).contains(CANARY), "{wrong}: {}", told(&problems));
    }
    for (variable, text) in [
        ("POSTHASTE__DAEMON__TOKENS", CANARY.to_owned()),
        ("POSTHASTE__DAEMON__TOKENS", format!("[{{name=\"a\", token=\"{CANARY}\"")),
        ("POSTHASTE__DAEMON__TOKEN", CANARY.to_owned()),
        ("POSTHASTE__DAEMON__ENCRYPTION_KEY", CANARY.to_owned()),
        ("POSTHASTE__DAEMON__TOKENS__A", CANARY.to_owned()),
        ("POSTHASTE__TOKENS", CANARY.to_owned()),
    ] {
        let problems = load_text(GOOD, &[(variable, &text)]).expect_err(variable);
        assert!(told(&problems).contains(variable) && !told(&problems).contains(CANARY), "{}", told(&problems));
    }
    for (line, wrong) in [
        ("url = ", format!("url = \"https://{CANARY}:{CANARY}@ops.example.com\"")),
        ("url = ", format!("url = [\"{CANARY}\"]")),
        ("url = ", format!("url = \"ftp://{CANARY}/\"")),
        ("secrets = ", format!("secrets = \"{CANARY}\"")),
        ("secrets = ", format!("secrets = {{ a = \"{CANARY}\" }}")),
        ("timeout = ", format!("headers = \"{CANARY}\"")),
        ("timeout = ", format!("headers = {{ host = \"{CANARY}\" }}")),
        ("timeout = ", format!("headers = {{ x = [\"{CANARY}\"] }}")),
    ] {
        let old = GOOD.lines().find(|l| l.starts_with(line)).unwrap();
        let problems = load_text(&with(old, &wrong), &[]).expect_err(&wrong);
        assert!(!told(&problems).contains(CANARY), "{wrong}: {}", told(&problems));
    }
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
fn what_stands_for_nothing_is_one_problem_and_what_it_looks_like_is_not_judged() {
    const URL: &str = "url = \"https://ops.example.com/hooks\"";
    const SECRETS: &str = "secrets = [\"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"]";
    for (line, instead) in [
        (URL, "url = \"env:NOT_SET\""),
        (URL, "url = \"file:not-there\""),
        (SECRETS, "secrets = [\"env:NOT_SET\"]"),
        (SECRETS, "secrets = [{ secret = \"env:NOT_SET\" }]"),
        ("timeout = \"2s\"", "timeout = \"env:NOT_SET\""),
        ("timeout = \"2s\"", "headers = { x-env = \"env:NOT_SET\" }"),
        ("timeout = \"2s\"", "auth = { bearer = \"env:NOT_SET\" }"),
        ("timeout = \"2s\"", "auth = { basic = { user = \"u\", password = \"file:not-there\" } }"),
        ("timeout = \"2s\"", "ca = \"file:not-there\""),
        ("timeout = \"2s\"", "ca = \"env:NOT_SET\""),
        ("timeout = \"2s\"", "rate_limit = \"env:NOT_SET\""),
        ("timeout = \"2s\"", "format = \"env:NOT_SET\""),
        ("timeout = \"2s\"", "signature = \"env:NOT_SET\""),
        ("timeout = \"2s\"", "where = { \"project.uuid\" = \"env:NOT_SET\" }"),
        ("timeout = \"2s\"", "filter = \"env:NOT_SET\""),
        ("name = \"ops\"", "name = \"env:NOT_SET\""),
        ("deliveree = \"webhook\"", "deliveree = \"env:NOT_SET\""),
        ("events = [\"project:**\"]", "events = [\"env:NOT_SET\"]"),
        ("listen = \"127.0.0.1:8321\"", "listen = \"env:NOT_SET\""),
        ("initial = \"5s\"", "initial = \"env:NOT_SET\""),
    ] {
        let problems = load_text(&with(line, instead), &[]).unwrap_err();
        assert_eq!(problems.len(), 1, "{instead}\n{}", told(&problems));
        assert!(told(&problems).contains("NOT_SET is not set") || told(&problems).contains("not-there cannot be read"));
    }
    // Beside it, what is wrong elsewhere is still told.
    let both = with(URL, "url = \"env:NOT_SET\"").replacen("timeout = \"2s\"", "timeout = \"soon\"", 1);
    let problems = load_text(&both, &[]).unwrap_err();
    assert_eq!(problems.len(), 2, "{}", told(&problems));
}
