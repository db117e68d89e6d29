use super::*;
use crate::config::Env;
use posthaste_events::catalogue::Catalogue;
use posthaste_events::catalogue::declare::{
    Audience, Declarations, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration, Rule,
};
use serde_json::{Value, json};

const CONFIG: &str = r#"
[daemon]
data_dir = "data"
[network]
allow_networks = ["127.0.0.0/8"]
[catalogue]
files = []

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

fn field(path: &str, kind: FieldKind) -> FieldDeclaration {
    FieldDeclaration::new(path, kind)
}

/// Two layers, a type on each, and one for analytics alone.
fn catalogue(undeclared: Undeclared) -> Catalogue {
    let words = ["PENDING", "SUCCESS", "FAILURE"].map(Value::from).to_vec();
    let project = vec![
        FieldDeclaration { required: true, identity: true, ..field("uuid", FieldKind::String) },
        FieldDeclaration {
            sensitive: true,
            description: Some("What a *person* calls it".into()),
            ..field("name", FieldKind::String)
        },
    ];
    let job = vec![
        FieldDeclaration { values: words, rule: Rule::Keep, ..field("status", FieldKind::String) },
        FieldDeclaration { rule: Rule::Count, ..field("parameters", FieldKind::Object) },
        FieldDeclaration { rule: Rule::Keep, audience: Audience::Telemetry, ..field("heartbeat", FieldKind::Boolean) },
        FieldDeclaration {
            rule: Rule::Bucket(vec![1.into(), 10.into()]),
            minimum: Some(0.into()),
            nullable: true,
            derived_name: Some("wait".into()),
            ..field("seconds", FieldKind::Integer)
        },
    ];
    let layer = |name: &str, fields| LayerDeclaration { name: name.into(), fields, ..LayerDeclaration::default() };
    let event = |name: &str, title: Option<&str>, example: Option<Value>| EventDeclaration {
        name: name.into(),
        title: title.map(str::to_owned),
        example: example.and_then(|e| e.as_object().cloned()),
        ..EventDeclaration::default()
    };
    let failed = json!({"project": {"uuid": "p1", "name": "Ada's", "job": {
        "status": "FAILURE", "parameters": {"secret": 1, "other": 2}, "heartbeat": true, "seconds": 7,
    }}});
    let events = vec![
        event("project:created", None, None),
        event("project:job:failed", Some("A job failed"), Some(failed)),
        EventDeclaration { retired: true, ..event("project:job:old", None, None) },
        EventDeclaration { audience: Audience::Telemetry, ..event("view:loaded", None, None) },
    ];
    let declarations = Declarations { layers: vec![layer("project", project), layer("project:job", job)], events };
    Catalogue::compile(&declarations, undeclared).unwrap()
}

fn config(undeclared: Undeclared) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let config = config::load(&file, &Env::new()).unwrap_or_else(|problems| panic!("{problems:?}"));
    Config { catalogue: catalogue(undeclared), ..config }
}

fn printed(config: &Config, wanted: Option<&str>, format: Format) -> String {
    lines(config, wanted, format).unwrap().join("\n")
}

#[test]
fn text_says_who_gets_a_type_what_they_are_told_and_what_leaves() {
    let config = config(Undeclared::Reject);
    insta::assert_snapshot!("text", printed(&config, None, Format::Text));
}

#[test]
fn markdown_is_a_page_to_be_compared() {
    let config = config(Undeclared::Accept);
    insta::assert_snapshot!("markdown", printed(&config, None, Format::Markdown));
}

#[test]
fn json_is_an_object_a_line_with_both_schemas() {
    let config = config(Undeclared::Reject);
    let all: Vec<Value> =
        printed(&config, None, Format::Json).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(all.len(), 4 + ALL.len());
    let failed = all.iter().find(|one| one["type"] == "project:job:failed").unwrap();
    assert_eq!(failed["notification"]["schema"]["type"], "object");
    assert_eq!(failed["telemetry"]["schema"]["additionalProperties"], false);
    assert_eq!(failed["receivers"][0]["when"], json!([{"where": {"project.uuid": "p|1"}}]));
    assert_eq!(failed["telemetry"]["dropped"], json!(["project.name", "project.uuid"]));
}

#[test]
fn no_dropped_value_and_no_name_of_data_is_in_what_is_said_to_leave() {
    let config = config(Undeclared::Reject);
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
    let refused = |name| lines(&config(Undeclared::Reject), Some(name), Format::Text).unwrap_err();
    for (name, hint) in [
        ("project:creatd", "did you mean project:created?"),
        ("posthaste:tset", "did you mean posthaste:test?"),
        ("quite:another", "alone tells of every type"),
        ("No Type", "No Type"),
    ] {
        let why = refused(name);
        assert!(matches!(&why, Failure::Usage(text) if text.contains(hint)), "{name}: {why}");
    }
    let accepted = printed(&config(Undeclared::Accept), Some("quite:another"), Format::Text);
    assert!(accepted.contains("not declared") && accepted.contains("nothing leaves"), "{accepted}");
}

#[test]
fn with_telemetry_off_nothing_is_said_to_leave() {
    let config = Config { telemetry: None, ..config(Undeclared::Reject) };
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
