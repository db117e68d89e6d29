//! Whatever is written is read or refused, never a panic.

use super::catalogue::load_catalogue;
use super::*;
use proptest::prelude::*;

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
    ("daemon", &["listen", "data_dir", "body_max", "encryption_key", "previous_encryption_keys", "tokens"]),
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

/// Tables of a catalogue, each with its keys.
const DECLARED: [(&str, &[&str]); 3] = [
    ("[layer.\"a:b\"]\n", &["parent", "at", "fields", "fields.x", "fields.x.type", "fields.\"x.*\""]),
    ("[event.\"a:b:c\"]\n", &["layer", "title", "fields", "example", "retired", "audience"]),
    (
        "[event.\"a:b:c\".fields.f]\ntype = \"number\"\n",
        &[
            "required",
            "nullable",
            "description",
            "minimum",
            "maximum",
            "length_max",
            "values",
            "sensitive",
            "identity",
            "audience",
            "telemetry",
            "bucket",
            "as",
        ],
    ),
];

/// Pieces of TOML that meet in ways nobody writes.
fn any_pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "#",
        "\\",
        "\r",
        "\u{feff}",
        "\0",
        " ",
        "[[subscription]]\n",
        "[layer.a]\n",
        "[event.\"a:b\"]\n",
        "fields",
        "type",
        "\"string\"",
        "telemetry",
        "\"*\"",
        "[daemon]\n",
        "[retry]\n",
        "name",
        "deliveree",
        "events",
        "where",
        "match",
        "tokens",
        "listen",
        "\"webhook\"",
        "\"env:X\"",
        "\"file:.\"",
        "1",
        "-1",
        "1e9",
        "inf",
        "nan",
        "true",
        "0x7f",
        "1979-05-27",
        "é",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn nesting_without_end_is_refused_or_read_within_the_stack() {
    let dotted = ["a"; 79].join(".");
    let tables = format!("{}1{}", format!("{{ {dotted} = ").repeat(78), " }".repeat(78));
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}{}", "[".repeat(79), "]".repeat(79)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{dotted}]\n{dotted} = {tables}"),
        format!("[[subscription]]\nwhere.{dotted} = {tables}"),
        format!("[[subscription]]\ndeliveree = \"webhook\"\nheaders.{dotted} = {tables}"),
        "[a]\n".repeat(10_000),
    ] {
        assert!(load_text(&text, &[]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,200}") {
        let _ = load_text(&text, &[]);
    }

    #[test]
    fn any_pieces_are_read_or_refused_without_panic(text in any_pieces()) {
        let _ = load_text(&text, &[]);
        let _ = load_catalogue(&text);
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
    fn any_value_at_any_key_of_a_catalogue_is_read_or_refused_without_panic(
        place in 0..DECLARED.len(), first in any::<prop::sample::Index>(), second in any::<prop::sample::Index>(),
        values in prop::array::uniform2(any_value()),
    ) {
        let (table, keys) = DECLARED[place];
        let [first, second] = [first, second].map(|index| keys[index.index(keys.len())]);
        let mut text = format!("{table}{first} = {}\n", values[0]);
        if first != second {
            text += &format!("{second} = {}\n", values[1]);
        }
        if let Err(problems) = load_catalogue(&text) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|p| !p.what.is_empty() && !p.hint.is_empty() && p.to_string().lines().count() == 1));
        }
    }

    #[test]
    fn any_override_is_taken_or_refused_without_panic(name in "[A-Z_]{0,20}", value in "\\PC{0,40}") {
        let _ = load_text(GOOD, &[(&format!("POSTHASTE__{name}"), &value)]);
    }
}
