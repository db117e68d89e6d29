//! Events whose telemetry cannot be built: recorded, notified, told, and delivered to analytics once they can.

use super::House;
use super::house::{clock, healthy, memory, pause, resume, to};
use super::silence::{gate, measuring};
use crate::QUARANTINE;
use crate::messages::{InspectHealth, InspectSubscription, InspectSubscriptions, RecordBatch, Reload};
use posthaste_events::builtin::QUARANTINED;
use posthaste_events::catalogue::declare::{Audience, Declarations, FieldDeclaration, FieldKind};
use posthaste_events::catalogue::{Catalogue, Undeclared};
use posthaste_events::layered::{Attempted, Failure};
use posthaste_events::prepare::Snapshot;
use posthaste_events::retry::Next;
use posthaste_events::seams::Clock as _;
use posthaste_events::{Draft, EventId, EventType, State};
use posthaste_outbox::query::EventQuery;
use posthaste_outbox::{EventRow, Outbox, Settled};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Records events as they are where building their telemetry failed.
async fn record_quarantined(house: &House, count: usize) -> Vec<EventId> {
    let snapshot = house.engine.snapshot.current();
    let draft = Draft::new(EventType::parse("a:b").unwrap());
    let unmeasured = Snapshot { telemetry: None, ..Snapshot::clone(&snapshot) };
    let mut event = unmeasured.prepare(draft, house.clock.wall()).unwrap();
    event.quarantined = Some("its rules contradict each other".into());
    let event = snapshot.rematch(event);
    let record = RecordBatch { events: vec![event; count], epoch: snapshot.epoch };
    house.engine.registry.send(record).await.unwrap().unwrap().into_iter().map(|r| r.id).collect()
}

async fn events(outbox: &dyn Outbox, event_type: &str) -> Vec<EventRow> {
    let event_type = Some(EventType::parse(event_type).unwrap());
    let query =
        EventQuery { event_type, tenant: None, since: None, until: None, after: None, limit: 100, work_max: 10_000 };
    outbox.events(query).await.unwrap().rows
}

/// Declared or not: what is not declared any more can not be built, which stands for any failure that a change of the
/// catalogue mends.
fn house_settings(got: &Arc<AtomicUsize>, types: &[&str]) -> crate::settings::Settings {
    let open = Arc::new(AtomicBool::new(true));
    let mut settings = measuring(vec![gate("product", &open, got), to(healthy("ops"), "**")], types);
    settings.subscriptions.push(to(healthy("ours"), "posthaste:**"));
    settings
}

#[actix::test]
async fn a_quarantined_event_is_notified_listed_told_and_measured_once_the_catalogue_is_mended() {
    let got = Arc::new(AtomicUsize::new(0));
    let clock = clock();
    let house = House::by(house_settings(&got, &["a:b"]), Arc::new(memory(&clock)), clock).await;
    let hidden = house.engine.registry.send(InspectSubscriptions).await.unwrap().unwrap();
    assert!(hidden.iter().all(|s| s.name != QUARANTINE));
    let named = house.engine.registry.send(InspectSubscription(QUARANTINE.into())).await.unwrap().unwrap();
    assert_eq!(named.unwrap().backlog, 0);

    // The type leaves the catalogue in the moment in which it is recorded.
    let quarantined = record_quarantined(&house, 3).await;
    house.engine.registry.send(Reload(house_settings(&got, &["c:d"]))).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The first attempts may have come before the reload; then nothing is left to show.
    let waiting = house.engine.registry.send(InspectSubscription(QUARANTINE.into())).await.unwrap().unwrap().unwrap();
    let early = got.load(Ordering::Relaxed);
    assert_eq!(waiting.backlog as usize + early, 3);
    for event in &quarantined {
        assert_eq!(house.state(*event, "ops").await, State::Delivered);
    }
    let told = events(&*house.outbox, QUARANTINED).await;
    assert_eq!(told.len(), 1, "those of a second are told together");
    let body = String::from_utf8(told[0].payloads.notification().unwrap().to_vec()).unwrap();
    assert!(body.contains(&quarantined[0].to_string()) && body.contains("contradict") && body.contains("3"), "{body}");
    assert_eq!(house.state(told[0].id, "ours").await, State::Delivered);
    assert_eq!(house.engine.registry.send(InspectHealth).await.unwrap().quarantined_total, 3);

    house.engine.registry.send(Reload(house_settings(&got, &["a:b"]))).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(got.load(Ordering::Relaxed), 3, "at once, and each once");
    assert_eq!(house.state(quarantined[0], QUARANTINE).await, State::Delivered);
    let hidden = house.engine.registry.send(InspectSubscriptions).await.unwrap().unwrap();
    assert!(hidden.iter().all(|s| s.name != QUARANTINE));
}

