//! The message API: what can be sent to the registry's address, and what it answers.
//!
//! The HTTP API is a thin client of exactly these. Mailboxes are bounded: `send` waits, `try_send` fails when one is
//! full; never use `do_send`, which ignores the bound.

use crate::author::{NotWritten, Rotation};
pub use crate::scheduler::CircuitState;
use crate::settings::{Reveal, Settings, Source, Version};
use actix::Message;
use posthaste_events::catalogue::Catalogue;
use posthaste_events::prepare::{RelayDraft, Unfit};
use posthaste_events::{Attempt, DeliveryId, EventId, EventType, Pattern, Prepared, State, SubscriptionId, Timestamp};
use posthaste_outbox::query::{DeliveryQuery, DeliveryRow, DeliveryView, EventQuery, EventRow, EventView, Page};
use posthaste_outbox::{Answer, Epoch, Health, RecordError, Recorded, ReplayId, Standing, StoreError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Records one event; answered once it is durable.
#[derive(Debug, Message)]
#[rtype(result = "Result<Recorded, RecordError>")]
pub struct Record {
    /// The event, prepared against a snapshot.
    pub event: Prepared,
    /// The snapshot's epoch; where it is old the registry matches again by itself.
    pub epoch: Epoch,
}

/// Records events, all or nothing; answered once they are durable, in order.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Recorded>, RecordError>")]
pub struct RecordBatch {
    /// The events, prepared against one snapshot.
    pub events: Vec<Prepared>,
    /// The snapshot's epoch; where it is old the registry matches again by itself.
    pub epoch: Epoch,
}

/// Records events that are brought already anonymized: they go to analytics alone, and of each only what its type's
/// telemetry schema knows. All or nothing; answered once they are durable, in order.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Sent>, NotSent>")]
pub struct RecordTelemetry(pub Vec<RelayDraft>);

/// A relayed event that is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What the outbox answered.
    pub recorded: Recorded,
    /// JSON Pointers of what was left out: the first 100 places.
    pub dropped: Vec<String>,
}

/// Why relayed events were not recorded.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// Something is wrong with one of them.
    #[error("event {index}: {why}")]
    Unfit {
        /// Which: its place among those of the message, from 0.
        index: usize,
        /// What.
        why: Unfit,
    },
    /// The outbox did not take them.
    #[error(transparent)]
    Refused(#[from] RecordError),
}

/// Lists events.
#[derive(Debug, Message)]
#[rtype(result = "Result<Page<EventRow, EventId>, StoreError>")]
pub struct InspectEvents(pub EventQuery);

/// Looks at one event.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<EventView>, StoreError>")]
pub struct InspectEvent(pub EventId);

/// Lists deliveries.
#[derive(Debug, Message)]
#[rtype(result = "Result<Page<DeliveryRow, DeliveryId>, StoreError>")]
pub struct InspectDeliveries(pub DeliveryQuery);

/// Looks at one delivery.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<DeliveryView>, StoreError>")]
pub struct InspectDelivery(pub DeliveryId);

/// Lists the subscriptions that are configured or still owed something, by name; the built-in
/// [`QUARANTINE`](crate::QUARANTINE) only while it is owed something.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<SubscriptionView>, StoreError>")]
pub struct InspectSubscriptions;

/// Looks at one subscription by its name, the built-in [`QUARANTINE`](crate::QUARANTINE) too.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<SubscriptionView>, StoreError>")]
pub struct InspectSubscription(pub String);

/// The event types that are declared, and what each becomes.
#[derive(Debug, Message)]
#[rtype(result = "Catalogue")]
pub struct InspectTypes;

/// How the engine is.
#[derive(Debug, Message)]
#[rtype(result = "EngineHealth")]
pub struct InspectHealth;

/// Tries a delivery again now, even where the receiver of its subscription asked to wait.
#[derive(Debug, Message)]
#[rtype(result = "Result<Answer, StoreError>")]
pub struct Retry(pub DeliveryId);

/// Never tries a delivery again.
#[derive(Debug, Message)]
#[rtype(result = "Result<Answer, StoreError>")]
pub struct Cancel(pub DeliveryId);

