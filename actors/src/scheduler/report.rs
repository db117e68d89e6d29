//! What the core makes of outcomes, signals and ended calls.

use super::core::{Core, give_back, released};
use super::decide::{Tried, decide};
use super::lane::{Disabling, Flying, Underway, why_open};
use super::window::Load;
use super::words::{Action, CallId, End, Now, Told};
use posthaste_events::builtin::News;
use posthaste_events::deliveree::{panicked, timed_out};
use posthaste_events::outcome::{Detail, REASON_MAX, cut};
use posthaste_events::retry::RETRY_AFTER_MAX;
use posthaste_events::seams::Random;
use posthaste_events::{Attempt, AttemptOutcome, DeliveryId, Origin, Outcome, Signal, SubscriptionId};
use posthaste_outbox::{Settled, Settlement, Then};
use std::time::Duration;

/// Why a delivery dies that an open circuit kept from being tried until its time was over.
const CIRCUIT_OPEN: &str = "give_up_after: its circuit is open";
/// How long a subscription waits after nobody took its calls.
const NOT_TAKEN_PAUSE: Duration = Duration::from_millis(100);

/// How an attempt went.
struct Course {
    call: CallId,
    began: Now,
    took: Duration,
    /// Whether all that its call delivers are the daemon's own events.
    ours: bool,
    /// That of the lane when the call began.
    epoch: u64,
}

impl Core {
    pub(super) fn outcome(
        &mut self,
        now: Now,
        call: CallId,
        delivery: DeliveryId,
        outcome: Outcome,
        took: Duration,
        random: &dyn Random,
    ) {
        let found = self.calls.get_mut(&call).and_then(|underway| {
            let at = underway.flying.iter().position(|f| f.delivery == delivery)?;
            let course = Course { call, began: underway.began, took, ours: underway.ours, epoch: underway.epoch };
            Some((underway.subscription, course, underway.flying.swap_remove(at)))
        });
        match found {
            Some((id, course, flying)) => self.settle(now.elapsed, id, flying, outcome, &course, random),
            None => self.counts.strays += 1,
        }
    }

    pub(super) fn ended(&mut self, now: Now, call: CallId, end: End, took: Duration, random: &dyn Random) {
        let Some(underway) = self.calls.remove(&call) else {
            self.counts.strays += 1;
            return;
        };
        let id = underway.subscription;
        let course = Course { call, began: underway.began, took, ours: underway.ours, epoch: underway.epoch };
        let timeout = self.lanes.get(&id).map_or(took, |lane| lane.terms.timeout);
        for flying in underway.flying {
            let outcome = match end {
                End::Done => {
                    Outcome::Retry { detail: Detail::error("unreported: the call ended without a word"), after: None }
                }
                End::TimedOut => timed_out(timeout),
                End::Panicked => panicked(),
                End::NotTaken => {
                    self.not_taken(now.elapsed, id, &flying, underway.withdrawn);
                    continue;
                }
            };
            self.settle(now.elapsed, id, flying, outcome, &course, random);
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.calls = lane.calls.saturating_sub(1);
            if end != End::NotTaken {
                lane.pace.ended(lane.terms.rate.as_ref(), now.elapsed);
            }
            lane.breaker.ended(call, now.elapsed, lane.terms.circuit.as_ref());
        }
        self.touch(id);
    }

