//! The real disk: one small sled keyspace a generation, each in a folder of its own, and files beside them.
//!
//! ```text
//! <dir>/lock                    held while this lives: one process has the folder
//! <dir>/gen-0000000000000001/   a keyspace: sled's `db`, `conf`, `snap.*`, `blobs/`
//! <dir>/gen-….work             the copy that an open keyspace works on, until it is first synced
//! <dir>/gen-….new, gen-….old    one that is half made, half removed; swept away at the next start, as copies are
//! <dir>/reserve                 room that is given up to open a keyspace on a full disk
//! <dir>/<name>, <dir>/_<name>   a file, and one that is being written
//! ```
//!
//! This module makes true what the seam promises and sled alone does not: durability (a `flush` ends in no `fsync`, so
//! each sync adds an `fdatasync` through a descriptor that is kept from the making of the keyspace), failure told
//! apart from damage, and a panic of sled over damaged bytes held back. It never looks into a row.
//!
//! sled *repairs* what it opens: over a damaged page it cuts off or overwrites what comes after, whole rows among it. So
//! a keyspace is opened as a copy, which takes the place of the first one when something is synced in it, and goes when
//! nothing was. Only where there is no room for a copy is it opened in place. That takes some room too, which is kept in
//! reserve: on a full disk a start must still find out what is owed.

mod folder;
mod keyspace;

use super::{Disk, DiskError, Generation, Keyspace, Row, is_file_name, is_generation};
use folder::{copy_tree, failed, for_each_file, free, room_for, salvage_file, sync_dir, sync_tree};
use keyspace::{Claim, SledKeyspace, guarded, open_sled, told};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The name and the length of the file that keeps room in reserve: as much as sled takes to open a keyspace, twice.
const RESERVE: &str = "reserve";
const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

/// A folder of generations and files, held by this process alone.
///
/// What it makes is readable by its user only (folders 0700, files 0600). Threads: sled has its own.
#[derive(Debug)]
pub struct SledDisk {
    dir: PathBuf,
    /// Kept open: closing it would let the lock go.
    _lock: File,
    open: Arc<Mutex<HashSet<Generation>>>,
}

