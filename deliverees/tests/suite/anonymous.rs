//! Anonymous deliveries as the real catalogue builds them, and collectors that take them.

use crate::receiver::{Receiver, Request, read_request};
use crate::sending::{Bench, NOW, Reported, collecting};
use flate2::read::GzDecoder;
use posthaste_events::catalogue::declare::{
    Declarations, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration, Rule,
};
use posthaste_events::catalogue::{Catalogue, Undeclared};
use posthaste_events::prepare::{Snapshot, TelemetryPolicy};
use posthaste_events::{
    Anonymous, AnyDeliveree, Batch, Delivery, DeliveryId, Draft, EventId, EventType, Facts, Installation, Origin,
    Payload as _, Payloads, SubscriptionId, Ticket, Timestamp, Told,
};
use serde_json::{Value, json};
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// What marks an event that a collector refuses: its type.
pub(crate) const BAD: &str = "shop:bad";
/// What never leaves: a free text.
pub(crate) const CANARY: &str = "canary-never-leaves";

fn catalogue() -> Catalogue {
    let field = |path: &str, kind, rule| FieldDeclaration { rule, ..FieldDeclaration::new(path, kind) };
    let status = FieldDeclaration {
        values: vec!["PAID".into(), "OPEN".into()],
        ..field("status", FieldKind::String, Rule::Keep)
    };
    let fields = vec![
        field("name", FieldKind::String, Rule::Drop),
        field("gift", FieldKind::Boolean, Rule::Keep),
        field("items", FieldKind::Array, Rule::Count),
        status,
    ];
    let layers = vec![LayerDeclaration { name: "shop".into(), fields, ..LayerDeclaration::default() }];
    let event = |name: &str| EventDeclaration { name: name.into(), ..EventDeclaration::default() };
    let declarations = Declarations { layers, events: vec![event("shop:sold"), event(BAD)] };
    Catalogue::compile(&declarations, Undeclared::Reject).unwrap()
}

fn told(event_type: &str, number: u64) -> Told {
    let facts = Facts {
        event_type: EventType::parse(event_type).unwrap(),
        key: Some(CANARY.into()),
        tenant: None,
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: Timestamp::from_millis(NOW * 1_000),
    };
    let event = EventId::new(NOW.unsigned_abs() * 1_000, number, 7);
    Told { id: DeliveryId { event, subscription: SubscriptionId(1) }, facts: Arc::new(facts) }
}

fn of(payloads: &Payloads, event_type: &str, number: u64) -> Delivery<Anonymous> {
    let (payload, about) = Anonymous::of(payloads, told(event_type, number), &Installation::new(&[7; 32])).unwrap();
    Delivery { ticket: Ticket(usize::try_from(number).unwrap()), attempt: 1, about, payload }
}

/// A delivery of event number `number`, whose payload the catalogue built.
pub(crate) fn anonymous(event_type: &str, number: u64) -> Delivery<Anonymous> {
    let snapshot =
        Snapshot { catalogue: catalogue(), telemetry: Some(TelemetryPolicy::default()), ..Snapshot::default() };
    let properties = json!({ "shop": { "name": CANARY, "gift": true, "items": [1, 2, 3], "status": "PAID" } });
    let draft = Draft { properties: properties.to_string(), ..Draft::new(EventType::parse(event_type).unwrap()) };
    let prepared = snapshot.prepare(draft, Timestamp::from_millis(NOW * 1_000)).unwrap();
    of(&prepared.payloads, event_type, number)
}

/// The same with any payload, as a store that was damaged would give it back.
pub(crate) fn restored(body: &[u8], number: u64) -> Delivery<Anonymous> {
    let kept = [&(NOW * 1_000_000).to_be_bytes()[..], body].concat();
    of(&Payloads::restored(None, Some(kept.into())), "shop:sold", number)
}

/// Events 1 to `count`; those in `bad` are ones that a collector refuses.
pub(crate) fn batch(count: u64, bad: &[u64]) -> Vec<Delivery<Anonymous>> {
    (1..=count).map(|n| anonymous(if bad.contains(&n) { BAD } else { "shop:sold" }, n)).collect()
}

/// Hands a batch to a deliveree, as an actor would.
pub(crate) async fn deliver(to: &AnyDeliveree, deliveries: Vec<Delivery<Anonymous>>) -> Reported {
    deliver_within(to, deliveries, to.timeout()).await
}

/// The same with another deadline than the deliveree's own.
pub(crate) async fn deliver_within(
    to: &AnyDeliveree,
    deliveries: Vec<Delivery<Anonymous>>,
    deadline: Duration,
) -> Reported {
    let AnyDeliveree::Anonymous(deliveree) = to else { panic!("not a deliveree of what is anonymous") };
    let (reported, report) = collecting();
    deliveree.deliver(Batch { deliveries, deadline }, report).await;
    let reported = reported.lock().unwrap();
    reported.clone()
}

/// The backends that are posted to.
pub(crate) const POSTED: [&str; 3] = ["posthog", "otlp", "http"];

/// An analytics deliveree that posts to `url`, with a timeout of 3 s, and `more` options.
pub(crate) fn posting(bench: &Bench, backend: &str, url: &str, more: Value) -> AnyDeliveree {
    let mut options = json!({ "backend": backend, "url": url, "timeout": "3s" });
    if backend == "posthog" {
        options["key"] = "phc_project".into();
    }
    for (key, value) in more.as_object().unwrap() {
        options[key] = value.clone();
    }
    bench.make("analytics", options)
}

/// The body of a request, decoded where it is compressed.
pub(crate) fn body(request: &Request) -> Vec<u8> {
    match request.headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => {
            let mut plain = Vec::new();
            GzDecoder::new(request.body.as_slice()).read_to_end(&mut plain).unwrap();
            plain
        }
        None => request.body.clone(),
        other => panic!("{other:?}"),
    }
}

/// Whether a request has an event that is refused in it.
pub(crate) fn has_bad(request: &Request) -> bool {
    body(request).windows(BAD.len()).any(|window| window == BAD.as_bytes())
}

/// An answer without a body.
pub(crate) fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")
}

/// An answer of 200 with a body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A collector that answers as `answer` says, after what it says too, and keeps the connection.
pub(crate) async fn collector<A: Into<Vec<u8>>>(
    answer: impl Fn(&Request) -> A + Clone + Send + Sync + 'static,
) -> Receiver {
    Receiver::at("127.0.0.1", move |mut stream, seen| {
        let answer = answer.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                let bytes = answer(&request).into();
                seen.keep(request);
                if bytes.is_empty() {
                    // Says nothing until the other side has gone.
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// The URL of a collector, without path.
pub(crate) fn origin(of: &Receiver) -> String {
    format!("http://{}", of.address)
}
