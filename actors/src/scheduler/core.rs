//! The scheduler's state machine: takes inputs, keeps the window full, and says what is to be done.
//!
//! Decides when each subscription is worth a claim, how much it claims, and when its calls begin. What an outcome
//! leads to stands in `report`; whose turn it is in `fairness`; how much fits in `window`.

use super::circuit::{Allowance, Breaker};
use super::fairness::Turns;
use super::lane::{CallIds, Lane, Ready, Underway};
use super::pace::Pace;
use super::uncharged::Uncharged;
use super::window::{BYTES_MAX, COUNT_MAX, Load, Window};
use super::words::{Action, CallId, Counts, Input, LaneView, Now, Owed, Terms, Told};
use posthaste_events::seams::Random;
use posthaste_events::{DeliveryId, SubscriptionId};
use posthaste_outbox::{Claimed, LeaseId, Leased, Settlement, Then};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Every so many scans a subscription is asked even though its next time is known to be later.
const THOROUGH_EVERY: u64 = 10;

/// The state of the scheduler. Everything in it is bounded by the window and the number of subscriptions.
#[derive(Debug)]
pub struct Core {
    pub(super) lanes: BTreeMap<SubscriptionId, Lane>,
    pub(super) calls: BTreeMap<CallId, Underway>,
    pub(super) window: Window,
    pub(super) turns: Turns,
    /// When which lane is to be looked at; one entry a lane at most.
    pub(super) timers: BTreeSet<(Duration, SubscriptionId)>,
    /// Lanes of which something changed since the last turn.
    pub(super) touched: Vec<SubscriptionId>,
    /// Only in the negative control of the tests: retries may take all of a claim.
    pub(super) unreserved: bool,
    pub(super) claims: usize,
    pub(super) unsettled: usize,
    /// Settlements that the outbox failed to take.
    pub(super) again: Vec<Settlement>,
    /// What is to be told of them, in the same order.
    pub(super) told_again: Vec<Told>,
    pub(super) scan_at: Duration,
    pub(super) scanning: bool,
    /// Whose standing was told since the scan under way was asked for.
    told_while_scanning: BTreeSet<SubscriptionId>,
    pub(super) scans: u64,
    /// When the subscriptions were told first.
    started: Option<Duration>,
    pub(super) stopping: Option<Duration>,
    pub(super) stopped: bool,
    pub(super) woken_at: Option<Duration>,
    pub(super) ids: CallIds,
    /// How many attempts of a delivery were not to be charged to its endpoint.
    pub(super) uncharged: Uncharged,
    /// Those whose death is with the outbox, and whether it is to be told; bounded by what is unsettled.
    pub(super) dying: BTreeMap<DeliveryId, bool>,
    /// Those of which the outbox is to be told how they fare.
    pub(super) to_note: BTreeSet<SubscriptionId>,
    /// Whether it is being told, and has not answered.
    pub(super) noting: bool,
    pub(super) counts: Counts,
    pub(super) settlements: Vec<Settlement>,
    pub(super) told: Vec<Told>,
    pub(super) actions: Vec<Action>,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            lanes: BTreeMap::new(),
            calls: BTreeMap::new(),
            window: Window::new(Load { count: COUNT_MAX, bytes: BYTES_MAX }),
            turns: Turns::default(),
            timers: BTreeSet::new(),
            touched: Vec::new(),
            unreserved: false,
            claims: 0,
            unsettled: 0,
            again: Vec::new(),
            told_again: Vec::new(),
            scan_at: Duration::ZERO,
            scanning: false,
            told_while_scanning: BTreeSet::new(),
            scans: 0,
            started: None,
            stopping: None,
            stopped: false,
            woken_at: None,
            ids: CallIds::default(),
            uncharged: Uncharged::default(),
            dying: BTreeMap::new(),
            to_note: BTreeSet::new(),
            noting: false,
            counts: Counts::default(),
            settlements: Vec::new(),
            told: Vec::new(),
            actions: Vec::new(),
        }
    }
}

impl Core {
    /// Takes inputs, and says what is to be done, in this order.
    pub fn handle(&mut self, now: Now, mut inputs: Vec<Input>, random: &dyn Random) -> Vec<Action> {
        // A signal is about the whole subscription, so that it counts for the outcomes that came along with it.
        inputs.sort_by_key(|input| !matches!(input, Input::Signal { .. }));
        for input in inputs {
            self.take(now, input, random);
        }
        self.turn(now);
        std::mem::take(&mut self.actions)
    }

