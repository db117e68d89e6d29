//! The model: what must be true of every delivery, from what the receivers saw and the store applied.

use crate::receiver::is_charged;
use crate::world::World;
use posthaste_actors::scheduler::{Call, CallId};
use posthaste_events::builtin::News;
use posthaste_events::{AttemptOutcome, DeliveryId, EventId, Signal, State, SubscriptionId};
use posthaste_outbox::{Claimed, LeaseId, Settlement, Standing, Then, Want};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a settlement may take to become durable, the simulation's own delays included.
const DURABLE_WITHIN: Duration = Duration::from_millis(25);

/// What is known of everything.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) deliveries: BTreeMap<DeliveryId, Known>,
    pub(crate) leases: BTreeMap<LeaseId, Duration>,
    /// Calls under way of the present life of the process.
    calls: BTreeMap<SubscriptionId, BTreeSet<(u64, CallId)>>,
    pub(crate) in_flight: BTreeMap<DeliveryId, (u64, CallId, LeaseId)>,
    pub(crate) slow_until: BTreeMap<SubscriptionId, Duration>,
    pub(crate) unsettled: usize,
    pub(crate) calls_begun: usize,
    /// When the calls of a subscription with a rate limit arrived at its receiver.
    pub(crate) arrivals: BTreeMap<SubscriptionId, Vec<Duration>>,
    /// What the daemon told, in order.
    pub(crate) news: Vec<News>,
    news_dead: u64,
    deaths: u64,
    deaths_unprobed: u64,
}

/// What is known of one delivery.
#[derive(Debug, Default)]
pub(crate) struct Known {
    recorded_at: Duration,
    begun_at: Option<Duration>,
    accepted: bool,
    accepted_at: Option<Duration>,
    /// Attempts that the store took, with what followed.
    pub(crate) applied: Vec<(u32, AttemptOutcome)>,
    /// When the store took the last settlement: what is younger than [`DURABLE_WITHIN`] may be gone after a crash.
    pub(crate) settled_at: Duration,
    pub(crate) end: Option<Then>,
    pub(crate) not_before: Duration,
    /// How often a receiver saw it.
    seen: u32,
    /// A person cancelled it last: no attempt begins, and one that had begun may still arrive.
    pub(crate) cancelled: bool,
    /// A person asked for it once: what was not charged may be forgotten.
    pub(crate) asked: bool,
    /// A person asked for it since the store took the last attempt: what follows the next one may come at once.
    pub(crate) hurried: bool,
}

impl Known {
    /// The state that it is in.
    pub(crate) const fn state(&self) -> State {
        match &self.end {
            Some(Then::Delivered) => State::Delivered,
            _ if self.cancelled => State::Cancelled,
            Some(_) => State::Dead,
            None => State::Pending,
        }
    }
}

impl Model {
    pub(crate) fn all_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// How long each delivery to one of these took to arrive, in order; of those that arrived.
    pub(crate) fn latencies(&self, of: impl Fn(SubscriptionId) -> bool) -> Vec<Duration> {
        let wanted = self.deliveries.iter().filter(|(id, _)| of(id.subscription));
        let mut all: Vec<_> = wanted.filter_map(|(_, k)| Some(k.accepted_at? - k.recorded_at)).collect();
        all.sort();
        all
    }

    /// Those that did not begin within so long after they were recorded.
    pub(crate) fn begun(&self, within: impl Fn(SubscriptionId) -> Duration) -> Vec<String> {
        let late = |(id, known): (&DeliveryId, &Known)| {
            let (took, most) = (known.begun_at? - known.recorded_at, within(id.subscription));
            (took > most).then(|| format!("{id} began after {took:?}, {most:?} are allowed"))
        };
        let never = |(id, known): (&DeliveryId, &Known)| known.begun_at.is_none().then(|| format!("{id} never began"));
        self.deliveries.iter().filter_map(never).chain(self.deliveries.iter().filter_map(late)).collect()
    }

    /// When each delivery to a subscription began first, in order.
    pub(crate) fn begun_at(&self, id: SubscriptionId) -> Vec<Duration> {
        let of_it = self.deliveries.iter().filter(|(delivery, _)| delivery.subscription == id);
        let mut begun: Vec<_> = of_it.filter_map(|(_, known)| known.begun_at).collect();
        begun.sort();
        begun
    }

    /// How long the deliveries to a subscription waited for their first attempt that were recorded since then, in order; so
    /// far, where there was none.
    pub(crate) fn waits(&self, id: SubscriptionId, since: Duration, now: Duration) -> Vec<Duration> {
        let of_it = self.deliveries.iter().filter(|(delivery, _)| delivery.subscription == id);
        let new = of_it.map(|(_, known)| known).filter(|known| known.recorded_at >= since);
        let mut waits: Vec<_> = new.map(|known| known.begun_at.unwrap_or(now) - known.recorded_at).collect();
        waits.sort();
        waits
    }

