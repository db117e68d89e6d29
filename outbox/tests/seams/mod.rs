//! What stores are driven with, in every suite: a clock that stands still until it is moved, numbers that are the same at
//! every run, events and attempts.

use posthaste_events::outcome::Detail;
use posthaste_events::seams::{Clock, Random};
use posthaste_events::{
    Attempt, AttemptOutcome, EventType, Facts, Idempotency, Origin, Payloads, Prepared, SubscriptionId, Timestamp,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The wall clock when a test begins.
pub(crate) const START: i64 = 1_732_000_000_000;

/// A clock that goes only where it is told to.
#[derive(Default)]
pub(crate) struct ManualClock {
    elapsed: AtomicU64,
    /// How far the wall clock was moved alone, in milliseconds.
    pub(crate) leapt: AtomicI64,
}

impl ManualClock {
    pub(crate) fn forward(&self, by: Duration) {
        self.elapsed.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        let elapsed = i64::try_from(self.elapsed.load(Ordering::SeqCst)).unwrap();
        Timestamp::from_millis(START + elapsed + self.leapt.load(Ordering::SeqCst))
    }
}

/// Numbers that look random and are the same at every run.
#[derive(Default)]
pub(crate) struct Counted(AtomicU64);

impl Random for Counted {
    fn next(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).rotate_left(17)
    }
}

/// An event of this type, owed to these.
pub(crate) fn event(body: &str, owed: &[SubscriptionId]) -> Prepared {
    let facts = Facts {
        event_type: EventType::parse("a:b").unwrap(),
        key: Some("k".into()),
        tenant: None,
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: Timestamp::from_millis(START),
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
pub(crate) fn keyed(mut event: Prepared, key: u8, content: u8) -> Prepared {
    event.idempotency = Some(Idempotency { key: [key; 16], content: [content; 16] });
    event
}

/// An attempt as a scheduler reports it.
pub(crate) fn attempt(number: u32, outcome: AttemptOutcome) -> Attempt {
    let detail =
        Detail { status: Some(500), error: Some("status: 500".into()), answer: Some("oh".into()), trace: None };
    Attempt { number, at: Timestamp::from_millis(START), duration: Duration::from_millis(3), outcome, detail }
}
