//! Panics (R9): in a deliveree, in its maker, in an actor's handler. Others are unaffected, and the control shows that
//! without the supervisor a dead actor stays dead.

use super::House;
use super::house::{Counted, clock, delivered, healthy, memory, subscription, to};
use crate::messages::{InspectHealth, Watched};
use posthaste_events::{AnyDeliveree, BatchLimits, Deliveree, Notification, State};
use posthaste_outbox::{Enrolment, Outbox as _, Vitals};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

#[actix::test]
async fn a_deliveree_that_panics_is_a_failed_attempt_that_is_tried_again() {
    let tries = Arc::new(AtomicU32::new(0));
    let receive = move |_| {
        let n = tries.fetch_add(1, Ordering::Relaxed);
        // Before the first wait, and after one.
        assert!(n > 0, "at once");
        async move {
            tokio::task::yield_now().await;
            assert!(n > 1, "later");
            delivered()
        }
    };
    let mut house = House::with(vec![to(subscription("a", receive), "shop:**"), to(healthy("b"), "other:**")]).await;
    house.record("shop:paid", 1).await;
    house.record("other:thing", 1).await;
    let attempts = house.attempts(4).await;
    let (of_a, of_b): (Vec<_>, Vec<_>) = attempts.iter().partition(|a| a.subscription == "a");
    assert_eq!((of_b.len(), of_b[0].state), (1, State::Delivered));
    let error = |a: &Watched| a.attempt.detail.error.clone();
    assert_eq!(error(of_a[0]).as_deref(), Some("panic: the deliveree panicked"));
    assert_eq!(error(of_a[1]).as_deref(), Some("panic: the deliveree panicked"));
    assert_eq!(of_a[2].state, State::Delivered);
}

