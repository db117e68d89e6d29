//! The bounds of an outbox: how long it keeps what, how much it takes, when a generation ends.

use std::time::Duration;

/// Bounds that every store keeps. The defaults are those of the configuration's `[outbox]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long settled events stay to be looked at and replayed. Default 7 days.
    pub retention: Duration,
    /// Bytes on disk; past it the oldest settled events go sooner, never one that is owed. Default 4 GiB.
    pub retention_max: u64,
    /// How long an idempotency key is remembered. Default 24 hours.
    pub idempotency: Duration,
    /// With less free space, in bytes, nothing new is taken. Default 256 MiB.
    pub free_min: u64,
    /// How long what an unlisted subscription is owed stays held before it is cancelled. Default 7 days.
    pub grace: Duration,
    /// When a generation ends.
    pub generation: GenerationLimits,
    /// How much may wait for the writer.
    pub queue: QueueLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            retention_max: 4 << 30,
            idempotency: Duration::from_secs(24 * 60 * 60),
            free_min: 256 << 20,
            grace: Duration::from_secs(7 * 24 * 60 * 60),
            generation: GenerationLimits::default(),
            queue: QueueLimits::default(),
        }
    }
}

/// A generation ends at whichever comes first; also after an eighth of the retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationLimits {
    /// Events. Default 20,000.
    pub events_max: u64,
    /// Bytes of its rows. Default 64 MiB.
    pub bytes_max: u64,
    /// Rows of any kind. Default 100,000.
    pub rows_max: u64,
}

impl Default for GenerationLimits {
    fn default() -> Self {
        Self { events_max: 20_000, bytes_max: 64 << 20, rows_max: 100_000 }
    }
}

/// What may wait for the writer; more is answered with `Full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Events. Default 16,384.
    pub events_max: usize,
    /// Bytes of payload. Default 32 MiB.
    pub bytes_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { events_max: 16_384, bytes_max: 32 << 20 }
    }
}