/// Pauses a subscription: what it is owed is held. One that is disabled stays so. `None` where there is none of that
/// name, or it is another tenant's, else as it is then.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<SubscriptionView>, StoreError>")]
pub struct Pause {
    /// The name of the subscription.
    pub subscription: String,
    /// As in [`PutSubscription`].
    pub bound: Option<String>,
}

/// Ends a pause, a disabling, and a wait that its receiver asked for. `None` where there is none of that name, or it is
/// another tenant's, else as it is then.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<SubscriptionView>, StoreError>")]
pub struct Resume {
    /// The name of the subscription.
    pub subscription: String,
    /// As in [`PutSubscription`].
    pub bound: Option<String>,
}

/// Records an event that is owed to one subscription alone, whatever it selects, and answers with the first attempt at
/// it. Waits for as long as a call of its deliveree and the wait of its batch may take, and two seconds.
#[derive(Debug, Message)]
#[rtype(result = "Result<Arc<Watched>, NotTested>")]
pub struct Test {
    /// The name of the subscription.
    pub subscription: String,
    /// The catalogue's example of this type; `None`: `posthaste:test`.
    pub event_type: Option<EventType>,
    /// As in [`PutSubscription`].
    pub bound: Option<String>,
}

/// Why a [`Test`] has no attempt to show.
#[derive(Debug, thiserror::Error)]
pub enum NotTested {
    /// There is no configured subscription of that name, or it is another tenant's.
    #[error("there is no such subscription")]
    Unknown,
    /// It is paused.
    #[error("the subscription is paused; resume it first")]
    Paused,
    /// It is disabled, for this reason.
    #[error("the subscription is disabled ({0}); resume it first")]
    Disabled(String),
    /// Its deliveree could not be made.
    #[error("the subscription's deliveree could not be made; see the log")]
    Broken,
    /// Its circuit is open: nothing but a probe goes out.
    #[error("the circuit of the subscription is open, since its receiver failed for long; it is probed by itself")]
    CircuitOpen,
    /// Its receiver asked to wait for so long.
    #[error("the receiver asked to wait, for {} more seconds; resume the subscription to end that", .0.as_secs())]
    AskedToWait(Duration),
    /// It takes telemetry, which is switched off.
    #[error("telemetry is switched off")]
    TelemetryOff,
    /// The type is not declared.
    #[error("the type {0:?} is not declared in the catalogue")]
    Undeclared(EventType),
    /// The type has no example.
    #[error("the type {0:?} has no example; give it one in the catalogue")]
    NoExample(EventType),
    /// The event has nothing that this subscription takes.
    #[error("the event has nothing for this subscription: {0}")]
    NothingToTell(String),
    /// The example cannot be recorded.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The outbox did not take the event.
    #[error(transparent)]
    Refused(#[from] RecordError),
    /// The event is recorded and owed, and no attempt was seen in time: others may wait before it.
    #[error("no attempt at {delivery} within {} s; it goes on, look at the delivery", .after.as_secs())]
    NoAnswer {
        /// The delivery.
        delivery: DeliveryId,
        /// How long it was waited.
        after: Duration,
    },
    /// The outbox failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The one answer to a message with one event.
///
/// # Errors
/// There is none: the store has broken its promise.
pub fn only<T>(answers: Vec<T>) -> Result<T, StoreError> {
    answers.into_iter().next().ok_or_else(|| StoreError::Failed("no answer for the event".to_owned()))
}

/// Replaces the settings; what waits goes by them from its next attempt on. With telemetry switched off it answers once
/// the first piece of what is owed of it is cancelled; the rest follows, and none of it is sent. Switched on again, it
/// answers once all of that is cancelled.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Reload(pub Settings);

/// Makes a subscription, or changes one, that the outbox keeps; answered once it is durable and takes effect.
#[derive(Debug, Message)]
#[rtype(result = "Result<Changed, NotChanged>")]
pub struct PutSubscription {
    /// What to do.
    pub put: Put,
    /// The tenant that whoever asks is bound to: what is another's is not there for it.
    pub bound: Option<String>,
}

/// What [`PutSubscription`] does.
pub enum Put {
    /// Makes one: its settings, with its name, as JSON has them.
    Create(serde_json::Map<String, serde_json::Value>),
    /// Changes one by a JSON merge patch (RFC 7396) over what was written, secrets included.
    Change {
        /// Which.
        name: String,
        /// What to change.
        patch: serde_json::Map<String, serde_json::Value>,
        /// The versions that may be changed; `None`: whatever it has.
        versions: Option<Vec<Version>>,
    },
}

impl fmt::Debug for Put {
    /// Which keys there are, and no value: some are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(settings) => f.debug_tuple("Create").field(&settings.keys().collect::<Vec<_>>()).finish(),
            Self::Change { name, patch, versions } => f
                .debug_struct("Change")
                .field("name", name)
                .field("patch", &patch.keys().collect::<Vec<_>>())
                .field("versions", versions)
                .finish(),
        }
    }
}

