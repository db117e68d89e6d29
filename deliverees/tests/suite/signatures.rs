//! What a webhook signs with, as it arrives: several secrets, the end of an old one, other schemes and prefixes, and who
//! calls. The HMACs are computed here by themselves.

use crate::receiver::{Receiver, Request};
use crate::sending::{BODY, Bench, NOW, OTHER_SECRET, SECRET, send};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::sync::atomic::Ordering;

const TEXT: &str = "a text that a receiver was given";

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn v1(secret: &str, request: &Request) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let content = format!("{}.{}.{}", request.headers["webhook-id"], request.headers["webhook-timestamp"], BODY);
    format!("v1,{}", STANDARD.encode(hmac(&key, content.as_bytes())))
}

fn hex(key: &str) -> String {
    hmac(key.as_bytes(), BODY.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What arrives of one event, sent at each of these times.
async fn arriving(more: Value, times: &[i64]) -> Vec<Request> {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let bench = Bench::new();
    let to = bench.webhook(&receiver.url(), more);
    for time in times {
        bench.clock.0.store(*time, Ordering::SeqCst);
        send(&to).await;
    }
    receiver.requests()
}

#[tokio::test]
async fn an_old_secret_stops_by_itself_at_the_end_of_its_time() {
    let until = "2023-11-14T22:14:20Z"; // 60 s after NOW
    let secrets = json!({ "secrets": [OTHER_SECRET, { "secret": SECRET, "until": until }] });
    let requests = arriving(secrets, &[NOW, NOW + 59, NOW + 60, NOW + 86_400]).await;
    let signed: Vec<&str> = requests.iter().map(|r| r.headers["webhook-signature"].as_str()).collect();
    let both = |request| format!("{} {}", v1(OTHER_SECRET, request), v1(SECRET, request));
    assert_eq!(signed[..2], [both(&requests[0]), both(&requests[1])]);
    assert_eq!(signed[2..], [v1(OTHER_SECRET, &requests[2]), v1(OTHER_SECRET, &requests[3])]);
    let ids: std::collections::BTreeSet<&str> = requests.iter().map(|r| r.headers["webhook-id"].as_str()).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_github_signature_is_the_hmac_of_the_body_under_the_bytes_of_the_text() {
    let requests = arriving(json!({ "signature": "github", "secrets": [TEXT] }), &[NOW]).await;
    let headers = &requests[0].headers;
    assert_eq!(headers["x-hub-signature-256"], format!("sha256={}", hex(TEXT)));
    assert_eq!(headers.get("webhook-signature"), None);
    assert!(headers["webhook-id"].starts_with("evt_"), "{headers:?}");
}

#[tokio::test]
async fn an_orchest_signature_is_bare_hex_and_a_whsec_counts_as_the_text_that_it_is() {
    let requests = arriving(json!({ "signature": ["orchest", "standard"] }), &[NOW]).await;
    let headers = &requests[0].headers;
    assert_eq!(headers["x-hub-signature"], hex(SECRET));
    assert_eq!(headers["webhook-signature"], v1(SECRET, &requests[0]));
    assert_eq!(headers.get("x-hub-signature-256"), None);
}

#[tokio::test]
async fn two_prefixes_carry_the_same_three_values() {
    let requests = arriving(json!({ "header_prefixes": ["svix-", "webhook-"] }), &[NOW]).await;
    let headers = &requests[0].headers;
    for end in ["id", "timestamp", "signature"] {
        assert_eq!(headers[&format!("svix-{end}")], headers[&format!("webhook-{end}")], "{end}");
    }
    let requests = arriving(json!({ "header_prefixes": ["acme-"] }), &[NOW]).await;
    let names: Vec<_> = requests[0].headers.keys().filter(|n| n.ends_with("-signature")).collect();
    assert_eq!(names, ["acme-signature"]);
}

#[tokio::test]
async fn who_calls_is_told_as_authorization() {
    let basic = json!({ "auth": { "basic": { "user": "Aladdin", "password": "open sesame" } } });
    assert_eq!(arriving(basic, &[NOW]).await[0].headers["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    let bearer = json!({ "auth": { "bearer": "mF_9.B5f-4.1JqM" } });
    assert_eq!(arriving(bearer, &[NOW]).await[0].headers["authorization"], "Bearer mF_9.B5f-4.1JqM");
}

/// The official library looks at the machine's clock.
#[expect(clippy::disallowed_methods, reason = "a receiver's library has no other clock than the machine's")]
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

#[tokio::test]
async fn the_library_for_rust_accepts_what_arrives_and_refuses_what_was_changed() {
    let secrets = json!({ "secrets": [OTHER_SECRET, SECRET] });
    let now = now();
    let requests = arriving(secrets, &[now, now - 290, now - 310, now + 310]).await;
    let headers = |request: &Request, change: &str| {
        let changed = |name: &str, value: &str| if name == change { format!("{value}1") } else { value.to_owned() };
        request
            .headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), changed(name, value).parse().unwrap()))
            .collect()
    };
    for secret in [SECRET, OTHER_SECRET] {
        let hook = standardwebhooks::Webhook::new(secret).unwrap();
        let accepts =
            |request: &Request, change: &str, body: &[u8]| hook.verify(body, &headers(request, change)).is_ok();
        let accepted: Vec<bool> = requests.iter().map(|request| accepts(request, "", &request.body)).collect();
        assert_eq!(accepted, [true, true, false, false]);
        let request = &requests[0];
        assert!(
            !accepts(request, "webhook-id", &request.body) && !accepts(request, "webhook-timestamp", &request.body)
        );
        assert!(!accepts(request, "", &[&request.body[..], b"\n"].concat()));
    }
    let other = standardwebhooks::Webhook::new("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
    assert!(other.verify(&requests[0].body, &headers(&requests[0], "")).is_err());
}
