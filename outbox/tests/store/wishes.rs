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
    assert_eq!(f.settle(&leased, Then::Delivered).await, Settled::LeaseLost);
    assert_eq!(f.view(&leased).await.row.state, State::Cancelled);
    assert_eq!(f.outbox.health().owed, 0);
    assert_eq!(f.outbox.ask(fresh, Wish::Retry).await.unwrap(), Answer::Done);
    assert_eq!(f.claim_one(ids[0]).await.delivery, fresh);
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
