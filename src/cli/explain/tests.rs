//! What explain shows of a configuration: who gets an event, what each gets, what is kept.

use super::*;
use crate::config::Env;
use serde_json::{Value, json};

const CONFIG: &str = r#"
[daemon]
data_dir = "data"
[network]
allow_networks = ["127.0.0.0/8"]
[catalogue]
files = ["events.toml"]

[[subscription]]
name = "ops"
deliveree = "webhook"
url = "http://127.0.0.1:9/"
secrets = ["whsec_dGhpcy1zZWNyZXQtaXMtZm9yLWRldmVsb3BtZW50LW9ubHk="]
[[subscription.match]]
events = ["project:job:*"]
where = { "project.uuid" = "p|1" }
[[subscription.match]]
events = ["project:created"]

[[subscription]]
name = "screen"
deliveree = "console"
events = ["**", "posthaste:delivery:dead"]
tenant = "acme"

[[subscription]]
name = "numbers"
deliveree = "console"
payload = "telemetry"
"#;

/// Two layers, a type on each, a retired one, and one for analytics alone.
const CATALOGUE: &str = r#"
[layer."project"]
fields.uuid = { type = "string", required = true, identity = true }
fields.name = { type = "string", sensitive = true, description = "What a *person* calls it" }

[layer."project:job"]
fields.status = { type = "string", values = ["PENDING", "SUCCESS", "FAILURE"], telemetry = "keep" }
fields.parameters = { type = "object", telemetry = "count" }
fields.heartbeat = { type = "boolean", telemetry = "keep", audience = "telemetry" }
fields.seconds = { type = "integer", minimum = 0, nullable = true, bucket = [1, 10], as = "wait" }

[event."project:created"]

[event."project:job:failed"]
title = "A job failed"

[event."project:job:failed".example.project]
uuid = "p1"
name = "Ada's"
job = { status = "FAILURE", parameters = { secret = 1, other = 2 }, heartbeat = true, seconds = 7 }

[event."project:job:old"]
retired = true

[event."view:loaded"]
audience = "telemetry"
"#;

