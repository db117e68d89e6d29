//! The engine for whoever embeds it: an outbox, the actors on it, and nothing else. No port is opened here.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = posthaste::config::load("config.toml".as_ref(), &std::env::vars().collect()).map_err(|p| p[0].to_string())?;
//! let engine = posthaste::Engine::start(&config).await?;
//! let event = posthaste_events::Draft::new(posthaste_events::EventType::parse("project:created")?);
//! let recorded = engine.record(event).await?;
//! println!("{} is durable", recorded.id);
//! engine.stop(std::time::Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```

use crate::author::{self, Scribe};
use crate::clock::{SystemClock, SystemRandom};
use crate::config::{Config, Engine as Store};
use crate::lines::{Lines, LinesGuard};
use crate::secret;
use crate::vault::Vault;
use actix::Addr;
use futures_util::FutureExt as _;
pub use posthaste_actors::messages::Sent;
use posthaste_actors::messages::{NotSent, Record, RecordTelemetry, Reload, Stop, Watch, Watched, only};
use posthaste_actors::settings::Settings;
use posthaste_actors::{Registry, SnapshotHandle};
use posthaste_deliverees::http::Http;
use posthaste_deliverees::registry::{Printer, Tools};
use posthaste_events::builtin::News;
use posthaste_events::layered::Typed;
use posthaste_events::prepare::{RelayDraft, Unfit};
use posthaste_events::seams::{Clock, Random};
use posthaste_events::{Draft, Installation};
use posthaste_outbox::disk::{Disk, SledDisk};
use posthaste_outbox::{GenerationOutbox, Limits, MemoryOutbox, Outbox, RecordError, Recorded, StoreError};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// The file in the data directory whose lock says that somebody works there.
const LOCK_FILE: &str = "lock";
/// The folder of the outbox in the data directory.
const OUTBOX_FOLDER: &str = "outbox";
/// Lines of the console that may wait to be written.
const CONSOLE_QUEUE_MAX: usize = 1_024;

/// What the subscriptions of the API are sealed with, from start to stop.
struct Sealing {
    vault: Arc<Vault>,
    random: SystemRandom,
}