impl SledDisk {
    /// Takes a folder, making it where there is none, and sweeps away what was half made or half removed.
    ///
    /// # Errors
    /// [`DiskError::Failed`], naming the folder, where somebody else has it, in this process too, or where it can not
    /// be made, read or written.
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        let failed = |error| failed(dir, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"));
        let lock = lock.map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DiskError::Failed(format!("another daemon runs on this data_dir: {}", dir.display())));
            }
            Err(error) => return Err(failed(error.into())),
        }
        let disk = Self { dir: dir.to_owned(), _lock: lock, open: Arc::default() };
        disk.sweep()?;
        disk.keep_reserve();
        Ok(disk)
    }

    /// Keeps room in reserve where there is plenty. Not every file system can: then a full disk is met without.
    fn keep_reserve(&self) {
        let path = self.dir.join(RESERVE);
        if path.exists() || self.room_for(RESERVE_BYTES).is_err() {
            return;
        }
        let made = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        let kept = made.and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?));
        if let Err(error) = kept {
            tracing::debug!(%error, "no room can be kept in reserve");
        }
    }

    /// Gives the reserve up where there is too little room without it.
    fn use_reserve(&self) -> Result<(), DiskError> {
        let path = self.dir.join(RESERVE);
        if self.room_for(0).is_ok() || !path.exists() {
            return Ok(());
        }
        tracing::warn!("the disk is full: the room that was kept in reserve is used");
        fs::remove_file(&path).map_err(|e| failed(&path, &e))
    }

    fn sweep(&self) -> Result<(), DiskError> {
        for (name, is_dir) in self.entries()? {
            let path = self.dir.join(&name);
            if is_dir && [".new", ".old", ".work"].iter().any(|end| name.strip_suffix(end).is_some_and(is_generation)) {
                fs::remove_dir_all(&path).map_err(|e| failed(&path, &e))?;
            } else if !is_dir && name.starts_with('_') {
                fs::remove_file(&path).map_err(|e| failed(&path, &e))?;
            }
        }
        Ok(())
    }

    /// The names in the folder that are text, and whether each is a folder.
    fn entries(&self) -> Result<Vec<(String, bool)>, DiskError> {
        let failed = |error| failed(&self.dir, &error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            if let Ok(name) = entry.file_name().into_string() {
                entries.push((name, is_dir));
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn folder(&self, generation: Generation) -> PathBuf {
        self.dir.join(format!("gen-{generation:016x}"))
    }

    fn file(&self, name: &str) -> Result<PathBuf, DiskError> {
        if is_file_name(name) {
            Ok(self.dir.join(name))
        } else {
            Err(DiskError::Failed(format!("no file name: {name:?}")))
        }
    }

    /// Takes a generation for one user.
    fn claim(&self, generation: Generation) -> Result<Claim, DiskError> {
        if self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(generation) {
            Ok(Claim { open: Arc::clone(&self.open), generation })
        } else {
            Err(DiskError::Failed(format!("generation {generation} is open")))
        }
    }

    fn room_for(&self, bytes: u64) -> Result<(), DiskError> {
        room_for(&self.dir, bytes)
    }
}

impl Disk for SledDisk {
    fn generations(&self) -> Result<Vec<Generation>, DiskError> {
        let entries = self.entries()?.into_iter().filter(|(name, is_dir)| *is_dir && is_generation(name));
        // The names are checked to be 16 hexadecimal digits, so that none is passed over here; and they sort as numbers.
        Ok(entries.filter_map(|(name, _)| Generation::from_str_radix(name.strip_prefix("gen-")?, 16).ok()).collect())
    }

    fn create(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError> {
        let folder = self.folder(generation);
        if folder.exists() {
            return Err(DiskError::Failed(format!("{} exists", folder.display())));
        }
        let claim = self.claim(generation)?;
        self.room_for(0)?;
        // Made under another name, so that a power cut leaves either nothing or a keyspace that can be opened. sled names
        // its folder again only to write long pages, which VALUE_MAX prevents, so it may be renamed beneath it.
        let unborn = folder.with_extension("new");
        let failed = |error| failed(&unborn, &error);
        if unborn.exists() {
            fs::remove_dir_all(&unborn).map_err(failed)?;
        }
        DirBuilder::new().mode(0o700).create(&unborn).map_err(failed)?;
        let db = open_sled(&unborn)?;
        let file = File::open(unborn.join("db")).map_err(failed)?;
        guarded(|| db.flush().map_err(|e| told(&e)))?;
        sync_tree(&unborn).map_err(failed)?;
        fs::rename(&unborn, &folder).map_err(failed)?;
        sync_dir(&self.dir).map_err(failed)?;
        Ok(SledKeyspace::boxed(db, file, folder, None, claim))
    }

    fn open(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError> {
        let folder = self.folder(generation);
        if !folder.is_dir() {
            return Err(DiskError::Failed(format!("{} does not exist", folder.display())));
        }
        let claim = self.claim(generation)?;
        let failed = |error| failed(&folder, &error);
        let copy = self.room_for(self.size(generation)?).is_ok().then(|| folder.with_extension("work"));
        let copy = match copy {
            Some(path) => match copy_tree(&folder, &path).map_err(failed) {
                Ok(()) => Some(path),
                // Somebody else took the room meanwhile.
                Err(DiskError::NoSpace) => {
                    fs::remove_dir_all(&path).map_err(failed)?;
                    None
                }
                Err(error) => return Err(error),
            },
            None => None,
        };
        if copy.is_none() {
            self.use_reserve()?;
        }
        let home = copy.as_ref().unwrap_or(&folder);
        let opened = open_sled(home).and_then(|db| Ok((db, File::open(home.join("db")).map_err(failed)?)));
        match opened {
            Ok((db, file)) => Ok(SledKeyspace::boxed(db, file, folder, copy, claim)),
            Err(error) => {
                if let Some(copy) = copy {
                    fs::remove_dir_all(copy).map_err(failed)?;
                }
                Err(error)
            }
        }
    }

    fn destroy(&self, generation: Generation) -> Result<(), DiskError> {
        let _claim = self.claim(generation)?;
        let folder = self.folder(generation);
        let dying = folder.with_extension("old");
        let failed = |error| failed(&folder, &error);
        // Renamed first: half of a keyspace must never be taken for a whole one.
        match fs::rename(&folder, &dying) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(failed)?,
        }
        sync_dir(&self.dir).map_err(failed)?;
        fs::remove_dir_all(&dying).map_err(failed)
    }

    fn salvage(&self, generation: Generation) -> Result<Vec<Row>, DiskError> {
        let path = self.folder(generation).join("db");
        salvage_file(&path).map_err(|e| failed(&path, &e))
    }

    fn size(&self, generation: Generation) -> Result<u64, DiskError> {
        let folder = self.folder(generation);
        let mut size = 0;
        for_each_file(&folder, &mut |path| {
            // Blocks, not lengths: what is counted is what its removal gives back.
            size += fs::metadata(path)?.blocks() * 512;
            Ok(())
        })
        .map_err(|e| failed(&folder, &e))?;
        Ok(size)
    }

    fn files(&self) -> Result<Vec<String>, DiskError> {
        let files = self.entries()?.into_iter().filter(|(name, is_dir)| !is_dir && is_file_name(name));
        Ok(files.map(|(name, _)| name).collect())
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.file(name)?;
        self.room_for(bytes.len() as u64)?;
        let unborn = self.dir.join(format!("_{name}"));
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unborn)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unborn, &path)?;
            sync_dir(&self.dir)
        };
        write().map_err(|e| failed(&path, &e))
    }

    fn read_file(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        let path = self.file(name)?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    fn read_at(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let path = self.file(name)?;
        let read = || {
            let file = File::open(&path)?;
            let mut bytes = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(more) => filled += more,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        };
        read().map_err(|e| failed(&path, &e))
    }

    fn remove_file(&self, name: &str) -> Result<(), DiskError> {
        let path = self.file(name)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_dir(&self.dir)).map_err(|e| failed(&path, &e)),
        }
    }

    fn free(&self) -> Result<u64, DiskError> {
        free(&self.dir)
    }
}
