//! The options of each kind: what is refused, in which words, and what is shown.

use crate::secure::Authority;
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
        (json!({ "connect_timeout": "0s" }), "connect_timeout"),
        (json!({ "connect_timeout": "16s" }), "connect_timeout"),
        (json!({ "connect_timeout": 5 }), "connect_timeout"),
        (json!({ "timeout": "4s", "first_byte_timeout": "5s" }), "first_byte_timeout"),
        (json!({ "ca": "canary" }), "ca"),
        (json!({ "ca": "" }), "ca"),
        (json!({ "ca": "-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n" }), "ca"),
        (json!({ "ca": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }), "ca"),
        (json!({ "ca": Authority::new().pem().repeat(65) }), "ca"),
        (json!({ "ca": ["canary"] }), "ca"),
        (json!({ "ca": Authority::new().pem(), "dangerous_accept_invalid_certificates": true }), "ca"),
        (json!({ "dangerous_accept_invalid_certificates": "yes" }), "dangerous_accept_invalid_certificates"),
        (json!({ "secrets": [] }), "secrets"),
        (json!({ "secrets": "whsec_canary" }), "secrets"),
        (json!({ "secrets": ["whsec_"] }), "secrets.0"),
        (json!({ "secrets": [SECRET, short] }), "secrets.1"),
        (json!({ "secrets": ["whsec_!!!!canary*base64!!!!!!!!!!!!"] }), "secrets.0"),
        (json!({ "secrets": vec![SECRET; 9] }), "secrets"),
        (json!({ "secrets": [""] }), "secrets.0"),
        (json!({ "secrets": [7] }), "secrets.0"),
        (json!({ "secrets": [SECRET, { "secret": "canary" }] }), "secrets.1"),
        (json!({ "secrets": [SECRET, { "secret": OTHER_SECRET, "until": "tomorrow" }] }), "secrets.1.until"),
        (
            json!({ "secrets": [SECRET, { "secret": OTHER_SECRET, "untli": "2026-01-31T12:00:00Z" }] }),
            "secrets.1.untli",
        ),
        (json!({ "secrets": [SECRET, { "until": "2026-01-31T12:00:00Z" }] }), "secrets.1.secret"),
        (json!({ "secrets": [{ "secret": SECRET, "until": "2026-01-31T12:00:00Z" }] }), "secrets"),
        (json!({ "signature": "md5" }), "signature"),
        (json!({ "signature": [] }), "signature"),
        (json!({ "signature": ["standard", 5] }), "signature"),
        (json!({ "signature": { "standard": true } }), "signature"),
        (json!({ "signature": "github", "secrets": ["canary-too-short"[..15]] }), "secrets.0"),
        (json!({ "signature": "github", "secrets": ["canary".repeat(43)] }), "secrets.0"),
        (json!({ "signature": "orchest", "secrets": [""] }), "secrets.0"),
        (json!({ "signature": ["github", "standard"], "secrets": ["canary-is-a-text-of-its-own"] }), "secrets.0"),
        (json!({ "header_prefixes": [] }), "header_prefixes"),
        (json!({ "header_prefixes": "svix-" }), "header_prefixes"),
        (json!({ "header_prefixes": ["a-", "b-", "c-", "d-", "e-"] }), "header_prefixes"),
        (json!({ "header_prefixes": ["svix"] }), "header_prefixes.0"),
        (json!({ "header_prefixes": ["svix-", "Svix-"] }), "header_prefixes.1"),
        (json!({ "header_prefixes": ["svix-", "svix-"] }), "header_prefixes.1"),
        (json!({ "header_prefixes": ["-"] }), "header_prefixes.0"),
        (json!({ "header_prefixes": [format!("{}-", "a".repeat(32))] }), "header_prefixes.0"),
        (json!({ "header_prefixes": ["posthaste-"] }), "header_prefixes.0"),
        (json!({ "header_prefixes": ["x-hub-"] }), "header_prefixes.0"),
        (json!({ "header_prefixes": ["x\r\ny-"] }), "header_prefixes.0"),
        (json!({ "header_prefixes": ["svix-"], "signature": "github" }), "header_prefixes"),
        (json!({ "header_prefixes": ["svix-"], "headers": { "Svix-Id": "canary" } }), "headers.Svix-Id"),
        (json!({ "auth": "canary" }), "auth"),
        (json!({ "auth": {} }), "auth"),
        (json!({ "auth": { "digest": "canary" } }), "auth"),
        (json!({ "auth": { "basic": { "user": "u:canary", "password": "canary" } } }), "auth.basic.user"),
        (json!({ "auth": { "basic": { "user": "u", "pass": "canary" } } }), "auth"),
        (json!({ "auth": { "bearer": "canary\n" } }), "auth.bearer"),
        (json!({ "auth": { "bearer": "canary" }, "headers": { "Authorization": "canary" } }), "auth"),
        (json!({ "timeout": "5 parsecs" }), "timeout"),
        (json!({ "timeout": 5 }), "timeout"),
        (json!({ "timeout": "0s" }), "timeout"),
        (json!({ "timeout": "1d" }), "timeout"),
        (json!({ "format": "morse" }), "format"),
        (json!({ "format": 5 }), "format"),
        (json!({ "format": "cloudevents", "mode": "batched" }), "mode"),
        (json!({ "mode": "binary" }), "mode"),
        (json!({ "format": "cloudevents", "source": "" }), "source"),
        (json!({ "format": "cloudevents", "source": "a b" }), "source"),
        (json!({ "format": "cloudevents", "source": "a".repeat(257) }), "source"),
        (json!({ "format": "orchest", "source": "/x" }), "source"),
        (json!({ "format": "orchest", "content_type": "xml" }), "content_type"),
        (json!({ "format": "slack", "content_type": "form" }), "content_type"),
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
        (json!({ "headers": { "X-Orchest-Event": "canary" } }), "headers.X-Orchest-Event"),
        (json!({ "headers": { "X-Hub-Signature": "canary" } }), "headers.X-Hub-Signature"),
        (json!({ "headers": { "x-hub-signature-256": "canary" } }), "headers.x-hub-signature-256"),
        (json!({ "headers": { "CE-id": "canary" } }), "headers.CE-id"),
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
    let url = "https://collector.example.com/";
    let mut asked = Vec::new();
    for backend in ["segment", "amplitude", "mixpanel", "ga4"] {
        asked.push(("analytics", parse("analytics", &json!({ "backend": backend, "url": url })).unwrap_err()));
    }
    for (kind, found) in asked {
        assert!(found.len() == 1 && found[0].what.contains("not built yet"), "{kind}: {found:?}");
    }
    assert_eq!(parse("console", &json!({ "payload": "braille" })).unwrap_err()[0].path, "payload");
    assert_eq!(parse("analytics", &json!({ "backend": "pigeon", "url": url })).unwrap_err()[0].path, "backend");
}

