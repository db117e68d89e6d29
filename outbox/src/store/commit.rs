//! One batch: what is written, who is answered what, and what follows when a write or a sync fails.
//!
//! Collect, decide, write once, sync once, then let it take effect, answer, and tell who has something due. Nothing is
//! acknowledged whose sync did not return well; what was written by a failed batch never was.

use super::manifest::Manifest;
use super::overlay::Entries;
use super::replays::Unwritten;
use super::{Store, Writer};
use crate::disk::{DiskError, Generation, Row};
use crate::idempotency::Known;
use crate::ledger::Ledger;
use crate::query::EventRow;
use crate::rows::{self, Born, Head, Kind};
use crate::{Epoch, RecordError, Recorded, Refused, ReplayId, StoreError};
use posthaste_events::{DeliveryId, EventId, Prepared, SubscriptionId};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// When a caller that was refused may try again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often free space is looked at, at most, in milliseconds.
const FREE_EVERY: u64 = 250;
/// How long after a failure no other generation is begun, in milliseconds.
const BEGIN_EVERY: u64 = 500;

/// Somebody who waits for an answer.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// Events to be recorded.
pub(crate) struct RecordJob {
    pub(crate) events: Vec<Prepared>,
    pub(crate) epoch: Epoch,
    pub(crate) reply: Reply<Result<Vec<Recorded>, RecordError>>,
}

/// What one batch is asked for.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<RecordJob>,
    /// Who waits until everything before is durable.
    pub(crate) barriers: Vec<Reply<Result<(), StoreError>>>,
    /// What is carried forward.
    pub(crate) carry: Carry,
}

/// Rows of an old generation that go on in the active one.
#[derive(Default)]
pub(crate) struct Carry {
    pub(crate) rows: Vec<Row>,
    /// Events that lie in the active generation from then on.
    pub(crate) carried: Vec<u64>,
    /// Events that lie elsewhere, of which entries are among the rows.
    pub(crate) foreign: Vec<u64>,
}

/// An event that is to be written.
struct New {
    id: EventId,
    owed: Vec<(SubscriptionId, Born)>,
    prepared: Prepared,
}

/// A job that will be answered well, if the batch becomes durable.
struct Accepted {
    answers: Vec<Recorded>,
    reply: Reply<Result<Vec<Recorded>, RecordError>>,
}

/// What a batch comes to.
#[derive(Default)]
struct Plan {
    rows: Vec<Row>,
    accepted: Vec<Accepted>,
    news: Vec<New>,
    keys: HashMap<[u8; 16], Known>,
    /// What the batch adds to what a subscription is owed.
    added: HashMap<SubscriptionId, u64>,
    entries: Arc<Entries>,
    dirty: BTreeSet<SubscriptionId>,
    /// Whether it writes all subscriptions, whichever are dirty.
    packs: bool,
    replays: Unwritten,
    head: Option<Head>,
}

impl Store {
    /// Does one batch; `Err` where it could not be made durable, and then everybody in it was told so.
    pub(crate) fn commit(&self, writer: &mut Writer, batch: Batch) -> Result<(), DiskError> {
        if self.check_open().is_err() {
            // Dropping it tells whoever waits.
            return Ok(());
        }
        let Batch { records, barriers, mut carry } = batch;
        let records = self.refuse_if_full(writer, records);
        let active = match self.ensure_active(writer) {
            Ok(active) => active,
            Err(error) => {
                refuse(records.into_iter().map(|job| job.reply), barriers, &error);
                return Err(error);
            }
        };
        let mut plan = self.plan(writer, records);
        self.fill(&mut plan, &mut carry);
        if !plan.rows.is_empty() {
            let generation = active.0;
            let added = Manifest::of(&plan.rows, self.time.now());
            if let Err(error) = self.write(&active.1, std::mem::take(&mut plan.rows)) {
                drop(active);
                self.give_up(writer, generation, &plan, &error);
                let replies = plan.accepted.into_iter().map(|job| job.reply);
                refuse(replies, barriers, &error);
                return Err(error);
            }
            self.note(generation, &added, &plan.entries, &carry);
        }
        drop(active);
        let (due, refused) = self.take_effect(writer, &mut plan);
        self.refusals.tell(&refused);
        // Before the answers, so that who was answered finds that the hint was given.
        self.hint(&due);
        for job in plan.accepted {
            // Whoever no longer waits does not matter: it is durable all the same.
            let _ = job.reply.send(Ok(job.answers));
        }
        for barrier in barriers {
            let _ = barrier.send(Ok(()));
        }
        self.rotate_if_full(writer);
        Ok(())
    }

