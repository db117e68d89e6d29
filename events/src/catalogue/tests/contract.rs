//! The example of the public contract, and a type four layers deep.

use super::*;
use crate::catalogue::declare::Audience;

fn contract() -> Catalogue {
    let project = layer(
        "project",
        vec![
            FieldDeclaration { required: true, ..field("uuid", FieldKind::String) },
            FieldDeclaration { sensitive: true, ..field("name", FieldKind::String) },
        ],
    );
    let words = ["PENDING", "SUCCESS", "FAILURE"].map(Value::from).to_vec();
    let job = layer(
        "project:job",
        vec![
            FieldDeclaration { values: words, rule: Rule::Keep, ..field("status", FieldKind::String) },
            FieldDeclaration { rule: Rule::Count, ..field("parameters", FieldKind::Object) },
            FieldDeclaration {
                rule: Rule::Keep,
                audience: Audience::Telemetry,
                ..field("heartbeat", FieldKind::Boolean)
            },
        ],
    );
    let failed = EventDeclaration {
        layer: Some("project:job".into()),
        title: Some("A job failed".into()),
        ..event("project:job:failed", vec![])
    };
    let loaded = EventDeclaration { audience: Audience::Telemetry, ..event("view:loaded", vec![]) };
    compile(vec![project, job], vec![failed, loaded])
}

#[test]
fn the_contracts_example_takes_what_it_declares_and_nothing_else() {
    let catalogue = contract();
    let failed = get(&catalogue, "project:job:failed");
    assert_eq!(failed.layer.as_deref(), Some("project:job"));
    let fits = json!({"project": {"uuid": "p", "name": "Churn", "job": {
        "status": "FAILURE", "parameters": {"anything": [1, null]}, "heartbeat": true}}});
    assert_eq!(failed.check(&fits), []);
    assert_eq!(failed.check(&json!({"project": {"uuid": "p"}})), []);
    let misfits = failed.check(&json!({"project": {"name": 1, "job": {"status": "secret", "x/y~z": 1}}, "uuid": "u"}));
    let expected = ["/project/job/status", "/project/job/x~1y~0z", "/project/name", "/project/uuid", "/uuid"];
    assert_eq!(pointers(&misfits), expected);
    assert!(misfits.iter().all(|m| !m.detail.contains("secret")), "{misfits:?}");
    assert_eq!(pointers(&failed.check(&json!({}))), ["/project/uuid"]);
}

#[test]
fn the_contracts_example_tells_people_all_but_the_heartbeat() {
    let catalogue = contract();
    let failed = get(&catalogue, "project:job:failed");
    let text = r#"{"project":{"uuid":"p","job":{"heartbeat":true,"parameters":{"a":1.50}}}}"#;
    let told = failed.notification(&serde_json::from_str(text).unwrap(), text);
    assert_eq!(told, r#"{"project":{"uuid":"p","job":{"parameters":{"a":1.50}}}}"#);
    let schema = failed.schema();
    assert_eq!(schema["title"], "A job failed");
    assert_eq!(schema["required"], json!(["project"]));
    assert_eq!(schema["properties"]["project"]["required"], json!(["uuid"]));
    let job = &schema["properties"]["project"]["properties"]["job"];
    assert_eq!(job["properties"]["status"], json!({"type": "string", "enum": ["PENDING", "SUCCESS", "FAILURE"]}));
    assert_eq!(job["properties"]["parameters"], json!({"type": "object"}));
    assert_eq!((&job["properties"]["heartbeat"], &job["additionalProperties"]), (&Value::Null, &json!(false)));
    let paths: Vec<_> = failed.filters().into_iter().map(|f| f.path).collect();
    assert_eq!(paths, ["project.job.status", "project.name", "project.uuid"]);
}

#[test]
fn the_contracts_example_masks_the_name() {
    let mut data = json!({"project": {"uuid": "p", "name": "Churn"}});
    let name = EventType::parse("project:job:failed").unwrap();
    assert!(contract().mask(&name, &mut data));
    assert_eq!(data, json!({"project": {"uuid": "p", "name": "…"}}));
    assert!(!contract().mask(&name, &mut json!({"project": {"uuid": "p"}})));
    assert!(!contract().mask(&EventType::parse("view:loaded").unwrap(), &mut data));
}

#[test]
fn a_type_without_layer_and_fields_takes_only_the_empty_object() {
    let catalogue = contract();
    let loaded = get(&catalogue, "view:loaded");
    assert_eq!((loaded.layer.as_ref(), loaded.check(&json!({}))), (None, vec![]));
    assert_eq!(pointers(&loaded.check(&json!({"a": 1}))), ["/a"]);
}

#[test]
fn types_that_add_nothing_share_the_tree_of_their_layer() {
    let uuid = || vec![field("uuid", FieldKind::String)];
    let catalogue =
        compile(vec![layer("a", uuid())], vec![event("a:b", vec![]), event("a:c", vec![]), event("a", vec![])]);
    let shapes: Vec<_> = catalogue.types().map(|(_, declared)| &declared.shape).collect();
    assert!(shapes.windows(2).all(|pair| std::sync::Arc::ptr_eq(pair[0], pair[1])));
}

#[test]
fn a_type_lists_its_fields_each_with_the_layer_that_declares_it() {
    let catalogue = contract();
    let failed = get(&catalogue, "project:job:failed");
    assert_eq!(failed.layers, ["project", "project:job"]);
    let listed: Vec<_> = failed.fields().into_iter().map(|f| (f.path, f.layer.unwrap(), f.required, f.told)).collect();
    let expected = [
        ("project.job.heartbeat", "project:job", false, false),
        ("project.job.parameters", "project:job", false, true),
        ("project.job.status", "project:job", false, true),
        ("project.name", "project", false, true),
        ("project.uuid", "project", true, true),
    ];
    assert_eq!(listed, expected.map(|(path, layer, required, told)| (path.into(), layer.into(), required, told)));
}
