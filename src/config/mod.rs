//! The configuration: reads `config.toml` and the catalogue files it names into checked values.
//!
//! [`load`] is the only way in: `check`, `serve` and a reload judge alike. It collects **every** problem, each with
//! file, line, key and a hint, and never shows a secret. What a kind of deliveree takes is read by that kind
//! ([`posthaste_deliverees::registry`]); what is then done with the values is left to the engine.

mod authored;
mod catalogue;
mod conditions;
mod daemon;
mod json;
mod nearest;
mod node;
mod outbox;
mod overrides;
mod problem;
mod retry;
mod section;
mod selector;
mod source;
mod subscription;
mod telemetry;
mod units;

pub(crate) use authored::{Front, judge, read_open, read_wants, split};
pub use daemon::{Daemon, Networks, Scope, Secret, SecretKey, Token};
pub(crate) use nearest::nearest;
pub use outbox::{Engine, OutboxLimits};
pub use problem::{Place, Problem};
pub(crate) use subscription::Against;
pub use subscription::Subscription;
pub use telemetry::Relay;
pub(crate) use units::duration;

use posthaste_actors::settings::{Settings, Source};
use posthaste_deliverees::guard::Guard;
use posthaste_deliverees::registry::{Kinds, Tools};
use posthaste_events::RetryPolicy;
use posthaste_events::catalogue::Catalogue;
use posthaste_events::catalogue::declare::Declarations;
use posthaste_events::prepare::TelemetryPolicy;
use problem::Problems;
use section::Section;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Environment variables, as they were when the process started.
pub type Env = BTreeMap<String, String>;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Where the daemon listens, keeps its data, and whom it trusts.
    pub daemon: Daemon,
    /// How the outbox keeps events.
    pub outbox: OutboxLimits,
    /// What deliveries may dial.
    pub networks: Networks,
    /// The declared event types.
    pub catalogue: Catalogue,
    /// How telemetry is built; `None`: it is switched off.
    pub telemetry: Option<TelemetryPolicy>,
    /// What the relay takes.
    pub relay: Relay,
    /// The subscriptions, each name once, in the order of the file.
    pub subscriptions: Vec<Subscription>,
    /// When is tried again what says nothing of that.
    pub retry: RetryPolicy,
    /// The kinds of deliverees that there are.
    pub kinds: Kinds,
}

impl Config {
    /// What the actors are told; the deliverees will be made with `tools`. Nothing is said of who reads what the outbox
    /// keeps.
    #[must_use]
    pub fn settings(&self, tools: &Tools) -> Settings {
        Settings {
            subscriptions: self.subscriptions.iter().map(|s| s.ready(tools, Source::Config)).collect(),
            catalogue: self.catalogue.clone(),
            backlog_max: self.outbox.backlog_max,
            telemetry: self.telemetry,
            author: None,
        }
    }

    /// What deliveries may dial.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.networks.guard()
    }
}

/// Reads a configuration with the kinds of deliverees that come with Posthaste; see [`load_with`].
///
/// # Errors
/// As [`load_with`].
pub fn load(path: &Path, env: &Env) -> Result<Config, Vec<Problem>> {
    load_with(path, env, &Kinds::built_in())
}

/// Reads a configuration whose catalogue files are all that declares event types; see [`load_declared`].
///
/// # Errors
/// As [`load_declared`].
pub fn load_with(path: &Path, env: &Env, kinds: &Kinds) -> Result<Config, Vec<Problem>> {
    load_declared(path, env, kinds, &Declarations::default())
}

/// Reads a configuration and everything it names; `env` serves `env:NAME` and `POSTHASTE__SECTION__KEY`.
///
/// Relative paths in it are seen from the folder of `path`. Types and layers that are `declared` in Rust come beside those
/// of the catalogue files: both are one catalogue, which subscriptions are held against. A layer that both declare alike
/// counts once; of what both declare otherwise the Rust one is a problem.
///
/// # Errors
/// Every [`Problem`], in the order of the file; never empty. What is wrong with a declaration in Rust stands at `[catalogue]`.
pub fn load_declared(path: &Path, env: &Env, kinds: &Kinds, declared: &Declarations) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let config = read(path, env, kinds, declared, &mut problems);
    match (config, problems.into_sorted()) {
        (Some(config), found) if found.is_empty() => Ok(config),
        (_, found) => Err(found),
    }
}

fn read(path: &Path, env: &Env, kinds: &Kinds, declared: &Declarations, problems: &mut Problems) -> Option<Config> {
    let folder = source::folder(path);
    let mut root = source::parse(path, problems)?;
    overrides::apply(&mut root, env, problems);
    source::resolve(&mut root, &folder, env, problems);
    let mut top = Section::top(&root, problems);
    let daemon = daemon::read(&mut top, &folder);
    let outbox = outbox::read(&mut top);
    let defaults = retry::read_defaults(&mut top);
    let networks = daemon::read_networks(&mut top);
    let catalogue = catalogue::read(&mut top, &folder, declared);
    let telemetry = telemetry::read_telemetry(top.section("telemetry"));
    let relay = telemetry::read_relay(top.section("relay"));
    let guard = networks.guard();
    let against = subscription::Against {
        kinds,
        guard: &guard,
        retry: &defaults,
        catalogue: catalogue.as_ref(),
        folder: &folder,
        kept: false,
    };
    let subscriptions = subscription::read_all(&mut top, &against);
    top.finish();
    // Without one there is a problem, and the rest is not used.
    let catalogue = catalogue.unwrap_or_default();
    let (file, kinds) = (path.to_owned(), kinds.clone());
    Some(Config { file, daemon, outbox, networks, catalogue, telemetry, relay, subscriptions, retry: defaults, kinds })
}

#[cfg(test)]
mod tests;