    /// For the negative control of tests: lets whoever comes first take the whole window.
    #[doc(hidden)]
    pub const fn share_nothing(&mut self) {
        self.window.shared = false;
    }

    /// For the negative control of tests: keeps no room for first attempts.
    #[doc(hidden)]
    pub const fn reserve_nothing(&mut self) {
        self.unreserved = true;
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Deliveries that are out of the outbox, those of claims under way included, and their bytes.
    #[must_use]
    pub const fn out(&self) -> (usize, usize) {
        let out = self.window.out();
        (out.count, out.bytes)
    }

    /// Every subscription as it stands.
    pub fn lanes(&self, now: Duration) -> impl Iterator<Item = LaneView> {
        self.lanes.iter().map(move |(id, lane)| view(*id, lane, now))
    }

    /// One subscription as it stands; `None` where it is not known here.
    #[must_use]
    pub fn lane(&self, id: SubscriptionId, now: Duration) -> Option<LaneView> {
        Some(view(id, self.lanes.get(&id)?, now))
    }

    fn take(&mut self, now: Now, input: Input, random: &dyn Random) {
        match input {
            Input::Roster(terms) => self.roster(now.elapsed, terms),
            Input::Amended { terms, gone } => self.amended(now.elapsed, terms, gone),
            Input::Standing { subscription, active } => self.standing(now.elapsed, subscription, active),
            Input::Hurry(subscription) => self.hurry(now.elapsed, subscription),
            Input::Withdraw(delivery) => self.withdraw(now.elapsed, delivery),
            Input::Refused(refused) => {
                for (id, refusals) in refused {
                    if let Some(lane) = self.lanes.get_mut(&id) {
                        lane.refuse(refusals, now.elapsed);
                        self.touch(id);
                    }
                }
            }
            Input::Due(subscriptions) => {
                for id in subscriptions {
                    self.due(id, now.elapsed);
                }
            }
            Input::Claimed { subscription, claimed } => self.claimed(now.elapsed, subscription, claimed),
            Input::Outcome { call, delivery, outcome, took } => {
                self.outcome(now, call, delivery, outcome, took, random);
            }
            Input::Signal { call, signal } => self.signal(now.elapsed, call, signal),
            Input::Ended { call, end, took } => self.ended(now, call, end, took, random),
            Input::Settled { settlements, answers } => self.settled(now.elapsed, &settlements, &answers),
            Input::NotSettled { settlements, told } => {
                self.unsettled = self.unsettled.saturating_sub(settlements.len());
                self.again.extend(settlements);
                self.told_again.extend(told);
            }
            Input::Renewed { subscription, leases, until, kept } => {
                if let Some(kept) = kept {
                    self.renewed(now.elapsed, subscription, &leases, until, &kept);
                }
            }
            Input::Owed(owed) => {
                self.owed(now.elapsed, owed.unwrap_or_default());
                self.scanning = false;
                self.told_while_scanning.clear();
            }
            Input::Disabled { subscription, done } => self.disabled(now.elapsed, subscription, done),
            Input::Noted { subscriptions, done } => self.noted(&subscriptions, done),
            Input::Wake => {}
            Input::Stop { grace } => self.stop(now.elapsed, grace),
        }
    }

    pub(super) fn touch(&mut self, subscription: SubscriptionId) {
        if let Some(lane) = self.lanes.get_mut(&subscription).filter(|lane| !lane.touched) {
            lane.touched = true;
            self.touched.push(subscription);
        }
    }

    /// Something of a subscription is due at a time.
    pub(super) fn due(&mut self, subscription: SubscriptionId, at: Duration) {
        if let Some(lane) = self.lanes.get_mut(&subscription) {
            lane.due_at(at);
            self.touch(subscription);
        }
    }

    fn roster(&mut self, now: Duration, terms: Vec<Terms>) {
        let listed: BTreeSet<_> = terms.iter().map(|t| t.id).collect();
        let gone = self.lanes.keys().copied().filter(|id| !listed.contains(id)).collect();
        self.amended(now, terms, gone);
        self.started.get_or_insert(now);
    }

    fn amended(&mut self, now: Duration, terms: Vec<Terms>, gone: Vec<SubscriptionId>) {
        for terms in terms {
            let (id, active, waits) = (terms.id, terms.active, terms.waits);
            // One of thousands changed: the others are not worth a claim each.
            let same = self.lanes.get(&id).is_some_and(|lane| !lane.gone && lane.terms == terms);
            let lane = self.lanes.entry(id).or_insert_with(|| {
                // One that comes later may have been called just before the start as well, and have left since.
                let pace = Pace::after_a_start(terms.rate.as_ref(), self.started.unwrap_or(now));
                Lane::new(terms.clone(), pace, now)
            });
            if lane.terms.tenant != terms.tenant {
                self.turns.leave(&lane.terms.tenant, id);
            }
            let changed = lane.terms.mark != terms.mark;
            let resumed = active && !lane.terms.active;
            lane.pace.changed(lane.terms.rate.as_ref(), terms.rate.as_ref(), now);
            (lane.terms, lane.gone) = (terms, false);
            if changed {
                // What another receiver asked for, and how it failed, says nothing of this one.
                lane.not_before = Duration::ZERO;
            }
            if changed || resumed {
                lane.forgive();
                self.to_note.insert(id);
            } else if lane.terms.circuit.is_none() {
                (lane.breaker, lane.circuit_reason) = (Breaker::CLOSED, None);
            }
            // At a start nobody records yet, so that what is owed nothing has nothing to be asked for.
            if !same && (self.started.is_some() || waits) {
                self.standing(now, id, active);
            }
        }
        for id in gone {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.gone = true;
            }
            self.hold_back(id, now);
        }
    }