/// A house whose deliveree actor of `a` has died with a call in its mailbox; when its next event arrives.
async fn after_a_dead_actor(restores: bool) -> (Result<Duration, ()>, u64) {
    let clock = clock();
    let outbox = Arc::new(memory(&clock));
    let mut house = House::on(vec![healthy("a"), to(healthy("b"), "other:**")], outbox, clock, restores).await;
    house.record("shop:paid", 1).await;
    house.attempts(1).await;
    let id = house.id("a").await;
    house.engine.supervisor.send(crate::supervisor::PoisonOne(id)).await.unwrap();
    let poisoned = tokio::time::Instant::now();
    house.record("shop:paid", 100).await;
    house.record("other:thing", 1).await;
    let all_arrive = async {
        // 100 and the one that both `a` and `b` get.
        while house.attempts(1).await[0].subscription != "b" {}
        let others = poisoned.elapsed();
        assert!(others < Duration::from_millis(50), "the others waited {others:?}");
        loop {
            let view = house.subscription("a").await;
            if view.backlog == 0 {
                return poisoned.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let took = tokio::time::timeout(Duration::from_secs(60), all_arrive).await.map_err(drop);
    let health = house.engine.registry.send(InspectHealth).await.unwrap();
    (took, health.restarts_total)
}

#[actix::test]
async fn an_actor_whose_handler_panicked_is_back_within_a_second_and_nothing_is_lost() {
    let (took, restarts) = after_a_dead_actor(true).await;
    assert!(took.is_ok_and(|took| took < Duration::from_secs(1)), "{took:?}");
    assert_eq!(restarts, 1);
}

#[actix::test]
async fn without_the_supervisor_a_dead_actor_stays_dead() {
    assert_eq!(after_a_dead_actor(false).await, (Err(()), 0));
}

/// Panics when it is asked for its limits.
struct NoLimits;

impl Deliveree<Notification> for NoLimits {
    fn deliver(
        &self,
        _: posthaste_events::Batch<Notification>,
        _: posthaste_events::Reporter,
    ) -> posthaste_events::BoxFuture<()> {
        Box::pin(async {})
    }

    fn limits(&self) -> BatchLimits {
        panic!("no limits");
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(1)
    }
}

#[actix::test]
async fn a_maker_or_limits_that_panic_leave_the_others_alone() {
    let mut maker = healthy("maker");
    maker.make = Arc::new(|| panic!("cannot be made"));
    let mut limits = healthy("limits");
    limits.make = Arc::new(|| AnyDeliveree::Notification(Arc::new(NoLimits)));
    let mut house = House::with(vec![maker, limits, healthy("a")]).await;
    house.record("shop:paid", 1).await;
    assert_eq!(house.attempts(1).await[0].subscription, "a");
    assert_eq!(house.subscription("maker").await.backlog, 1, "it waits, and is not lost");
}

/// A random source that panics once.
struct Shaky(AtomicBool, Counted);

impl posthaste_events::seams::Random for Shaky {
    fn next(&self) -> u64 {
        assert!(!self.0.swap(false, Ordering::Relaxed), "the core's own panic");
        self.1.next()
    }
}

#[actix::test]
async fn a_panic_in_the_scheduler_itself_begins_it_anew() {
    let clock = clock();
    let outbox = Arc::new(memory(&clock));
    let tries = Arc::new(AtomicU32::new(0));
    let receive = move |_| {
        let n = tries.fetch_add(1, Ordering::Relaxed);
        async move { if n == 0 { super::house::failed(500) } else { delivered() } }
    };
    let subscriptions = vec![subscription("a", receive)];
    let random = Arc::new(Shaky(AtomicBool::new(true), Counted::default()));
    let mut house = House::with_random(subscriptions, outbox, clock, random).await;
    house.record("shop:paid", 1).await;
    // The jitter of the first failure panics; the lease runs out; the second attempt arrives.
    let attempts = house.attempts(1).await;
    assert_eq!((attempts[0].state, attempts[0].attempt.number), (State::Delivered, 1));
    assert_eq!(house.engine.registry.send(InspectHealth).await.unwrap().restarts_total, 1);
}

#[actix::test]
async fn what_holds_a_subscription_outlasts_a_panic_of_the_scheduler() {
    let clock = clock();
    let outbox = Arc::new(memory(&clock));
    let wanted = Enrolment { name: "held".into(), backlog_max: 1_000_000, ordered: false, kept: false };
    let id = outbox.enroll(vec![wanted]).await.unwrap().subscriptions[0].id;
    let held_for = Duration::from_secs(3_600);
    outbox.note(vec![(id, Vitals { held_for, ..Vitals::default() })]).await.unwrap();
    let tries = Arc::new(AtomicU32::new(0));
    let receive = move |_| {
        let n = tries.fetch_add(1, Ordering::Relaxed);
        async move { if n == 0 { super::house::failed(500) } else { delivered() } }
    };
    let subscriptions = vec![subscription("a", receive), to(healthy("held"), "other:**")];
    let random = Arc::new(Shaky(AtomicBool::new(true), Counted::default()));
    let mut house = House::with_random(subscriptions, outbox, clock, random).await;
    let before = house.subscription("held").await.held_until;
    assert!(before.is_some());
    house.record("shop:paid", 1).await;
    assert_eq!(house.attempts(1).await[0].state, State::Delivered);
    assert_eq!(house.engine.registry.send(InspectHealth).await.unwrap().restarts_total, 1);
    assert_eq!(house.subscription("held").await.held_until, before);
}

#[actix::test]
async fn a_word_after_the_deadline_is_not_heard() {
    let late = subscription("a", |delivery: posthaste_events::Delivery<Notification>| async move {
        if delivery.attempt == 1 {
            tokio::time::sleep(Duration::from_secs(16)).await;
        }
        delivered()
    });
    let mut house = House::with(vec![late]).await;
    house.record("shop:paid", 1).await;
    let attempts = house.attempts(2).await;
    let outcomes: Vec<_> = attempts.iter().map(|a| a.attempt.outcome.as_str()).collect();
    assert_eq!(outcomes, ["failed", "delivered"]);
    assert_eq!(attempts[1].state, State::Delivered);
}
