//! The outbox: where events and what is owed of them are kept until they are settled.
//!
//! The promise: what [`Outbox::record`] returned is durable. The seam speaks of intents, not of writes, so that each
//! store decides inside itself what is contended for. This crate never learns who delivers, or how.

mod definition;
mod definitions;
pub mod disk;
pub mod envelope;
mod generations;
pub mod idempotency;
mod lanes;
mod ledger;
mod limits;
mod listing;
mod memory;
pub mod query;
mod refusals;
mod replay;
mod replays;
mod rows;
mod steps;
mod store;
mod story;
mod subscribed;
mod time;

pub use definition::{DEFINITION_MAX, DEFINITIONS_MAX, DELETED, Define, Definition};
pub use generations::{GenerationOutbox, Stepper};
pub use limits::{GenerationLimits, Limits, QueueLimits};
pub use memory::MemoryOutbox;
pub use query::{AttemptRow, DeliveryQuery, DeliveryRow, DeliveryView, EventQuery, EventRow, EventView, Page};
pub use replay::{Candidate, REPLAYS_MAX, Replay, ReplayId, ReplayOrder, ReplayPage, ReplayState};
pub use subscribed::{Amend, Enrolment, Owing, Roll, Standing, Subscribed, Vitals};

use posthaste_events::outcome::Attempt;
use posthaste_events::{BoxFuture, DeliveryId, EventId, Facts, Payloads, Prepared, SubscriptionId};
use std::sync::Arc;
use std::time::Duration;

/// Which set of subscriptions an event was matched against; grows with every [`Outbox::enroll`].
pub type Epoch = u64;

/// Who is told which subscriptions have something due.
pub type Tell = dyn Fn(&[SubscriptionId]) + Send + Sync;

/// Who is told which deliveries were dead at birth.
pub type TellRefused = dyn Fn(&[Refused]) + Send + Sync;

