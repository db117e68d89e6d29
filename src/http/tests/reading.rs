//! What is answered where all is well.

use super::stage::{JSON, SOON, Stage, request};
use crate::http::routed;
use actix_web::body::MessageBody as _;
use actix_web::dev::Service as _;
use actix_web::http::Method;
use actix_web::test::{TestRequest, init_service};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

#[actix_web::test]
async fn one_event_is_recorded_and_shown_with_its_deliveries_and_attempts() {
    let stage = Stage::open().await;
    let body = r#"{"type":"b:c","properties":{"n":1.50},"key":"k","occurred_at":"2026-01-31T12:00:00Z"}"#;
    let answer = stage.post("/v1/events", body).await;
    assert_eq!((answer.status, answer.header("content-type")), (202, "application/json"));
    let recorded = answer.json();
    let id = recorded["id"].as_str().unwrap();
    assert_eq!(recorded, json!({"id": id, "duplicate": false, "deliveries": 2}));

    let event = stage.settled(id).await;
    let mut names: Vec<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "deliveries",
            "id",
            "key",
            "occurred_at",
            "origin",
            "properties",
            "recorded_at",
            "sequence",
            "telemetry",
            "tenant",
            "type"
        ]
    );
    assert_eq!(event["occurred_at"], "2026-01-31T12:00:00.000Z");
    assert_eq!((&event["key"], &event["tenant"], &event["origin"]), (&json!("k"), &Value::Null, &json!("record")));
    let shown = String::from_utf8(stage.get(&format!("/v1/events/{id}")).await.bytes.to_vec()).unwrap();
    assert!(shown.contains(r#""properties":{"n":1.50}"#), "the caller's own number is kept: {shown}");

    let deliveries = event["deliveries"].as_array().unwrap();
    let states: Vec<_> = deliveries.iter().map(|d| (d["subscription"].as_str(), d["state"].as_str())).collect();
    assert!(states.contains(&(Some("good"), Some("delivered"))) && states.contains(&(Some("bad"), Some("dead"))));
    let dead = deliveries.iter().find(|d| d["state"] == "dead").unwrap();
    assert_eq!((&dead["event"], &dead["attempt_count"]), (&json!(id), &json!(1)));
    let attempt = &dead["attempts"][0];
    assert_eq!((&attempt["number"], &attempt["outcome"]), (&json!(1), &json!("rejected")));
    assert_eq!((&attempt["error"], &attempt["status"]), (&json!("status: 500"), &Value::Null));
    let alone = stage.get(&format!("/v1/deliveries/{}", dead["id"].as_str().unwrap())).await.json();
    assert_eq!(alone, *dead);
}

#[actix_web::test]
async fn an_array_is_recorded_in_order() {
    let stage = Stage::open().await;
    let events = Value::from(vec![json!({"type": "a:b"}); 1_000]);
    let answer = stage.post("/v1/events", events.to_string()).await;
    assert_eq!(answer.status, 202);
    let ids: Vec<String> =
        answer.json()["events"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1_000);
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert_eq!(stage.count().await, 1_000);
}

#[actix_web::test]
async fn a_repeated_idempotency_key_gives_the_first_answer_and_another_event_is_a_conflict() {
    let stage = Stage::open().await;
    let first = stage.post("/v1/events", r#"{"type":"a:b","idempotency_key":"k"}"#).await.json();
    let header = |body: &'static str| {
        TestRequest::post()
            .uri("/v1/events")
            .append_header(JSON)
            .append_header(("Idempotency-Key", "k"))
            .set_payload(body)
    };
    let second = stage.send(header(r#"{"type":"a:b","properties":{}}"#)).await;
    assert_eq!((second.status, &second.json()["id"], &second.json()["duplicate"]), (202, &first["id"], &json!(true)));
    let other = stage.send(header(r#"{"type":"b:c"}"#)).await;
    assert_eq!((other.status, other.pointers()), (409, vec!["/idempotency_key".to_owned()]));
    let many = r#"[{"type":"a:b"},{"type":"b:c","idempotency_key":"k"}]"#;
    let many = stage.post("/v1/events", many).await;
    assert_eq!((many.status, many.pointers()), (409, vec!["/1/idempotency_key".to_owned()]));
    assert_eq!(stage.count().await, 1, "one conflict refuses all");
}

#[actix_web::test]
async fn listings_filter_and_go_on_page_by_page() {
    let stage = Stage::open().await;
    for n in 0..7 {
        stage.record(&json!({"type": if n % 2 == 0 { "a:b" } else { "b:c" }, "tenant": format!("t{n}")})).await;
    }
    for (listing, total) in [
        ("/v1/events", 7),
        ("/v1/events?type=a:b", 4),
        ("/v1/deliveries?subscription=bad", 3),
        ("/v1/deliveries?subscription=nobody", 0),
        ("/v1/events?tenant=t3", 1),
        ("/v1/deliveries", 10),
        ("/v1/events?since=2020-01-01T00:00:00Z", 7),
        ("/v1/events?until=2020-01-01T00:00:00Z", 0),
        ("/v1/deliveries?since=2999-01-01T00:00:00Z", 0),
        ("/v1/subscriptions", 3),
    ] {
        let join = if listing.contains('?') { '&' } else { '?' };
        let (mut after, mut ids) = (String::new(), Vec::new());
        for _ in 0..20 {
            let page = stage.get(&format!("{listing}{join}limit=2{after}")).await;
            assert_eq!(page.status, 200, "{listing} {page:?}");
            let page = page.json();
            let rows = page["data"].as_array().unwrap();
            assert!(rows.len() <= 2);
            ids.extend(rows.iter().map(|r| r.get("id").unwrap_or(&r["name"]).as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(ids.len(), total, "{listing}: {ids:?}");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), total, "{listing} shows each once");
    }
    assert_eq!(stage.get("/v1/events?limit=5000").await.status, 200);
}

#[actix_web::test]
async fn a_dead_delivery_is_retried_and_a_held_one_cancelled_as_asked() {
    let stage = Stage::open().await;
    let event = stage.settled(&stage.record(&json!({"type": "b:c"})).await).await;
    let id = |state: &str| {
        let found = event["deliveries"].as_array().unwrap().iter().find(|d| d["state"] == state);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let retried = stage.post(&format!("/v1/deliveries/{}/retry", id("dead")), "").await;
    assert_eq!(retried.status, 200, "{retried:?}");
    assert_eq!(retried.json()["id"], id("dead"));
    let delivered = stage.post(&format!("/v1/deliveries/{}/retry", id("delivered")), "{}").await;
    assert_eq!((delivered.status, delivered.pointers()), (409, vec![]));
    assert_eq!(stage.post(&format!("/v1/deliveries/{}/cancel", id("delivered")), "").await.status, 409);

    assert_eq!(stage.post("/v1/subscriptions/good/pause", "").await.json()["state"], "paused");
    let held = stage.record(&json!({"type": "a:b"})).await;
    let event = stage.get(&format!("/v1/events/{held}")).await.json();
    assert_eq!(event["deliveries"][0]["state"], "held");
    let cancelled =
        stage.post(&format!("/v1/deliveries/{}/cancel", event["deliveries"][0]["id"].as_str().unwrap()), "").await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
}

#[actix_web::test]
async fn a_paused_subscription_says_so_and_goes_on_when_resumed() {
    let stage = Stage::open().await;
    let paused = stage.post("/v1/subscriptions/good/pause", "").await;
    assert_eq!(paused.status, 200);
    let id = stage.record(&json!({"type": "a:b"})).await;
    let shown = stage.get("/v1/subscriptions/good").await.json();
    let expected = json!({"name": "good", "deliveree": "test", "url": "https://hooks.example.com", "tenant": null,
        "source": "config", "state": "paused", "reason": null, "backlog": 1, "in_flight": 0, "circuit_open": false,
        "circuit_state": "closed", "circuit_reason": null, "failing_since": null, "held_until": null});
    assert_eq!(shown, expected);
    assert_eq!(stage.post("/v1/subscriptions/good/resume", "{}").await.json()["state"], "active");
    assert_eq!(stage.settled(&id).await["deliveries"][0]["state"], "delivered");
}

#[actix_web::test]
async fn a_subscription_is_tested_and_the_attempt_answered() {
    let stage = Stage::open().await;
    let plain = stage.post("/v1/subscriptions/good/test", "").await;
    assert_eq!(plain.status, 200, "{plain:?}");
    let plain = plain.json();
    assert_eq!((&plain["type"], &plain["subscription"]), (&json!("posthaste:test"), &json!("good")));
    assert_eq!(
        (&plain["state"], &plain["outcome"], &plain["number"]),
        (&json!("delivered"), &json!("delivered"), &json!(1))
    );
    let event = stage.get(&format!("/v1/events/{}", plain["event"].as_str().unwrap())).await.json();
    assert_eq!(event["deliveries"].as_array().unwrap().len(), 1, "it is owed to nobody else");

    let example = stage.post("/v1/subscriptions/good/test", r#"{"type":"shop:order:placed"}"#).await.json();
    let event = stage.get(&format!("/v1/events/{}?reveal=fields", example["event"].as_str().unwrap())).await.json();
    assert_eq!(event["properties"]["shop"]["order"]["customer"], "Ada", "the catalogue's example");
    let failed = stage.post("/v1/subscriptions/bad/test", "{}").await;
    assert_eq!((failed.status, &failed.json()["outcome"]), (200, &json!("rejected")));

    for (body, pointer) in [
        (r#"{"type":"nobody:declared"}"#, "/type"),
        (r#"{"type":"a:b"}"#, "/type"),
        (r#"{"type":"NO"}"#, "/type"),
        (r#"{"type":null}"#, "/type"),
        (r#"{"tpye":"a:b"}"#, "/tpye"),
        ("[]", ""),
    ] {
        let answer = stage.post("/v1/subscriptions/good/test", body).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer.to_owned()]), "{body}");
    }
    assert_eq!(stage.post("/v1/subscriptions/good/test", "{").await.status, 400);
    assert_eq!(stage.post("/v1/subscriptions/nobody/test", "").await.status, 404);
    stage.post("/v1/subscriptions/good/pause", "").await;
    let paused = stage.post("/v1/subscriptions/good/test", "").await;
    assert_eq!((paused.status, paused.pointers()), (409, vec![]));
}

#[actix_web::test]
async fn health_readiness_metrics_and_the_front_answer() {
    let stage = Stage::open().await;
    let id = stage.record(&json!({"type": "a:b"})).await;
    stage.settled(&id).await;
    assert_eq!(stage.get("/healthz").await.json(), json!({"status": "live"}));
    assert_eq!(stage.get("/readyz").await.json(), json!({"status": "ready"}));
    assert_eq!(stage.send(request(Method::HEAD, "/readyz")).await.status, 200);
    let metrics = stage.get("/metrics").await;
    let text = String::from_utf8(metrics.bytes.to_vec()).unwrap();
    for line in [
        "posthaste_events_recorded_total 1",
        "posthaste_attempts_total{subscription=\"good\",outcome=\"delivered\"} 1",
        "posthaste_http_requests_total{route=\"/v1/events\",status=\"202\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(String::from_utf8(stage.get("/").await.bytes.to_vec()).unwrap().contains("Posthaste"));
}

#[actix_web::test]
async fn the_live_stream_shows_attempts_and_ends_when_the_daemon_stops() {
    let stage = Stage::open().await;
    let service = init_service(routed(stage.shared.clone())).await;
    // The head of the answer comes once the registry has given the stream its place.
    let response = service.call(TestRequest::get().uri("/v1/tail").to_request()).await.unwrap();
    assert_eq!(response.headers().get("content-type").unwrap(), "application/x-ndjson");
    let id = stage.record(&json!({"type": "a:b"})).await;
    let mut body = Box::pin(response.into_body());
    let mut text = String::new();
    let read = async {
        while !text.ends_with('\n') {
            let piece = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    tokio::time::timeout(SOON, read).await.unwrap();
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["event"], &line["type"], &line["subscription"]), (&json!(id), &json!("a:b"), &json!("good")));
    assert_eq!(
        (&line["state"], &line["outcome"], &line["number"]),
        (&json!("delivered"), &json!("delivered"), &json!(1))
    );
    assert!(line["delivery"].as_str().unwrap().starts_with("dlv_"));

    stage.shared.stop();
    let end = std::future::poll_fn(|cx| body.as_mut().poll_next(cx));
    assert!(tokio::time::timeout(SOON, end).await.unwrap().is_none());
    drop(body);
    assert_eq!(stage.shared.tails.load(Ordering::SeqCst), 0, "the place is free again");
}

#[actix_web::test]
async fn a_daemon_that_stops_takes_nothing_more() {
    let stage = Stage::open().await;
    stage.shared.stop();
    let refused = stage.post("/v1/events", r#"{"type":"a:b"}"#).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "2"));
    assert_eq!(stage.get("/readyz").await.status, 503);
    assert_eq!(stage.get("/healthz").await.status, 200);
    assert_eq!(stage.count().await, 0);
}
