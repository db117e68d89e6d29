//! Pigeon, a product that nobody sells: the example of `docs/manuals/new-analytics-backend.md`, built for tests alone.
//!
//! `POST {url}/v2/import` with a line of JSON for each event and the key in `authorization`. A request may have 500 events
//! and 1 MiB, an event 32 KiB. A 2xx may name the lines that it refuses, `{"failed":[{"line":2,"why":"too old"}]}`; the
//! others are taken. Repetitions are told by `id`. It looks up a place by the address of who posts, unless `place` is null.

use super::backend::{Answer, Backend, Bounds, Event, KeyUse, Others, Reading, Spec, by_status, said};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The line in the table.
pub(super) const SPEC: Spec = Spec {
    name: "pigeon",
    path: "/v2/import",
    key: KeyUse::Required,
    gzip: false,
    bounds: Bounds { events: 500, bytes: 1024 * 1024, event_bytes: 32 * 1024 },
    make: |key| Box::new(Pigeon { authorization: key.map(|key| format!("Key {key}")) }),
};

struct Pigeon {
    authorization: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    name: &'a str,
    at: String,
    who: &'a str,
    what: &'a RawValue,
    derived: &'a RawValue,
    place: Option<&'a str>,
}

/// The part of an answer that is read.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    failed: Vec<Failed>,
}

#[derive(Deserialize)]
struct Failed {
    line: usize,
    why: String,
}

