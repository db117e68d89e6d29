//! Subscriptions that the outbox keeps: they come, change and go while all runs, and outlast what ends it.

use super::House;
use super::backpressure::Stuck;
use super::house::{clock, delivered, healthy, measured, memory, pause, resume, settings};
use crate::author::{Author, Authored, Draft, NotWritten, Rotation};
use crate::messages::{
    CancelReplay, InspectReplays, InspectSubscription, NotChanged, NotReplayed, NotTested, Pause, Put, PutSubscription,
    RecordBatch, Reload, RemoveSubscription, Replay, Resume, Test,
};
use crate::settings::{Settings, Source, Version};
use futures_util::future::join_all;
use posthaste_events::{EventType, State, Timestamp};
use posthaste_outbox::{Define, Definition, Enrolment, Outbox, ReplayState, Standing};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Writes settings down as they are; `{"fault": …}` cannot run.
#[derive(Debug)]
struct Plain;

impl Plain {
    fn draft(&self, settings: &Map<String, Value>, revision: u64) -> Draft {
        let name = settings["name"].as_str().unwrap().to_owned();
        let definition = Definition { name, revision, body: Value::from(settings.clone()).to_string().into() };
        Draft { authored: self.read(&definition), definition, secret: None }
    }
}

impl Author for Plain {
    fn read(&self, definition: &Definition) -> Authored {
        let body: Value = serde_json::from_slice(&definition.body).unwrap();
        let mut subscription = match body["telemetry"] == true {
            true => measured(&definition.name, |_| async { delivered() }),
            false => healthy(&definition.name),
        };
        subscription.source = Source::Api(Version { revision: definition.revision, made: 0 });
        subscription.tenant = body["tenant"].as_str().map(str::to_owned);
        Authored { subscription, fault: body["fault"].as_str().map(str::to_owned) }
    }

    fn create(&self, settings: Map<String, Value>) -> Result<Draft, NotWritten> {
        Ok(self.draft(&settings, 1))
    }

    fn change(&self, kept: &Definition, patch: Map<String, Value>) -> Result<Draft, NotWritten> {
        let mut settings: Map<String, Value> = serde_json::from_slice(&kept.body).unwrap();
        settings.extend(patch);
        Ok(self.draft(&settings, kept.revision + 1))
    }

    fn rotate(&self, _: &Definition, _: Rotation, _: Timestamp) -> Result<Draft, NotWritten> {
        Err(NotWritten::NoSecrets)
    }

    fn reseal(&self, _: &Definition) -> Option<Definition> {
        None
    }
}

const FIRST: Version = Version { revision: 1, made: 0 };

fn kept() -> Settings {
    Settings { author: Some(Arc::new(Plain)), ..settings(vec![healthy("config")]) }
}

fn create(name: &str) -> PutSubscription {
    let settings = json!({ "name": name });
    PutSubscription { put: Put::Create(settings.as_object().unwrap().clone()), bound: None }
}

fn remove(name: &str) -> RemoveSubscription {
    RemoveSubscription { subscription: name.to_owned(), versions: None, bound: None }
}

fn replay(name: &str, state: Option<State>) -> Replay {
    Replay { subscription: name.to_owned(), since: None, until: None, state, event_type: None, bound: None }
}

impl House {
    async fn put(&self, name: &str) {
        self.engine.registry.send(create(name)).await.unwrap().unwrap();
    }

