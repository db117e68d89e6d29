//! The embedded store over a simulated disk that fails, fills up or loses power at every call in turn.
//!
//! Nothing that was acknowledged may be lost or changed, nothing settled and made durable may be offered again, and the
//! store must go on by itself when the fault is over. A disk that lies about its syncs is the control: over it the same
//! checks must find losses.

#![expect(clippy::unwrap_used, reason = "a test ends where it can not go on")]

#[expect(dead_code, reason = "shared with the conformance suite, which needs more of it")]
#[path = "conformance/fixture.rs"]
mod fixture;
#[path = "conformance/stepped.rs"]
mod stepped;

use fixture::{Counted, ManualClock, event, failed, keyed};
use posthaste_events::{AttemptOutcome, BoxFuture, DeliveryId, EventId, State, SubscriptionId};
use posthaste_outbox::disk::Disk;
use posthaste_outbox::disk::sim::{Fault, Leaves, SimDisk, Trouble};
use posthaste_outbox::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const ROUNDS: u64 = 20;
const NAMES: [&str; 2] = ["one", "two"];

/// A store, and what its callers know of it.
struct World {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    random: Arc<Counted>,
    store: Option<(GenerationOutbox, Stepper)>,
    subscriptions: Vec<SubscriptionId>,
    epoch: Epoch,
    recorded: BTreeMap<EventId, Told>,
    /// The bodies of events that were refused: they may have been recorded all the same.
    refused: BTreeSet<String>,
    /// Deliveries that were ever reported so.
    delivered: BTreeSet<DeliveryId>,
    dead: BTreeSet<DeliveryId>,
    /// Reported as delivered since the store was opened; a crash may still forget it.
    perhaps: BTreeSet<DeliveryId>,
    /// Reported as delivered, and something recorded after it was acknowledged: these are never offered again.
    surely: BTreeSet<DeliveryId>,
    carried: u64,
    forgotten: u64,
}

/// What was acknowledged of an event.
#[derive(Debug)]
struct Told {
    body: String,
    owed: Vec<SubscriptionId>,
    key: Option<u8>,
}