    fn not_taken(&mut self, now: Duration, id: SubscriptionId, flying: &Flying, withdrawn: bool) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let load = Load { count: 1, bytes: flying.bytes };
        self.window.give(load);
        lane.out.remove(load);
        lane.flying = lane.flying.saturating_sub(1);
        self.settlements.push(released(flying.lease, flying.delivery));
        if !withdrawn {
            lane.not_before = lane.not_before.max(now.saturating_add(NOT_TAKEN_PAUSE));
            self.release_ready(id, now);
        }
        self.due(id, now);
    }

    /// Settles one delivery by its outcome.
    fn settle(
        &mut self,
        now: Duration,
        id: SubscriptionId,
        flying: Flying,
        outcome: Outcome,
        course: &Course,
        random: &dyn Random,
    ) {
        // First, since what it is owed is kept where it is disabled for this.
        self.judge(now, id, &outcome, course);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let load = Load { count: 1, bytes: flying.bytes };
        self.window.give(load);
        lane.out.remove(load);
        lane.flying = lane.flying.saturating_sub(1);

        let uncharged = self.uncharged.before(flying.delivery, flying.attempt);
        let tried = Tried {
            charged: flying.attempt.saturating_sub(uncharged),
            owed_for: flying.owed_for.saturating_add(now.saturating_sub(flying.claimed_at)),
            kept: lane.keeps(),
        };
        let (then, state) = decide(&outcome, tried, &lane.terms.retry, random);
        let kind = outcome.kind();
        if kind == AttemptOutcome::Unattempted {
            self.uncharged.add(flying.delivery, flying.attempt);
        }
        lane.tally.took = lane.tally.took.saturating_add(course.took);
        match &then {
            Then::RetryIn(wait) => lane.due_at(now.saturating_add(*wait)),
            Then::Dead(_) => {
                self.dying.insert(flying.delivery, flying.facts.origin != Origin::Daemon);
            }
            Then::Delivered | Then::Release => {}
        }
        if state.is_settled() {
            self.uncharged.forget(flying.delivery);
        }
        let attempt = Attempt {
            number: flying.attempt,
            at: course.began.wall,
            duration: course.took,
            outcome: kind,
            detail: into_detail(outcome),
        };
        let subscription = lane.terms.name.clone();
        self.told.push(Told {
            subscription,
            delivery: flying.delivery,
            facts: flying.facts,
            attempt: attempt.clone(),
            state,
        });
        let (lease, delivery) = (flying.lease, flying.delivery);
        self.settlements.push(Settlement { lease, delivery, attempt: Some(attempt), then });
        self.touch(id);
    }

    /// What an outcome says of its subscription: its circuit opens or closes, or it has failed for too long.
    fn judge(&mut self, now: Duration, id: SubscriptionId, outcome: &Outcome, course: &Course) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let kind = outcome.kind();
        lane.count(kind);
        if lane.epoch != course.epoch {
            // Of another receiver, or from before a person set it going again.
            return;
        }
        if lane.learn(kind, course.call, now) {
            lane.circuit_reason = None;
            self.to_note.insert(id);
            let news = News::Recovered { subscription: lane.terms.name.to_string(), reason: "circuit".into() };
            self.actions.push(Action::Announce(news));
        }
        let failing = lane.failing.filter(|_| kind == AttemptOutcome::Failed);
        let Some(failing) = failing else { return };
        if lane.breaker.failed(course.call, now, lane.terms.circuit.as_ref(), &failing) {
            let reason = why_open(Some(&failing), now, &last_of(outcome));
            lane.circuit_reason = Some(reason.as_str().into());
            self.to_note.insert(id);
            // What fails while one of our own events is delivered makes no further one.
            if !course.ours {
                let subscription = lane.terms.name.to_string();
                self.actions.push(Action::Announce(News::Failing { subscription, reason }));
            }
            self.release_ready(id, now);
        }
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.takes()) else { return };
        if let Some(reason) = failing.disables(lane.terms.disable_after, now) {
            lane.disabling = Some(Disabling { reason, tell: !course.ours, asked: false });
            self.ask_to_disable(id);
            self.hold_back(id, now);
        }
    }

    /// What the outbox made of settlements. A death counts, and is told, once it is written down.
    pub(super) fn settled(&mut self, now: Duration, settlements: &[Settlement], answers: &[Settled]) {
        self.unsettled = self.unsettled.saturating_sub(settlements.len());
        for (settlement, answer) in settlements.iter().zip(answers) {
            self.counts.leases_lost += u64::from(*answer == Settled::LeaseLost);
            if matches!(answer, Settled::Kept(_)) {
                // A person began it anew, or ended it.
                self.uncharged.forget(settlement.delivery);
            }
            let Then::Dead(reason) = &settlement.then else { continue };
            let tell = self.dying.remove(&settlement.delivery).unwrap_or(false);
            let id = settlement.delivery.subscription;
            let Some(lane) = self.lanes.get_mut(&id).filter(|_| *answer == Settled::Applied) else { continue };
            lane.tally.dead += 1;
            if tell {
                lane.died(settlement.delivery, reason, now);
                self.touch(id);
            }
        }
    }

    /// Of what was claimed for an open circuit keeps one as the probe. What is owed for too long dies without another
    /// attempt: an open circuit makes none, and its time to give up goes on.
    pub(super) fn keep_probe(&mut self, id: SubscriptionId, now: Duration) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        for ready in std::mem::take(&mut lane.ready) {
            let leased = &ready.leased;
            if leased.owed_for < lane.terms.retry.give_up_after {
                if lane.ready.is_empty() {
                    lane.ready.push_back(ready);
                } else {
                    give_back(&mut self.window, &mut self.settlements, lane, leased, now);
                }
                continue;
            }
            let load = Load { count: 1, bytes: leased.payloads.len() };
            self.window.give(load);
            lane.out.remove(load);
            self.dying.insert(leased.delivery, leased.facts.origin != Origin::Daemon);
            self.uncharged.forget(leased.delivery);
            let (lease, delivery, then) = (leased.lease, leased.delivery, Then::Dead(CIRCUIT_OPEN.to_owned()));
            self.settlements.push(Settlement { lease, delivery, attempt: None, then });
        }
    }

    pub(super) fn signal(&mut self, now: Duration, call: CallId, signal: Signal) {
        let Some(Underway { subscription, ours, mark, epoch, .. }) = self.calls.get(&call) else {
            self.counts.strays += 1;
            return;
        };
        let (id, ours) = (*subscription, *ours);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        // Another receiver's wish binds no one else. What the same one says before a person resumes it is no longer a
        // reason to disable it; how long it wants to be left alone still holds.
        let is_heard = match signal {
            Signal::SlowDown(_) => lane.terms.mark == *mark,
            Signal::Disable(_) => lane.epoch == *epoch,
        };
        if !is_heard {
            return;
        }
        match signal {
            Signal::SlowDown(wait) => {
                lane.not_before = lane.not_before.max(now.saturating_add(wait.min(RETRY_AFTER_MAX)));
                self.to_note.insert(id);
            }
            // It was told already: by another call that was under way.
            Signal::Disable(_) if lane.keeps() => {}
            Signal::Disable(reason) => {
                let reason = cut(reason, REASON_MAX);
                // What fails while one of our own events is delivered makes no further one.
                lane.disabling = Some(Disabling { reason, tell: !ours, asked: false });
                self.ask_to_disable(id);
            }
        }
        self.hold_back(id, now);
    }

    /// Asks the outbox to disable a subscription, where that is wanted and not yet asked.
    pub(super) fn ask_to_disable(&mut self, id: SubscriptionId) {
        let Some(disabling) = self.lanes.get_mut(&id).and_then(|lane| lane.disabling.as_mut()) else { return };
        if !disabling.asked {
            disabling.asked = true;
            self.actions.push(Action::Disable { subscription: id, reason: disabling.reason.clone() });
        }
    }
}

/// What went wrong last, in words.
fn last_of(outcome: &Outcome) -> String {
    let detail = outcome.detail();
    match (&detail.error, detail.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("status {status}"),
        (None, None) => "failed".to_owned(),
    }
}

fn into_detail(outcome: Outcome) -> Detail {
    match outcome {
        Outcome::Delivered(d) | Outcome::Retry { detail: d, .. } | Outcome::Rejected(d) | Outcome::Unattempted(d) => d,
    }
}
