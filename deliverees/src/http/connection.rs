//! One connection: HTTP/1.1, which serves one request at a time, or a stream of a shared HTTP/2 connection.
//!
//! An HTTP/1.1 connection has no task of its own: whoever uses it drives it, and dropping it closes its socket at once.
//! An HTTP/2 connection is driven by tasks that end with the last who holds it, whatever the other side does or leaves;
//! dropping a stream resets it.

use super::Failure;
use super::connect::{Opened, Stream};
use super::paced::Paced;
use super::pool::Slot;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::{JoinSet, unconstrained};

/// The whole head of an answer, and what is read ahead of an HTTP/1.1 body.
pub(super) const HEAD_MAX: u32 = 64 * 1024;
/// How many headers an answer may have; over HTTP/1.1 hyper itself takes no more.
pub(super) const HEADERS_MAX: usize = 100;
/// How many requests may be under way on one HTTP/2 connection, where the other side does not take fewer.
const STREAMS_MAX: usize = 100;
/// How much of an answer may be on its way before it is read, for one stream and for the connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Longest piece of HTTP/2 that is read before those who wait for answers have their turn, in bytes.
const PIECE_MAX: usize = 32 * 1024;
/// How long nothing may come over HTTP/2 while an answer is waited for until it is asked whether anybody is there, and
/// how long that may take.
const PING_AFTER: Duration = Duration::from_secs(5);
const PING_TIME_MAX: Duration = Duration::from_secs(5);

/// A request that is ready to go, its body shared.
pub(super) type Request = hyper::Request<Full<Bytes>>;

/// Why a request came to no answer, and whether it may be sent again: nobody has taken it up.
pub(super) struct Unsent {
    pub(super) failure: Failure,
    pub(super) again: bool,
}

/// What a request is sent on.
pub(super) enum Connection {
    One(One),
    Share(Share),
}

impl Connection {
    /// To where it leads.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::One(one) => one.address,
            Self::Share(share) => share.of.address,
        }
    }

    /// Whether it speaks HTTP/2.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self, Self::Share(_))
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request) -> Result<hyper::Response<Incoming>, Unsent> {
        match self {
            Self::One(one) => one.send(request).await,
            Self::Share(share) => share.send(request).await,
        }
    }

    /// Notes whether the answer came as far as it was asked for: what is dropped without that was given up at a deadline,
    /// perhaps since nobody is there any more.
    pub(super) const fn answered(&mut self, so_far: bool) {
        if let Self::Share(share) = self {
            share.answered = so_far;
        }
    }

    /// Writes and reads what can be, where nobody else does; errors are told to whoever waits for a body.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Self::One(one) = self {
            one.drive(cx);
        }
    }
}

/// An HTTP/1.1 connection and what drives it.
pub(super) struct One {
    sender: http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    // Gone once it has ended; its socket is closed by then.
    driver: Option<Pin<Box<Driver>>>,
    _slot: Slot,
}

type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

impl One {
    /// Speaks HTTP/1.1 over a fresh connection; nothing is sent yet.
    pub(super) async fn new(opened: Opened, slot: Slot) -> hyper::Result<Self> {
        let Opened { stream, address, .. } = opened;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_MAX as usize).max_headers(HEADERS_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, address, driver: Some(Box::pin(driver)), _slot: slot })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if self.driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
            self.driver = None;
        }
    }

    async fn send(&mut self, request: Request) -> Result<hyper::Response<Incoming>, Unsent> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        let answer = poll_fn(|cx| {
            if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
                *driver = None;
            }
            answer.as_mut().poll(cx)
        });
        answer.await.map_err(|unsent| Unsent {
            again: unsent.message().is_some(),
            failure: Failure::exchanging(unsent.error()),
        })
    }

    /// Drives the connection once and says whether another request can be sent on it.
    pub(super) fn is_ready(&mut self) -> bool {
        // Outside of the task's budget: where that is used up a good connection would look busy, and be closed.
        let once = unconstrained(poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(())
        }));
        let _ = std::pin::pin!(once).poll(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// An HTTP/2 connection, for as many requests at once as both sides take.
pub(super) struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    streams: AtomicUsize,
    // How many the other side takes; it may say so at any time.
    taken: Arc<AtomicUsize>,
    // Somebody got no whole answer on it: perhaps nobody is there any more.
    doubted: AtomicBool,
    tasks: Tasks,
    slot: Slot,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Left to themselves they would keep the socket until the other side has read what is still to be written to it,
        // and it may never do that.
        self.tasks.end();
    }
}

