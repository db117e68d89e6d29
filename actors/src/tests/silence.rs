//! Telemetry that is switched off: what waits is cancelled, nothing new is owed, and people are told as ever.

use super::House;
use super::house::{clock, delivered, failed, healthy, measured, memory, settings, subscription};
use crate::messages::{Reload, Retry};
use crate::settings::{Settings, Subscription};
use posthaste_events::catalogue::declare::Declarations;
use posthaste_events::catalogue::{Catalogue, Undeclared};
use posthaste_events::prepare::TelemetryPolicy;
use posthaste_events::{DeliveryId, EventId, State, SubscriptionId};
use posthaste_outbox::Answer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// A receiver that counts what it gets and takes it once `open`.
pub(super) fn gate(name: &str, open: &Arc<AtomicBool>, got: &Arc<AtomicUsize>) -> Subscription {
    let (open, got) = (Arc::clone(open), Arc::clone(got));
    measured(name, move |_| {
        let (open, got) = (Arc::clone(&open), Arc::clone(&got));
        async move {
            got.fetch_add(1, Ordering::Relaxed);
            if open.load(Ordering::Relaxed) { delivered() } else { failed(503) }
        }
    })
}

/// Settings with these types and telemetry.
pub(super) fn measuring(subscriptions: Vec<Subscription>, types: &[&str]) -> Settings {
    let catalogue = Catalogue::compile(&Declarations::of_types(types), Undeclared::Reject).unwrap();
    Settings { catalogue, telemetry: Some(TelemetryPolicy::default()), ..settings(subscriptions) }
}

async fn state(house: &House, event: EventId, subscription: SubscriptionId) -> State {
    house.outbox.delivery(DeliveryId { event, subscription }).await.unwrap().unwrap().row.state
}

#[actix::test]
async fn what_waits_of_telemetry_is_cancelled_when_it_is_switched_off_and_nothing_new_is_owed() {
    let (open, got) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let on = measuring(vec![gate("product", &open, &got), healthy("ops")], &["a:b"]);
    let clock = clock();
    let mut house = House::by(on.clone(), Arc::new(memory(&clock)), clock).await;
    let before = house.record("a:b", 1_500).await;
    house.attempts(1_600).await;
    let off = Settings { telemetry: None, ..on.clone() };
    house.engine.registry.send(Reload(off)).await.unwrap().unwrap();
    assert_eq!(house.subscription("product").await.backlog, 500, "a piece at once, the rest with the upkeep");
    let after = house.record("a:b", 1).await[0];
    tokio::time::sleep(Duration::from_secs(60)).await;
    open.store(true, Ordering::Relaxed);
    let tried = got.load(Ordering::Relaxed);
    for event in &before {
        assert_eq!(house.state(*event, "product").await, State::Cancelled);
        assert_eq!(house.state(*event, "ops").await, State::Delivered);
    }
    assert_eq!(house.state(after, "ops").await, State::Delivered);
    // What a person asks for meanwhile is not sent either.
    let asked = DeliveryId { event: before[0], subscription: house.id("product").await };
    assert_eq!(house.engine.registry.send(Retry(asked)).await.unwrap().unwrap(), Answer::Done);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(house.state(before[0], "product").await, State::Cancelled);
    assert_eq!(got.load(Ordering::Relaxed), tried, "nothing is sent");

    house.engine.registry.send(Reload(on)).await.unwrap().unwrap();
    let event = house.record("a:b", 1).await[0];
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(house.state(event, "product").await, State::Delivered);
    assert_eq!(got.load(Ordering::Relaxed), tried + 1, "what was cancelled stays so");
}

#[actix::test]
async fn what_an_engine_finds_owed_of_telemetry_when_it_starts_switched_off_is_cancelled() {
    let (open, got) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let on = measuring(vec![gate("product", &open, &got)], &["a:b"]);
    let clock = clock();
    let outbox = Arc::new(memory(&clock));
    let mut first = House::by(on.clone(), outbox.clone(), Arc::clone(&clock)).await;
    let event = first.record("a:b", 1).await[0];
    first.attempts(1).await;
    open.store(true, Ordering::Relaxed);
    // The first one is dead as far as the outbox knows: it says nothing more of what it has out.
    let second = House::by(Settings { telemetry: None, ..on }, outbox, clock).await;
    assert_eq!(second.state(event, "product").await, State::Cancelled);
}

#[actix::test]
async fn a_subscription_that_leaves_as_telemetry_is_switched_off_or_before_is_cancelled_too_and_one_of_people_is_not() {
    let clock = clock();
    // In one reload, and in two.
    for at_once in [true, false] {
        let (open, got) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let people = subscription("ops", |_| async { failed(503) });
        let on = measuring(vec![gate("product", &open, &got), people], &["a:b"]);
        let mut house = House::by(on.clone(), Arc::new(memory(&clock)), Arc::clone(&clock)).await;
        let event = house.record("a:b", 1).await[0];
        house.attempts(2).await;
        // One that is gone and owed nothing has no name any more.
        let ids = [house.id("product").await, house.id("ops").await];
        let left = Settings { subscriptions: vec![], ..on.clone() };
        if !at_once {
            house.engine.registry.send(Reload(left.clone())).await.unwrap().unwrap();
            assert_ne!(state(&house, event, ids[0]).await, State::Cancelled, "only gone, it may come back");
        }
        let off = Settings { telemetry: None, ..left };
        house.engine.registry.send(Reload(off)).await.unwrap().unwrap();
        assert_eq!(state(&house, event, ids[0]).await, State::Cancelled);
        assert_ne!(state(&house, event, ids[1]).await, State::Cancelled);
        open.store(true, Ordering::Relaxed);
        let tried = got.load(Ordering::Relaxed);
        house.engine.registry.send(Reload(on)).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(got.load(Ordering::Relaxed), tried, "nothing of before is sent");
    }
}

#[actix::test]
async fn what_was_owed_when_telemetry_was_switched_off_is_not_sent_though_it_is_on_again_at_once() {
    let (open, got) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let on = measuring(vec![gate("product", &open, &got)], &["a:b"]);
    let clock = clock();
    let mut house = House::by(on.clone(), Arc::new(memory(&clock)), clock).await;
    house.record("a:b", 3_500).await;
    house.attempts(1).await;
    let off = Settings { telemetry: None, ..on.clone() };
    house.engine.registry.send(Reload(off)).await.unwrap().unwrap();
    assert_eq!(house.subscription("product").await.backlog, 2_500);
    open.store(true, Ordering::Relaxed);
    let tried = got.load(Ordering::Relaxed);
    house.engine.registry.send(Reload(on)).await.unwrap().unwrap();
    assert_eq!(house.subscription("product").await.backlog, 0);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(got.load(Ordering::Relaxed), tried);
}