/// What went wrong, in words: a run over a lying disk must find something.
type Check<T = ()> = Result<T, String>;

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            clock: Arc::default(),
            random: Arc::default(),
            store: None,
            subscriptions: Vec::new(),
            epoch: 0,
            recorded: BTreeMap::new(),
            refused: BTreeSet::new(),
            delivered: BTreeSet::new(),
            dead: BTreeSet::new(),
            perhaps: BTreeSet::new(),
            surely: BTreeSet::new(),
            carried: 0,
            forgotten: 0,
        }
    }

    /// Waits for an answer, doing the store's work; a call that nobody would ever answer fails the test.
    fn wait<T>(&mut self, ask: impl FnOnce(&GenerationOutbox) -> BoxFuture<T>) -> Check<T> {
        let (outbox, stepper) = self.store.clone().ok_or("there is no store")?;
        let mut future = ask(&outbox);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(answer) => return Ok(answer),
                Poll::Pending if stepper.step() => {}
                Poll::Pending => return Err("a call is never answered".into()),
            }
        }
    }

    fn pass(&self, millis: u64) {
        self.clock.forward(Duration::from_millis(millis));
    }

    /// Opens the store and lists the subscriptions, as a daemon does at its start; over faults, as often as it takes.
    fn start(&mut self) -> Check {
        for _ in 0..12 {
            self.power();
            if self.store.is_none() {
                self.perhaps.clear();
                let limits = Limits {
                    free_min: 0,
                    retention: Duration::from_secs(4),
                    generation: GenerationLimits { events_max: 5, rows_max: 20, ..GenerationLimits::default() },
                    ..Limits::default()
                };
                let (disk, random) = (Arc::new(self.disk.clone()), Arc::clone(&self.random));
                self.store = GenerationOutbox::open_by_hand(disk, Arc::clone(&self.clock) as _, random, limits).ok();
            }
            if self.store.is_some() {
                let wanted = NAMES.map(|name| Enrolment { name: name.into(), backlog_max: 1000 }).to_vec();
                if let Ok(roll) = self.wait(|o| o.enroll(wanted))? {
                    let ids: Vec<_> = NAMES
                        .iter()
                        .filter_map(|n| roll.subscriptions.iter().find(|s| s.name == *n))
                        .map(|s| s.id)
                        .collect();
                    if !self.subscriptions.is_empty() && self.subscriptions != ids {
                        return Err(format!("the subscriptions were {:?} and are {ids:?}", self.subscriptions));
                    }
                    (self.subscriptions, self.epoch) = (ids, roll.epoch);
                    return Ok(());
                }
            }
            self.pass(600);
        }
        Err("the store does not come back".into())
    }

    /// Brings the power back, where it went.
    fn power(&mut self) {
        if self.disk.is_off() {
            self.store = None;
            self.disk.crash();
        }
    }

    fn crash(&mut self) -> Check {
        self.store = None;
        self.disk.crash();
        self.start()
    }

    fn record(&mut self, told: Vec<Told>) -> Check<bool> {
        let events = told.iter().map(|t| {
            let event = event(&t.body, &t.owed);
            t.key.map_or(event.clone(), |key| keyed(event, key, key))
        });
        let (events, epoch) = (events.collect(), self.epoch);
        match self.wait(|o| o.record(events, epoch))? {
            Ok(answers) => {
                for (answer, told) in answers.into_iter().zip(told) {
                    if answer.duplicate && !self.refused.contains(&told.body) {
                        return Err(format!("{told:?} was never recorded and counts as a duplicate"));
                    }
                    self.recorded.insert(answer.id, told);
                }
                self.surely.append(&mut self.perhaps);
                Ok(true)
            }
            Err(_) => {
                self.refused.extend(told.into_iter().map(|t| t.body));
                Ok(false)
            }
        }
    }

    /// Leases what is due and checks that it is what was recorded.
    fn claim(&mut self, subscription: SubscriptionId, count: usize) -> Check<Option<Claimed>> {
        let want = Want { count, bytes: usize::MAX, lease: Duration::from_secs(1) };
        let Ok(claimed) = self.wait(|o| o.claim(subscription, want))? else { return Ok(None) };
        for leased in &claimed.deliveries {
            let body = leased.payloads.notification().map(|b| String::from_utf8_lossy(b).into_owned());
            let right = match self.recorded.get(&leased.delivery.event) {
                Some(told) => body.as_ref() == Some(&told.body) && told.owed.contains(&subscription),
                None => body.as_ref().is_some_and(|body| self.refused.contains(body)),
            };
            if !right {
                return Err(format!("{:?} is offered with {body:?}", leased.delivery));
            }
            if self.surely.contains(&leased.delivery) {
                return Err(format!("{:?} was delivered, durably, and is offered again", leased.delivery));
            }
        }
        Ok(Some(claimed))
    }

    fn settle(&mut self, leased: &Leased, then: Then) -> Check {
        let mut attempt = failed(leased.attempt);
        if then == Then::Delivered {
            attempt.outcome = AttemptOutcome::Delivered;
        }
        let settlement =
            Settlement { lease: leased.lease, delivery: leased.delivery, attempt: Some(attempt), then: then.clone() };
        if let Ok(answers) = self.wait(|o| o.settle(vec![settlement]))?
            && answers == [Settled::Applied]
        {
            match then {
                Then::Delivered => {
                    self.delivered.insert(leased.delivery);
                    self.perhaps.insert(leased.delivery);
                }
                Then::Dead(_) => drop(self.dead.insert(leased.delivery)),
                Then::RetryIn(_) | Then::Release => {}
            }
        }
        Ok(())
    }

    /// What an application, a scheduler and the upkeep do, round by round.
    fn live(&mut self) -> Check {
        self.start()?;
        for round in 0..ROUNDS {
            let told = (0..=round % 3).map(|n| Told {
                body: format!("{round}-{n}-{}", "x".repeat(if round % 5 == 4 { 9000 } else { 20 })),
                owed: self.subscriptions.iter().copied().skip((n % 2) as usize).collect(),
                key: (n == 1).then_some(round as u8),
            });
            let told = told.collect();
            self.record(told)?;
            for subscription in self.subscriptions.clone() {
                let claimed = self.claim(subscription, 5)?.unwrap_or_default();
                for (n, leased) in claimed.deliveries.iter().enumerate() {
                    let then = match (round + n as u64) % 5 {
                        // Now and then one that outlasts the retention, so that it must be carried forward.
                        3 if round % 2 == 0 => Then::RetryIn(Duration::from_secs(60)),
                        3 => Then::RetryIn(Duration::from_millis(700)),
                        4 => Then::Dead("rejected".into()),
                        _ => Then::Delivered,
                    };
                    self.settle(leased, then)?;
                }
            }
            if round % 3 == 2 {
                // A failed upkeep is tried again at the next call.
                if let Ok(swept) = self.wait(|o| o.sweep(Duration::from_secs(1)))? {
                    self.carried += swept.carried;
                    self.forgotten += swept.forgotten;
                }
            }
            self.pass(500);
            if self.disk.is_off() {
                self.start()?;
            }
        }
        Ok(())
    }

    /// Once the faults are over: the store takes events again, and after another crash everything is there.
    fn settle_up(&mut self) -> Check {
        self.disk.disarm();
        self.disk.set_capacity(None);
        self.power();
        if self.store.is_none() {
            self.start()?;
        }
        let mut taken = false;
        for n in 0..5 {
            let told = Told { body: format!("last-{n}"), owed: self.subscriptions.clone(), key: None };
            taken = self.record(vec![told])?;
            if taken {
                break;
            }
            self.pass(600);
        }
        if !taken {
            return Err("nothing is taken any more".into());
        }
        self.crash()?;
        self.drain()?;
        self.look()
    }

    /// Delivers everything that is owed.
    fn drain(&mut self) -> Check {
        for subscription in self.subscriptions.clone() {
            let mut calls = 0;
            loop {
                calls += 1;
                let claimed = self.claim(subscription, 10)?.ok_or("a claim fails without a fault")?;
                for leased in &claimed.deliveries {
                    self.settle(leased, Then::Delivered)?;
                }
                match claimed.next_due {
                    None if claimed.deliveries.is_empty() => break,
                    due => self.clock.forward(due.unwrap_or_default()),
                }
                if calls > 500 {
                    return Err("what is owed has no end".into());
                }
            }
        }
        Ok(())
    }

    /// Looks at every event that was acknowledged.
    fn look(&mut self) -> Check {
        for (id, told) in std::mem::take(&mut self.recorded) {
            let owed = told.owed.iter().map(|subscription| DeliveryId { event: id, subscription: *subscription });
            let view = self.wait(|o| o.event(id))?.map_err(|e| format!("{id} can not be looked at: {e}"))?;
            let Some(view) = view else {
                let lost: Vec<_> = owed.filter(|d| !self.delivered.contains(d) && !self.dead.contains(d)).collect();
                if lost.is_empty() {
                    continue;
                }
                return Err(format!("{lost:?} were acknowledged and are lost"));
            };
            if view.event.payloads.notification().is_none_or(|body| *body != told.body.as_bytes()) {
                return Err(format!("{id} has another payload"));
            }
            let states: BTreeMap<_, _> = view.deliveries.iter().map(|d| (d.row.id, d.row.state)).collect();
            for delivery in owed {
                let right = match states.get(&delivery) {
                    Some(State::Delivered) => self.delivered.contains(&delivery),
                    Some(State::Dead) => self.dead.contains(&delivery),
                    _ => false,
                };
                if !right {
                    return Err(format!("{delivery:?} is {:?}", states.get(&delivery)));
                }
            }
            if let Some(key) = told.key {
                let again = keyed(event(&told.body, &told.owed), key, key);
                let epoch = self.epoch;
                let answer = self.wait(|o| o.record(vec![again], epoch))?.map_err(|e| e.to_string())?;
                if answer[0].id != id || !answer[0].duplicate {
                    return Err(format!("the key of {id} is forgotten"));
                }
            }
        }
        Ok(())
    }
}