    /// Refuses events while there is too little free space.
    fn refuse_if_full(&self, writer: &mut Writer, records: Vec<RecordJob>) -> Vec<RecordJob> {
        let Some(reason) = self.judge_room(writer) else { return records };
        for job in records {
            let full = RecordError::Full { reason: reason.clone(), retry_after: RETRY_AFTER };
            let _ = job.reply.send(Err(full));
        }
        Vec::new()
    }

    /// Looks at the free space and notes whether anything new is taken; why not, where the space is the reason.
    pub(crate) fn judge_room(&self, writer: &mut Writer) -> Option<String> {
        let now = self.time.now();
        let known = writer.free.filter(|(at, _)| now.saturating_sub(*at) < FREE_EVERY).map(|(_, free)| free);
        // What can not be asked is not held against anybody: a write will tell.
        let free = known.unwrap_or_else(|| self.disk.free().unwrap_or(u64::MAX));
        writer.free = Some((now, free));
        if free >= self.limits.free_min {
            if writer.active.is_some() {
                self.set_refusing(None);
            }
            return None;
        }
        let reason = format!("only {free} bytes are free on the disk, at least {} are kept", self.limits.free_min);
        self.set_refusing(Some(reason.clone()));
        Some(reason)
    }

    /// Begins a generation where none is active.
    pub(crate) fn ensure_active(&self, writer: &mut Writer) -> Result<(Generation, super::Shared), DiskError> {
        if let Some((generation, keyspace)) = &writer.active {
            return Ok((*generation, Arc::clone(keyspace)));
        }
        let now = self.time.now();
        if let Some((_, why)) = writer.wait.as_ref().filter(|(until, _)| now < *until) {
            return Err(why.clone());
        }
        // First what an abandoned generation must not be believed: a later sync can answer well and keep nothing of what
        // an earlier one failed at, so that a start would find events that are gone after the next power cut.
        match self.write_manifests(writer).and_then(|()| self.begin(writer, now)) {
            Ok(active) => {
                writer.wait = None;
                self.judge_room(writer);
                Ok(active)
            }
            Err(error) => {
                self.failed("no generation can be begun", &error);
                self.set_refusing(Some(error.to_string()));
                writer.wait = Some((now.saturating_add(BEGIN_EVERY), error.clone()));
                Err(error)
            }
        }
    }

    fn begin(&self, writer: &mut Writer, now: u64) -> Result<(Generation, super::Shared), DiskError> {
        let (generation, keyspace) = match self.take_spare(writer) {
            Some(made) => made,
            None => {
                let generation = writer.next_generation;
                // Also where the making fails: it may have been done all the same.
                writer.next_generation += 1;
                (generation, self.disk.create(generation)?)
            }
        };
        let keyspace: super::Shared = Arc::new(keyspace);
        self.catalog().put(Manifest::begun(generation, now));
        self.library.activate(Some((generation, Arc::clone(&keyspace))), true);
        writer.active = Some((generation, Arc::clone(&keyspace)));
        let mut inner = self.inner();
        (inner.to_pack, inner.dirty_head) = (true, true);
        let all: Vec<ReplayId> = inner.replays.iter().map(|ordered| ordered.replay.id).collect();
        inner.unwritten.copies.extend(all);
        Ok((generation, keyspace))
    }