    fn standing(&mut self, now: Duration, subscription: SubscriptionId, active: bool) {
        let Some(lane) = self.lanes.get_mut(&subscription) else { return };
        if active && !lane.terms.active {
            // A person set it going again: it begins anew.
            lane.forgive();
            self.to_note.insert(subscription);
        }
        lane.terms.active = active;
        lane.disabled &= !active;
        if self.scanning {
            self.told_while_scanning.insert(subscription);
        }
        if active {
            self.due(subscription, now);
        } else {
            self.hold_back(subscription, now);
        }
    }

    fn hurry(&mut self, now: Duration, subscription: SubscriptionId) {
        if let Some(lane) = self.lanes.get_mut(&subscription) {
            lane.not_before = Duration::ZERO;
            lane.breaker.hurry(now);
            self.to_note.insert(subscription);
            self.due(subscription, now);
        }
    }

    fn noted(&mut self, subscriptions: &[SubscriptionId], done: bool) {
        self.noting = false;
        for id in subscriptions {
            if let Some(lane) = self.lanes.get_mut(id) {
                // The next scan tells it again.
                lane.unnoted |= !done;
            }
        }
    }

    fn disabled(&mut self, now: Duration, subscription: SubscriptionId, done: bool) {
        let Some(lane) = self.lanes.get_mut(&subscription) else { return };
        let Some(disabling) = &mut lane.disabling else { return };
        if !done {
            // The next scan asks again; until then nothing is sent.
            disabling.asked = false;
            return;
        }
        if disabling.tell {
            self.actions.push(Action::Announce(posthaste_events::builtin::News::Disabled {
                subscription: lane.terms.name.to_string(),
                reason: disabling.reason.clone(),
            }));
        }
        (lane.disabling, lane.disabled) = (None, true);
        self.standing(now, subscription, false);
    }

    fn claimed(&mut self, now: Duration, subscription: SubscriptionId, claimed: Option<Claimed>) {
        let Some(lane) = self.lanes.get_mut(&subscription) else { return };
        let Some(claiming) = lane.claiming.take() else { return };
        let withdrawn = std::mem::take(&mut lane.withdrawn);
        self.claims -= 1;
        self.window.give(claiming.load);
        lane.out.remove(claiming.load);
        let Some(Claimed { deliveries, next_due }) = claimed else {
            lane.claim_failed(now);
            self.touch(subscription);
            return;
        };
        lane.claim_worked();
        if let Some(wait) = next_due {
            lane.due_at(now.saturating_add(wait));
        }
        let brought = Load { count: deliveries.len(), bytes: deliveries.iter().map(|d| d.payloads.len()).sum() };
        if brought.count >= claiming.load.count && lane.ready.is_empty() && lane.calls < lane.concurrency() {
            lane.ran_dry();
        }
        self.window.take(brought);
        lane.out.add(brought);
        let lease_until = claiming.asked_at.saturating_add(claiming.lease);
        lane.ready.extend(deliveries.into_iter().map(|leased| Ready { leased, claimed_at: now, lease_until }));
        let goes_on =
            lane.takes() && lane.not_before <= now && !matches!(lane.breaker.allowance(now), Allowance::None(_));
        self.turns.charge(&lane.terms.tenant, subscription, brought.count, brought.bytes);
        for delivery in withdrawn {
            self.withdraw(now, delivery);
        }
        let Some(lane) = self.lanes.get(&subscription) else { return };
        if !goes_on || self.stopping.is_some() {
            self.release_ready(subscription, now);
        } else if lane.breaker.is_open() {
            self.keep_probe(subscription, now);
        }
        self.touch(subscription);
    }

