//! `?reveal=`: who may look behind what is masked, and that each look is told.

use super::stage::{JSON, Stage, secret, tokens, with_token};
use actix_web::test::TestRequest;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Keeps the lines of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Lines with the target `audit` since the last look.
    fn audits(&self) -> Vec<Value> {
        let lines = std::mem::take(&mut *self.0.lock().unwrap());
        let lines = String::from_utf8(lines).unwrap();
        let all = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|line| line["target"] == "audit").collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Logs to the value that is returned, on this thread, as long as the guard lives.
fn logged() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(log.clone()).finish();
    (log, tracing::subscriber::set_default(subscriber))
}

async fn look(stage: &Stage, path: &str, token: &str) -> (u16, Value) {
    let answer = stage.send(with_token(TestRequest::get().uri(path), token)).await;
    (answer.status, answer.json())
}

/// Records an order; its id.
async fn order(stage: &Stage) -> String {
    let body = json!({"type": "shop:order:placed", "properties": {"shop": {"order": {"uuid": "o-1", "customer": "Ada",
        "currency": "EUR", "lines": [{"note": "ring twice", "total": 1.5}]}}}});
    let post = TestRequest::post().uri("/v1/events").append_header(JSON).set_payload(body.to_string());
    let answer = stage.send(with_token(post, "record")).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn revealing_needs_manage_and_each_look_is_a_line_without_values() {
    let stage = Stage::new(tokens()).await;
    let (first, last) = (order(&stage).await, order(&stage).await);
    let (log, _guard) = logged();
    let one = format!("/v1/events/{first}?reveal=fields");
    for path in [one.as_str(), "/v1/events?reveal=fields", "/v1/subscriptions?reveal=url"] {
        assert_eq!(look(&stage, path, "read").await.0, 403, "{path}");
        assert_eq!(look(&stage, path, "record").await.0, 403, "{path}");
    }
    assert_eq!(log.audits(), Vec::<Value>::new(), "nothing was shown");

    let (status, event) = look(&stage, &one, "manage").await;
    assert_eq!((status, &event["properties"]["shop"]["order"]["customer"]), (200, &json!("Ada")));
    let lines = log.audits();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["token"], &lines[0]["reveal"]), (&json!("manage"), &json!("fields")));
    assert_eq!((&lines[0]["first"], &lines[0]["last"], &lines[0]["count"]), (&json!(first), &json!(first), &json!(1)));
    assert!(!lines[0].to_string().contains("Ada") && !lines[0].to_string().contains(&secret("manage")));

    let (status, events) = look(&stage, "/v1/events?reveal=fields", "admin").await;
    assert_eq!((status, events["data"].as_array().unwrap().len()), (200, 2));
    let lines = log.audits();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["first"], &lines[0]["last"], &lines[0]["count"]), (&json!(last), &json!(first), &json!(2)));

    assert_eq!(look(&stage, "/v1/events", "read").await.0, 200);
    assert_eq!(log.audits(), Vec::<Value>::new(), "no look behind a mask");
}

#[actix_web::test]
async fn a_whole_url_is_shown_to_those_who_manage_subscriptions() {
    let stage = Stage::new(tokens()).await;
    let (log, _guard) = logged();
    let (_, plain) = look(&stage, "/v1/subscriptions/good", "read").await;
    assert_eq!(plain["url"], "https://hooks.example.com");
    let (status, whole) = look(&stage, "/v1/subscriptions/good?reveal=url", "manage").await;
    assert_eq!((status, &whole["url"]), (200, &json!("https://hooks.example.com/the/secret/path")));
    assert_eq!((&whole["deliveree"], &whole["state"]), (&plain["deliveree"], &plain["state"]));
    let (_, all) = look(&stage, "/v1/subscriptions?reveal=url&limit=2", "manage").await;
    let urls: Vec<_> = all["data"].as_array().unwrap().iter().map(|s| s["url"].as_str().unwrap()).collect();
    assert_eq!(urls, ["https://hooks.example.com/the/secret/path"; 2]);
    let lines = log.audits();
    assert_eq!((lines.len(), &lines[0]["first"], &lines[1]["count"]), (2, &json!("good"), &json!(2)));
    assert!(lines.iter().all(|line| !line.to_string().contains("the/secret/path")), "{lines:?}");

    // A token of a tenant sees the URLs of that tenant's subscriptions only.
    assert_eq!(look(&stage, "/v1/subscriptions/acme?reveal=url", "acme").await.0, 200);
    assert_eq!(look(&stage, "/v1/subscriptions/good?reveal=url", "acme").await.0, 404);
}

#[actix_web::test]
async fn without_tokens_everybody_on_this_machine_may_look_and_is_told_of_too() {
    let stage = Stage::open().await;
    let (log, _guard) = logged();
    assert_eq!(stage.get("/v1/subscriptions/good?reveal=url").await.status, 200);
    assert_eq!(log.audits()[0]["token"], "none is configured");
}
