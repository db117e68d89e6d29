//! `/v1/event-types`: the catalogue of the current snapshot.

use super::stage::Stage;
use serde_json::{Value, json};

#[actix_web::test]
async fn every_declared_type_is_listed_once_in_order_page_by_page() {
    let stage = Stage::open().await;
    let (mut after, mut names) = (String::new(), Vec::new());
    for _ in 0..20 {
        let page = stage.get(&format!("/v1/event-types?limit=2{after}")).await.json();
        let rows = page["data"].as_array().unwrap();
        assert!(rows.len() <= 2);
        names.extend(rows.iter().map(|row| row["type"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["a:b", "b:c", "hidden:thing", "old:thing", "shop:order:placed", "view:loaded"]);
    let all = stage.get("/v1/event-types").await.json();
    assert_eq!((all["data"].as_array().unwrap().len(), &all["next"]), (6, &Value::Null));
}

#[actix_web::test]
async fn a_type_has_all_that_its_readers_need() {
    let stage = Stage::open().await;
    let shown = stage.get("/v1/event-types/shop:order:placed").await.json();
    let mut names: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let fields = [
        "audience",
        "example",
        "filters",
        "layer",
        "properties_example",
        "properties_schema",
        "retired",
        "schema",
        "telemetry_schema",
        "title",
        "type",
    ];
    assert_eq!(names, fields);
    assert_eq!((&shown["title"], &shown["retired"]), (&json!("A customer placed an order"), &json!(false)));
    assert_eq!(shown["example"]["shop"]["order"]["uuid"], "o-1");
    assert_eq!(shown["audience"], "all");
    assert!(shown["schema"].is_object() && shown["telemetry_schema"].is_object());
    // Each example fits the schema beside it: the properties have a field that only analytics gets.
    for (schema, example, other) in
        [("schema", "example", "properties_example"), ("properties_schema", "properties_example", "nothing")]
    {
        let schema = jsonschema::validator_for(&shown[schema]).unwrap();
        assert!(schema.is_valid(&shown[example]) && !schema.is_valid(&shown[other]), "{example}: {shown}");
    }
    assert_eq!(shown["properties_example"]["shop"]["order"]["guest"], true);
    let listed = stage.get("/v1/event-types").await.json();
    assert!(listed["data"].as_array().unwrap().contains(&shown), "the same as in the list");

    let plain = stage.get("/v1/event-types/old:thing").await.json();
    assert_eq!((&plain["retired"], &plain["title"], &plain["example"]), (&json!(true), &Value::Null, &Value::Null));
    assert_eq!(stage.get("/v1/event-types/view:loaded").await.json()["audience"], "telemetry");
    assert_eq!(stage.get("/v1/event-types/posthaste:test").await.status, 404, "ours are not in the catalogue");
}
