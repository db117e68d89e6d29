//! Bodies that are refused, each with its status, and nothing recorded.

use super::stage::{JSON, Stage};
use actix_web::test::TestRequest;
use proptest::prelude::*;
use serde_json::{Value, json};

#[actix_web::test]
async fn each_wrong_body_has_its_status_and_nothing_is_recorded() {
    let stage = Stage::open().await;
    let deep = |n: usize| format!(r#"{{"type":"a:b","properties":{{"deep":{}{}}}}}"#, "[".repeat(n), "]".repeat(n));
    let long = json!({"type": "a:b", "properties": {"s": "y".repeat(256 * 1024)}}).to_string();
    let bodies: Vec<(u16, String)> = vec![
        (400, String::new()),
        (400, "{".into()),
        (400, r#"{"type":"a:b"} {}"#.into()),
        (400, r#"{"type":"a:b","properties":{"x":"\ud800"}}"#.into()),
        (400, r#"{"type":"a:b","type":"a:b"}"#.into()),
        (400, deep(127)),
        (413, long),
        (413, "x".repeat((1 << 20) + 1)),
        (422, "[]".into()),
        (422, "5".into()),
        (422, Value::from(vec![json!({"type": "a:b"}); 1_001]).to_string()),
        (422, json!({"type": "a:undeclared"}).to_string()),
        (422, json!({"type": "posthaste:test"}).to_string()),
        (422, json!({"properties": {}}).to_string()),
        (422, json!({"type": "a:b", "propertys": {}}).to_string()),
        (422, json!({"type": "a:b", "properties": "x"}).to_string()),
        (422, json!({"type": "a:b", "key": ""}).to_string()),
        (422, json!([{"type": "a:b"}, {"type": 5}]).to_string()),
    ];
    for (status, body) in bodies {
        let answer = stage.post("/v1/events", body.clone()).await;
        assert_eq!(answer.status, status, "{} {answer:?}", &body[..body.len().min(200)]);
        answer.pointers();
    }
    let bytes = stage.post("/v1/events", &b"{\"type\":\"a:b\",\"key\":\"\xff\"}"[..]).await;
    assert_eq!(bytes.status, 400);
    assert_eq!(stage.count().await, 0);
    assert_eq!(stage.post("/v1/events", deep(126)).await.status, 202, "128 levels are taken");
}

#[actix_web::test]
async fn what_a_caller_reads_says_what_to_mend() {
    let stage = Stage::open().await;
    let body = json!([{"type": "a:undeclared"}, {"tpye": "a:b", "key": ""}]);
    let answer = stage.post("/v1/events", body.to_string()).await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&answer.json()).unwrap(), @r#"
    {
      "detail": "4 fields are wrong",
      "errors": [
        {
          "detail": "the type \"a:undeclared\" is not declared in the catalogue; declare it in events.toml, or set catalogue.undeclared = \"accept\"",
          "pointer": "/0/type"
        },
        {
          "detail": "an event has no such field; it has type, properties, idempotency_key, occurred_at, key and tenant",
          "pointer": "/1/tpye"
        },
        {
          "detail": "the type of the event is missing",
          "pointer": "/1/type"
        },
        {
          "detail": "this has 1 to 256 characters",
          "pointer": "/1/key"
        }
      ],
      "status": 422,
      "title": "Unprocessable Entity"
    }
    "#);
}

#[actix_web::test]
async fn other_media_types_are_415_and_none_is_taken_as_json() {
    let stage = Stage::open().await;
    let post = |kind: &str| {
        let kind = ("content-type", kind.to_owned());
        TestRequest::post().uri("/v1/events").append_header(kind).set_payload(r#"{"type":"a:b"}"#)
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/cloudevents+json", "application/xml"] {
        let answer = stage.send(post(kind)).await;
        assert_eq!(answer.status, 415, "{kind}");
        answer.pointers();
    }
    let zipped = post("application/json").append_header(("content-encoding", "gzip"));
    assert_eq!(stage.send(zipped).await.status, 415);
    assert_eq!(stage.count().await, 0);
    let bare = TestRequest::post().uri("/v1/events").set_payload(r#"{"type":"a:b"}"#);
    assert_eq!(stage.send(bare).await.status, 202);
}

#[test]
fn no_body_and_no_path_makes_an_error_of_ours() {
    let system = actix_web::rt::System::new();
    let stage = system.block_on(Stage::open());
    let field = prop_oneof![
        Just("type"),
        Just("properties"),
        Just("key"),
        Just("tenant"),
        Just("occurred_at"),
        Just("idempotency_key"),
        Just("x")
    ];
    let value = prop_oneof![
        Just(json!(null)),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,300}".prop_map(Value::from),
        Just(json!("a:b")),
        Just(json!({"a": [1, {"b": null}]})),
        Just(json!([])),
        Just(json!("2026-01-31T12:00:00Z"))
    ];
    let object = prop::collection::vec((field, value), 0..5)
        .prop_map(|fields| Value::Object(fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()));
    let body = prop_oneof![
        object.clone().prop_map(|o| o.to_string().into_bytes()),
        prop::collection::vec(object, 0..4).prop_map(|o| Value::from(o).to_string().into_bytes()),
        any::<Vec<u8>>(),
    ];
    let mut runner = proptest::test_runner::TestRunner::default();
    let inputs = (body, "[a-z0-9_%.?=&/-]{0,40}", any::<String>());
    runner
        .run(&inputs, |(body, path, key)| {
            system.block_on(async {
                let mut post = TestRequest::post().uri("/v1/events").append_header(JSON).set_payload(body);
                if let Ok(value) = actix_web::http::header::HeaderValue::from_bytes(key.as_bytes()) {
                    post = post.append_header(("idempotency-key", value));
                }
                let posted = stage.send(post).await;
                prop_assert!(posted.status < 500, "{posted:?}");
                if posted.status >= 400 {
                    posted.pointers();
                }
                if let Ok(uri) = format!("/v1/{path}").parse::<actix_web::http::Uri>() {
                    let got = stage.send(TestRequest::get().uri(&uri.to_string())).await;
                    prop_assert!(got.status < 500, "{uri} {got:?}");
                }
                Ok(())
            })
        })
        .unwrap();
}
