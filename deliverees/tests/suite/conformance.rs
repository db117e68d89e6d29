//! What every kind must do. A kind that is new in the table fails here until it has a line in [`sample`].

use crate::receiver::Receiver;
use crate::sending::{BODY, Bench, SECRET, deliver, delivery};
use posthaste_deliverees::Kinds;
use posthaste_events::{AnyDeliveree, Outcome};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Good options of a kind; `url` leads to a receiver that takes everything.
fn sample(kind: &str, url: &str) -> Value {
    match kind {
        "webhook" => json!({ "url": url, "secrets": [SECRET], "timeout": "2s" }),
        "console" => json!({}),
        other => panic!("the kind {other} needs its options here"),
    }
}

async fn each_kind() -> (Receiver, Bench, Vec<(&'static str, AnyDeliveree)>) {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let bench = Bench::new();
    let kinds = Kinds::built_in();
    let made = kinds.names().map(|kind| (kind, bench.make(kind, sample(kind, &receiver.url())))).collect();
    (receiver, bench, made)
}

#[tokio::test]
async fn every_kind_reports_each_delivery_once() {
    let (_receiver, _bench, kinds) = each_kind().await;
    for (kind, deliveree) in kinds {
        // As many as one call may have, and the empty call that should never be made.
        let count = u64::try_from(deliveree.limits().events.min(64)).unwrap();
        let batch: Vec<_> = (1..=count).map(|n| delivery(n, 1, BODY)).collect();
        let ids: BTreeSet<_> = batch.iter().map(|d| d.ticket).collect();
        let reported = deliver(&deliveree, batch).await;
        assert_eq!(reported.outcomes.len(), ids.len(), "{kind}");
        assert_eq!(reported.outcomes.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), ids, "{kind}");
        assert!(reported.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Delivered(_))), "{kind}: {reported:?}");
        assert!(deliver(&deliveree, vec![]).await.outcomes.is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn every_kind_takes_payloads_of_any_form_and_size() {
    let (_receiver, _bench, kinds) = each_kind().await;
    let large = format!("{{\"type\":\"a\",\"timestamp\":\"\",\"data\":{{\"x\":\"{}\"}}}}", "ä".repeat(100_000));
    for (kind, deliveree) in kinds {
        for body in ["{}", "", "null", "\u{1b}[2J", large.as_str()] {
            let reported = deliver(&deliveree, vec![delivery(1, 1, body.to_owned())]).await;
            assert!(matches!(reported.one(), Outcome::Delivered(_)), "{kind}: {reported:?}");
        }
    }
}

#[tokio::test]
async fn every_kind_has_sane_limits_and_lists_its_keys() {
    let (receiver, bench, kinds) = each_kind().await;
    for (kind, deliveree) in kinds {
        assert!(deliveree.limits().events >= 1 && deliveree.limits().bytes >= 1, "{kind}");
        assert!(deliveree.timeout() > Duration::ZERO, "{kind}");
        let table = Kinds::built_in();
        let entry = table.get(kind).unwrap();
        let options = sample(kind, &receiver.url());
        assert!(options.as_object().unwrap().keys().all(|key| entry.keys.contains(&key.as_str())), "{kind}");
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
async fn a_console_that_can_not_print_tries_again() {
    let mut bench = Bench::new();
    bench.tools.print = std::sync::Arc::new(|_| Box::pin(std::future::ready(Err(std::io::Error::other("no paper")))));
    let reported = deliver(&bench.make("console", json!({})), vec![delivery(1, 1, BODY)]).await;
    assert!(matches!(reported.one(), Outcome::Retry { .. }));
    assert_eq!(reported.error(), "console: no paper");
}
