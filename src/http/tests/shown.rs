//! What is shown of an event and of what does not fit: pointers, masks, and what leaves of it.

use super::stage::{JSON, Stage, analytics};
use crate::http::Access;
use actix_web::test::TestRequest;
use posthaste_events::prepare::{Snapshot, TelemetryPolicy};
use serde_json::{Value, json};
use std::sync::Arc;

fn order(customer: &str) -> Value {
    json!({"type": "shop:order:placed", "properties": {"shop": {"region": "eu", "order": {"uuid": "o-1",
        "customer": customer, "currency": "EUR", "lines": [{"note": "ring twice", "total": 1.5}, {"total": 2}]}}}})
}

#[actix_web::test]
async fn what_does_not_fit_the_catalogue_is_named_at_its_place() {
    let stage = Stage::open().await;
    let wrong =
        json!({"shop": {"region": "mars", "order": {"customer": 5, "colour": "turquoise", "lines": [{"total": "x"}]}}});
    let event = json!({"type": "shop:order:placed", "properties": wrong});
    let answer = stage.post("/v1/events", event.to_string()).await;
    let mut pointers = answer.pointers();
    pointers.sort();
    let expected = ["colour", "customer", "lines/0/total", "uuid"].map(|p| format!("/properties/shop/order/{p}"));
    assert_eq!((answer.status, &pointers[..4], pointers[4].as_str()), (422, &expected[..], "/properties/shop/region"));
    assert_eq!(pointers.len(), 5);
    let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
    assert!(!text.contains("mars") && !text.contains("turquoise"), "no value of a caller's is repeated: {text}");

    let many = Value::from(vec![json!({"type": "a:b"}), event, json!({"type": "b:c", "properties": {"n": null}})]);
    let answer = stage.post("/v1/events", many.to_string()).await;
    let mut pointers = answer.pointers();
    pointers.sort();
    assert_eq!((answer.status, pointers.len(), pointers[5].as_str()), (422, 6, "/2/properties/n"));
    assert!(pointers[..5].iter().all(|p| p.starts_with("/1/properties/shop/")), "{pointers:?}");
    let nothing = stage.post("/v1/events", r#"{"type":"old:thing"}"#).await;
    assert_eq!((nothing.status, nothing.pointers()), (422, vec!["/type".to_owned()]), "retired");
    assert_eq!(stage.count().await, 0);
}

#[actix_web::test]
async fn sensitive_fields_are_masked_alone_and_in_lists_and_shown_where_they_are_revealed() {
    let stage = Stage::open().await;
    let id = stage.record(&order("Ada")).await;
    let path = format!("/v1/events/{id}");
    let list = |path: &'static str| {
        let got = stage.get(path);
        async move { got.await.json()["data"][0]["properties"].clone() }
    };
    for shown in [stage.get(&path).await.json()["properties"].clone(), list("/v1/events").await] {
        let order = &shown["shop"]["order"];
        assert_eq!((&order["uuid"], &order["currency"]), (&json!("o-1"), &json!("EUR")), "{shown}");
        assert_eq!(order["lines"][1], json!({"total": 2}));
        assert!(!shown.to_string().contains("Ada") && !shown.to_string().contains("ring twice"), "{shown}");
        assert_ne!(order["customer"], Value::Null, "that there is one is shown");
    }
    let whole = order("Ada")["properties"].clone();
    assert_eq!(stage.get(&format!("{path}?reveal=fields")).await.json()["properties"], whole);
    assert_eq!(list("/v1/events?reveal=fields").await, whole);
    // Where nothing is sensitive the caller's own text stays as it is.
    let plain = stage.record(&json!({"type": "b:c", "properties": {"n": 1.5}})).await;
    let body = TestRequest::post().uri("/v1/events").append_header(JSON);
    stage.send(body.set_payload(r#"{"type":"b:c","properties":{"n":1.50}}"#)).await;
    let text = String::from_utf8(stage.get("/v1/events?type=b:c").await.bytes.to_vec()).unwrap();
    assert!(text.contains(r#""properties":{"n":1.50}"#) && text.contains(&plain), "{text}");
}

#[actix_web::test]
async fn what_was_sensitive_stays_masked_when_its_type_is_removed_or_renamed() {
    let mut stage = Stage::open().await;
    let path = format!("/v1/events/{}", stage.record(&order("Ada")).await);
    // The catalogue of a reload that has the type no more.
    stage.see_by(Arc::new(Snapshot::default()));
    for path in [path.as_str(), "/v1/events"] {
        let shown = stage.get(path).await.json();
        let event = if path == "/v1/events" { &shown["data"][0] } else { &shown };
        assert_eq!(event["properties"], json!({"shop": "…"}), "{path}");
    }
    assert_eq!(stage.get(&format!("{path}?reveal=fields")).await.json()["properties"], order("Ada")["properties"]);
}

#[actix_web::test]
async fn an_event_alone_shows_exactly_what_leaves_of_it() {
    let (sink, arrived) = analytics("sink", &["**"]);
    let stage = Stage::with(Access::default(), Some(TelemetryPolicy::default()), vec![sink]).await;
    let mut body = order("Ada");
    body["occurred_at"] = json!("2026-01-31T12:34:56Z");
    let event = stage.settled(&stage.record(&body).await).await;
    let leaves = json!({"event_properties": {"shop": {"region": "eu", "order": {"currency": "EUR"}}},
        "derived_properties": {"shop": {"order": {"lines_count": 2}}}, "time": "2026-01-31T12:00:00.000Z"});
    // The region has no rule, so it stays here.
    let mut expected = leaves;
    expected["event_properties"]["shop"].as_object_mut().unwrap().remove("region");
    assert_eq!(event["telemetry"], expected);
    let told = arrived.lock().unwrap()[0].clone();
    assert_eq!(
        (&told["event_properties"], &told["derived_properties"]),
        (&expected["event_properties"], &expected["derived_properties"])
    );
    assert!(stage.get("/v1/events").await.json()["data"][0].get("telemetry").is_none(), "lists show it not");

    let off = Stage::with(Access::default(), None, Vec::new()).await;
    let event = off.settled(&off.record(&order("Ada")).await).await;
    assert_eq!(event["telemetry"], Value::Null);
}

#[actix_web::test]
async fn what_is_for_analytics_alone_is_listed_with_what_leaves_of_it_and_no_properties() {
    let stage = Stage::open().await;
    let recorded = stage.record(&json!({"type": "view:loaded", "properties": {"page": "home"}})).await;
    let relayed = json!({"event": "view:loaded", "properties": {"page": "list"}}).to_string();
    let relayed = TestRequest::post().uri("/analytics").append_header(JSON).set_payload(relayed);
    let relayed = stage.send(relayed).await.json()["id"].as_str().unwrap().to_owned();
    let list = stage.get("/v1/events?type=view:loaded").await.json();
    for (id, page, origin) in [(&relayed, "list", "relay"), (&recorded, "home", "record")] {
        let row = list["data"].as_array().unwrap().iter().find(|row| row["id"] == **id).unwrap();
        let alone = stage.get(&format!("/v1/events/{id}")).await.json();
        for shown in [row, &alone] {
            assert_eq!((&shown["properties"], &shown["origin"]), (&json!({}), &json!(origin)), "{shown}");
            assert_eq!(shown["telemetry"]["event_properties"], json!({"page": page}), "{shown}");
        }
    }
}

#[actix_web::test]
async fn what_the_telemetry_schema_does_not_know_is_dropped_and_named() {
    let stage = Stage::open().await;
    let body = json!({"event": "shop:order:placed",
        "properties": {"shop": {"order": {"currency": "EUR", "customer": "Ada", "uuid": "o-1"}}, "extra": [1]},
        "derived_properties": {"shop": {"order": {"lines_count": 3, "other_count": 1}}}});
    let post = |body: &Value| TestRequest::post().uri("/analytics").append_header(JSON).set_payload(body.to_string());
    let answer = stage.send(post(&body)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let answer = answer.json();
    let mut dropped: Vec<_> = answer["dropped"].as_array().unwrap().iter().map(|d| d.as_str().unwrap()).collect();
    dropped.sort_unstable();
    let expected = [
        "/derived_properties/shop/order/other_count",
        "/properties/extra",
        "/properties/shop/order/customer",
        "/properties/shop/order/uuid",
    ];
    assert_eq!(dropped, expected);
    let event = stage.get(&format!("/v1/events/{}", answer["id"].as_str().unwrap())).await.json();
    assert_eq!(event["telemetry"]["event_properties"], json!({"shop": {"order": {"currency": "EUR"}}}));
    assert_eq!(event["telemetry"]["derived_properties"], json!({"shop": {"order": {"lines_count": 3}}}));

    let many: serde_json::Map<String, Value> = (0..1_500).map(|n| (format!("k{n}"), json!(1))).collect();
    let answer = stage.send(post(&json!({"event": "a:b", "properties": many}))).await.json();
    assert_eq!(answer["dropped"].as_array().unwrap().len(), 100, "the first of them are named");
    let metrics = String::from_utf8(stage.get("/metrics").await.bytes.to_vec()).unwrap();
    assert!(metrics.lines().any(|line| line == "posthaste_relay_dropped_total 104"), "{metrics}");
}

#[actix_web::test]
async fn a_types_schemas_and_filters_are_those_of_the_catalogue() {
    let stage = Stage::open().await;
    let shown = stage.get("/v1/event-types/shop:order:placed").await.json();
    assert_eq!(shown["layer"], "shop:order");
    let order = &shown["schema"]["properties"]["shop"]["properties"]["order"];
    assert_eq!(order["properties"]["currency"]["enum"], json!(["EUR", "USD"]), "{shown}");
    assert_eq!(order["required"], json!(["uuid"]));
    assert_eq!(shown["telemetry_schema"]["additionalProperties"], false);
    let filters = shown["filters"].as_array().unwrap();
    let of = |path: &str| filters.iter().find(|f| f["path"] == path).cloned().unwrap_or_default();
    assert_eq!(of("shop.order.uuid"), json!({"path": "shop.order.uuid", "type": "string", "requires": []}));
    assert_eq!(of("shop.order.currency")["values"], json!(["EUR", "USD"]));
    assert!(filters.iter().all(|f| !f["path"].as_str().unwrap().contains('*')), "{filters:?}");
}
