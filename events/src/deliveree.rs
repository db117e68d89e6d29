//! The seam for whoever can deliver: [`Deliveree`].

use crate::outcome::Detail;
use crate::{BoxFuture, DeliveryId, EventId, Facts, Notification, Outcome, Payload};
use std::sync::Arc;
use std::time::Duration;

/// Sends deliveries to one kind of place.
///
/// Time: finish within [`Batch::deadline`]; later the future is dropped, and what was not reported counts as
/// [`Outcome::Retry`].
/// Repeats: after a crash the same delivery may come again; pass the event's id on so that the receiver can tell.
/// Failure: report an [`Outcome`] for each delivery as it is known; a panic counts as [`Outcome::Retry`] for what was
/// not reported.
pub trait Deliveree<P: Payload>: Send + Sync + 'static {
    /// Tries every delivery of the batch once and reports each outcome.
    fn deliver(&self, batch: Batch<P>, report: Reporter) -> BoxFuture<()>;

    /// How large a batch may be; asked once, when the deliveree is made.
    fn limits(&self) -> BatchLimits {
        BatchLimits::ONE
    }

    /// How long one call of [`Deliveree::deliver`] may take at most.
    fn timeout(&self) -> Duration;
}

/// How large the batches of a deliveree may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// How many deliveries at most; 1 or more.
    pub events: usize,
    /// How many bytes of payload at most; a single delivery may be larger.
    pub bytes: usize,
    /// How long a batch that is not full may wait for more; zero: not at all. At most 60 s.
    pub wait: Duration,
}

impl BatchLimits {
    /// One delivery a call, as a webhook takes them.
    pub const ONE: Self = Self { events: 1, bytes: usize::MAX, wait: Duration::ZERO };
}

/// What a deliveree is given at a time: 1 or more deliveries of one subscription.
#[derive(Debug, Clone)]
pub struct Batch<P: Payload> {
    /// In the order of recording.
    pub deliveries: Vec<Delivery<P>>,
    /// How long the whole call may take.
    pub deadline: Duration,
}

/// One delivery as a deliveree sees it.
#[derive(Debug, Clone)]
pub struct Delivery<P: Payload> {
    /// What its outcome is reported with.
    pub ticket: Ticket,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// What is told of it beside the payload: of a [`Notification`] everything, of an [`crate::Anonymous`] nothing.
    pub about: P::About,
    /// What leaves.
    pub payload: P,
}

/// Stands for one delivery of one batch: its place in it, which tells nothing of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub usize);

/// What a deliveree of notifications is told of an event.
#[derive(Debug, Clone)]
pub struct Told {
    /// The id of the delivery.
    pub id: DeliveryId,
    /// Type, key, tenant and times of the event.
    pub facts: Arc<Facts>,
}

impl Delivery<Notification> {
    /// The id of the delivery.
    #[must_use]
    pub const fn id(&self) -> DeliveryId {
        self.about.id
    }

    /// The id of the event: the same at every attempt and for every receiver.
    #[must_use]
    pub const fn event(&self) -> EventId {
        self.about.id.event
    }

    /// Type, key, tenant and times of the event.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.about.facts
    }
}

/// What a deliveree can say beside the outcomes of its deliveries: it is about the subscription as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Nothing should be sent for so long (`Retry-After` of a 429, 502, 503 or 504).
    SlowDown(Duration),
    /// The receiver wants no more (410): the subscription is disabled, what it is owed is held.
    Disable(String),
}

/// Where the outcomes of one batch go. Cheap to clone; each delivery counts once, its first report wins.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Report) + Send + Sync>);

/// What is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// What came of one delivery.
    Outcome(Ticket, Outcome),
    /// Something about the subscription.
    Signal(Signal),
}

impl Reporter {
    /// A reporter that hands everything to `take`, which must not block.
    pub fn new(take: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Reports the outcome of a delivery.
    pub fn outcome(&self, ticket: Ticket, outcome: Outcome) {
        (self.0)(Report::Outcome(ticket, outcome));
    }

    /// Says something about the subscription.
    pub fn signal(&self, signal: Signal) {
        (self.0)(Report::Signal(signal));
    }
}

/// Makes a [`Deliveree`] of an `async fn(Delivery<P>) -> Outcome`: for places that take one at a time.
pub struct OneByOne<F> {
    timeout: Duration,
    send: Arc<F>,
}

impl<F> OneByOne<F> {
    /// Each delivery may take `timeout`.
    pub fn new(timeout: Duration, send: F) -> Self {
        Self { timeout, send: Arc::new(send) }
    }
}

impl<P, F, Fut> Deliveree<P> for OneByOne<F>
where
    P: Payload,
    F: Fn(Delivery<P>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    fn deliver(&self, batch: Batch<P>, report: Reporter) -> BoxFuture<()> {
        let send = Arc::clone(&self.send);
        Box::pin(async move {
            for delivery in batch.deliveries {
                let ticket = delivery.ticket;
                report.outcome(ticket, send(delivery).await);
            }
        })
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// The outcome of a delivery that was not reported before its deadline.
#[must_use]
pub fn timed_out(after: Duration) -> Outcome {
    Outcome::Retry {
        detail: Detail::error(format!("timeout: no outcome within {} ms", after.as_millis())),
        after: None,
    }
}

/// The outcome of a delivery whose deliveree panicked before it reported.
#[must_use]
pub fn panicked() -> Outcome {
    Outcome::Retry { detail: Detail::error("panic: the deliveree panicked"), after: None }
}

/// A deliveree of either kind of payload, as the table of kinds and an embedding application hand it over.
#[derive(Clone)]
pub enum AnyDeliveree {
    /// Gets what people are told.
    Notification(Arc<dyn Deliveree<crate::Notification>>),
    /// Gets what analytics is told, and cannot name anything else.
    Anonymous(Arc<dyn Deliveree<crate::Anonymous>>),
}

impl AnyDeliveree {
    /// Which payload it gets.
    #[must_use]
    pub const fn takes(&self) -> crate::payload::Takes {
        match self {
            Self::Notification(_) => crate::payload::Takes::Notification,
            Self::Anonymous(_) => crate::payload::Takes::Telemetry,
        }
    }

    /// How large its batches may be.
    #[must_use]
    pub fn limits(&self) -> BatchLimits {
        match self {
            Self::Notification(d) => d.limits(),
            Self::Anonymous(d) => d.limits(),
        }
    }

    /// How long one call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Notification(d) => d.timeout(),
            Self::Anonymous(d) => d.timeout(),
        }
    }
}

impl std::fmt::Debug for AnyDeliveree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Notification(_) => "Notification",
            Self::Anonymous(_) => "Anonymous",
        })
    }
}
