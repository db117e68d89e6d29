//! The promises about cancelling everything that a subscription is owed, and about payloads of either kind.

use crate::fixture::*;
use posthaste_events::{DeliveryId, Payloads, State};
use posthaste_outbox::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// No store cancels more at once.
const PIECE_MAX: u64 = 1_000;

pub(crate) async fn everything_that_a_subscription_is_owed_can_be_cancelled_and_nothing_of_another(stores: Stores) {
    for standing in [Standing::Active, Standing::Paused] {
        let f = stores.open();
        let (ids, _) = f.enroll(&["a", "b"]).await;
        let (first, second) = (f.record_one(&ids).await, f.record_one(&ids).await);
        let retried = f.claim(ids[0], 1).await.deliveries.remove(0);
        f.settle(&retried, Then::RetryIn(1_000 * SECOND)).await;
        let arrived = f.claim(ids[0], 1).await.deliveries.remove(0);
        f.settle(&arrived, Then::Delivered).await;
        f.record_one(&ids).await;
        f.outbox.set_standing(ids[0], standing).await.unwrap();
        let cancelled = f.outbox.cancel_owed(ids[0], "switched off".into()).await.unwrap();
        assert_eq!(cancelled, Cancelled { count: 2, more: false });
        assert_eq!(f.outbox.cancel_owed(ids[0], "again".into()).await.unwrap(), Cancelled::default());
        assert_eq!(f.outbox.health().owed, 3, "what others are owed stays");
        let row = f.view(&retried).await.row;
        assert_eq!((retried.delivery.event, row.attempt_count), (first.id, 1));
        assert_eq!((row.state, row.reason.as_deref()), (State::Cancelled, Some("switched off")));
        let arrived = f.view(&arrived).await.row;
        assert_eq!((arrived.id.event, arrived.state), (second.id, State::Delivered), "what is settled stays so");
        f.outbox.set_standing(ids[0], Standing::Active).await.unwrap();
        f.clock.forward(2_000 * SECOND);
        assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
        let later = f.record_one(&ids).await;
        assert_eq!(f.claim_one(ids[0]).await.delivery.event, later.id, "what comes later is owed as ever");
    }
}

pub(crate) async fn more_than_a_piece_of_what_is_owed_is_cancelled_piece_by_piece(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let count = if stores == Stores::Small { 1_050 } else { 2_500 };
    let recorded = f.record((0..count).map(|_| event("{}", &ids)).collect()).await;
    let mut all = 0;
    for _ in 0..10 {
        let piece = f.outbox.cancel_owed(ids[0], "off".into()).await.unwrap();
        assert!(piece.count <= PIECE_MAX, "{piece:?}");
        all += piece.count;
        assert_eq!(piece.more, all < count, "{piece:?}");
        assert_eq!(f.outbox.health().owed, count - all);
        if !piece.more {
            break;
        }
    }
    assert_eq!(all, count);
    let last = DeliveryId { event: recorded[count as usize - 1].id, subscription: ids[0] };
    assert_eq!(f.outbox.delivery(last).await.unwrap().unwrap().row.state, State::Cancelled);
}

pub(crate) async fn a_lease_on_what_was_cancelled_with_all_goes_on_and_an_arrival_wins(stores: Stores) {
    for (then, state) in [(Then::Delivered, State::Delivered), (Then::RetryIn(SECOND), State::Cancelled)] {
        let f = stores.open();
        let (ids, _) = f.enroll(&["a"]).await;
        f.record_one(&ids).await;
        let leased = f.claim_one(ids[0]).await;
        let cancelled = f.outbox.cancel_owed(ids[0], "off".into()).await.unwrap();
        assert_eq!(cancelled, Cancelled { count: 1, more: false });
        assert_eq!(f.view(&leased).await.row.state, State::Cancelled);
        f.settle(&leased, then).await;
        assert_eq!(f.view(&leased).await.row.state, state);
        f.clock.forward(100 * SECOND);
        assert!(f.claim(ids[0], 10).await.deliveries.is_empty());
    }
}

pub(crate) async fn an_event_with_either_payload_or_none_comes_back_as_it_was(stores: Stores) {
    let f = stores.open();
    let (ids, _) = f.enroll(&["a"]).await;
    let body = |n: usize| Some(bytes::Bytes::from("x".repeat(n)));
    for (told, measured) in [(body(40), body(9)), (None, body(20_000)), (body(20_000), None), (None, None)] {
        let mut event = event("", &ids);
        event.payloads = Payloads::restored(told, measured);
        let recorded = f.record(vec![event.clone()]).await[0];
        let leased = f.claim_one(ids[0]).await;
        assert_eq!(leased.payloads, event.payloads);
        f.settle(&leased, Then::Delivered).await;
        let shown = f.outbox.event(recorded.id).await.unwrap().unwrap();
        assert_eq!(shown.event.payloads, event.payloads);
    }
    // Both payloads count where a claim is bounded by bytes.
    let mut event = event(&"x".repeat(600), &ids);
    event.payloads = Payloads::restored(event.payloads.notification().cloned(), body(600));
    f.record(vec![event.clone(), event]).await;
    let want = Want { count: 10, fresh_min: 0, bytes: 2_000, lease: SECOND };
    assert_eq!(f.outbox.claim(ids[0], want).await.unwrap().deliveries.len(), 1);
}
