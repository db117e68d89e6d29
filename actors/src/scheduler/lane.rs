//! One subscription as the scheduler sees it: what it has ready and in flight, when it is worth a claim, and how much.

use super::circuit::{Allowance, Breaker};
use super::pace::Pace;
use super::vitals::{Failing, Noted};
use super::window::Load;
use super::words::{CallId, Refusals, Start, Tally, Terms};
use posthaste_events::builtin::News;
use posthaste_events::outcome::{REASON_MAX, cut};
use posthaste_events::retry::RETRY_AFTER_MAX;
use posthaste_events::{AttemptOutcome, DeliveryId, Facts};
use posthaste_outbox::{LeaseId, Leased, Vitals};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How many deliveries are kept ready behind those in flight, at first.
const AHEAD_MIN: usize = 16;
/// And at most, once the receiver has shown that it is fast.
const AHEAD_MAX: usize = 256;
/// After so many failures in a row, with no success between, a receiver is taken to be down.
const DOWN_AFTER: u32 = 8;
/// Calls at once, and deliveries kept ready, for one that is down: enough to see it come back.
const DOWN_CALLS: usize = 4;
/// How many are claimed for a probe: one is tried, those whose time is over die, the others go back.
const PROBE_CLAIM: usize = 64;
/// Deaths within this time make one piece of news.
const NEWS_OVER: Duration = Duration::from_secs(1);
/// The longest wait after claims that failed one after another.
const CLAIM_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A batch that is not full waits at most so long, whatever its deliveree wishes.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Under a rate limit, so long before a call may begin its delivery is claimed.
const CLAIM_EARLY: Duration = Duration::from_millis(250);

/// Why a delivery was dead at birth.
pub(crate) const BACKLOG: &str = "backlog";

/// A delivery that was claimed and waits for a call.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) leased: Leased,
    pub(super) claimed_at: Duration,
    pub(super) lease_until: Duration,
}

/// A delivery in flight.
#[derive(Debug)]
pub(super) struct Flying {
    pub(super) lease: LeaseId,
    pub(super) delivery: DeliveryId,
    pub(super) attempt: u32,
    /// For how long it had been owed when it was claimed.
    pub(super) owed_for: Duration,
    pub(super) claimed_at: Duration,
    pub(super) facts: Arc<Facts>,
    pub(super) bytes: usize,
    pub(super) lease_until: Duration,
}

/// A claim under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claiming {
    /// What it may bring; counted as out until it is known.
    pub(super) load: Load,
    pub(super) asked_at: Duration,
    pub(super) lease: Duration,
}

/// Deliveries that died within a second.
#[derive(Debug)]
struct Obituary {
    tell_at: Duration,
    delivery: DeliveryId,
    reason: String,
    count: u64,
}

/// A subscription.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) terms: Terms,
    /// No longer configured: kept only until nothing of it is in flight.
    pub(super) gone: bool,
    /// When a claim is worth it; `None`: nothing is known to be owed.
    pub(super) due: Option<Duration>,
    /// The claim under way.
    pub(super) claiming: Option<Claiming>,
    /// What was cancelled meanwhile, and so is not to be called with.
    pub(super) withdrawn: BTreeSet<DeliveryId>,
    pub(super) ready: VecDeque<Ready>,
    pub(super) calls: usize,
    /// Everything out: claiming, ready and in flight.
    pub(super) out: Load,
    /// Deliveries in flight.
    pub(super) flying: usize,
    /// Nothing begins before this.
    pub(super) not_before: Duration,
    pub(super) breaker: Breaker,
    /// Counts how often it was forgiven: a call that began before says nothing of how it fares now.
    pub(super) epoch: u64,
    /// Why the circuit opened, where it is not closed.
    pub(super) circuit_reason: Option<Arc<str>>,
    /// What failed since a delivery arrived last.
    pub(super) failing: Option<Failing>,
    /// As much of `failing` as the outbox was told.
    pub(super) noted: Noted,
    /// The outbox failed to note how it fares.
    pub(super) unnoted: bool,
    /// What its rate limit goes by.
    pub(super) pace: Pace,
    /// A reason for which it is to be disabled, until the outbox did so.
    pub(super) disabling: Option<Disabling>,
    /// Whether the outbox did so, and nobody set it going again: what is still under way ends as while it was asked.
    pub(super) disabled: bool,
    /// The entry in the core's timers.
    pub(super) timer: Option<Duration>,
    /// Whether it stands in the core's list of lanes to look at.
    pub(super) touched: bool,
    pub(super) tally: Tally,
    /// Its share of the window is taken: a batch that is not full cannot grow, so that waiting for more is of no use.
    pub(super) cramped: bool,
    /// Whether the odd one of the next claim is for what was never tried.
    odd_is_fresh: bool,
    ahead: usize,
    failures: u32,
    claim_failures: u32,
    obituary: Option<Obituary>,
    /// Those that were dead at birth.
    refused: Option<Obituary>,
}

