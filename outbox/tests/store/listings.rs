//! The promises about what is shown.

use crate::fixture::*;
use posthaste_events::{DeliveryId, EventId, EventType, State, SubscriptionId, Timestamp};
use posthaste_outbox::*;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn all_events() -> EventQuery {
    EventQuery { event_type: None, tenant: None, since: None, until: None, after: None, limit: 100, work_max: 10_000 }
}

pub(crate) fn all_deliveries() -> DeliveryQuery {
    DeliveryQuery {
        state: None,
        subscription: None,
        tenant: None,
        since: None,
        after: None,
        limit: 100,
        work_max: 10_000,
    }
}

pub(crate) async fn pages_of_events(f: &Fixture, mut query: EventQuery) -> Vec<EventId> {
    let mut all = Vec::new();
    for _ in 0..1_000 {
        let page = f.outbox.events(query.clone()).await.unwrap();
        assert!(page.rows.len() <= query.limit);
        all.extend(page.rows.iter().map(|row| row.id));
        query.after = page.next;
        if query.after.is_none() {
            return all;
        }
    }
    panic!("the pages have no end")
}

pub(crate) async fn events_are_listed_newest_first_in_pages_that_miss_none(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let mut recorded = Vec::new();
    for n in 0..40 {
        let mut event = event(&n.to_string(), &ids);
        let facts = Arc::make_mut(&mut event.facts);
        facts.tenant = (n % 4 == 0).then(|| "t".to_owned());
        facts.event_type = EventType::parse(if n % 2 == 0 { "even" } else { "odd" }).unwrap();
        facts.recorded_at = Timestamp::from_millis(START + n);
        recorded.push(f.record(vec![event]).await[0].id);
    }
    let newest_first: Vec<EventId> = recorded.iter().rev().copied().collect();
    assert_eq!(pages_of_events(&f, all_events()).await, newest_first);
    for (limit, work_max) in [(1, 10_000), (7, 10_000), (100, 1), (3, 2), (40, 40)] {
        let query = EventQuery { limit, work_max, ..all_events() };
        assert_eq!(pages_of_events(&f, query).await, newest_first, "{limit} {work_max}");
    }
    let every = |n: usize| recorded.iter().step_by(n).rev().copied().collect::<Vec<_>>();
    let even = EventQuery { event_type: EventType::parse("even").ok(), limit: 3, work_max: 4, ..all_events() };
    assert_eq!(pages_of_events(&f, even).await, every(2));
    let tenant = EventQuery { tenant: Some("t".into()), limit: 3, ..all_events() };
    assert_eq!(pages_of_events(&f, tenant).await, every(4));
    let at = |n| Some(Timestamp::from_millis(START + n));
    let within = EventQuery { since: at(10), until: at(12), ..all_events() };
    assert_eq!(pages_of_events(&f, within).await, [recorded[11], recorded[10]]);
}

async fn pages_of_deliveries(f: &Fixture, mut query: DeliveryQuery) -> Vec<DeliveryId> {
    let mut all = Vec::new();
    for _ in 0..1_000 {
        let page = f.outbox.deliveries(query.clone()).await.unwrap();
        assert!(page.rows.len() <= query.limit);
        all.extend(page.rows.iter().map(|row| row.id));
        query.after = page.next;
        if query.after.is_none() {
            return all;
        }
    }
    panic!("the pages have no end")
}

pub(crate) async fn deliveries_are_listed_newest_first_in_pages_that_miss_none(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b", "c"]).await;
    let mut expected = Vec::new();
    for n in 0..12 {
        let owed = &ids[..n % 4];
        let recorded = f.record_one(owed).await;
        let deliveries = owed.iter().map(|id| DeliveryId { event: recorded.id, subscription: *id });
        expected.splice(0..0, deliveries);
    }
    let dead = f.claim(ids[0], 2).await.deliveries;
    for leased in &dead {
        f.settle(leased, Then::Dead("x".into())).await;
    }
    f.outbox.set_standing(ids[1], Standing::Paused).await.unwrap();
    for (limit, work_max) in [(100, 10_000), (1, 10_000), (2, 10_000), (5, 3), (100, 1), (18, 10_000)] {
        let query = DeliveryQuery { limit, work_max, ..all_deliveries() };
        assert_eq!(pages_of_deliveries(&f, query).await, expected, "{limit} {work_max}");
    }
    let of_b: Vec<_> = expected.iter().filter(|id| id.subscription == ids[1]).copied().collect();
    let query = DeliveryQuery { subscription: Some(ids[1]), limit: 2, ..all_deliveries() };
    assert_eq!(pages_of_deliveries(&f, query.clone()).await, of_b);
    assert_eq!(pages_of_deliveries(&f, DeliveryQuery { state: Some(State::Held), ..query }).await, of_b);
    let query = DeliveryQuery { state: Some(State::Dead), limit: 1, work_max: 2, ..all_deliveries() };
    assert_eq!(pages_of_deliveries(&f, query).await, [dead[1].delivery, dead[0].delivery]);
}