    /// Decides about every job: what is new, what is known, what is refused.
    fn plan(&self, writer: &mut Writer, records: Vec<RecordJob>) -> Plan {
        let now = self.time.now();
        let mut plan = Plan::default();
        let looked: Vec<_> = records.into_iter().map(|job| (look_up(writer, &job.events, now), job)).collect();
        let mut inner = self.inner();
        for (known, job) in looked {
            if job.epoch != inner.ledger.epoch() {
                let _ = job.reply.send(Err(RecordError::StaleEpoch));
                continue;
            }
            let judged = known.map_err(|e| RecordError::Store(e.into()));
            match judged.and_then(|known| self.judge(writer, &inner.ledger, &mut plan, job.events, known, now)) {
                Ok(answers) => plan.accepted.push(Accepted { answers, reply: job.reply }),
                Err(error) => {
                    let _ = job.reply.send(Err(error));
                }
            }
        }
        plan.entries = inner.overlay.begin();
        plan.dirty = std::mem::take(&mut inner.dirty);
        plan.packs = std::mem::take(&mut inner.to_pack);
        if plan.packs {
            // Whatever changed is in them.
            rows::write_packs(inner.ledger.accounts(), &mut plan.rows);
        } else {
            let dirty = plan.dirty.iter().filter_map(|id| Some((*id, inner.ledger.account(*id)?)));
            plan.rows.extend(dirty.map(|(id, account)| rows::write_subscription(id, account)));
        }
        plan.replays = std::mem::take(&mut inner.unwritten);
        plan.replays.rows(&inner.replays, &mut plan.rows);
        if std::mem::take(&mut inner.dirty_head) {
            plan.head = Some(Head {
                epoch: inner.ledger.last_epoch(),
                next_subscription: inner.ledger.next_subscription(),
                next_sequence: writer.next_sequence,
                millis: now,
            });
        }
        plan
    }

    /// Judges the events of one job; changes the plan only where all of them are taken.
    fn judge(
        &self,
        writer: &mut Writer,
        ledger: &Ledger,
        plan: &mut Plan,
        events: Vec<Prepared>,
        known: Vec<Option<Known>>,
        now: u64,
    ) -> Result<Vec<Recorded>, RecordError> {
        let mut keys: HashMap<[u8; 16], Known> = HashMap::new();
        let mut answers = Vec::with_capacity(events.len());
        let mut fresh = Vec::with_capacity(events.len());
        let mut sequence = writer.next_sequence;
        for (index, (event, known)) in events.into_iter().zip(known).enumerate() {
            let twice = event.idempotency.and_then(|i| keys.get(&i.key).or_else(|| plan.keys.get(&i.key)).copied());
            if let (Some(known), Some(idempotency)) = (known.or(twice), event.idempotency) {
                if known.content != idempotency.content {
                    return Err(RecordError::Conflict { index, first: known.id });
                }
                answers.push(Recorded { id: known.id, duplicate: true, deliveries: known.deliveries });
                continue;
            }
            let id = EventId::new(now, sequence, self.random.next() as u32);
            sequence += 1;
            let deliveries = u32::try_from(event.owed.len()).unwrap_or(u32::MAX);
            let answer = Recorded { id, duplicate: false, deliveries };
            if let Some(idempotency) = event.idempotency {
                keys.insert(idempotency.key, Known { content: idempotency.content, id, deliveries });
            }
            answers.push(answer);
            fresh.push((id, event));
        }
        writer.next_sequence = sequence;
        plan.keys.extend(keys);
        for (id, prepared) in fresh {
            let owed = prepared.owed.iter().map(|subscription| {
                let added = plan.added.entry(*subscription).or_default();
                let room = ledger.account(*subscription).is_some_and(|a| a.owed() + *added < a.backlog_max);
                *added += u64::from(room);
                (*subscription, if room { Born::Owed } else { Born::Dead })
            });
            let owed = owed.collect();
            plan.news.push(New { id, owed, prepared });
        }
        Ok(answers)
    }

    /// Makes the rows of a plan.
    fn fill(&self, plan: &mut Plan, carry: &mut Carry) {
        plan.rows.extend(plan.head.as_ref().map(rows::write_head));
        plan.rows.append(&mut carry.rows);
        for new in &plan.news {
            rows::write_event(Kind::Event, new.id, &new.prepared, &new.owed, &mut plan.rows);
        }
        for ((sequence, subscription), entries) in plan.entries.iter() {
            rows::write_entries(*sequence, *subscription, entries, &mut plan.rows);
        }
    }

