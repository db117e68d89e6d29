//! The answer to a request: its head at once, its body as it comes, and the connection's way back to the pool.

use super::Failure;
use super::connection::Connection;
use super::pool::{Held, Pool};
use super::target::Target;
use bytes::Bytes;
use http_client::http_types;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

/// An answer whose head is there. Dropping it before the body has ended closes the connection, or its stream of a shared
/// one.
pub struct Answer {
    status: u16,
    headers: HeaderMap,
    // Gone once the body has ended.
    live: Option<Live>,
    pool: Pool,
    target: Arc<Target>,
}

/// How an answer goes past surf, whose own takes known statuses only, panics at headers that are not ASCII, and copies
/// bodies. The lock is never taken, only opened: surf wants what can be looked at from several threads.
type Past = Mutex<Answer>;

struct Live {
    body: Incoming,
    // Before the connection: whoever is called when that is free is chosen by what each holds then.
    held: Held,
    connection: Connection,
}

impl Answer {
    pub(super) fn new(
        answer: hyper::Response<Incoming>,
        held: Held,
        connection: Connection,
        pool: Pool,
        target: Arc<Target>,
    ) -> Self {
        let (head, body) = answer.into_parts();
        let live = Some(Live { body, held, connection });
        Self { status: head.status.as_u16(), headers: head.headers, live, pool, target }
    }

    /// What the client hands to surf.
    pub(super) fn past(self) -> http_types::Response {
        // One that surf does not know is shown to it as the first of its class.
        let known = http_types::StatusCode::try_from(self.status)
            .or_else(|_| http_types::StatusCode::try_from(self.status / 100 * 100));
        let mut response = http_types::Response::new(known.unwrap_or(http_types::StatusCode::BadGateway));
        response.ext_mut().insert::<Past>(Mutex::new(self));
        response
    }

    /// What surf hands back.
    pub(super) fn of(response: surf::Response) -> Result<Self, Failure> {
        let mut response: http_types::Response = response.into();
        let past = response.ext_mut().remove::<Past>();
        let past = past.ok_or_else(|| Failure::Answer("has no head".into()))?;
        Ok(past.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The status, as it came.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// A header's value as text, where it is there once and has visible ASCII characters only.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.get_all(name).iter();
        let value = all.next()?.to_str().ok()?;
        if all.next().is_some() { None } else { Some(value) }
    }

    /// Reads the body: hands each piece to `take`, until it ends or `take` says that it has enough.
    ///
    /// Once the body has ended its connection is kept for the next request; otherwise it is closed.
    ///
    /// # Errors
    /// [`Failure::Body`] where it breaks off or is not as HTTP writes it.
    pub async fn read(mut self, mut take: impl FnMut(&[u8]) -> Enough) -> Result<(), Failure> {
        while let Some(piece) = poll_fn(|cx| self.poll_piece(cx)).await? {
            if take(&piece) == Enough::Yes {
                break;
            }
        }
        Ok(())
    }

    /// Waits for a piece; `None` once the body has ended. It drives its connection, which may have no task of its own.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        let Some(Live { body, connection, .. }) = &mut self.live else { return Poll::Ready(Ok(None)) };
        // Where the connection has ended, the body below knows it.
        connection.drive(cx);
        let frame = Pin::new(body).poll_frame(cx);
        // Whoever leaves a stream while something comes had enough; the connection is no worse for that. After an error
        // nobody knows.
        connection.answered(matches!(frame, Poll::Ready(None | Some(Ok(_)))));
        Poll::Ready(match ready!(frame) {
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => {
                self.live = None;
                Err(Failure::reading(&error))
            }
            None => {
                if let Some(Live { held, connection, .. }) = self.live.take() {
                    drop(held);
                    self.pool.put(self.target.origin(), connection);
                }
                Ok(None)
            }
        })
    }
}

impl fmt::Debug for Answer {
    /// The status alone: what came may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({})", self.status)
    }
}

/// Whether whoever reads has enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enough {
    /// Nothing more is read.
    Yes,
    /// It goes on.
    No,
}
