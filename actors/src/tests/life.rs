//! Start and stop.

use super::House;
use super::house::{Counted, delivered, healthy, settings, subscription};
use crate::messages::{Record, Stop};
use crate::{Config, start};
use posthaste_events::Installation;
use posthaste_events::builtin::News;
use posthaste_events::seams::Clock;
use posthaste_events::{Draft, EventType, Timestamp};
use posthaste_outbox::{Limits, MemoryOutbox, RecordError, StoreError};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[actix::test]
async fn a_stop_lets_what_is_in_flight_finish_and_returns_the_rest() {
    let slow = subscription("slow", |delivery| async move {
        let seconds = if delivery.facts().event_type.as_str() == "shop:quick" { 2 } else { 14 };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        delivered()
    });
    let mut house = House::with(vec![slow]).await;
    house.record("shop:quick", 3).await;
    house.record("shop:slow", 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    let outbox = Arc::clone(&house.outbox);
    house.engine.registry.send(Stop { grace: Duration::from_secs(5) }).await.unwrap().unwrap();
    assert!(began.elapsed() <= Duration::from_millis(5_100), "{:?}", began.elapsed());
    house.finished.notified().await;
    assert_eq!(house.attempts(3).await.len(), 3);
    assert!(house.watched.try_recv().is_err(), "what did not finish has no attempt");
    assert_eq!((outbox.health().owed, outbox.health().leased), (2, 0));
    assert!(matches!(outbox.roll().await, Err(StoreError::Closed)));
}

#[actix::test]
async fn nothing_is_recorded_once_it_stops() {
    let house = House::with(vec![healthy("a")]).await;
    let snapshot = house.engine.snapshot.current();
    let event = snapshot.prepare(Draft::new(EventType::parse("a").unwrap()), Timestamp::from_millis(0)).unwrap();
    house.engine.registry.send(Stop { grace: Duration::ZERO }).await.unwrap().unwrap();
    let answer = house.engine.registry.send(Record { event, epoch: snapshot.epoch }).await.unwrap();
    assert!(matches!(answer, Err(RecordError::Full { .. })), "{answer:?}");
}

/// The machine's clock: this test runs on real threads.
struct MachineClock(Instant);

impl Clock for MachineClock {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + self.0.elapsed().as_micros() as i64)
    }
}

#[tokio::test]
async fn an_engine_runs_on_threads_of_its_own_and_is_reached_from_any_runtime() {
    let (tell, told) = mpsc::channel();
    let receive = move |delivery: posthaste_events::Delivery<posthaste_events::Notification>| {
        tell.send(delivery.facts().event_type.to_string()).unwrap();
        async { delivered() }
    };
    let clock = Arc::new(MachineClock(Instant::now()));
    let outbox = Arc::new(MemoryOutbox::new(clock.clone(), Arc::new(Counted::default()), Limits::default()));
    let mut subscription = subscription("a", receive);
    subscription.selectors = super::house::to(healthy("x"), "posthaste:**").selectors;
    let config = Config {
        settings: settings(vec![subscription]),
        outbox,
        clock,
        random: Arc::new(Counted::default()),
        installation: Installation::new(&[7; 32]),
    };
    let engine = start(config).await.unwrap();
    engine.announce(News::Started { version: "0".into() }).await;
    assert_eq!(told.recv_timeout(Duration::from_secs(30)).unwrap(), "posthaste:daemon:started");
    engine.registry.send(Stop { grace: Duration::from_secs(5) }).await.unwrap().unwrap();
    engine.stopped().await;
    assert!(!engine.registry.connected());
}
