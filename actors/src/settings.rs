//! What the actors are told of the configuration: checked values, no text to be parsed.

use crate::author::Author;
use posthaste_events::catalogue::Catalogue;
use posthaste_events::matching::Selector;
use posthaste_events::prepare::TelemetryPolicy;
use posthaste_events::retry::RetryPolicy;
use posthaste_events::{AnyDeliveree, BatchLimits, Takes};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a running engine goes by; replaced as a whole at a reload.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The subscriptions, each name once.
    pub subscriptions: Vec<Subscription>,
    /// The declared event types.
    pub catalogue: Catalogue,
    /// How many deliveries one subscription may be owed.
    pub backlog_max: u64,
    /// How telemetry is built; `None`: it is switched off, and what waits of it is cancelled.
    pub telemetry: Option<TelemetryPolicy>,
    /// Who reads and writes the subscriptions that the outbox keeps; `None`: it keeps none, and takes none.
    pub author: Option<Arc<dyn Author>>,
}

/// A subscription, ready to run.
#[derive(Clone)]
pub struct Subscription {
    /// Its identity over restarts and reloads.
    pub name: String,
    /// Which kind of deliveree it has, for listings and logs.
    pub kind: String,
    /// Whose it is; what fairness goes by first.
    pub tenant: Option<String>,
    /// Which events it wants; several sets are OR-ed, and an event that fits several makes one delivery.
    pub selectors: Vec<Selector>,
    /// When it tries again, and when it gives up.
    pub retry: RetryPolicy,
    /// How many of its calls may be under way at once; 1 or more.
    pub concurrency: usize,
    /// When it stops trying for a while; `None`: never.
    pub circuit: Option<Circuit>,
    /// How many of its calls may begin in how long; `None`: as many as may be.
    pub rate: Option<Rate>,
    /// Whether its deliveries go by the key of their event, one of each key at a time.
    pub ordered: bool,
    /// After how long without one delivery that arrived it is disabled, where attempts failed; `None`: never.
    pub disable_after: Option<Duration>,
    /// Where it stands written.
    pub source: Source,
    /// How it is shown: its settings without anything secret.
    pub shown: serde_json::Map<String, serde_json::Value>,
    /// What is shown in place of the same keys of `shown` to those who may see it: whole URLs.
    pub reveal: Reveal,
    /// A mark of its settings and of its whole target: where it differs after a reload, what the receiver asked for and
    /// how it failed so far is forgotten, since it may be another.
    pub mark: u64,
    /// Which payload its deliveree takes.
    pub takes: Takes,
    /// How large its batches are and how long a call may take, where that is known before its deliveree is made; `None`:
    /// one is made to be asked.
    pub ahead: Option<(BatchLimits, Duration)>,
    /// Makes its deliveree, when it first has work.
    pub make: Make,
}

/// Makes a deliveree; called again where one must be made anew.
pub type Make = Arc<dyn Fn() -> AnyDeliveree + Send + Sync>;

/// Shows what is masked else: whole URLs. Called only when somebody who may see them asks.
#[derive(Clone)]
pub struct Reveal(Arc<dyn Fn() -> serde_json::Map<String, serde_json::Value> + Send + Sync>);

impl Reveal {
    /// What `show` shows, which may take a while: a seal is opened for it.
    pub fn new(show: impl Fn() -> serde_json::Map<String, serde_json::Value> + Send + Sync + 'static) -> Self {
        Self(Arc::new(show))
    }

    /// What there is to see.
    #[must_use]
    pub fn whole(&self) -> serde_json::Map<String, serde_json::Value> {
        (self.0)()
    }
}

impl From<serde_json::Map<String, serde_json::Value>> for Reveal {
    fn from(whole: serde_json::Map<String, serde_json::Value>) -> Self {
        Self::new(move || whole.clone())
    }
}

impl Default for Reveal {
    fn default() -> Self {
        Self::new(serde_json::Map::new)
    }
}

impl PartialEq for Reveal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Reveal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reveal(…)")
    }
}

/// A rate limit: never more than `calls` in any span of `per`, at the receiver's clock too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls at most; 1 or more.
    pub calls: u32,
    /// In so long.
    pub per: Duration,
}

/// Where a subscription stands written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// In the configuration: it is changed there.
    #[default]
    Config,
    /// In the outbox, put there by the API.
    Api(Version),
}

/// Which writing of a subscription that the outbox keeps: never the same again under its name, also where it was removed and
/// made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Grows with each change; from 1.
    pub revision: u64,
    /// Another one each time that one is made; 0 of those that were made before there was one.
    pub made: u64,
}

/// A circuit breaker: opens when for `over` nothing succeeded and at least `failures` failed; probes with one delivery
/// after each `pause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circuit {
    /// Failures at least; 1 or more.
    pub failures: u32,
    /// For how long nothing succeeded.
    pub over: Duration,
    /// How long it stays open before a probe.
    pub pause: Duration,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { failures: 20, over: Duration::from_secs(60), pause: Duration::from_secs(30) }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}