    /// Deliveries to a subscription that arrived, in that order, with the time of their recording.
    pub(crate) fn arrived_in_order(&self, id: SubscriptionId) -> Vec<(Duration, DeliveryId)> {
        let of_it = self.deliveries.iter().filter(|(delivery, _)| delivery.subscription == id);
        let arrived = of_it.filter_map(|(id, known)| Some((known.accepted_at?, known.recorded_at, *id)));
        let mut arrived: Vec<_> = arrived.collect();
        arrived.sort();
        arrived.into_iter().map(|(_, recorded, id)| (recorded, id)).collect()
    }

    /// Deaths; those that were told; those without an attempt.
    pub(crate) fn deaths(&self) -> (u64, u64, u64) {
        (self.deaths, self.news_dead, self.deaths_unprobed)
    }
}

impl World {
    pub(crate) fn model_recorded(&mut self, event: EventId, owed: &[SubscriptionId]) {
        for subscription in owed {
            let known = Known { recorded_at: self.now, ..Known::default() };
            self.model.deliveries.insert(DeliveryId { event, subscription: *subscription }, known);
            self.model.unsettled += 1;
        }
    }

    pub(crate) fn model_claimed(&mut self, claimed: &Claimed, want: Want) {
        for leased in &claimed.deliveries {
            if self.model.deliveries.get(&leased.delivery).is_some_and(|known| known.state().is_settled()) {
                self.problems.push(format!("{} is settled, and is given out", leased.delivery));
            }
            self.model.leases.insert(leased.lease, self.now + want.lease);
        }
    }

    pub(crate) fn model_renewed(&mut self, leases: &[LeaseId], kept: &[bool], lease: Duration) {
        for (id, _) in leases.iter().zip(kept).filter(|(_, kept)| **kept) {
            self.model.leases.insert(*id, self.now + lease);
        }
    }

    pub(crate) fn model_crashed(&mut self) {
        self.model.calls.clear();
        // What was noted of it holds on.
        let held = |id: &SubscriptionId| self.now + self.vitals(*id).held_for;
        let slow: BTreeMap<_, _> = self.model.slow_until.keys().map(|id| (*id, held(id))).collect();
        self.model.slow_until = slow;
        // What the dead process had under way may be tried beside it.
        self.model.in_flight.clear();
        if self.store.can_crash() {
            self.model.leases.clear();
            self.model_reread();
        }
    }

    /// Takes what the store still knows for true, where what it forgot is young enough.
    fn model_reread(&mut self) {
        let ids: Vec<_> = self.model.deliveries.keys().copied().collect();
        for id in ids {
            let Some(view) = self.store.wait(self.store.outbox.delivery(id)).unwrap() else {
                self.problems.push(format!("{id} was acknowledged, and is gone after a crash"));
                continue;
            };
            let Some(known) = self.model.deliveries.get_mut(&id) else { continue };
            let kept = view.row.attempt_count as usize;
            let ended = known.state().is_settled();
            if kept == known.applied.len() && view.row.state.is_settled() == ended {
                continue;
            }
            if known.cancelled && !view.row.state.is_settled() {
                self.problems.push(format!("{id} lost a cancellation"));
            }
            if kept > known.applied.len() || (view.row.state.is_settled() && !ended) {
                self.problems.push(format!("{id} has more attempts after a crash than before"));
            } else if known.settled_at + DURABLE_WITHIN < self.now {
                let age = self.now - known.settled_at;
                self.problems.push(format!("{id} lost a settlement that was {age:?} old"));
            }
            self.seen.forgotten += 1;
            known.applied.truncate(kept);
            known.not_before = Duration::ZERO;
            if view.row.state == State::Cancelled {
                known.end = None;
            }
            if ended && !view.row.state.is_settled() {
                (known.end, known.cancelled) = (None, false);
                self.model.unsettled += 1;
            }
        }
    }

    pub(crate) fn model_unlisted(&mut self, subscription: SubscriptionId) {
        self.model.slow_until.remove(&subscription);
    }

