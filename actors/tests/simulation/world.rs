//! The world: a queue of steps in time, the real core, the real outbox in memory, and faults between them.

use crate::model::Model;
use crate::orders::Orders;
use crate::receiver::Nature;
use crate::seams::{Dice, SimClock};
use crate::store::{Hints, SimStore};
use posthaste_actors::scheduler::{Action, COUNT_MAX, CircuitState, Core, Input, Now, Owed, Terms, Told};
use posthaste_actors::settings::{Circuit, Rate};
use posthaste_events::seams::{Clock as _, Random as _};
use posthaste_events::{BatchLimits, BoxFuture, RetryPolicy, SubscriptionId, Takes};
use posthaste_outbox::{Enrolment, Settled, Settlement, Standing, Then, Vitals};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long after the storm everything must be settled.
const HORIZON: Duration = Duration::from_secs(4 * 60 * 60);

/// What is broken on purpose, to see whether the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// One retry in twenty is put off for ever.
    ForgetRetry,
    /// The answers to scans are empty.
    NeverScan,
    /// The scheduler is not told of pauses.
    IgnorePause,
    /// The scheduler is not told of what people cancel.
    IgnoreCancel,
    /// One retry in twenty is settled as delivered.
    FailureIsDelivery,
    /// The disk keeps nothing of what it says it synced.
    SyncLies,
    /// The scheduler is told of rate limits that are a tenth wider than what the receivers allow.
    WiderRates,
}

type Step = Box<dyn FnOnce(&mut World)>;

/// How often what the storms are for happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reached {
    pub(crate) crashes: u64,
    /// Settlements that a power cut took before they were durable.
    pub(crate) forgotten: u64,
    pub(crate) leases_lost: u64,
    pub(crate) circuits_open: u64,
    pub(crate) disabled: u64,
    pub(crate) deaths: u64,
    pub(crate) deaths_told: u64,
    /// Deliveries that died in an open circuit without another attempt.
    pub(crate) expired_unprobed: u64,
    /// Attempts after which a delivery was what a person had wanted meanwhile.
    pub(crate) kept: u64,
}

impl Reached {
    pub(crate) fn add(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.forgotten += other.forgotten;
        self.leases_lost += other.leases_lost;
        self.circuits_open += other.circuits_open;
        self.disabled += other.disabled;
        self.deaths += other.deaths;
        self.deaths_told += other.deaths_told;
        self.expired_unprobed += other.expired_unprobed;
        self.kept += other.kept;
    }
}

