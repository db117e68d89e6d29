//! The way from the HTTP workers to the registry: its messages, how long an answer may take, and what a failure means
//! to a caller.

use super::problem::Problem;
use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, MailboxError, Message, Recipient};
use posthaste_actors::messages::{
    Cancel, CancelReplay, InspectDeliveries, InspectDelivery, InspectEvent, InspectEvents, InspectHealth,
    InspectReplays, InspectSubscription, InspectSubscriptions, Pause, PutSubscription, Record, RecordBatch,
    RecordTelemetry, RemoveSubscription, Replay, Resume, Retry, RotateSecret, Test, Watch,
};
use std::time::Duration;

/// How long the registry may take to answer that something is durable. What it answers later is lost to the caller,
/// who has to post again: with an idempotency key without a second event.
pub(crate) const RECORD_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a look at something may take.
pub(crate) const LOOK_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a test of a subscription may take: a call of its deliveree has up to ten minutes, its batch one.
pub(crate) const TEST_WAIT_MAX: Duration = Duration::from_secs(12 * 60);

/// Where each message goes. Any actor that takes them will do, so a test can stand in for the registry.
#[derive(Clone)]
pub struct Desk {
    pub(crate) record: Recipient<Record>,
    pub(crate) record_batch: Recipient<RecordBatch>,
    pub(crate) record_telemetry: Recipient<RecordTelemetry>,
    pub(crate) events: Recipient<InspectEvents>,
    pub(crate) event: Recipient<InspectEvent>,
    pub(crate) deliveries: Recipient<InspectDeliveries>,
    pub(crate) delivery: Recipient<InspectDelivery>,
    pub(crate) subscriptions: Recipient<InspectSubscriptions>,
    pub(crate) subscription: Recipient<InspectSubscription>,
    pub(crate) test: Recipient<Test>,
    pub(crate) health: Recipient<InspectHealth>,
    pub(crate) retry: Recipient<Retry>,
    pub(crate) cancel: Recipient<Cancel>,
    pub(crate) pause: Recipient<Pause>,
    pub(crate) resume: Recipient<Resume>,
    pub(crate) put: Recipient<PutSubscription>,
    pub(crate) rotate: Recipient<RotateSecret>,
    pub(crate) remove: Recipient<RemoveSubscription>,
    pub(crate) replay: Recipient<Replay>,
    pub(crate) replays: Recipient<InspectReplays>,
    pub(crate) cancel_replay: Recipient<CancelReplay>,
    pub(crate) watch: Recipient<Watch>,
}

impl Desk {
    /// The desk of an actor.
    #[must_use]
    pub fn of<A>(address: &Addr<A>) -> Self
    where
        A: Actor
            + Handler<Record>
            + Handler<RecordBatch>
            + Handler<RecordTelemetry>
            + Handler<InspectEvents>
            + Handler<InspectEvent>
            + Handler<InspectDeliveries>
            + Handler<InspectDelivery>
            + Handler<InspectSubscriptions>
            + Handler<InspectSubscription>
            + Handler<Test>
            + Handler<InspectHealth>
            + Handler<Retry>
            + Handler<Cancel>
            + Handler<Pause>
            + Handler<Resume>
            + Handler<PutSubscription>
            + Handler<RotateSecret>
            + Handler<RemoveSubscription>
            + Handler<Replay>
            + Handler<InspectReplays>
            + Handler<CancelReplay>
            + Handler<Watch>,
        A::Context: ToEnvelope<A, Record>
            + ToEnvelope<A, RecordBatch>
            + ToEnvelope<A, RecordTelemetry>
            + ToEnvelope<A, InspectEvents>
            + ToEnvelope<A, InspectEvent>
            + ToEnvelope<A, InspectDeliveries>
            + ToEnvelope<A, InspectDelivery>
            + ToEnvelope<A, InspectSubscriptions>
            + ToEnvelope<A, InspectSubscription>
            + ToEnvelope<A, Test>
            + ToEnvelope<A, InspectHealth>
            + ToEnvelope<A, Retry>
            + ToEnvelope<A, Cancel>
            + ToEnvelope<A, Pause>
            + ToEnvelope<A, Resume>
            + ToEnvelope<A, PutSubscription>
            + ToEnvelope<A, RotateSecret>
            + ToEnvelope<A, RemoveSubscription>
            + ToEnvelope<A, Replay>
            + ToEnvelope<A, InspectReplays>
            + ToEnvelope<A, CancelReplay>
            + ToEnvelope<A, Watch>,
    {
        Self {
            record: address.clone().recipient(),
            record_batch: address.clone().recipient(),
            record_telemetry: address.clone().recipient(),
            events: address.clone().recipient(),
            event: address.clone().recipient(),
            deliveries: address.clone().recipient(),
            delivery: address.clone().recipient(),
            subscriptions: address.clone().recipient(),
            subscription: address.clone().recipient(),
            test: address.clone().recipient(),
            health: address.clone().recipient(),
            retry: address.clone().recipient(),
            cancel: address.clone().recipient(),
            pause: address.clone().recipient(),
            resume: address.clone().recipient(),
            put: address.clone().recipient(),
            rotate: address.clone().recipient(),
            remove: address.clone().recipient(),
            replay: address.clone().recipient(),
            replays: address.clone().recipient(),
            cancel_replay: address.clone().recipient(),
            watch: address.clone().recipient(),
        }
    }
}

/// Sends a message and waits for its answer, at most so long.
///
/// # Errors
/// 503 where the registry is gone or does not answer in time.
pub(crate) async fn ask<M>(to: &Recipient<M>, message: M, wait: Duration) -> Result<M::Result, Problem>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    match tokio::time::timeout(wait, to.send(message)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(MailboxError::Closed)) => Err(Problem::unavailable("the daemon is stopping", Duration::from_secs(1))),
        Ok(Err(MailboxError::Timeout)) | Err(_) => {
            Err(Problem::unavailable("the outbox does not keep up", Duration::from_secs(5)))
        }
    }
}
