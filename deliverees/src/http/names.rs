//! What is known of names: keeps answers for as long as they hold, and judges whose fault it is where there is none.
//!
//! Look-ups of one name at the same time are one. A kept answer is no permission: the guard judges every address again
//! where a socket opens, so a name that turns inwards between two connections is not followed.

use super::dns::{Dns, Found, Silence};
use super::resolve::{Resolve, ResolveError};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How many look-ups may be under way at once; others wait.
const LOOKUPS_MAX: usize = 256;
/// How long one look-up may take, and how long one may wait for room.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(10);
/// How many names are kept.
const KEPT_MAX: usize = 4_096;
/// How long addresses are kept at most, whatever their TTL: a name that moves is followed within minutes.
const ADDRESSES_KEPT_MAX: Duration = Duration::from_secs(300);
/// How long it is kept that a name has no address, at most, and where its zone does not say how long (RFC 2308).
const NOTHING_KEPT_MAX: Duration = Duration::from_secs(30);
const NOTHING_KEPT: Duration = Duration::from_secs(5);
/// How long name servers must have been asked for a name that waited for room, until it is blamed for their silence.
const FAIR_TIME: Duration = Duration::from_secs(1);
/// A resolver that answered for some name so recently works: what it says that failed is the name.
const WORKS_FOR: Duration = Duration::from_secs(30);

type Answer = Result<Vec<IpAddr>, ResolveError>;
type Lookup = Shared<BoxFuture<'static, Answer>>;
/// When name servers were asked; empty while the look-up waits for room.
type Asked = Arc<OnceLock<Began>>;

#[derive(Debug, Clone, Copy)]
struct Began {
    since: Instant,
    waited: bool,
}

impl Began {
    /// Whether the name has had its time, however little of it was left after a wait for room.
    fn fairly(&self) -> bool {
        !self.waited || self.since.elapsed() >= FAIR_TIME
    }
}

/// Names as this machine is set up to resolve them: its hosts file, then its name servers, by their TTL. Cheap to clone;
/// clones know the same.
///
/// Search domains are not applied. At most 256 look-ups at once, each at most 10 s; addresses are kept for their TTL but
/// at most 5 min, that there are none for at most 30 s.
#[derive(Debug, Clone)]
pub struct SystemResolver(Arc<System>);

struct System {
    dns: Dns,
    room: Arc<Semaphore>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    kept: HashMap<String, Kept>,
    under_way: HashMap<String, (Lookup, Asked)>,
    answered: Option<Instant>,
}

struct Kept {
    answer: Answer,
    until: Instant,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

impl SystemResolver {
    /// Nothing is read or asked before the first look-up.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Dns::new())
    }

    fn of(dns: Dns) -> Self {
        Self(Arc::new(System { dns, room: Arc::new(Semaphore::new(LOOKUPS_MAX)), known: Mutex::default() }))
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> BoxFuture<'static, Answer> {
        let mut known = self.0.known();
        if let Some(kept) = known.kept.get(name).filter(|kept| Instant::now() < kept.until) {
            return std::future::ready(kept.answer.clone()).boxed();
        }
        // One that has ended and stands there still was stopped in its middle.
        if let Some((lookup, _)) = known.under_way.get(name).filter(|(lookup, _)| lookup.peek().is_none()) {
            return lookup.clone().boxed();
        }
        let asked = Asked::default();
        let lookup = spawned(look_up(Arc::clone(&self.0), name.to_owned(), Arc::clone(&asked))).shared();
        known.under_way.insert(name.to_owned(), (lookup.clone(), asked));
        lookup.boxed()
    }

    fn blames(&self, name: &str) -> bool {
        let known = self.0.known();
        // One that has ended answers no less than whoever asks does.
        let Some((_, asked)) = known.under_way.get(name) else { return known.works() };
        // While it waits for room it waits for us.
        asked.get().is_some_and(|asked| asked.fairly() && known.answered_since(asked.since))
    }

    fn works(&self) -> bool {
        self.0.known().works()
    }
}

