//! The promises, one function each.

use crate::fixture::*;
use crate::listings::{all_events, pages_of_events};
use posthaste_events::{AttemptOutcome, DeliveryId, EventId, Origin, Payloads, State, SubscriptionId, Timestamp};
use posthaste_outbox::*;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) async fn a_known_name_keeps_its_number_and_an_older_epoch_is_refused(stores: Stores) {
    let f = stores.open();
    let (first, old) = f.enroll(&["a", "b"]).await;
    let (second, new) = f.enroll(&["b", "c"]).await;
    assert!(new > old);
    assert_eq!(first[1], second[0]);
    assert!(!first.contains(&second[1]));
    let refused = f.outbox.record(vec![event("{}", &[first[1]])], old).await;
    assert!(matches!(refused, Err(RecordError::StaleEpoch)), "{refused:?}");
    assert_eq!(f.outbox.health().owed, 0);
    assert_eq!(f.outbox.record(vec![event("{}", &[first[1]])], new).await.unwrap()[0].deliveries, 1);
}

pub(crate) async fn what_is_recorded_is_claimed_in_order_with_its_payloads(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let mut third = event("3", &[ids[1]]);
    third.payloads = Payloads::restored(Some("3".into()), Some("t".into()));
    let recorded = f.record(vec![event("1", &ids), event("2", &ids[..1]), third]).await;
    assert_eq!(
        recorded.iter().map(|r| (r.deliveries, r.duplicate)).collect::<Vec<_>>(),
        [(2, false), (1, false), (1, false)]
    );
    let of_a = f.claim(ids[0], 10).await.deliveries;
    let of_b = f.claim(ids[1], 10).await.deliveries;
    let bodies =
        |given: &[Leased]| given.iter().map(|l| l.payloads.notification().cloned().unwrap()).collect::<Vec<_>>();
    assert_eq!(bodies(&of_a), ["1", "2"]);
    assert_eq!(bodies(&of_b), ["1", "3"]);
    assert_eq!(of_b[1].payloads.kept().unwrap(), "t");
    assert_eq!(of_a[0].delivery, DeliveryId { event: recorded[0].id, subscription: ids[0] });
    assert_eq!(of_a[0].facts, event("", &[]).facts);
    assert!(of_a.iter().chain(&of_b).all(|l| l.attempt == 1 && l.owed_for == Duration::ZERO));
}

pub(crate) async fn ids_ascend_as_text_and_sequences_grow(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.extend(f.record((0..7).map(|_| event("{}", &ids)).collect()).await);
        f.clock.forward(Duration::from_millis(1));
        f.clock.leap(-5_000);
    }
    let sequences: Vec<u64> = all.iter().map(|r| r.id.sequence()).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
    let texts: Vec<String> = all.iter().map(|r| r.id.to_string()).collect();
    assert!(texts.is_sorted(), "{texts:?}");
}

pub(crate) async fn a_payload_of_any_length_comes_back_as_it_was(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let lengths = [0, 1, 14_000, 15_360, 15_361, 20_000, 100_000, 256 * 1024];
    let body = |length: usize| (0..length).map(|n| char::from(b'a' + (n % 23) as u8)).collect::<String>();
    for length in lengths {
        let mut event = event(&body(length), &ids);
        event.payloads = Payloads::restored(event.payloads.notification().cloned(), Some(body(length / 2).into()));
        let recorded = f.record(vec![event.clone()]).await[0];
        let leased = f.claim_one(ids[0]).await;
        assert_eq!(leased.payloads, event.payloads, "{length}");
        assert_eq!(f.settle(&leased, Then::Delivered).await, Settled::Applied);
        let shown = f.outbox.event(recorded.id).await.unwrap().unwrap();
        assert_eq!(shown.event.payloads, event.payloads, "{length}");
    }
}

pub(crate) async fn a_repeated_key_answers_what_the_first_answered(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let first = f.record(vec![keyed(event("1", &ids), 1, 1), keyed(event("1", &ids), 1, 1)]).await;
    assert_eq!((first[0].duplicate, first[1]), (false, Recorded { duplicate: true, ..first[0] }));
    // Matched against other subscriptions meanwhile, yet the same event.
    let again = f.record(vec![keyed(event("1", &ids[..1]), 1, 1), keyed(event("2", &ids), 2, 1)]).await;
    assert_eq!(again[0], Recorded { duplicate: true, ..first[0] });
    assert!(!again[1].duplicate);
    assert_eq!(f.claim(ids[0], 10).await.deliveries.len(), 2);
}