fn config(undeclared: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let files = "files = [\"events.toml\"]";
    std::fs::write(&file, CONFIG.replace(files, &format!("{files}\nundeclared = \"{undeclared}\""))).unwrap();
    std::fs::write(folder.path().join("events.toml"), CATALOGUE).unwrap();
    config::load(&file, &Env::new()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn printed(config: &Config, wanted: Option<&str>, format: Format) -> String {
    lines(config, wanted, format).unwrap().join("\n")
}

#[test]
fn text_says_who_gets_a_type_what_they_are_told_and_what_leaves() {
    let config = config("reject");
    insta::assert_snapshot!("text", printed(&config, None, Format::Text));
}

#[test]
fn markdown_is_a_page_to_be_compared() {
    let config = config("accept");
    insta::assert_snapshot!("markdown", printed(&config, None, Format::Markdown));
}

#[test]
fn json_is_an_object_a_line_with_both_schemas() {
    let config = config("reject");
    let all: Vec<Value> =
        printed(&config, None, Format::Json).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(all.len(), 4 + ALL.len());
    let failed = all.iter().find(|one| one["type"] == "project:job:failed").unwrap();
    assert_eq!(failed["notification"]["schema"]["type"], "object");
    assert_eq!(failed["telemetry"]["schema"]["additionalProperties"], false);
    assert_eq!(failed["receivers"][0]["when"], json!([{"where": {"project.uuid": "p|1"}}]));
    assert_eq!(failed["telemetry"]["dropped"], json!(["project.name", "project.uuid"]));
}

/// A configuration of these subscriptions' sets, on a console each, and of this catalogue.
fn small(sets: &[&str], catalogue: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let one = |(n, set): (usize, &&str)| format!("[[subscription]]\nname = \"s{n}\"\ndeliveree = \"console\"\n{set}\n");
    std::fs::write(&file, sets.iter().enumerate().map(one).collect::<String>()).unwrap();
    std::fs::write(folder.path().join("events.toml"), catalogue).unwrap();
    config::load(&file, &Env::new()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn who_asks_for_a_path_that_a_type_lacks_is_no_receiver_of_it() {
    let catalogue =
        "[event.\"a:x\"]\nfields.x = { type = \"string\" }\n[event.\"a:y\"]\nfields.y = { type = \"string\" }\n";
    let either = "[[subscription.match]]\nwhere = { x = \"1\" }\n[[subscription.match]]\nwhere = { y = \"1\" }";
    let config = small(&["where = { x = \"1\" }", either, "events = [\"a:*\"]"], catalogue);
    let receivers = |name: &str| -> Vec<(String, Value)> {
        let of = gather::explained(&config, &EventType::parse(name).unwrap()).receivers;
        of.into_iter().map(|r| (r.subscription, json!(r.when))).collect()
    };
    let named = |n: u32, when: Value| (format!("s{n}"), when);
    let [x, y] = ["x", "y"].map(|path| json!([{"where": {path: "1"}}]));
    assert_eq!(receivers("a:x"), [named(0, x.clone()), named(1, x), named(2, json!([{}]))]);
    assert_eq!(receivers("a:y"), [named(1, y), named(2, json!([{}]))]);
}

#[test]
fn the_length_of_a_list_whose_entries_are_kept_is_said_to_leave() {
    let kept =
        "fields.list = { type = \"array\" }\nfields.\"list.*.kind\" = { type = \"boolean\", telemetry = \"keep\" }";
    let config = small(&[], &format!("[event.\"a:x\"]\n{kept}\n"));
    let leaving = gather::explained(&config, &EventType::parse("a:x").unwrap()).telemetry.unwrap();
    let leaves: Vec<_> = leaving.event_properties.iter().map(|leaf| (&*leaf.path, &*leaf.values)).collect();
    assert_eq!(leaves, [("list", "how many entries"), ("list.*.kind", "boolean")]);
    assert!(leaving.dropped.is_empty(), "{:?}", leaving.dropped);
    // So it is: of entries without a kind their number is all that is left.
    let declared = config.catalogue.get(&EventType::parse("a:x").unwrap()).unwrap();
    let built = declared.telemetry(&EventType::parse("a:x").unwrap(), &json!({"list": [{}, {}]})).unwrap();
    assert!(built.contains("[{},{}]"), "{built}");
}

#[test]
fn a_path_with_signs_of_markdown_stays_within_its_cell() {
    let catalogue = "[event.\"a:x\"]\nfields.\"a|b\" = { type = \"boolean\", telemetry = \"keep\" }\n\
                     fields.\"`c``d\" = { type = \"string\" }\n";
    let page = printed(&small(&[], catalogue), Some("a:x"), Format::Markdown);
    for line in [
        r"| `a\|b` |",
        "| ``` `c``d ``` | string |",
        r"| `event_properties.a\|b` |",
        "Nothing leaves of ``` `c``d ```.",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
}

#[test]
fn no_dropped_value_and_no_name_of_data_is_in_what_is_said_to_leave() {
    let config = config("reject");
    let one = gather::explained(&config, &EventType::parse("project:job:failed").unwrap());
    let leaving = one.telemetry.unwrap();
    let example = leaving.example.unwrap().to_string();
    for dropped in ["p1", "Ada", "secret", "\"seconds\""] {
        assert!(!example.contains(dropped), "{dropped} in {example}");
    }
    // What is said of the schema holds for what is built.
    assert!(example.contains("parameters_count\":2") && example.contains("FAILURE"), "{example}");
}

#[test]
fn an_unknown_type_is_wrong_use_with_the_nearest_name() {
    let refused = |name| lines(&config("reject"), Some(name), Format::Text).unwrap_err();
    for (name, hint) in [
        ("project:creatd", "did you mean project:created?"),
        ("posthaste:tset", "did you mean posthaste:test?"),
        ("quite:another", "alone tells of every type"),
        ("No Type", "No Type"),
    ] {
        let why = refused(name);
        assert!(matches!(&why, Failure::Usage(text) if text.contains(hint)), "{name}: {why}");
    }
    let accepted = printed(&config("accept"), Some("quite:another"), Format::Text);
    assert!(accepted.contains("not declared") && accepted.contains("nothing leaves"), "{accepted}");
}

#[test]
fn with_telemetry_off_nothing_is_said_to_leave() {
    let config = Config { telemetry: None, ..config("reject") };
    let text = printed(&config, Some("project:job:failed"), Format::Text);
    assert!(text.contains("telemetry: nothing leaves") && !text.contains("numbers"), "{text}");
}

/// The page of what leaves, held equal to what the command says of the shipped files. `POSTHASTE_RENEW=1` writes it anew.
#[test]
fn the_page_of_an_example_is_what_explain_says_of_it() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = ["examples/orchest/config.toml", "config.toml"].map(|file| root.join(file));
    let file = example.iter().find(|file| file.exists()).unwrap();
    let env: Env = [("POSTHOG_KEY", "phc_x")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = config::load(file, &env).unwrap_or_else(|problems| panic!("{problems:?}"));
    let page = printed(&config, None, Format::Markdown) + "\n";
    let path = root.join("docs/telemetry-example.md");
    if environment().get("POSTHASTE_RENEW").is_some_and(|renew| renew == "1") {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page, "docs/telemetry-example.md is not what `explain` says: POSTHASTE_RENEW=1 writes it anew");
}
