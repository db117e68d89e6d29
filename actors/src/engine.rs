//! The engine: the actors on a thread and a runtime of their own, so that their addresses work from anywhere.

use crate::desk::Desk;
use crate::inbox::Inbox;
use crate::registry::{Inner, Registry};
use crate::scheduler::Core;
use crate::scheduler::actor::Scheduler;
use crate::settings::Settings;
use crate::snapshot::SnapshotHandle;
use crate::supervisor::Supervisor;
use actix::{Actor as _, Addr, System};
use posthaste_events::Installation;
use posthaste_events::builtin::News;
use posthaste_events::seams::{Clock, Random};
use posthaste_outbox::{Outbox, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, oneshot};

/// How often the outbox's upkeep is done, and how long a piece of it may take.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const SWEEP_BUDGET: Duration = Duration::from_millis(20);
/// How many pieces of telemetry that is switched off are cancelled before the rest of the upkeep has its turn.
const SILENCED_MAX: usize = 100;
/// How long the threads may take to end once everything is stopped.
const END_WITHIN: Duration = Duration::from_millis(500);

/// What an engine is started with.
pub struct Config {
    /// What it goes by.
    pub settings: Settings,
    /// Where events are kept.
    pub outbox: Arc<dyn Outbox>,
    /// The time; the same as the outbox goes by.
    pub clock: Arc<dyn Clock>,
    /// For jitter.
    pub random: Arc<dyn Random>,
    /// Whose telemetry it is.
    pub installation: Installation,
}

/// A running engine. Cheap to clone; it runs until `Stop` is sent to the registry, whether or not one of these is kept.
#[derive(Clone)]
pub struct Engine {
    /// Where the messages of [`crate::messages`] are sent to; works from any runtime and thread.
    pub registry: Addr<Registry>,
    /// What events are prepared against.
    pub snapshot: SnapshotHandle,
    desk: Arc<Desk>,
    ended: tokio::sync::watch::Receiver<bool>,
    #[cfg(test)]
    pub(crate) supervisor: Addr<Supervisor>,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread or runtime could be had.
    #[error("no thread for the engine: {0}")]
    Thread(#[from] std::io::Error),
    /// The outbox failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine's thread ended before it had started.
    #[error("the engine ended while it started")]
    Ended,
}

impl Engine {
    /// Records one of the daemon's own events; returns once it is durable, or after some tries is only logged.
    pub async fn announce(&self, news: News) {
        if let Some(room) = self.desk.news_room(&news) {
            self.desk.announce(news, room).await;
        }
    }

    /// Returns once the engine has stopped and its outbox is closed.
    pub async fn stopped(&self) {
        let mut ended = self.ended.clone();
        // An error means that the thread is gone, which is the same.
        let _gone = ended.wait_for(|ended| *ended).await;
    }
}

/// Starts an engine: it delivers what waits from the moment that this returns.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start(config: Config) -> Result<Engine, StartError> {
    let (started, starting) = oneshot::channel();
    let (end, ended) = tokio::sync::watch::channel(false);
    std::thread::Builder::new().name("posthaste-engine".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => Arc::new(runtime),
            Err(error) => {
                let _nobody_waits = started.send(Err(error.into()));
                return;
            }
        };
        let kept = Arc::clone(&runtime);
        let system = System::with_tokio_rt(move || runtime);
        system.block_on(async {
            let finished = Arc::new(Notify::new());
            let launched = launch(config, Arc::clone(&finished), ended, true).await;
            let runs = launched.is_ok();
            if started.send(launched).is_ok() && runs {
                finished.notified().await;
                // The answer to `Stop` leaves on this thread, so that it must turn once more.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        drop(system);
        // Calls that outlived their grace end here, whether or not they would.
        if let Some(runtime) = Arc::into_inner(kept) {
            runtime.shutdown_timeout(END_WITHIN);
        }
        end.send_replace(true);
    })?;
    starting.await.map_err(|_| StartError::Ended)?
}

/// Makes the actors on the current system.
pub(crate) async fn launch(
    config: Config,
    finished: Arc<Notify>,
    ended: tokio::sync::watch::Receiver<bool>,
    restores: bool,
) -> Result<Engine, StartError> {
    let Config { settings, outbox, clock, random, installation } = config;
    let inbox = Arc::new(Inbox::new(Arc::clone(&clock)));
    let desk = Arc::new(Desk::new(outbox, clock));
    let hints = Arc::clone(&inbox);
    desk.outbox.on_due(Box::new(move |subscriptions| hints.hint(subscriptions)));
    let refusals = Arc::clone(&inbox);
    desk.outbox.on_refused(Box::new(move |refused| refusals.refuse(refused)));
    let restarts = Arc::new(AtomicU64::new(0));
    let supervisor = Supervisor::new(Arc::clone(&restarts), restores).start();
    let scheduler = Scheduler {
        core: Core::default(),
        desk: Arc::clone(&desk),
        inbox: Arc::clone(&inbox),
        random,
        installation,
        supervisor: supervisor.clone(),
        restarts: Arc::clone(&restarts),
        roster: BTreeMap::new(),
        is_bare: false,
        halted: None,
    };
    let scheduler = scheduler.start();
    #[cfg(test)]
    let kept = supervisor.clone();
    let inner = Arc::new(Inner {
        desk: Arc::clone(&desk),
        inbox,
        scheduler,
        supervisor,
        restarts,
        roster: std::sync::Mutex::default(),
        changing: Mutex::default(),
        waiting: std::sync::Mutex::default(),
        finished,
    });
    inner.begin(settings).await?;
    tokio::spawn(sweep(Arc::clone(&inner)));
    let snapshot = desk.snapshot.handle();
    Ok(Engine {
        registry: Registry::new(inner).start(),
        snapshot,
        desk,
        ended,
        #[cfg(test)]
        supervisor: kept,
    })
}

/// Does the outbox's upkeep until the outbox is closed.
async fn sweep(inner: Arc<Inner>) {
    let desk = Arc::clone(&inner.desk);
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        keep_silent(&inner).await;
        loop {
            match desk.outbox.sweep(SWEEP_BUDGET).await {
                Ok(swept) if swept.more && !desk.is_stopping() => tokio::task::yield_now().await,
                Ok(_) => break,
                Err(StoreError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "the outbox's upkeep failed; it is tried again");
                    break;
                }
            }
        }
    }
}

/// Cancels what is owed of telemetry while that is switched off; a reload may come between two pieces.
async fn keep_silent(inner: &Inner) {
    for _ in 0..SILENCED_MAX {
        match inner.keep_silent().await {
            Ok(true) if !inner.desk.is_stopping() => tokio::task::yield_now().await,
            Ok(_) | Err(StoreError::Closed) => return,
            Err(error) => return tracing::warn!(%error, "what is owed of telemetry is not cancelled yet"),
        }
    }
}