pub(crate) async fn a_key_is_forgotten_once_its_time_is_over(stores: Stores) {
    let f = stores.open_with(Limits { idempotency: 10 * SECOND, free_min: 0, ..Limits::default() });
    let (ids, _) = f.enroll(&["a"]).await;
    let first = f.record(vec![keyed(event("1", &ids), 1, 1)]).await[0];
    f.clock.forward(Duration::from_millis(9_999));
    assert!(f.record(vec![keyed(event("1", &ids), 1, 1)]).await[0].duplicate);
    f.clock.forward(Duration::from_millis(1));
    let anew = f.record(vec![keyed(event("1", &ids), 1, 2)]).await[0];
    assert!(!anew.duplicate && anew.id > first.id);
}

pub(crate) async fn one_conflicting_key_refuses_the_whole_array(stores: Stores) {
    let f = stores.open();
    let (ids, epoch) = f.enroll(&["a"]).await;
    let known = f.record(vec![keyed(event("1", &ids), 1, 1)]).await[0];
    let refused = f.outbox.record(vec![keyed(event("2", &ids), 2, 2), keyed(event("x", &ids), 1, 9)], epoch).await;
    assert!(matches!(refused, Err(RecordError::Conflict { index: 1, first }) if first == known.id), "{refused:?}");
    let refused = f.outbox.record(vec![keyed(event("3", &ids), 3, 3), keyed(event("x", &ids), 3, 9)], epoch).await;
    assert!(matches!(refused, Err(RecordError::Conflict { index: 1, .. })), "{refused:?}");
    assert_eq!(f.outbox.health().owed, 1);
    // Nothing of the refused arrays is remembered either.
    assert!(!f.record(vec![keyed(event("2", &ids), 2, 7), keyed(event("3", &ids), 3, 7)]).await[0].duplicate);
}

pub(crate) async fn a_delivery_beyond_the_backlog_is_dead_at_birth_and_can_be_asked_for(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll_bounded(&["a", "b"], 2).await;
    let recorded = f.record((0..3).map(|_| event("{}", &ids[..1])).collect()).await;
    assert!(recorded.iter().all(|r| r.deliveries == 1));
    let id = DeliveryId { event: recorded[2].id, subscription: ids[0] };
    let dead = f.outbox.delivery(id).await.unwrap().unwrap().row;
    assert_eq!((dead.state, dead.reason.as_deref(), dead.attempt_count), (State::Dead, Some("backlog"), 0));
    assert!(dead.settled_at.is_some() && dead.next_attempt_at.is_none());
    assert_eq!(f.claim(ids[0], 10).await.deliveries.len(), 2);
    assert_eq!(f.outbox.ask(id, Wish::Retry).await.unwrap(), Answer::Done);
    let leased = f.claim_one(ids[0]).await;
    assert_eq!((leased.delivery, leased.attempt), (id, 1));
    f.settle(&leased, Then::Delivered).await;
    assert_eq!(f.view(&leased).await.row.state, State::Delivered);
}

pub(crate) async fn a_claim_is_bounded_by_count_and_by_bytes_but_gives_at_least_one(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record((0..6).map(|_| event(&"x".repeat(100), &ids)).collect()).await;
    let want = |count, bytes| Want { count, fresh_min: 0, bytes, lease: 30 * SECOND };
    let two = f.outbox.claim(ids[0], want(2, usize::MAX)).await.unwrap();
    assert_eq!((two.deliveries.len(), two.next_due), (2, Some(Duration::ZERO)));
    let one = f.outbox.claim(ids[0], want(10, 1)).await.unwrap();
    assert_eq!((one.deliveries.len(), one.next_due), (1, Some(Duration::ZERO)));
    let by_bytes = f.outbox.claim(ids[0], want(10, 250)).await.unwrap();
    assert_eq!(by_bytes.deliveries.len(), 2);
    let none = f.outbox.claim(ids[0], want(0, 250)).await.unwrap();
    assert_eq!((none.deliveries.len(), none.next_due), (0, Some(Duration::ZERO)));
    let last = f.outbox.claim(ids[0], want(10, 250)).await.unwrap();
    assert_eq!((last.deliveries.len(), last.next_due), (1, None));
    let sequences: Vec<u64> = [two, one, by_bytes, last]
        .iter()
        .flat_map(|c| c.deliveries.iter().map(|l| l.delivery.event.sequence()))
        .collect();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
}

