//! Subscriptions that come and go by the API, and replays, as callers see them.

use super::stage::{Answer, JSON, Stage, request, tokens, with_token};
use actix_web::http::Method;
use serde_json::{Value, json};

const URL: &str = "https://hooks.example.com/CANARY-path";

fn webhook(name: &str) -> Value {
    json!({"name": name, "deliveree": "webhook", "events": ["posthaste:**"], "url": URL})
}

async fn send(stage: &Stage, method: Method, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let request = request(method, path).append_header(JSON).set_payload(body.to_string());
    stage.send(headers.iter().fold(request, |request, header| request.append_header(*header))).await
}

/// The revision in a tag: `"1-…"`.
fn revision(answer: &Answer) -> u64 {
    let tag = answer.header("etag").trim_matches('"');
    tag.split_once('-').unwrap().0.parse().unwrap()
}

async fn create(stage: &Stage, body: &Value) -> Answer {
    send(stage, Method::POST, "/v1/subscriptions", body, &[]).await
}

#[actix_web::test]
async fn a_subscription_is_made_seen_changed_and_removed() {
    let stage = Stage::open().await;
    let made = create(&stage, &webhook("ops")).await;
    assert_eq!(
        (made.status, made.header("location"), revision(&made), made.header("cache-control")),
        (201, "/v1/subscriptions/ops", 1, "no-store"),
        "{made:?}"
    );
    let shape = made.json();
    assert_eq!((&shape["source"], &shape["state"]), (&json!("api"), &json!("active")));
    let secret = shape["secret"].as_str().unwrap().to_owned();
    let one = stage.get("/v1/subscriptions/ops").await;
    assert_eq!((one.status, one.header("etag")), (200, made.header("etag")));
    assert_eq!(one.json()["url"], "https://hooks.example.com");
    let listed = stage.get("/v1/subscriptions").await;
    for shown in [&one, &listed] {
        let text = String::from_utf8_lossy(&shown.bytes);
        assert!(text.contains("\"ops\"") && !text.contains(&secret) && !text.contains("CANARY"), "{text}");
    }
    assert_eq!(stage.get("/v1/subscriptions/ops?reveal=url").await.json()["url"], URL);
    let patched = send(&stage, Method::PATCH, "/v1/subscriptions/ops", &json!({"timeout": "3s"}), &[]).await;
    assert_eq!((patched.status, revision(&patched)), (200, 2), "{patched:?}");
    assert_eq!((&patched.json()["timeout"], patched.json().get("secret")), (&json!("3s"), None));
    let removed = send(&stage, Method::DELETE, "/v1/subscriptions/ops", &json!({}), &[]).await;
    assert_eq!((removed.status, removed.bytes.len()), (204, 0), "{removed:?}");
    assert_eq!(stage.get("/v1/subscriptions/ops").await.status, 404);
    let again = create(&stage, &webhook("ops")).await;
    assert_eq!(
        (again.status, &again.json()["state"]),
        (201, &json!("active")),
        "a name that was removed is free again"
    );
}

#[actix_web::test]
async fn a_tag_that_is_old_changes_nothing() {
    let stage = Stage::open().await;
    let first = create(&stage, &webhook("ops")).await.header("etag").to_owned();
    let path = "/v1/subscriptions/ops";
    let patch = json!({"timeout": "3s"});
    let [next, weak, bare] = [first.replacen('1', "2", 1), format!("W/{first}"), first.replace('"', "")];
    let respelled = first.replacen('1', "+1", 1);
    for tag in [&next, "\"7\", \"8\"", &weak, &bare, &respelled, "\"1\"", "\"1-0\"", "\"x\"", ""] {
        for (method, path) in [
            (Method::PATCH, path.to_owned()),
            (Method::DELETE, path.to_owned()),
            (Method::POST, format!("{path}/rotate-secret")),
        ] {
            let body = if method == Method::PATCH { patch.clone() } else { json!({}) };
            let refused = send(&stage, method.clone(), &path, &body, &[("if-match", tag)]).await;
            assert_eq!(refused.status, 412, "{method} {tag}: {refused:?}");
        }
    }
    assert_eq!(stage.get(path).await.header("etag"), first);
    let nth = |n: &str| first.replacen('1', n, 1);
    for (tag, timeout) in [(&*first, "3s"), (&format!("\"7\", {}", nth("2")), "4s"), ("*", "5s"), (&nth("4"), "5s")] {
        // The last one changes nothing, and so no tag.
        let patch = json!({ "timeout": timeout });
        let changed = send(&stage, Method::PATCH, path, &patch, &[("if-match", tag)]).await;
        assert_eq!(changed.status, 200, "{tag}: {changed:?}");
    }
    assert_eq!(send(&stage, Method::DELETE, path, &json!({}), &[("if-match", &nth("4"))]).await.status, 204);
}

