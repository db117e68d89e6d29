//! What every kind must do. A kind that is new in the table fails here until it has a line in [`samples`].

use crate::anonymous;
use crate::receiver::Receiver;
use crate::sending::{BODY, Bench, Reported, SECRET, deliver, delivery};
use posthaste_deliverees::Kinds;
use posthaste_events::{AnyDeliveree, Outcome, Payload as _, Ticket};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Good options of a kind, of each of its variants; `url` leads to a receiver that takes everything.
fn samples(kind: &str, url: &str, folder: &Path) -> Vec<Value> {
    match kind {
        "webhook" => vec![
            json!({ "url": url, "secrets": [SECRET], "timeout": "2s" }),
            json!({ "url": url, "secrets": [SECRET], "format": "cloudevents", "mode": "binary" }),
            json!({ "url": url, "secrets": [SECRET], "format": "orchest", "content_type": "form" }),
            json!({ "url": url, "format": "slack" }),
        ],
        "console" => vec![json!({}), json!({ "payload": "telemetry" })],
        "analytics" => vec![
            json!({ "backend": "posthog", "url": base(url), "key": "phc_x" }),
            json!({ "backend": "otlp", "url": base(url) }),
            json!({ "backend": "http", "url": url, "key": "token" }),
            json!({ "backend": "file", "path": folder.join("telemetry.ndjson") }),
        ],
        other => panic!("the kind {other} needs its options here"),
    }
}

/// A URL without path and query.
fn base(url: &str) -> String {
    url.split('/').take(3).collect::<Vec<_>>().join("/")
}

struct Each {
    kind: &'static str,
    options: Value,
    made: AnyDeliveree,
}

async fn each_kind() -> (Receiver, Bench, tempfile::TempDir, Vec<Each>) {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let (bench, folder) = (Bench::new(), tempfile::tempdir().unwrap());
    let mut all = Vec::new();
    for kind in Kinds::built_in().names() {
        for options in samples(kind, &receiver.url(), folder.path()) {
            all.push(Each { kind, made: bench.make(kind, options.clone()), options });
        }
    }
    (receiver, bench, folder, all)
}

/// Hands over events 1 to `count`, of the payload that the deliveree takes.
async fn hand_over(to: &AnyDeliveree, count: u64) -> Reported {
    match to {
        AnyDeliveree::Notification(_) => deliver(to, (1..=count).map(|n| delivery(n, 1, BODY)).collect()).await,
        AnyDeliveree::Anonymous(_) => anonymous::deliver(to, anonymous::batch(count, &[])).await,
    }
}

#[tokio::test]
async fn every_kind_reports_each_delivery_once() {
    let (_receiver, _bench, _folder, kinds) = each_kind().await;
    for Each { options, made, .. } in kinds {
        // As many as one call may have, and the empty call that should never be made.
        let count = u64::try_from(made.limits().events.min(64)).unwrap();
        let ids: BTreeSet<_> = (1..=count).map(|n| Ticket(usize::try_from(n).unwrap())).collect();
        let reported = hand_over(&made, count).await;
        assert_eq!(reported.outcomes.len(), ids.len(), "{options}");
        assert_eq!(reported.outcomes.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), ids, "{options}");
        assert!(reported.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Delivered(_))), "{options}: {reported:?}");
        assert!(hand_over(&made, 0).await.outcomes.is_empty(), "{options}");
    }
}

#[tokio::test]
async fn every_kind_for_people_takes_payloads_of_any_form_and_size() {
    let (_receiver, _bench, _folder, kinds) = each_kind().await;
    let large = format!("{{\"type\":\"a\",\"timestamp\":\"\",\"data\":{{\"x\":\"{}\"}}}}", "ä".repeat(100_000));
    for Each { options, made, .. } in kinds.iter().filter(|each| matches!(each.made, AnyDeliveree::Notification(_))) {
        for body in ["{}", "", "null", "\u{1b}[2J", large.as_str()] {
            let reported = deliver(made, vec![delivery(1, 1, body.to_owned())]).await;
            // A format that is made from a notification says so where there is none; the others pass on whatever it is.
            let says_so = options.get("format").is_some() && body != large && reported.error().starts_with("body: ");
            assert!(says_so || matches!(reported.one(), Outcome::Delivered(_)), "{options}: {reported:?}");
        }
    }
}

