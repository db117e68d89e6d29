//! An event's way through all rooms: recorded, delivered, retried, dead, told.

use super::House;
use super::house::{delivered, failed, healthy, pause, resume, settings, subscription, to};
use crate::messages::{InspectEvents, InspectHealth, RecordBatch, Reload, Retry};
use crate::settings::{Settings, Subscription};
use posthaste_events::outcome::Detail;
use posthaste_events::seams::Clock as _;
use posthaste_events::{
    AnyDeliveree, Batch, BoxFuture, Deliveree, Delivery, DeliveryId, Draft, EventType, Notification, Outcome,
    Payload as _, Reporter, RetryPolicy, Signal, State,
};
use posthaste_outbox::{Answer, EventQuery, Standing};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

impl House {
    async fn types(&self) -> Vec<String> {
        let query = EventQuery {
            event_type: None,
            tenant: None,
            since: None,
            until: None,
            after: None,
            limit: 100,
            work_max: 1_000,
        };
        let page = self.engine.registry.send(InspectEvents(query)).await.unwrap().unwrap();
        page.rows.iter().map(|row| row.facts.event_type.to_string()).collect()
    }
}

#[actix::test]
async fn an_event_is_delivered_to_everyone_who_asked_and_to_nobody_else() {
    let mut house = House::with(vec![healthy("a"), healthy("b"), to(healthy("c"), "other:**")]).await;
    let event = house.record("shop:paid", 1).await[0];
    let attempts = house.attempts(2).await;
    assert!(attempts.iter().all(|a| a.event == event && a.attempt.number == 1 && a.state == State::Delivered));
    assert_eq!(house.state(event, "a").await, State::Delivered);
    assert_eq!(house.state(event, "b").await, State::Delivered);
    assert_eq!(house.subscription("c").await.backlog, 0);
}

#[actix::test]
async fn a_failure_is_tried_again_when_its_time_comes_and_not_before() {
    let tries = Arc::new(AtomicU32::new(0));
    let receive = move |_| {
        let n = tries.fetch_add(1, Ordering::Relaxed);
        async move { if n < 2 { failed(500) } else { delivered() } }
    };
    let mut house = House::with(vec![subscription("a", receive)]).await;
    house.record("shop:paid", 1).await;
    let at: Vec<_> = house.attempts(3).await.iter().map(|a| a.attempt.at.millis()).collect();
    // 5 and 10 seconds; the outbox counts whole milliseconds.
    assert!((5_000..5_010).contains(&(at[1] - at[0])) && (10_000..10_010).contains(&(at[2] - at[1])), "{at:?}");
}

#[actix::test]
async fn deaths_of_a_second_make_one_piece_of_news_and_those_of_our_own_events_none() {
    let dies = subscription("dies", |_| async { Outcome::Rejected(Detail::error("status: 400")) });
    let ours = to(subscription("ours", |_| async { Outcome::Rejected(Detail::default()) }), "posthaste:**");
    let mut house = House::with(vec![dies, ours]).await;
    house.record("shop:paid", 3).await;
    // Three of `dies`, and one of `ours`, which is told of them.
    let attempts = house.attempts(4).await;
    assert_eq!(attempts.iter().filter(|a| a.subscription == "dies").count(), 3);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let dead: Vec<_> = house.types().await.into_iter().filter(|t| t == "posthaste:delivery:dead").collect();
    assert_eq!(dead.len(), 1);
}

#[actix::test]
async fn deliveries_that_are_dead_at_birth_are_counted_and_told_as_one() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let receive = move |delivery: Delivery<Notification>| {
        heard.lock().unwrap().push(String::from_utf8(delivery.payload.bytes().to_vec()).unwrap());
        async { delivered() }
    };
    let all = || vec![to(healthy("a"), "shop:**"), to(subscription("ours", receive.clone()), "posthaste:**")];
    let mut house = House::with(all()).await;
    house.engine.registry.send(Reload(Settings { backlog_max: 2, ..settings(all()) })).await.unwrap().unwrap();
    house.engine.registry.send(pause("a")).await.unwrap().unwrap();
    let events = house.record("shop:paid", 5).await;
    assert_eq!(house.state(events[4], "a").await, State::Dead);
    assert_eq!(house.attempts(1).await[0].event_type.as_str(), "posthaste:delivery:dead");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(r#""reason":"backlog""#) && told[0].contains(r#""count":3"#), "{told:?}");
    let health = house.engine.registry.send(InspectHealth).await.unwrap();
    assert!(health.dead.contains(&("a".into(), 3)), "{:?}", health.dead);
}

/// Answers 410 to everything: the signal and the outcome.
struct Gone;