/// A disabling that the outbox has not yet confirmed.
#[derive(Debug, Clone)]
pub(super) struct Disabling {
    pub(super) reason: String,
    /// Whether the daemon may make an event of it.
    pub(super) tell: bool,
    /// Whether the outbox was asked and has not answered.
    pub(super) asked: bool,
}

impl Lane {
    /// One that fares as its terms say, from what the outbox noted last.
    pub(super) fn new(terms: Terms, pace: Pace, now: Duration) -> Self {
        let Vitals { failing_for, failures, held_for, open_for } = terms.vitals;
        let failing = failing_for.map(|so_long| Failing::restored(so_long, failures, now));
        let open = open_for.zip(terms.circuit);
        let breaker = open.map_or(Breaker::CLOSED, |(left, circuit)| Breaker::Open {
            until: now.saturating_add(left.min(circuit.pause)),
        });
        let circuit_reason = open.map(|_| Arc::from(why_open(failing.as_ref(), now, "before the daemon started")));
        Self {
            gone: false,
            due: None,
            claiming: None,
            withdrawn: BTreeSet::new(),
            ready: VecDeque::new(),
            calls: 0,
            out: Load { count: 0, bytes: 0 },
            flying: 0,
            not_before: if held_for.is_zero() {
                Duration::ZERO
            } else {
                now.saturating_add(held_for.min(RETRY_AFTER_MAX))
            },
            breaker,
            epoch: 0,
            circuit_reason,
            failing,
            noted: failing.map(|f| f.noted()),
            unnoted: false,
            pace,
            disabling: None,
            disabled: false,
            timer: None,
            touched: false,
            tally: Tally { delivered: 0, failed: 0, rejected: 0, unattempted: 0, dead: 0, took: Duration::ZERO },
            cramped: false,
            odd_is_fresh: true,
            ahead: AHEAD_MIN,
            failures: 0,
            claim_failures: 0,
            obituary: None,
            refused: None,
            terms,
        }
    }

    /// Whether deliveries may begin at all.
    pub(super) const fn takes(&self) -> bool {
        self.terms.active && !self.gone && self.disabling.is_none()
    }

    /// Whether it is disabled, or about to be: what it is owed is held, and none of it dies.
    pub(super) const fn keeps(&self) -> bool {
        self.disabling.is_some() || (self.disabled && !self.terms.active)
    }

    /// Something is due at `at`, perhaps sooner than was known.
    pub(super) fn due_at(&mut self, at: Duration) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether nothing of it waits for anything but new work: there is no need to look at it.
    pub(super) fn rests(&self) -> bool {
        let has_work = self.due.is_some() || self.claiming.is_some() || !self.ready.is_empty() || self.calls > 0;
        let ends = self.gone || self.disabling.is_some();
        !has_work && !ends && self.obituary.is_none() && self.refused.is_none()
    }

