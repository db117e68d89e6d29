//! The payloads that an event becomes, built once when it is recorded and shared as bytes by all receivers.
//!
//! [`Notification`] is for people, [`Anonymous`] for analytics. Which of them a deliveree gets is a type, so that one
//! for analytics can name nothing else:
//!
//! ```
//! # use posthaste_events::{Anonymous, Batch, BoxFuture, Deliveree, Reporter};
//! struct Counter;
//! impl Deliveree<Anonymous> for Counter {
//!     fn deliver(&self, batch: Batch<Anonymous>, report: Reporter) -> BoxFuture<()> {
//!         let first = &batch.deliveries[0];
//!         println!("{} {}", first.payload.id(), first.payload.at());
//!         Box::pin(async move { drop(report) })
//!     }
//!     fn timeout(&self) -> std::time::Duration { std::time::Duration::from_secs(1) }
//! }
//! ```
//!
//! The same with the event's id, its key or its time does not compile:
//!
//! ```compile_fail,E0599
//! # use posthaste_events::{Anonymous, Batch, BoxFuture, Deliveree, Reporter};
//! struct Counter;
//! impl Deliveree<Anonymous> for Counter {
//!     fn deliver(&self, batch: Batch<Anonymous>, report: Reporter) -> BoxFuture<()> {
//!         let first = &batch.deliveries[0];
//!         println!("{} {:?}", first.event(), first.facts().key);
//!         Box::pin(async move { drop(report) })
//!     }
//!     fn timeout(&self) -> std::time::Duration { std::time::Duration::from_secs(1) }
//! }
//! ```
//!
//! And nobody outside this crate writes an [`Anonymous`] down. It has getters for each of these fields:
//!
//! ```
//! # use posthaste_events::{Anonymous, EventType, Payload as _, Timestamp};
//! # use bytes::Bytes;
//! fn parts(of: &Anonymous) -> (EventType, String, Timestamp, String, Bytes) {
//!     (of.event_type().clone(), of.id().into(), of.at(), of.installation().into(), of.bytes().clone())
//! }
//! ```
//!
//! but none of them can be set, since they are private:
//!
//! ```compile_fail,E0451
//! # use posthaste_events::{Anonymous, EventType, Payload as _, Timestamp};
//! # use bytes::Bytes;
//! fn made((event_type, id, at, installation, body): (EventType, String, Timestamp, String, Bytes)) -> Anonymous {
//!     Anonymous { event_type, id, at, installation, body }
//! }
//! ```
//!
//! One door stays open: an outbox gives back the payloads that it was given by [`Payloads::restored`], which trusts it
//! with any bytes. Only the crate of the outboxes may call that, and tests; a test of the whole tree holds it.

use crate::deliveree::Told;
use crate::installation::Installation;
use crate::{EventType, Timestamp};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::fmt;

mod sealed {
    /// Only the two kinds of this module are payloads.
    pub trait Sealed {}
}

/// How long one payload may be, in bytes: 256 KiB.
pub const PAYLOAD_MAX: usize = 256 * 1024;

/// Which payload somebody takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Takes {
    /// [`Notification`].
    #[default]
    Notification,
    /// [`Anonymous`].
    Telemetry,
}

/// What a deliveree can be given: [`Notification`] or [`Anonymous`], nothing else.
pub trait Payload: sealed::Sealed + Clone + Send + Sync + 'static {
    /// What a deliveree is told beside it.
    type About: Clone + fmt::Debug + Send + Sync + 'static;

    /// This kind's payload among those of an event, and what is told beside it.
    fn of(payloads: &Payloads, told: Told, installation: &Installation) -> Option<(Self, Self::About)>;

    /// The JSON that leaves.
    fn bytes(&self) -> &Bytes;
}

/// What people are told: `{"type","timestamp","data"}` as JSON, exactly as a standard webhook's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification(Bytes);

/// What analytics is told: only what the catalogue declared harmless. Nothing outside this crate can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anonymous {
    event_type: EventType,
    id: String,
    at: Timestamp,
    installation: String,
    body: Bytes,
}

impl Anonymous {
    /// The event's type.
    #[must_use]
    pub const fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// A UUID that is the same at every attempt, and tells nothing else; see [`Installation::event_id`].
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it happened, rounded down to the grain of the time of recording.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// What the installation is called this month; see [`Installation::name`].
    #[must_use]
    pub fn installation(&self) -> &str {
        &self.installation
    }
}

impl sealed::Sealed for Notification {}
impl sealed::Sealed for Anonymous {}

impl Payload for Notification {
    type About = Told;

