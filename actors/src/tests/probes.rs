//! Testing one subscription, and the messages for types and relayed events.

use super::House;
use super::house::{clock, failed, healthy, memory, pause, subscription, to};
use super::silence::{gate, measuring};
use crate::messages::{InspectTypes, NotSent, NotTested, RecordTelemetry, Reload, Test, Watched};
use crate::settings::{Rate, Settings, Subscription};
use posthaste_events::catalogue::declare::Declarations;
use posthaste_events::catalogue::{Catalogue, Undeclared};
use posthaste_events::prepare::RelayDraft;
use posthaste_events::{AttemptOutcome, EventType, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

async fn test(house: &House, name: &str, event_type: Option<&str>) -> Result<Arc<Watched>, NotTested> {
    let event_type = event_type.map(|text| EventType::parse(text).unwrap());
    house.engine.registry.send(Test { subscription: name.to_owned(), event_type, bound: None }).await.unwrap()
}

#[actix::test]
async fn a_test_goes_to_one_subscription_alone_and_answers_with_its_first_attempt() {
    let clock = clock();
    let mut failing = subscription("failing", |_| async { failed(500) });
    failing.tenant = Some("acme".into());
    let subscriptions = vec![to(healthy("ops"), "none:of:these"), failing, to(healthy("ours"), "posthaste:**")];
    let house = House::by(measuring(subscriptions, &["a:b"]), Arc::new(memory(&clock)), clock).await;
    let watched = test(&house, "ops", None).await.unwrap();
    assert_eq!((watched.event_type.as_str(), watched.state), ("posthaste:test", State::Delivered));
    let view = house.outbox.event(watched.event).await.unwrap().unwrap();
    assert_eq!(view.deliveries.len(), 1, "{view:?}");
    let watched = test(&house, "failing", None).await.unwrap();
    assert_eq!((watched.attempt.outcome, watched.tenant.as_deref()), (AttemptOutcome::Failed, Some("acme")));
}

#[actix::test]
async fn a_test_that_can_have_no_attempt_says_why() {
    let (open, got) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let clock = clock();
    let silent = subscription("silent", |_| std::future::pending());
    let mut declarations = Declarations::of_types(&["a:b", "a:c"]);
    declarations.events[1].example = Some(serde_json::Map::new());
    let on = measuring(vec![healthy("ops"), healthy("held"), silent, gate("product", &open, &got)], &[]);
    let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).unwrap();
    let on = Settings { catalogue, ..on };
    let house = House::by(on.clone(), Arc::new(memory(&clock)), clock).await;
    assert!(matches!(test(&house, "nobody", None).await, Err(NotTested::Unknown)));
    house.engine.registry.send(pause("held")).await.unwrap().unwrap();
    assert!(matches!(test(&house, "held", None).await, Err(NotTested::Paused)));
    assert!(matches!(test(&house, "ops", Some("a:d")).await, Err(NotTested::Undeclared(_))));
    assert!(matches!(test(&house, "ops", Some("a:b")).await, Err(NotTested::NoExample(_))));
    assert_eq!(test(&house, "ops", Some("a:c")).await.unwrap().event_type.as_str(), "a:c");
    assert_eq!(test(&house, "product", Some("a:c")).await.unwrap().state, State::Delivered);
    assert_eq!(got.load(Ordering::Relaxed), 1, "what others are told for a test is not measured");
    // Its call is ended by its deadline, which is an attempt to show.
    assert_eq!(test(&house, "silent", None).await.unwrap().attempt.outcome, AttemptOutcome::Failed);
    house.engine.registry.send(Reload(Settings { telemetry: None, ..on })).await.unwrap().unwrap();
    assert!(matches!(test(&house, "product", None).await, Err(NotTested::TelemetryOff)));
}

#[actix::test]
async fn a_test_waits_until_the_rate_limit_lets_it_begin() {
    // After a start all slots count as taken for a span.
    let rate = Some(Rate { calls: 1, per: Duration::from_secs(30) });
    let house = House::with(vec![Subscription { rate, ..healthy("limited") }]).await;
    assert_eq!(test(&house, "limited", None).await.unwrap().state, State::Delivered);
    // And again, since the first took the only one.
    assert_eq!(test(&house, "limited", None).await.unwrap().state, State::Delivered);
}

#[actix::test]
async fn relayed_events_are_recorded_for_analytics_and_nothing_else_is() {
    let (open, got) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let clock = clock();
    let settings = measuring(vec![healthy("ops"), gate("product", &open, &got)], &["a:b"]);
    let mut house = House::by(settings.clone(), Arc::new(memory(&clock)), clock).await;
    assert_eq!(house.engine.registry.send(InspectTypes).await.unwrap(), settings.catalogue);
    let draft = RelayDraft {
        event_type: EventType::parse("a:b").unwrap(),
        properties: serde_json::json!({}),
        derived_properties: serde_json::json!({}),
        idempotency_key: Some("k".into()),
        tenant: None,
    };
    let known = draft.clone();
    let sent = house.engine.registry.send(RecordTelemetry(vec![known.clone(), known])).await.unwrap().unwrap();
    assert_eq!((sent[0].recorded.deliveries, sent[1].recorded.duplicate), (1, true));
    assert_eq!(house.attempts(1).await[0].subscription, "product");

    let properties = serde_json::json!({ "name": "Ada" });
    let free = RelayDraft { properties, idempotency_key: None, ..draft.clone() };
    let sent = house.engine.registry.send(RecordTelemetry(vec![free])).await.unwrap().unwrap();
    assert_eq!(sent[0].dropped, ["/properties/name"]);
    let kept = house.outbox.event(sent[0].recorded.id).await.unwrap().unwrap().event.payloads;
    let expected = r#"{"event":"a:b","event_properties":{},"derived_properties":{}}"#;
    assert_eq!((kept.notification(), kept.told_to_analytics().unwrap().body.as_ref()), (None, expected.as_bytes()));

    let unknown = RelayDraft { event_type: EventType::parse("a:c").unwrap(), ..draft.clone() };
    let refused = house.engine.registry.send(RecordTelemetry(vec![draft, unknown])).await.unwrap();
    assert!(matches!(refused, Err(NotSent::Unfit { index: 1, .. })), "{refused:?}");
}
