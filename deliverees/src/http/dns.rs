//! Asks for the addresses of a name as this machine is set up: its hosts file first, then its name servers.
//!
//! Nothing is kept here but the two files' contents; what an answer is worth and for how long is judged in `names.rs`.
//! Search domains are not applied: `hooks.example` must not turn into a name of the network where the daemon runs.
//! Other sources that a system may know (mDNS, NIS) are not asked.

use futures_util::future::{Either, select};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, Resolver, TokioResolver};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout};

/// What the machine is set up by.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// How often the files are looked at for a change.
const FILES_EVERY: Duration = Duration::from_secs(5);
/// How long the second family is waited for once the first has addresses (RFC 8305 section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// The same where the first says that there is no such name: some servers say so of a family that they do not know.
const UNKNOWN_DELAY: Duration = Duration::from_secs(2);
/// How long an answer may be kept that lacks a family which came too late.
const PARTIAL_KEPT: Duration = Duration::from_secs(30);

/// Addresses that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// At least one; IPv6 first.
    pub(super) addresses: Vec<IpAddr>,
    /// How long they hold, by their TTL. Zero where they come from the hosts file, which is quick to ask.
    pub(super) holds: Duration,
    /// Whether a name server said so.
    pub(super) asked: bool,
}

/// Why there are none, before it is judged whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Silence {
    /// A name server says so, or the name can not be one. `holds`: how long that is so, where it was said.
    Name { words: String, holds: Option<Duration>, asked: bool },
    /// A name server says that it failed, which may be the fault of the name's own servers.
    Failed(String),
    /// No name server says anything of use.
    Resolver(String),
    /// None was asked: too many names are being looked up.
    Busy(String),
}

/// The machine's hosts file and name servers.
pub(super) struct Dns(OnceLock<Setup>);

struct Setup {
    state: Mutex<State>,
    // Otherwise it was given, and is not read again.
    from_files: bool,
}

struct State {
    made: Arc<Made>,
    stamps: [Option<SystemTime>; 2],
    looked: Instant,
}

struct Made {
    hosts: Hosts,
    resolver: Result<TokioResolver, String>,
}

impl Dns {
    /// The files are read at the first look-up.
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// For tests: a server and a hosts file of their own.
    #[cfg(test)]
    pub(super) fn given(server: std::net::SocketAddr, hosts: &str) -> Self {
        let mut named = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut named.connections {
            connection.port = server.port();
        }
        let mut read = Hosts::default();
        read.read_hosts_conf(hosts.as_bytes()).unwrap();
        let resolver = build(ResolverConfig::from_name_servers(vec![named]), ResolverOpts::default());
        Self(OnceLock::from(Setup::of(Made { hosts: read, resolver }, false)))
    }

    /// The addresses of a name. It has no bound of its own but the name servers' timeouts.
    pub(super) async fn ask(&self, name: &str) -> Result<Found, Silence> {
        let never = |words: String| Silence::Name { words, holds: None, asked: false };
        let mut name = Name::from_ascii(name).map_err(|e| never(format!("the name is none: {e}")))?;
        name.set_fqdn(true);
        let made = self.0.get_or_init(|| Setup::of(read_files(), true)).made();
        if let Some(addresses) = made.in_hosts(&name) {
            return Ok(Found { addresses, holds: Duration::ZERO, asked: false });
        }
        let resolver = made.resolver.as_ref().map_err(|words| Silence::Resolver(words.clone()))?;
        // What these end in is never asked for (RFC 6761): the answer says nothing of the name servers.
        let asked =
            !["localhost", "invalid", "onion"].iter().any(|end| name.iter().next_back() == Some(end.as_bytes()));
        match both(resolver, name).await {
            Ok(found) => Ok(Found { asked, ..found }),
            Err(Silence::Name { words, holds, .. }) => Err(Silence::Name { words, holds, asked }),
            Err(silence) => Err(silence),
        }
    }
}

impl Setup {
    fn of(made: Made, from_files: bool) -> Self {
        let stamps = if from_files { stamps() } else { [None; 2] };
        Self { state: Mutex::new(State { made: Arc::new(made), stamps, looked: Instant::now() }), from_files }
    }

    /// What the files say now: they are read again where they changed.
    fn made(&self) -> Arc<Made> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.from_files && state.looked.elapsed() >= FILES_EVERY {
            state.looked = Instant::now();
            let stamps = stamps();
            if stamps != state.stamps {
                tracing::info!("the hosts file or the name servers changed: read again");
                (state.made, state.stamps) = (Arc::new(read_files()), stamps);
            }
        }
        Arc::clone(&state.made)
    }
}

fn stamps() -> [Option<SystemTime>; 2] {
    FILES.map(|file| fs::metadata(Path::new(file)).and_then(|m| m.modified()).ok())
}

