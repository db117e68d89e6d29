//! The open generations: at most a few, since each takes memory.
//!
//! What is opened is held against its manifest once; where rows are missing or a keyspace can not be opened, every row
//! that its raw bytes still hold whole is served from memory instead, and what is lost is named in the log.

use super::manifest::Manifest;
use crate::disk::{Disk, DiskError, Generation, Keyspace, Row};
use crate::envelope;
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many closed generations are open at most, beside the active one, while nobody uses more at once.
const OPEN_MAX: usize = 2;
/// How many rows are read at a time.
pub(crate) const PAGE: usize = 512;

/// A keyspace that several may read.
pub(crate) type Shared = Arc<Box<dyn Keyspace>>;

/// The open generations.
pub(crate) struct Library {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
    damaged: AtomicU64,
}

#[derive(Default)]
struct State {
    active: Option<(Generation, Shared)>,
    /// The most recently used last.
    open: Vec<(Generation, Shared)>,
    /// Those that were held against their manifest since the start.
    verified: HashSet<Generation>,
    /// Those whose keyspace is not to be trusted.
    distrusted: HashSet<Generation>,
}

impl Library {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, state: Mutex::default(), damaged: AtomicU64::new(0) }
    }

    /// Damaged or lost records found so far.
    pub(crate) fn damaged_total(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(crate) fn note_damage(&self, records: u64) {
        self.damaged.fetch_add(records, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a keyspace the active one, which stays open; the one before becomes one of the others where `keep`
    /// says so, else it is closed.
    pub(crate) fn activate(&self, active: Option<(Generation, Shared)>, keep: bool) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.active, active);
        match before {
            Some((generation, keyspace)) if keep => {
                state.make_room();
                state.open.push((generation, keyspace));
            }
            Some((_, keyspace)) => close(keyspace),
            None => {}
        }
    }

    /// Gives a generation's keyspace, opening it where it is not open.
    pub(crate) fn open(&self, manifest: &Manifest) -> Result<Shared, DiskError> {
        let generation = manifest.generation;
        let mut state = self.state();
        if let Some((_, active)) = state.active.as_ref().filter(|(active, _)| *active == generation) {
            return Ok(Arc::clone(active));
        }
        if let Some(at) = state.open.iter().position(|(open, _)| *open == generation) {
            let entry = state.open.remove(at);
            let keyspace = Arc::clone(&entry.1);
            state.open.push(entry);
            return Ok(keyspace);
        }
        state.make_room();
        let keyspace = Arc::new(self.open_checked(manifest, &mut state)?);
        state.open.push((generation, Arc::clone(&keyspace)));
        Ok(keyspace)
    }

    /// No longer trusts a generation's keyspace: from now on it is served from what a salvage finds.
    pub(crate) fn distrust(&self, generation: Generation) {
        let mut state = self.state();
        if state.active.as_ref().is_none_or(|(active, _)| *active != generation) && state.distrusted.insert(generation)
        {
            state.open.retain(|(open, _)| *open != generation);
        }
    }

    /// Closes a generation; false where somebody still reads it.
    pub(crate) fn close(&self, generation: Generation) -> bool {
        let mut state = self.state();
        let Some(at) = state.open.iter().position(|(open, _)| *open == generation) else { return true };
        if Arc::strong_count(&state.open[at].1) > 1 {
            return false;
        }
        let (_, keyspace) = state.open.remove(at);
        close(keyspace);
        true
    }

    /// Closes everything.
    pub(crate) fn close_all(&self) {
        let mut state = self.state();
        let all: Vec<_> = state.active.take().into_iter().chain(std::mem::take(&mut state.open)).collect();
        all.into_iter().for_each(|(_, keyspace)| close(keyspace));
    }

    fn open_checked(&self, manifest: &Manifest, state: &mut State) -> Result<Box<dyn Keyspace>, DiskError> {
        let generation = manifest.generation;
        if state.distrusted.contains(&generation) {
            return self.salvaged(manifest, Vec::new());
        }
        let keyspace = match self.disk.open(generation) {
            Err(DiskError::Damaged(what)) => {
                tracing::error!(generation, what, "a generation can not be opened; its raw bytes are searched");
                state.distrusted.insert(generation);
                return self.salvaged(manifest, Vec::new());
            }
            opened => opened?,
        };
        if !manifest.exact || state.verified.contains(&generation) {
            return Ok(keyspace);
        }
        match check(keyspace.as_ref(), manifest) {
            Ok(None) => {
                state.verified.insert(generation);
                Ok(keyspace)
            }
            Ok(Some(rows)) => {
                keyspace.close();
                tracing::error!(generation, "a generation lost records; its raw bytes are searched");
                state.distrusted.insert(generation);
                self.salvaged(manifest, rows)
            }
            Err(DiskError::Damaged(what)) => {
                keyspace.close();
                tracing::error!(generation, what, "a generation can not be read; its raw bytes are searched");
                state.distrusted.insert(generation);
                self.salvaged(manifest, Vec::new())
            }
            Err(error) => {
                keyspace.close();
                Err(error)
            }
        }
    }

    /// A keyspace in memory of what can be read and what a salvage finds.
    fn salvaged(&self, manifest: &Manifest, rows: Vec<Row>) -> Result<Box<dyn Keyspace>, DiskError> {
        let found = self.disk.salvage(manifest.generation)?;
        let whole = found.into_iter().chain(rows).filter(|(key, value)| envelope::open(key, value).is_ok());
        let salvaged = Salvaged(whole.collect());
        let mut counted = Manifest::default();
        let all: Vec<Row> = salvaged.0.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        counted.note(&all, 0);
        let lost = manifest.rows.saturating_sub(counted.rows);
        self.note_damage(lost.max(1));
        if lost > 0 {
            tracing::error!(generation = manifest.generation, lost, "records of a damaged generation are lost");
        } else {
            tracing::warn!(generation = manifest.generation, "every record of a damaged generation was found again");
        }
        Ok(Box::new(salvaged))
    }
}