/// Puts a new secret first; those before it count until a grace is over. Answered once it is durable and takes effect.
#[derive(Debug, Message)]
#[rtype(result = "Result<Changed, NotChanged>")]
pub struct RotateSecret {
    /// The name of the subscription.
    pub subscription: String,
    /// The new secret and the grace.
    pub rotation: Rotation,
    /// The versions that may be changed; `None`: whatever it has.
    pub versions: Option<Vec<Version>>,
    /// As in [`PutSubscription`].
    pub bound: Option<String>,
}

/// Removes a subscription that the outbox keeps: what it is owed is cancelled, and then it is forgotten.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), NotChanged>")]
pub struct RemoveSubscription {
    /// Its name.
    pub subscription: String,
    /// The versions that may be removed; `None`: whatever it has.
    pub versions: Option<Vec<Version>>,
    /// As in [`PutSubscription`].
    pub bound: Option<String>,
}

/// A subscription after a change.
#[derive(Clone, PartialEq)]
pub struct Changed {
    /// As it stands now.
    pub view: SubscriptionView,
    /// A secret that was made, shown this once.
    pub secret: Option<String>,
}

impl fmt::Debug for Changed {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changed").field("view", &self.view).finish_non_exhaustive()
    }
}

/// Why a subscription was not changed; nothing is changed then, but where the outbox failed.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// There is none of that name, or it is another tenant's.
    #[error("there is no such subscription")]
    Unknown,
    /// The name is taken.
    #[error("there is a subscription of that name already")]
    Exists,
    /// It stands in the configuration.
    #[error("this subscription stands in the daemon's configuration; change it there")]
    Configured,
    /// Whoever asks is bound to another tenant than it names.
    #[error("the tenant is another than that of the caller")]
    Foreign,
    /// It was changed meanwhile, or made anew: this is its version.
    #[error("the subscription was changed meanwhile, or removed and made anew; its revision is {} by now", .0.revision)]
    Version(Version),
    /// The settings are wrong, or it cannot be changed.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    /// There are as many as may be.
    #[error("there are {0} subscriptions already, as many as may be")]
    TooMany(usize),
    /// So many changes wait that no more are taken; come again.
    #[error("too many changes of subscriptions wait; come again")]
    Busy,
    /// This engine keeps no subscriptions.
    #[error("this engine takes no subscriptions but those of its configuration")]
    NotKept,
    /// The outbox failed: the change may have been made all the same.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Orders that what was recorded before is delivered again, or for the first time; answered once the order is durable.
/// It is carried out piece by piece beside what is new, also over restarts.
#[derive(Debug, Message)]
#[rtype(result = "Result<ReplayView, NotReplayed>")]
pub struct Replay {
    /// The name of the subscription.
    pub subscription: String,
    /// Events recorded at or after.
    pub since: Option<Timestamp>,
    /// Events recorded before; `None`: whatever was recorded when it is ordered.
    pub until: Option<Timestamp>,
    /// Whose delivery is in this settled state. `None`: in any of them, or never owed to it and selected by it now.
    pub state: Option<State>,
    /// Events of these types.
    pub event_type: Option<Pattern>,
    /// As in [`PutSubscription`].
    pub bound: Option<String>,
}

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum NotReplayed {
    /// There is no such subscription, or it is another tenant's.
    #[error("there is no such subscription")]
    Unknown,
    /// What waits or is held comes anyway.
    #[error("what is {0} comes anyway; name a settled state: delivered, dead or cancelled")]
    Unsettled(&'static str),
    /// It takes telemetry, which is switched off.
    #[error("telemetry is switched off")]
    TelemetryOff,
    /// As many as may be are under way: of this subscription, of its tenant, or of all.
    #[error(
        "{0} replays of this subscription, of its tenant, or of all are under way, as many as may be; wait for one, or cancel one"
    )]
    TooMany(usize),
    /// The outbox failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lists the replays under way and the last that ended, each with its subscription's name, by number.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<ReplayView>, StoreError>")]
