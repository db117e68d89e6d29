//! The payloads that an event becomes, built once when it is recorded and shared as bytes by all receivers.

use bytes::Bytes;

mod sealed {
    /// Only the two kinds of this module are payloads.
    pub trait Sealed {}
}

/// How long one payload may be, in bytes: 256 KiB.
pub const PAYLOAD_MAX: usize = 256 * 1024;

/// What a deliveree can be given: [`Notification`] or [`Anonymous`], nothing else.
pub trait Payload: sealed::Sealed + Clone + Send + Sync + 'static {
    /// This kind's payload among those of an event.
    fn of(payloads: &Payloads) -> Option<Self>;
    /// The JSON that leaves.
    fn bytes(&self) -> &Bytes;
}

/// What people are told: `{"type","timestamp","data"}` as JSON, exactly as a standard webhook's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification(Bytes);

/// What analytics is told: only what the catalogue declared harmless. Nothing outside this crate can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anonymous(Bytes);

impl sealed::Sealed for Notification {}
impl sealed::Sealed for Anonymous {}

impl Payload for Notification {
    fn of(payloads: &Payloads) -> Option<Self> {
        payloads.notification.clone().map(Self)
    }

    fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Payload for Anonymous {
    fn of(payloads: &Payloads) -> Option<Self> {
        payloads.telemetry.clone().map(Self)
    }

    fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// The payloads of one event, serialized, as an outbox keeps them.
///
/// Only [`crate::prepare`] makes new ones; a store gives back what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payloads {
    notification: Option<Bytes>,
    telemetry: Option<Bytes>,
}

impl Payloads {
    pub(crate) const fn built(notification: Option<Bytes>, telemetry: Option<Bytes>) -> Self {
        Self { notification, telemetry }
    }

    /// For an outbox: the payloads as they were kept.
    #[must_use]
    pub const fn restored(notification: Option<Bytes>, telemetry: Option<Bytes>) -> Self {
        Self { notification, telemetry }
    }

    /// For an outbox: the notification's bytes.
    #[must_use]
    pub const fn notification(&self) -> Option<&Bytes> {
        self.notification.as_ref()
    }

    /// For an outbox: the telemetry's bytes.
    #[must_use]
    pub const fn telemetry(&self) -> Option<&Bytes> {
        self.telemetry.as_ref()
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
