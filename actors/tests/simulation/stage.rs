//! Worlds without storm, for one question each: a few subscriptions whose receivers do what the test says.

use crate::receiver::{Mood, Nature};
use crate::world::{Sabotage, SimLane, World};
use posthaste_actors::scheduler::{Input, LaneView, Terms};
use posthaste_events::{BatchLimits, RetryPolicy, SubscriptionId, Takes};
use posthaste_outbox::{Enrolment, Standing, Vitals};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The terms of a subscription that nothing is said of: 32 calls at once, 15 seconds each, no circuit, no limit.
pub(crate) fn plain_terms(id: SubscriptionId, name: Arc<str>) -> Terms {
    Terms {
        id,
        name,
        tenant: None,
        retry: RetryPolicy::default(),
        concurrency: 32,
        circuit: None,
        rate: None,
        ordered: false,
        disable_after: None,
        vitals: Vitals::default(),
        limits: BatchLimits::ONE,
        takes: Takes::Notification,
        timeout: seconds(15),
        mark: 0,
        active: true,
        waits: true,
    }
}

/// A calm world of these subscriptions, which ends then; they are not told to the core yet.
pub(crate) fn stage(
    natures: Vec<Nature>,
    ends: Duration,
    sabotage: Sabotage,
    set: impl Fn(usize, &mut Terms),
) -> (World, Vec<SubscriptionId>) {
    let mut world = World::empty(1, sabotage);
    world.ends = Some(ends);
    let ids = world.populate(natures, set);
    (world, ids)
}

impl World {
    /// Enrolls a subscription for each receiver, where no hint is lost; they are not told to the core yet.
    pub(crate) fn populate(&mut self, natures: Vec<Nature>, set: impl Fn(usize, &mut Terms)) -> Vec<SubscriptionId> {
        self.hints_lost = 0.0;
        let named = |n| Enrolment { name: format!("sub-{n}"), backlog_max: 1_000_000, ordered: false, kept: false };
        let roll = self.ask(self.store.outbox.enroll((0..natures.len()).map(named).collect())).unwrap();
        self.epoch = roll.epoch;
        let mut ids = Vec::new();
        for (n, (subscribed, nature)) in roll.subscriptions.into_iter().zip(natures).enumerate() {
            let name: Arc<str> = subscribed.name.as_str().into();
            let mut terms = plain_terms(subscribed.id, Arc::clone(&name));
            set(n, &mut terms);
            self.lanes.insert(subscribed.id, SimLane { name, terms, nature, standing: Standing::Active, listed: true });
            ids.push(subscribed.id);
        }
        ids
    }

    /// Tells the core of its subscriptions.
    pub(crate) fn open(&mut self) {
        let roster = self.roster();
        self.tell_now(vec![Input::Roster(roster)]);
    }

    /// From then on a receiver does this.
    pub(crate) fn turns(&mut self, at: Duration, id: SubscriptionId, mood: Mood) {
        self.at(at, None, move |world| world.lane(id).nature = Nature::always(mood, 0.0));
    }

    /// Records an event for these so often, so long apart, from then on.
    pub(crate) fn record_each(&mut self, from: Duration, apart: Duration, count: u32, ids: &[SubscriptionId]) {
        for n in 0..count {
            let ids = ids.to_vec();
            self.at(from + apart * n, None, move |world| world.record_for(vec![ids]));
        }
    }

    /// A subscription as the core sees it.
    pub(crate) fn view(&self, id: SubscriptionId) -> LaneView {
        self.core.lane(id, self.now).unwrap()
    }

    /// What is wrong so far, to be held against nothing.
    pub(crate) fn run_well(&mut self) {
        self.run();
        assert_eq!(self.problems, Vec::<String>::new());
    }
}