impl Backend for Pigeon {
    fn event(&self, event: &Event<'_>) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Line {
            id: event.id,
            name: event.payload.event,
            at: event.at.to_string(),
            who: event.installation,
            what: event.payload.event_properties,
            derived: event.payload.derived_properties,
            place: None,
        })
    }

    fn body(&self, events: &[&[u8]]) -> Vec<u8> {
        events.join(&b'\n')
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn authorization(&self) -> Option<String> {
        self.authorization.clone()
    }

    fn read(&self, answer: &Answer<'_>) -> Reading {
        let reading = by_status(answer.status);
        let (Reading::Taken(_), Ok(Said { failed })) = (&reading, serde_json::from_slice(answer.body)) else {
            return reading;
        };
        // Lines count from 1; one that was not sent says nothing of what was.
        let place = |line: usize| line.checked_sub(1).filter(|at| *at < answer.ids.len());
        let refused: Vec<_> = failed.iter().filter_map(|f| Some((place(f.line)?, said(&f.why)))).collect();
        if refused.is_empty() { reading } else { Reading::Named { refused, others: Others::Taken } }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Guard, Http, Kinds, Tools};
    use posthaste_events::catalogue::declare::{Declarations, EventDeclaration, FieldDeclaration, FieldKind, Rule};
    use posthaste_events::catalogue::{Catalogue, Undeclared};
    use posthaste_events::prepare::{Snapshot, TelemetryPolicy};
    use posthaste_events::seams::Clock;
    use posthaste_events::{
        Anonymous, AnyDeliveree, Batch, Delivery, DeliveryId, Draft, EventId, EventType, Installation, Outcome,
        Payload as _, Report, Reporter, SubscriptionId, Ticket, Timestamp, Told,
    };
    use serde_json::{Number, Value, json};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    struct Standing;

    impl Clock for Standing {
        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(1_700_000_000_000)
        }
    }

    /// An event of a number, built as the catalogue's rules say.
    fn delivery(number: u64) -> Delivery<Anonymous> {
        let range = FieldDeclaration {
            minimum: Some(Number::from(0)),
            maximum: Some(Number::from(9)),
            rule: Rule::Keep,
            ..FieldDeclaration::new("n", FieldKind::Integer)
        };
        let sold = EventDeclaration { name: "shop:sold".into(), fields: vec![range], ..EventDeclaration::default() };
        let declared = Declarations { layers: Vec::new(), events: vec![sold] };
        let catalogue = Catalogue::compile(&declared, Undeclared::Reject).unwrap();
        let snapshot = Snapshot { catalogue, telemetry: Some(TelemetryPolicy::default()), ..Snapshot::default() };
        let event_type = EventType::parse("shop:sold").unwrap();
        let draft = Draft { properties: json!({ "n": number }).to_string(), ..Draft::new(event_type) };
        let prepared = snapshot.prepare(draft, Standing.wall()).unwrap();
        let event = EventId::new(1_700_000_000_000, number, 7);
        let id = DeliveryId { event, subscription: SubscriptionId(1) };
        let told = Told { id, facts: prepared.facts };
        let (payload, about) = Anonymous::of(&prepared.payloads, told, &Installation::new(&[7; 32])).unwrap();
        Delivery { ticket: Ticket(usize::try_from(number).unwrap()), attempt: 1, about, payload }
    }

    /// Reads one request from a socket and answers it: its head in small letters, and its body.
    async fn answer(listener: TcpListener, answer: &'static str) -> (String, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        loop {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "it broke off");
            let text = String::from_utf8(bytes.clone()).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                stream.write_all(answer.as_bytes()).await.unwrap();
                return (head, body.to_owned());
            }
        }
    }

    #[tokio::test]
    async fn three_events_are_posted_and_the_one_that_is_named_is_refused_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let options = json!({ "backend": "pigeon", "url": url, "key": "k" });
        let guard = Guard::allowing(vec!["127.0.0.0/8".parse().unwrap()]);
        let parsed = (Kinds::built_in().get("analytics").unwrap().parse)(options.as_object().unwrap(), &guard).unwrap();
        let print = Arc::new(|_: &str| -> posthaste_events::BoxFuture<_> { Box::pin(std::future::ready(Ok(()))) });
        let tools =
            Tools { http: Http::new(guard), clock: Arc::new(Standing), print, subscription: Arc::from("product") };
        let AnyDeliveree::Anonymous(pigeon) = parsed.make(tools)() else { panic!("it takes what is anonymous") };

        let said = "{\"failed\":[{\"line\":2,\"why\":\"too old\"},{\"line\":9,\"why\":\"?\"}]}";
        let answered: &str = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len()).leak();
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&outcomes);
        let report = Reporter::new(move |report| {
            if let Report::Outcome(ticket, outcome) = report {
                noted.lock().unwrap().push((ticket, outcome));
            }
        });
        let batch = Batch { deliveries: (0..3).map(delivery).collect(), deadline: Duration::from_secs(5) };
        let ((head, body), ()) = tokio::join!(answer(listener, answered), pigeon.deliver(batch, report));

        assert!(head.starts_with("post /v2/import http/1.1"), "{head}");
        assert!(head.contains("authorization: key k") && head.contains("content-type: application/x-ndjson"), "{head}");
        let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        assert!(ids.len() == 3 && ids[0] != ids[1] && ids[1] != ids[2], "{body}");
        // In the order of their hashes, so the number tells which delivery a line is.
        let numbers: Vec<u64> = lines.iter().map(|line| line["what"]["n"].as_u64().unwrap()).collect();
        assert!(lines.iter().all(|line| line["name"] == "shop:sold"), "{body}");
        assert_eq!((&lines[0]["at"], &lines[0]["place"]), (&json!("2023-11-14T22:00:00.000Z"), &Value::Null));
        let outcomes = outcomes.lock().unwrap().clone();
        let of = |line: usize| {
            let number = usize::try_from(numbers[line]).unwrap();
            &outcomes.iter().find(|(ticket, _)| *ticket == Ticket(number)).unwrap().1
        };
        assert!(matches!((of(0), of(2)), (Outcome::Delivered(_), Outcome::Delivered(_))), "{outcomes:?}");
        let Outcome::Rejected(detail) = of(1) else { panic!("{outcomes:?}") };
        assert_eq!(detail.error.as_deref(), Some("refused: too old"));
    }
}