    /// How many deliveries are worth a claim now; 0: none.
    pub(super) fn appetite(&self, now: Duration) -> usize {
        let idle = self.claiming.is_none() && self.not_before <= now;
        if !self.takes() || !idle || self.due.is_none_or(|due| due > now) {
            return 0;
        }
        let paced = self.paced(now);
        match self.breaker.allowance(now) {
            Allowance::None(_) => 0,
            _ if paced == 0 => 0,
            Allowance::One if self.ready.is_empty() => PROBE_CLAIM,
            Allowance::One => 0,
            Allowance::Any if self.ready.len() > self.ahead() / 2 && self.batch_is_full() => 0,
            Allowance::Any => {
                let batch = self.terms.limits.events.max(1);
                let at_once = self.concurrency().saturating_mul(batch);
                // Behind the calls at least one whole batch, so that the next call need not be a small one.
                let ahead = self.ahead().max(batch);
                at_once.saturating_add(ahead).saturating_sub(self.ready.len() + self.flying).min(paced)
            }
        }
    }

    /// How many deliveries the rate limit lets be claimed: what can begin soon, beside what is ready.
    fn paced(&self, now: Duration) -> usize {
        let open = self.pace.open(self.terms.rate.as_ref(), self.calls, now.saturating_add(CLAIM_EARLY));
        open.saturating_sub(self.calls_ready()).saturating_mul(self.terms.limits.events.max(1))
    }

    /// How long it takes at most until a call may begin by the rate limit, with what is ready before it.
    pub(super) fn slot_in(&self, now: Duration) -> Duration {
        let Some(rate) = self.terms.rate.as_ref() else { return Duration::ZERO };
        let held = self.calls_ready();
        if self.pace.open(Some(rate), self.calls, now) > held {
            return Duration::ZERO;
        }
        // Where a call must end first, that frees its slot a span later.
        let opens = self.pace.opens_at(Some(rate), self.calls, held, now);
        opens.map_or_else(|| self.terms.timeout.saturating_add(rate.per), |at| at.saturating_sub(now))
    }

    /// How many calls what is ready makes.
    fn calls_ready(&self) -> usize {
        self.ready.len().div_ceil(self.terms.limits.events.max(1))
    }

    /// Whether a call may begin.
    pub(super) fn may_call(&self, now: Duration) -> bool {
        self.takes()
            && !self.ready.is_empty()
            && self.calls < self.concurrency()
            && self.not_before <= now
            && self.pace.open(self.terms.rate.as_ref(), self.calls, now) > 0
            && match self.breaker.allowance(now) {
                // A probe waits for nobody.
                Allowance::One => true,
                Allowance::Any => self.batch_is_full() || self.batch_until().is_none_or(|until| until <= now),
                Allowance::None(_) => false,
            }
    }

    /// Whether what is ready makes as large a call as there may be, or one that cannot grow.
    fn batch_is_full(&self) -> bool {
        let limits = self.terms.limits;
        let mut sizes =
            self.ready.iter().take(limits.events.max(1)).map(|r| r.leased.payloads.len_of(self.terms.takes));
        self.cramped
            || self.ready.len() >= limits.events
            || sizes.try_fold(0_usize, |sum, size| Some(sum + size).filter(|sum| *sum < limits.bytes)).is_none()
    }

    /// Until when a batch that is not full waits for more; `None`: it does not, or there is nothing ready.
    fn batch_until(&self) -> Option<Duration> {
        let wait = Some(self.terms.limits.wait.min(WAIT_MAX)).filter(|wait| !wait.is_zero())?;
        // The first was claimed first.
        Some(self.ready.front()?.claimed_at.saturating_add(wait))
    }

    /// When something changes by itself, later than now.
    pub(super) fn next_time(&self, now: Duration) -> Option<Duration> {
        let mut claim = self.due.filter(|_| self.takes() && self.claiming.is_none());
        if let Some(at) = &mut claim {
            *at = (*at).max(self.not_before);
            match self.breaker.allowance(now) {
                Allowance::None(Some(until)) => *at = (*at).max(until),
                Allowance::None(None) => claim = None,
                Allowance::One | Allowance::Any => {}
            }
        }
        let rate = self.terms.rate.as_ref();
        if claim.is_some() && self.paced(now) == 0 {
            let opens = self.pace.opens_at(rate, self.calls, self.calls_ready(), now);
            claim = claim.zip(opens).map(|(at, opens)| at.max(opens.saturating_sub(CLAIM_EARLY)));
        }
        let begins = self.pace.opens_at(rate, self.calls, 0, now).filter(|_| self.takes() && !self.ready.is_empty());
        let news = [&self.obituary, &self.refused].into_iter().flatten().map(|o| o.tell_at);
        let batch = self.batch_until().filter(|_| self.takes());
        news.chain([claim, batch, begins].into_iter().flatten().filter(|at| *at > now)).min()
    }