/// A store of events and deliveries.
///
/// Object-safe; futures are boxed, `'static`, and may be awaited on any executor. The store owns its clock: every wait
/// that crosses this seam is relative. Every method may be called from several tasks at once.
pub trait Outbox: Send + Sync + 'static {
    /// Makes `wanted` the set of subscriptions that take new events, and starts a new epoch.
    ///
    /// A name that was never seen gets a number; one that is known keeps its number, its standing and what it is owed.
    /// One that is missing from `wanted` is unlisted: what it is owed is held for 7 days, then cancelled; listed again
    /// it goes on. Durable when it returns; after an error, or where nobody waits for it any more, the set and the epoch
    /// are as they were. Where nothing but the epoch changes, a write that fails is no error: so a full disk keeps no
    /// start from delivering what is owed.
    /// PostgreSQL: an upsert into `subscription` and `epoch + 1` in one transaction.
    fn enroll(&self, wanted: Vec<Enrolment>) -> BoxFuture<Result<Roll, StoreError>>;

    /// Changes the set of subscriptions that take new events by a few of them, in order, and starts a new epoch; the rest stays
    /// listed as it is.
    ///
    /// As [`Outbox::enroll`] with the whole set so changed, at a cost that goes by the changes and not by the set. The roll
    /// that it answers has only those of the changes that are listed or still owed something.
    ///
    /// # Errors
    /// As [`Outbox::enroll`].
    fn amend(&self, changes: Vec<Amend>) -> BoxFuture<Result<Roll, StoreError>>;

    /// Records events, all or nothing; what it answered is durable.
    ///
    /// One answer for each event, in order. A repeated idempotency key answers what the first one answered, with
    /// `duplicate`. A delivery beyond its subscription's `backlog_max` is dead at birth, reason `backlog`.
    /// PostgreSQL: one transaction that inserts events and deliveries after `select … from epoch for share`.
    ///
    /// # Errors
    /// [`RecordError`]; nothing was recorded then.
    fn record(&self, events: Vec<Prepared>, epoch: Epoch) -> BoxFuture<Result<Vec<Recorded>, RecordError>>;

    /// Leases up to `want.count` due deliveries of a subscription, about `want.bytes` of payload (at least one).
    ///
    /// Due retries come first, from the one that has been due the longest on by neighbourhood, then what was never tried in the
    /// order of recording, but for [`Want::fresh_min`]. A paused, disabled or unlisted
    /// subscription gets none. A leased delivery is offered to nobody else until its lease ends: by
    /// [`Outbox::settle`], by running out, or with the process; what a person wants meanwhile ends none.
    ///
    /// Where deliveries go by key ([`Enrolment::ordered`]), none is given while an older one of its key is owed or one of its
    /// key is leased; a claim may then give less than could be given, and asks to be made again by a `next_due` of zero.
    /// PostgreSQL: `update … where … for update skip locked … returning`.
    fn claim(&self, subscription: SubscriptionId, want: Want) -> BoxFuture<Result<Claimed, StoreError>>;

    /// Says what came of leased deliveries; one answer for each, in order.
    ///
    /// Takes effect at once, and becomes durable with the next sync or within 20 ms: a crash before that repeats the
    /// attempt. A lease that ran out or was settled before changes nothing and answers [`Settled::LeaseLost`]. Where a
    /// person cancelled the delivery meanwhile, the attempt is kept, and all but [`Then::Delivered`] leave it cancelled;
    /// where one asked for it, all but [`Then::Delivered`] make it due again at once.
    /// PostgreSQL: `update … where lease = $1`, several rows in one statement.
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<Result<Vec<Settled>, StoreError>>;

    /// Prolongs leases to `lease` from now; one answer for each, in order: false where the lease was lost.
    fn renew(&self, leases: Vec<LeaseId>, lease: Duration) -> BoxFuture<Result<Vec<bool>, StoreError>>;

    /// A person wants a delivery tried again now, or cancelled. Durable when it returns; after an error it may have been
    /// done all the same, here and after a restart.
    ///
    /// A lease on it goes on. A cancelled delivery is owed no more at once; one to be tried again is due when the lease
    /// ends.
    fn ask(&self, delivery: DeliveryId, wish: Wish) -> BoxFuture<Result<Answer, StoreError>>;

    /// Cancels a bounded piece of what a subscription is owed, held and leased ones included, for this reason. Durable when
    /// it returns; after an error it may have been done all the same, here and after a restart.
    ///
    /// To be called again while [`Cancelled::more`]: whatever ends it between, the rest is still owed. A lease goes on as
    /// after [`Wish::Cancel`]: what arrives all the same is delivered.
    /// PostgreSQL: `update … where subscription = $1 and … limit 1000`.
    fn cancel_owed(&self, subscription: SubscriptionId, reason: String) -> BoxFuture<Result<Cancelled, StoreError>>;

    /// Changes the standing of a subscription; kept over restarts, durable when it returns. After an error it stands as
    /// before, though a restart may find it changed where the next write fails too.
    ///
    /// `None` where there is no such subscription, or it is disabled as [`DELETED`] and stays so; else the standing before.
    fn set_standing(
        &self,
        subscription: SubscriptionId,
        standing: Standing,
    ) -> BoxFuture<Result<Option<Standing>, StoreError>>;

    /// Notes how subscriptions fare; the rest of what is known of each stays. Takes effect at once, and becomes durable
    /// with the next sync or within 20 ms, as a settlement does.
    fn note(&self, vitals: Vec<(SubscriptionId, Vitals)>) -> BoxFuture<Result<(), StoreError>>;

    /// Changes the definitions that are kept, in order. Durable when it returns; after an error some of them may have
    /// been changed.
    ///
    /// A removal also gives the name away, once its subscription is listed no more: whoever is enrolled under it later is
    /// another one, with a number, a standing and a backlog of its own; what the old one is still owed, the upkeep cancels.
    ///
    /// # Errors
    /// Also where a name is none (see [`Definition::name`]), a body is longer than [`DEFINITION_MAX`], or there would be more than [`DEFINITIONS_MAX`].
    fn define(&self, changes: Vec<Define>) -> BoxFuture<Result<(), StoreError>>;

    /// Every definition that is kept, by name.
    fn definitions(&self) -> BoxFuture<Result<Vec<Definition>, StoreError>>;

    /// Orders a replay of what was recorded up to now; durable when it returns.
    ///
    /// # Errors
    /// Also where [`REPLAYS_MAX`] are under way, the subscription is not listed, or the state is not a settled one.
    fn order_replay(&self, order: ReplayOrder) -> BoxFuture<Result<Replay, StoreError>>;

    /// The replays under way, and the last [`REPLAYS_MAX`] that ended, by number.
    fn replays(&self) -> BoxFuture<Result<Vec<Replay>, StoreError>>;

    /// The next candidates of a replay that is under way: `count` at most, and a bounded piece of work. `None` where it
    /// is not under way.
    fn replay_page(&self, id: ReplayId, count: usize) -> BoxFuture<Result<Option<ReplayPage>, StoreError>>;

    /// Makes the deliveries of these candidates of the last page due, and moves the replay on to `cursor`; both are durable
    /// together when it returns. Where not all of them fit the backlog it moves on only so far, and the next page begins
    /// there. The last step ends the replay. A cursor behind the replay's own changes nothing, so that a step
    /// that is taken twice counts once.
    fn replay_step(&self, id: ReplayId, page: ReplayPage) -> BoxFuture<Result<Option<Replay>, StoreError>>;

    /// Ends a replay that is under way; what it made due stays. `None` where there is none of that number.
    fn cancel_replay(&self, id: ReplayId) -> BoxFuture<Result<Option<Replay>, StoreError>>;

    /// The subscription of this name, where it is listed or still owed something: as [`Outbox::roll`] tells of it.
    fn subscribed(&self, name: String) -> BoxFuture<Result<Option<Subscribed>, StoreError>> {
        let roll = self.roll();
        Box::pin(async move { Ok(roll.await?.subscriptions.into_iter().find(|s| s.name == name)) })
    }

    /// Every subscription that is listed or still owed something.
    fn roll(&self) -> BoxFuture<Result<Roll, StoreError>>;

    /// What has to be looked after: of the subscriptions of the roll those that are owed something or take nothing, by number.
    ///
    /// For whoever asks again and again: it copies no names. Of whom it does not tell is owed nothing and takes what comes,
    /// as long as it is listed.
    fn owing(&self) -> BoxFuture<Result<Vec<Owing>, StoreError>> {
        let roll = self.roll();
        Box::pin(async move { Ok(roll.await?.subscriptions.iter().map(Owing::from).filter(Owing::is_told).collect()) })
    }

    /// Events, the newest first; bounded in rows and in work.
    fn events(&self, query: EventQuery) -> BoxFuture<Result<Page<EventRow, EventId>, StoreError>>;

    /// Deliveries, those of the newest event first; bounded in rows and in work.
    fn deliveries(&self, query: DeliveryQuery) -> BoxFuture<Result<Page<DeliveryRow, DeliveryId>, StoreError>>;

    /// One event with its deliveries and their attempts.
    fn event(&self, id: EventId) -> BoxFuture<Result<Option<EventView>, StoreError>>;

    /// One delivery with its attempts.
    fn delivery(&self, id: DeliveryId) -> BoxFuture<Result<Option<DeliveryView>, StoreError>>;

    /// Does a bounded piece of the upkeep: retention, carrying forward, forgetting keys, ending the grace of unlisted
    /// subscriptions. To be called now and then; at once again while [`Swept::more`].
    fn sweep(&self, budget: Duration) -> BoxFuture<Result<Swept, StoreError>>;

    /// Whom to tell when deliveries become due: called with the subscriptions after each commit, from any thread; it
    /// must return at once. A hint may be lost; a scan finds what it was about.
    fn on_due(&self, tell: Box<Tell>);

    /// Whom to tell which deliveries were dead at birth, once that is durable: called before the answer to
    /// [`Outbox::record`], from any thread; it must return at once. A store that tells nobody costs news and counts.
    fn on_refused(&self, tell: Box<TellRefused>) {
        drop(tell);
    }

    /// How the store is, without any wait.
    fn health(&self) -> Health;

    /// Writes and syncs what is unsettled and closes the store; later calls answer [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<Result<(), StoreError>>;
}