/// Good options of a backend but for `change`; null takes a key out.
fn backend(backend: &str, change: &Value) -> Value {
    let mut options = json!({ "backend": backend });
    match backend {
        "file" => options["path"] = "telemetry.ndjson".into(),
        _ => {
            options["url"] = "https://collector.example.com/in/canary?token=canary"
                .replace(if backend == "http" { "nothing" } else { "?token=canary" }, "")
                .into()
        }
    }
    if matches!(backend, "posthog" | "http") {
        options["key"] = "phc_canary".into();
    }
    for (key, value) in change.as_object().unwrap() {
        options[key] = value.clone();
    }
    let given = options.as_object_mut().unwrap();
    given.retain(|_, value| !value.is_null());
    options
}

#[test]
fn a_wrong_option_of_analytics_is_named_by_its_path() {
    let rows = [
        ("posthog", json!({ "backend": null }), "backend"),
        ("posthog", json!({ "backend": 5 }), "backend"),
        ("posthog", json!({ "url": null }), "url"),
        ("posthog", json!({ "url": "https://user:canary@collector.example.com/" }), "url"),
        ("posthog", json!({ "url": "https://collector.example.com/canary?a=b" }), "url"),
        ("posthog", json!({ "url": format!("https://collector.example.com/{}", "a".repeat(2_015)) }), "url"),
        ("otlp", json!({ "url": "http://10.0.0.1/canary" }), "url"),
        ("http", json!({ "url": "http://collector.example.com/", "https_only": true }), "url"),
        ("posthog", json!({ "key": null }), "key"),
        ("posthog", json!({ "key": "" }), "key"),
        ("posthog", json!({ "key": ["canary"] }), "key"),
        ("http", json!({ "key": "can ary\n" }), "key"),
        ("otlp", json!({ "key": "canary" }), "key"),
        ("http", json!({ "headers": { "Authorization": "canary" } }), "headers"),
        ("http", json!({ "headers": { "content-encoding": "canary" } }), "headers.content-encoding"),
        ("http", json!({ "gzip": "yes" }), "gzip"),
        ("http", json!({ "path": "x" }), "path"),
        ("http", json!({ "rotate": "1MiB" }), "rotate"),
        ("file", json!({ "url": "https://collector.example.com/canary" }), "url"),
        ("file", json!({ "key": "canary" }), "key"),
        ("file", json!({ "path": null }), "path"),
        ("file", json!({ "path": "" }), "path"),
        ("file", json!({ "path": "/" }), "path"),
        ("file", json!({ "path": "data/" }), "path"),
        ("file", json!({ "path": "a\u{0}b" }), "path"),
        ("file", json!({ "rotate": "1B" }), "rotate"),
        ("file", json!({ "rotate": 5 }), "rotate"),
        ("file", json!({ "keep": 0 }), "keep"),
        ("file", json!({ "keep": 1_001 }), "keep"),
        ("http", json!({ "batch": { "events": 0 } }), "batch.events"),
        ("http", json!({ "batch": { "events": 501 } }), "batch.events"),
        ("http", json!({ "batch": { "bytes": "0B" } }), "batch.bytes"),
        ("http", json!({ "batch": { "bytes": "2049KiB" } }), "batch.bytes"),
        ("http", json!({ "batch": { "bytes": 5 } }), "batch"),
        ("http", json!({ "batch": { "wait": "61s" } }), "batch.wait"),
        ("http", json!({ "batch": { "evnts": 5 } }), "batch"),
        ("posthog", json!({ "event_max": "901KiB" }), "event_max"),
        ("http", json!({ "event_max": "0B" }), "event_max"),
        ("http", json!({ "timeout": "0s" }), "timeout"),
        ("http", json!({ "timeout": "11m" }), "timeout"),
        ("http", json!({ "urll": "x" }), "urll"),
    ];
    for (name, change, path) in rows {
        let found = parse("analytics", &backend(name, &change)).err().unwrap_or_default();
        assert_eq!(found.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), [path], "{name} {change}: {found:?}");
        let text = format!("{found:?}");
        assert!(!text.contains("canary") && !found[0].hint.is_empty(), "{text}");
    }
}

