//! Why an exchange came to no answer, in the words that people see at an attempt.

use std::error::Error;

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
    /// No connection stood.
    #[error("connect: {0}")]
    Connect(String),
    /// The TLS handshake failed.
    #[error("tls: {0}")]
    Tls(String),
    /// No socket can be opened on this machine at the moment: ours.
    #[error("connect: {0}")]
    Exhausted(String),
    /// The connection broke before the head of an answer was there.
    #[error("connection: {0}")]
    Broken(String),
    /// What came is not an answer in HTTP/1.1, or its head is too large.
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
        matches!(self, Self::Resolver(_) | Self::Exhausted(_))
    }

    /// What surf gives back: one of ours, as it was raised in the client.
    pub(super) fn of(error: surf::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|other| Self::Request(other.to_string()))
    }

    /// What hyper said of an exchange that had begun.
    pub(super) fn exchanging(error: &hyper::Error) -> Self {
        let words = chain(error);
        if error.is_parse() { Self::Answer(words) } else { Self::Broken(words) }
    }

    /// What hyper said while the body of the answer came.
    pub(super) fn reading(error: &hyper::Error) -> Self {
        Self::Body(chain(error))
    }
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
