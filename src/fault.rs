//! Takes a protection out, so that the controls of the tests can see the damage that it prevents.
//!
//! Only in builds with the feature `fault-injection`, which no shipped build has. `POSTHASTE_FAULT` names what is
//! taken out or put in, separated by commas:
//!
//! | word | then |
//! | --- | --- |
//! | `skip-sync` | a sync says that it is done and does nothing |
//! | `unheard-errors` | writes and syncs say that they are done where they failed, and space is never short |
//! | `panics` | a deliveree panics at the first attempt at an event of the type `fault:panic` |
//! | `panics-end` | the first panic ends the process: nothing holds it back |

use anyhow::{Result, bail};
use bytes::Bytes;
use posthaste_actors::settings::{Make, Settings};
use posthaste_events::{AnyDeliveree, Batch, BatchLimits, BoxFuture, Deliveree, Payload, Reporter};
use posthaste_outbox::disk::{Disk, DiskError, Generation, Keyspace, Row};
use std::sync::Arc;
use std::time::Duration;

/// What this process lives without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    skip_sync: bool,
    unheard_errors: bool,
    panics: bool,
    panics_end: bool,
}

/// What this process lives without, as `POSTHASTE_FAULT` says.
///
/// # Errors
/// As [`Faults::read`].
pub fn of_this_process() -> Result<Faults> {
    Faults::read(std::env::var("POSTHASTE_FAULT").ok().as_deref())
}

impl Faults {
    /// Reads the words of `POSTHASTE_FAULT`; none where it is absent.
    ///
    /// # Errors
    /// A word that is not known: a control that takes nothing out must not pass for one that does.
    pub fn read(words: Option<&str>) -> Result<Self> {
        let mut faults = Self::default();
        for word in words.unwrap_or_default().split(',').filter(|word| !word.is_empty()) {
            match word {
                "skip-sync" => faults.skip_sync = true,
                "unheard-errors" => faults.unheard_errors = true,
                "panics" => faults.panics = true,
                "panics-end" => faults.panics_end = true,
                other => bail!("POSTHASTE_FAULT names {other:?}, which this build does not know"),
            }
        }
        Ok(faults)
    }

    /// Prepares the process.
    pub fn begin(self) {
        if self.panics_end {
            std::panic::set_hook(Box::new(|_| std::process::abort()));
        }
    }

    /// The disk, with what is taken out of it.
    #[must_use]
    pub fn disk(self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        if self.skip_sync || self.unheard_errors { Arc::new(LyingDisk(disk, self)) } else { disk }
    }

    /// The settings, with deliverees that misbehave as wanted.
    #[must_use]
    pub fn settings(self, mut settings: Settings) -> Settings {
        if self.panics {
            for subscription in &mut settings.subscriptions {
                let make = Arc::clone(&subscription.make);
                let panicking: Make = Arc::new(move || match make() {
                    AnyDeliveree::Notification(inner) => AnyDeliveree::Notification(Arc::new(Panicking(inner))),
                    AnyDeliveree::Anonymous(inner) => AnyDeliveree::Anonymous(Arc::new(Panicking(inner))),
                });
                subscription.make = panicking;
            }
        }
        settings
    }
}

/// A deliveree that panics at the first attempt at `fault:panic`, before it has done anything.
struct Panicking<P: Payload>(Arc<dyn Deliveree<P>>);

impl<P: Payload> Deliveree<P> for Panicking<P> {
    fn deliver(&self, batch: Batch<P>, report: Reporter) -> BoxFuture<()> {
        let marked = batch
            .deliveries
            .iter()
            .any(|d| d.payload.bytes().starts_with(br#"{"type":"fault:panic""#) && d.attempt == 1);
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            assert!(!marked, "wanted by POSTHASTE_FAULT");
            inner.deliver(batch, report).await;
        })
    }

    fn limits(&self) -> BatchLimits {
        self.0.limits()
    }

    fn timeout(&self) -> Duration {
        self.0.timeout()
    }
}

/// A disk that does not do what it says.
struct LyingDisk(Arc<dyn Disk>, Faults);

impl Disk for LyingDisk {
    fn generations(&self) -> Result<Vec<Generation>, DiskError> {
        self.0.generations()
    }

    fn create(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError> {
        Ok(Box::new(LyingKeyspace(self.0.create(generation)?, self.1)))
    }

    fn open(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError> {
        Ok(Box::new(LyingKeyspace(self.0.open(generation)?, self.1)))
    }

    fn destroy(&self, generation: Generation) -> Result<(), DiskError> {
        self.0.destroy(generation)
    }

    fn salvage(&self, generation: Generation) -> Result<Vec<Row>, DiskError> {
        self.0.salvage(generation)
    }

    fn size(&self, generation: Generation) -> Result<u64, DiskError> {
        self.0.size(generation)
    }

    fn files(&self) -> Result<Vec<String>, DiskError> {
        self.0.files()
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.write_file(name, bytes)
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        self.0.read_file(name)
    }

    fn read_at(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.0.read_at(name, offset, len)
    }

    fn remove_file(&self, name: &str) -> Result<(), DiskError> {
        self.0.remove_file(name)
    }

    fn free(&self) -> Result<u64, DiskError> {
        if self.1.unheard_errors { Ok(u64::MAX) } else { self.0.free() }
    }
}

/// A keyspace that does not do what it says.
struct LyingKeyspace(Box<dyn Keyspace>, Faults);

impl LyingKeyspace {
    fn told(&self, result: Result<(), DiskError>) -> Result<(), DiskError> {
        if self.1.unheard_errors { Ok(()) } else { result }
    }
}

impl Keyspace for LyingKeyspace {
    fn apply(&self, rows: Vec<Row>) -> Result<(), DiskError> {
        self.told(self.0.apply(rows))
    }

    fn sync(&self) -> Result<(), DiskError> {
        if self.1.skip_sync { Ok(()) } else { self.told(self.0.sync()) }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.0.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, DiskError> {
        self.0.range(from, to, limit)
    }

    fn close(self: Box<Self>) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::Faults;

    #[test]
    fn an_unknown_word_is_refused() {
        assert_eq!(Faults::read(None).unwrap(), Faults::default());
        assert!(Faults::read(Some("skip-sync,panics")).unwrap().skip_sync);
        assert!(Faults::read(Some("skip-sink")).is_err());
    }
}
