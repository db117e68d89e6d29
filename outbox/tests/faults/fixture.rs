//! A clock that goes only where it is told to, numbers that are the same at every run, and events.

use posthaste_events::outcome::Detail;
use posthaste_events::seams::{Clock, Random};
use posthaste_events::{
    Attempt, AttemptOutcome, EventType, Facts, Idempotency, Origin, Payloads, Prepared, SubscriptionId, Timestamp,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The wall clock when a run begins.
const START: u64 = 1_732_000_000_000;

#[derive(Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn forward(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(START + self.0.load(Ordering::SeqCst)).unwrap())
    }
}

#[derive(Default)]
pub(crate) struct Counted(AtomicU64);

impl Random for Counted {
    fn next(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).rotate_left(17)
    }
}

/// An event with this payload, owed to these.
pub(crate) fn event(body: &str, owed: &[SubscriptionId]) -> Prepared {
    let facts = Facts {
        event_type: EventType::parse("a:b").unwrap(),
        key: None,
        tenant: None,
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: Timestamp::from_millis(i64::try_from(START).unwrap()),
    };
    let payloads = Payloads::restored(Some(body.to_owned().into()), None);
    Prepared {
        facts: Arc::new(facts),
        idempotency: None,
        payloads,
        owed: owed.to_vec(),
        quarantined: None,
        unnotified: None,
    }
}

/// The same with an idempotency key.
pub(crate) fn keyed(mut event: Prepared, key: u8) -> Prepared {
    event.idempotency = Some(Idempotency { key: [key; 16], content: [key; 16] });
    event
}

/// An attempt as a scheduler reports it.
pub(crate) fn attempt(number: u32, outcome: AttemptOutcome) -> Attempt {
    let detail =
        Detail { status: Some(500), error: Some("status: 500".into()), answer: Some("oh".into()), trace: None };
    let at = Timestamp::from_millis(i64::try_from(START).unwrap());
    Attempt { number, at, duration: Duration::from_millis(3), outcome, detail }
}