    /// Takes the deliveries of the next call.
    pub(super) fn take_call(&mut self) -> Vec<Ready> {
        let limits = self.terms.limits;
        self.cramped = false;
        let (mut taken, mut bytes) = (Vec::with_capacity(limits.events.clamp(1, self.ready.len().max(1))), 0_usize);
        while let Some(next) = self.ready.front() {
            let longer = bytes.saturating_add(next.leased.payloads.len_of(self.terms.takes));
            if !taken.is_empty() && (taken.len() >= limits.events || longer > limits.bytes) {
                break;
            }
            bytes = longer;
            taken.extend(self.ready.pop_front());
        }
        taken
    }

    /// Slots stand empty although more is due: claims bring too little at a time.
    pub(super) fn ran_dry(&mut self) {
        self.ahead = (self.ahead * 2).min(AHEAD_MAX);
    }

    /// Counts an attempt.
    pub(super) const fn count(&mut self, kind: AttemptOutcome) {
        match kind {
            AttemptOutcome::Unattempted => self.tally.unattempted += 1,
            AttemptOutcome::Delivered => self.tally.delivered += 1,
            AttemptOutcome::Failed => self.tally.failed += 1,
            AttemptOutcome::Rejected => self.tally.rejected += 1,
        }
    }

    /// Learns from an attempt how the receiver is; true where that closed an open circuit.
    pub(super) fn learn(&mut self, kind: AttemptOutcome, call: CallId, now: Duration) -> bool {
        match kind {
            AttemptOutcome::Unattempted => false,
            AttemptOutcome::Delivered => {
                self.failures = 0;
                self.failing = None;
                self.breaker.arrived(call, now, self.terms.circuit.as_ref())
            }
            AttemptOutcome::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.failing = Some(Failing::one_more(self.failing, now));
                self.ahead = AHEAD_MIN;
                false
            }
            AttemptOutcome::Rejected => {
                // It did not arrive, and yet the receiver is there: that is all a probe asks.
                self.failures = 0;
                self.breaker == Breaker::Probing { call }
                    && self.breaker.arrived(call, now, self.terms.circuit.as_ref())
            }
        }
    }

    /// What it was is said of no one who came since: another receiver, or one that a person set going again.
    pub(super) fn forgive(&mut self) {
        self.epoch += 1;
        (self.failing, self.failures) = (None, 0);
        (self.breaker, self.circuit_reason) = (Breaker::CLOSED, None);
    }

    /// How it fares, as it is noted; what the outbox is told of by itself is then known to be told.
    pub(super) fn note(&mut self, now: Duration) -> Vitals {
        (self.noted, self.unnoted) = (self.failing.map(|f| f.noted()), false);
        Vitals {
            failing_for: self.failing.map(|f| f.lasts(now)),
            failures: self.failing.map_or(0, |f| f.failures),
            held_for: self.not_before.saturating_sub(now),
            open_for: self.breaker.open_for(now),
        }
    }

    /// Whether the outbox must be told how it fares.
    pub(super) fn is_to_note(&self) -> bool {
        self.unnoted || self.noted != self.failing.map(|f| f.noted())
    }

    /// How many of a claim are for what was never tried, where so many wait: half, and the odd one by turns, so that neither
    /// kind ever waits for the other to end, however small the claims are.
    pub(super) const fn fresh_min(&mut self, count: usize) -> usize {
        let fresh = (count + self.odd_is_fresh as usize) / 2;
        self.odd_is_fresh = !self.odd_is_fresh;
        fresh
    }

    pub(super) const fn is_down(&self) -> bool {
        self.failures >= DOWN_AFTER
    }

    /// Calls at once: as configured, fewer while its receiver is down or has only just come back.
    pub(super) fn concurrency(&self) -> usize {
        let most = self.terms.concurrency.clamp(1, self.breaker.calls_max());
        if self.is_down() { most.min(DOWN_CALLS) } else { most }
    }

    fn ahead(&self) -> usize {
        if self.is_down() { DOWN_CALLS } else { self.ahead }
    }

    /// A claim failed: the next one waits, longer each time.
    pub(super) fn claim_failed(&mut self, now: Duration) {
        let wait = Duration::from_millis(100).saturating_mul(1 << self.claim_failures.min(6)).min(CLAIM_PAUSE_MAX);
        self.claim_failures = self.claim_failures.saturating_add(1);
        self.due = Some(now.saturating_add(wait));
    }

    pub(super) const fn claim_worked(&mut self) {
        self.claim_failures = 0;
    }

    /// A delivery died; news of it is told with the others of its second.
    pub(super) fn died(&mut self, delivery: DeliveryId, reason: &str, now: Duration) {
        let tell_at = now.saturating_add(NEWS_OVER);
        self.obituary
            .get_or_insert_with(|| Obituary { tell_at, delivery, reason: reason.to_owned(), count: 0 })
            .count += 1;
    }

    /// Deliveries were dead at birth.
    pub(super) fn refuse(&mut self, refusals: Refusals, now: Duration) {
        self.tally.dead = self.tally.dead.saturating_add(refusals.count);
        let tell_at = now.saturating_add(NEWS_OVER);
        let Some(delivery) = refusals.first else { return };
        let new = || Obituary { tell_at, delivery, reason: BACKLOG.to_owned(), count: 0 };
        self.refused.get_or_insert_with(new).count += refusals.told;
    }

    /// The news of deaths that is due, or all of it.
    pub(super) fn take_news(&mut self, now: Duration, all: bool) -> impl Iterator<Item = News> + use<> {
        let due = |obituary: &mut Option<Obituary>| obituary.take_if(|o| all || o.tell_at <= now);
        let name = Arc::clone(&self.terms.name);
        let due = [due(&mut self.obituary), due(&mut self.refused)];
        due.into_iter().flatten().map(move |Obituary { delivery, reason, count, .. }| News::Dead {
            subscription: name.to_string(),
            event: delivery.event.to_string(),
            delivery: delivery.to_string(),
            reason,
            count,
        })
    }

    /// The time that its calls may take, for a call that begins now.
    pub(super) const fn deadline(&self, now: Duration) -> Duration {
        now.saturating_add(self.terms.timeout)
    }
}

/// Why a circuit is open.
pub(super) fn why_open(failing: Option<&Failing>, now: Duration, last: &str) -> String {
    let (failures, lasts) = failing.map_or((0, 0), |f| (f.failures, f.lasts(now).as_secs()));
    cut(format!("circuit: {failures} attempts failed and none arrived for {lasts}s, the last: {last}"), REASON_MAX)
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Underway {
    pub(super) subscription: posthaste_events::SubscriptionId,
    pub(super) began: super::words::Now,
    /// What has no outcome yet.
    pub(super) flying: Vec<Flying>,
    /// Whether all that it delivers are the daemon's own events.
    pub(super) ours: bool,
    /// The mark of the settings that it began by: another receiver has another.
    pub(super) mark: u64,
    /// That of its lane when it began.
    pub(super) epoch: u64,
    /// The same as that of its call.
    pub(super) start: Start,
    /// Whether it was withdrawn before it began.
    pub(super) withdrawn: bool,
}

/// The id of calls, counted up.
#[derive(Debug, Default)]
pub(super) struct CallIds(u64);

impl CallIds {
    pub(super) const fn next(&mut self) -> CallId {
        self.0 += 1;
        CallId(self.0)
    }
}
