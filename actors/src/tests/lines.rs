//! What the log says of attempts.

use super::house::{clock, memory};
use crate::desk::Desk;
use crate::scheduler::Told;
use crate::scheduler::actor::tell;
use posthaste_events::outcome::Detail;
use posthaste_events::{
    Attempt, AttemptOutcome, DeliveryId, EventId, EventType, Facts, Origin, State, SubscriptionId, Timestamp,
};
use posthaste_outbox::Settled;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps the fields of each line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        event.record(&mut Line(&mut line));
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn told() -> Told {
    let at = Timestamp::from_millis(0);
    let facts = Facts {
        event_type: EventType::parse("shop:paid").unwrap(),
        key: None,
        tenant: None,
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: at,
    };
    let (duration, outcome, detail) = (Duration::from_secs(1), AttemptOutcome::Failed, Detail::default());
    Told {
        subscription: "a".into(),
        delivery: DeliveryId { event: EventId::new(1, 1, 1), subscription: SubscriptionId(1) },
        facts: Arc::new(facts),
        attempt: Attempt { number: 1, at, duration, outcome, detail },
        state: State::Pending,
    }
}

#[actix::test]
async fn each_attempt_has_a_line_and_only_what_the_outbox_took_is_told_to_watchers() {
    let clock = clock();
    let desk = Desk::new(Arc::new(memory(&clock)), clock.clone());
    let mut watched = desk.watchers.subscribe();
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        for answer in [Settled::Applied, Settled::Kept(State::Cancelled), Settled::LeaseLost] {
            tell(&desk, told(), answer);
        }
    });
    let lines = lines.0.lock().unwrap().clone();
    assert!(lines.len() == 3 && lines.iter().all(|line| line.contains(r#"outcome="failed""#)), "{lines:?}");
    let lost: Vec<_> = lines.iter().map(|line| line.contains(r#"lease="lost""#)).collect();
    assert_eq!(lost, [false, false, true], "{lines:?}");
    let states: Vec<_> = std::iter::from_fn(|| watched.try_recv().ok()).map(|w| w.state).collect();
    assert_eq!(states, [State::Pending, State::Cancelled]);
}