    /// Writes and syncs. A panic beneath counts as a failure: nobody knows then what was written.
    pub(crate) fn write(&self, keyspace: &super::Shared, rows: Vec<Row>) -> Result<(), DiskError> {
        let written = catch_unwind(AssertUnwindSafe(|| keyspace.apply(rows).and_then(|()| keyspace.sync())));
        written.unwrap_or_else(|_| Err(DiskError::Failed("the disk panicked at a write".into())))?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Notes in the manifest of the active generation what was made durable.
    pub(crate) fn note(&self, generation: Generation, added: &Manifest, entries: &Entries, carry: &Carry) {
        self.catalog().change(generation, |manifest| {
            manifest.add(added);
            manifest.carried.extend(carry.carried.iter().copied());
            manifest.foreign.extend(carry.foreign.iter().copied());
            let of_others = entries.keys().map(|(sequence, _)| *sequence).filter(|s| !manifest.spans(*s));
            let of_others: Vec<u64> = of_others.collect();
            manifest.foreign.extend(of_others);
        });
    }

    /// Lets what is durable take effect; who has something due, and what was dead at birth.
    fn take_effect(&self, writer: &mut Writer, plan: &mut Plan) -> (Vec<SubscriptionId>, Vec<Refused>) {
        for (key, known) in std::mem::take(&mut plan.keys) {
            writer.keys.insert(key, known);
        }
        let (mut due, mut refused) = (BTreeSet::new(), Vec::new());
        let news = std::mem::take(&mut plan.news);
        self.recorded.fetch_add(news.len() as u64, Ordering::Relaxed);
        let mut inner = self.inner();
        inner.overlay.done();
        for new in news {
            let sequence = new.id.sequence();
            inner.committed = inner.committed.max(sequence);
            let origin = new.prepared.facts.origin;
            let dead = new.owed.iter().filter(|(_, born)| !born.owed());
            refused.extend(dead.map(|(subscription, _)| {
                let delivery = DeliveryId { event: new.id, subscription: *subscription };
                Refused { delivery, origin }
            }));
            let mut owed = false;
            for (subscription, _) in new.owed.iter().filter(|(_, born)| born.owed()) {
                inner.ledger.owe(*subscription, sequence);
                due.insert(*subscription);
                owed = true;
            }
            if owed {
                let Prepared { facts, payloads, .. } = new.prepared;
                inner.cache.put(EventRow { id: new.id, facts, payloads });
            }
        }
        (due.into_iter().collect(), refused)
    }

    /// Leaves a generation in which a write or a sync failed: it is never written again, and what the batch recorded
    /// never was. Entries, subscriptions and the head go into the next one.
    pub(crate) fn abandon(&self, writer: &mut Writer, generation: Generation, error: &DiskError) {
        self.failed("a write or a sync failed; its generation is left and another begun", error);
        writer.active = None;
        writer.unwritten.insert(generation);
        self.catalog().change(generation, |manifest| manifest.exact = false);
        self.library.activate(None, false);
    }

    fn give_up(&self, writer: &mut Writer, generation: Generation, plan: &Plan, error: &DiskError) {
        self.abandon(writer, generation, error);
        self.catalog().change(generation, |manifest| {
            manifest.void.extend(plan.news.iter().map(|new| new.id.sequence()));
        });
        let mut inner = self.inner();
        inner.overlay.failed();
        inner.dirty.extend(plan.dirty.iter().copied());
        inner.to_pack |= plan.packs;
        inner.dirty_head |= plan.head.is_some();
        inner.unwritten.extend(&plan.replays);
    }
}

fn look_up(writer: &mut Writer, events: &[Prepared], now: u64) -> Result<Vec<Option<Known>>, DiskError> {
    let known = |event: &Prepared| match event.idempotency {
        Some(idempotency) => writer.keys.look_up(&idempotency.key, now),
        None => Ok(None),
    };
    events.iter().map(known).collect()
}

/// Answers a failed batch.
fn refuse(
    records: impl Iterator<Item = Reply<Result<Vec<Recorded>, RecordError>>>,
    barriers: Vec<Reply<Result<(), StoreError>>>,
    error: &DiskError,
) {
    for reply in records {
        let refused = match error {
            DiskError::NoSpace => RecordError::Full { reason: error.to_string(), retry_after: RETRY_AFTER },
            other => RecordError::Store(other.clone().into()),
        };
        let _ = reply.send(Err(refused));
    }
    for reply in barriers {
        let _ = reply.send(Err(error.clone().into()));
    }
}