#[actix::test]
async fn what_cannot_be_built_waits_without_end_and_is_tried_again() {
    let got = Arc::new(AtomicUsize::new(0));
    let clock = clock();
    let outbox = Arc::new(memory(&clock));
    let mut house = House::by(house_settings(&got, &["a:b"]), outbox, clock).await;
    house.engine.registry.send(pause(QUARANTINE)).await.unwrap().unwrap();
    let event = record_quarantined(&house, 1).await[0];
    house.engine.registry.send(Reload(house_settings(&got, &["c:d"]))).await.unwrap().unwrap();
    house.engine.registry.send(resume(QUARANTINE)).await.unwrap().unwrap();
    let seen = house.attempts(4).await;
    let tries = seen.iter().filter(|w| w.subscription == QUARANTINE);
    assert!(tries.clone().all(|w| w.detail_says("not declared any more")), "{seen:?}");
    tokio::time::sleep(Duration::from_secs(24 * 60 * 60)).await;
    assert_eq!(house.state(event, QUARANTINE).await, State::Pending);
    let ten_years = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    assert!(matches!(crate::quarantine::retry().next(10_000, ten_years, None, 0.5), Next::Wait(_)));
    house.engine.registry.send(Reload(house_settings(&got, &["a:b"]))).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((house.state(event, QUARANTINE).await, got.load(Ordering::Relaxed)), (State::Delivered, 1));
}

/// Settings whose type has a required field that is telemetry's alone.
fn hiding(got: &Arc<AtomicUsize>) -> crate::settings::Settings {
    let mut declarations = Declarations::of_types(&["a:b"]);
    let hidden = FieldDeclaration {
        required: true,
        audience: Audience::Telemetry,
        ..FieldDeclaration::new("s", FieldKind::String)
    };
    declarations.events[0].fields = vec![hidden];
    let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).unwrap();
    crate::settings::Settings { catalogue, ..house_settings(got, &["a:b"]) }
}

#[actix::test]
async fn an_event_whose_required_field_is_telemetrys_alone_leaves_the_quarantine() {
    let got = Arc::new(AtomicUsize::new(0));
    let clock = clock();
    let house = House::by(hiding(&got), Arc::new(memory(&clock)), clock).await;
    let snapshot = house.engine.snapshot.current();
    let draft = Draft { properties: r#"{"s":"x"}"#.into(), ..Draft::new(EventType::parse("a:b").unwrap()) };
    let attempted = Attempted { draft, failure: Some(Failure { who: "a:b", why: "it was not the day".into() }) };
    let event = snapshot.prepare_attempted(attempted, house.clock.wall()).unwrap();
    let record = RecordBatch { events: vec![event], epoch: snapshot.epoch };
    let event = house.engine.registry.send(record).await.unwrap().unwrap()[0].id;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(house.state(event, "ops").await, State::Delivered);
    assert_eq!((house.state(event, QUARANTINE).await, got.load(Ordering::Relaxed)), (State::Delivered, 1));
}

impl crate::messages::Watched {
    fn detail_says(&self, words: &str) -> bool {
        self.attempt.detail.error.as_deref().is_some_and(|error| error.contains(words))
    }
}

#[actix::test]
async fn what_was_measured_before_a_crash_is_not_measured_twice_after_it() {
    let got = Arc::new(AtomicUsize::new(0));
    let clock = clock();
    let outbox = Arc::new(memory(&clock));
    let house = House::by(house_settings(&got, &["a:b"]), outbox.clone(), Arc::clone(&clock)).await;
    house.engine.registry.send(pause(QUARANTINE)).await.unwrap().unwrap();
    let event = record_quarantined(&house, 1).await[0];
    let keeper = house.id(QUARANTINE).await;
    // An attempt whose process dies after it recorded and before it was settled.
    let told = outbox.event(event).await.unwrap().unwrap().event;
    let snapshot = house.engine.snapshot.current();
    let built = snapshot.prepare_again(event, &told.facts, &told.payloads, clock.wall());
    let built = vec![built.unwrap().unwrap()];
    assert!(!outbox.record(built, snapshot.epoch).await.unwrap()[0].duplicate);
    drop(house);
    let second = House::by(house_settings(&got, &["a:b"]), outbox.clone(), clock).await;
    second.engine.registry.send(resume(QUARANTINE)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!((second.state(event, QUARANTINE).await, got.load(Ordering::Relaxed)), (State::Delivered, 1));
    let measured = events(&*outbox, "a:b").await;
    assert_eq!(measured.len(), 2, "the event, and what analytics is told of it");
    // Whoever comes late with the old lease changes nothing.
    let late = posthaste_outbox::Settlement {
        lease: posthaste_outbox::LeaseId(0),
        delivery: posthaste_events::DeliveryId { event, subscription: keeper },
        attempt: None,
        then: posthaste_outbox::Then::Release,
    };
    assert_eq!(outbox.settle(vec![late]).await.unwrap(), [Settled::LeaseLost]);
}
