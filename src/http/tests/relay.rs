//! `POST /analytics`: who may send what, and that nothing but analytics is ever told of it.

use super::stage::{Arrived, JSON, PAGE, SOON, Stage, analytics, relay, request, secret, tokens, with_token};
use crate::http::{Access, Relay};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use posthaste_events::prepare::TelemetryPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

fn post(body: &Value) -> TestRequest {
    TestRequest::post().uri("/analytics").append_header(JSON).set_payload(body.to_string())
}

/// A stage with an analytics subscription to everything.
async fn with_analytics() -> (Stage, Arrived) {
    let (sink, arrived) = analytics("sink", &["**"]);
    (Stage::with(Access::default(), Some(TelemetryPolicy::default()), vec![sink]).await, arrived)
}

async fn within(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap();
}

#[actix_web::test]
async fn a_relayed_event_goes_to_analytics_and_to_nobody_else() {
    let (stage, arrived) = with_analytics().await;
    let body = json!({"event": "a:b", "properties": {}, "derived_properties": {}});
    let answer = stage.send(post(&body)).await;
    assert_eq!((answer.status, answer.header("content-type")), (202, "application/json"), "{answer:?}");
    let answer = answer.json();
    let id = answer["id"].as_str().unwrap();
    assert_eq!(answer, json!({"id": id, "duplicate": false, "dropped": []}));

    within(|| !arrived.lock().unwrap().is_empty()).await;
    let told = json!({"event": "a:b", "event_properties": {}, "derived_properties": {}});
    assert_eq!(*arrived.lock().unwrap(), [told]);
    let event = stage.settled(id).await;
    assert_eq!(event["origin"], "relay");
    let deliveries = event["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    assert_eq!(deliveries[0]["subscription"], "sink", "`good` wants every notification and there is none");
}

#[actix_web::test]
async fn a_beacon_is_read_like_json() {
    let stage = Stage::open().await;
    for kind in ["text/plain", "text/plain;charset=UTF-8", "application/json; charset=utf-8"] {
        let sent = TestRequest::post().uri("/analytics").append_header(("content-type", kind));
        assert_eq!(stage.send(sent.set_payload(r#"{"event":"a:b"}"#)).await.status, 202, "{kind}");
    }
    for kind in ["text/html", "application/x-www-form-urlencoded", "text/plain; charset=latin-1", "image/gif"] {
        let sent = TestRequest::post().uri("/analytics").append_header(("content-type", kind));
        let answer = stage.send(sent.set_payload(r#"{"event":"a:b"}"#)).await;
        assert_eq!((answer.status, answer.pointers()), (415, vec![]), "{kind}");
    }
    let zipped = post(&json!({"event": "a:b"})).append_header(("content-encoding", "gzip"));
    assert_eq!(stage.send(zipped).await.status, 415);
}

#[actix_web::test]
async fn each_wrong_body_has_its_status_and_points_at_its_fault() {
    let stage = Stage::open().await;
    let long = format!(r#"{{"event":"a:b","properties":{{"s":"{}"}}}}"#, "y".repeat(256 * 1024));
    let cases: [(u16, &str, &[&str]); 20] = [
        (400, "", &[]),
        (400, "{", &[]),
        (400, r#"{"event":"a:b"} {}"#, &[]),
        (400, r#"{"event":"a:b","event":"a:b"}"#, &[]),
        (400, r#"{"event":"a:b","properties":{"s":"\ud800"}}"#, &[]),
        (413, &long, &[]),
        (422, "[]", &[""]),
        (422, "7", &[""]),
        (422, r#"[{"event":"a:b"}]"#, &[""]),
        (422, "{}", &["/event"]),
        (422, r#"{"event":5}"#, &["/event"]),
        (422, r#"{"event":null}"#, &["/event"]),
        (422, r#"{"event":"A B"}"#, &["/event"]),
        (422, r#"{"event":"nobody:declared"}"#, &["/event"]),
        (422, r#"{"event":"hidden:thing"}"#, &["/event"]),
        (422, r#"{"event":"old:thing"}"#, &["/event"]),
        (422, r#"{"event":"posthaste:test"}"#, &["/event"]),
        (422, r#"{"event":"a:b","properties":[],"derived_properties":null}"#, &["/properties", "/derived_properties"]),
        (422, r#"{"event":"a:b","derived_properties":{"n":1e999}}"#, &["/derived_properties"]),
        (422, r#"{"evnt":"a:b","a/b":1,"properties":7}"#, &["/event", "/properties", "/a~1b", "/evnt"]),
    ];
    for (status, body, pointers) in cases {
        let answer = stage.send(post(&json!(null)).set_payload(body.to_owned())).await;
        assert_eq!(answer.status, status, "{} {answer:?}", &body[..body.len().min(100)]);
        assert_eq!(answer.pointers(), pointers, "{body:?}");
    }
    assert_eq!(stage.count().await, 0);
}

#[actix_web::test]
async fn an_idempotency_key_records_once_and_another_event_is_a_conflict() {
    let stage = Stage::open().await;
    let keyed = |body: Value, key: &str| post(&body).append_header(("idempotency-key", key));
    let first = stage.send(keyed(json!({"event": "a:b"}), "k")).await.json();
    let second = stage.send(keyed(json!({"event": "a:b", "properties": {}}), "k")).await;
    assert_eq!((second.status, &second.json()["id"], &second.json()["duplicate"]), (202, &first["id"], &json!(true)));
    let other = stage.send(keyed(json!({"event": "b:c"}), "k")).await;
    assert_eq!((other.status, other.pointers()), (409, vec!["/idempotency_key".to_owned()]));
    for bad in ["", &"x".repeat(257)] {
        let answer = stage.send(keyed(json!({"event": "a:b"}), bad)).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/idempotency_key".to_owned()]));
    }
    assert_eq!(stage.count().await, 1);
}

#[actix_web::test]
async fn a_relayed_event_takes_no_key_from_an_application_nor_the_other_way_round() {
    let stage = Stage::open().await;
    let own = |key: &str| {
        let body = json!({"type": "b:c", "idempotency_key": key}).to_string();
        TestRequest::post().uri("/v1/events").append_header(JSON).set_payload(body)
    };
    let brought = |key: &str| post(&json!({"event": "a:b"})).append_header(("idempotency-key", key.to_owned()));
    for (key, relayed_first) in [("order-1", true), ("order-2", false)] {
        let (first, second) = if relayed_first { (brought(key), own(key)) } else { (own(key), brought(key)) };
        for answer in [stage.send(first).await, stage.send(second).await] {
            assert_eq!((answer.status, &answer.json()["duplicate"]), (202, &json!(false)), "{key} {answer:?}");
        }
        let again = stage.send(own(key)).await;
        assert_eq!((again.status, &again.json()["duplicate"]), (202, &json!(true)), "the control: {again:?}");
    }
    assert_eq!(stage.count().await, 4);
}

#[actix_web::test]
async fn with_telemetry_off_nothing_is_recorded_and_the_answer_is_204() {
    let stage = Stage::with(tokens(), None, Vec::new()).await;
    let answer = stage.send(with_token(post(&json!({"event": "a:b"})), "relay")).await;
    assert_eq!((answer.status, answer.bytes.len()), (204, 0));
    assert_eq!(stage.send(post(&json!({"event": "a:b"}))).await.status, 401, "yet not to anybody");
    let events = stage.send(with_token(TestRequest::get().uri("/v1/events"), "read")).await.json();
    assert_eq!(events["data"], json!([]));
}

#[actix_web::test]
async fn relaying_needs_its_scope_and_gives_no_other() {
    let stage = Stage::new(tokens()).await;
    let body = json!({"event": "a:b"});
    for (token, status) in [("relay", 202), ("record", 202), ("admin", 202), ("read", 403), ("manage", 403)] {
        assert_eq!(stage.send(with_token(post(&body), token)).await.status, status, "{token}");
    }
    assert_eq!(stage.send(post(&body)).await.status, 401);
    for path in ["/v1/events", "/v1/deliveries", "/v1/subscriptions", "/v1/event-types", "/v1/tail", "/metrics"] {
        let answer = stage.send(with_token(TestRequest::get().uri(path), "relay")).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    let record = TestRequest::post().uri("/v1/events").append_header(JSON).set_payload(r#"{"type":"a:b"}"#);
    assert_eq!(stage.send(with_token(record, "relay")).await.status, 403);

    let in_url = |token: &str| post(&body).uri(&format!("/analytics?token={}", secret(token)));
    assert_eq!(stage.send(in_url("relay")).await.status, 202);
    assert_eq!((stage.send(in_url("record")).await.status, stage.send(in_url("admin")).await.status), (403, 403));
    assert_eq!(stage.send(in_url("nobody")).await.status, 401);
    let elsewhere = TestRequest::get().uri(&format!("/v1/events?token={}", secret("admin")));
    assert_eq!(stage.send(elsewhere).await.status, 401, "no other route takes a token from the URL");
    let unknown = with_token(post(&body).uri("/analytics?tokn=x"), "relay");
    assert_eq!(stage.send(unknown).await.pointers(), ["/tokn"]);

    let bound = stage.send(with_token(post(&body), "acme")).await.json();
    let path = format!("/v1/events/{}", bound["id"].as_str().unwrap());
    assert_eq!(stage.send(with_token(TestRequest::get().uri(&path), "acme")).await.json()["tenant"], "acme");
}

#[actix_web::test]
async fn a_page_of_a_listed_origin_may_post_and_read_and_others_may_not() {
    let stage = Stage::new(tokens()).await;
    let from = |origin: &str| with_token(post(&json!({"event": "a:b"})), "relay").append_header(("origin", origin));
    let taken = stage.send(from(PAGE)).await;
    assert_eq!((taken.status, taken.header("access-control-allow-origin")), (202, PAGE));
    assert_eq!((taken.header("vary"), taken.header("access-control-allow-credentials")), ("origin", ""));
    for origin in ["https://evil.example", "null", "https://app.example.com.evil.example"] {
        let refused = stage.send(from(origin)).await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, ""), "{origin}");
        refused.pointers();
    }
    // Errors are readable too, or a page could not tell what to mend.
    let wrong = post(&json!({"event": "nobody:declared"})).append_header(("origin", PAGE));
    let wrong = stage.send(with_token(wrong, "relay")).await;
    assert_eq!((wrong.status, wrong.header("access-control-allow-origin")), (422, PAGE));
    let nobody = stage.send(post(&json!({"event": "a:b"})).append_header(("origin", PAGE))).await;
    assert_eq!((nobody.status, nobody.header("access-control-allow-origin")), (401, PAGE));
    // The other routes have no CORS at all.
    let listing = with_token(TestRequest::get().uri("/v1/events"), "read").append_header(("origin", PAGE));
    assert_eq!(stage.send(listing).await.header("access-control-allow-origin"), "");

    let open = Stage::open().await;
    let from = |origin: &str| {
        post(&json!({"event": "a:b"})).append_header(("host", "127.0.0.1:8321")).append_header(("origin", origin))
    };
    assert_eq!(open.send(from(PAGE)).await.status, 202);
    assert_eq!(open.send(from("http://127.0.0.1:8321")).await.status, 202);
    assert_eq!(open.send(from("https://evil.example")).await.status, 403);
    let rebound = post(&json!({"event": "a:b"})).append_header(("host", "evil.example"));
    assert_eq!(open.send(rebound).await.status, 403);
}

#[actix_web::test]
async fn a_preflight_says_exactly_what_a_page_may_send() {
    let stage = Stage::new(tokens()).await;
    let ask = |origin: &str| {
        request(Method::OPTIONS, "/analytics")
            .append_header(("origin", origin))
            .append_header(("access-control-request-method", "POST"))
            .append_header(("access-control-request-headers", "authorization,content-type"))
    };
    let may = stage.send(ask(PAGE)).await;
    assert_eq!(may.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-methods", "POST"),
        ("access-control-allow-headers", "authorization, content-type, idempotency-key"),
        ("access-control-max-age", "7200"),
        ("access-control-allow-credentials", ""),
        ("vary", "origin"),
    ] {
        assert_eq!(may.header(name), value, "{name}");
    }
    let may_not = stage.send(ask("https://evil.example")).await;
    assert_eq!((may_not.status, may_not.header("access-control-allow-origin")), (403, ""));
    assert_eq!(may_not.header("access-control-allow-methods"), "");
}

#[actix_web::test]
async fn who_sends_more_than_the_rate_is_429_and_others_go_on() {
    let stage = Stage::new(tokens()).await;
    let hourly = Relay { rate_limit: (3, Duration::from_secs(3_600)), ..relay() };
    stage.shared.set_relay(&hourly);
    let from = |token: &str, address: &str| {
        with_token(post(&json!({"event": "a:b"})), token).peer_addr(address.parse().unwrap())
    };
    for _ in 0..3 {
        assert_eq!(stage.send(from("relay", "10.0.0.1:1")).await.status, 202);
    }
    let page = from("relay", "10.0.0.1:2").append_header(("origin", PAGE));
    let limited = stage.send(page).await;
    assert_eq!((limited.status, limited.pointers()), (429, vec![]));
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=1_200).contains(&wait), "{wait}");
    assert_eq!(limited.header("access-control-expose-headers"), "retry-after", "a page may read when to come again");
    assert_eq!(stage.send(from("relay", "10.0.0.2:1")).await.status, 202, "another address");
    assert_eq!(stage.send(from("record", "10.0.0.1:1")).await.status, 202, "another token");
    stage.shared.set_relay(&hourly);
    assert_eq!(stage.send(from("relay", "10.0.0.1:1")).await.status, 429, "a reload gives nothing back");
    stage.shared.set_relay(&relay());
    assert_eq!(stage.send(from("relay", "10.0.0.1:1")).await.status, 202, "another rate begins anew");

    let metrics = stage.send(with_token(TestRequest::get().uri("/metrics"), "read")).await;
    let metrics = String::from_utf8(metrics.bytes.to_vec()).unwrap();
    for line in [
        "posthaste_relay_events_total{outcome=\"recorded\"} 6",
        "posthaste_relay_events_total{outcome=\"limited\"} 2",
        "posthaste_relay_events_total{outcome=\"refused\"} 0",
        "posthaste_http_requests_total{route=\"/analytics\",status=\"429\"} 2",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
}

#[test]
fn no_body_makes_an_error_of_ours() {
    let system = actix_web::rt::System::new();
    let stage = system.block_on(Stage::open());
    let name = prop_oneof![Just("event"), Just("properties"), Just("derived_properties"), Just("a/~b"), Just("")];
    let value = prop_oneof![
        Just(json!("shop:order:placed")),
        Just(json!("view:loaded")),
        Just(json!({"shop": {"order": {"currency": "EUR", "lines_count": -1, "x": [null]}}})),
        Just(json!({"page": "home", "shop": 5})),
        any::<f64>().prop_map(Value::from),
        ".{0,50}".prop_map(Value::from),
        Just(json!(null)),
        Just(json!([])),
    ];
    let object = prop::collection::vec((name, value), 0..5)
        .prop_map(|fields| Value::Object(fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()));
    let body = prop_oneof![object.prop_map(|o| o.to_string().into_bytes()), any::<Vec<u8>>()];
    let mut runner = proptest::test_runner::TestRunner::default();
    runner
        .run(&body, |body| {
            let answer = system.block_on(stage.send(post(&json!(null)).set_payload(body)));
            prop_assert!(answer.status < 500, "{answer:?}");
            if answer.status >= 400 {
                answer.pointers();
            }
            Ok(())
        })
        .unwrap();
}

#[actix_web::test]
async fn a_relay_that_nobody_configured_takes_nothing() {
    let stage = Stage::open().await;
    stage.shared.set_relay(&Relay { types: Vec::new(), origins: Vec::new(), ..relay() });
    let answer = stage.send(post(&json!({"event": "a:b"}))).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/event".to_owned()]));
}

#[actix_web::test]
async fn a_daemon_that_stops_relays_nothing_more() {
    let stage = Stage::open().await;
    stage.shared.stop();
    let refused = stage.send(post(&json!({"event": "a:b"}))).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "2"));
}