pub(crate) async fn a_leased_delivery_is_offered_to_nobody_until_its_lease_ends(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let first = f.claim_one(ids[0]).await;
    f.clock.forward(Duration::from_millis(29_999));
    assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
    f.clock.forward(Duration::from_millis(1));
    // Lost by time alone, even before somebody else has it.
    assert_eq!(f.settle(&first, Then::Delivered).await, Settled::LeaseLost);
    let second = f.claim_one(ids[0]).await;
    assert_eq!((second.delivery, second.attempt), (first.delivery, 1));
    assert_ne!(second.lease, first.lease);
    assert_eq!(f.settle(&first, Then::Dead("late".into())).await, Settled::LeaseLost);
    assert_eq!(f.settle(&second, Then::Delivered).await, Settled::Applied);
    assert_eq!(f.settle(&second, Then::Delivered).await, Settled::LeaseLost);
    assert_eq!(f.view(&second).await.attempts.len(), 1);
}

pub(crate) async fn a_lease_can_be_prolonged_until_it_is_lost(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let leased = f.claim_one(ids[0]).await;
    for _ in 0..3 {
        f.clock.forward(20 * SECOND);
        assert_eq!(f.outbox.renew(vec![leased.lease], 30 * SECOND).await.unwrap(), [true]);
    }
    assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
    f.clock.forward(30 * SECOND);
    assert_eq!(f.outbox.renew(vec![leased.lease, LeaseId(u64::MAX)], SECOND).await.unwrap(), [false, false]);
    f.claim_one(ids[0]).await;
}

pub(crate) async fn a_delivered_one_is_never_offered_again(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let leased = f.claim_one(ids[0]).await;
    assert_eq!(f.view(&leased).await.row.state, State::Pending);
    assert_eq!(f.settle(&leased, Then::Delivered).await, Settled::Applied);
    let view = f.view(&leased).await;
    assert_eq!((view.row.state, view.row.attempt_count, view.row.reason.clone()), (State::Delivered, 1, None));
    assert!(view.row.settled_at.is_some() && view.row.next_attempt_at.is_none());
    assert_eq!(view.attempts[0].outcome, AttemptOutcome::Delivered);
    f.clock.forward(100 * SECOND);
    let none = f.claim(ids[0], 10).await;
    assert_eq!((none.deliveries.len(), none.next_due), (0, None));
    assert_eq!(f.outbox.health().owed, 0);
}

