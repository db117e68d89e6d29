//! The outbox in memory: nothing is kept over a restart, nothing is synced.
//!
//! It is what the conformance suite holds the other stores against, what simulations of the scheduler run on, and, in
//! its forgetting mode, the ceiling in benchmarks: the same daemon with its store taken out.

mod inner;
mod replays;

use crate::definitions;
use crate::ledger::{Ledger, Part, Place};
use crate::limits::Limits;
use crate::listing::{self, Kept, Owed};
use crate::refusals::Refusals;
use crate::steps::{self, Moment};
use crate::story::{self, Entry, UNLISTED};
use crate::time::{OutboxTime, millis, millis_up};
use crate::*;
use inner::{Inner, told};
use posthaste_events::State;
use posthaste_events::seams::{Clock, Random};
use query::*;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many events one call of [`Outbox::sweep`] looks at.
const SWEEP_MAX: usize = 1_000;

/// An [`Outbox`] that keeps everything in memory. Cheap to clone: clones are the same outbox.
#[derive(Clone)]
pub struct MemoryOutbox(Arc<Shared>);

struct Shared {
    time: OutboxTime,
    random: Arc<dyn Random>,
    limits: Limits,
    /// Whether events are dropped once they are settled, and stories are not kept.
    forgetting: bool,
    inner: Mutex<Inner>,
    tell: Mutex<Option<Arc<Tell>>>,
    refusals: Refusals,
}

impl MemoryOutbox {
    /// An empty outbox that keeps what is settled for `limits.retention`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>, limits: Limits) -> Self {
        Self::made(clock, random, limits, false)
    }

    /// An empty outbox that drops each event once it is settled, and can tell nothing of it afterwards.
    #[must_use]
    pub fn forgetting(clock: Arc<dyn Clock>, random: Arc<dyn Random>, limits: Limits) -> Self {
        Self::made(clock, random, limits, true)
    }

    fn made(clock: Arc<dyn Clock>, random: Arc<dyn Random>, limits: Limits, forgetting: bool) -> Self {
        let inner = Mutex::new(Inner { ledger: Ledger::new(1), ..Inner::default() });
        let time = OutboxTime::new(clock, 0);
        Self(Arc::new(Shared {
            time,
            random,
            limits,
            forgetting,
            inner,
            tell: Mutex::new(None),
            refusals: Refusals::default(),
        }))
    }

    /// Runs `work` on the state when the future is first polled, then gives the hints that it left.
    fn run<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &mut Inner, &mut Vec<SubscriptionId>) -> Result<T, E> + Send + 'static,
    ) -> BoxFuture<Result<T, E>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let mut due = Vec::new();
            let (result, refused) = {
                let mut inner = shared.inner();
                if inner.closed {
                    return Err(StoreError::Closed.into());
                }
                (work(&shared, &mut inner, &mut due), std::mem::take(&mut inner.refused))
            };
            shared.refusals.tell(&refused);
            shared.hint(&due);
            result
        })
    }
}

impl Shared {
    // A panic while the lock was held leaves nothing half done that a later call could not stand.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self) -> Moment {
        Moment { now: self.time.now(), wall: self.time.wall() }
    }

    fn hint(&self, due: &[SubscriptionId]) {
        let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(tell) = tell.filter(|_| !due.is_empty()) {
            tell(due);
        }
    }

    fn enter(&self, inner: &mut Inner, delivery: (u64, SubscriptionId), entry: Entry) {
        inner.ledger.apply(delivery.1, delivery.0, entry.progress(), entry.stand());
        self.keep(inner, delivery, entry);
    }

    /// Cancels deliveries that are owed; a lease on one goes on.
    fn cancel(&self, inner: &mut Inner, owed: &[(SubscriptionId, u64)], reason: &str, at: Moment) {
        for (subscription, sequence) in owed.iter().copied() {
            let progress = inner.ledger.look(subscription, sequence).map(|(_, p)| p).unwrap_or_default();
            if let Some(entry) = steps::cancelled(progress, reason, at) {
                inner.ledger.apply_wish(subscription, sequence, entry.progress(), entry.stand());
                self.keep(inner, (sequence, subscription), entry);
            }
        }
    }

    /// Keeps an entry for whoever looks, or forgets what is settled.
    fn keep(&self, inner: &mut Inner, delivery: (u64, SubscriptionId), entry: Entry) {
        if self.forgetting {
            inner.drop_if_settled(delivery.0);
        } else {
            inner.stories.entry(delivery).or_default().push(entry);
        }
    }
}