pub(crate) async fn an_event_is_shown_with_its_deliveries_and_attempts(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let recorded = f.record(vec![event("body", &ids)]).await[0];
    let leased = f.claim_one(ids[0]).await;
    f.settle(&leased, Then::RetryIn(SECOND)).await;
    let shown = f.outbox.event(recorded.id).await.unwrap().unwrap();
    assert_eq!((shown.event.id, shown.event.payloads.notification().unwrap()), (recorded.id, &"body".into()));
    let deliveries: Vec<_> =
        shown.deliveries.iter().map(|d| (d.row.subscription.as_str(), d.row.state, d.attempts.len())).collect();
    assert_eq!(deliveries, [("a", State::Pending, 1), ("b", State::Pending, 0)]);
    assert_eq!(shown.deliveries[0].attempts, [failed(1)]);
    let forged = EventId::new(recorded.id.millis(), recorded.id.sequence(), 12_345);
    assert!(f.outbox.event(forged).await.unwrap().is_none());
    let forged = DeliveryId { event: recorded.id, subscription: SubscriptionId(77) };
    assert!(f.outbox.delivery(forged).await.unwrap().is_none());
    assert!(f.outbox.event(EventId::new(1, u64::MAX, 1)).await.unwrap().is_none());
}

pub(crate) async fn one_subscription_is_told_as_the_roll_tells_of_it(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b", "c"]).await;
    f.record_one(&ids[..2]).await;
    f.outbox.set_standing(ids[1], Standing::Paused).await.unwrap();
    f.enroll(&["a"]).await;
    for name in ["a", "b", "c", "d"] {
        let of_roll = f.outbox.roll().await.unwrap().subscriptions.into_iter().find(|s| s.name == name);
        assert_eq!(of_roll.is_some(), ["a", "b"].contains(&name), "{name}");
        assert_eq!(f.outbox.subscribed(name.into()).await.unwrap(), of_roll);
    }
}

pub(crate) async fn those_that_are_owed_something_or_take_nothing_are_told_as_the_roll_tells_of_them(stores: Stores) {
    let f = stores.open();
    assert!(f.outbox.owing().await.unwrap().is_empty());
    let (ids, _) = f.enroll(&["owed", "nothing", "paused", "disabled", "gone", "gone-and-owed", "deleted"]).await;
    f.record_one(&[ids[0], ids[5], ids[6]]).await;
    f.record_one(&[ids[0]]).await;
    f.claim(ids[0], 1).await;
    f.outbox.set_standing(ids[2], Standing::Paused).await.unwrap();
    f.outbox.set_standing(ids[3], Standing::Disabled("410".into())).await.unwrap();
    f.enroll(&["owed", "nothing", "paused", "disabled"]).await;
    f.outbox.define(vec![Define::Remove("deleted".into())]).await.unwrap();
    let told = f.outbox.owing().await.unwrap();
    let owing = |id: SubscriptionId, owed, active| Owing { id, owed, active };
    let expected = [owing(ids[0], 2, true), owing(ids[2], 0, false), owing(ids[3], 0, false), owing(ids[5], 1, true)];
    assert_eq!(told, expected);
    let of_roll = f.outbox.roll().await.unwrap().subscriptions;
    let of_roll = of_roll.iter().filter(|s| s.owed > 0 || s.standing != Standing::Active);
    assert_eq!(of_roll.map(|s| s.id).collect::<Vec<_>>(), told.iter().map(|o| o.id).collect::<Vec<_>>());
}