    pub(crate) fn model_call_begins(&mut self, subscription: SubscriptionId, call: &Call) {
        let lane = &self.lanes[&subscription];
        let (limits, most) = (lane.terms.limits, lane.terms.concurrency);
        let mut wrong = Vec::new();
        if lane.standing == Standing::Paused || !lane.listed {
            wrong.push(format!("{subscription:?} is paused or unlisted, and {:?} begins", call.id));
        }
        if self.model.slow_until.get(&subscription).is_some_and(|until| self.now < *until) {
            wrong.push(format!("{subscription:?} asked to wait, and {:?} begins", call.id));
        }
        let calls = self.model.calls.entry(subscription).or_default();
        calls.insert((self.generation, call.id));
        if calls.len() > most {
            wrong.push(format!("{} calls of {subscription:?} at once, {most} are allowed", calls.len()));
        }
        let bytes: usize = call.deliveries.iter().map(|d| d.payloads.len()).sum();
        if call.deliveries.len() > limits.events || (call.deliveries.len() > 1 && bytes > limits.bytes) {
            wrong.push(format!("a call of {} deliveries and {bytes} bytes", call.deliveries.len()));
        }
        self.model.calls_begun += 1;
        let oldest = call.deliveries.iter().filter_map(|d| Some(self.model.deliveries.get(&d.delivery)?.recorded_at));
        if self.calm
            && call.deliveries.len() < limits.events
            && oldest.min().is_some_and(|at| self.now < at + limits.wait)
        {
            wrong.push(format!("a call of {} deliveries did not wait for more", call.deliveries.len()));
        }
        for leased in &call.deliveries {
            let id = leased.delivery;
            if let Some((_, other, lease)) = self.model.in_flight.get(&id)
                && self.model.leases.get(lease).is_some_and(|until| self.now < *until)
            {
                wrong.push(format!("{id} begins in {:?} while {other:?} has it", call.id));
            }
            self.model.in_flight.insert(id, (self.generation, call.id, leased.lease));
            let known = self.model.deliveries.entry(id).or_default();
            known.seen += 1;
            known.begun_at.get_or_insert(self.now);
            if known.end.is_some() {
                wrong.push(format!("{id} is settled, and is tried again"));
            }
            if known.cancelled {
                wrong.push(format!("{id} was cancelled, and {:?} begins", call.id));
            }
            // The store counts in milliseconds, anew in each life of its process.
            if self.now + Duration::from_millis(self.crashes.into()) < known.not_before {
                wrong.push(format!("{id} is tried {:?} too soon", known.not_before - self.now));
            }
            if leased.attempt as usize != known.applied.len() + 1 {
                wrong.push(format!("attempt {} of {id} after {} kept ones", leased.attempt, known.applied.len()));
            }
        }
        self.problems.extend(wrong);
    }

    pub(crate) fn model_call_ends(&mut self, subscription: SubscriptionId, generation: u64, call: CallId) {
        if let Some(calls) = self.model.calls.get_mut(&subscription) {
            calls.remove(&(generation, call));
        }
        self.model.in_flight.retain(|_, (g, c, _)| (*g, *c) != (generation, call));
    }

    pub(crate) fn model_arrives(&mut self, subscription: SubscriptionId) {
        self.model.arrivals.entry(subscription).or_default().push(self.now);
    }

    /// Where a receiver saw more calls in a span than its subscription's rate limit allows.
    pub(crate) fn above_the_limit(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (id, arrivals) in &self.model.arrivals {
            let Some(rate) = self.lanes[id].terms.rate else { continue };
            let first_of_too_many = arrivals.iter().zip(arrivals.iter().skip(rate.calls as usize));
            wrong.extend(first_of_too_many.filter(|(first, last)| **last - **first < rate.per).map(|(first, last)| {
                format!(
                    "{} calls of {id:?} within {:?} at its receiver, the limit is {rate:?}",
                    rate.calls + 1,
                    *last - *first
                )
            }));
        }
        wrong
    }

    pub(crate) fn model_accepts(&mut self, delivery: DeliveryId) {
        let known = self.model.deliveries.entry(delivery).or_default();
        known.accepted = true;
        known.accepted_at.get_or_insert(self.now);
    }

    pub(crate) fn model_signal(&mut self, subscription: SubscriptionId, signal: &Signal) {
        // While the process stalls it hears of nothing.
        if let (Signal::SlowDown(wait), true) = (signal, self.now >= self.stalled_until) {
            let until = self.model.slow_until.entry(subscription).or_default();
            *until = (*until).max(self.now + *wait);
        }
    }

    pub(crate) fn model_news(&mut self, news: News) {
        if let News::Dead { count, .. } = &news {
            self.model.news_dead += count;
        }
        self.model.news.push(news);
    }

