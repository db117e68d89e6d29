//! `[outbox]`: how events are kept until they are settled, and after.

use super::section::Section;
use std::time::Duration;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SECOND: Duration = Duration::from_secs(1);

/// How the outbox keeps events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Which store.
    pub engine: Engine,
    /// How long settled events stay; 7 days by default.
    pub retention: Duration,
    /// How many bytes on disk; past it the oldest settled events go sooner. 4 GiB by default.
    pub retention_max: u64,
    /// How long an idempotency key is remembered; a day by default, at least a second.
    pub idempotency: Duration,
    /// With fewer bytes of free space nothing new is taken; 256 MiB by default.
    pub free_min: u64,
    /// How many deliveries one subscription may be owed; a million by default.
    pub backlog_max: u64,
}

/// Which store keeps the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// On disk, embedded.
    #[default]
    Sled,
    /// In memory only: for trials; everything is gone when the daemon stops.
    Memory,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            retention: 7 * DAY,
            retention_max: 4 * GIB,
            idempotency: DAY,
            free_min: 256 * MIB,
            backlog_max: 1_000_000,
        }
    }
}

pub(super) fn read(top: &mut Section<'_, '_>) -> OutboxLimits {
    let mut section = top.section("outbox");
    let default = OutboxLimits::default();
    let engine = match section.word("engine", &["sled", "memory", "postgres"]) {
        Some(("postgres", node)) => {
            section.not_built("engine", node);
            // Its address belongs to it; a second problem would only be noise.
            section.node("url");
            Engine::Sled
        }
        Some(("memory", _)) => Engine::Memory,
        _ => Engine::Sled,
    };
    let limits = OutboxLimits {
        engine,
        retention: section.duration("retention", SECOND, default.retention),
        retention_max: section.size("retention_max", MIB..=u64::MAX >> 1, default.retention_max),
        idempotency: section.duration("idempotency", SECOND, default.idempotency),
        free_min: section.size("free_min", 0..=u64::MAX >> 1, default.free_min),
        backlog_max: section.integer("backlog_max", 1..=1_000_000_000, default.backlog_max),
    };
    section.finish();
    limits
}