#[actix_web::test]
async fn the_tag_of_one_that_was_removed_fits_none_that_is_made_under_its_name() {
    let stage = Stage::open().await;
    let path = "/v1/subscriptions/ops";
    let before = create(&stage, &webhook("ops")).await.header("etag").to_owned();
    assert_eq!(send(&stage, Method::DELETE, path, &json!({}), &[("if-match", &before)]).await.status, 204);
    let now = create(&stage, &webhook("ops")).await;
    assert_eq!((now.status, revision(&now)), (201, 1), "the same revision as before");
    let patch = json!({"timeout": "3s"});
    for (method, path, body) in [
        (Method::PATCH, path.to_owned(), &patch),
        (Method::DELETE, path.to_owned(), &json!({})),
        (Method::POST, format!("{path}/rotate-secret"), &json!({})),
    ] {
        let refused = send(&stage, method.clone(), &path, body, &[("if-match", &before)]).await;
        assert_eq!(refused.status, 412, "{method} {path}: {refused:?}");
    }
    let changed = send(&stage, Method::PATCH, path, &patch, &[("if-match", now.header("etag"))]).await;
    assert_eq!((changed.status, revision(&changed)), (200, 2), "{changed:?}");
}

#[actix_web::test]
async fn names_are_taken_once_and_those_of_the_configuration_are_not_changed_here() {
    let stage = Stage::open().await;
    for (name, status) in [("ops", 201), ("ops", 409), ("good", 409)] {
        assert_eq!(create(&stage, &webhook(name)).await.status, status, "{name}");
    }
    for (method, path) in [
        (Method::PATCH, "/v1/subscriptions/good"),
        (Method::DELETE, "/v1/subscriptions/good"),
        (Method::POST, "/v1/subscriptions/good/rotate-secret"),
    ] {
        let refused = send(&stage, method.clone(), path, &json!({}), &[]).await;
        assert_eq!(refused.status, 409, "{method} {path}: {refused:?}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("configuration"), "{refused:?}");
        let nobody = path.replace("good", "nobody");
        assert_eq!(send(&stage, method, &nobody, &json!({}), &[]).await.status, 404);
    }
}

#[actix_web::test]
async fn what_is_wrong_is_named_at_its_pointer_and_nothing_is_made() {
    let stage = Stage::open().await;
    for (body, status, pointers) in [
        (r#"{"name":"ops""#.to_owned(), 400, vec![]),
        ("[]".to_owned(), 422, vec![""]),
        ("{}".to_owned(), 422, vec!["/name", "/deliveree"]),
        (json!({"name": "ops", "deliveree": "webhook", "url": "env:HOME"}).to_string(), 422, vec!["/url"]),
        (json!({"name": "ops", "deliveree": "webhook", "url": "http://10.0.0.1/"}).to_string(), 422, vec!["/url"]),
        (json!({"name": "ops", "deliveree": "webhook", "url": URL, "colour": 1}).to_string(), 422, vec!["/colour"]),
        (
            json!({"name": "ops", "deliveree": "webhook", "url": URL, "where": {"no.such": 1}, "events": ["a:b"]})
                .to_string(),
            422,
            vec!["/where/no.such"],
        ),
    ] {
        let refused = stage.post("/v1/subscriptions", body.clone()).await;
        assert_eq!(
            (refused.status, refused.pointers()),
            (status, pointers.into_iter().map(str::to_owned).collect()),
            "{body}"
        );
    }
    let long = stage.post("/v1/subscriptions", " ".repeat(65 * 1024)).await;
    assert_eq!(long.status, 413);
    let form = request(Method::POST, "/v1/subscriptions").append_header(("content-type", "text/plain"));
    assert_eq!(stage.send(form.set_payload("{}")).await.status, 415);
    assert_eq!(stage.get("/v1/subscriptions/ops").await.status, 404);
}

#[actix_web::test]
async fn a_token_of_a_tenant_makes_sees_and_changes_its_own_alone() {
    let stage = Stage::new(tokens()).await;
    let ask = async |token: &str, method: Method, path: &str, body: Value| {
        stage.send(with_token(request(method, path), token).append_header(JSON).set_payload(body.to_string())).await
    };
    let made = ask("acme", Method::POST, "/v1/subscriptions", webhook("theirs")).await;
    assert_eq!((made.status, &made.json()["tenant"]), (201, &json!("acme")), "{made:?}");
    // Names are one namespace: that one is taken is told, and nothing of whose it is or what.
    let own = ask("acme", Method::POST, "/v1/subscriptions", webhook("theirs")).await;
    let console = json!({"name": "theirs", "deliveree": "analytics", "backend": "posthog", "url": URL, "key": "k"});
    for body in [webhook("theirs"), console] {
        let taken = ask("other", Method::POST, "/v1/subscriptions", body).await;
        assert_eq!((taken.status, &taken.bytes), (409, &own.bytes), "{taken:?}");
        let text = String::from_utf8_lossy(&taken.bytes).into_owned();
        assert!(!["acme", "webhook", "example", "api", "config"].iter().any(|word| text.contains(word)), "{text}");
    }
    let mut foreign = webhook("foreign");
    foreign["tenant"] = "acme".into();
    assert_eq!(ask("other", Method::POST, "/v1/subscriptions", foreign.clone()).await.status, 403);
    assert_eq!(ask("acme", Method::PATCH, "/v1/subscriptions/theirs", json!({"tenant": "other"})).await.status, 403);
    assert_eq!(ask("manage", Method::POST, "/v1/subscriptions", foreign).await.status, 201);
    let replay = ask("acme", Method::GET, "/v1/replays", json!({})).await;
    assert_eq!(replay.status, 200);
    let path = "/v1/subscriptions/theirs".to_owned();
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}?reveal=url")),
        (Method::PATCH, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/rotate-secret")),
        (Method::POST, format!("{path}/replay")),
        (Method::POST, format!("{path}/pause")),
        (Method::POST, format!("{path}/resume")),
        (Method::POST, format!("{path}/test")),
    ] {
        assert_eq!(ask("other", method.clone(), &path, json!({})).await.status, 404, "{method} {path}");
        let none = stage.send(request(method.clone(), &path)).await;
        assert_eq!(none.status, 401, "{method} {path}");
        let record = ask("record", method.clone(), &path, json!({})).await;
        assert_eq!(record.status, 403, "{method} {path}");
    }
    // A replay is its subscription's: nobody else sees it, or ends it.
    let ordered = ask("acme", Method::POST, &format!("{path}/replay"), json!({})).await;
    assert_eq!(ordered.status, 202, "{ordered:?}");
    let replay = format!("/v1/replays/{}", ordered.json()["id"].as_str().unwrap());
    for (method, path) in [(Method::GET, replay.clone()), (Method::POST, format!("{replay}/cancel"))] {
        assert_eq!(ask("other", method.clone(), &path, json!({})).await.status, 404, "{method} {path}");
        assert_eq!(stage.send(request(method.clone(), &path)).await.status, 401, "{method} {path}");
    }
    assert_eq!(ask("other", Method::GET, "/v1/replays", json!({})).await.json()["data"], json!([]));
    assert_eq!(ask("acme", Method::GET, &replay, json!({})).await.status, 200);
    let listed = ask("other", Method::GET, "/v1/subscriptions", json!({})).await.json();
    assert_eq!(listed["data"], json!([]), "{listed}");
    assert_eq!(ask("manage", Method::DELETE, &path, json!({})).await.status, 204, "who is bound to none sees all");
}

#[actix_web::test]
async fn an_order_to_replay_that_cannot_be_meant_is_refused_at_its_pointer() {
    let stage = Stage::open().await;
    for (body, pointers) in [
        (json!({"state": "pending"}), vec!["/state"]),
        (json!({"state": "held"}), vec!["/state"]),
        (json!({"state": "gone"}), vec!["/state"]),
        (json!({"since": "yesterday", "until": 5}), vec!["/since", "/until"]),
        (json!({"type": "!"}), vec!["/type"]),
        (json!({"types": "a:b"}), vec!["/types"]),
    ] {
        let refused = stage.post("/v1/subscriptions/good/replay", body.to_string()).await;
        assert_eq!(
            (refused.status, refused.pointers()),
            (422, pointers.into_iter().map(str::to_owned).collect()),
            "{body}"
        );
    }
    assert_eq!(stage.post("/v1/subscriptions/nobody/replay", "{}").await.status, 404);
    assert_eq!(stage.get("/v1/replays/rpl_1").await.status, 404);
    assert_eq!(stage.get("/v1/replays/1").await.status, 404);
}
