//! Names to addresses: the seam [`Resolve`] and the system's resolver behind it.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How many look-ups may be under way at once: each holds a thread until the system gives up.
const LOOKUPS_MAX: usize = 64;
/// How long one look-up may take.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(10);
/// A resolver that answered for some name so recently works: what fails then is the name.
const WORKS_FOR: Duration = Duration::from_secs(30);

/// Finds the addresses of a name.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `name`, in the order in which they should be tried.
    fn resolve(&self, name: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>>;

    /// Whether it answered lately, for whatever name: then one that gets no answer is itself at fault. Default true.
    fn works(&self) -> bool {
        true
    }
}

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name, it has no address, or its own servers do not answer: the endpoint's fault.
    #[error("{0}")]
    Name(String),
    /// The resolver fails or cannot be reached: ours.
    #[error("{0}")]
    Resolver(String),
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>>>;

/// The system's resolver, on threads of the runtime. Look-ups of one name at the same time are one.
#[derive(Debug)]
pub struct SystemResolver(Arc<System>);

struct System {
    threads: Arc<Semaphore>,
    under_way: Mutex<HashMap<String, Lookup>>,
    answered: Mutex<Option<Instant>>,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

impl SystemResolver {
    /// The system's resolver, with at most 64 look-ups at once, each at most 10 s.
    #[must_use]
    pub fn new() -> Self {
        let threads = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self(Arc::new(System { threads, under_way: Mutex::default(), answered: Mutex::default() }))
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>> {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = under_way.get(name) {
            return lookup.clone().boxed();
        }
        let lookup = look_up(Arc::downgrade(&self.0), Arc::clone(&self.0.threads), name.to_owned());
        let lookup = spawned(lookup).shared();
        under_way.insert(name.to_owned(), lookup.clone());
        lookup.boxed()
    }

    fn works(&self) -> bool {
        self.0.works()
    }
}

impl System {
    fn answered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn works(&self) -> bool {
        self.answered().is_some_and(|at| at.elapsed() < WORKS_FOR)
    }
}

/// Runs in a task of its own, so that it ends and is forgotten even where nobody waits for it any more.
fn spawned(
    lookup: impl Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send + 'static,
) -> BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>> {
    let task = tokio::spawn(lookup);
    async move { task.await.unwrap_or_else(|e| Err(ResolveError::Resolver(format!("the look-up ended early: {e}")))) }
        .boxed()
}

async fn look_up(system: Weak<System>, threads: Arc<Semaphore>, name: String) -> Result<Vec<IpAddr>, ResolveError> {
    let result = timeout(LOOKUP_TIME_MAX, ask(threads, name.clone()))
        .await
        .unwrap_or(Err(Silence::Resolver(format!("no answer within {} s", LOOKUP_TIME_MAX.as_secs()))));
    let Some(system) = system.upgrade() else { return Err(ResolveError::Resolver("the client is gone".into())) };
    system.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    if matches!(result, Ok(_) | Err(Silence::Name(_))) {
        *system.answered() = Some(Instant::now());
    }
    result.map_err(|silence| blame(silence, system.works()))
}

/// The system does not say whether its resolver failed or the name's own servers; that other names resolve tells.
fn blame(silence: Silence, works: bool) -> ResolveError {
    match silence {
        Silence::Name(words) => ResolveError::Name(words),
        Silence::Resolver(words) if works => ResolveError::Name(format!("{words} (other names resolve)")),
        Silence::Resolver(words) => ResolveError::Resolver(words),
    }
}

/// What the system says, before it is judged whose fault it is.
enum Silence {
    Name(String),
    Resolver(String),
}

async fn ask(threads: Arc<Semaphore>, name: String) -> Result<Vec<IpAddr>, Silence> {
    let permit = threads.acquire_owned().await.map_err(|_| Silence::Resolver("the client is gone".into()))?;
    let asked = tokio::task::spawn_blocking(move || {
        // Given back only when the system is done, whoever still waits: that is what bounds the threads.
        let _permit = permit;
        (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|a| a.ip()).collect::<Vec<_>>())
    });
    match asked.await {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(Silence::Name("the name has no address".into())),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(judge(&error)),
        Err(error) => Err(Silence::Resolver(format!("the look-up ended early: {error}"))),
    }
}

/// The standard library keeps only the words of the C library, which no locale changes here (nobody calls `setlocale`).
fn judge(error: &io::Error) -> Silence {
    const OF_THE_NAME: [&str; 7] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
        "nodename nor servname provided",
        "Non-recoverable failure in name resolution",
        "Non-recoverable error",
    ];
    let words = error.to_string();
    let of_the_name =
        error.kind() == io::ErrorKind::InvalidInput || OF_THE_NAME.iter().any(|known| words.contains(known));
    let words = words.trim_start_matches("failed to lookup address information: ").to_owned();
    if of_the_name { Silence::Name(words) } else { Silence::Resolver(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_of_this_machine_is_found_and_a_name_that_can_not_be_is_the_endpoints_fault() {
        let resolver = SystemResolver::new();
        assert!(!resolver.works());
        let found = resolver.resolve("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
        // A label of more than 63 characters is refused before any server is asked.
        let long = resolver.resolve(&format!("{}.example", "a".repeat(70))).await;
        assert!(matches!(long, Err(ResolveError::Name(_))), "{long:?}");
        assert!(resolver.0.under_way.lock().unwrap().is_empty() && resolver.works());
    }

    #[test]
    fn the_words_of_the_system_say_whose_fault_it_is() {
        let judged = |words: &str| matches!(judge(&io::Error::other(words)), Silence::Name(_));
        assert!(judged("failed to lookup address information: Name or service not known"));
        assert!(judged("failed to lookup address information: No address associated with hostname"));
        assert!(!judged("failed to lookup address information: Temporary failure in name resolution"));
    }

    #[test]
    fn a_name_is_to_blame_for_silence_where_others_resolve() {
        let silence = || Silence::Resolver("Temporary failure in name resolution".into());
        assert!(matches!(blame(silence(), true), ResolveError::Name(_)));
        assert!(matches!(blame(silence(), false), ResolveError::Resolver(_)));
        assert!(matches!(blame(Silence::Name("none".into()), false), ResolveError::Name(_)));
    }
}