/// What [`Outbox::record`] answers of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Its id; of a duplicate, the first one's.
    pub id: EventId,
    /// Whether its idempotency key was known.
    pub duplicate: bool,
    /// To how many subscriptions it is owed, those dead at birth included.
    pub deliveries: u32,
}

/// A delivery that was dead at birth, since its subscription was owed `backlog_max` already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub delivery: DeliveryId,
    /// Where its event came from.
    pub origin: posthaste_events::Origin,
}

/// How much a claim may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Deliveries at most.
    pub count: usize,
    /// So many of them at least were never tried, where so many are due; 0: due retries go first, however many. Where it is
    /// more, the two kinds take turns in the answer, beginning with what was never tried where that is to be more than half.
    pub fresh_min: usize,
    /// Bytes of payload at most; the first delivery is given however long it is.
    pub bytes: usize,
    /// How long the lease holds.
    pub lease: Duration,
}

/// What a claim gave.
#[derive(Debug, Clone, Default)]
pub struct Claimed {
    /// In the order in which they should be tried.
    pub deliveries: Vec<Leased>,
    /// When the next one is due that was not given: zero where more is due now, `None` where nothing else is owed
    /// or the subscription takes nothing.
    pub next_due: Option<Duration>,
}

/// A lease; never used twice by one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A delivery that was given out.
#[derive(Debug, Clone)]
pub struct Leased {
    /// Its lease.
    pub lease: LeaseId,
    /// Its id.
    pub delivery: DeliveryId,
    /// The number of the attempt to be made, from 1.
    pub attempt: u32,
    /// How long it has been owed, without the time that it was held.
    pub owed_for: Duration,
    /// What is known of the event.
    pub facts: Arc<Facts>,
    /// What the event became.
    pub payloads: Payloads,
}

