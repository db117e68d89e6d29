//! The embedded outbox: [`Outbox`] over generations on a [`Disk`].
//!
//! What PostgreSQL will do behind the same methods stands at each of them in the trait. This store has one process to
//! itself, so that it can decide in memory: the ledger is what PostgreSQL keeps in its `delivery` table and locks row by
//! row, the lease a column there, the writer thread its group commit.

use crate::disk::Disk;
use crate::lanes::{Lane, Lanes, Threads};
use crate::limits::Limits;
use crate::store::Store;
use crate::store::commit::RecordJob;
use crate::store::enrolling::Enrolling;
use crate::store::sweep::CANCELLED_MAX;
use crate::*;
use posthaste_events::seams::{Clock, Random};
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// An [`Outbox`] that keeps everything in generations on a disk. Cheap to clone: clones are the same outbox.
///
/// The last clone that goes ends its threads and lets the disk go; what was settled less than 20 ms before is written
/// then too. [`Outbox::close`] also writes down what the next start would else have to find out.
#[derive(Clone)]
pub struct GenerationOutbox(Arc<Handle>);

struct Handle {
    lanes: Arc<Lanes>,
    threads: Mutex<Option<Threads>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.lanes.end();
        if let Some(mut threads) = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take() {
            threads.join();
        }
        self.lanes.store().let_go();
    }
}

/// Runs the work of an outbox that was opened without threads.
#[derive(Clone)]
pub struct Stepper(Arc<Lanes>);

impl Stepper {
    /// Does everything that waits: reads, then one batch; false where there was nothing.
    #[must_use]
    pub fn step(&self) -> bool {
        self.0.step()
    }
}

impl GenerationOutbox {
    /// Opens what lies on a disk, or begins there, and starts three threads.
    ///
    /// Time: it reads the newest snapshot and what was written after it, usually one generation.
    ///
    /// # Errors
    /// Where the disk can not be read, or threads can not be started. A full disk is no error: the outbox then takes
    /// nothing new, and goes on with what is owed.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        let lanes = Arc::new(Lanes::new(Arc::new(Store::open(disk, clock, random, limits)?)));
        let threads = Threads::start(&lanes).map_err(|e| StoreError::Failed(format!("no thread: {e}")))?;
        Ok(Self(Arc::new(Handle { lanes, threads: Mutex::new(Some(threads)) })))
    }

    /// The same without threads, for simulations: nothing happens but in [`Stepper::step`] and in what is answered from
    /// memory.
    ///
    /// # Errors
    /// As [`GenerationOutbox::open`].
    pub fn open_by_hand(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        limits: Limits,
    ) -> Result<(Self, Stepper), StoreError> {
        let lanes = Arc::new(Lanes::new(Arc::new(Store::open(disk, clock, random, limits)?)));
        let stepper = Stepper(Arc::clone(&lanes));
        Ok((Self(Arc::new(Handle { lanes, threads: Mutex::new(None) })), stepper))
    }

    /// Holds every closed generation against its manifest: how many damaged or lost records were found since the start.
    /// The log names them.
    #[must_use]
    pub fn verify(&self) -> BoxFuture<Result<u64, StoreError>> {
        self.look(Lane::Looks, |store| Ok(store.verify()?))
    }

    fn enrol(
        &self,
        enrol: impl FnOnce(&Arc<Store>) -> Enrolling + Send + 'static,
    ) -> BoxFuture<Result<Roll, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            // Undoing one must not undo another.
            let _alone = lanes.changing.lock().await;
            let enrolling = enrol(lanes.store());
            match durable(&lanes).await {
                // A full disk must not keep a start from delivering what is owed.
                Err(StoreError::Failed(error)) if !enrolling.must_be_durable() => {
                    tracing::warn!(error, "the subscriptions are as they were; their new epoch is not written yet");
                }
                // Dropping the enrolment undoes it.
                written => written?,
            }
            let (roll, due) = enrolling.keep();
            lanes.store().hint(&due);
            Ok(roll)
        })
    }

    /// Runs a read on a lane.
    fn look<T: Send + 'static>(
        &self,
        lane: Lane,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            let (reply, answer) = oneshot::channel();
            // What waits behind a close must not open again what it closed.
            let read = move |store: &Store| drop(reply.send(store.check_open().and_then(|()| read(store))));
            lanes.read(lane, Box::new(read));
            answer.await.map_err(|_| ended(lanes.store()))?
        })
    }
}