impl System {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, name: &str, asked: &Asked) -> Result<Found, Silence> {
        let waited = self.room.available_permits() == 0;
        let busy = || Silence::Busy(format!("no room for another look-up within {} s", LOOKUP_TIME_MAX.as_secs()));
        let permit = timeout(LOOKUP_TIME_MAX, Arc::clone(&self.room).acquire_owned()).await;
        let _permit = permit.ok().and_then(Result::ok).ok_or_else(busy)?;
        asked.get_or_init(|| Began { since: Instant::now(), waited });
        let late = || Silence::Resolver(format!("no answer within {} s", LOOKUP_TIME_MAX.as_secs()));
        timeout(LOOKUP_TIME_MAX, self.dns.ask(name)).await.unwrap_or_else(|_| Err(late()))
    }
}

impl Known {
    fn works(&self) -> bool {
        self.answered.is_some_and(|at| at.elapsed() < WORKS_FOR)
    }

    /// Whether some name found an answer since then.
    fn answered_since(&self, then: Instant) -> bool {
        self.answered.is_some_and(|at| at >= then)
    }

    /// Takes note of what came of a look-up, for which name servers were asked since `asked`.
    fn learn(&mut self, name: String, asked: Instant, found: Result<Found, Silence>) -> Answer {
        self.under_way.remove(&name);
        if let Ok(Found { asked: true, .. }) | Err(Silence::Name { asked: true, .. }) = found {
            self.answered = Some(Instant::now());
        }
        let (answer, holds) = match found {
            Ok(found) => (Ok(found.addresses), found.holds.min(ADDRESSES_KEPT_MAX)),
            Err(Silence::Name { words, holds, .. }) => {
                (Err(ResolveError::Name(words)), holds.unwrap_or(NOTHING_KEPT).min(NOTHING_KEPT_MAX))
            }
            // A name server does not say whether it failed or the name's own servers
            // did; that other names resolve tells. Where nobody said anything it must be since then: a
            // name server that died just now worked before.
            Err(Silence::Failed(words)) if self.works() => {
                (Err(ResolveError::Name(format!("{words} (other names resolve)"))), NOTHING_KEPT)
            }
            Err(Silence::Resolver(words)) if self.answered_since(asked) => {
                // Kept for long, so that names whose servers are silent do not take the room of others.
                (Err(ResolveError::Name(format!("{words} (other names resolve)"))), NOTHING_KEPT_MAX)
            }
            Err(Silence::Failed(words) | Silence::Resolver(words) | Silence::Busy(words)) => {
                (Err(ResolveError::Resolver(words)), Duration::ZERO)
            }
        };
        self.kept.remove(&name);
        if !holds.is_zero() {
            self.make_room();
            self.kept.insert(name, Kept { answer: answer.clone(), until: Instant::now() + holds });
        }
        answer
    }

    fn make_room(&mut self) {
        if self.kept.len() < KEPT_MAX {
            return;
        }
        let now = Instant::now();
        self.kept.retain(|_, kept| now < kept.until);
        if self.kept.len() >= KEPT_MAX {
            // Whichever: each is asked for again where it is needed.
            let any: Vec<String> = self.kept.keys().take(KEPT_MAX / 8).cloned().collect();
            any.iter().for_each(|name| drop(self.kept.remove(name)));
        }
    }
}

/// Runs in a task of its own, so that it ends and is forgotten even where nobody waits for it any more.
fn spawned(lookup: impl Future<Output = Answer> + Send + 'static) -> BoxFuture<'static, Answer> {
    let task = tokio::spawn(lookup);
    async move { task.await.unwrap_or_else(|e| Err(ResolveError::Resolver(format!("the look-up ended early: {e}")))) }
        .boxed()
}

async fn look_up(system: Arc<System>, name: String, asked: Asked) -> Answer {
    let found = system.ask(&name, &asked).await;
    let since = asked.get().map_or_else(Instant::now, |asked| asked.since);
    system.known().learn(name, since, found)
}

#[cfg(test)]
mod tests;