/// What came of a leased delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Its lease.
    pub lease: LeaseId,
    /// Its id.
    pub delivery: DeliveryId,
    /// The attempt that was made; none with [`Then::Release`].
    pub attempt: Option<Attempt>,
    /// What follows.
    pub then: Then,
}

/// What follows a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It was delivered.
    Delivered,
    /// It is due again after so long.
    RetryIn(Duration),
    /// It is dead, for this reason.
    Dead(String),
    /// It is due again at once; with no attempt, as if it had never been given out.
    Release,
}

/// What a settlement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Applied,
    /// Its attempt was recorded, but what a person wanted meanwhile went before what should follow: this is the state.
    Kept(posthaste_events::State),
    /// The lease was no longer held; nothing changed.
    LeaseLost,
}

/// What a person can want of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Try it again now, whatever it is but delivered.
    Retry,
    /// Never try it again.
    Cancel,
}

/// What became of a [`Wish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// There is no such delivery.
    Unknown,
    /// Its state does not allow it.
    NotNow(posthaste_events::State),
}

/// What [`Outbox::cancel_owed`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cancelled {
    /// Deliveries that are cancelled now and were owed before.
    pub count: u64,
    /// Whether more is owed.
    pub more: bool,
}

/// What an upkeep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Events that are gone for good.
    pub forgotten: u64,
    /// Events whose rows were carried forward since they are still owed.
    pub carried: u64,
    /// Deliveries cancelled since their subscription was gone for too long.
    pub cancelled: u64,
    /// Whether there is more to do at once.
    pub more: bool,
}

/// How a store is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Why nothing new is taken, where that is so.
    pub refusing: Option<String>,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Generations on disk, the active one included.
    pub generations: u64,
    /// Events recorded since the start.
    pub recorded_total: u64,
    /// Syncs that returned since the start.
    pub syncs_total: u64,
    /// Syncs or writes that failed since the start.
    pub failures_total: u64,
    /// Damaged records found since the start.
    pub damaged_total: u64,
    /// Deliveries owed over all subscriptions.
    pub owed: u64,
    /// Deliveries leased at the moment.
    pub leased: u64,
}

/// Why events were not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The subscriptions changed since the events were matched: match them again.
    #[error("the subscriptions changed; match again")]
    StaleEpoch,
    /// The idempotency key of the event at this index is known with another event.
    #[error("the idempotency key was used with another event")]
    Conflict {
        /// Its place in the array, from 0.
        index: usize,
        /// The event that has the key.
        first: EventId,
    },
    /// Nothing new is taken at the moment: disk, queue.
    #[error("nothing new is taken: {reason}")]
    Full {
        /// In words.
        reason: String,
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The store failed; nothing was recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store was closed.
    #[error("the outbox is closed")]
    Closed,
    /// A write, a sync or a read failed.
    #[error("the outbox failed: {0}")]
    Failed(String),
}