fn run(seed: u64, prepare: impl FnOnce(&SimDisk)) -> Check<World> {
    let mut world = World::new(seed);
    prepare(&world.disk);
    world.live()?;
    world.settle_up()?;
    Ok(world)
}

/// How many calls a run makes without faults, which must also be one of those that show something.
fn calls_of_a_run() -> u64 {
    let world = run(0, |_| ()).unwrap();
    assert!(world.carried > 2 && world.forgotten > 10, "{} carried, {} forgotten", world.carried, world.forgotten);
    world.disk.calls().values().sum()
}

fn at_every_call(trouble: Trouble, leaves: Leaves) {
    let calls = calls_of_a_run();
    assert!(calls > 300, "{calls} calls are too few to show anything");
    for nth in 1..=calls {
        let run = run(nth, |disk| {
            disk.set_leaves(leaves);
            disk.arm(Fault { on: None, nth, trouble, lasting: false });
        });
        run.map(drop).unwrap_or_else(|wrong| panic!("{trouble:?} at call {nth}, {leaves:?}: {wrong}"));
    }
}

#[test]
fn a_call_that_fails_loses_nothing_whichever_it_is() {
    at_every_call(Trouble::Fail, Leaves::Prefix);
}

#[test]
fn a_disk_that_is_full_at_a_call_loses_nothing_whichever_it_is() {
    at_every_call(Trouble::Full, Leaves::Prefix);
}

#[test]
fn a_power_cut_at_a_call_loses_nothing_whichever_it_is() {
    at_every_call(Trouble::PowerCut, Leaves::Prefix);
}

#[test]
fn nor_where_it_leaves_any_of_what_was_not_synced() {
    at_every_call(Trouble::PowerCut, Leaves::Subset);
}

