//! Opens connections: resolves, asks the guard for each address, opens the socket, makes the TLS handshake.

use super::resolve::{Resolve, ResolveError};
use super::target::Origin;
use super::tls::{Tls, server_name};
use super::{Failure, Progress, Stage};
use crate::guard::Guard;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;
use url::Host;

/// How many addresses of one name are tried at most.
const ADDRESSES_MAX: usize = 8;
/// How long an address is waited for before the next is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// A connection that stands, plain or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections that the guard lets through.
pub(super) struct Connector {
    guard: Guard,
    resolver: Arc<dyn Resolve>,
    tls: Tls,
}

impl Connector {
    pub(super) const fn new(guard: Guard, resolver: Arc<dyn Resolve>, tls: Tls) -> Self {
        Self { guard, resolver, tls }
    }

    /// Opens a connection. It has no bound of its own: whoever asks drops it at the deadline.
    pub(super) async fn connect(&self, origin: &Origin, progress: &Progress) -> Result<Box<dyn Stream>, Failure> {
        progress.at(Stage::Resolving);
        let addresses = self.addresses(origin).await?;
        progress.at(Stage::Connecting);
        let socket = self.dial(addresses, origin.port).await?;
        // Requests are written whole; waiting for more would only delay them. Where it fails it costs time, no more.
        let _ = socket.set_nodelay(true);
        if !origin.tls {
            return Ok(Box::new(socket));
        }
        progress.at(Stage::Handshaking);
        let name = server_name(&origin.host).map_err(Failure::Tls)?;
        let stream = self.tls.connector().map_err(Failure::Tls)?.connect(name, socket).await;
        Ok(Box::new(stream.map_err(|e| Failure::Tls(e.to_string()))?))
    }

    async fn addresses(&self, origin: &Origin) -> Result<Vec<IpAddr>, Failure> {
        if let Some(literal) = origin.literal() {
            return Ok(vec![literal]);
        }
        let Host::Domain(name) = &origin.host else { return Ok(Vec::new()) };
        self.resolver.resolve(name).await.map(alternate).map_err(|error| match error {
            ResolveError::Name(words) => Failure::Name(words),
            ResolveError::Resolver(words) => Failure::Resolver(words),
        })
    }

    /// Tries the addresses one after the other, the next one early where one is slow; the first that stands wins.
    async fn dial(&self, addresses: Vec<IpAddr>, port: u16) -> Result<TcpStream, Failure> {
        let mut waiting = addresses.into_iter().take(ADDRESSES_MAX);
        let mut under_way = FuturesUnordered::new();
        let mut last = None;
        loop {
            if let Some(address) = waiting.next() {
                under_way.push(self.open(SocketAddr::new(address, port)));
            }
            let more = waiting.len() > 0;
            let opened = tokio::select! {
                opened = under_way.next() => opened,
                () = sleep(STAGGER), if more => continue,
            };
            match opened {
                Some(Ok(socket)) => return Ok(socket),
                // A failure that says more of the endpoint is kept: one address may be refused, another be down.
                Some(Err(failure)) => last = Some(worse(last, failure)),
                None => return Err(last.unwrap_or_else(|| Failure::Name("the name has no address".into()))),
            }
        }
    }

    /// The only place where a socket is opened.
    async fn open(&self, address: SocketAddr) -> Result<TcpStream, Failure> {
        self.guard.check(address.ip()).map_err(Failure::Refused)?;
        TcpStream::connect(address).await.map_err(|error| Failure::connecting(&error))
    }
}

/// Which of two failures to report: ours before the endpoint's, a real try before a refusal.
fn worse(first: Option<Failure>, second: Failure) -> Failure {
    match first {
        Some(first) if first.is_ours() || matches!(second, Failure::Refused(_)) => first,
        _ => second,
    }
}

/// Puts addresses of the two families in turns, beginning with the first one's, so that a family that leads nowhere
/// costs one [`STAGGER`] only.
fn alternate(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let Some(first) = addresses.first().map(IpAddr::is_ipv4) else { return addresses };
    let (mut one, mut other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv4() == first);
    let mut turns = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.drain(..), other.drain(..));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return turns,
            (a, b) => turns.extend(a.into_iter().chain(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let read = |texts: &[&str]| texts.iter().map(|t| t.parse::<IpAddr>().unwrap()).collect::<Vec<_>>();
        let found = read(&["::1", "::2", "::3", "1.1.1.1"]);
        assert_eq!(alternate(found), read(&["::1", "1.1.1.1", "::2", "::3"]));
        assert_eq!(alternate(vec![]), read(&[]));
    }
}