impl Deliveree<Notification> for Gone {
    fn deliver(&self, batch: Batch<Notification>, report: Reporter) -> BoxFuture<()> {
        Box::pin(async move {
            for delivery in batch.deliveries {
                report.signal(Signal::Disable("status: 410".into()));
                report.outcome(delivery.ticket, failed(410));
            }
        })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[actix::test]
async fn a_receiver_that_is_gone_disables_its_subscription_and_a_resume_ends_that() {
    let mut gone = healthy("gone");
    gone.make = Arc::new(|| AnyDeliveree::Notification(Arc::new(Gone)));
    gone.retry = RetryPolicy { attempts: Some(1), ..RetryPolicy::default() };
    let mut house = House::with(vec![gone, to(healthy("ours"), "posthaste:**")]).await;
    let event = house.record("shop:paid", 1).await[0];
    let told = house.attempts(2).await;
    assert_eq!(told[1].event_type.as_str(), "posthaste:subscription:disabled");
    assert_eq!(house.state(event, "gone").await, State::Held, "it is kept although it had one attempt only");
    assert_eq!(house.subscription("gone").await.standing, Standing::Disabled("status: 410".into()));
    let view = house.engine.registry.send(resume("gone")).await.unwrap().unwrap().unwrap();
    assert_eq!(view.standing, Standing::Active);
    let told = house.attempts(1).await;
    assert_eq!(told[0].event_type.as_str(), "posthaste:subscription:recovered");
}

/// Answers the first with 410 at once, the second with 410 and the others with 500 a second later.
#[derive(Default)]
struct GoneByAndBy(AtomicU32);

impl Deliveree<Notification> for GoneByAndBy {
    fn deliver(&self, batch: Batch<Notification>, report: Reporter) -> BoxFuture<()> {
        let first = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            for (n, delivery) in (first..).zip(batch.deliveries) {
                if n > 0 {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                if n < 2 {
                    report.signal(Signal::Disable("status: 410".into()));
                }
                report.outcome(delivery.ticket, failed(if n < 2 { 410 } else { 500 }));
            }
        })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(5)
    }
}

#[actix::test]
async fn what_is_under_way_when_a_receiver_is_gone_is_held_as_well_and_the_end_is_told_once() {
    let receiver = Arc::new(GoneByAndBy::default());
    let mut gone = healthy("gone");
    gone.make = Arc::new(move || AnyDeliveree::Notification(Arc::clone(&receiver) as _));
    gone.retry = RetryPolicy { attempts: Some(1), ..RetryPolicy::default() };
    let mut house = House::with(vec![to(gone, "shop:**"), to(healthy("ours"), "posthaste:**")]).await;
    let events = house.record("shop:paid", 4).await;
    // Four that failed, and the news.
    house.attempts(5).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for event in events {
        assert_eq!(
            house.state(event, "gone").await,
            State::Held,
            "no attempt of a subscription that is disabled is its last"
        );
    }
    assert_eq!(house.types().await.iter().filter(|t| *t == "posthaste:subscription:disabled").count(), 1);
    assert!(!house.types().await.iter().any(|t| t == "posthaste:delivery:dead"));
}

#[actix::test]
async fn a_pause_of_a_disabled_subscription_leaves_it_disabled_and_its_resume_is_told() {
    let mut gone = healthy("gone");
    gone.make = Arc::new(|| AnyDeliveree::Notification(Arc::new(Gone)));
    let mut house = House::with(vec![gone, to(healthy("ours"), "posthaste:**")]).await;
    house.record("shop:paid", 1).await;
    house.attempts(2).await;
    let view = house.engine.registry.send(pause("gone")).await.unwrap().unwrap().unwrap();
    assert_eq!(view.standing, Standing::Disabled("status: 410".into()));
    house.engine.registry.send(resume("gone")).await.unwrap().unwrap();
    assert_eq!(house.attempts(1).await[0].event_type.as_str(), "posthaste:subscription:recovered");
}

/// Asks to wait for a day at each attempt.
struct Busy;

impl Deliveree<Notification> for Busy {
    fn deliver(&self, batch: Batch<Notification>, report: Reporter) -> BoxFuture<()> {
        Box::pin(async move {
            for delivery in batch.deliveries {
                report.signal(Signal::SlowDown(Duration::from_secs(86_400)));
                report.outcome(delivery.ticket, failed(503));
            }
        })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }
}

fn busy() -> Subscription {
    Subscription { make: Arc::new(|| AnyDeliveree::Notification(Arc::new(Busy))), ..healthy("busy") }
}

/// A house whose one receiver was tried once and asked to wait for a day.
async fn held() -> (House, DeliveryId) {
    let mut house = House::with(vec![busy()]).await;
    let event = house.record("shop:paid", 1).await[0];
    house.attempts(1).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(house.watched.try_recv().is_err());
    let delivery = DeliveryId { event, subscription: house.id("busy").await };
    (house, delivery)
}

/// For how long nothing begins, in whole hours.
async fn hours_held(house: &House) -> Option<i64> {
    let until = house.subscription("busy").await.held_until?;
    Some((until.millis() - house.clock.wall().millis()) / 3_600_000)
}

#[actix::test]
async fn how_long_a_receiver_asked_to_wait_is_shown_and_a_resume_ends_it() {
    let (mut house, _) = held().await;
    assert_eq!(hours_held(&house).await, Some(22), "of a day, one hour and a bit are over");
    let view = house.engine.registry.send(resume("busy")).await.unwrap().unwrap().unwrap();
    assert_eq!(view.held_until, None);
    assert_eq!(house.attempts(1).await[0].attempt.number, 2);
    assert_eq!(hours_held(&house).await, Some(24), "it asked again");
}

#[actix::test]
async fn a_retry_of_a_person_ends_what_the_receiver_asked_to_wait() {
    let (mut house, delivery) = held().await;
    assert_eq!(house.engine.registry.send(Retry(delivery)).await.unwrap().unwrap(), Answer::Done);
    assert_eq!(house.attempts(1).await[0].attempt.number, 2);
}

#[actix::test]
async fn settings_that_change_at_a_reload_end_what_the_old_receiver_asked_to_wait() {
    let (mut house, _) = held().await;
    house.engine.registry.send(Reload(settings(vec![busy()]))).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(house.watched.try_recv().is_err(), "nothing changed");
    let moved = Subscription { mark: 1, ..healthy("busy") };
    house.engine.registry.send(Reload(settings(vec![moved]))).await.unwrap().unwrap();
    assert_eq!(house.attempts(1).await[0].state, State::Delivered);
}

#[actix::test]
async fn nothing_begins_while_a_subscription_is_paused_and_everything_after() {
    let mut house = House::with(vec![healthy("a")]).await;
    let view = house.engine.registry.send(pause("a")).await.unwrap().unwrap().unwrap();
    assert_eq!(view.standing, Standing::Paused);
    let events = house.record("shop:paid", 10).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(house.watched.try_recv().is_err());
    assert_eq!(house.state(events[0], "a").await, State::Held);
    assert_eq!(house.subscription("a").await.backlog, 10);
    house.engine.registry.send(resume("a")).await.unwrap().unwrap();
    assert_eq!(house.attempts(10).await.len(), 10);
    assert!(house.engine.registry.send(pause("nobody")).await.unwrap().unwrap().is_none());
}

#[actix::test]
async fn an_event_matched_before_a_reload_is_matched_again() {
    let mut house = House::with(vec![healthy("a")]).await;
    let old = house.engine.snapshot.current();
    house.engine.registry.send(Reload(settings(vec![healthy("b")]))).await.unwrap().unwrap();
    assert!(house.engine.snapshot.current().epoch > old.epoch);
    let draft = Draft::new(EventType::parse("shop:paid").unwrap());
    let prepared = old.prepare(draft, posthaste_events::Timestamp::from_millis(0)).unwrap();
    let batch = RecordBatch { events: vec![prepared], epoch: old.epoch };
    house.engine.registry.send(batch).await.unwrap().unwrap();
    assert_eq!(house.attempts(1).await[0].subscription, "b");
    let roll = house.outbox.roll().await.unwrap();
    assert!(roll.subscriptions.iter().all(|s| s.name != "a" || (!s.listed && s.owed == 0)));
}

#[actix::test]
async fn a_dead_one_is_tried_again_when_a_person_asks() {
    let tries = Arc::new(AtomicU32::new(0));
    let receive = move |_| {
        let n = tries.fetch_add(1, Ordering::Relaxed);
        async move { if n == 0 { Outcome::Rejected(Detail::default()) } else { delivered() } }
    };
    let mut house = House::with(vec![subscription("a", receive)]).await;
    let event = house.record("shop:paid", 1).await[0];
    assert_eq!(house.attempts(1).await[0].state, State::Dead);
    let delivery = DeliveryId { event, subscription: house.id("a").await };
    assert_eq!(house.engine.registry.send(Retry(delivery)).await.unwrap().unwrap(), Answer::Done);
    assert_eq!(house.attempts(1).await[0].state, State::Delivered);
    let again = house.engine.registry.send(Retry(delivery)).await.unwrap().unwrap();
    assert_eq!(again, Answer::NotNow(State::Delivered));
}

#[actix::test]
async fn one_that_never_answers_costs_the_others_nothing() {
    let dead = subscription("dead", |_| std::future::pending::<Outcome>());
    let mut house = House::with(vec![dead, healthy("a")]).await;
    let began = tokio::time::Instant::now();
    for _ in 0..50 {
        house.record("shop:paid", 20).await;
        let attempts = house.attempts(20).await;
        assert!(attempts.iter().all(|a| a.subscription == "a"));
    }
    // No timer had to pass: not one delivery waited for the dead one's timeout, nor for a scan.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let attempts = house.attempts(1).await;
    assert_eq!(attempts[0].attempt.detail.error.as_deref(), Some("timeout: no outcome within 15000 ms"));
}

#[actix::test]
async fn the_health_counts_what_happened() {
    let mut house = House::with(vec![healthy("a"), subscription("b", |_| async { failed(500) })]).await;
    house.record("shop:paid", 3).await;
    house.attempts(6).await;
    let health = house.engine.registry.send(InspectHealth).await.unwrap();
    assert!(health.attempts.contains(&("a".into(), "delivered", 3)));
    assert!(health.attempts.contains(&("b".into(), "failed", 3)));
    assert!(health.backlog.contains(&("b".into(), 3)));
}