/// A running engine. Stop it with [`Engine::stop`]; dropped without, the actors go on until the process ends.
pub struct Engine {
    inner: posthaste_actors::Engine,
    clock: Arc<dyn Clock>,
    tools: Mutex<(Config, Tools)>,
    sealing: Sealing,
    _console: LinesGuard,
    /// Held as long as the engine lives: it keeps a second daemon off the data.
    _lock: File,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("the data directory {path:?} cannot be used: {error}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another daemon works on the same data.
    #[error("the data directory {path:?} is in use by another posthaste{}", .by.as_deref().unwrap_or_default())]
    InUse {
        /// Which.
        path: PathBuf,
        /// Who, where that is known: ` (process 17)`.
        by: Option<String>,
    },
    /// The outbox cannot be opened.
    #[error("the outbox in {path:?} cannot be opened: {error}")]
    Outbox {
        /// Where it lies.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// The actors did not start.
    #[error(transparent)]
    Actors(#[from] posthaste_actors::StartError),
    /// No thread could be had.
    #[error("no thread for the console: {0}")]
    Thread(#[from] io::Error),
    /// Only in builds for tests: a fault is wanted that is not known.
    #[error(transparent)]
    Fault(#[from] anyhow::Error),
}

/// Why an event was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    /// Something is wrong with it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The outbox did not take it.
    #[error(transparent)]
    Refused(#[from] RecordError),
    /// The name of an event that is declared in Rust is no type.
    #[error("{0}")]
    NoType(String),
}

impl Engine {
    /// Starts an engine: locks the data directory, opens the outbox, and delivers what waits.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let (print, console) = console()?;
        let tools =
            Tools { http: Http::new(config.guard()), clock: Arc::clone(&clock), print, subscription: Arc::from("") };
        // Whatever the outbox: one data directory is one daemon's.
        let lock = lock(&config.daemon.data_dir)?;
        let data_dir = &config.daemon.data_dir;
        let unusable = |error| StartError::DataDir { path: data_dir.clone(), error };
        let mut previous: Vec<_> = config.daemon.previous_encryption_keys.iter().map(|key| *key.reveal()).collect();
        let key = match &config.daemon.encryption_key {
            Some(key) => {
                // Who names a key later on had the one that was made at the first start.
                previous.extend(secret::read_there(data_dir));
                *key.reveal()
            }
            None => secret::read_or_make(data_dir, SystemRandom).map_err(unusable)?,
        };
        let installation = Installation::new(&key);
        let sealing = Sealing { vault: Arc::new(Vault::new(&key, &previous)), random: SystemRandom };
        let outbox = open(config, &clock, &random).await?;
        let settings = settings(config, &tools, &sealing)?;
        let clock_of_actors = Arc::clone(&clock);
        let parts = posthaste_actors::Config { settings, outbox, clock: clock_of_actors, random, installation };
        let inner = posthaste_actors::start(parts).await?;
        let tools = Mutex::new((config.clone(), tools));
        Ok(Self { inner, clock, tools, sealing, _console: console, _lock: lock })
    }

    /// Where the messages of [`posthaste_actors::messages`] are sent to; works from any runtime and thread.
    #[must_use]
    pub const fn registry(&self) -> &Addr<Registry> {
        &self.inner.registry
    }

    /// What events are prepared against.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotHandle {
        self.inner.snapshot.clone()
    }

    /// The clock that the engine goes by.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Records an event; durable when it returns.
    ///
    /// # Errors
    /// [`NotRecorded`]; nothing was recorded then.
    pub async fn record(&self, draft: Draft) -> Result<Recorded, NotRecorded> {
        let snapshot = self.inner.snapshot.current();
        let event = snapshot.prepare(draft, self.clock.wall())?;
        let answer = self.inner.registry.send(Record { event, epoch: snapshot.epoch }).await;
        Ok(answer.map_err(|_| RecordError::Store(StoreError::Closed))??)
    }

    /// Records an event that is declared in Rust; durable when it returns. One that could not say all of its values is
    /// recorded without them, and measured only once the catalogue takes it so.
    ///
    /// # Errors
    /// [`NotRecorded`]; nothing was recorded then. [`NotRecorded::NoType`] is a fault of the program.
    pub async fn record_typed(&self, event: &impl Typed) -> Result<Recorded, NotRecorded> {
        let attempted = event.attempt().map_err(|e| NotRecorded::NoType(e.to_string()))?;
        let snapshot = self.inner.snapshot.current();
        let event = snapshot.prepare_attempted(attempted, self.clock.wall())?;
        let answer = self.inner.registry.send(Record { event, epoch: snapshot.epoch }).await;
        Ok(answer.map_err(|_| RecordError::Store(StoreError::Closed))??)
    }

    /// Records an event that is brought already anonymized: for analytics alone, nobody is notified. Durable when it
    /// returns. What the type's telemetry schema does not know is left out, and named.
    ///
    /// # Errors
    /// [`NotRecorded`], with [`Unfit::TelemetryOff`] where telemetry is switched off; nothing was recorded then.
    pub async fn send_event(&self, draft: RelayDraft) -> Result<Sent, NotRecorded> {
        let answer = self.inner.registry.send(RecordTelemetry(vec![draft])).await;
        let sent = match answer.map_err(|_| RecordError::Store(StoreError::Closed))? {
            Ok(sent) => sent,
            Err(NotSent::Unfit { why, .. }) => return Err(why.into()),
            Err(NotSent::Refused(why)) => return Err(why.into()),
        };
        Ok(only(sent).map_err(RecordError::Store)?)
    }

    /// The stream of attempts as they happen; one that reads too slowly misses some and is told how many.
    ///
    /// # Errors
    /// The engine has stopped.
    pub async fn watch(&self) -> Result<broadcast::Receiver<Arc<Watched>>, StoreError> {
        self.inner.registry.send(Watch).await.map_err(|_| StoreError::Closed)
    }

    /// Goes by another configuration from now on: subscriptions, retry, catalogue, networks. What waits goes by it
    /// from its next attempt on. Where data lies does not change before the next start.
    ///
    /// # Errors
    /// The outbox failed; the engine goes by what it went by.
    pub async fn reload(&self, config: &Config) -> Result<(), StoreError> {
        let tools = {
            let kept = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
            let mut tools = kept.1.clone();
            // Open connections are kept where what may be dialled stays the same.
            if kept.0.networks != config.networks {
                tools.http = Http::new(config.guard());
            }
            tools
        };
        let settings = settings(config, &tools, &self.sealing).map_err(|e| StoreError::Failed(e.to_string()))?;
        self.inner.registry.send(Reload(settings)).await.map_err(|_| StoreError::Closed)??;
        *self.tools.lock().unwrap_or_else(PoisonError::into_inner) = (config.clone(), tools);
        Ok(())
    }

    /// Records one of the daemon's own events; returns once it is durable, or after some tries is only logged.
    pub async fn announce(&self, news: News) {
        self.inner.announce(news).await;
    }

    /// Takes nothing new, lets what is in flight finish for at most `grace`, returns the rest, closes the outbox.
    ///
    /// # Errors
    /// The outbox could not be closed well: what was settled last may be attempted again.
    pub async fn stop(&self, grace: Duration) -> Result<(), StoreError> {
        // A registry that is gone has stopped already.
        let stopped = self.inner.registry.send(Stop { grace }).await.unwrap_or(Ok(()));
        self.inner.stopped().await;
        stopped
    }
}

/// Where the console prints: a queue, so that a stuck terminal stops no other delivery.
fn console() -> io::Result<(Printer, LinesGuard)> {
    let (lines, guard) = Lines::start("console", io::stdout(), CONSOLE_QUEUE_MAX, Duration::ZERO, Box::new(|| None))?;
    let print = move |line: &str| lines.write(format!("{line}\n").into_bytes()).boxed();
    Ok((Arc::new(print), guard))
}

async fn open(
    config: &Config,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<Arc<dyn Outbox>, StartError> {
    let (clock, random) = (Arc::clone(clock), Arc::clone(random));
    let limits = Limits {
        retention: config.outbox.retention,
        retention_max: config.outbox.retention_max,
        idempotency: config.outbox.idempotency,
        free_min: config.outbox.free_min,
        ..Limits::default()
    };
    match config.outbox.engine {
        // Settled events that stay for a second are as good as forgotten: nothing of them is kept, which is what a
        // benchmark compares the real store with.
        Store::Memory if limits.retention <= Duration::from_secs(1) => {
            Ok(Arc::new(MemoryOutbox::forgetting(clock, random, limits)))
        }
        Store::Memory => Ok(Arc::new(MemoryOutbox::new(clock, random, limits))),
        Store::Sled => {
            let path = config.daemon.data_dir.join(OUTBOX_FOLDER);
            let dir = path.clone();
            // Opening reads the disk, which no thread of a runtime should wait for.
            let opening = tokio::task::spawn_blocking(move || {
                let disk = SledDisk::open(&dir).map_err(|e| e.to_string())?;
                let disk = faulty_disk(Arc::new(disk)).map_err(|e| e.to_string())?;
                GenerationOutbox::open(disk, clock, random, limits).map_err(|e| e.to_string())
            });
            match opening.await {
                Ok(Ok(outbox)) => Ok(Arc::new(outbox)),
                Ok(Err(error)) => Err(StartError::Outbox { path, error }),
                Err(_) => Err(StartError::Outbox { path, error: "it panicked; see the log".to_owned() }),
            }
        }
    }
}

/// What the actors are told; in builds for tests with deliverees that misbehave as wanted.
fn settings(config: &Config, tools: &Tools, sealing: &Sealing) -> anyhow::Result<Settings> {
    let desk = author::Desk {
        kinds: config.kinds.clone(),
        guard: config.guard(),
        retry: config.retry.clone(),
        catalogue: config.catalogue.clone(),
        tools: tools.clone(),
        vault: Arc::clone(&sealing.vault),
        random: sealing.random,
    };
    let settings = Settings { author: Some(Arc::new(Scribe::new(desk))), ..config.settings(tools) };
    #[cfg(feature = "fault-injection")]
    let settings = crate::fault::of_this_process()?.settings(settings);
    Ok(settings)
}

/// The disk; in builds for tests without what they take out of it.
fn faulty_disk(disk: Arc<dyn Disk>) -> anyhow::Result<Arc<dyn Disk>> {
    #[cfg(feature = "fault-injection")]
    let disk = crate::fault::of_this_process()?.disk(disk);
    Ok(disk)
}

/// Makes the data directory where it is missing, for nobody else to read, and locks it.
fn lock(data_dir: &Path) -> Result<File, StartError> {
    let unusable = |error| StartError::DataDir { path: data_dir.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unusable)?;
    let path = data_dir.join(LOCK_FILE);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(unusable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // Only told to people; the lock is what counts.
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let pid = std::fs::read_to_string(&path).ok().filter(|pid| pid.parse::<u32>().is_ok());
            let by = pid.map(|pid| format!(" (process {pid})"));
            Err(StartError::InUse { path: data_dir.to_owned(), by })
        }
        Err(error) => Err(unusable(error.into())),
    }
}

#[cfg(test)]
mod tests;
