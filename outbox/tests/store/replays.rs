//! The promises about replays.

use crate::fixture::*;
use posthaste_events::{DeliveryId, Facts, Pattern, Prepared, State, SubscriptionId, Timestamp};
use posthaste_outbox::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn everything(subscription: SubscriptionId) -> ReplayOrder {
    ReplayOrder { subscription, since: None, until: None, state: None, event_type: None, tenant: None }
}

/// Drives a replay to its end, `count` candidates a page, as a registry does that wants all of them.
async fn drive(f: &Fixture, id: ReplayId, count: usize) -> Replay {
    for _ in 0..1_000 {
        let Some(page) = f.outbox.replay_page(id, count).await.unwrap() else { break };
        assert!(page.candidates.len() <= count);
        f.outbox.replay_step(id, page).await.unwrap().unwrap();
    }
    f.outbox.replays().await.unwrap().into_iter().find(|r| r.id == id).unwrap()
}

/// Claims and delivers everything that is due; what, and at which attempt.
async fn deliver_all(f: &Fixture, id: SubscriptionId) -> Vec<(DeliveryId, u32)> {
    let mut delivered = Vec::new();
    loop {
        let claimed = f.claim(id, 100).await.deliveries;
        if claimed.is_empty() {
            return delivered;
        }
        for leased in claimed {
            assert_eq!(f.settle(&leased, Then::Delivered).await, Settled::Applied);
            delivered.push((leased.delivery, leased.attempt));
        }
    }
}

/// Three events owed to the first: delivered, dead, cancelled; one that it is still owed; one that never was its.
async fn one_of_each(f: &Fixture, ids: &[SubscriptionId]) -> Vec<DeliveryId> {
    let mut all = Vec::new();
    for then in [Some(Then::Delivered), Some(Then::Dead("no".into())), None] {
        f.record_one(&ids[..1]).await;
        let leased = f.claim_one(ids[0]).await;
        match then {
            Some(then) => {
                f.settle(&leased, then).await;
            }
            None => {
                f.settle(&leased, Then::RetryIn(SECOND)).await;
                assert_eq!(f.outbox.ask(leased.delivery, Wish::Cancel).await.unwrap(), Answer::Done);
            }
        }
        all.push(leased.delivery);
    }
    for owed in [&ids[..1], &ids[1..]] {
        let event = f.record_one(owed).await.id;
        all.push(DeliveryId { event, subscription: ids[0] });
    }
    all
}

pub(crate) async fn a_replay_makes_whatever_is_settled_or_never_was_owed_due_once_more(stores: Stores) {
    for count in [1, 2, 100] {
        let f = stores.open();
        let (ids, _) = f.enroll(&["a", "b"]).await;
        let all = one_of_each(&f, &ids).await;
        let ordered = f.outbox.order_replay(everything(ids[0])).await.unwrap();
        assert_eq!((ordered.state, ordered.replayed), (ReplayState::Running, 0));
        let later = f.record_one(&ids).await.id;
        let done = drive(&f, ordered.id, count).await;
        assert_eq!((done.state, done.replayed, done.ended_at.is_some()), (ReplayState::Done, 4, true));
        assert_eq!(f.outbox.health().owed, 1 + 1 + 4 + 2);
        let owed: BTreeSet<_> = deliver_all(&f, ids[0]).await.into_iter().collect();
        let expected = [(all[0], 2), (all[1], 2), (all[2], 2), (all[3], 1), (all[4], 1)];
        let later = (DeliveryId { event: later, subscription: ids[0] }, 1);
        assert_eq!(owed, expected.into_iter().chain([later]).collect(), "the attempts go on counting");
        assert!(deliver_all(&f, ids[0]).await.is_empty());
        // The delivery is the same one, with its attempts of before.
        let view = f.outbox.delivery(all[0]).await.unwrap().unwrap();
        assert_eq!((view.row.state, view.row.attempt_count, view.attempts.len()), (State::Delivered, 2, 2));
        assert_eq!(f.outbox.replay_page(ordered.id, 10).await.unwrap(), None, "what ended has no page");
    }
}