/// A subscription of the world.
pub(crate) struct SimLane {
    pub(crate) name: Arc<str>,
    pub(crate) terms: Terms,
    pub(crate) nature: Nature,
    pub(crate) standing: Standing,
    pub(crate) listed: bool,
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) dice: Dice,
    pub(crate) core: Core,
    pub(crate) store: SimStore,
    pub(crate) epoch: u64,
    pub(crate) lanes: BTreeMap<SubscriptionId, SimLane>,
    pub(crate) model: Model,
    /// How subscriptions fared when it was noted last, and when that was.
    pub(crate) noted: BTreeMap<SubscriptionId, (Duration, Vitals)>,
    /// The store says that it noted how subscriptions fare, and keeps nothing.
    pub(crate) forgetful: bool,
    /// Nobody resumes by himself what was disabled.
    pub(crate) left_alone: bool,
    /// How long receivers ask to wait that ask for it, where that is fixed.
    pub(crate) asked_wait: Option<Duration>,
    /// The most that a test saw of what it looks for.
    pub(crate) most: usize,
    /// When a test saw a subscription disabled.
    pub(crate) disabled_at: Option<Duration>,
    pub(crate) problems: Vec<String>,
    pub(crate) digest: u64,
    pub(crate) storm_until: Duration,
    /// When it ends whatever is left; absent: when everything is settled.
    pub(crate) ends: Option<Duration>,
    /// The share of hints that get lost, after the storm as well.
    pub(crate) hints_lost: f64,
    /// Nothing happens that would keep a lane from calling, so that a small batch has no other reason to begin.
    pub(crate) calm: bool,
    /// Which events are of one entity, and whether deliveries go by that.
    pub(crate) orders: Orders,
    /// Counts the lives of the process; what an earlier one left behind reaches no later one.
    pub(crate) generation: u64,
    pub(crate) running: bool,
    pub(crate) crashes: u32,
    pub(crate) stalled_until: Duration,
    pub(crate) wake_at: Option<Duration>,
    pub(crate) sabotage: Sabotage,
    /// Seen while it ran; the rest is known to the model.
    pub(crate) seen: Reached,
    /// When a call arrives at its receiver: dice of their own, so that all else in a life is as it was.
    pub(crate) of_network: Dice,
    /// How long a call waits in a mailbox: dice of their own too.
    pub(crate) of_mailboxes: Dice,
    random: Dice,
    queue: BTreeMap<(Duration, u64), (Option<u64>, Step)>,
    queued: u64,
    hints: Hints,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        Self::with_orders(seed, sabotage, Orders::default())
    }

    pub(crate) fn with_orders(seed: u64, sabotage: Sabotage, orders: Orders) -> Self {
        let mut world = Self::empty(seed, sabotage);
        world.orders = orders;
        world.storm_until = Duration::from_secs(world.dice.between(20, 240));
        if sabotage == Sabotage::SyncLies {
            world.store.lie_on_sync();
        }
        world.settle_in();
        world.plan();
        world
    }

    /// A world without people, subscriptions and storm.
    pub(crate) fn empty(seed: u64, sabotage: Sabotage) -> Self {
        let clock = Arc::new(SimClock::default());
        let dice = Dice::new(seed);
        let hints = Hints::default();
        // Every third life is on generations over a disk.
        let store = if seed.is_multiple_of(3) {
            SimStore::generations(seed, clock.clone(), Arc::clone(&hints), dice.between(3, 60))
        } else {
            SimStore::memory(seed, clock.clone(), Arc::clone(&hints))
        };
        Self {
            now: Duration::ZERO,
            clock,
            core: Core::default(),
            store,
            epoch: 0,
            lanes: BTreeMap::new(),
            model: Model::default(),
            noted: BTreeMap::new(),
            forgetful: false,
            left_alone: false,
            asked_wait: None,
            most: 0,
            disabled_at: None,
            problems: Vec::new(),
            digest: seed,
            storm_until: Duration::ZERO,
            ends: None,
            hints_lost: 0.3,
            calm: false,
            orders: Orders::default(),
            generation: 0,
            running: true,
            crashes: 0,
            stalled_until: Duration::ZERO,
            wake_at: None,
            sabotage,
            seen: Reached::default(),
            of_network: Dice::new(seed ^ 4),
            of_mailboxes: Dice::new(seed ^ 6),
            random: Dice::new(seed ^ 2),
            queue: BTreeMap::new(),
            queued: 0,
            hints,
            dice,
        }
    }

    /// Makes the subscriptions and starts the core.
    fn settle_in(&mut self) {
        let wanted = (0..self.dice.between(1, 6)).map(|n| Enrolment {
            name: format!("sub-{n}"),
            backlog_max: 1_000_000,
            ordered: self.orders.kept,
            kept: false,
        });
        let roll = self.ask(self.store.outbox.enroll(wanted.collect())).unwrap();
        self.epoch = roll.epoch;
        for subscribed in roll.subscriptions {
            let name = Arc::from(subscribed.name.as_str());
            let nature = Nature::of(&self.dice, self.dice.chance(0.3));
            let terms = self.terms(subscribed.id, &name, &nature);
            let (standing, listed) = (Standing::Active, true);
            self.lanes.insert(subscribed.id, SimLane { name, terms, nature, standing, listed });
        }
        let roster = self.roster();
        self.tell_now(vec![Input::Roster(roster)]);
    }

    fn terms(&self, id: SubscriptionId, name: &Arc<str>, nature: &Nature) -> Terms {
        let dice = &self.dice;
        // One that is dead for good must give up within the horizon.
        let bounded = nature.ends != crate::receiver::Mood::Accepts || dice.chance(0.3);
        let retry = RetryPolicy {
            initial: dice.millis(200, 5_000),
            multiplier: 1.0 + dice.unit(),
            max: dice.millis(5_000, 60_000),
            jitter: dice.unit(),
            give_up_after: if bounded { dice.millis(10_000, 600_000) } else { Duration::from_secs(10_000_000) },
            attempts: (bounded && dice.chance(0.5)).then(|| dice.between(1, 8) as u32),
        };
        let events = if dice.chance(0.3) { dice.between(2, 20) as usize } else { 1 };
        // Dice of their own, so that all else in a life is as it was.
        let of_waits = Dice::new(self.digest ^ 3 ^ (u64::from(id.0) << 32));
        let waits = events > 1 && of_waits.chance(0.5);
        let wait = if waits { of_waits.millis(10, 70_000) } else { Duration::ZERO };
        let of_rates = Dice::new(self.digest ^ 5 ^ (u64::from(id.0) << 32));
        let rate = || Rate { calls: of_rates.between(1, 12) as u32, per: of_rates.millis(200, 4_000) };
        Terms {
            id,
            name: name.clone(),
            tenant: dice.chance(0.5).then(|| Arc::from(format!("tenant-{}", dice.between(0, 2)))),
            retry,
            concurrency: dice.between(1, 8) as usize,
            rate: of_rates.chance(0.3).then(rate),
            ordered: self.orders.kept,
            disable_after: of_rates.chance(0.2).then(|| of_rates.millis(1_000, 30_000)),
            vitals: posthaste_outbox::Vitals::default(),
            circuit: dice.chance(0.5).then(|| Circuit {
                failures: dice.between(1, 20) as u32,
                over: dice.millis(1_000, 60_000),
                pause: dice.millis(1_000, 30_000),
            }),
            limits: BatchLimits { events, bytes: dice.between(1_000, 1_000_000) as usize, wait },
            takes: Takes::Notification,
            timeout: dice.millis(500, 10_000),
            mark: 0,
            active: true,
            waits: true,
        }
    }

    pub(crate) fn roster(&self) -> Vec<Terms> {
        let listed = self.lanes.values().filter(|lane| lane.listed);
        let told = |rate: Rate| match self.sabotage {
            Sabotage::WiderRates => Rate { per: rate.per.mul_f64(0.9), ..rate },
            _ => rate,
        };
        listed
            .map(|lane| {
                let (active, rate) = (lane.standing == Standing::Active, lane.terms.rate.map(told));
                Terms { active, rate, vitals: self.vitals(lane.terms.id), ..lane.terms.clone() }
            })
            .collect()
    }

    pub(crate) fn lane(&mut self, id: SubscriptionId) -> &mut SimLane {
        self.lanes.get_mut(&id).unwrap()
    }

    pub(crate) fn reached(&self) -> Reached {
        let leases_lost = self.core.counts().leases_lost;
        let (deaths, deaths_told, expired_unprobed) = self.model.deaths();
        Reached { crashes: u64::from(self.crashes), leases_lost, deaths, deaths_told, expired_unprobed, ..self.seen }
    }

    pub(crate) fn storm(&self) -> bool {
        self.now < self.storm_until
    }

    pub(crate) fn fault(&self, probability: f64) -> bool {
        self.storm() && self.dice.chance(probability)
    }

    /// Does a step after a while; one that belongs to a life of the process dies with it.
    pub(crate) fn at(&mut self, after: Duration, generation: Option<u64>, step: impl FnOnce(&mut World) + 'static) {
        self.queued += 1;
        self.queue.insert((self.now + after, self.queued), (generation, Box::new(step)));
    }

    /// Runs until everything is settled, or the horizon is reached.
    pub(crate) fn run(&mut self) {
        while let Some(((at, _), (generation, step))) = self.queue.pop_first() {
            if at > self.storm_until + HORIZON {
                break;
            }
            self.now = at;
            self.clock.set(at);
            if generation.is_none_or(|generation| generation == self.generation) {
                step(self);
            }
            self.digest = self.digest.rotate_left(5).wrapping_mul(0x100_0000_01b3) ^ at.as_nanos() as u64;
            if self.ends.is_some_and(|end| at > end) {
                break;
            }
            if !self.problems.is_empty()
                || self.ends.is_none() && (!self.storm() && self.model.all_settled() && self.core.out().0 == 0)
            {
                break;
            }
        }
    }

    /// Asks the store, and passes on its hints, or loses them.
    pub(crate) fn ask<T>(&mut self, future: BoxFuture<T>) -> T {
        let answer = self.store.wait(future);
        let due = std::mem::take(&mut *self.hints.lock().unwrap());
        if !due.is_empty() && !self.dice.chance(self.hints_lost) {
            let (wait, generation) = (self.dice.millis(0, 3), Some(self.generation));
            self.at(wait, generation, move |world| world.tell(vec![Input::Due(due)]));
        }
        answer
    }

    /// How long somebody waits who wants something of a process that is down or stalls.
    pub(crate) fn away(&self) -> Option<Duration> {
        if !self.running {
            return Some(Duration::from_millis(100));
        }
        (self.now < self.stalled_until).then(|| self.stalled_until - self.now)
    }

    /// Tells the core, unless its process stalls: then later.
    pub(crate) fn tell(&mut self, inputs: Vec<Input>) {
        if self.now < self.stalled_until {
            let (wait, generation) = (self.stalled_until - self.now, Some(self.generation));
            self.at(wait, generation, move |world| world.tell(inputs));
        } else {
            self.tell_now(inputs);
        }
    }

    pub(crate) fn tell_now(&mut self, inputs: Vec<Input>) {
        if !self.running {
            return;
        }
        let now = Now { elapsed: self.now, wall: self.clock.wall() };
        let actions = self.core.handle(now, inputs, &self.random);
        self.seen.circuits_open +=
            u64::from(self.core.lanes(self.now).any(|lane| lane.circuit != CircuitState::Closed));
        let (count, _) = self.core.out();
        if count > COUNT_MAX {
            self.problems.push(format!("{count} deliveries are out"));
        }
        for action in actions {
            self.act(action);
        }
    }

    fn later(&mut self, step: impl FnOnce(&mut World) + 'static) {
        let (wait, generation) = (self.dice.millis(0, 3), Some(self.generation));
        self.at(wait, generation, step);
    }

    pub(crate) fn answer(&mut self, input: Input) {
        self.later(move |world| world.tell(vec![input]));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Claim { subscription, want } => self.later(move |world| {
                let claimed =
                    if world.fault(0.02) { None } else { world.ask(world.store.outbox.claim(subscription, want)).ok() };
                if let Some(claimed) = &claimed {
                    world.judge_order(claimed);
                    world.model_claimed(claimed, want);
                }
                world.answer(Input::Claimed { subscription, claimed });
            }),
            Action::Deliver { subscription, calls } => {
                calls.into_iter().for_each(|call| self.hand_over(subscription, call));
            }
            Action::Settle { settlements, told } => self.later(move |world| world.settle(settlements, told)),
            Action::Renew { subscription, leases, lease, until } => self.later(move |world| {
                let kept = if world.fault(0.2) {
                    None
                } else {
                    world.ask(world.store.outbox.renew(leases.clone(), lease)).ok()
                };
                if let Some(kept) = &kept {
                    world.model_renewed(&leases, kept, lease);
                }
                world.answer(Input::Renewed { subscription, leases, until, kept });
            }),
            Action::Disable { subscription, reason } => self.later(move |world| {
                let done = !world.fault(0.2);
                if done {
                    world.seen.disabled += 1;
                    let standing = Standing::Disabled(reason);
                    world.ask(world.store.outbox.set_standing(subscription, standing.clone())).unwrap();
                    world.lane(subscription).standing = standing;
                    let wait = world.dice.millis(1_000, 60_000);
                    if !world.left_alone {
                        world.at(wait, None, move |world| world.resume(subscription));
                    }
                }
                world.answer(Input::Disabled { subscription, done });
            }),
            Action::Note(vitals) => self.later(move |world| {
                let subscriptions = vitals.iter().map(|(id, _)| *id).collect();
                let done = !world.fault(0.2);
                if done && !world.forgetful {
                    world.noted.extend(vitals.into_iter().map(|(id, vitals)| (id, (world.now, vitals))));
                }
                world.answer(Input::Noted { subscriptions, done });
            }),
            Action::Announce(news) => self.model_news(news),
            Action::Scan => self.later(move |world| {
                if world.dice.chance(0.1) {
                    world.ask(world.store.outbox.sweep(Duration::from_millis(5))).unwrap();
                }
                let owing = world.ask(world.store.outbox.owing()).unwrap();
                let owed = |o: &posthaste_outbox::Owing| Owed { subscription: o.id, owed: o.owed, active: o.active };
                let never = world.sabotage == Sabotage::NeverScan;
                let owed = (!never && !world.fault(0.1)).then(|| owing.iter().map(owed).collect());
                world.answer(Input::Owed(owed));
            }),
            Action::WakeAt(at) => {
                self.wake_at = Some(at);
                let generation = Some(self.generation);
                self.at(at.saturating_sub(self.now), generation, move |world| {
                    // Replaced by a later wish.
                    if world.wake_at == Some(at) {
                        world.tell(vec![Input::Wake]);
                    }
                });
            }
            Action::Abort(_) | Action::Stopped => self.problems.push("stopped without being asked".into()),
        }
    }

    fn settle(&mut self, mut settlements: Vec<Settlement>, told: Vec<Told>) {
        let (lost_before, lost_after) = (self.fault(0.02), self.fault(0.02));
        if lost_before {
            self.answer(Input::NotSettled { settlements, told });
            return;
        }
        let tried: Vec<_> = settlements.iter().filter(|s| s.attempt.is_some()).map(|s| s.delivery).collect();
        if told.iter().map(|t| t.delivery).ne(tried) {
            self.problems.push("what is told is not what is settled".into());
        }
        for settlement in &mut settlements {
            let breaks = matches!(settlement.then, Then::RetryIn(_)) && self.dice.chance(0.05);
            match self.sabotage {
                Sabotage::ForgetRetry if breaks => settlement.then = Then::RetryIn(HORIZON * 10),
                Sabotage::FailureIsDelivery if breaks => settlement.then = Then::Delivered,
                _ => {}
            }
        }
        let answers = self.ask(self.store.outbox.settle(settlements.clone())).unwrap();
        for (settlement, answer) in settlements.iter().zip(&answers) {
            match answer {
                Settled::Applied => self.model_settled(settlement),
                Settled::Kept(state) => self.model_kept(settlement, *state),
                Settled::LeaseLost => {}
            }
        }
        // Durable within 20 ms, or with whatever is synced before.
        let (wait, generation) = (self.dice.millis(1, 20), Some(self.generation));
        self.at(wait, generation, |world| world.store.sync());
        // A crash right behind a settlement is the one that may forget it.
        if self.store.can_crash() && self.fault(0.002) {
            let wait = self.dice.millis(0, 10);
            self.at(wait, None, World::crash);
        }
        // The store did it, and its answer was an error: told again, it finds the leases gone.
        self.answer(if lost_after {
            Input::NotSettled { settlements, told }
        } else {
            Input::Settled { settlements, answers }
        });
    }
}
