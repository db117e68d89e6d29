//! What came of an attempt.

use crate::Timestamp;
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;

/// How much of a receiver's answer is kept, in bytes.
pub const ANSWER_KEPT_MAX: usize = 2 * 1024;
/// How long a reason may be, in bytes; longer ones are cut.
pub const REASON_MAX: usize = 512;

/// What a deliveree says of one delivery after one attempt. A failed delivery is data, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered(Detail),
    /// It did not work; another attempt may.
    Retry {
        /// What happened.
        detail: Detail,
        /// Not before so long from now, where the receiver said so (`Retry-After`); at most 24 h are honoured.
        after: Option<Duration>,
    },
    /// The receiver will never take it: dead at once.
    Rejected(Detail),
    /// The attempt could not be made for a reason of our own (a resolver that cannot be reached, no descriptors): it
    /// is made again soon and not charged to the endpoint.
    Unattempted(Detail),
}

/// What an attempt leaves behind for whoever looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// What went wrong, at most [`REASON_MAX`] bytes: a short class, `: `, and the words.
    pub error: Option<String>,
    /// The first [`ANSWER_KEPT_MAX`] bytes of the answer.
    pub answer: Option<Bytes>,
    /// How it went on the wire; `None` where it never came to that.
    pub trace: Option<Box<Trace>>,
}

/// How an attempt went on the wire, as far as it came.
///
/// A phase that did not happen, since the connection was kept or the host is an address, has no time. How long the
/// whole took is the attempt's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// The address that was dialled, or to which a kept connection leads.
    pub address: Option<SocketAddr>,
    /// The look-up of the name.
    pub dns: Option<Duration>,
    /// The connection, from the first address tried to the one that stood.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the request to the head of the answer.
    pub first_byte: Option<Duration>,
}

impl Detail {
    /// The class of the error, the word before its `: `: `dns`, `connect`, `tls`, `timeout` …; `status` where the answer's
    /// status is the error.
    #[must_use]
    pub fn class(&self) -> Option<&str> {
        self.error.as_deref().and_then(|error| error.split([':', ' ']).next())
    }

    /// A detail that says only what went wrong.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self { error: Some(cut(text.into(), REASON_MAX)), ..Self::default() }
    }
}

impl Outcome {
    /// The detail of any outcome.
    #[must_use]
    pub const fn detail(&self) -> &Detail {
        match self {
            Self::Delivered(d) | Self::Retry { detail: d, .. } | Self::Rejected(d) | Self::Unattempted(d) => d,
        }
    }

    /// The outcome as an attempt's record and the logs name it.
    #[must_use]
    pub const fn kind(&self) -> AttemptOutcome {
        match self {
            Self::Delivered(_) => AttemptOutcome::Delivered,
            Self::Retry { .. } => AttemptOutcome::Failed,
            Self::Rejected(_) => AttemptOutcome::Rejected,
            Self::Unattempted(_) => AttemptOutcome::Unattempted,
        }
    }
}

/// The outcome of an attempt, as it is kept and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptOutcome {
    /// It arrived.
    Delivered,
    /// It failed and may be tried again.
    Failed,
    /// It was refused for good.
    Rejected,
    /// It could not be made for a reason of our own.
    Unattempted,
}

impl AttemptOutcome {
    /// The word for it in the API, the logs and the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Unattempted => "unattempted",
        }
    }
}

/// One try at a delivery, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began, by the wall clock.
    pub at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// Status, error and answer.
    pub detail: Detail,
}

/// Cuts a text to at most `max` bytes at a character's border.
#[must_use]
pub fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
