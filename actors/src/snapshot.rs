//! The snapshot of catalogue and subscriptions that events are prepared against, where anyone can read it.

use posthaste_events::prepare::Snapshot;
use posthaste_outbox::Epoch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a writer waits for the snapshot that it knows must come.
const NEWER_WITHIN: Duration = Duration::from_secs(1);

/// Reads the current snapshot without a message to anyone. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotHandle(watch::Receiver<Arc<Snapshot>>);

/// Publishes snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotPost(watch::Sender<Arc<Snapshot>>);

impl SnapshotHandle {
    /// The snapshot as it is now. Hold it for one request, not longer.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.borrow())
    }
}

impl SnapshotPost {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }

    pub(crate) fn handle(&self) -> SnapshotHandle {
        SnapshotHandle(self.0.subscribe())
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.0.send_replace(Arc::new(snapshot));
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.borrow())
    }

    /// The snapshot after `epoch`, which the outbox refused: it is about to be published, or already was.
    pub(crate) async fn newer_than(&self, epoch: Epoch) -> Arc<Snapshot> {
        let mut reader = self.0.subscribe();
        let newer = reader.wait_for(|snapshot| snapshot.epoch > epoch);
        let _whatever_there_is_after_a_second = tokio::time::timeout(NEWER_WITHIN, newer).await;
        self.current()
    }
}
