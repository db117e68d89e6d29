//! Opens connections: resolves, asks the guard for each address, opens the socket, makes the TLS handshake.

use super::certificate::words;
use super::resolve::{Resolve, ResolveError};
use super::target::{Origin, Target, plain};
use super::tls::{HTTP_2, Tls, server_name};
use super::{Failure, Progress, Stage};
use crate::guard::{Guard, Refused};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::io::Errno;
use std::io;
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

/// A connection that was opened.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Stream>,
    /// Whether both sides agreed on HTTP/2.
    pub(super) http_2: bool,
    /// To where.
    pub(super) address: SocketAddr,
}

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
    pub(super) async fn connect(&self, origin: &Origin, progress: &Progress) -> Result<Opened, Failure> {
        self.guard.check_port(origin.port).map_err(Failure::RefusedPort)?;
        let addresses = self.addresses(origin, progress).await?;
        progress.at(Stage::Connecting);
        let (socket, address) = self.dial(addresses, origin.port, progress).await?;
        progress.done();
        progress.address(address);
        // Requests are written whole; waiting for more would only delay them. Where it fails it costs time, no more.
        let _ = socket.set_nodelay(true);
        if !origin.tls {
            return Ok(Opened { stream: Box::new(socket), http_2: false, address });
        }
        progress.at(Stage::Handshaking);
        let name = server_name(&origin.host).map_err(Failure::Tls)?;
        let tls = self.tls.connector(origin.trust.as_deref())?;
        let stream = tls.connect(name, socket).await.map_err(|e| Failure::Tls(words(&e)))?;
        progress.done();
        let http_2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        Ok(Opened { stream: Box::new(stream), http_2, address })
    }

    /// Whether it is the name's own fault that it has not resolved by now.
    pub(super) fn blames(&self, target: &Target) -> bool {
        self.resolver.blames(target.name())
    }

    async fn addresses(&self, origin: &Origin, progress: &Progress) -> Result<Vec<IpAddr>, Failure> {
        if let Some(literal) = origin.literal() {
            return Ok(vec![literal]);
        }
        let Host::Domain(name) = &origin.host else { return Ok(Vec::new()) };
        progress.at(Stage::Resolving);
        let found = self.resolver.resolve(plain(name)).await.map_err(|error| match error {
            ResolveError::Name(words) => Failure::Name(words),
            ResolveError::Resolver(words) => Failure::Resolver(words),
        })?;
        progress.done();
        Ok(alternate(found))
    }

    /// Tries the addresses one after the other, the next one early where one is slow; the first that stands wins.
    async fn dial(
        &self,
        addresses: Vec<IpAddr>,
        port: u16,
        progress: &Progress,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let (mut waiting, mut dialled) = (addresses.into_iter(), 0);
        let (mut under_way, mut failures) = (FuturesUnordered::new(), Failures::default());
        loop {
            while dialled < ADDRESSES_MAX
                && let Some(address) = waiting.next()
            {
                match self.permitted(SocketAddr::new(address, port)) {
                    Ok(permitted) => {
                        progress.address(permitted.0);
                        under_way.push(open(permitted));
                        dialled += 1;
                        break;
                    }
                    Err(refused) => failures.refused.push(refused),
                }
            }
            let more = dialled < ADDRESSES_MAX && waiting.len() > 0;
            let opened = tokio::select! {
                opened = under_way.next() => opened,
                () = sleep(STAGGER), if more => continue,
            };
            match opened {
                Some(Ok(opened)) => return Ok(opened),
                Some(Err(failed)) => failures.failed.push(failed),
                None => return Err(failures.told()),
            }
        }
    }

    fn permitted(&self, address: SocketAddr) -> Result<Permitted, Refused> {
        self.guard.check(address.ip())?;
        Ok(Permitted(address))
    }
}

/// An address that the guard let through just now; there is no other way to one.
struct Permitted(SocketAddr);

/// The only place where a socket is opened.
async fn open(Permitted(address): Permitted) -> Result<(TcpStream, SocketAddr), (SocketAddr, io::Error)> {
    match TcpStream::connect(address).await {
        Ok(socket) => Ok((socket, address)),
        Err(error) => Err((address, error)),
    }
}

/// What became of each address where none stood.
#[derive(Default)]
struct Failures {
    refused: Vec<Refused>,
    failed: Vec<(SocketAddr, io::Error)>,
}

impl Failures {
    /// One failure that tells of all of them; a real try counts before a refusal.
    fn told(self) -> Failure {
        let refused = self.refused.iter().take(ADDRESSES_MAX).map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let Some((_, first)) = self.failed.first() else {
            return if refused.is_empty() {
                Failure::Name("the name has no address".into())
            } else {
                Failure::Refused(refused)
            };
        };
        let words = if self.failed.len() == 1 && refused.is_empty() {
            first.to_string()
        } else {
            let mut all: Vec<String> = self.failed.iter().map(|(to, error)| format!("{}: {error}", to.ip())).collect();
            all.extend((!refused.is_empty()).then(|| format!("refused {refused}")));
            all.join("; ")
        };
        if self.failed.iter().any(|(to, error)| is_ours(*to, error)) {
            Failure::Exhausted(words)
        } else {
            Failure::Connect(words)
        }
    }
}

/// Whether this machine had no descriptor, memory, buffer or port left. That there is no address to dial from says so of
/// IPv4 only: of IPv6 it is what a machine without IPv6 says.
fn is_ours(to: SocketAddr, error: &io::Error) -> bool {
    let exhausted = [Errno::NFILE, Errno::MFILE, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|e| exhausted.contains(&e) || e == Errno::ADDRNOTAVAIL && to.is_ipv4())
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

    #[test]
    fn no_descriptor_left_is_our_own_fault() {
        let (four, six) = (SocketAddr::from(([127, 0, 0, 1], 80)), SocketAddr::from(([0; 16], 80)));
        let both = [Errno::NOMEM, Errno::NFILE, Errno::MFILE, Errno::NOBUFS].map(|errno| (errno, [true, true]));
        let others = [(Errno::ADDRNOTAVAIL, [true, false]), (Errno::CONNREFUSED, [false, false])];
        for (errno, ours) in both.into_iter().chain(others) {
            let told = [four, six].map(|at| Failures { failed: vec![(at, errno.into())], refused: Vec::new() }.told());
            assert_eq!(told.map(|failure| failure.is_ours()), ours, "{errno:?}");
        }
    }

    #[test]
    fn the_failures_of_all_addresses_are_told() {
        let refused = Guard::default().check(IpAddr::from([10, 0, 0, 1])).unwrap_err();
        let failed = |ip: [u8; 4]| (SocketAddr::from((ip, 80)), io::Error::from_raw_os_error(111));
        let told = |failed, refused| Failures { failed, refused }.told().to_string();
        assert_eq!(told(vec![failed([1, 1, 1, 1])], vec![]), "connect: Connection refused (os error 111)");
        let all = told(vec![failed([1, 1, 1, 1]), failed([8, 8, 8, 8])], vec![refused]);
        assert_eq!(
            all,
            "connect: 1.1.1.1: Connection refused (os error 111); 8.8.8.8: Connection refused (os error 111); \
             refused 10.0.0.1 is private (10.0.0.0/8)"
        );
        assert_eq!(told(vec![], vec![refused]), "refused address: 10.0.0.1 is private (10.0.0.0/8)");
        assert_eq!(told(vec![], vec![]), "dns: the name has no address");
    }
}
