//! What the tests of the built daemon stand on: the daemon as a process, receivers, load, an image of a disk that
//! can lose its power, a network that leads nowhere.
//!
//! Everything here is seen from outside: HTTP, signals, files and `/proc`. It never names another crate of the
//! project, so that what it finds is what a user would find. Everything listens on loopback; every wait has a bound.

pub mod browser;
pub mod certificates;
pub mod client;
pub mod config;
pub mod daemon;
pub mod frames;
pub mod image;
pub mod ledger;
pub mod load;
pub mod names;
pub mod network;
pub mod nginx;
pub mod process;
pub mod receiver;
pub mod secure;
pub mod signature;

pub use certificates::{Authority, Identity};
pub use client::{Answer, Client};
pub use config::{Config, Subscription};
pub use daemon::Daemon;
pub use image::LoopImage;
pub use ledger::{Difference, Ledger};
pub use load::{Load, Shape};
pub use network::PrivateNetwork;
pub use receiver::{Receiver, Reply, Request, Wire};
pub use secure::SecureReceiver;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Locks; a holder that panicked has failed its test already, what it left is still worth reading.
pub fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks `probe` until it answers something, at most `bound` long.
///
/// # Errors
/// Where the bound passed, with `what`; where the probe itself failed.
pub fn until<T>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + bound;
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < end, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A number that threads share.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// A number to begin with.
    #[must_use]
    pub fn of(number: u64) -> Self {
        Self(Arc::new(AtomicU64::new(number)))
    }

    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::SeqCst);
    }

    /// Replaces it.
    pub fn set(&self, number: u64) {
        self.0.store(number, Ordering::SeqCst);
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