impl State {
    /// Closes the one that was unused for longest, while there are too many.
    fn make_room(&mut self) {
        while self.open.len() >= OPEN_MAX {
            let Some(at) = self.open.iter().position(|(_, k)| Arc::strong_count(k) == 1) else { return };
            let (_, keyspace) = self.open.remove(at);
            close(keyspace);
        }
    }
}

fn close(keyspace: Shared) {
    if let Some(keyspace) = Arc::into_inner(keyspace) {
        keyspace.close();
    }
}

/// Every row of a keyspace, page by page.
pub(crate) fn for_each_row(
    keyspace: &dyn Keyspace,
    each: impl FnMut(&[Row]) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    for_each_in(keyspace, &[], &[0xff; 24], each)
}

/// Every row from one key up to another, page by page.
pub(crate) fn for_each_in(
    keyspace: &dyn Keyspace,
    from: &[u8],
    to: &[u8],
    mut each: impl FnMut(&[Row]) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let mut from = from.to_vec();
    loop {
        let rows = keyspace.range(&from, to, PAGE)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from.clone_from(last);
        from.push(0);
        each(&rows)?;
        if rows.len() < PAGE {
            return Ok(());
        }
    }
}

/// Holds a keyspace against its manifest; the whole rows that it has where it differs.
fn check(keyspace: &dyn Keyspace, manifest: &Manifest) -> Result<Option<Vec<Row>>, DiskError> {
    let mut counted = Manifest::default();
    let mut whole = true;
    for_each_row(keyspace, |rows| {
        whole &= rows.iter().all(|(key, value)| envelope::open(key, value).is_ok());
        counted.note(rows, 0);
        Ok(())
    })?;
    if whole && (counted.rows, counted.digest) == (manifest.rows, manifest.digest) {
        return Ok(None);
    }
    let mut readable = Vec::new();
    for_each_row(keyspace, |rows| {
        readable.extend_from_slice(rows);
        Ok(())
    })?;
    Ok(Some(readable))
}

/// What was found again of a damaged generation.
struct Salvaged(BTreeMap<Vec<u8>, Bytes>);

impl Keyspace for Salvaged {
    fn apply(&self, _rows: Vec<Row>) -> Result<(), DiskError> {
        Err(DiskError::Failed("a damaged generation is never written".into()))
    }

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, DiskError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.0.range(from.to_vec()..to.to_vec()).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn close(self: Box<Self>) {}
}