    /// The store took a settlement: is it what must follow?
    pub(crate) fn model_settled(&mut self, settlement: &Settlement) {
        let id = settlement.delivery;
        let lane = &self.lanes[&id.subscription];
        let policy = &lane.terms.retry;
        self.model.leases.remove(&settlement.lease);
        let Some(known) = self.model.deliveries.get_mut(&id) else { return };
        let mut wrong = Vec::new();
        let last = settlement.attempt.as_ref().map(|a| a.outcome);
        if settlement.then != Then::Release {
            known.settled_at = self.now;
        }
        known.applied.extend(settlement.attempt.as_ref().map(|a| (a.number, a.outcome)));
        let charged = known.applied.iter().filter(|(_, o)| is_charged(*o)).count() as u32;
        let age = self.now - known.recorded_at;
        // After a crash it is forgotten which attempts were not to be charged.
        let most = if self.crashes > 0 || known.asked { known.applied.len() as u32 } else { charged };
        match &settlement.then {
            Then::Delivered if last != Some(AttemptOutcome::Delivered) || !known.accepted => {
                wrong.push(format!("{id} is settled as delivered after {last:?}, accepted: {}", known.accepted));
            }
            Then::Dead(reason) => {
                let by_attempts = policy.attempts.is_some_and(|n| most >= n) && last == Some(AttemptOutcome::Failed);
                let by_time = age >= policy.give_up_after
                    && last.is_none_or(|o| matches!(o, AttemptOutcome::Failed | AttemptOutcome::Unattempted));
                let refused = last == Some(AttemptOutcome::Rejected);
                if !(by_attempts || by_time || refused) {
                    wrong.push(format!("{id} is dead by {reason:?} after {charged} attempts and {age:?}"));
                }
                self.model.deaths += 1;
                self.model.deaths_unprobed += u64::from(last.is_none());
            }
            Then::RetryIn(wait) => {
                let failed = last == Some(AttemptOutcome::Failed);
                let disabled = lane.standing != Standing::Active;
                if failed && policy.attempts.is_some_and(|n| charged >= n) && !disabled && self.crashes == 0 {
                    // One whose subscription was just disabled is kept: the store may not know yet.
                    if !lane.nature_disables() {
                        wrong.push(format!("{id} goes on after {charged} attempts"));
                    }
                }
                let shortest = policy.initial.mul_f64((1.0 - policy.jitter).max(0.0)).min(policy.max);
                if failed && *wait + Duration::from_millis(1) < shortest {
                    wrong.push(format!("{id} waits {wait:?}, shorter than {shortest:?}"));
                }
                // The store counts in milliseconds.
                known.not_before = (self.now + *wait).saturating_sub(Duration::from_millis(1));
                if std::mem::take(&mut known.hurried) {
                    known.not_before = Duration::ZERO;
                }
            }
            Then::Delivered | Then::Release => {}
        }
        if known.cancelled && !matches!(settlement.then, Then::Delivered | Then::Release) {
            wrong.push(format!("{id} was cancelled, and {:?} took effect", settlement.then));
        }
        if matches!(settlement.then, Then::Delivered | Then::Dead(_)) {
            known.end = Some(settlement.then.clone());
            self.model.unsettled -= usize::from(!known.cancelled);
        }
        self.problems.extend(wrong);
    }
}

impl crate::world::SimLane {
    fn nature_disables(&self) -> bool {
        self.nature.may_be_gone() || self.terms.disable_after.is_some()
    }
}

/// What is wrong with the end of a life.
pub(crate) fn judge(world: &mut World) -> Vec<String> {
    let mut wrong = world.above_the_limit();
    for (id, known) in &world.model.deliveries {
        let Some(view) = world.store.wait(world.store.outbox.delivery(*id)).unwrap() else {
            wrong.push(format!("{id} is unknown to the store"));
            continue;
        };
        let lane = &world.lanes[&id.subscription];
        let expected = known.state();
        if !expected.is_settled() {
            wrong.push(format!("{id} is not settled: {:?} of {}, {known:?}", view.row.state, lane.name));
            continue;
        }
        if view.row.state != expected {
            wrong.push(format!("{id} is {:?}, the model says {expected:?}", view.row.state));
        }
        let unbounded =
            lane.terms.retry.attempts.is_none() && lane.terms.retry.give_up_after > Duration::from_secs(1_000_000);
        let refused = known.applied.iter().any(|(_, o)| *o == AttemptOutcome::Rejected);
        if unbounded && lane.nature.ends == crate::receiver::Mood::Accepts && !refused && expected == State::Dead {
            wrong.push(format!("{id} is {expected:?} although its receiver takes everything in the end"));
        }
        if view.row.attempt_count as usize != known.applied.len() || known.seen < view.row.attempt_count {
            let count = view.row.attempt_count;
            wrong.push(format!("{id}: {count} attempts, {} settled, {} seen", known.applied.len(), known.seen));
        }
        let numbers: Vec<_> = view.attempts.iter().map(|a| a.number).collect();
        let count = view.row.attempt_count;
        let last: Vec<_> = (count.saturating_sub(99).max(1)..=count).collect();
        if numbers != last {
            wrong.push(format!("{id}: the attempts are numbered {numbers:?}"));
        }
    }
    if world.model.news_dead > world.model.deaths {
        wrong.push(format!("{} deaths told, {} happened", world.model.news_dead, world.model.deaths));
    }
    wrong
}
