//! What people want of a delivery while an attempt of it is in flight.

use super::House;
use super::house::{failed, subscription};
use crate::messages::{Cancel, InspectDelivery, InspectHealth, Retry};
use crate::settings::Subscription;
use posthaste_events::outcome::Detail;
use posthaste_events::{DeliveryId, Outcome, State};
use posthaste_outbox::Answer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long each attempt takes.
const TAKES: Duration = Duration::from_secs(10);

/// A house whose receiver takes its time and answers `outcome`; how many attempts began; the delivery in flight.
async fn in_flight(outcome: fn() -> Outcome) -> (House, Arc<AtomicU32>, DeliveryId) {
    let begun = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&begun);
    let receive = move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(TAKES).await;
            outcome()
        }
    };
    let house = House::with(vec![subscription("a", receive)]).await;
    let event = house.record("shop:paid", 1).await[0];
    let delivery = DeliveryId { event, subscription: house.id("a").await };
    tokio::time::sleep(TAKES / 2).await;
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    (house, begun, delivery)
}

#[actix::test]
async fn an_attempt_in_flight_at_a_cancel_is_told_and_kept_and_the_delivery_stays_cancelled() {
    let (mut house, begun, delivery) = in_flight(|| Outcome::Rejected(Detail::error("status: 400"))).await;
    assert_eq!(house.engine.registry.send(Cancel(delivery)).await.unwrap().unwrap(), Answer::Done);
    let told = house.attempts(1).await;
    assert_eq!((told[0].attempt.number, told[0].state), (1, State::Cancelled));
    let view = house.engine.registry.send(InspectDelivery(delivery)).await.unwrap().unwrap().unwrap();
    assert_eq!((view.row.state, view.attempts.len()), (State::Cancelled, 1));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    let health = house.engine.registry.send(InspectHealth).await.unwrap();
    assert_eq!(health.dead, [("a".to_owned(), 0)], "it did not die, a person ended it");
}

#[actix::test]
async fn what_is_cancelled_while_it_waits_behind_a_call_is_never_tried() {
    let receive = |_| async {
        tokio::time::sleep(TAKES).await;
        failed(500)
    };
    let one_by_one = Subscription { concurrency: 1, ..subscription("a", receive) };
    let mut house = House::with(vec![one_by_one]).await;
    let events = house.record("shop:paid", 3).await;
    tokio::time::sleep(TAKES / 2).await;
    // The first is under way, and the others were given out with it.
    let waiting = DeliveryId { event: events[1], subscription: house.id("a").await };
    assert_eq!(house.engine.registry.send(Cancel(waiting)).await.unwrap().unwrap(), Answer::Done);
    let told = house.attempts(4).await;
    assert!(told.iter().any(|t| t.event == events[2]), "those behind it go on");
    assert!(told.iter().all(|t| t.event != events[1]), "{told:?}");
    assert_eq!(house.state(events[1], "a").await, State::Cancelled);
}

#[actix::test]
async fn a_cancel_and_a_retry_of_what_is_in_flight_begin_no_second_attempt_beside_it() {
    let (mut house, begun, delivery) = in_flight(|| failed(500)).await;
    assert_eq!(house.engine.registry.send(Cancel(delivery)).await.unwrap().unwrap(), Answer::Done);
    assert_eq!(house.engine.registry.send(Retry(delivery)).await.unwrap().unwrap(), Answer::Done);
    tokio::time::sleep(TAKES / 4).await;
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    let told = house.attempts(2).await;
    assert_eq!((told[0].attempt.number, told[1].attempt.number), (1, 2));
    let apart = told[1].attempt.at.millis() - told[0].attempt.at.millis();
    assert!((10_000..10_010).contains(&apart), "at once when the first had ended: {apart} ms");
}