pub struct InspectReplays;

/// A replay as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayView {
    /// The replay.
    pub replay: posthaste_outbox::Replay,
    /// The name of its subscription; `None` where that is gone.
    pub subscription: Option<String>,
    /// Whose it is.
    pub tenant: Option<String>,
}

/// Ends a replay; what it made due stays so. `None` where there is none of that number.
#[derive(Debug, Message)]
#[rtype(result = "Result<Option<ReplayView>, StoreError>")]
pub struct CancelReplay(pub ReplayId);

/// The stream of attempts as they happen; one that reads too slowly misses some and is told how many.
#[derive(Debug, Message)]
#[rtype(result = "broadcast::Receiver<Arc<Watched>>")]
pub struct Watch;

/// Stops taking, lets what is in flight finish for at most `grace`, returns the rest, closes the outbox.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Stop {
    /// How long deliveries in flight may go on.
    pub grace: Duration,
}

/// An attempt, as a watcher sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Watched {
    /// The event.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Its tenant.
    pub tenant: Option<String>,
    /// The subscription's name.
    pub subscription: String,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The attempt.
    pub attempt: Attempt,
    /// The state of the delivery after it.
    pub state: State,
}

/// A subscription as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionView {
    /// Its number, which deliveries are asked for by.
    pub id: SubscriptionId,
    /// Its name.
    pub name: String,
    /// Its settings as shown, without anything secret; empty where it is no longer configured.
    pub shown: serde_json::Map<String, serde_json::Value>,
    /// What may take the place of the same keys of `shown` for those who may see it: whole URLs.
    pub reveal: Reveal,
    /// Where it stands written; `None` where it is written nowhere any more, or is built in.
    pub source: Option<Source>,
    /// Whose it is.
    pub tenant: Option<String>,
    /// Whether it is configured.
    pub listed: bool,
    /// What it takes.
    pub standing: Standing,
    /// Deliveries owed, held ones included.
    pub backlog: u64,
    /// Deliveries in flight.
    pub in_flight: u64,
    /// How its circuit stands.
    pub circuit: CircuitState,
    /// Why its circuit opened, where it is not closed.
    pub circuit_reason: Option<String>,
    /// When the first attempt failed since a delivery arrived last; `None` where the last one arrived.
    pub failing_since: Option<Timestamp>,
    /// Until when nothing is sent since its receiver asked to wait; `None` where it did not. Ended by [`Resume`], by
    /// [`Retry`] of one of its deliveries, and by a reload that changes its settings.
    pub held_until: Option<Timestamp>,
}

/// How the engine is: what `/readyz` and `/metrics` tell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EngineHealth {
    /// The outbox.
    pub outbox: Health,
    /// Whether the engine is stopping.
    pub stopping: bool,
    /// Attempts since the start, by subscription and outcome.
    pub attempts: Vec<(String, &'static str, u64)>,
    /// Deliveries that died since the start, by subscription.
    pub dead: Vec<(String, u64)>,
    /// Deliveree actors that were made again since the start.
    pub restarts_total: u64,
    /// Owed deliveries, by subscription.
    pub backlog: Vec<(String, u64)>,
    /// The sums of the durations of attempts and their count, by subscription, in seconds.
    pub attempt_seconds: Vec<(String, f64, u64)>,
    /// Outcomes that came after their lease was lost, since the start.
    pub leases_lost_total: u64,
    /// Events recorded since the start whose telemetry could not be built.
    pub quarantined_total: u64,
    /// How often a `filter` failed at run time since the settings were last replaced, by subscription; of those that
    /// have one.
    pub filter_errors: Vec<(String, u64)>,
}
