//! What arrives in each format: the headers beside the body, the signature over the bytes that were sent, and the same at
//! every attempt.

use crate::receiver::{Receiver, Request};
use crate::sending::{BODY, Bench, NOW, SECRET, deliver, delivery};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use posthaste_events::Outcome;
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::atomic::Ordering;

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn is_signed(request: &Request) -> bool {
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let (id, at) = (&request.headers["webhook-id"], &request.headers["webhook-timestamp"]);
    let mac = hmac(&key, &[id.as_bytes(), b".", at.as_bytes(), b".", &request.body]);
    request.headers["webhook-signature"] == format!("v1,{}", STANDARD.encode(mac))
}

/// What arrives of one event at its first and its second attempt, an hour later.
async fn twice(options: Value) -> [Request; 2] {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let bench = Bench::new();
    let mut all = json!({ "url": receiver.url(), "timeout": "1s" });
    for (key, value) in options.as_object().unwrap() {
        all[key] = value.clone();
    }
    let to = bench.make("webhook", all);
    for attempt in [1, 2] {
        bench.clock.0.store(NOW + 3_600 * i64::from(attempt), Ordering::SeqCst);
        let reported = deliver(&to, vec![delivery(10, attempt, BODY)]).await;
        assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    }
    receiver.requests().try_into().unwrap()
}

#[tokio::test]
async fn every_attempt_brings_the_same_but_for_its_number_its_time_and_its_signature() {
    for format in [
        json!({ "secrets": [SECRET] }),
        json!({ "secrets": [SECRET], "format": "cloudevents" }),
        json!({ "secrets": [SECRET], "format": "cloudevents", "mode": "binary" }),
        json!({ "secrets": [SECRET], "format": "orchest", "signature": ["orchest", "standard"] }),
        json!({ "secrets": [SECRET], "format": "orchest", "content_type": "form", "signature": "standard" }),
        json!({ "secrets": [SECRET], "format": "slack" }),
        json!({ "secrets": [SECRET], "format": "teams" }),
        json!({ "secrets": [SECRET], "format": "discord" }),
    ] {
        let [mut first, mut second] = twice(format.clone()).await;
        assert!(is_signed(&first) && is_signed(&second), "{format}");
        assert_eq!(
            (first.headers["posthaste-attempt"].as_str(), second.headers["posthaste-attempt"].as_str()),
            ("1", "2")
        );
        for changing in ["posthaste-attempt", "webhook-timestamp", "webhook-signature"] {
            assert_ne!(first.headers.remove(changing), second.headers.remove(changing), "{format}: {changing}");
        }
        assert_eq!((first.headers, first.body), (second.headers, second.body), "{format}");
    }
}

#[tokio::test]
async fn a_chat_needs_no_secret_and_another_format_does() {
    for format in ["slack", "teams", "discord"] {
        let [request, _] = twice(json!({ "format": format })).await;
        assert_eq!(request.headers["content-type"], "application/json");
        assert!(!request.headers.contains_key("webhook-signature"), "{format}");
        assert!(String::from_utf8_lossy(&request.body).contains("project:created"), "{format}");
    }
}

#[tokio::test]
async fn what_arrives_in_the_format_of_orchest_is_what_its_receivers_know() {
    let secret = "0123456789abcdef0123456789abcdef";
    let [request, again] = twice(json!({ "secrets": [secret], "format": "orchest" })).await;
    let headers = &request.headers;
    assert_eq!(headers["user-agent"], "Orchest");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-orchest-event"], "project:created");
    assert_eq!(
        (headers["x-orchest-delivery"].len(), &headers["x-orchest-delivery"]),
        (36, &again.headers["x-orchest-delivery"])
    );
    let hex: String = hmac(secret.as_bytes(), &[&request.body]).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(headers["x-hub-signature"], hex);
    assert!(!headers.contains_key("webhook-signature") && headers["webhook-id"].starts_with("evt_"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["delivered_for"]["name"], "ops");
    assert_eq!(body["event"]["project"]["name"], "x");
}

#[tokio::test]
async fn a_binary_cloudevent_and_a_header_of_ones_own_arrive_together() {
    let options = json!({
        "secrets": [SECRET], "format": "cloudevents", "mode": "binary", "source": "https://shop.example.com/",
        "headers": { "x-env": "prod" },
    });
    let [request, _] = twice(options).await;
    let headers = &request.headers;
    assert_eq!(headers["ce-source"], "https://shop.example.com/");
    assert_eq!((headers["ce-subject"].as_str(), headers["x-env"].as_str()), ("p1", "prod"));
    assert_eq!(headers["ce-id"], headers["webhook-id"]);
    assert_eq!(request.body, br#"{"project":{"name":"x"}}"#);
    assert!(headers.get("ce-tenant").is_none());
}

#[tokio::test]
async fn a_notification_that_can_not_be_written_is_a_failure_like_any_other() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let to = Bench::new().webhook(&receiver.url(), json!({ "format": "slack" }));
    let reported = deliver(&to, vec![delivery(1, 1, "{\"type\":")]).await;
    assert!(matches!(reported.one(), Outcome::Retry { .. }) && reported.error().starts_with("body: "), "{reported:?}");
    assert_eq!(receiver.connections(), 0);
}