pub(crate) async fn a_delivery_that_only_a_replay_made_is_shown_like_any_other(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let event = f.record_one(&ids[1..]).await.id;
    let id = DeliveryId { event, subscription: ids[0] };
    assert_eq!(f.outbox.delivery(id).await.unwrap(), None);
    let ordered = f.outbox.order_replay(everything(ids[0])).await.unwrap();
    drive(&f, ordered.id, 10).await;
    let states = |rows: Vec<DeliveryRow>| rows.into_iter().map(|r| (r.subscription, r.state)).collect::<Vec<_>>();
    let both = |state| vec![("a".to_owned(), state), ("b".to_owned(), State::Pending)];
    let all = DeliveryQuery {
        state: None,
        subscription: None,
        tenant: None,
        since: None,
        after: None,
        limit: 1,
        work_max: 1_000,
    };
    for state in [State::Pending, State::Delivered, State::Dead] {
        assert_eq!(f.outbox.delivery(id).await.unwrap().unwrap().row.state, state);
        let view = f.outbox.event(event).await.unwrap().unwrap();
        assert_eq!(states(view.deliveries.into_iter().map(|d| d.row).collect()), both(state));
        let mut listed = Vec::new();
        let mut after = None;
        for _ in 0..10 {
            let page = f.outbox.deliveries(DeliveryQuery { after, ..all.clone() }).await.unwrap();
            listed.extend(page.rows);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(states(listed), both(state));
        let of_it = DeliveryQuery { subscription: Some(ids[0]), state: Some(state), limit: 10, ..all.clone() };
        assert_eq!(f.outbox.deliveries(of_it).await.unwrap().rows.len(), 1);
        match state {
            State::Pending => drop(deliver_all(&f, ids[0]).await),
            State::Delivered => {
                // A second replay finds it delivered: it is no longer one that never was owed.
                let ordered = f.outbox.order_replay(everything(ids[0])).await.unwrap();
                let page = f.outbox.replay_page(ordered.id, 10).await.unwrap().unwrap();
                assert_eq!(page.candidates[0].delivery, Some(State::Delivered));
                drive(&f, ordered.id, 10).await;
                let leased = f.claim_one(ids[0]).await;
                f.settle(&leased, Then::Dead("enough".into())).await;
            }
            _ => {}
        }
    }
    assert_eq!(f.outbox.ask(id, Wish::Retry).await.unwrap(), Answer::Done);
    assert_eq!(f.claim_one(ids[0]).await.attempt, 3);
}

pub(crate) async fn a_replay_goes_by_time_type_tenant_and_state(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let at = |n: i64| Timestamp::from_millis(START + n * 1_000);
    for n in 0..6 {
        let Prepared { facts, .. } = event("{}", &ids);
        let facts = Facts {
            event_type: posthaste_events::EventType::parse(if n % 2 == 0 { "job:done" } else { "job:failed" }).unwrap(),
            tenant: (n < 3).then(|| "acme".to_owned()),
            recorded_at: at(n),
            ..(*facts).clone()
        };
        f.record(vec![Prepared { facts: Arc::new(facts), ..event("{}", &ids) }]).await;
        let leased = f.claim_one(ids[0]).await;
        f.settle(&leased, if n == 2 { Then::Dead("no".into()) } else { Then::Delivered }).await;
        f.clock.forward(SECOND);
    }
    let all = everything(ids[0]);
    let pattern = |text| Pattern::parse(text).ok();
    let orders = [
        (all.clone(), 6),
        (ReplayOrder { since: Some(at(2)), ..all.clone() }, 4),
        (ReplayOrder { until: Some(at(2)), ..all.clone() }, 2),
        (ReplayOrder { since: Some(at(2)), until: Some(at(4)), ..all.clone() }, 2),
        (ReplayOrder { event_type: pattern("job:failed"), ..all.clone() }, 3),
        (ReplayOrder { event_type: pattern("other:**"), ..all.clone() }, 0),
        (ReplayOrder { tenant: Some("acme".into()), ..all.clone() }, 3),
        (ReplayOrder { state: Some(State::Dead), ..all.clone() }, 1),
        (ReplayOrder { state: Some(State::Delivered), tenant: Some("acme".into()), ..all.clone() }, 3),
    ];
    // The dead one is delivered at the first of them; each of the others finds it so.
    for (n, (order, expected)) in orders.into_iter().rev().enumerate() {
        let expected = if n == 0 { 2 } else { expected };
        let ordered = f.outbox.order_replay(order.clone()).await.unwrap();
        assert_eq!(ordered.order.until, order.until.or(Some(ordered.at)));
        let done = drive(&f, ordered.id, 2).await;
        assert_eq!(done.replayed, expected, "{order:?}");
        deliver_all(&f, ids[0]).await;
    }
    // Recorded in the same millisecond as the order, and before it.
    let facts = Facts { recorded_at: at(6), ..(*event("{}", &ids).facts).clone() };
    f.record(vec![Prepared { facts: Arc::new(facts), ..event("{}", &ids) }]).await;
    deliver_all(&f, ids[0]).await;
    for until in [None, Some(at(6)), Some(at(99))] {
        let order = ReplayOrder { since: Some(at(6)), until, ..all.clone() };
        let ordered = f.outbox.order_replay(order).await.unwrap();
        assert_eq!(ordered.order.until, Some(at(6)));
        assert_eq!(drive(&f, ordered.id, 2).await.replayed, 1, "{until:?}");
        deliver_all(&f, ids[0]).await;
    }
    for state in [State::Pending, State::Held] {
        let refused = f.outbox.order_replay(ReplayOrder { state: Some(state), ..all.clone() }).await;
        assert!(matches!(refused, Err(StoreError::Failed(_))));
    }
    let unknown = f.outbox.order_replay(everything(SubscriptionId(99))).await;
    assert!(matches!(unknown, Err(StoreError::Failed(_))));
}

pub(crate) async fn of_a_page_only_what_is_handed_back_is_made_due_and_a_step_taken_twice_counts_once(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    for _ in 0..6 {
        f.record_one(&ids).await;
    }
    deliver_all(&f, ids[0]).await;
    let id = f.outbox.order_replay(everything(ids[0])).await.unwrap().id;
    let mut page = f.outbox.replay_page(id, 4).await.unwrap().unwrap();
    assert!(page.candidates.len() == 4 && !page.last);
    let bodies = page.candidates.iter().all(|c| c.event.payloads.notification().is_some());
    assert!(bodies, "whoever matches needs what is in the event");
    assert_eq!(f.outbox.replay_page(id, 4).await.unwrap().unwrap(), page, "a page changes nothing");
    page.candidates.retain(|candidate| candidate.event.id.sequence() % 2 == 0);
    let first = f.outbox.replay_step(id, page.clone()).await.unwrap().unwrap();
    assert_eq!((first.replayed, first.state), (2, ReplayState::Running));
    assert_eq!(deliver_all(&f, ids[0]).await.len(), 2);
    // Delivered again by now: the same step would make them due a third time.
    assert_eq!(f.outbox.replay_step(id, page).await.unwrap().unwrap(), first);
    assert!(deliver_all(&f, ids[0]).await.is_empty());
    let done = drive(&f, id, 100).await;
    assert_eq!((done.replayed, done.state), (4, ReplayState::Done));
    assert_eq!(deliver_all(&f, ids[0]).await.len(), 2);
}

pub(crate) async fn a_replay_waits_for_room_in_the_backlog(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll_bounded(&["a"], 3).await;
    for _ in 0..10 {
        f.record_one(&ids).await;
        deliver_all(&f, ids[0]).await;
    }
    let id = f.outbox.order_replay(everything(ids[0])).await.unwrap().id;
    let mut replayed = Vec::new();
    for round in 1..=4 {
        for _ in 0..3 {
            if let Some(page) = f.outbox.replay_page(id, 100).await.unwrap() {
                f.outbox.replay_step(id, page).await.unwrap();
            }
            assert!(f.outbox.health().owed <= 3);
        }
        let stands = f.outbox.replays().await.unwrap()[0].clone();
        assert_eq!(stands.replayed, (round * 3).min(10));
        assert_eq!(stands.state == ReplayState::Done, round == 4);
        replayed.extend(deliver_all(&f, ids[0]).await);
    }
    assert!(replayed.iter().all(|(_, attempt)| *attempt == 2));
    assert_eq!(replayed.len(), 10);
}

pub(crate) async fn a_replay_ends_when_a_person_cancels_it_or_its_subscription_is_gone(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    for _ in 0..4 {
        f.record_one(&ids).await;
    }
    let _ = (deliver_all(&f, ids[0]).await, deliver_all(&f, ids[1]).await);
    let one = f.outbox.order_replay(everything(ids[0])).await.unwrap().id;
    let two = f.outbox.order_replay(everything(ids[1])).await.unwrap().id;
    let page = f.outbox.replay_page(one, 2).await.unwrap().unwrap();
    f.outbox.replay_step(one, page.clone()).await.unwrap();
    let ended = f.outbox.cancel_replay(one).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.replayed, ended.ended_at.is_some()), (ReplayState::Cancelled, 2, true));
    assert_eq!(f.outbox.cancel_replay(one).await.unwrap().unwrap(), ended);
    assert_eq!(f.outbox.cancel_replay(ReplayId(77)).await.unwrap(), None);
    assert_eq!(f.outbox.replay_page(one, 2).await.unwrap(), None);
    let late = ReplayPage { cursor: 1_000, last: true, ..page };
    assert_eq!(f.outbox.replay_step(one, late).await.unwrap(), Some(ended), "what ended takes no step");
    assert_eq!(deliver_all(&f, ids[0]).await.len(), 2, "what it made due stays");
    f.enroll(&["a"]).await;
    assert_eq!(f.outbox.replay_page(two, 2).await.unwrap(), None);
    let states: Vec<_> = f.outbox.replays().await.unwrap().into_iter().map(|r| r.state).collect();
    assert_eq!(states, [ReplayState::Cancelled; 2]);
    assert!(f.outbox.order_replay(everything(ids[1])).await.is_err());
}

