//! What the core does once it has taken its inputs: begin calls, claim for whoever's turn it is, settle, set its alarm.

use super::core::{Core, give_back, released};
use super::lane::{Claiming, Flying, Ready, Underway};
use super::window::{COUNT_MAX, Load};
use super::words::{Action, Call, Now, Start};
use posthaste_events::{Origin, SubscriptionId};
use posthaste_outbox::{LeaseId, Want};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the outbox is asked for what a lost hint was about.
const SCAN_EVERY: Duration = Duration::from_secs(1);
/// How long a lease holds beyond the time that a call may take.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// A call begins only while its lease holds so much longer than the call may take.
const LEASE_SLACK: Duration = Duration::from_secs(5);
/// Claims under way at once; each may bring one delivery more than fits.
const CLAIMS_MAX: usize = 16;
/// Settlements that the outbox has not answered; beyond, nothing is claimed.
const UNSETTLED_MAX: usize = 2 * COUNT_MAX;

impl Core {
    /// Lets everything happen that may happen now.
    pub(super) fn turn(&mut self, now: Now) {
        let at = now.elapsed;
        while let Some((_, id)) = self.timers.first().copied().filter(|(time, _)| *time <= at) {
            self.timers.pop_first();
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.timer = None;
            }
            self.touch(id);
        }
        if self.scan_at <= at {
            self.tick(at);
        }
        for id in std::mem::take(&mut self.touched) {
            self.look_at(now, id);
        }
        if self.stopping.is_some_and(|end| end <= at) {
            self.abort(at);
        }
        // Before the claims, so that what goes back can be claimed by them.
        if !self.settlements.is_empty() {
            self.unsettled += self.settlements.len();
            let (settlements, told) = (std::mem::take(&mut self.settlements), std::mem::take(&mut self.told));
            self.actions.push(Action::Settle { settlements, told });
        }
        let cramped = self.claim(at);
        for id in cramped {
            self.look_at(now, id);
        }
        self.note(at);
        let idle =
            !self.noting && self.calls.is_empty() && self.claims == 0 && self.unsettled == 0 && self.again.is_empty();
        if self.stopping.is_some() && idle && !self.stopped {
            self.stopped = true;
            self.actions.push(Action::Stopped);
        }
        self.wake(at);
    }

    /// Tells the outbox how those fare of whom that changed; one answer after another, so that none overtakes a newer one.
    fn note(&mut self, now: Duration) {
        if self.noting || self.to_note.is_empty() {
            return;
        }
        let lanes = &mut self.lanes;
        let told = std::mem::take(&mut self.to_note).into_iter();
        let vitals: Vec<_> = told.filter_map(|id| Some((id, lanes.get_mut(&id)?.note(now)))).collect();
        if !vitals.is_empty() {
            self.noting = true;
            self.actions.push(Action::Note(vitals));
        }
    }

    /// Once a second: what a lost hint or a failed answer left lying.
    fn tick(&mut self, now: Duration) {
        self.scan_at = now.saturating_add(SCAN_EVERY);
        self.scans += 1;
        if !self.scanning && self.stopping.is_none() {
            self.scanning = true;
            self.actions.push(Action::Scan);
        }
        // Of these the outbox may already have taken some: it answers that their leases are lost.
        self.settlements.append(&mut self.again);
        self.told.append(&mut self.told_again);
        self.to_note.extend(self.lanes.iter().filter(|(_, lane)| lane.is_to_note()).map(|(id, _)| *id));
        // Of thousands most have nothing to do.
        let busy: Vec<_> = self.lanes.iter().filter(|(_, lane)| !lane.rests()).map(|(id, _)| *id).collect();
        for id in busy {
            self.ask_to_disable(id);
            self.touch(id);
        }
        self.renew(now);
    }

    fn renew(&mut self, now: Duration) {
        let mut wanted: BTreeMap<SubscriptionId, Vec<LeaseId>> = BTreeMap::new();
        for (id, lane) in self.lanes.iter().filter(|(_, lane)| !lane.ready.is_empty()) {
            let needed = lane.deadline(now).saturating_add(LEASE_SLACK);
            let short = lane.ready.iter().filter(|r| r.lease_until < needed).map(|r| r.leased.lease);
            let short: Vec<_> = short.collect();
            if !short.is_empty() {
                wanted.insert(*id, short);
            }
        }
        let needed = now.saturating_add(LEASE_SLACK);
        for call in self.calls.values() {
            let short = call.flying.iter().filter(|f| f.lease_until < needed).map(|f| f.lease);
            wanted.entry(call.subscription).or_default().extend(short);
        }
        for (subscription, leases) in wanted {
            let Some(lane) = self.lanes.get(&subscription).filter(|_| !leases.is_empty()) else { continue };
            let lease = lane.terms.timeout.saturating_add(LEASE_MARGIN);
            self.actions.push(Action::Renew { subscription, leases, lease, until: now.saturating_add(lease) });
        }
    }

    /// Begins the calls of a subscription, and puts it in the ring where it is worth a claim.
    fn look_at(&mut self, now: Now, id: SubscriptionId) {
        self.begin_calls(now, id);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.touched = false;
        self.actions.extend(lane.take_news(now.elapsed, self.stopping.is_some()).map(Action::Announce));
        let clear = lane.pace.is_clear(lane.terms.rate.as_ref(), now.elapsed);
        if lane.gone && lane.calls == 0 && lane.claiming.is_none() && clear {
            self.turns.leave(&lane.terms.tenant, id);
            if let Some(at) = lane.timer {
                self.timers.remove(&(at, id));
            }
            let news = self.lanes.remove(&id).map(|mut lane| lane.take_news(now.elapsed, true));
            self.actions.extend(news.into_iter().flatten().map(Action::Announce));
            return;
        }
        if lane.appetite(now.elapsed) > 0 {
            self.turns.join(&lane.terms.tenant, id);
        }
        let time = lane.next_time(now.elapsed);
        if time != lane.timer {
            if let Some(old) = std::mem::replace(&mut lane.timer, time) {
                self.timers.remove(&(old, id));
            }
            self.timers.extend(time.map(|at| (at, id)));
        }
    }

    fn begin_calls(&mut self, now: Now, id: SubscriptionId) {
        let Some(lane) = self.lanes.get_mut(&id).filter(|_| self.stopping.is_none()) else { return };
        let mut calls = Vec::new();
        while lane.may_call(now.elapsed) {
            let deadline = lane.deadline(now.elapsed);
            let (mut deliveries, mut flying) = (Vec::new(), Vec::new());
            for Ready { leased, claimed_at, lease_until } in lane.take_call() {
                if lease_until < deadline {
                    // It could run out while the call is under way, and be given to another then.
                    give_back(&mut self.window, &mut self.settlements, lane, &leased, now.elapsed);
                    continue;
                }
                flying.push(Flying {
                    lease: leased.lease,
                    delivery: leased.delivery,
                    attempt: leased.attempt,
                    owed_for: leased.owed_for,
                    claimed_at,
                    facts: leased.facts.clone(),
                    bytes: leased.payloads.len(),
                    lease_until,
                });
                deliveries.push(leased);
            }
            if flying.is_empty() {
                continue;
            }
            let call = self.ids.next();
            let ours = flying.iter().all(|f| f.facts.origin == Origin::Daemon);
            lane.breaker.began(call);
            lane.calls += 1;
            lane.flying += flying.len();
            let (mark, epoch) = (lane.terms.mark, lane.epoch);
            let (start, withdrawn) = (Start::default(), false);
            calls.push(Call { id: call, deadline: lane.terms.timeout, deliveries, start: start.clone() });
            let underway = Underway { subscription: id, began: now, flying, ours, mark, epoch, start, withdrawn };
            self.calls.insert(call, underway);
        }
        if !calls.is_empty() {
            self.actions.push(Action::Deliver { subscription: id, calls });
        }
    }

    /// Claims for whoever's turn it is, as far as there is room. Those whose batches wait for more that they cannot have.
    fn claim(&mut self, now: Duration) -> Vec<SubscriptionId> {
        let mut cramped = Vec::new();
        while self.stopping.is_none()
            && self.claims < CLAIMS_MAX
            && self.unsettled < UNSETTLED_MAX
            && !self.window.is_full()
            && let Some(id) = self.turns.next()
        {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            // One that has its share already is looked at again when something of its own comes back.
            let wished = lane.appetite(now);
            let Some(load) = self.window.share(lane.out, wished, lane.is_down()) else {
                if wished > 0 && !lane.ready.is_empty() {
                    lane.cramped = true;
                    cramped.push(id);
                }
                continue;
            };
            let lease = lane.terms.timeout.saturating_add(LEASE_MARGIN);
            lane.claiming = Some(Claiming { load, asked_at: now, lease });
            lane.due = None;
            lane.out.add(load);
            self.window.take(load);
            self.claims += 1;
            let fresh_min = if self.unreserved { 0 } else { lane.fresh_min(load.count) };
            let want = Want { count: load.count, fresh_min, bytes: load.bytes, lease };
            self.actions.push(Action::Claim { subscription: id, want });
        }
        cramped
    }

    /// The grace of a stop is over: what is in flight goes back.
    fn abort(&mut self, now: Duration) {
        let calls = std::mem::take(&mut self.calls);
        if calls.is_empty() {
            return;
        }
        self.actions.push(Action::Abort(calls.keys().copied().collect()));
        for call in calls.into_values() {
            let Some(lane) = self.lanes.get_mut(&call.subscription) else { continue };
            lane.calls -= 1;
            for flying in call.flying {
                let load = Load { count: 1, bytes: flying.bytes };
                self.window.give(load);
                lane.out.remove(load);
                lane.flying -= 1;
                self.settlements.push(released(flying.lease, flying.delivery));
                lane.due_at(now);
            }
        }
    }

    fn wake(&mut self, now: Duration) {
        let timer = self.timers.first().map(|(at, _)| *at);
        let next =
            [timer, self.stopping.filter(|end| *end > now)].into_iter().flatten().fold(self.scan_at, Duration::min);
        if self.woken_at.is_none_or(|at| at <= now || next < at) {
            self.woken_at = Some(next);
            self.actions.push(Action::WakeAt(next));
        }
    }
}
