//! Makes deliverees and deliveries, and collects what is reported.

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use posthaste_deliverees::http::{Parts, Resolve, ResolveError};
use posthaste_deliverees::{Guard, Http, Kinds, Printer, Tools};
use posthaste_events::seams::Clock;
use posthaste_events::{
    AnyDeliveree, Batch, Delivery, DeliveryId, EventId, EventType, Facts, Installation, Notification, Origin, Outcome,
    Payload as _, Payloads, Report, Reporter, Signal, SubscriptionId, Ticket, Timestamp, Told,
};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// What the clock shows at first, in seconds.
pub(crate) const NOW: i64 = 1_700_000_000;

/// A wall clock that stands still until it is set.
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl Clock for TestClock {
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst) * 1_000)
    }
}

/// A resolver that gives these answers, one after the other, and the last one from then on.
#[derive(Debug)]
pub(crate) struct Answers(pub(crate) Mutex<VecDeque<Result<Vec<IpAddr>, ResolveError>>>);

impl Answers {
    pub(crate) fn of(answers: &[&[&str]]) -> Arc<Self> {
        let read = |ips: &&[&str]| Ok(ips.iter().map(|ip| ip.parse().unwrap()).collect());
        Arc::new(Self(Mutex::new(answers.iter().map(read).collect())))
    }
}

impl Resolve for Answers {
    fn resolve(&self, _name: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        async move { answer.unwrap() }.boxed()
    }
}

/// A guard that lets loopback through.
pub(crate) fn loopback() -> Guard {
    Guard::allowing(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()])
}

/// Everything that a deliveree is made with.
pub(crate) struct Bench {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) printed: Arc<Mutex<Vec<String>>>,
    pub(crate) tools: Tools,
    guard: Guard,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Parts { guard: loopback(), ..Parts::default() })
    }

    pub(crate) fn with(parts: Parts) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(NOW)));
        let printed = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&printed);
        let guard = parts.guard.clone();
        let print: Printer = Arc::new(move |line: &str| {
            lines.lock().unwrap().push(line.to_owned());
            Box::pin(std::future::ready(Ok(())))
        });
        let tools = Tools {
            http: Http::with(parts),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            print,
            subscription: Arc::from("ops"),
        };
        Self { clock, printed, tools, guard }
    }

    /// Makes a deliveree of a kind from the table.
    pub(crate) fn make(&self, kind: &str, options: Value) -> AnyDeliveree {
        let kinds = Kinds::built_in();
        let parsed = (kinds.get(kind).unwrap().parse)(options.as_object().unwrap(), &self.guard).unwrap();
        parsed.make(self.tools.clone())()
    }

    /// Makes a webhook with a timeout of 1 s, and `more` options.
    pub(crate) fn webhook(&self, url: &str, more: Value) -> AnyDeliveree {
        let mut options = json!({ "url": url, "secrets": [SECRET], "timeout": "1s" });
        for (key, value) in more.as_object().unwrap() {
            options[key] = value.clone();
        }
        self.make("webhook", options)
    }
}

/// A delivery of event number `sequence`, at attempt number `attempt`.
pub(crate) fn delivery(sequence: u64, attempt: u32, body: impl Into<Bytes>) -> Delivery<Notification> {
    let facts = Facts {
        event_type: EventType::parse("project:created").unwrap(),
        key: Some("p1".into()),
        tenant: None,
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: Timestamp::from_millis(NOW * 1_000),
    };
    let id =
        DeliveryId { event: EventId::new(NOW.unsigned_abs() * 1_000, sequence, 7), subscription: SubscriptionId(1) };
    let told = Told { id, facts: Arc::new(facts) };
    let payloads = Payloads::restored(Some(body.into()), None);
    let (payload, about) = Notification::of(&payloads, told, &Installation::new(&[7; 32])).unwrap();
    Delivery { ticket: Ticket(usize::try_from(sequence).unwrap()), attempt, about, payload }
}

/// What was reported in one call.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reported {
    pub(crate) outcomes: Vec<(Ticket, Outcome)>,
    pub(crate) signals: Vec<Signal>,
}

impl Reported {
    /// The only outcome.
    pub(crate) fn one(&self) -> &Outcome {
        assert_eq!(self.outcomes.len(), 1, "{self:?}");
        &self.outcomes[0].1
    }

    /// The error of the only outcome.
    pub(crate) fn error(&self) -> &str {
        self.one().detail().error.as_deref().unwrap_or_default()
    }
}

/// Somewhere to report to, and what was reported there.
pub(crate) fn collecting() -> (Arc<Mutex<Reported>>, Reporter) {
    let reported = Arc::new(Mutex::new(Reported::default()));
    let taken = Arc::clone(&reported);
    let report = Reporter::new(move |report| {
        let mut reported = taken.lock().unwrap();
        match report {
            Report::Outcome(ticket, outcome) => reported.outcomes.push((ticket, outcome)),
            Report::Signal(signal) => reported.signals.push(signal),
        }
    });
    (reported, report)
}

/// Hands a batch to a deliveree, as an actor would.
pub(crate) async fn deliver(to: &AnyDeliveree, deliveries: Vec<Delivery<Notification>>) -> Reported {
    deliver_within(to, deliveries, to.timeout()).await
}

/// The same with another deadline than the deliveree's own.
pub(crate) async fn deliver_within(
    to: &AnyDeliveree,
    deliveries: Vec<Delivery<Notification>>,
    deadline: Duration,
) -> Reported {
    let (reported, report) = collecting();
    let AnyDeliveree::Notification(deliveree) = to else { panic!("not a deliveree of notifications") };
    deliveree.deliver(Batch { deliveries, deadline }, report).await;
    let reported = reported.lock().unwrap();
    reported.clone()
}

/// Delivers one event with a short body.
pub(crate) async fn send(to: &AnyDeliveree) -> Reported {
    deliver(to, vec![delivery(1, 1, BODY)]).await
}

/// The body of a short notification.
pub(crate) const BODY: &str =
    r#"{"type":"project:created","timestamp":"2023-11-14T22:13:20.000Z","data":{"project":{"name":"x"}}}"#;