pub(crate) async fn a_replayed_one_is_owed_since_then_and_hints_that_it_is_due(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    deliver_all(&f, ids[0]).await;
    f.clock.forward(1_000 * SECOND);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    f.outbox.on_due(Box::new(move |due| heard.lock().unwrap().extend_from_slice(due)));
    let id = f.outbox.order_replay(everything(ids[0])).await.unwrap().id;
    assert!(told.lock().unwrap().is_empty());
    drive(&f, id, 10).await;
    assert_eq!(*told.lock().unwrap(), ids);
    f.clock.forward(5 * SECOND);
    assert_eq!(f.claim_one(ids[0]).await.owed_for, 5 * SECOND);
}

pub(crate) async fn what_a_replay_made_due_goes_past_its_retention_like_anything_owed(stores: Stores) {
    let f = stores.open_with(Limits { retention: 10 * SECOND, free_min: 0, ..Limits::default() });
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let mut adopted = Vec::new();
    for _ in 0..4 {
        f.record_one(&ids[1..]).await;
        adopted.push(f.record_one(&ids[1..]).await.id);
    }
    deliver_all(&f, ids[1]).await;
    let id = f.outbox.order_replay(everything(ids[0])).await.unwrap().id;
    let mut page = f.outbox.replay_page(id, 100).await.unwrap().unwrap();
    page.candidates.retain(|candidate| adopted.contains(&candidate.event.id));
    f.outbox.replay_step(id, page).await.unwrap();
    for _ in 0..12 {
        f.clock.forward(5 * SECOND);
        f.record_one(&[]).await;
        f.outbox.sweep(SECOND).await.unwrap();
    }
    for event in &adopted {
        let id = DeliveryId { event: *event, subscription: ids[0] };
        assert_eq!(f.outbox.delivery(id).await.unwrap().unwrap().row.state, State::Pending);
        let view = f.outbox.event(*event).await.unwrap().unwrap();
        assert_eq!(view.deliveries.iter().map(|d| d.row.state).collect::<Vec<_>>(), [State::Pending, State::Delivered]);
    }
    assert_eq!(deliver_all(&f, ids[0]).await.len(), 4);
    for event in &adopted {
        let view = f.outbox.event(*event).await.unwrap().unwrap();
        assert_eq!(view.deliveries.iter().map(|d| d.row.state).collect::<Vec<_>>(), [State::Delivered; 2]);
    }
    for _ in 0..12 {
        f.clock.forward(5 * SECOND);
        f.record_one(&[]).await;
        f.outbox.sweep(SECOND).await.unwrap();
    }
    assert_eq!(f.outbox.event(adopted[0]).await.unwrap(), None);
    assert_eq!(f.outbox.health().owed, 0);
}
