//! The promises about what a person asks for.

use crate::fixture::*;
use posthaste_events::{DeliveryId, EventId, State};
use posthaste_outbox::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) async fn a_person_can_have_a_dead_one_tried_again(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let leased = f.claim_one(ids[0]).await;
    f.settle(&leased, Then::Dead("no".into())).await;
    f.clock.forward(4 * DAY);
    assert_eq!(f.outbox.ask(leased.delivery, Wish::Retry).await.unwrap(), Answer::Done);
    let row = f.view(&leased).await.row;
    assert_eq!((row.state, row.reason, row.settled_at, row.attempt_count), (State::Pending, None, None, 1));
    f.clock.forward(SECOND);
    // It is owed anew since it was asked for: else the first failure would give it up.
    let again = f.claim_one(ids[0]).await;
    assert_eq!((again.delivery, again.attempt, again.owed_for), (leased.delivery, 2, SECOND));
    f.settle(&again, Then::RetryIn(100 * SECOND)).await;
    assert_eq!(f.outbox.ask(leased.delivery, Wish::Retry).await.unwrap(), Answer::Done);
    assert_eq!(f.claim_one(ids[0]).await.attempt, 3);
    assert_eq!(f.view(&leased).await.attempts.len(), 2);
}

pub(crate) async fn a_person_can_cancel_what_is_owed_even_while_it_is_tried(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let fresh = DeliveryId { event: f.record_one(&ids).await.id, subscription: ids[0] };
    assert_eq!(f.outbox.ask(fresh, Wish::Cancel).await.unwrap(), Answer::Done);
    assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
    f.record_one(&ids).await;
    let leased = f.claim_one(ids[0]).await;
    assert_eq!(f.outbox.ask(leased.delivery, Wish::Retry).await.unwrap(), Answer::Done);
    assert_eq!(f.outbox.ask(leased.delivery, Wish::Cancel).await.unwrap(), Answer::Done);
    assert_eq!(f.view(&leased).await.row.state, State::Cancelled);
    assert_eq!(f.outbox.health().owed, 0);
    assert_eq!(f.outbox.ask(leased.delivery, Wish::Cancel).await.unwrap(), Answer::NotNow(State::Cancelled));
    assert_eq!(f.outbox.ask(fresh, Wish::Retry).await.unwrap(), Answer::Done);
    assert_eq!(f.claim_one(ids[0]).await.delivery, fresh);
}

pub(crate) async fn what_comes_of_the_attempt_at_a_cancelled_one_is_kept_and_an_arrival_wins(stores: Stores) {
    let thens = [
        (Then::Delivered, State::Delivered, 1),
        (Then::RetryIn(SECOND), State::Cancelled, 1),
        (Then::Dead("no".into()), State::Cancelled, 1),
        (Then::Release, State::Cancelled, 0),
    ];
    for (then, state, attempts) in thens {
        let f = stores.open();
        let (ids, _) = f.enroll(&["a"]).await;
        f.record_one(&ids).await;
        let leased = f.claim_one(ids[0]).await;
        assert_eq!(f.outbox.ask(leased.delivery, Wish::Cancel).await.unwrap(), Answer::Done);
        f.clock.forward(20 * SECOND);
        assert_eq!(f.outbox.renew(vec![leased.lease], 30 * SECOND).await.unwrap(), [true], "it goes on");
        f.clock.forward(20 * SECOND);
        let did = match then {
            Then::Delivered | Then::Release => Settled::Applied,
            Then::RetryIn(_) | Then::Dead(_) => Settled::Kept(State::Cancelled),
        };
        assert_eq!(f.settle(&leased, then.clone()).await, did);
        let view = f.view(&leased).await;
        assert_eq!((view.row.state, view.row.attempt_count), (state, attempts), "{then:?}");
        assert_eq!(view.attempts.len(), attempts as usize);
        assert_eq!(f.settle(&leased, then).await, Settled::LeaseLost);
        f.clock.forward(DAY);
        assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
        let health = f.outbox.health();
        assert_eq!((health.owed, health.leased), (0, 0));
    }
}

