//! The HTTP client of the deliverees: surf in front, our own small client on hyper and rustls behind it.
//!
//! What it promises: HTTP/2 where an https endpoint takes it by ALPN, else HTTP/1.1; no redirect is followed; nothing is decoded; the guard judges every socket before it
//! opens; connections are kept for the next delivery within bounds; a request is sent once, and again only where it never
//! left. Its user bounds the time of an exchange by dropping it, which closes its connection at once.

mod answer;
mod certificate;
mod client;
mod connect;
mod connection;
mod dns;
mod exchange;
mod failure;
mod line;
mod names;
mod paced;
mod pool;
mod progress;
mod resolve;
mod target;
mod tls;
mod wire;

pub use answer::{Answer, Enough};
pub use exchange::{ANSWER_READ_MAX, End, Seen, signal};
pub use failure::Failure;
pub use line::Party;
pub use names::SystemResolver;
pub use progress::{Progress, Stage};
pub use resolve::{Resolve, ResolveError};
pub use target::{Target, TargetError, URL_MAX};
pub use wire::{CONNECT_TIMEOUT, Trust, Wire};

use crate::guard::Guard;
use bytes::Bytes;
use client::Client;
use connect::Connector;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use pool::Pool;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use surf::http::Method;
use tls::Tls;

/// Who we are to receivers.
pub(crate) const USER_AGENT: &str =
    concat!("Posthaste/", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// Beside the timeout of an exchange: time to report it, before whoever called gives up on the whole call.
pub(crate) const REPORT_TIME: Duration = Duration::from_millis(250);

/// Bounds of the pool of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many idle connections are kept for one scheme, host and port.
    pub idle_per_host_max: usize,
    /// How many idle connections are kept in all.
    pub idle_max: usize,
    /// How long a connection may be idle before it is closed.
    pub idle_time_max: Duration,
    /// How many connections may be open for one scheme, host and port; who needs one more waits.
    pub open_per_host_max: usize,
}

impl Default for Bounds {
    /// Idle 64 for a host and 1,024 in all, open 256 for a host; 20 s: less than common servers keep one, so that few are
    /// closed under a request.
    fn default() -> Self {
        Self { idle_per_host_max: 64, idle_max: 1_024, idle_time_max: Duration::from_secs(20), open_per_host_max: 256 }
    }
}

/// The HTTP client. Cheap to clone; clones share the pool, the TLS settings and the guard.
#[derive(Debug, Clone)]
pub struct Http {
    front: surf::Client,
    resolver: Arc<dyn Resolve>,
}

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Which addresses it may dial. Default: what is globally reachable.
    pub guard: Guard,
    /// How names are resolved. Default: [`SystemResolver`].
    pub resolver: Arc<dyn Resolve>,
    /// How many connections are kept, and how long.
    pub bounds: Bounds,
    /// Authorities that are trusted beside the system's. Default: none.
    pub roots: Vec<CertificateDer<'static>>,
}

impl Default for Parts {
    fn default() -> Self {
        let resolver = Arc::new(SystemResolver::new());
        Self { guard: Guard::default(), resolver, bounds: Bounds::default(), roots: Vec::new() }
    }
}

/// What is still to be written into the head of a request when it is about to be sent, for each try anew: a signature,
/// which tells the time of the sending and not of a wait before it.
pub type Seal = Box<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// What is sent: the body is shared, not copied.
pub struct Outgoing {
    /// To where.
    pub target: Arc<Target>,
    /// On whose behalf.
    pub party: Party,
    /// Beside those that HTTP itself needs; of two with one name the later counts.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What comes to the headers last of all; none: nothing.
    pub seal: Option<Seal>,
    /// The body.
    pub body: Bytes,
    /// Where the exchange notes how far it has come.
    pub progress: Progress,
}

impl fmt::Debug for Outgoing {
    /// Where to, and which headers: what they and the body say may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = f.debug_struct("Outgoing");
        shown.field("target", &self.target).field("headers", &names).finish_non_exhaustive()
    }
}

impl Http {
    /// A client that may dial what the guard lets through, with names resolved by the system.
    #[must_use]
    pub fn new(guard: Guard) -> Self {
        Self::with(Parts { guard, ..Parts::default() })
    }

    /// A client of these parts.
    #[must_use]
    pub fn with(parts: Parts) -> Self {
        let resolver = parts.resolver;
        let connector = Connector::new(parts.guard, Arc::clone(&resolver), Tls::new(parts.roots));
        let client = Client::new(connector, Pool::new(parts.bounds));
        Self { front: surf::Client::with_http_client(client), resolver }
    }

    /// Whether names resolve at the moment; see [`Resolve::works`].
    #[must_use]
    pub fn resolver_works(&self) -> bool {
        self.resolver.works()
    }

    /// Sends one POST and returns once the head of the answer is there.
    ///
    /// # Errors
    /// [`Failure`] says how far it came.
    pub async fn post(&self, outgoing: Outgoing) -> Result<Answer, Failure> {
        let mut request = surf::Request::new(Method::Post, outgoing.target.url().clone());
        // Past surf, whose own headers and body would be copied and sniffed.
        request.set_ext(outgoing);
        match self.front.send(request).await {
            Ok(response) => Answer::of(response),
            Err(error) => Err(Failure::of(error)),
        }
    }
}
