//! The seams through which time and randomness come in, so that everything that decides can be simulated.

use crate::Timestamp;
use std::time::Duration;

/// Where the time comes from.
///
/// `elapsed` decides (what is due, leased, timed out); `wall` is for display and for what leaves.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment, counted while the machine sleeps too; it never runs back.
    fn elapsed(&self) -> Duration;
    /// The wall clock, which may jump.
    fn wall(&self) -> Timestamp;
}

/// Where randomness comes from: jitter and the random part of ids. Not for secrets: those come from the system alone.
pub trait Random: Send + Sync + 'static {
    /// The next 64 random bits.
    fn next(&self) -> u64;

    /// A number from 0 up to, but without, 1.
    fn unit(&self) -> f64 {
        // 53 bits fit an f64 exactly.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