    fn of(payloads: &Payloads, told: Told, _: &Installation) -> Option<(Self, Self::About)> {
        Some((Self(payloads.notification.clone()?), told))
    }

    fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Payload for Anonymous {
    type About = ();

    fn of(payloads: &Payloads, told: Told, installation: &Installation) -> Option<(Self, Self::About)> {
        let Telemetry { at, body } = payloads.told_to_analytics()?;
        let anonymous = Self {
            event_type: told.facts.event_type.clone(),
            id: installation.event_id(told.id),
            at,
            installation: installation.name(told.id, at),
            body,
        };
        Some((anonymous, ()))
    }

    /// `{"event","event_properties","derived_properties"}`.
    fn bytes(&self) -> &Bytes {
        &self.body
    }
}

/// A telemetry payload as it was built: what leaves, and when it happened at the grain of that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// When it happened, rounded down.
    pub at: Timestamp,
    /// `{"event","event_properties","derived_properties"}`.
    pub body: Bytes,
}

/// How many bytes the time takes before a kept telemetry payload.
const AT_BYTES: usize = 8;
/// Stands in place of the time where what follows is no telemetry but what it could not be built from.
const UNBUILT: i64 = i64::MIN;

/// The payloads of one event, serialized, as an outbox keeps them.
///
/// Only [`crate::prepare`] makes new ones; a store gives back what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payloads {
    notification: Option<Bytes>,
    telemetry: Option<Bytes>,
}

impl Payloads {
    pub(crate) fn built(notification: Option<Bytes>, telemetry: Option<&Telemetry>) -> Self {
        Self { notification, telemetry: telemetry.map(|t| kept(t.at.micros(), &t.body)) }
    }

    /// The payloads of an event whose telemetry could not be built, with the properties to build it from later. Nobody
    /// but [`crate::prepare`] sees those: they are no telemetry to anything here, and no notification.
    pub(crate) fn unbuilt(notification: Option<Bytes>, properties: &str) -> Self {
        Self { notification, telemetry: Some(kept(UNBUILT, properties.as_bytes())) }
    }

    /// What [`Payloads::unbuilt`] kept.
    pub(crate) fn properties(&self) -> Option<&[u8]> {
        let (at, properties) = self.telemetry.as_ref()?.split_first_chunk::<AT_BYTES>()?;
        (i64::from_be_bytes(*at) == UNBUILT).then_some(properties)
    }

    /// For an outbox alone: the payloads as they were kept.
    #[must_use]
    pub const fn restored(notification: Option<Bytes>, telemetry: Option<Bytes>) -> Self {
        Self { notification, telemetry }
    }

    /// The notification's bytes.
    #[must_use]
    pub const fn notification(&self) -> Option<&Bytes> {
        self.notification.as_ref()
    }

    /// For an outbox alone: what is kept beside the notification, whether or not it is telemetry.
    #[must_use]
    pub const fn kept(&self) -> Option<&Bytes> {
        self.telemetry.as_ref()
    }

    /// Whether there is something that analytics is told.
    #[must_use]
    pub fn has_telemetry(&self) -> bool {
        self.told_to_analytics().is_some()
    }

    /// The telemetry, to be shown or given to a deliveree; `None` where there is none.
    #[must_use]
    pub fn told_to_analytics(&self) -> Option<Telemetry> {
        let kept = self.telemetry.as_ref()?;
        let at = i64::from_be_bytes(*kept.first_chunk::<AT_BYTES>()?);
        (at != UNBUILT).then(|| Telemetry { at: Timestamp::from_micros(at), body: kept.slice(AT_BYTES..) })
    }

    /// The same without what people are told.
    pub(crate) fn unnotified(&self) -> Self {
        Self { notification: None, telemetry: self.telemetry.clone() }
    }

    /// How many bytes the payload of a kind has as it is kept; 0 where there is none.
    #[must_use]
    pub fn len_of(&self, takes: Takes) -> usize {
        match takes {
            Takes::Notification => self.notification.as_ref().map_or(0, Bytes::len),
            Takes::Telemetry if self.properties().is_some() => 0,
            Takes::Telemetry => self.telemetry.as_ref().map_or(0, Bytes::len),
        }
    }

    /// How many bytes they have in all.
    #[must_use]
    pub fn len(&self) -> usize {
        [&self.notification, &self.telemetry].into_iter().flatten().map(Bytes::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.notification.is_none() && self.telemetry.is_none()
    }
}

/// A payload as it is kept, behind its time.
fn kept(at: i64, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(AT_BYTES + body.len());
    bytes.put_i64(at);
    bytes.put_slice(body);
    bytes.freeze()
}