/// Waits until everything that was done before is durable.
async fn durable(lanes: &Lanes) -> Result<(), StoreError> {
    let (reply, answer) = oneshot::channel();
    lanes.barrier(reply);
    answer.await.map_err(|_| ended(lanes.store()))?
}

/// What is answered where a reply never came.
fn ended(store: &Store) -> StoreError {
    store.check_open().err().unwrap_or_else(|| StoreError::Failed("the outbox could not do it; see its log".into()))
}

impl Outbox for GenerationOutbox {
    fn enroll(&self, wanted: Vec<Enrolment>) -> BoxFuture<Result<Roll, StoreError>> {
        self.enrol(move |store| store.enroll(wanted))
    }

    fn amend(&self, changes: Vec<Amend>) -> BoxFuture<Result<Roll, StoreError>> {
        self.enrol(move |store| store.amend(&changes))
    }

    fn record(&self, events: Vec<Prepared>, epoch: Epoch) -> BoxFuture<Result<Vec<Recorded>, RecordError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            let (reply, answer) = oneshot::channel();
            lanes.record(RecordJob { events, epoch, reply });
            answer.await.map_err(|_| ended(lanes.store()))?
        })
    }

    fn claim(&self, subscription: SubscriptionId, want: Want) -> BoxFuture<Result<Claimed, StoreError>> {
        let this = self.clone();
        Box::pin(async move {
            let store = this.0.lanes.store();
            store.check_open()?;
            match store.claim(subscription, want) {
                Ok(claimed) => Ok(claimed),
                Err(to_read) => {
                    let (reply, answer) = oneshot::channel();
                    let read = move |store: &Store| {
                        if let Err(Ok(claimed)) = reply.send(store.claim_read(to_read)) {
                            // Nobody waits any more.
                            store.release(claimed.deliveries.iter().map(|leased| leased.lease));
                        }
                    };
                    this.0.lanes.read(Lane::Claims, Box::new(read));
                    Ok(answer.await.map_err(|_| ended(store))??)
                }
            }
        })
    }

    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            let (answers, to_write) = lanes.store().settle(settlements);
            if to_write {
                lanes.settled();
            }
            Ok(answers)
        })
    }

    fn renew(&self, leases: Vec<LeaseId>, lease: Duration) -> BoxFuture<Result<Vec<bool>, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            Ok(lanes.store().renew(leases, lease))
        })
    }

    fn ask(&self, delivery: DeliveryId, wish: Wish) -> BoxFuture<Result<Answer, StoreError>> {
        let this = self.clone();
        Box::pin(async move {
            let answer = this.look(Lane::Looks, move |store| Ok(store.ask(delivery, wish)?)).await?;
            if answer == Answer::Done {
                durable(&this.0.lanes).await?;
                this.0.lanes.store().hint(&[delivery.subscription]);
            }
            Ok(answer)
        })
    }

    fn cancel_owed(&self, subscription: SubscriptionId, reason: String) -> BoxFuture<Result<Cancelled, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            let cancelled = lanes.store().cancel_owed(subscription, &reason, CANCELLED_MAX);
            if cancelled.count > 0 {
                durable(&lanes).await?;
            }
            Ok(cancelled)
        })
    }

    fn set_standing(
        &self,
        subscription: SubscriptionId,
        standing: Standing,
    ) -> BoxFuture<Result<Option<Standing>, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            let store = lanes.store();
            store.check_open()?;
            let _alone = lanes.changing.lock().await;
            let before = store.set_standing(subscription, standing);
            if let Err(error) = durable(&lanes).await {
                if let Some(before) = before {
                    store.put_standing(subscription, before);
                }
                return Err(error);
            }
            store.hint(&[subscription]);
            Ok(before)
        })
    }

    fn note(&self, vitals: Vec<(SubscriptionId, Vitals)>) -> BoxFuture<Result<(), StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            if lanes.store().note_vitals(&vitals) {
                lanes.settled();
            }
            Ok(())
        })
    }

    fn define(&self, changes: Vec<Define>) -> BoxFuture<Result<(), StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        let defined = self.look(Lane::Looks, move |store| Ok(store.define(changes)?));
        Box::pin(async move { if defined.await? { durable(&lanes).await } else { Ok(()) } })
    }

    fn definitions(&self) -> BoxFuture<Result<Vec<Definition>, StoreError>> {
        self.look(Lane::Looks, |store| Ok(store.definitions()?))
    }

    fn order_replay(&self, order: ReplayOrder) -> BoxFuture<Result<Replay, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            let replay = lanes.store().order_replay(order)?;
            if let Err(error) = durable(&lanes).await {
                // Nobody would know its number.
                lanes.store().cancel_replay(replay.id);
                return Err(error);
            }
            Ok(replay)
        })
    }

    fn replays(&self) -> BoxFuture<Result<Vec<Replay>, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            Ok(lanes.store().inner().replays.list())
        })
    }

    fn replay_page(&self, id: ReplayId, count: usize) -> BoxFuture<Result<Option<ReplayPage>, StoreError>> {
        self.look(Lane::Looks, move |store| Ok(store.replay_page(id, count)?))
    }

    fn replay_step(&self, id: ReplayId, page: ReplayPage) -> BoxFuture<Result<Option<Replay>, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        let step = self.look(Lane::Looks, move |store| Ok(store.replay_step(id, &page)?));
        Box::pin(async move {
            let changed = step.await?;
            // Also where nothing changed: the step that did may not be durable yet.
            durable(&lanes).await?;
            let replay = lanes.store().inner().replays.shown(id);
            if let Some(replay) = replay.as_ref().filter(|_| changed) {
                lanes.store().hint(&[replay.order.subscription]);
            }
            Ok(replay)
        })
    }

    fn cancel_replay(&self, id: ReplayId) -> BoxFuture<Result<Option<Replay>, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            let replay = lanes.store().cancel_replay(id);
            durable(&lanes).await?;
            Ok(replay)
        })
    }

    fn subscribed(&self, name: String) -> BoxFuture<Result<Option<Subscribed>, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            let store = lanes.store();
            store.check_open()?;
            Ok(store.inner().ledger.subscribed(&name, store.time.now()))
        })
    }

    fn roll(&self) -> BoxFuture<Result<Roll, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            let store = lanes.store();
            Ok(store.inner().ledger.roll(store.time.now()))
        })
    }

    fn owing(&self) -> BoxFuture<Result<Vec<Owing>, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            Ok(lanes.store().inner().ledger.owing())
        })
    }

    fn events(&self, query: EventQuery) -> BoxFuture<Result<Page<EventRow, EventId>, StoreError>> {
        self.look(Lane::Looks, move |store| Ok(store.list_events(&query)?))
    }

    fn deliveries(&self, query: DeliveryQuery) -> BoxFuture<Result<Page<DeliveryRow, DeliveryId>, StoreError>> {
        self.look(Lane::Looks, move |store| Ok(store.list_deliveries(&query)?))
    }

    fn event(&self, id: EventId) -> BoxFuture<Result<Option<EventView>, StoreError>> {
        self.look(Lane::Looks, move |store| Ok(store.event(id)?))
    }

    fn delivery(&self, id: DeliveryId) -> BoxFuture<Result<Option<DeliveryView>, StoreError>> {
        self.look(Lane::Looks, move |store| Ok(store.delivery(id)?))
    }

    fn sweep(&self, budget: Duration) -> BoxFuture<Result<Swept, StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        let swept = self.look(Lane::Looks, move |store| store.sweep(budget));
        Box::pin(async move {
            let swept = swept.await?;
            if swept.cancelled > 0 {
                lanes.settled();
            }
            Ok(swept)
        })
    }

    fn on_due(&self, tell: Box<Tell>) {
        self.0.lanes.store().set_tell(Arc::from(tell));
    }

    fn on_refused(&self, tell: Box<TellRefused>) {
        self.0.lanes.store().refusals.set(tell);
    }

    fn health(&self) -> Health {
        self.0.lanes.store().health()
    }

    fn close(&self) -> BoxFuture<Result<(), StoreError>> {
        let lanes = Arc::clone(&self.0.lanes);
        Box::pin(async move {
            lanes.store().check_open()?;
            let (reply, answer) = oneshot::channel();
            lanes.read_first(Box::new(move |store| drop(reply.send(store.close()))));
            answer.await.map_err(|_| ended(lanes.store()))?
        })
    }
}