    /// Waits until nothing is owed.
    async fn settled(&self) {
        while self.outbox.roll().await.unwrap().subscriptions.iter().any(|s| s.owed > 0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ended(&self) -> u64 {
        loop {
            let replays = self.engine.registry.send(InspectReplays).await.unwrap().unwrap();
            match replays.last().unwrap().replay.clone() {
                last if last.state == ReplayState::Running => tokio::time::sleep(Duration::from_millis(50)).await,
                last => return last.replayed,
            }
        }
    }
}

#[actix::test]
async fn one_that_is_put_gets_what_is_recorded_from_then_on_and_a_reload_keeps_it() {
    let clock = clock();
    let mut house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    let before = house.record("a:b", 1).await;
    house.put("api").await;
    let after = house.record("a:b", 1).await;
    house.attempts(3).await;
    assert_eq!(house.state(after[0], "api").await, State::Delivered);
    let view = house.outbox.event(before[0]).await.unwrap().unwrap();
    assert_eq!(view.deliveries.len(), 1);
    house.engine.registry.send(Reload(kept())).await.unwrap().unwrap();
    assert_eq!(house.subscription("api").await.source, Some(Source::Api(FIRST)));
    let later = house.record("a:b", 1).await;
    house.attempts(2).await;
    assert_eq!(house.state(later[0], "api").await, State::Delivered);
}

#[actix::test]
async fn many_that_come_at_once_are_enrolled_together() {
    let clock = clock();
    let house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    let before = house.outbox.roll().await.unwrap().epoch;
    let names: Vec<_> = (0..200).map(|n| format!("s{n}")).collect();
    let puts = join_all(names.iter().map(|name| house.engine.registry.send(create(name)))).await;
    assert!(puts.into_iter().all(|put| put.unwrap().is_ok()));
    let epochs = house.outbox.roll().await.unwrap().epoch - before;
    assert!((1..=20).contains(&epochs), "{epochs} enrolments for 200 changes");
    assert_eq!(house.outbox.definitions().await.unwrap().len(), 200);
    let twins = join_all((0..2).map(|_| house.engine.registry.send(create("twin")))).await;
    let made = twins.iter().filter(|put| put.as_ref().unwrap().is_ok()).count();
    assert_eq!(made, 1, "a name is taken once");
}

#[actix::test]
async fn what_one_that_is_removed_was_owed_is_cancelled_and_its_name_is_free() {
    let clock = clock();
    let house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    house.put("api").await;
    house.engine.registry.send(pause("api")).await.unwrap().unwrap();
    let events = house.record("a:b", 3_000).await;
    let old = house.id("api").await;
    house.engine.registry.send(remove("api")).await.unwrap().unwrap();
    let delivery = posthaste_events::DeliveryId { event: events[2_999], subscription: old };
    let row = house.outbox.delivery(delivery).await.unwrap().unwrap().row;
    assert_eq!((row.state, row.reason.as_deref()), (State::Cancelled, Some("deleted")));
    assert_eq!(
        house.engine.registry.send(remove("api")).await.unwrap().unwrap_err().to_string(),
        "there is no such subscription"
    );
    house.put("api").await;
    let again = house.subscription("api").await;
    assert_eq!((again.standing, again.backlog), (Standing::Active, 0));
    assert!(matches!(house.engine.registry.send(remove("config")).await.unwrap(), Err(NotChanged::Configured)));
}

#[actix::test]
async fn a_removal_that_a_crash_cut_off_is_carried_through_by_the_next_start() {
    let clock = clock();
    let outbox: Arc<dyn Outbox> = Arc::new(memory(&clock));
    let first = House::by(kept(), Arc::clone(&outbox), Arc::clone(&clock)).await;
    first.put("api").await;
    first.engine.registry.send(pause("api")).await.unwrap().unwrap();
    first.record("a:b", 10).await;
    // As far as a removal has come before its first piece is cancelled.
    outbox.set_standing(first.id("api").await, Standing::Disabled("deleted".into())).await.unwrap();
    drop(first);
    let second = House::by(kept(), Arc::clone(&outbox), clock).await;
    while second
        .engine
        .registry
        .send(InspectSubscription("api".into()))
        .await
        .unwrap()
        .unwrap()
        .is_some_and(|s| s.listed)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(outbox.definitions().await.unwrap(), []);
    let roll = outbox.roll().await.unwrap();
    assert!(roll.subscriptions.iter().all(|s| s.name != "api" || s.owed == 0), "{roll:?}");
}

#[actix::test]
async fn one_that_cannot_run_is_listed_and_disabled_with_its_reason_and_what_it_is_owed_is_held() {
    let clock = clock();
    let outbox: Arc<dyn Outbox> = Arc::new(memory(&clock));
    let body = json!({"name": "api", "fault": "the key is lost"}).to_string();
    let definition = Definition { name: "api".into(), revision: 4, body: body.into() };
    outbox.define(vec![Define::Put(definition)]).await.unwrap();
    let house = House::by(kept(), Arc::clone(&outbox), clock).await;
    let view = house.subscription("api").await;
    assert_eq!(view.standing, Standing::Disabled("the key is lost".into()));
    house.record("a:b", 1).await;
    assert_eq!(house.subscription("api").await.backlog, 1);
}

#[actix::test]
async fn who_is_bound_to_a_tenant_changes_nothing_of_another() {
    let clock = clock();
    let house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    let mut theirs = create("theirs");
    theirs.bound = Some("acme".into());
    house.engine.registry.send(theirs).await.unwrap().unwrap();
    assert_eq!(house.subscription("theirs").await.tenant.as_deref(), Some("acme"));
    let bound = Some("other".to_owned());
    let patch = Put::Change { name: "theirs".into(), patch: Map::new(), versions: None };
    let put = PutSubscription { put: patch, bound: bound.clone() };
    assert!(matches!(house.engine.registry.send(put).await.unwrap(), Err(NotChanged::Unknown)));
    let removing = RemoveSubscription { bound: bound.clone(), ..remove("theirs") };
    assert!(matches!(house.engine.registry.send(removing).await.unwrap(), Err(NotChanged::Unknown)));
    let replaying = Replay { bound: bound.clone(), ..replay("theirs", None) };
    assert!(matches!(house.engine.registry.send(replaying).await.unwrap(), Err(NotReplayed::Unknown)));
    // Checked where it acts: whoever looked at the name before it went to another tenant does nothing to that one's.
    for bound in [bound.clone(), Some("acme".to_owned())] {
        let is_theirs = bound.as_deref() == Some("acme");
        let registry = &house.engine.registry;
        let pausing = registry.send(Pause { bound: bound.clone(), ..pause("theirs") }).await.unwrap().unwrap();
        assert_eq!(pausing.is_some(), is_theirs);
        let paused = house.subscription("theirs").await.standing == Standing::Paused;
        assert_eq!(paused, is_theirs);
        let resuming = Resume { bound: bound.clone(), ..resume("theirs") };
        assert_eq!(registry.send(resuming).await.unwrap().unwrap().is_some(), is_theirs);
        let testing = Test { subscription: "theirs".into(), event_type: None, bound };
        let tested = registry.send(testing).await.unwrap();
        assert!(if is_theirs { tested.is_ok() } else { matches!(tested, Err(NotTested::Unknown)) }, "{tested:?}");
    }
    let settings = json!({"name": "new", "tenant": "acme"}).as_object().unwrap().clone();
    let put = PutSubscription { put: Put::Create(settings), bound };
    assert!(matches!(house.engine.registry.send(put).await.unwrap(), Err(NotChanged::Foreign)));
}

#[actix::test]
async fn a_replay_brings_what_was_settled_and_what_was_never_owed_each_once() {
    let clock = clock();
    let house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    house.record("a:b", 700).await;
    house.put("api").await;
    house.record("a:b", 700).await;
    house.settled().await;
    assert_eq!(house.engine.registry.send(replay("api", Some(State::Dead))).await.unwrap().unwrap().replay.replayed, 0);
    assert_eq!(house.ended().await, 0, "none of them is dead");
    house.engine.registry.send(replay("api", Some(State::Delivered))).await.unwrap().unwrap();
    assert_eq!(house.ended().await, 700);
    house.settled().await;
    house.engine.registry.send(replay("api", None)).await.unwrap().unwrap();
    assert_eq!(house.ended().await, 1_400);
    house.settled().await;
    let waits = house.engine.registry.send(replay("api", Some(State::Pending))).await.unwrap();
    assert!(matches!(waits, Err(NotReplayed::Unsettled("pending"))));
}

#[actix::test]
async fn a_replay_waits_while_much_is_owed_and_ends_with_its_subscription() {
    let clock = clock();
    let outbox: Arc<dyn Outbox> = Arc::new(memory(&clock));
    let first = House::by(kept(), Arc::clone(&outbox), Arc::clone(&clock)).await;
    for _ in 0..24 {
        first.record("a:b", 500).await;
    }
    first.put("api").await;
    first.engine.registry.send(pause("api")).await.unwrap().unwrap();
    first.engine.registry.send(replay("api", None)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let so_far = outbox.replays().await.unwrap()[0].clone();
    assert_eq!(so_far.state, ReplayState::Running, "{so_far:?} {:?}", outbox.roll().await);
    assert!((10_000..11_000).contains(&so_far.replayed), "{}", so_far.replayed);
    first.engine.registry.send(Reload(kept())).await.unwrap().unwrap();
    first.engine.registry.send(resume("api")).await.unwrap().unwrap();
    assert_eq!(first.ended().await, 12_000);
    first.engine.registry.send(pause("api")).await.unwrap().unwrap();
    first.engine.registry.send(replay("api", None)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.engine.registry.send(remove("api")).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let last = outbox.replays().await.unwrap().last().unwrap().clone();
    assert_eq!(last.state, ReplayState::Cancelled);
    assert!(first.engine.registry.send(CancelReplay(posthaste_outbox::ReplayId(99))).await.unwrap().unwrap().is_none());
}

#[actix::test]
async fn a_name_that_left_the_configuration_brings_whoever_takes_it_nothing_of_what_it_was_owed() {
    let clock = clock();
    let mut house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    house.engine.registry.send(pause("config")).await.unwrap().unwrap();
    house.record("a:b", 5).await;
    let old = house.id("config").await;
    let without = Settings { author: Some(Arc::new(Plain)), ..settings(Vec::new()) };
    house.engine.registry.send(Reload(without)).await.unwrap().unwrap();
    house.put("config").await;
    let new = house.subscription("config").await;
    assert!(new.id != old && new.standing == Standing::Active && new.backlog == 0, "{new:?}");
    let events = house.record("a:b", 1).await;
    assert_eq!(house.attempts(1).await[0].event, events[0]);
    // The configuration takes the name back: it is another one again.
    house.engine.registry.send(pause("config")).await.unwrap().unwrap();
    house.record("a:b", 5).await;
    house.engine.registry.send(Reload(kept())).await.unwrap().unwrap();
    let shadowing = house.subscription("config").await;
    assert_eq!((shadowing.source, shadowing.backlog), (Some(Source::Config), 0));
}

#[actix::test]
async fn a_removal_that_a_crash_cut_off_after_its_definition_went_leaves_nothing_to_a_later_one() {
    let clock = clock();
    let outbox: Arc<dyn Outbox> = Arc::new(memory(&clock));
    let wanted = Enrolment { name: "api".into(), backlog_max: 10, ordered: false, kept: true };
    let old = outbox.enroll(vec![wanted]).await.unwrap().subscriptions[0].id;
    outbox.set_standing(old, Standing::Disabled("deleted".into())).await.unwrap();
    let house = House::by(kept(), outbox, clock).await;
    house.put("api").await;
    let new = house.subscription("api").await;
    assert!(new.id != old && new.standing == Standing::Active, "{new:?}");
}

#[actix::test]
async fn a_change_that_is_written_and_does_not_take_effect_does_so_with_the_next_one() {
    let clock = clock();
    let full = Arc::new(AtomicBool::new(false));
    let (waiting, go) = (Arc::default(), Arc::default());
    let outbox = Arc::new(Stuck {
        inner: memory(&clock),
        waiting,
        go,
        full: Arc::clone(&full),
        stale: std::sync::atomic::AtomicUsize::new(0),
    });
    let house = House::by(kept(), outbox, clock).await;
    house.put("going").await;
    full.store(true, Ordering::Relaxed);
    assert!(matches!(house.engine.registry.send(create("coming")).await.unwrap(), Err(NotChanged::Store(_))));
    assert!(matches!(house.engine.registry.send(remove("going")).await.unwrap(), Err(NotChanged::Store(_))));
    full.store(false, Ordering::Relaxed);
    assert!(matches!(house.engine.registry.send(create("coming")).await.unwrap(), Err(NotChanged::Exists)));
    assert_eq!(house.subscription("coming").await.source, Some(Source::Api(FIRST)));
    house.engine.registry.send(remove("going")).await.unwrap().unwrap();
    let patch = Put::Change { name: "coming".into(), patch: Map::new(), versions: Some(vec![FIRST]) };
    house.engine.registry.send(PutSubscription { put: patch, bound: None }).await.unwrap().unwrap();
}

#[actix::test]
async fn one_that_is_being_removed_is_not_resumed() {
    let clock = clock();
    let house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    house.put("api").await;
    house.outbox.set_standing(house.id("api").await, Standing::Disabled("deleted".into())).await.unwrap();
    assert!(house.engine.registry.send(resume("api")).await.unwrap().unwrap().is_none());
    assert_eq!(house.subscription("api").await.standing, Standing::Disabled("deleted".into()));
}

#[actix::test]
async fn one_that_takes_telemetry_no_more_keeps_what_it_is_owed_from_then_on() {
    let clock = clock();
    let house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    let settings = json!({"name": "api", "telemetry": true}).as_object().unwrap().clone();
    let put = PutSubscription { put: Put::Create(settings), bound: None };
    house.engine.registry.send(put).await.unwrap().unwrap();
    house.engine.registry.send(Reload(kept())).await.unwrap().unwrap();
    let patch = json!({"telemetry": false}).as_object().unwrap().clone();
    let put = Put::Change { name: "api".into(), patch, versions: None };
    house.engine.registry.send(PutSubscription { put, bound: None }).await.unwrap().unwrap();
    house.engine.registry.send(pause("api")).await.unwrap().unwrap();
    house.record("a:b", 3).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(house.subscription("api").await.backlog, 3);
}

#[actix::test]
async fn replays_of_one_subscription_and_of_one_tenant_are_bounded_and_leave_room_for_others() {
    let clock = clock();
    let house = House::by(kept(), Arc::new(memory(&clock)), clock).await;
    let snapshot = house.engine.snapshot.current();
    let mut draft = posthaste_events::Draft::new(EventType::parse("a:b").unwrap());
    draft.tenant = Some("acme".into());
    let event = snapshot.prepare(draft, Timestamp::from_millis(0)).unwrap();
    for _ in 0..24 {
        let record = RecordBatch { events: vec![event.clone(); 500], epoch: snapshot.epoch };
        house.engine.registry.send(record).await.unwrap().unwrap();
    }
    for n in 0..5 {
        let mut theirs = create(&format!("acme{n}"));
        theirs.bound = Some("acme".into());
        house.engine.registry.send(theirs).await.unwrap().unwrap();
    }
    house.put("other").await;
    let names = house.outbox.roll().await.unwrap().subscriptions;
    for name in names.into_iter().map(|s| s.name) {
        house.engine.registry.send(pause(&name)).await.unwrap().unwrap();
    }
    let mut made = Vec::new();
    for n in 0..20 {
        let order = replay(&format!("acme{}", n / 4), None);
        made.push(house.engine.registry.send(order).await.unwrap().map_err(|why| why.to_string()));
    }
    let of_one = made[..4].iter().filter(|made| made.is_ok()).count();
    assert_eq!((of_one, made.iter().filter(|made| made.is_ok()).count()), (3, 10), "{made:?}");
    assert!(house.engine.registry.send(replay("other", None)).await.unwrap().is_ok());
}