impl Outbox for MemoryOutbox {
    fn amend(&self, changes: Vec<Amend>) -> BoxFuture<Result<Roll, StoreError>> {
        self.run(move |shared, inner, due| {
            due.extend(inner.ledger.amend(&changes, shared.time.now()).changed);
            Ok(inner.ledger.roll_of(&changes, shared.time.now()))
        })
    }

    fn enroll(&self, wanted: Vec<Enrolment>) -> BoxFuture<Result<Roll, StoreError>> {
        self.run(move |shared, inner, due| {
            due.extend(inner.ledger.enroll(wanted, shared.time.now()).changed);
            Ok(inner.ledger.roll(shared.time.now()))
        })
    }

    fn record(&self, events: Vec<Prepared>, epoch: Epoch) -> BoxFuture<Result<Vec<Recorded>, RecordError>> {
        self.run(move |shared, inner, due| {
            if epoch != inner.ledger.epoch() {
                return Err(RecordError::StaleEpoch);
            }
            let now = shared.time.now();
            inner.forget_keys(now);
            let fresh = (1..).map(|n| inner.last_sequence + n);
            let id = |sequence| EventId::new(now, sequence, shared.random.next() as u32);
            let ids: Vec<EventId> = fresh.take(events.len()).map(id).collect();
            let known = inner.known(&events, now, &ids)?;
            let mut hinted = HashSet::new();
            let mut answers = Vec::with_capacity(events.len());
            for ((event, known), id) in events.into_iter().zip(known).zip(ids) {
                answers.push(known.unwrap_or_else(|| inner.record(shared, event, id, &mut hinted)));
                inner.last_sequence = id.sequence();
            }
            due.extend(hinted);
            due.sort_unstable();
            Ok(answers)
        })
    }