#[tokio::test]
async fn a_payload_that_no_rule_wrote_costs_itself_alone_in_every_kind_for_analytics() {
    let (_receiver, _bench, _folder, kinds) = each_kind().await;
    for Each { kind, options, made } in kinds.iter().filter(|each| matches!(each.made, AnyDeliveree::Anonymous(_))) {
        for body in [&b""[..], b"null", b"{}", b"\x1b[2J", b"{\"event\":\"a\",\"event_properties\":", b"\xff\xfe"] {
            let (good, odd) = (anonymous::anonymous("shop:sold", 1), anonymous::restored(body, 2));
            let mut outcomes = anonymous::deliver(made, vec![odd, good]).await.outcomes;
            outcomes.sort_by_key(|(ticket, _)| *ticket);
            assert!(matches!(&outcomes[0].1, Outcome::Delivered(_)), "{options}: {outcomes:?}");
            // The console prints whatever it is.
            let fits = if *kind == "console" {
                matches!(&outcomes[1].1, Outcome::Delivered(_))
            } else {
                matches!(&outcomes[1].1, Outcome::Rejected(_))
            };
            assert!(fits, "{options}: {outcomes:?}");
        }
    }
}

#[tokio::test]
async fn every_kind_has_sane_limits_and_lists_its_keys() {
    let (_receiver, bench, _folder, kinds) = each_kind().await;
    for Each { kind, options, made } in kinds {
        assert!(made.limits().events >= 1 && made.limits().bytes >= 1, "{options}");
        assert!(made.limits().wait <= Duration::from_secs(60), "{options}");
        assert!(made.timeout() > Duration::ZERO, "{options}");
        let table = Kinds::built_in();
        let entry = table.get(kind).unwrap();
        assert!(options.as_object().unwrap().keys().all(|key| entry.keys.contains(&key.as_str())), "{options}");
        assert!(entry.paths.iter().all(|path| entry.keys.contains(path)), "{kind}");
        drop(bench.make(kind, options));
    }
}

#[tokio::test]
async fn the_console_prints_one_line_for_each_event() {
    let bench = Bench::new();
    let console = bench.make("console", json!({}));
    deliver(&console, vec![delivery(1, 1, BODY), delivery(2, 3, BODY)]).await;
    let id = |n| delivery(n, 1, BODY).event();
    let expected = [
        format!("2023-11-14T22:13:20.000Z project:created {} key=p1 {{\"project\":{{\"name\":\"x\"}}}}", id(1)),
        format!(
            "2023-11-14T22:13:20.000Z project:created {} key=p1 attempt=3 {{\"project\":{{\"name\":\"x\"}}}}",
            id(2)
        ),
    ];
    assert_eq!(*bench.printed.lock().unwrap(), expected);
}

#[tokio::test]
async fn the_console_prints_what_leaves_where_telemetry_is_asked_for() {
    let bench = Bench::new();
    let console = bench.make("console", json!({ "payload": "telemetry" }));
    let event = anonymous::anonymous("shop:sold", 1);
    let (id, body) = (event.payload.id().to_owned(), event.payload.bytes().clone());
    anonymous::deliver(&console, vec![event]).await;
    let body = std::str::from_utf8(&body).unwrap();
    assert_eq!(*bench.printed.lock().unwrap(), [format!("2023-11-14T22:00:00.000Z shop:sold {id} {body}")]);
}

#[tokio::test]
async fn a_console_that_can_not_print_tries_again() {
    let mut bench = Bench::new();
    bench.tools.print = std::sync::Arc::new(|_| Box::pin(std::future::ready(Err(std::io::Error::other("no paper")))));
    let reported = deliver(&bench.make("console", json!({})), vec![delivery(1, 1, BODY)]).await;
    assert!(matches!(reported.one(), Outcome::Retry { .. }));
    assert_eq!(reported.error(), "console: no paper");
}