#[test]
fn a_disk_that_fails_for_long_is_refused_and_taken_again() {
    let calls = calls_of_a_run();
    for nth in (1..calls).step_by(7) {
        for trouble in [Trouble::Fail, Trouble::Full] {
            let run = run(nth, |disk| disk.arm(Fault { on: None, nth, trouble, lasting: true }));
            // One that fails from the start on never starts; the daemon then ends and says why.
            let _ = run.map(drop).map_err(|wrong| {
                assert_eq!(wrong, "the store does not come back", "{trouble:?} from call {nth} on");
            });
        }
    }
}

/// The control: the same run over a disk whose syncs keep nothing must find a loss.
#[test]
fn over_a_disk_that_lies_the_same_checks_find_losses() {
    let mut found = 0;
    for seed in 0..20 {
        found += u32::from(run(seed, |disk| disk.lie_on_sync(true)).is_err());
    }
    assert_eq!(found, 20);
}

/// Damage at rest, of each kind, to whatever the seed names, after a clean end or a crash.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// sled loses rows, or does not open: a salvage finds everything.
    LoseRows,
    Break,
    /// A file of the store's own: manifest, snapshot, keys.
    FlipFile,
    /// A row: that row is lost.
    FlipRow,
}

#[test]
fn damage_at_rest_costs_at_most_what_lay_there() {
    for damage in [Damage::LoseRows, Damage::Break, Damage::FlipFile, Damage::FlipRow] {
        let (mut counted, mut lost_of_all) = (0, 0);
        for seed in 0..60 {
            let ran = damaged(seed, damage);
            let (lost, damaged) = ran.unwrap_or_else(|wrong| panic!("{damage:?}, seed {seed}: {wrong}"));
            counted += u32::from(damaged > 0);
            lost_of_all += lost;
            let allowed = usize::from(matches!(damage, Damage::FlipRow));
            assert!(lost <= allowed, "{damage:?}, seed {seed}: {lost} events lost");
            assert!(lost == 0 || damaged > 0, "{damage:?}, seed {seed}: a loss that is not counted");
        }
        // The control: it was met, and a flipped row can not be made whole again. What a damaged file of the store's own
        // said is found out anew, and counts as no lost record.
        assert!(counted > 0 || matches!(damage, Damage::FlipFile), "{damage:?} was never met");
        assert_eq!(lost_of_all > 0, matches!(damage, Damage::FlipRow), "{damage:?}: {lost_of_all} lost");
    }
}

/// Lives, ends, is damaged and comes back; how many acknowledged events are not as they were. Whatever is offered is right,
/// or the claim fails the run. Also how many damaged records the store counts.
fn damaged(seed: u64, damage: Damage) -> Check<(usize, u64)> {
    let mut world = World::new(seed);
    world.live()?;
    if seed % 2 == 0 {
        world.wait(|o| o.close())?.map_err(|e| e.to_string())?;
    }
    world.store = None;
    world.disk.crash();
    let generations = world.disk.generations().map_err(|e| e.to_string())?;
    let generation = generations[seed as usize / 2 % generations.len()];
    match damage {
        Damage::LoseRows => drop(world.disk.lose_rows(generation, 3)),
        Damage::Break => world.disk.break_generation(generation),
        Damage::FlipRow => drop(world.disk.flip_row(generation)),
        Damage::FlipFile => {
            let files = world.disk.files().map_err(|e| e.to_string())?;
            assert!(world.disk.flip_file(&files[seed as usize / 2 % files.len()]));
        }
    }
    // What was delivered may be offered again where the row that said so is gone.
    world.surely.clear();
    world.start()?;
    world.drain()?;
    let mut lost = 0;
    for (id, told) in std::mem::take(&mut world.recorded) {
        // A damaged file of keys forgets them, and only them.
        let key = told.key.filter(|_| !matches!(damage, Damage::FlipFile));
        world.recorded = BTreeMap::from([(id, Told { key, ..told })]);
        lost += usize::from(world.look().is_err());
    }
    let counted = world.store.as_ref().map_or(0, |(outbox, _)| outbox.health().damaged_total);
    Ok((lost, counted))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn several_faults_in_a_run_lose_nothing(
        seed: u64,
        faults in prop::collection::vec((1_u64..900, 0_u8..3), 1..6),
        subset: bool,
    ) {
        let ran = run(seed, |disk| {
            disk.set_leaves(if subset { Leaves::Subset } else { Leaves::Prefix });
            for (nth, trouble) in &faults {
                let trouble = [Trouble::Fail, Trouble::Full, Trouble::PowerCut][usize::from(*trouble)];
                disk.arm(Fault { on: None, nth: *nth, trouble, lasting: false });
            }
        });
        if let Err(wrong) = ran {
            return Err(TestCaseError::fail(wrong));
        }
    }
}
