//! The options of each kind: what is refused, in which words, and what is shown.

use crate::sending::{OTHER_SECRET, SECRET};
use posthaste_deliverees::registry::{Kind, Parsed};
use posthaste_deliverees::{Guard, Kinds, Problem};
use posthaste_events::{OneByOne, Outcome};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn parse(kind: &str, options: &Value) -> Result<Parsed, Vec<Problem>> {
    (Kinds::built_in().get(kind).unwrap().parse)(options.as_object().unwrap(), &Guard::default())
}

/// Problems of a webhook that is good but for `change`.
fn problems(change: &Value) -> Vec<Problem> {
    let mut options = json!({ "url": "https://ops.example.com/hooks", "secrets": [SECRET] });
    for (key, value) in change.as_object().unwrap() {
        options[key] = value.clone();
    }
    parse("webhook", &options).err().unwrap_or_default()
}

#[test]
fn a_wrong_option_is_named_by_its_path() {
    let short = "whsec_AAAA";
    let rows = [
        (json!({ "url": "/hooks" }), "url"),
        (json!({ "url": "ftp://ops.example.com/" }), "url"),
        (json!({ "url": "http://user:canary@ops.example.com/" }), "url"),
        (json!({ "url": 5 }), "url"),
        (json!({ "url": ["https://ops.example.com/canary"] }), "url"),
        (json!({ "url": "http://10.0.0.1/canary" }), "url"),
        (json!({ "url": "http://ops.example.com/", "https_only": true }), "url"),
        (json!({ "https_only": "yes" }), "https_only"),
        (json!({ "secrets": [] }), "secrets"),
        (json!({ "secrets": "whsec_canary" }), "secrets"),
        (json!({ "secrets": ["whsec_"] }), "secrets.0"),
        (json!({ "secrets": [SECRET, short] }), "secrets.1"),
        (json!({ "secrets": ["whsec_!!!!canary*base64!!!!!!!!!!!!"] }), "secrets.0"),
        (json!({ "secrets": vec![SECRET; 9] }), "secrets"),
        (json!({ "timeout": "5 parsecs" }), "timeout"),
        (json!({ "timeout": 5 }), "timeout"),
        (json!({ "timeout": "0s" }), "timeout"),
        (json!({ "timeout": "1d" }), "timeout"),
        (json!({ "format": "morse" }), "format"),
        (json!({ "format": "slack" }), "format"),
        (json!({ "give_up_on": [200] }), "give_up_on"),
        (json!({ "give_up_on": [70_000] }), "give_up_on"),
        (json!({ "give_up_on": "404" }), "give_up_on"),
        (json!({ "headers": "x: canary" }), "headers"),
        (json!({ "headers": { "x env": "canary" } }), "headers.x env"),
        (json!({ "headers": { "x:env": "canary" } }), "headers.x:env"),
        (json!({ "headers": { "": "canary" } }), "headers."),
        (json!({ "headers": { "x-env": "canary\r\nwebhook-id: forged" } }), "headers.x-env"),
        (json!({ "headers": { "x-env": "canary\n" } }), "headers.x-env"),
        (json!({ "headers": { "x-env": "can\u{e4}ry" } }), "headers.x-env"),
        (json!({ "headers": { "Webhook-Id": "canary" } }), "headers.Webhook-Id"),
        (json!({ "headers": { "webhook-anything": "canary" } }), "headers.webhook-anything"),
        (json!({ "headers": { "posthaste-attempt": "9" } }), "headers.posthaste-attempt"),
        (json!({ "headers": { "User-Agent": "canary" } }), "headers.User-Agent"),
        (json!({ "headers": { "HOST": "canary" } }), "headers.HOST"),
        (json!({ "headers": { "content-length": "0" } }), "headers.content-length"),
        (json!({ "headers": { "transfer-encoding": "chunked" } }), "headers.transfer-encoding"),
        (json!({ "headers": { "connection": "close" } }), "headers.connection"),
        (json!({ "headers": { "x-a": "1", "X-A": "2" } }), "headers.x-a"),
        (json!({ "urll": "x" }), "urll"),
    ];
    for (change, path) in rows {
        let found = problems(&change);
        assert_eq!(found.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), [path], "{change}: {found:?}");
        let text = format!("{found:?}");
        assert!(!text.contains("canary"), "{text}");
        let key = path.split('.').next().unwrap();
        assert!(found[0].what.contains(key) && !found[0].hint.is_empty(), "{text}");
    }
    assert_eq!(problems(&json!({})), []);
}

#[test]
fn all_problems_are_told_at_once() {
    let change =
        json!({ "url": "/x", "secrets": ["a", "b"], "timeout": "5", "zzz": 1, "headers": { "te": "x", "host": "y" } });
    assert_eq!(problems(&change).len(), 7, "{:?}", problems(&change));
    let missing = parse("webhook", &json!({})).unwrap_err();
    assert_eq!(missing.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["url", "secrets"]);
}

#[test]
fn what_is_not_built_yet_is_said_by_name() {
    for (kind, options) in
        [("webhook", json!({ "format": "cloudevents" })), ("console", json!({ "payload": "telemetry" }))]
    {
        let found = if kind == "webhook" { problems(&options) } else { parse(kind, &options).unwrap_err() };
        assert!(found.len() == 1 && found[0].what.contains("not built yet"), "{found:?}");
    }
    assert_eq!(parse("console", &json!({ "payload": "braille" })).unwrap_err()[0].path, "payload");
}

#[test]
fn what_is_shown_has_no_secret() {
    let options = json!({
        "url": "https://hooks.example.com:8443/services/canary1?key=canary2",
        "secrets": [SECRET, OTHER_SECRET],
        "headers": { "Authorization": "Bearer canary3", "x-api-key": "canary4", "x-env": "prod" },
        "give_up_on": [422, 404],
    });
    let parsed = parse("webhook", &options).unwrap();
    let expected = json!({
        "url": "https://hooks.example.com:8443",
        "headers": { "authorization": "…", "x-api-key": "…", "x-env": "…" },
        "timeout": "15s",
        "format": "standard",
        "give_up_on": [404, 422],
        "https_only": false,
    });
    assert_eq!(Value::Object(parsed.shown.clone()), expected);
    assert!(!format!("{parsed:?}").contains("canary"));
    assert_eq!(parsed.revealed["url"], options["url"]);
    assert_eq!(Value::Object(parse("console", &json!({})).unwrap().shown), json!({ "payload": "notification" }));
}

#[test]
fn a_third_partys_kind_joins_the_table() {
    let pigeon = Kind {
        name: "pigeon",
        keys: &["loft"],
        paths: &[],
        parse: Arc::new(|options, _| {
            let loft = options
                .get("loft")
                .cloned()
                .ok_or_else(|| vec![Problem::new("loft", "loft is missing", "say where")])?;
            let make = |_: &_| {
                let fly = |_: posthaste_events::Delivery<posthaste_events::Notification>| async {
                    Outcome::Delivered(posthaste_events::outcome::Detail::default())
                };
                OneByOne::new(Duration::from_secs(1), fly)
            };
            Ok(Parsed::notification(serde_json::Map::from_iter([("loft".to_owned(), loft)]), make))
        }),
    };
    let kinds = Kinds::built_in().with(pigeon);
    assert_eq!(kinds.names().collect::<Vec<_>>(), ["analytics", "console", "pigeon", "webhook"]);
    let parse = &kinds.get("pigeon").unwrap().parse;
    assert_eq!(parse(&serde_json::Map::new(), &Guard::default()).unwrap_err()[0].path, "loft");
    assert!(kinds.get("owl").is_none());
}