    /// Gives back what waits for a call.
    pub(super) fn release_ready(&mut self, subscription: SubscriptionId, now: Duration) {
        let Some(lane) = self.lanes.get_mut(&subscription) else { return };
        lane.cramped = false;
        for ready in std::mem::take(&mut lane.ready) {
            give_back(&mut self.window, &mut self.settlements, lane, &ready.leased, now);
        }
        self.touch(subscription);
    }

    fn renewed(&mut self, now: Duration, id: SubscriptionId, leases: &[LeaseId], until: Duration, kept: &[bool]) {
        let answers: BTreeMap<_, _> = leases.iter().copied().zip(kept.iter().copied()).collect();
        for flying in self.calls.values_mut().filter(|c| c.subscription == id).flat_map(|c| &mut c.flying) {
            // One that was lost goes on: its outcome will be refused, and counted then.
            if answers.get(&flying.lease) == Some(&true) {
                flying.lease_until = until;
            }
        }
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (mut lost, before) = (Load::default(), lane.ready.len());
        lane.ready.retain_mut(|ready| match answers.get(&ready.leased.lease) {
            Some(true) => {
                ready.lease_until = until;
                true
            }
            Some(false) => {
                lost.add(Load { count: 1, bytes: ready.leased.payloads.len() });
                false
            }
            None => true,
        });
        self.window.give(lost);
        lane.out.remove(lost);
        if lane.ready.len() < before {
            self.counts.leases_lost += lost.count as u64;
            self.due(id, now);
        }
    }

    /// Compares what the outbox is owed with what is known, and asks where a hint seems lost.
    fn owed(&mut self, now: Duration, owed: Vec<Owed>) {
        for Owed { subscription, owed, active } in owed {
            let Some(lane) = self.lanes.get_mut(&subscription) else { continue };
            // What was told meanwhile is newer than the answer, which may have been overtaken.
            if lane.terms.active != active
                && lane.disabling.is_none()
                && !self.told_while_scanning.contains(&subscription)
            {
                self.standing(now, subscription, active);
                continue;
            }
            let waits = owed > (lane.ready.len() + lane.flying) as u64;
            let thorough = (u64::from(subscription.0) + self.scans).is_multiple_of(THOROUGH_EVERY);
            if waits && lane.claiming.is_none() && (lane.due.is_none() || thorough) {
                self.due(subscription, now);
            }
        }
    }

    fn stop(&mut self, now: Duration, grace: Duration) {
        self.stopping.get_or_insert(now.saturating_add(grace));
        let ids: Vec<_> = self.lanes.keys().copied().collect();
        for id in ids {
            self.release_ready(id, now);
            let news = self.lanes.get_mut(&id).map(|lane| lane.take_news(now, true));
            self.actions.extend(news.into_iter().flatten().map(Action::Announce));
        }
    }
}

fn view(id: SubscriptionId, lane: &Lane, now: Duration) -> LaneView {
    LaneView {
        id,
        name: lane.terms.name.clone(),
        in_flight: lane.flying,
        circuit: lane.breaker.state(),
        circuit_reason: lane.circuit_reason.clone(),
        failing_for: lane.failing.map(|failing| failing.lasts(now)),
        held_until: lane.not_before,
        slot_in: lane.slot_in(now),
        timeout: lane.terms.timeout,
        batch_wait: lane.terms.limits.wait,
        tally: lane.tally,
    }
}

/// Gives a delivery back that no call was made for.
pub(super) fn give_back(
    window: &mut Window,
    settlements: &mut Vec<Settlement>,
    lane: &mut Lane,
    leased: &Leased,
    now: Duration,
) {
    let load = Load { count: 1, bytes: leased.payloads.len() };
    window.give(load);
    lane.out.remove(load);
    lane.due_at(now);
    settlements.push(released(leased.lease, leased.delivery));
}

pub(super) const fn released(lease: LeaseId, delivery: DeliveryId) -> Settlement {
    Settlement { lease, delivery, attempt: None, then: Then::Release }
}
