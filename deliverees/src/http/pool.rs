//! Keeps idle connections for the next request to the same scheme, host and port, within bounds.
//!
//! A connection has no task of its own: whoever uses it drives it, and dropping it closes its socket at once. An idle one
//! is looked at when it is taken out, and closed when its time is over by a task that lives as long as any is idle.

use super::Bounds;
use super::connect::{Opened, Stream};
use super::target::Origin;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep};

/// The whole head of an answer, and what is read ahead of a body; hyper takes at most 100 headers.
const HEAD_MAX: usize = 64 * 1024;

/// A request that is ready to go, its body shared.
pub(super) type Request = hyper::Request<Full<Bytes>>;

/// A connection and what drives it.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    // Gone once it has ended; its socket is closed by then.
    driver: Option<Pin<Box<Driver>>>,
}

type Driver = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

impl Connection {
    /// Speaks HTTP/1.1 over a fresh connection; nothing is sent yet.
    pub(super) async fn new(opened: Opened) -> hyper::Result<Self> {
        let Opened { stream, address } = opened;
        let (sender, driver) = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, address, driver: Some(Box::pin(driver)) })
    }

    /// To where it leads.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes and reads what can be; errors are told to whoever waits for an answer or a body.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if self.driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
            self.driver = None;
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(&mut self, request: Request) -> Result<hyper::Response<Incoming>, TrySendError<Request>> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        poll_fn(|cx| {
            if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
                *driver = None;
            }
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Drives the connection once and says whether another request can be sent on it.
    fn is_ready(&mut self) -> bool {
        // Outside of the task's budget: where that is used up a good connection would look busy, and be closed.
        let once = unconstrained(poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(())
        }));
        let _ = std::pin::pin!(once).poll(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The idle connections. Cheap to clone; clones are the same pool.
#[derive(Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: HashMap<Origin, Vec<Idle>>,
    count: usize,
    sweeping: bool,
}

impl Pool {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { shared: Arc::new(Shared { bounds, state: Mutex::default() }) }
    }

    /// An idle connection that still stands, the youngest first.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        loop {
            let mut idle = {
                let mut state = self.shared.lock();
                let idle = state.idle.get_mut(origin)?.pop()?;
                state.count -= 1;
                idle
            };
            if idle.since.elapsed() < self.shared.bounds.idle_time_max && idle.connection.is_ready() {
                return Some(idle.connection);
            }
        }
    }

    /// Takes a connection back after its answer was read to the end; one that can serve no further request, or one too
    /// many, is closed.
    pub(super) fn put(&self, origin: &Origin, mut connection: Connection) {
        if !connection.is_ready() {
            return;
        }
        let bounds = self.shared.bounds;
        let mut state = self.shared.lock();
        if state.count >= bounds.idle_max {
            return;
        }
        let idle = Idle { connection, since: Instant::now() };
        match state.idle.get_mut(origin) {
            Some(kept) if kept.len() >= bounds.idle_per_host_max => return,
            Some(kept) => kept.push(idle),
            None => {
                state.idle.insert(origin.clone(), vec![idle]);
            }
        }
        state.count += 1;
        if !std::mem::replace(&mut state.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.shared)));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what was idle too long, until nothing is idle or the pool is gone.
async fn sweep(pool: Weak<Shared>) {
    loop {
        let Some(every) = pool.upgrade().map(|pool| pool.bounds.idle_time_max / 2) else { return };
        sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.lock();
        for idle in state.idle.values_mut() {
            idle.retain(|one| one.since.elapsed() < pool.bounds.idle_time_max);
        }
        state.idle.retain(|_, idle| !idle.is_empty());
        state.count = state.idle.values().map(Vec::len).sum();
        if state.count == 0 {
            state.sweeping = false;
            return;
        }
    }
}
