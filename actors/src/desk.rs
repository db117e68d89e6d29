//! Where events enter the outbox: matched again when the subscriptions changed meanwhile, refused when too many wait.
//!
//! Shared by the registry, which records what callers bring, and the scheduler, whose news are events as well.

use crate::messages::{self, Watched};
use crate::quarantine::{self, Ward};
use crate::snapshot::SnapshotPost;
use posthaste_events::builtin::News;
use posthaste_events::seams::Clock;
use posthaste_events::{Prepared, SubscriptionId};
use posthaste_outbox::{Epoch, Outbox, RecordError, Recorded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError, broadcast};

/// Events that may wait for the outbox at once.
const EVENTS_MAX: usize = 16_384;
/// KiB of payload that may wait for the outbox at once: 32 MiB.
const KIB_MAX: usize = 32 * 1_024;
/// For how long events are matched again before the caller is told to come back. A time, and no number of tries, so that
/// one who changes subscriptions in a loop keeps nobody else from recording.
const REMATCH_FOR: Duration = Duration::from_secs(5);
/// News of the daemon's own that may wait at once; more is only logged.
const NEWS_MAX: usize = 64;
/// How often, and with which pause, a piece of news is tried to be recorded.
const NEWS_TRIES: u32 = 5;
const NEWS_PAUSE: Duration = Duration::from_secs(1);
/// Attempts that a slow watcher may fall behind.
const WATCH_MAX: usize = 1_024;

/// The desk.
pub(crate) struct Desk {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) snapshot: SnapshotPost,
    pub(crate) watchers: broadcast::Sender<Arc<Watched>>,
    pub(crate) stopping: AtomicBool,
    pub(crate) ward: Ward,
    events: Semaphore,
    kib: Semaphore,
    news: Arc<Semaphore>,
}

impl Desk {
    pub(crate) fn new(outbox: Arc<dyn Outbox>, clock: Arc<dyn Clock>) -> Self {
        Self {
            outbox,
            clock,
            snapshot: SnapshotPost::new(),
            watchers: broadcast::Sender::new(WATCH_MAX),
            stopping: AtomicBool::new(false),
            ward: Ward::default(),
            events: Semaphore::new(EVENTS_MAX),
            kib: Semaphore::new(KIB_MAX),
            news: Arc::new(Semaphore::new(NEWS_MAX)),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Records what a caller brought.
    pub(crate) async fn record(
        self: &Arc<Self>,
        events: Vec<Prepared>,
        epoch: Epoch,
    ) -> Result<Vec<Recorded>, RecordError> {
        if self.is_stopping() {
            return Err(full("stopping"));
        }
        let quarantined = events.iter().enumerate().filter_map(|(at, e)| Some((at, e.quarantined.clone()?)));
        let quarantined: Vec<_> = quarantined.collect();
        let _room = self.room(&events)?;
        let recorded = self.insist(events, epoch, None).await?;
        quarantine::note(self, quarantined, &recorded);
        Ok(recorded)
    }

    /// Records an event for one subscription alone, whatever the others want.
    pub(crate) async fn record_for(
        &self,
        only: SubscriptionId,
        event: Prepared,
        epoch: Epoch,
    ) -> Result<Recorded, RecordError> {
        if self.is_stopping() {
            return Err(full("stopping"));
        }
        let events = vec![event];
        let _room = self.room(&events)?;
        let recorded = self.insist(events, epoch, Some(only)).await?;
        Ok(messages::only(recorded)?)
    }

    /// Room for events that wait for the outbox; given back when dropped.
    fn room<'a>(&'a self, events: &[Prepared]) -> Result<[SemaphorePermit<'a>; 2], RecordError> {
        let bytes: usize = events.iter().map(|e| e.payloads.len()).sum();
        let permits = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let busy = |_: TryAcquireError| full("too many events wait for the outbox");
        let events = self.events.try_acquire_many(permits(events.len())).map_err(busy)?;
        let kib = self.kib.try_acquire_many(permits(bytes.div_ceil(1_024))).map_err(busy)?;
        Ok([events, kib])
    }

    /// Records events, matched again as often as the subscriptions change on the way, but where they are for one `only`.
    async fn insist(
        &self,
        mut events: Vec<Prepared>,
        mut epoch: Epoch,
        only: Option<SubscriptionId>,
    ) -> Result<Vec<Recorded>, RecordError> {
        let until = self.clock.elapsed().saturating_add(REMATCH_FOR);
        loop {
            match self.outbox.record(events.clone(), epoch).await {
                Err(RecordError::StaleEpoch) if self.clock.elapsed() < until => {
                    let snapshot = self.snapshot.newer_than(epoch).await;
                    epoch = snapshot.epoch;
                    events = events.into_iter().map(|event| snapshot.rematch(event)).collect();
                    if let Some(only) = only {
                        events.iter_mut().for_each(|event| event.owed = vec![only]);
                    }
                }
                Err(RecordError::StaleEpoch) => return Err(full("the subscriptions change too often")),
                answer => return answer,
            }
        }
    }

    /// Room for a piece of news, from the moment that it is known; without any it is only logged.
    pub(crate) fn news_room(&self, news: &News) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.news).try_acquire_owned();
        room.map_err(|_| tracing::warn!(?news, "too much news waits; this is not recorded")).ok()
    }

    /// Records a piece of news; where that fails for long it is logged and dropped.
    pub(crate) async fn announce(&self, news: News, _room: OwnedSemaphorePermit) {
        for _ in 0..NEWS_TRIES {
            let snapshot = self.snapshot.current();
            let Some(draft) = news.draft() else { return };
            let prepared = match snapshot.prepare_ours(draft, self.clock.wall()) {
                Ok(prepared) => prepared,
                Err(unfit) => {
                    tracing::error!(%unfit, ?news, "news cannot be recorded");
                    return;
                }
            };
            match self.insist(vec![prepared], snapshot.epoch, None).await {
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, "news is not recorded yet"),
            }
            tokio::time::sleep(NEWS_PAUSE).await;
        }
        tracing::error!(?news, "news could not be recorded");
    }

    /// Waits until no news is on its way.
    pub(crate) async fn news_settled(&self) {
        let all = u32::try_from(NEWS_MAX).unwrap_or(u32::MAX);
        // An error means that the semaphore was closed, which nobody does.
        let _all_permits = self.news.acquire_many(all).await;
    }
}

fn full(reason: &str) -> RecordError {
    RecordError::Full { reason: reason.to_owned(), retry_after: Duration::from_secs(1) }
}
