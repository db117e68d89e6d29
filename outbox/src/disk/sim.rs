//! A simulated disk, for tests and simulations: it keeps *live* and *durable* bytes apart and fails when it is told to.
//!
//! What was applied is live; what was synced is durable; a crash leaves what is durable and some of what was on its way.
//! Everything is decided by the seed and the order of the calls, so that a run repeats exactly. It is stricter than a real
//! disk where that finds mistakes: an open keyspace can be neither opened again nor destroyed.
//!
//! A call that fails may have been done all the same, as on a real disk: the seed decides. A call that finds no space was
//! not done.

mod seam;
mod state;

use super::{DiskError, Generation, Row};
use state::{State, flip};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A call that can fail, and that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named as the method of the seam that it stands for")]
pub enum Call {
    Generations,
    Create,
    Open,
    Destroy,
    Salvage,
    Size,
    Files,
    WriteFile,
    ReadFile,
    ReadAt,
    RemoveFile,
    Free,
    Apply,
    Sync,
    Get,
    Range,
}

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answers [`DiskError::Failed`]; a sync or an apply poisons its keyspace.
    Fail,
    /// It answers [`DiskError::NoSpace`]; a sync poisons its keyspace.
    Full,
    /// It panics, as a mistake in the disk's code would; a sync or an apply poisons its keyspace.
    Panic,
    /// The power goes, before or after the call is done; every call fails until [`SimDisk::crash`].
    PowerCut,
}

/// A fault that waits for its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which calls count; all of them where absent.
    pub on: Option<Call>,
    /// The how manyth of them from now on it is, from 1.
    pub nth: u64,
    /// What happens.
    pub trouble: Trouble,
    /// Whether every later one has it too, until [`SimDisk::disarm`] or [`SimDisk::crash`].
    pub lasting: bool,
}

/// What a crash leaves of the batches that were applied and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leaves {
    /// The first few of each keyspace, as many as the seed says: what a log does.
    #[default]
    Prefix,
    /// Any of them, as the seed says; each whole.
    Subset,
    /// None.
    Nothing,
}

/// A simulated disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk without bounds or faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes and comes back: what is not durable is lost (see [`Leaves`]), every handle is dead, no fault is
    /// armed any more.
    pub fn crash(&self) {
        let mut state = self.state();
        state.lose_power();
        state.power = true;
        state.faults.clear();
    }

    /// The process dies and the machine does not: every handle is dead, what is live stays so. No fault is armed any more.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.faults.clear();
        for stored in state.generations.values_mut() {
            stored.open = false;
            stored.poisoned = false;
        }
    }

    /// Whether the power is gone, and every call fails until [`SimDisk::crash`].
    #[must_use]
    pub fn is_off(&self) -> bool {
        !self.state().power
    }

    /// Says what a crash leaves of what was not synced; [`Leaves::Prefix`] until then.
    pub fn set_leaves(&self, leaves: Leaves) {
        self.state().leaves = leaves;
    }

    /// Lets syncs answer well and keep nothing, for negative controls: a test must fail with it.
    pub fn lie_on_sync(&self, lies: bool) {
        self.state().lies_on_sync = lies;
    }

    /// Bounds the bytes of all rows and files; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Arms a fault beside those that are armed.
    pub fn arm(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Takes all armed faults away.
    pub fn disarm(&self) {
        self.state().faults.clear();
    }

    /// How often each call was made since the disk was made, failed ones included.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<Call, u64> {
        self.state().calls.clone()
    }

    /// Flips a bit in a value of a keyspace, at rest and in memory; answers the key, `None` where it has no row.
    pub fn flip_row(&self, generation: Generation) -> Option<Vec<u8>> {
        let mut state = self.state();
        let dice = state.next();
        let stored = state.generations.get_mut(&generation)?;
        let key = stored.durable.keys().nth(dice as usize % stored.durable.len().max(1))?.clone();
        let mut value = stored.durable.get(&key)?.to_vec();
        flip(&mut value, dice >> 32);
        stored.durable.insert(key.clone(), value.clone().into());
        stored.live.insert(key.clone(), value.into());
        Some(key)
    }

    /// Hides up to `count` neighbouring rows of a keyspace from everything but a salvage, as sled does over a damaged page;
    /// answers their keys.
    pub fn lose_rows(&self, generation: Generation, count: usize) -> Vec<Vec<u8>> {
        let mut state = self.state();
        let dice = state.next() as usize;
        let Some(stored) = state.generations.get_mut(&generation) else { return Vec::new() };
        let from = dice % stored.durable.len().max(1);
        let lost: Vec<Row> =
            stored.durable.iter().skip(from).take(count).map(|(k, v)| (k.clone(), v.clone())).collect();
        for (key, _) in &lost {
            stored.durable.remove(key);
            stored.live.remove(key);
        }
        let keys = lost.iter().map(|(key, _)| key.clone()).collect();
        stored.hidden.extend(lost);
        keys
    }

    /// Takes the last row whose key begins with this byte from the newest keyspace that has one, as if it had been written in
    /// a batch of its own that never came to be: for negative controls.
    pub fn forget_last(&self, kind: u8) -> bool {
        let mut state = self.state();
        for stored in state.generations.values_mut().rev() {
            let of_kind = |key: &&Vec<u8>| key.first() == Some(&kind);
            if let Some(key) = stored.durable.keys().rfind(of_kind).cloned() {
                stored.durable.remove(&key);
                stored.live.remove(&key);
                return true;
            }
        }
        false
    }

    /// Lets every later opening of a keyspace answer [`DiskError::Damaged`]; a salvage still works.
    pub fn break_generation(&self, generation: Generation) {
        if let Some(stored) = self.state().generations.get_mut(&generation) {
            stored.broken = true;
        }
    }

    /// Flips a bit in a file; false where there is none, or no byte in it.
    pub fn flip_file(&self, name: &str) -> bool {
        let mut state = self.state();
        let dice = state.next();
        let bytes = state.files.get_mut(name);
        bytes.is_some_and(|bytes| flip(bytes, dice))
    }

    /// Counts a call and does it, unless the power is off or a fault says otherwise.
    fn call<T>(
        &self,
        call: Call,
        does: impl FnOnce(&mut State) -> Result<T, DiskError>,
        fails: impl FnOnce(&mut State, Trouble),
    ) -> Result<T, DiskError> {
        let mut state = self.state();
        *state.calls.entry(call).or_default() += 1;
        if !state.power {
            return Err(DiskError::Failed("the power is gone".into()));
        }
        match state.strike(call) {
            None => does(&mut state),
            Some(trouble) => {
                if trouble != Trouble::Full && call.may_be_done_and_fail(trouble) && state.next() & 1 == 1 {
                    // Its answer never arrives.
                    let _ = does(&mut state);
                }
                fails(&mut state, trouble);
                match trouble {
                    Trouble::Full => Err(DiskError::NoSpace),
                    Trouble::Fail => Err(DiskError::Failed(format!("{call:?} failed, as it was told to"))),
                    Trouble::Panic => {
                        drop(state);
                        std::panic::panic_any("a disk that was told to panic")
                    }
                    Trouble::PowerCut => {
                        state.lose_power();
                        Err(DiskError::Failed("the power is gone".into()))
                    }
                }
            }
        }
    }
}

impl Call {
    /// Whether a call can fail after it was done. What a failed sync wrote is decided when the power goes, since its
    /// batches count as unsynced.
    fn may_be_done_and_fail(self, trouble: Trouble) -> bool {
        self != Self::Open && (self != Self::Sync || trouble == Trouble::PowerCut)
    }
}
