//! The table of kinds: every kind of deliveree by its name, how its options are read, and how one is made.
//!
//! A new kind is one folder and one line in [`Kinds::built_in`]. An application that embeds the engine adds its own
//! with [`Kinds::with`], no fork needed.

use crate::guard::Guard;
use crate::http::Http;
use crate::options::{Options, Problem};
use crate::{analytics, console, webhook};
use posthaste_events::seams::Clock;
use posthaste_events::{Anonymous, AnyDeliveree, BoxFuture, Deliveree, Notification, Takes};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Writes one line, without its end, to where people look. The call itself must not block; its future is ready once the
/// line was written, or why it was not, which makes the delivery a retry. Lines are written in the order of the calls.
pub type Printer = Arc<dyn Fn(&str) -> BoxFuture<io::Result<()>> + Send + Sync>;

/// What every deliveree is made with; shared by all of them.
#[derive(Clone)]
pub struct Tools {
    /// The guarded HTTP client, with its pool of connections.
    pub http: Http,
    /// Where `webhook-timestamp` comes from.
    pub clock: Arc<dyn Clock>,
    /// Where the console prints.
    pub print: Printer,
    /// The name of the subscription whose deliveree is made.
    pub subscription: Arc<str>,
}

/// Makes a deliveree; called again where one must be made anew.
pub type Make = Arc<dyn Fn() -> AnyDeliveree + Send + Sync>;

/// Options that were read and found good.
pub struct Parsed {
    /// The settings of the kind without anything secret: a URL is its origin only, the values of headers are masked.
    pub shown: Map<String, Value>,
    /// What `?reveal=url` shows in place of the same keys in `shown`; empty for most kinds.
    pub revealed: Map<String, Value>,
    /// Which payload its deliverees take.
    pub takes: Takes,
    make: Arc<dyn Fn(&Tools) -> AnyDeliveree + Send + Sync>,
}

impl Parsed {
    /// Options of a kind whose deliverees take notifications.
    pub fn notification<D: Deliveree<Notification>>(
        shown: Map<String, Value>,
        make: impl Fn(&Tools) -> D + Send + Sync + 'static,
    ) -> Self {
        let make = move |tools: &Tools| AnyDeliveree::Notification(Arc::new(make(tools)));
        Self { shown, revealed: Map::new(), takes: Takes::Notification, make: Arc::new(make) }
    }

    /// Options of a kind whose deliverees take what is anonymous, and can name nothing else.
    pub fn anonymous<D: Deliveree<Anonymous>>(
        shown: Map<String, Value>,
        make: impl Fn(&Tools) -> D + Send + Sync + 'static,
    ) -> Self {
        let make = move |tools: &Tools| AnyDeliveree::Anonymous(Arc::new(make(tools)));
        Self { shown, revealed: Map::new(), takes: Takes::Telemetry, make: Arc::new(make) }
    }

    /// The same, with what only those may see who manage the subscription.
    #[must_use]
    pub fn revealing(self, revealed: Map<String, Value>) -> Self {
        Self { revealed, ..self }
    }

    /// What makes the deliveree, with these tools.
    #[must_use]
    pub fn make(&self, tools: Tools) -> Make {
        let make = Arc::clone(&self.make);
        Arc::new(move || make(&tools))
    }
}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parsed").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// Reads the options of a kind: every problem, or something that makes deliverees. The guard judges literal addresses.
pub type Parse = Arc<dyn Fn(&Options, &Guard) -> Result<Parsed, Vec<Problem>> + Send + Sync>;

/// One kind of deliveree.
#[derive(Clone)]
pub struct Kind {
    /// Its name in `deliveree = "…"`.
    pub name: &'static str,
    /// The keys of a subscription that are its own, beside those that every subscription has.
    pub keys: &'static [&'static str],
    /// Those of them whose value is a path on the daemon's machine, seen from the folder of the configuration: whoever
    /// reads the configuration makes them whole before `parse`.
    pub paths: &'static [&'static str],
    /// How they are read.
    pub parse: Parse,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("name", &self.name).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The kinds that there are, each name once.
#[derive(Debug, Clone)]
pub struct Kinds(BTreeMap<&'static str, Kind>);

impl Kinds {
    /// The kinds of this crate.
    #[must_use]
    pub fn built_in() -> Self {
        Self(BTreeMap::new()).with(webhook::kind()).with(analytics::kind()).with(console::kind())
    }

    /// The same and `kind`, which takes the place of one with its name.
    #[must_use]
    pub fn with(mut self, kind: Kind) -> Self {
        self.0.insert(kind.name, kind);
        self
    }

    /// The kind of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Kind> {
        self.0.get(name)
    }

    /// Every name, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self::built_in()
    }
}
