//! Why an exchange came to no answer, in the words that people see at an attempt.

use super::Stage;
use crate::guard::RefusedPort;
use std::error::Error;
use std::time::Duration;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The name has no address, or there is no such name: the endpoint's fault.
    #[error("dns: {0}")]
    Name(String),
    /// The resolver fails or cannot be reached: ours.
    #[error("dns: {0}")]
    Resolver(String),
    /// Every address of the endpoint is one that the guard refuses.
    #[error("refused address: {0}")]
    Refused(String),
    /// Its port is one that the guard refuses.
    #[error("refused port: {0}")]
    RefusedPort(RefusedPort),
    /// No connection stood.
    #[error("connect: {0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("tls: {0}")]
    Tls(String),
    /// The system's authorities can not be read: ours.
    #[error("tls: {0}")]
    Authorities(String),
    /// No socket can be opened on this machine at the moment: ours.
    #[error("connect: {0}")]
    Exhausted(String),
    /// Something took longer than it may.
    #[error("timeout: {0}")]
    Late(String),
    /// The same, for a reason of our own.
    #[error("timeout: {0}")]
    Delayed(String),
    /// The connection broke before the head of an answer was there.
    #[error("connection: {0}")]
    Broken(String),
    /// What came is not an answer in HTTP, or its head is too large.
    #[error("answer: {0}")]
    Answer(String),
    /// The body of the answer broke off.
    #[error("body: {0}")]
    Body(String),
    /// The request can not be sent as it is.
    #[error("request: {0}")]
    Request(String),
}

impl Failure {
    /// Whether it is for a reason of our own, not the endpoint's.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Resolver(_) | Self::Authorities(_) | Self::Exhausted(_) | Self::Delayed(_))
    }

    /// What surf gives back: one of ours, as it was raised in the client.
    pub(super) fn of(error: surf::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|other| Self::Request(other.to_string()))
    }

    /// What was not there in time, and by which setting. Whoever waits for a connection to become free, or for a look-up
    /// where the name is not to blame (`blames`), waits for us.
    pub(super) fn late(stage: Stage, after: Duration, setting: &str, blames: bool) -> Self {
        let (what, ours) = match stage {
            Stage::Queueing => ("no connection became free", true),
            Stage::Resolving => ("the name did not resolve", !blames),
            Stage::Connecting => ("no connection", false),
            Stage::Handshaking => ("no TLS handshake", false),
            Stage::Answering => ("no answer", false),
        };
        let words = format!("{what} within {} ms ({setting})", after.as_millis());
        if ours { Self::Delayed(words) } else { Self::Late(words) }
    }

    /// What hyper said of an exchange that had begun.
    pub(super) fn exchanging(error: &hyper::Error) -> Self {
        let words = chain(error);
        if error.is_parse() || breaks_the_rules(error) { Self::Answer(words) } else { Self::Broken(words) }
    }

    /// What hyper said while the body of the answer came.
    pub(super) fn reading(error: &hyper::Error) -> Self {
        Self::Body(chain(error))
    }
}

/// Whether what came over HTTP/2 is not as it must be, as we saw it.
fn breaks_the_rules(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            return h2.is_library();
        }
        cause = inner.source();
    }
    false
}

/// An error with its causes, each once: outer texts often repeat the inner ones.
fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !words.contains(&text) {
            words.push_str(": ");
            words.push_str(&text);
        }
        cause = inner.source();
    }
    words
}
