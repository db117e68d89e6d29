//! A simulated disk behind the seam: each call is counted, may fail, and works on the state.

use super::state::{State, Stored, row_bytes};
use super::{Call, SimDisk, Trouble};
use crate::disk::{Disk, DiskError, Generation, Keyspace, Row, check_lengths, is_file_name};
use crate::envelope;
use bytes::Bytes;
use std::ops::Bound::{Excluded, Included};

impl Disk for SimDisk {
    fn generations(&self) -> Result<Vec<Generation>, DiskError> {
        self.call(Call::Generations, |s| Ok(s.generations.keys().copied().collect()), nothing)
    }

    fn create(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError> {
        let does = |s: &mut State| {
            if s.generations.contains_key(&generation) {
                return Err(DiskError::Failed(format!("generation {generation} exists")));
            }
            s.generations.insert(generation, Stored { open: true, ..Stored::default() });
            Ok(s.life)
        };
        // Where it was made and the call failed all the same, nobody has it open.
        let fails = |s: &mut State, _| s.generations.get_mut(&generation).into_iter().for_each(|g| g.open = false);
        let life = self.call(Call::Create, does, fails)?;
        Ok(Box::new(SimKeyspace { disk: self.clone(), generation, life }))
    }

    fn open(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError> {
        let does = |s: &mut State| {
            let life = s.life;
            let stored = s.stored(generation)?;
            if stored.open {
                return Err(DiskError::Failed(format!("generation {generation} is open")));
            }
            if stored.broken {
                return Err(DiskError::Damaged(format!("generation {generation} does not open")));
            }
            stored.open = true;
            stored.poisoned = false;
            Ok(life)
        };
        let life = self.call(Call::Open, does, nothing)?;
        Ok(Box::new(SimKeyspace { disk: self.clone(), generation, life }))
    }

    fn destroy(&self, generation: Generation) -> Result<(), DiskError> {
        let does = |s: &mut State| {
            if s.generations.get(&generation).is_some_and(|g| g.open) {
                return Err(DiskError::Failed(format!("generation {generation} is open")));
            }
            s.generations.remove(&generation);
            Ok(())
        };
        self.call(Call::Destroy, does, nothing)
    }

    fn salvage(&self, generation: Generation) -> Result<Vec<Row>, DiskError> {
        let does = |s: &mut State| {
            let stored = s.stored(generation)?;
            let rows = stored.hidden.iter().cloned().chain(stored.live.iter().map(|(k, v)| (k.clone(), v.clone())));
            Ok(rows.filter(|(key, value)| envelope::open(key, value).is_ok()).collect())
        };
        self.call(Call::Salvage, does, nothing)
    }

    fn size(&self, generation: Generation) -> Result<u64, DiskError> {
        self.call(Call::Size, |s| Ok(s.stored(generation)?.bytes), nothing)
    }

    fn files(&self) -> Result<Vec<String>, DiskError> {
        self.call(Call::Files, |s| Ok(s.files.keys().cloned().collect()), nothing)
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let does = |s: &mut State| {
            if !is_file_name(name) {
                return Err(DiskError::Failed(format!("no file name: {name:?}")));
            }
            // The old one goes only after the new one was written.
            if s.free() < bytes.len() as u64 {
                return Err(DiskError::NoSpace);
            }
            s.files.insert(name.to_owned(), bytes.to_vec());
            Ok(())
        };
        self.call(Call::WriteFile, does, nothing)
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        self.call(Call::ReadFile, |s| Ok(s.files.get(name).cloned()), nothing)
    }

    fn read_at(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let does = |s: &mut State| {
            let file = s.files.get(name).ok_or_else(|| DiskError::Failed(format!("no file {name}")))?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
            Ok(file[from..from.saturating_add(len).min(file.len())].to_vec())
        };
        self.call(Call::ReadAt, does, nothing)
    }

    fn remove_file(&self, name: &str) -> Result<(), DiskError> {
        let does = |s: &mut State| {
            s.files.remove(name);
            Ok(())
        };
        self.call(Call::RemoveFile, does, nothing)
    }

    fn free(&self) -> Result<u64, DiskError> {
        self.call(Call::Free, |s| Ok(s.free()), nothing)
    }
}

struct SimKeyspace {
    disk: SimDisk,
    generation: Generation,
    life: u64,
}

impl SimKeyspace {
    fn call<T>(
        &self,
        call: Call,
        does: impl FnOnce(&mut Stored, u64, bool) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let does = |s: &mut State| {
            let (free, lies, alive) = (s.free(), s.lies_on_sync, s.life == self.life);
            let stored = s.stored(self.generation)?;
            if !alive || stored.poisoned {
                return Err(DiskError::Failed("a handle from before a crash or a failed sync".into()));
            }
            does(stored, free, lies)
        };
        let fails = |s: &mut State, trouble| {
            if call == Call::Apply && trouble == Trouble::Full {
                return;
            }
            let poisons = matches!(call, Call::Sync | Call::Apply) && s.life == self.life;
            if let Some(stored) = s.generations.get_mut(&self.generation).filter(|_| poisons) {
                stored.poisoned = true;
                let unsynced = std::mem::take(&mut stored.unsynced);
                stored.doomed.extend(unsynced);
            }
        };
        self.disk.call(call, does, fails)
    }
}

impl Keyspace for SimKeyspace {
    fn apply(&self, rows: Vec<Row>) -> Result<(), DiskError> {
        self.call(Call::Apply, |stored, free, _| {
            check_lengths(&rows)?;
            let bytes = rows.iter().map(|(k, v)| row_bytes(k, v)).sum();
            if free < bytes {
                return Err(DiskError::NoSpace);
            }
            stored.bytes += bytes;
            stored.live.extend(rows.iter().cloned());
            stored.unsynced.push(rows);
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.call(Call::Sync, |stored, _, lies| {
            if !lies {
                let synced = std::mem::take(&mut stored.unsynced);
                stored.durable.extend(synced.into_iter().flatten());
            }
            Ok(())
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.call(Call::Get, |stored, _, _| Ok(stored.live.get(key).cloned()))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, DiskError> {
        self.call(Call::Range, |stored, _, _| {
            if from >= to {
                return Ok(Vec::new());
            }
            let rows = stored.live.range::<[u8], _>((Included(from), Excluded(to))).take(limit);
            Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
        })
    }

    fn close(self: Box<Self>) {}
}

impl Drop for SimKeyspace {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life
            && let Some(stored) = state.generations.get_mut(&self.generation)
        {
            stored.open = false;
        }
    }
}

fn nothing(_: &mut State, _: Trouble) {}
