//! The answer to a request: its head at once, its body as it comes, and the connection's way back to the pool.

use super::Failure;
use super::connection::Connection;
use super::pool::Pool;
use super::target::Target;
use bytes::{Buf as _, Bytes};
use http_client::http_types;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use surf::http::Body;

use futures_util::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead};

/// The head as it came. surf's own takes known statuses only and panics at headers that are not ASCII.
#[derive(Debug)]
struct Head {
    status: u16,
    headers: HeaderMap,
}

/// An answer whose head is there. Dropping it before the body has ended closes the connection, or its stream of a shared
/// one.
#[derive(Debug)]
pub struct Answer {
    response: surf::Response,
}

impl Answer {
    pub(super) fn new(response: surf::Response) -> Result<Self, Failure> {
        if response.ext::<Head>().is_some() {
            Ok(Self { response })
        } else {
            Err(Failure::Answer("has no head".into()))
        }
    }

    /// What the client hands to surf.
    pub(super) fn response(
        answer: hyper::Response<Incoming>,
        connection: Connection,
        pool: Pool,
        target: Arc<Target>,
    ) -> http_types::Response {
        let (head, body) = answer.into_parts();
        let status = head.status.as_u16();
        // One that surf does not know is shown to it as the first of its class.
        let known =
            http_types::StatusCode::try_from(status).or_else(|_| http_types::StatusCode::try_from(status / 100 * 100));
        let mut response = http_types::Response::new(known.unwrap_or(http_types::StatusCode::BadGateway));
        response.ext_mut().insert(Head { status, headers: head.headers });
        let reader = Reader { live: Mutex::new(Some(Live { body, connection })), chunk: Bytes::new(), pool, target };
        response.set_body(Body::from_reader(reader, None));
        response
    }

    /// The status, as it came.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.ext::<Head>().map_or(0, |head| head.status)
    }

    /// A header's value as text, where it is there once and has visible ASCII characters only.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.response.ext::<Head>()?.headers.get_all(name).iter();
        let value = all.next()?.to_str().ok()?;
        if all.next().is_some() { None } else { Some(value) }
    }

    /// Reads the body: hands each piece to `take`, until it ends or `take` says that it has enough.
    ///
    /// Once the body has ended its connection is kept for the next request; otherwise it is closed.
    ///
    /// # Errors
    /// [`Failure::Body`] where it breaks off or is not as HTTP/1.1 writes it.
    pub async fn read(mut self, mut take: impl FnMut(&[u8]) -> Enough) -> Result<(), Failure> {
        let mut body = self.response.take_body().into_reader();
        loop {
            let piece = body.fill_buf().await.map_err(|e| Failure::Body(words(&e)))?;
            let len = piece.len();
            if len == 0 || take(piece) == Enough::Yes {
                return Ok(());
            }
            body.consume_unpin(len);
        }
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

fn words(error: &io::Error) -> String {
    error.to_string()
}

struct Live {
    body: Incoming,
    connection: Connection,
}

/// The body as surf wants one. It drives its connection, which has no task of its own.
struct Reader {
    // The lock is never taken, only `get_mut`: it makes the reader `Sync`, as surf asks of bodies.
    live: Mutex<Option<Live>>,
    chunk: Bytes,
    pool: Pool,
    target: Arc<Target>,
}

impl Reader {
    /// Waits until there is a chunk or the body has ended.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            let live = self.live.get_mut().unwrap_or_else(PoisonError::into_inner);
            let Some(Live { body, connection }) = live else { return Poll::Ready(Ok(())) };
            // Where the connection has ended, the body below knows it.
            connection.drive(cx);
            let frame = Pin::new(body).poll_frame(cx);
            // Whoever leaves a stream while something comes had enough; the connection is no worse for that. After an error
            // nobody knows.
            connection.answered(matches!(frame, Poll::Ready(None | Some(Ok(_)))));
            match ready!(frame) {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    let failure = Failure::reading(&error);
                    *live = None;
                    let text = failure.to_string();
                    return Poll::Ready(Err(io::Error::other(text.trim_start_matches("body: ").to_owned())));
                }
                None => {
                    if let Some(live) = live.take() {
                        self.pool.put(self.target.origin(), live.connection);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_chunk(cx))?;
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let chunk = &mut self.get_mut().chunk;
        chunk.advance(amount.min(chunk.len()));
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let piece = ready!(self.as_mut().poll_fill_buf(cx))?;
        let len = piece.len().min(buffer.len());
        buffer[..len].copy_from_slice(&piece[..len]);
        self.consume(len);
        Poll::Ready(Ok(len))
    }
}
