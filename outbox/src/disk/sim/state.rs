//! What a simulated disk holds, what a crash leaves of it, and when a fault strikes.

use super::{Call, Fault, Leaves, Trouble};
use crate::disk::{DiskError, Generation, Row};
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: u64,
    pub(super) generations: BTreeMap<Generation, Stored>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) leaves: Leaves,
    /// Grows with every crash, so that handles from before are known.
    pub(super) life: u64,
    pub(super) power: bool,
    pub(super) lies_on_sync: bool,
    pub(super) capacity: Option<u64>,
    pub(super) faults: Vec<Fault>,
    pub(super) calls: BTreeMap<Call, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) live: BTreeMap<Vec<u8>, Bytes>,
    pub(super) durable: BTreeMap<Vec<u8>, Bytes>,
    pub(super) unsynced: Vec<Vec<Row>>,
    /// What a failed sync was about: no later one makes it durable, only chance does.
    pub(super) doomed: Vec<Vec<Row>>,
    /// Rows that only a salvage still finds.
    pub(super) hidden: Vec<Row>,
    pub(super) bytes: u64,
    pub(super) open: bool,
    pub(super) poisoned: bool,
    pub(super) broken: bool,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: seed,
            generations: BTreeMap::new(),
            files: BTreeMap::new(),
            leaves: Leaves::default(),
            life: 0,
            power: true,
            lies_on_sync: false,
            capacity: None,
            faults: Vec::new(),
            calls: BTreeMap::new(),
        }
    }

    /// SplitMix64: small, and the same on every machine.
    pub(super) fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Whether a fault strikes at this call.
    pub(super) fn strike(&mut self, call: Call) -> Option<Trouble> {
        let mut struck = None;
        self.faults.retain_mut(|fault| {
            if fault.on.is_some_and(|on| on != call) {
                return true;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth == 0 {
                struck = struck.or(Some(fault.trouble));
            }
            fault.nth > 0 || fault.lasting
        });
        struck
    }

    pub(super) fn lose_power(&mut self) {
        self.life += 1;
        self.power = false;
        let numbers: Vec<Generation> = self.generations.keys().copied().collect();
        let leaves = if self.lies_on_sync { Leaves::Nothing } else { self.leaves };
        for number in numbers {
            let Some(stored) = self.generations.get_mut(&number) else { continue };
            let doomed = std::mem::take(&mut stored.doomed);
            let unsynced = std::mem::take(&mut stored.unsynced);
            let doomed = self.survivors(doomed, leaves);
            let unsynced = self.survivors(unsynced, leaves);
            let Some(stored) = self.generations.get_mut(&number) else { continue };
            for (key, value) in doomed.into_iter().flatten() {
                // What was synced later is newer.
                stored.durable.entry(key).or_insert(value);
            }
            stored.durable.extend(unsynced.into_iter().flatten());
            stored.live = stored.durable.clone();
            stored.bytes = stored.durable.iter().map(|(k, v)| row_bytes(k, v)).sum();
            stored.open = false;
            stored.poisoned = false;
        }
    }

    /// The batches that a crash leaves.
    fn survivors(&mut self, mut batches: Vec<Vec<Row>>, leaves: Leaves) -> Vec<Vec<Row>> {
        match leaves {
            Leaves::Nothing => batches.clear(),
            Leaves::Prefix => batches.truncate(self.next() as usize % (batches.len() + 1)),
            Leaves::Subset => batches.retain(|_| self.next() & 1 == 1),
        }
        batches
    }

    pub(super) fn used(&self) -> u64 {
        let files: u64 = self.files.values().map(|f| f.len() as u64).sum();
        files + self.generations.values().map(|s| s.bytes).sum::<u64>()
    }

    pub(super) fn free(&self) -> u64 {
        // Without a bound it is a disk of a tebibyte, so that sums of it do not overflow.
        self.capacity.unwrap_or(1 << 40).saturating_sub(self.used())
    }

    pub(super) fn stored(&mut self, generation: Generation) -> Result<&mut Stored, DiskError> {
        let missing = || DiskError::Failed(format!("generation {generation} does not exist"));
        self.generations.get_mut(&generation).ok_or_else(missing)
    }
}

pub(super) fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// Flips the bit that the dice name; false where there is none.
pub(super) fn flip(bytes: &mut [u8], dice: u64) -> bool {
    let bit = dice as usize % (bytes.len() * 8).max(1);
    bytes.get_mut(bit / 8).map(|byte| *byte ^= 1 << (bit % 8)).is_some()
}