fn read_files() -> Made {
    let hosts = Hosts::from_system().unwrap_or_else(|error| {
        tracing::warn!(%error, "the hosts file can not be read: no name is taken from it");
        Hosts::default()
    });
    let (config, options) = read_system_conf().unwrap_or_else(|error| {
        // As resolv.conf(5) has it: without a server named, the one of this machine.
        tracing::warn!(%error, "no name server is set up: asking 127.0.0.1");
        let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
    });
    Made { hosts, resolver: build(config, options) }
}

fn build(config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, String> {
    // Both are ours: the hosts file is asked for both families at once, and answers are kept with whose fault they are.
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    let (_, _, servers) = config.into_parts();
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(|e| format!("no resolver can be made: {e}"))
}

impl Made {
    /// As the hosts file has it: a name that is there with one family has no address of the other.
    fn in_hosts(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found: Vec<IpAddr> = [RecordType::AAAA, RecordType::A]
            .into_iter()
            .filter_map(of)
            .flat_map(|lookup| addresses(&lookup))
            .collect();
        (!found.is_empty()).then_some(found)
    }
}

fn addresses(lookup: &Lookup) -> Vec<IpAddr> {
    lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect()
}

type Answer = Result<(Vec<IpAddr>, Duration), Silence>;

/// Asks for both families at once, and does not let one that gets no answer hold back the other.
async fn both(resolver: &TokioResolver, name: Name) -> Result<Found, Silence> {
    let six = pin!(async { read(resolver.ipv6_lookup(name.clone()).await) });
    let four = pin!(async { read(resolver.ipv4_lookup(name.clone()).await) });
    let (six, four) = match select(six, four).await {
        Either::Left((six, four)) if six.is_ok() => (Some(six), timeout(RESOLUTION_DELAY, four).await.ok()),
        Either::Left((six, four)) if is_unknown(&six) => (Some(six), timeout(UNKNOWN_DELAY, four).await.ok()),
        Either::Left((six, four)) => (Some(six), Some(four.await)),
        Either::Right((four, six)) if four.is_ok() => (timeout(RESOLUTION_DELAY, six).await.ok(), Some(four)),
        Either::Right((four, six)) if is_unknown(&four) => (timeout(UNKNOWN_DELAY, six).await.ok(), Some(four)),
        Either::Right((four, six)) => (Some(six.await), Some(four)),
    };
    join(six, four)
}

/// One answer of two; `None` is one that came too late.
fn join(six: Option<Answer>, four: Option<Answer>) -> Result<Found, Silence> {
    let mut holds = if six.is_none() || four.is_none() { PARTIAL_KEPT } else { Duration::MAX };
    let (mut addresses, mut silences) = (Vec::new(), Vec::new());
    for answer in [&six, &four].into_iter().flatten() {
        match answer {
            Ok((found, ttl)) => {
                holds = holds.min(*ttl);
                addresses.extend(found);
            }
            Err(silence) => silences.push(silence.clone()),
        }
    }
    if !addresses.is_empty() {
        return Ok(Found { addresses, holds, asked: true });
    }
    // That there is no such name is said of both families (RFC 8020); otherwise one without an answer may have had the
    // address.
    if let Some(Err(unknown)) = [&six, &four].into_iter().flatten().find(|answer| is_unknown(answer)) {
        return Err(unknown.clone());
    }
    let nothing = || Silence::Name { words: NO_ADDRESS.into(), holds: None, asked: true };
    let worst = silences.iter().find(|s| matches!(s, Silence::Resolver(_) | Silence::Failed(_))).or(silences.first());
    Err(worst.cloned().unwrap_or_else(nothing))
}

const NO_ADDRESS: &str = "the name has no address";
const NO_SUCH_NAME: &str = "there is no such name";

/// Whether a name server says that there is no such name.
fn is_unknown(answer: &Answer) -> bool {
    matches!(answer, Err(Silence::Name { words, .. }) if words == NO_SUCH_NAME)
}

fn read(answer: Result<Lookup, NetError>) -> Answer {
    let error = match answer {
        Ok(lookup) => {
            let found = addresses(&lookup);
            if found.is_empty() {
                return Err(Silence::Name { words: NO_ADDRESS.into(), holds: None, asked: true });
            }
            let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
            return Ok((found, Duration::from_secs(ttl.into())));
        }
        Err(error) => error,
    };
    Err(match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let words = if none.response_code == ResponseCode::NXDomain { NO_SUCH_NAME } else { NO_ADDRESS };
            let holds = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
            Silence::Name { words: words.into(), holds, asked: true }
        }
        NetError::Dns(DnsError::ResponseCode(code)) => Silence::Failed(format!("the name server answered: {code}")),
        NetError::Timeout => Silence::Resolver("no answer from a name server".into()),
        error => Silence::Resolver(format!("the name servers can not be asked: {error}")),
    })
}