/// Whatever runs for one HTTP/2 connection: hyper gives the socket and each request's body to tasks of their own. Clones
/// are the same.
#[derive(Clone)]
struct Tasks(Arc<Mutex<Option<JoinSet<()>>>>);

impl Tasks {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(JoinSet::new()))))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // None: it is over, and what was still to be begun too.
        if let Some(tasks) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    /// Ends all of them, and with them the connection.
    fn end(&self) {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(tasks);
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.spawn(async move { drop(task.await) });
    }
}

impl Shared {
    /// Speaks HTTP/2 over a fresh connection; nothing but its preface is sent.
    pub(super) async fn new(opened: Opened, slot: Slot) -> hyper::Result<Self> {
        let Opened { stream, address, .. } = opened;
        let tasks = Tasks::new();
        let mut builder = http2::Builder::new(tasks.clone());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_MAX)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIME_MAX);
        let (sender, mut driver) = builder.handshake(TokioIo::new(Paced::new(stream, PIECE_MAX))).await?;
        let taken = Arc::new(AtomicUsize::new(STREAMS_MAX));
        let told = Arc::clone(&taken);
        tasks.spawn(poll_fn(move |cx| {
            let ended = Pin::new(&mut driver).poll(cx);
            told.store(driver.current_max_send_streams(), Ordering::Relaxed);
            // Each request is told its own error.
            ended.map(|_| ())
        }));
        let (streams, doubted) = (AtomicUsize::new(0), AtomicBool::new(false));
        Ok(Self { sender, address, streams, taken, doubted, tasks, slot })
    }

    /// Whether further requests can be sent on it, now or once others are done.
    pub(super) fn stands(&self) -> bool {
        !self.sender.is_closed() && !self.doubted.load(Ordering::Relaxed)
    }

    /// Whether nobody uses it.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.load(Ordering::Relaxed) == 0
    }

    /// A part in it for one request, where there is room.
    pub(super) fn share(self: &Arc<Self>) -> Option<Share> {
        let room = self.taken.load(Ordering::Relaxed).clamp(1, STREAMS_MAX);
        let taken = self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < room).then_some(n + 1));
        taken.ok().map(|_| Share { of: Arc::clone(self), answered: false })
    }
}

/// A request's part in a [`Shared`] connection.
pub(super) struct Share {
    of: Arc<Shared>,
    answered: bool,
}

impl Share {
    async fn send(&mut self, request: Request) -> Result<hyper::Response<Incoming>, Unsent> {
        let answer = self.of.sender.clone().try_send_request(request).await;
        let answer = answer.map_err(|unsent| {
            let again = unsent.message().is_some() || never_taken_up(unsent.error());
            // It says that it takes no more, or has ended.
            self.of.doubted.store(true, Ordering::Relaxed);
            Unsent { again, failure: Failure::exchanging(unsent.error()) }
        })?;
        if answer.headers().len() > HEADERS_MAX {
            let failure = Failure::Answer(format!("it has more than {HEADERS_MAX} headers"));
            return Err(Unsent { failure, again: false });
        }
        Ok(answer)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.answered {
            self.of.doubted.store(true, Ordering::Relaxed);
        }
        self.of.streams.fetch_sub(1, Ordering::Relaxed);
        self.of.slot.freed();
    }
}

/// Whether the other side said that it did nothing with the request: it refused the stream, or went away before it
/// (RFC 9113 section 8.7).
fn never_taken_up(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM));
        }
        cause = error.source();
    }
    false
}