#[test]
fn what_is_shown_of_analytics_has_no_secret() {
    let batch = json!({ "events": 100, "bytes": "400KiB", "wait": "1s" });
    let shown = |name, change| {
        let parsed = parse("analytics", &backend(name, &change)).unwrap();
        assert!(!format!("{parsed:?}").contains("canary"));
        (Value::Object(parsed.shown), Value::Object(parsed.revealed))
    };
    let posthog = json!({
        "backend": "posthog", "url": "https://collector.example.com", "key": "…", "headers": {}, "https_only": false,
        "gzip": true, "batch": batch, "event_max": "900KiB", "timeout": "15s",
        "connect_timeout": "5s",
    });
    let revealed = json!({ "url": "https://collector.example.com/in/canary" });
    assert_eq!(shown("posthog", json!({})), (posthog, revealed));
    let http = json!({
        "backend": "http", "url": "https://collector.example.com", "headers": { "x-api-key": "…" }, "https_only": true,
        "gzip": false, "batch": { "events": 500, "bytes": "1KiB", "wait": "0ms" }, "event_max": "32KiB", "timeout": "3s",
        "connect_timeout": "1s", "first_byte_timeout": "2s", "ca": "…",
    });
    let change = json!({
        "key": null, "headers": { "x-api-key": "canary" }, "https_only": true, "event_max": "32KiB", "timeout": "3s",
        "batch": { "events": 500, "bytes": "1KiB", "wait": "0ms" },
        "connect_timeout": "1s", "first_byte_timeout": "2s", "ca": Authority::new().pem(),
    });
    assert_eq!(shown("http", change).0, http);
    let file = json!({
        "backend": "file", "path": "telemetry.ndjson", "rotate": "64MiB", "keep": 8, "batch": batch, "event_max": "1MiB",
        "timeout": "15s",
    });
    assert_eq!(shown("file", json!({})), (file, json!({})));
}

#[test]
fn what_is_shown_has_no_secret() {
    let options = json!({
        "url": "https://hooks.example.com:8443/services/canary1?key=canary2",
        "secrets": [SECRET, { "secret": OTHER_SECRET, "until": "2026-01-31T12:00:00Z" }],
        "headers": { "X-Authorization": "Bearer canary3", "x-api-key": "canary4", "x-env": "prod" },
        "auth": { "basic": { "user": "canary5", "password": "canary6" } },
        "signature": ["github", "standard"],
        "header_prefixes": ["webhook-", "svix-"],
        "give_up_on": [422, 404],
        "dangerous_accept_invalid_certificates": true,
    });
    let parsed = parse("webhook", &options).unwrap();
    let expected = json!({
        "url": "https://hooks.example.com:8443",
        "signature": ["standard", "github"],
        "header_prefixes": ["webhook-", "svix-"],
        "headers": { "x-authorization": "…", "x-api-key": "…", "x-env": "…" },
        "auth": { "basic": "…" },
        "timeout": "15s",
        "connect_timeout": "5s",
        "dangerous_accept_invalid_certificates": true,
        "format": "standard",
        "give_up_on": [404, 422],
        "https_only": false,
    });
    assert_eq!(Value::Object(parsed.shown.clone()), expected);
    assert!(!format!("{parsed:?}").contains("canary"));
    assert_eq!(
        parse("webhook", &json!({ "url": options["url"], "secrets": [SECRET] })).unwrap().shown["signature"],
        "standard"
    );
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