    fn claim(&self, subscription: SubscriptionId, want: Want) -> BoxFuture<Result<Claimed, StoreError>> {
        self.run(move |shared, inner, _| {
            let now = shared.time.now();
            let until = now.saturating_add(millis_up(want.lease));
            let (mut deliveries, mut bytes) = (Vec::new(), 0_usize);
            let part = Part::of(&want);
            inner.learn(subscription, part, now);
            for taken in inner.ledger.claim(subscription, part, now, until) {
                let Some(kept) = inner.events.get(&taken.sequence) else { continue };
                bytes = bytes.saturating_add(kept.event.payloads.len());
                if bytes > want.bytes && !deliveries.is_empty() {
                    inner.ledger.release(taken.lease);
                    continue;
                }
                let held = inner.ledger.account(subscription).map(|a| &a.held);
                let since = taken.progress.since.map_or(kept.event.id.millis(), std::num::NonZeroU64::get);
                let owed_for = now.saturating_sub(since).saturating_sub(held.map_or(0, |h| h.within(since, now)));
                deliveries.push(Leased {
                    lease: taken.lease,
                    delivery: DeliveryId { event: kept.event.id, subscription },
                    attempt: taken.progress.attempts.saturating_add(1),
                    owed_for: Duration::from_millis(owed_for),
                    facts: Arc::clone(&kept.event.facts),
                    payloads: kept.event.payloads.clone(),
                });
            }
            let next_due = inner.ledger.next_due(subscription, now).map(Duration::from_millis);
            Ok(Claimed { deliveries, next_due })
        })
    }

    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.run(move |shared, inner, due| {
            let at = shared.moment();
            let settle = |settlement: Settlement| {
                let (id, key) = (settlement.delivery, settlement.lease);
                let about = (id.event.sequence(), id.subscription);
                let lease = inner.ledger.lease(key, at.now).filter(|l| (l.sequence, l.subscription) == about);
                let Some(lease) = lease.copied() else { return Settled::LeaseLost };
                let asked = steps::asked(&settlement.then);
                let answer = match steps::settle(&lease, settlement, at) {
                    None => {
                        inner.ledger.release(key);
                        Settled::Applied
                    }
                    Some(entry) => {
                        let after = entry.after;
                        shared.enter(inner, about, entry);
                        steps::settled(asked, after)
                    }
                };
                let waited = lease.wish == Some(Wish::Retry) || inner.ledger.is_next_in_line(id.subscription, at.now);
                if waited && due.last() != Some(&id.subscription) {
                    due.push(id.subscription);
                }
                answer
            };
            Ok(settlements.into_iter().map(settle).collect())
        })
    }

    fn renew(&self, leases: Vec<LeaseId>, lease: Duration) -> BoxFuture<Result<Vec<bool>, StoreError>> {
        self.run(move |shared, inner, _| {
            let now = shared.time.now();
            let until = now.saturating_add(millis_up(lease));
            Ok(leases.into_iter().map(|lease| inner.ledger.renew(lease, now, until)).collect())
        })
    }

    fn ask(&self, delivery: DeliveryId, wish: Wish) -> BoxFuture<Result<Answer, StoreError>> {
        self.run(move |shared, inner, due| {
            let at = shared.moment();
            inner.ledger.end_leases(at.now);
            let Some((kept, owed)) = inner.owed(delivery) else { return Ok(Answer::Unknown) };
            let newest = inner.entries(delivery).last();
            let state = story::row(&told(kept, owed, newest), &inner.ledger, &shared.time).state;
            let about = (delivery.event.sequence(), delivery.subscription);
            let looked = inner.ledger.look(about.1, about.0);
            let progress = looked.map(|(_, p)| p).or(newest.map(Entry::progress)).unwrap_or_default();
            match steps::wish(wish, state, looked.map(|(place, _)| place), progress, at) {
                Ok(entry) => {
                    let pending = entry.after == State::Pending;
                    inner.ledger.apply_wish(about.1, about.0, entry.progress(), entry.stand());
                    if pending || inner.ledger.is_next_in_line(about.1, at.now) {
                        due.push(delivery.subscription);
                    }
                    shared.keep(inner, about, entry);
                    Ok(Answer::Done)
                }
                Err(answer) => {
                    if let (Answer::Done, Some((Place::Leased(key), _))) = (answer, looked) {
                        inner.ledger.retry_after_lease(key);
                    }
                    Ok(answer)
                }
            }
        })
    }

    fn cancel_owed(&self, subscription: SubscriptionId, reason: String) -> BoxFuture<Result<Cancelled, StoreError>> {
        self.run(move |shared, inner, _| {
            let at = shared.moment();
            inner.ledger.end_leases(at.now);
            let (owed, more) = inner.ledger.some_owed(subscription, SWEEP_MAX);
            shared.cancel(inner, &owed, &reason, at);
            Ok(Cancelled { count: owed.len() as u64, more })
        })
    }

    fn set_standing(
        &self,
        subscription: SubscriptionId,
        standing: Standing,
    ) -> BoxFuture<Result<Option<Standing>, StoreError>> {
        self.run(move |shared, inner, due| {
            due.push(subscription);
            Ok(inner.ledger.set_standing(subscription, standing, shared.time.now()))
        })
    }

    fn note(&self, vitals: Vec<(SubscriptionId, Vitals)>) -> BoxFuture<Result<(), StoreError>> {
        self.run(move |shared, inner, _| {
            let now = shared.time.now();
            for (id, vitals) in &vitals {
                inner.ledger.note(*id, vitals, now);
            }
            Ok(())
        })
    }

    fn define(&self, changes: Vec<Define>) -> BoxFuture<Result<(), StoreError>> {
        self.run(move |_, inner, _| {
            let mut after = inner.definitions.clone();
            definitions::apply(&mut after, changes.clone())?;
            inner.definitions = after;
            inner.ledger.mark_deleted(&definitions::deletions(&changes));
            Ok(())
        })
    }

    fn definitions(&self) -> BoxFuture<Result<Vec<Definition>, StoreError>> {
        self.run(|_, inner, _| Ok(inner.definitions.values().cloned().collect()))
    }

    fn order_replay(&self, order: ReplayOrder) -> BoxFuture<Result<Replay, StoreError>> {
        self.run(move |shared, inner, _| inner.order_replay(order, shared.time.wall()))
    }

    fn replays(&self) -> BoxFuture<Result<Vec<Replay>, StoreError>> {
        self.run(|_, inner, _| Ok(inner.replays.list()))
    }

    fn replay_page(&self, id: ReplayId, count: usize) -> BoxFuture<Result<Option<ReplayPage>, StoreError>> {
        self.run(move |shared, inner, _| Ok(inner.replay_page(id, count, shared.time.wall())))
    }

    fn replay_step(&self, id: ReplayId, page: ReplayPage) -> BoxFuture<Result<Option<Replay>, StoreError>> {
        self.run(move |shared, inner, due| {
            due.extend(shared.replay_step(inner, id, &page));
            Ok(inner.replays.shown(id))
        })
    }

    fn cancel_replay(&self, id: ReplayId) -> BoxFuture<Result<Option<Replay>, StoreError>> {
        self.run(move |shared, inner, _| {
            inner.replays.cancel(id, shared.time.wall());
            Ok(inner.replays.shown(id))
        })
    }

    fn subscribed(&self, name: String) -> BoxFuture<Result<Option<Subscribed>, StoreError>> {
        self.run(move |shared, inner, _| Ok(inner.ledger.subscribed(&name, shared.time.now())))
    }

    fn roll(&self) -> BoxFuture<Result<Roll, StoreError>> {
        self.run(|shared, inner, _| Ok(inner.ledger.roll(shared.time.now())))
    }

    fn owing(&self) -> BoxFuture<Result<Vec<Owing>, StoreError>> {
        self.run(|_, inner, _| Ok(inner.ledger.owing()))
    }

    fn events(&self, query: EventQuery) -> BoxFuture<Result<Page<EventRow, EventId>, StoreError>> {
        self.run(move |_, inner, _| {
            let from = query.after.map(|after| after.sequence().saturating_sub(1));
            listing::events(inner.newest_first(from), &query)
        })
    }

    fn deliveries(&self, query: DeliveryQuery) -> BoxFuture<Result<Page<DeliveryRow, DeliveryId>, StoreError>> {
        self.run(move |shared, inner, _| {
            let from = query.after.map(|after| after.event.sequence());
            let row_of = |kept: &Kept, owed: Owed| Ok(inner.view(kept, owed, &shared.time).row);
            listing::deliveries(inner.newest_first(from), &query, row_of)
        })
    }

    fn event(&self, id: EventId) -> BoxFuture<Result<Option<EventView>, StoreError>> {
        self.run(move |shared, inner, _| {
            let Some(kept) = inner.kept(id) else { return Ok(None) };
            let deliveries = kept.owed.iter().map(|owed| inner.view(kept, *owed, &shared.time)).collect();
            Ok(Some(EventView { event: kept.event.clone(), deliveries }))
        })
    }

    fn delivery(&self, id: DeliveryId) -> BoxFuture<Result<Option<DeliveryView>, StoreError>> {
        self.run(move |shared, inner, _| Ok(inner.owed(id).map(|(kept, owed)| inner.view(kept, owed, &shared.time))))
    }

    fn sweep(&self, _budget: Duration) -> BoxFuture<Result<Swept, StoreError>> {
        self.run(|shared, inner, _| {
            let at = shared.moment();
            inner.ledger.end_leases(at.now);
            inner.forget_keys(at.now);
            let beyond = inner.ledger.beyond_grace(at.now, millis(shared.limits.grace), SWEEP_MAX);
            let mut swept = Swept { cancelled: beyond.len() as u64, ..Swept::default() };
            shared.cancel(inner, &beyond, UNLISTED, at);
            let (forgotten, more) = inner.drop_old(at.now.saturating_sub(millis(shared.limits.retention)));
            swept.forgotten = forgotten;
            let oldest = inner.events.keys().next().copied().unwrap_or(u64::MAX);
            let age = millis(shared.limits.grace.saturating_add(shared.limits.retention));
            inner.ledger.forget_subscriptions(at.now, age, oldest);
            swept.more = more || beyond.len() == SWEEP_MAX;
            Ok(swept)
        })
    }

    fn on_due(&self, tell: Box<Tell>) {
        *self.0.tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::from(tell));
    }

    fn on_refused(&self, tell: Box<TellRefused>) {
        self.0.refusals.set(tell);
    }

    fn health(&self) -> Health {
        let inner = self.0.inner();
        Health { owed: inner.ledger.owed(), leased: inner.ledger.leased(), ..inner.health.clone() }
    }

    fn close(&self) -> BoxFuture<Result<(), StoreError>> {
        self.run(|_, inner, _| {
            inner.closed = true;
            Ok(())
        })
    }
}