pub(crate) async fn a_retry_is_due_when_it_was_said_to_be_and_comes_before_what_was_never_tried(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let first = f.claim_one(ids[0]).await;
    f.settle(&first, Then::RetryIn(Duration::from_micros(4_999_500))).await;
    let row = f.view(&first).await.row;
    assert_eq!((row.state, row.attempt_count, row.settled_at), (State::Pending, 1, None));
    assert_eq!(row.next_attempt_at, Some(Timestamp::from_millis(START + 5_000)));
    assert_eq!(f.claim(ids[0], 10).await.next_due, Some(5 * SECOND));
    f.clock.forward(Duration::from_millis(4_999));
    let early = f.claim(ids[0], 10).await;
    assert_eq!((early.deliveries.len(), early.next_due), (0, Some(Duration::from_millis(1))));
    f.record_one(&ids).await;
    f.clock.forward(Duration::from_millis(1));
    let both = f.claim(ids[0], 10).await.deliveries;
    assert_eq!(both.iter().map(|l| l.attempt).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((both[0].delivery, both[0].owed_for), (first.delivery, 5 * SECOND));
}

pub(crate) async fn a_dead_one_keeps_its_reason_and_attempts(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    for number in 1..=2 {
        let leased = f.claim_one(ids[0]).await;
        assert_eq!(leased.attempt, number);
        f.settle(&leased, Then::RetryIn(SECOND)).await;
        f.clock.forward(SECOND);
    }
    let leased = f.claim_one(ids[0]).await;
    f.settle(&leased, Then::Dead("gave up".into())).await;
    let view = f.view(&leased).await;
    assert_eq!((view.row.state, view.row.reason.as_deref()), (State::Dead, Some("gave up")));
    assert_eq!(view.attempts, [failed(1), failed(2), failed(3)]);
    assert_eq!(f.claim(ids[0], 10).await.next_due, None);
}

pub(crate) async fn a_released_one_is_as_if_it_had_never_been_given_out(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    f.record_one(&ids).await;
    let first = f.claim(ids[0], 1).await.deliveries.remove(0);
    assert_eq!(f.settle(&first, Then::Release).await, Settled::Applied);
    let again = f.claim(ids[0], 1).await.deliveries.remove(0);
    assert_eq!((again.delivery, again.attempt), (first.delivery, 1));
    // With an attempt (one that could not be made) it is due at once, and the attempt is kept.
    let settlement =
        Settlement { lease: again.lease, delivery: again.delivery, attempt: Some(failed(1)), then: Then::Release };
    assert_eq!(f.outbox.settle(vec![settlement]).await.unwrap(), [Settled::Applied]);
    let third = f.claim(ids[0], 1).await.deliveries.remove(0);
    assert_eq!((third.delivery, third.attempt), (first.delivery, 2));
}

pub(crate) async fn a_settlement_with_a_foreign_lease_changes_nothing(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    f.record_one(&ids).await;
    let two = f.claim(ids[0], 2).await.deliveries;
    let crossed = Leased { lease: two[1].lease, ..two[0].clone() };
    let unknown = Leased { lease: LeaseId(u64::MAX), ..two[0].clone() };
    assert_eq!(f.settle(&crossed, Then::Delivered).await, Settled::LeaseLost);
    assert_eq!(f.settle(&unknown, Then::Delivered).await, Settled::LeaseLost);
    assert_eq!(f.outbox.health().owed, 2);
    assert_eq!(f.settle(&two[1], Then::Delivered).await, Settled::Applied);
    assert_eq!(f.settle(&two[0], Then::Delivered).await, Settled::Applied);
}

pub(crate) async fn a_subscription_that_takes_nothing_holds_what_it_is_owed(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let leased = f.claim_one(ids[0]).await;
    f.settle(&leased, Then::RetryIn(SECOND)).await;
    for standing in [Standing::Paused, Standing::Disabled("410".into())] {
        let before = f.outbox.set_standing(ids[0], standing.clone()).await.unwrap();
        assert_eq!(before, Some(Standing::Active));
        f.clock.forward(10 * SECOND);
        f.record_one(&ids).await;
        let none = f.claim(ids[0], 10).await;
        assert_eq!((none.deliveries.len(), none.next_due), (0, None));
        let row = f.view(&leased).await.row;
        assert_eq!((row.state, row.next_attempt_at), (State::Held, None));
        assert_eq!(f.outbox.roll().await.unwrap().subscriptions[0].standing, standing);
        assert_eq!(f.outbox.set_standing(ids[0], Standing::Active).await.unwrap(), Some(standing));
    }
    assert_eq!(f.claim(ids[0], 10).await.deliveries.len(), 3);
    assert_eq!(f.outbox.set_standing(SubscriptionId(99), Standing::Paused).await.unwrap(), None);
}

pub(crate) async fn held_time_does_not_count_as_owed(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    f.clock.forward(3 * SECOND);
    f.outbox.set_standing(ids[0], Standing::Paused).await.unwrap();
    f.clock.forward(100 * SECOND);
    f.outbox.set_standing(ids[0], Standing::Active).await.unwrap();
    f.enroll(&[]).await;
    f.clock.forward(1_000 * SECOND);
    f.enroll(&["a"]).await;
    f.clock.forward(4 * SECOND);
    assert_eq!(f.claim_one(ids[0]).await.owed_for, 7 * SECOND);
}

pub(crate) async fn an_unlisted_subscription_is_held_for_its_grace_and_goes_on_when_listed_again(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let recorded = f.record_one(&ids[..1]).await;
    f.enroll(&[]).await;
    let roll = f.outbox.roll().await.unwrap();
    let shown: Vec<_> = roll.subscriptions.iter().map(|s| (s.name.as_str(), s.listed, s.owed)).collect();
    assert_eq!(shown, [("a", false, 1)]);
    f.clock.forward(6 * DAY);
    assert_eq!(f.outbox.sweep(SECOND).await.unwrap().cancelled, 0);
    assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
    let id = DeliveryId { event: recorded.id, subscription: ids[0] };
    assert_eq!(f.outbox.delivery(id).await.unwrap().unwrap().row.state, State::Held);
    let (again, _) = f.enroll(&["a"]).await;
    assert_eq!(again[0], ids[0]);
    f.clock.forward(6 * DAY);
    f.outbox.sweep(SECOND).await.unwrap();
    assert_eq!(f.claim_one(ids[0]).await.delivery, id);
}

pub(crate) async fn what_is_owed_past_the_grace_is_cancelled(stores: Stores) {
    let f = stores.open_with(Limits { retention: 100 * DAY, free_min: 0, ..Limits::default() });
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let recorded = f.record((0..5).map(|_| event("{}", &ids)).collect()).await;
    f.enroll(&["b"]).await;
    f.clock.forward(7 * DAY);
    let mut cancelled = 0;
    loop {
        let swept = f.outbox.sweep(SECOND).await.unwrap();
        cancelled += swept.cancelled;
        if !swept.more {
            break;
        }
    }
    assert_eq!((cancelled, f.outbox.health().owed), (5, 5));
    let id = DeliveryId { event: recorded[0].id, subscription: ids[0] };
    let row = f.outbox.delivery(id).await.unwrap().unwrap().row;
    assert_eq!((row.state, row.subscription.as_str()), (State::Cancelled, "a"));
    assert!(row.settled_at.is_some());
    assert_eq!(f.claim(ids[1], 10).await.deliveries.len(), 5);
    assert_eq!(f.outbox.roll().await.unwrap().subscriptions.len(), 1);
}

pub(crate) async fn whoever_asked_is_told_what_became_due(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let told = Arc::new(Mutex::new(HashSet::new()));
    let heard = Arc::clone(&told);
    f.outbox.on_due(Box::new(move |due| heard.lock().unwrap().extend(due.iter().copied())));
    let take = || std::mem::take(&mut *told.lock().unwrap());
    let recorded = f.record_one(&ids[..1]).await;
    assert_eq!(take(), HashSet::from([ids[0]]));
    let leased = f.claim_one(ids[0]).await;
    f.settle(&leased, Then::Dead("x".into())).await;
    take();
    let id = DeliveryId { event: recorded.id, subscription: ids[0] };
    f.outbox.ask(id, Wish::Retry).await.unwrap();
    assert_eq!(take(), HashSet::from([ids[0]]));
    f.outbox.set_standing(ids[0], Standing::Paused).await.unwrap();
    take();
    f.outbox.set_standing(ids[0], Standing::Active).await.unwrap();
    assert_eq!(take(), HashSet::from([ids[0]]));
}

pub(crate) async fn whoever_asked_is_told_what_was_dead_at_birth(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll_bounded(&["a", "b"], 1).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    f.outbox.on_refused(Box::new(move |refused| heard.lock().unwrap().extend_from_slice(refused)));
    f.record_one(&ids[..1]).await;
    assert_eq!(*told.lock().unwrap(), [], "there was room");
    let second = f.record_one(&ids).await;
    let delivery = DeliveryId { event: second.id, subscription: ids[0] };
    assert_eq!(*told.lock().unwrap(), [Refused { delivery, origin: Origin::Record }]);
}

pub(crate) async fn health_counts_what_is_owed_and_leased(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    f.record_one(&ids).await;
    f.record_one(&ids).await;
    f.claim(ids[0], 1).await;
    let health = f.outbox.health();
    assert_eq!((health.owed, health.leased, health.recorded_total, health.refusing), (4, 1, 2, None));
    assert_eq!((health.failures_total, health.damaged_total), (0, 0));
}

pub(crate) async fn settled_events_go_after_their_retention_and_owed_ones_stay(stores: Stores) {
    let f = stores.open_with(Limits {
        retention: DAY,
        free_min: 0,
        generation: GenerationLimits { events_max: 4, ..GenerationLimits::default() },
        ..Limits::default()
    });
    let (ids, _) = f.enroll(&["a"]).await;
    let recorded = f.record((0..20).map(|n| event(&n.to_string(), &ids)).collect()).await;
    let leased = f.claim(ids[0], 20).await.deliveries;
    for (n, leased) in leased.iter().enumerate() {
        let then = if n % 7 == 3 { Then::RetryIn(2 * DAY) } else { Then::Delivered };
        f.settle(leased, then).await;
    }
    for _ in 0..20 {
        f.clock.forward(DAY / 8);
        for _ in 0..100 {
            if !f.outbox.sweep(SECOND).await.unwrap().more {
                break;
            }
        }
        f.record_one(&[]).await;
    }
    for (n, recorded) in recorded.iter().enumerate() {
        let shown = f.outbox.event(recorded.id).await.unwrap();
        assert_eq!(shown.is_some(), n % 7 == 3, "{n}");
        if let Some(shown) = shown {
            assert_eq!(shown.event.payloads.notification().unwrap(), &n.to_string());
            assert_eq!(shown.deliveries[0].attempts, [failed(1)]);
        }
    }
    let owed: Vec<EventId> = recorded.iter().skip(3).step_by(7).rev().map(|r| r.id).collect();
    let listed = pages_of_events(&f, EventQuery { limit: 3, ..all_events() }).await;
    assert_eq!(&listed[listed.len() - 3..], owed);
    let due = f.claim(ids[0], 20).await.deliveries;
    assert_eq!(
        due.iter().map(|l| (l.delivery.event, l.attempt)).rev().collect::<Vec<_>>(),
        owed.iter().map(|id| (*id, 2)).collect::<Vec<_>>()
    );
}

pub(crate) async fn a_leap_of_the_wall_clock_moves_nothing_that_is_due(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let leased = f.claim_one(ids[0]).await;
    f.settle(&leased, Then::RetryIn(10 * SECOND)).await;
    for leap in [-86_400_000, 3_600_000, 86_400_000 * 3] {
        f.clock.leap(leap);
        assert_eq!(f.claim(ids[0], 10).await.next_due, Some(10 * SECOND));
        f.outbox.sweep(SECOND).await.unwrap();
    }
    let shown = f.view(&leased).await.row.next_attempt_at.unwrap();
    assert_eq!(shown.millis() - START, 10_000 + 3_600_000 + 86_400_000 * 2, "shown by the wall clock of now");
    f.clock.forward(10 * SECOND);
    assert_eq!(f.claim_one(ids[0]).await.owed_for, 10 * SECOND);
}

pub(crate) async fn claims_from_many_threads_never_share_a_delivery(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record((0..400).map(|_| event("{}", &ids)).collect()).await;
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (outbox, id) = (Arc::clone(&f.outbox), ids[0]);
            std::thread::spawn(move || {
                let mut given = Vec::new();
                run(async {
                    for _ in 0..30 {
                        let want = Want { count: 5, fresh_min: 0, bytes: usize::MAX, lease: 30 * SECOND };
                        let claimed = outbox.claim(id, want).await.unwrap();
                        given.extend(claimed.deliveries.iter().map(|l| (l.delivery, l.lease)));
                    }
                });
                given
            })
        })
        .collect();
    let given: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert_eq!(given.len(), 400);
    assert_eq!(given.iter().map(|(delivery, _)| *delivery).collect::<HashSet<_>>().len(), 400);
    assert_eq!(given.iter().map(|(_, lease)| *lease).collect::<HashSet<_>>().len(), 400);
}

pub(crate) async fn a_closed_store_says_so(stores: Stores) {
    let f = stores.open();
    let (ids, epoch) = f.enroll(&["a"]).await;
    f.outbox.close().await.unwrap();
    let refused = f.outbox.record(vec![event("{}", &ids)], epoch).await;
    assert!(matches!(refused, Err(RecordError::Store(StoreError::Closed))), "{refused:?}");
    let want = Want { count: 1, fresh_min: 0, bytes: 1, lease: SECOND };
    assert!(matches!(f.outbox.claim(ids[0], want).await, Err(StoreError::Closed)));
    assert!(matches!(f.outbox.events(all_events()).await, Err(StoreError::Closed)));
    assert!(matches!(f.outbox.sweep(SECOND).await, Err(StoreError::Closed)));
}