pub(crate) async fn a_cancelled_one_stays_so_when_its_lease_runs_out(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let leased = f.claim_one(ids[0]).await;
    assert_eq!(f.outbox.ask(leased.delivery, Wish::Cancel).await.unwrap(), Answer::Done);
    f.clock.forward(30 * SECOND);
    assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
    assert_eq!(f.settle(&leased, Then::Delivered).await, Settled::LeaseLost);
    assert_eq!(f.view(&leased).await.row.state, State::Cancelled);
    let health = f.outbox.health();
    assert_eq!((health.owed, health.leased), (0, 0));
}

pub(crate) async fn a_wish_gives_no_second_lease_while_the_first_is_held(stores: Stores) {
    for wishes in [&[Wish::Retry][..], &[Wish::Cancel, Wish::Retry]] {
        for then in [Some(Then::RetryIn(DAY)), Some(Then::Dead("no".into())), Some(Then::Release), None] {
            let f = stores.open();
            let (ids, _) = f.enroll(&["a"]).await;
            f.record_one(&ids).await;
            let leased = f.claim_one(ids[0]).await;
            for wish in wishes {
                assert_eq!(f.outbox.ask(leased.delivery, *wish).await.unwrap(), Answer::Done);
            }
            f.clock.forward(29 * SECOND);
            assert!(f.claim(ids[0], 10).await.deliveries.is_empty(), "{wishes:?}");
            assert_eq!(f.outbox.health().owed, 1);
            let tried = matches!(then, Some(Then::RetryIn(_) | Then::Dead(_)));
            match &then {
                Some(then @ Then::Dead(_)) => {
                    assert_eq!(f.settle(&leased, then.clone()).await, Settled::Kept(State::Pending));
                }
                Some(then) => assert_eq!(f.settle(&leased, then.clone()).await, Settled::Applied),
                None => f.clock.forward(SECOND),
            }
            let again = f.claim_one(ids[0]).await;
            assert_eq!(again.delivery, leased.delivery);
            assert_eq!(again.attempt, 1 + u32::from(tried), "{wishes:?} {then:?}");
            assert_ne!(again.lease, leased.lease);
            assert_eq!(f.settle(&again, Then::RetryIn(DAY)).await, Settled::Applied);
            assert!(f.claim(ids[0], 10).await.deliveries.is_empty(), "a wish is granted once");
        }
    }
}

pub(crate) async fn what_arrived_is_not_tried_again_though_a_person_asked_for_it_meanwhile(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    f.record_one(&ids).await;
    let leased = f.claim_one(ids[0]).await;
    for wish in [Wish::Retry, Wish::Cancel, Wish::Retry] {
        assert_eq!(f.outbox.ask(leased.delivery, wish).await.unwrap(), Answer::Done);
    }
    assert_eq!(f.settle(&leased, Then::Delivered).await, Settled::Applied);
    assert_eq!(f.view(&leased).await.row.state, State::Delivered);
    assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
}

pub(crate) async fn wishes_for_what_is_not_there_or_not_possible_say_so(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a", "b"]).await;
    let recorded = f.record_one(&ids[..1]).await;
    let leased = f.claim_one(ids[0]).await;
    f.settle(&leased, Then::Delivered).await;
    let retry = f.outbox.ask(leased.delivery, Wish::Retry).await.unwrap();
    assert_eq!(retry, Answer::NotNow(State::Delivered));
    let cancel = f.outbox.ask(leased.delivery, Wish::Cancel).await.unwrap();
    assert_eq!(cancel, Answer::NotNow(State::Delivered));
    let not_owed = DeliveryId { event: recorded.id, subscription: ids[1] };
    assert_eq!(f.outbox.ask(not_owed, Wish::Retry).await.unwrap(), Answer::Unknown);
    let forged = EventId::new(recorded.id.millis(), recorded.id.sequence(), 12_345);
    let forged = DeliveryId { event: forged, subscription: ids[0] };
    assert_eq!(f.outbox.ask(forged, Wish::Cancel).await.unwrap(), Answer::Unknown);
}
