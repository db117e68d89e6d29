//! `[telemetry]`, `[relay]`, the secret of the installation, and names that are the daemon's.

use super::*;
use posthaste_events::Pattern;
use std::time::Duration;

fn more(text: &str) -> String {
    format!("{GOOD}\n{text}\n")
}

#[test]
fn telemetry_has_a_grain_or_is_switched_off() {
    let read = |text: &str| load_text(&more(text), &[]).unwrap_or_else(|p| panic!("{}", told(&p))).telemetry;
    let grain = |seconds| Some(TelemetryPolicy { time_grain: Duration::from_secs(seconds) });
    assert_eq!(read(""), grain(3_600));
    assert_eq!(read("[telemetry]\nenabled = true\ntime_grain = \"1m\""), grain(60));
    assert_eq!(read("[telemetry]\ntime_grain = \"7d\""), grain(604_800));
    assert_eq!(read("[telemetry]\nenabled = false\ntime_grain = \"2h\""), None);
    for (line, words) in [
        ("enabled = \"no\"", ["[telemetry]: enabled = \"no\"", "a boolean"]),
        ("time_grain = \"59s\"", ["time_grain = \"59s\" is too short", "\"1m\""]),
        ("time_grain = \"8d\"", ["time_grain = \"8d\" is too long", "\"7d\""]),
        ("time_grain = 1", ["time_grain = 1", "a duration"]),
        ("grain = \"1h\"", ["unknown key `grain`", "time_grain"]),
    ] {
        refused(&more(&format!("[telemetry]\n{line}")), line, &words);
    }
}

#[test]
fn the_relay_has_types_origins_and_a_rate() {
    let read = |text: &str| load_text(&more(text), &[]).unwrap_or_else(|p| panic!("{}", told(&p))).relay;
    let default = read("");
    assert_eq!(default.types.iter().map(Pattern::as_str).collect::<Vec<_>>(), ["**"]);
    assert_eq!((default.origins, default.rate_limit), (Vec::new(), (50, Duration::from_secs(1))));
    let all = "[relay]\ntypes = [\"view:*\", \"a\"]\norigins = [\"https://app.example.com\", \"http://localhost:3000\"]\nrate_limit = \"5/m\"";
    let relay = read(all);
    assert_eq!(relay.types.len(), 2);
    assert_eq!(relay.origins, ["https://app.example.com", "http://localhost:3000"]);
    assert_eq!(relay.rate_limit, (5, Duration::from_secs(60)));
    assert_eq!(read("[relay]\ntypes = []").types, []);
    for (line, words) in [
        ("types = [\"View\"]", ["[relay]: types = \"View\" is no pattern", "project:**"]),
        ("types = \"**\"", ["types = \"**\"", "an array"]),
        ("origins = [\"*\"]", ["origins = \"*\" is no origin", "https://app.example.com"]),
        ("origins = [\"https://app.example.com/\"]", ["is no origin", "scheme, host and port"]),
        ("origins = [\"https://app.example.com:443\"]", ["is no origin", "scheme, host and port"]),
        ("origins = [\"app.example.com\"]", ["is no origin", "scheme, host and port"]),
        ("origins = [\"null\"]", ["is no origin", "scheme, host and port"]),
        ("origins = [\"https://u:p@app.example.com\"]", ["is no origin", "scheme, host and port"]),
        ("origins = [\"HTTPS://app.example.com\"]", ["is no origin", "scheme, host and port"]),
        ("rate_limit = \"fast\"", ["rate_limit = \"fast\" is not a rate", "100/s"]),
        ("rate_limit = \"0/s\"", ["rate_limit = \"0/s\" is not a rate", "100/s"]),
        ("rate = \"1/s\"", ["unknown key `rate`", "rate_limit"]),
    ] {
        refused(&more(&format!("[relay]\n{line}")), line, &words);
    }
}

/// The base64 of 32 bytes of 7.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

#[test]
fn the_secret_of_the_installation_comes_from_a_file_or_a_variable() {
    let key = |line: &str| with("data_dir = \"data\"", line);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), format!("{KEY}\n")).unwrap();
    for text in ["file:key", "env:KEY", KEY] {
        let config = load_in(folder.path(), &key(&format!("encryption_key = \"{text}\"")), &[("KEY", KEY)]).unwrap();
        assert_eq!(config.daemon.encryption_key.as_ref().unwrap().reveal(), &[7; 32], "{text}");
        assert!(!format!("{config:?}").contains("BwcH") && !format!("{config:?}").contains("7, 7"), "{text}");
    }
    let overridden = load_text(GOOD, &[("POSTHASTE__DAEMON__ENCRYPTION_KEY", KEY)]).unwrap();
    assert!(overridden.daemon.encryption_key.is_some());
    assert_eq!(load_text(GOOD, &[]).unwrap().daemon.encryption_key, None);
}

#[test]
fn what_is_no_secret_of_an_installation_is_named_and_never_shown() {
    for wrong in ["", "short", &KEY[..40], &KEY[..43], &KEY.replace('=', "!"), &"A".repeat(88), CANARY] {
        let text = with("data_dir = \"data\"", &format!("encryption_key = \"{wrong}\""));
        refused(&text, "encryption_key", &["[daemon]: encryption_key is not the base64 of 32 bytes", "openssl rand"]);
        let told = told(&load_text(&text, &[]).unwrap_err());
        assert!(wrong.is_empty() || !told.contains(&format!("\"{wrong}\"")), "{told}");
    }
}

#[test]
fn names_of_the_daemons_own_subscriptions_are_taken() {
    for name in ["posthaste-quarantine", "posthaste-x"] {
        let text = with("name = \"ops\"", &format!("name = \"{name}\""));
        refused(&text, "name =", &[name, "the daemon's own"]);
    }
    assert!(load_text(&with("name = \"ops\"", "name = \"posthaste\""), &[]).is_ok());
}
