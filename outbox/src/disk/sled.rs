//! The real disk: one small sled keyspace a generation, each in a folder of its own, and files beside them.
//!
//! ```text
//! <dir>/lock                    held while this lives: one process has the folder
//! <dir>/gen-0000000000000001/   a keyspace: sled's `db`, `conf`, `snap.*`, `blobs/`
//! <dir>/gen-….new, gen-….old    one that was half made, half removed; swept away at the next start
//! <dir>/<name>, <dir>/_<name>   a file, and one that is being written
//! ```
//!
//! This module makes true what the seam promises and sled alone does not: durability (a `flush` ends in no `fsync`, so
//! each sync adds an `fdatasync` through a descriptor that is kept from the making of the keyspace), failure told
//! apart from damage, and a panic of sled over damaged bytes held back. It never looks into a row.

use super::{Disk, DiskError, Generation, Keyspace, Row, VALUE_MAX, is_file_name, is_generation};
use crate::envelope;
use bytes::Bytes;
use rustix::fs::{FlockOperation, flock, statvfs};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What sled may keep of a keyspace in memory, in bytes.
const CACHE: u64 = 8 * 1024 * 1024;

/// What must be free beside the rows before they are written: sled fills segments of 512 KiB, and one that met a full
/// disk answers nothing but errors until it is opened again.
const SPARE: u64 = 2 * 1024 * 1024;

/// How often, and after which pause, a keyspace is opened again whose last user has not yet let go of its file: sled
/// closes it from threads of its own.
const LOCKED_TRIES: u32 = 100;
const LOCKED_PAUSE: Duration = Duration::from_millis(10);

/// How much of a raw file a salvage reads at a time, in bytes.
const WINDOW: usize = 4 * 1024 * 1024;

/// A folder of generations and files, held by this process alone.
///
/// What it makes is readable by its user only (folders 0700, files 0600). Threads: sled has its own.
#[derive(Debug)]
pub struct SledDisk {
    dir: PathBuf,
    /// Kept open: closing it would let the lock go.
    _lock: File,
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
        let disk = Self { dir: dir.to_owned(), _lock: lock };
        disk.sweep()?;
        Ok(disk)
    }

    fn sweep(&self) -> Result<(), DiskError> {
        for (name, is_dir) in self.entries()? {
            let path = self.dir.join(&name);
            if is_dir && [".new", ".old"].iter().any(|end| name.strip_suffix(end).is_some_and(is_generation)) {
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
        self.room_for(0)?;
        // Made under another name, so that a power cut leaves either nothing or a keyspace that can be opened. sled names
        // its folder again only to write values longer than VALUE_MAX, which are refused, so it may be renamed beneath it.
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
        Ok(SledKeyspace::boxed(db, file, folder))
    }

    fn open(&self, generation: Generation) -> Result<Box<dyn Keyspace>, DiskError> {
        let folder = self.folder(generation);
        if !folder.is_dir() {
            return Err(DiskError::Failed(format!("{} does not exist", folder.display())));
        }
        self.room_for(0)?;
        let db = open_sled(&folder)?;
        let file = File::open(folder.join("db")).map_err(|e| failed(&folder, &e))?;
        Ok(SledKeyspace::boxed(db, file, folder))
    }

    fn destroy(&self, generation: Generation) -> Result<(), DiskError> {
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

/// An open keyspace.
struct SledKeyspace {
    db: Option<::sled::Db>,
    /// Opened with the keyspace and kept: one that is opened later can miss the error of an earlier write-back.
    file: File,
    folder: PathBuf,
    /// A failed sync is final: the kernel may have dropped the pages that it could not write.
    poisoned: AtomicBool,
}

impl SledKeyspace {
    fn boxed(db: ::sled::Db, file: File, folder: PathBuf) -> Box<dyn Keyspace> {
        Box::new(Self { db: Some(db), file, folder, poisoned: AtomicBool::new(false) })
    }

    /// Runs a call into sled, unless an earlier one panicked or a sync failed.
    fn with<T>(&self, call: impl FnOnce(&::sled::Db) -> Result<T, DiskError>) -> Result<T, DiskError> {
        let Some(db) = self.db.as_ref().filter(|_| !self.poisoned.load(Ordering::Acquire)) else {
            return Err(DiskError::Failed(format!("{} is poisoned by an earlier failure", self.folder.display())));
        };
        let result = guarded(|| call(db));
        if matches!(result, Err(DiskError::Damaged(_))) {
            // What a panic left behind in memory is not to be trusted again.
            self.poisoned.store(true, Ordering::Release);
        }
        result
    }
}

impl Keyspace for SledKeyspace {
    fn apply(&self, rows: Vec<Row>) -> Result<(), DiskError> {
        let mut batch = ::sled::Batch::default();
        let mut bytes = 0;
        for (key, value) in rows {
            if value.len() > VALUE_MAX {
                return Err(DiskError::Failed(format!("a value of {} bytes, at most {VALUE_MAX}", value.len())));
            }
            bytes += key.len() + value.len();
            batch.insert(key, &value[..]);
        }
        room_for(&self.folder, bytes as u64)?;
        self.with(|db| db.apply_batch(batch).map_err(|e| told(&e)))
    }

    fn sync(&self) -> Result<(), DiskError> {
        let synced = self.with(|db| {
            db.flush().map_err(|e| told(&e))?;
            // sled's flush ends in `sync_file_range`, which a power cut does not respect.
            rustix::fs::fdatasync(&self.file).map_err(|e| failed(&self.folder, &e.into()))
        });
        if synced.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        synced
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.with(|db| Ok(db.get(key).map_err(|e| told(&e))?.map(|value| Bytes::copy_from_slice(&value))))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, DiskError> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.with(|db| {
            let rows = db.range(from..to).take(limit);
            rows.map(|row| {
                let (key, value) = row.map_err(|e| told(&e))?;
                Ok((key.to_vec(), Bytes::copy_from_slice(&value)))
            })
            .collect()
        })
    }

    fn close(self: Box<Self>) {}
}

impl Drop for SledKeyspace {
    fn drop(&mut self) {
        // sled flushes when it is dropped, and panics where that fails.
        let db = self.db.take();
        if catch_unwind(AssertUnwindSafe(move || drop(db))).is_err() {
            tracing::warn!(folder = %self.folder.display(), "sled panicked at closing");
        }
    }
}

/// Opens or makes a keyspace.
fn open_sled(folder: &Path) -> Result<::sled::Db, DiskError> {
    mend_settings(&folder.join("conf")).map_err(|e| failed(folder, &e))?;
    let open = || {
        let mut tries = 0;
        loop {
            let config = ::sled::Config::new().path(folder).cache_capacity(CACHE).flush_every_ms(None);
            match config.open() {
                Err(::sled::Error::Io(error)) if tries < LOCKED_TRIES && is_lock(&error) => {
                    tries += 1;
                    std::thread::sleep(LOCKED_PAUSE);
                }
                opened => return opened.map_err(|e| told(&e)),
            }
        }
    };
    let opened = guarded(open)?;
    for_each_file(folder, &mut |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)))
        .map_err(|e| failed(folder, &e))?;
    Ok(opened)
}

/// Removes sled's settings file where its checksum does not hold. sled would not open over it, or over wrong values; it
/// holds nothing that sled does not write anew.
fn mend_settings(path: &Path) -> io::Result<()> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let whole = bytes.split_last_chunk().is_some_and(|(body, sum)| crc32fast::hash(body) == u32::from_le_bytes(*sum));
    if whole {
        return Ok(());
    }
    tracing::warn!(file = %path.display(), "damaged settings of sled are replaced");
    fs::remove_file(path)
}

/// Calls into sled; a panic means that it met bytes that it can not have written.
fn guarded<T>(call: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
        Err(DiskError::Damaged(format!("sled panicked: {text}")))
    })
}

/// Tells sled's errors apart. It hands on the error of a background write as a text of the first one.
fn told(error: &::sled::Error) -> DiskError {
    match error {
        ::sled::Error::Io(io) => {
            let text = io.to_string();
            if is_full(io) || text.contains("StorageFull") || text.contains("QuotaExceeded") {
                DiskError::NoSpace
            } else {
                DiskError::Failed(text)
            }
        }
        damaged => DiskError::Damaged(damaged.to_string()),
    }
}

fn failed(path: &Path, error: &io::Error) -> DiskError {
    if is_full(error) { DiskError::NoSpace } else { DiskError::Failed(format!("{}: {error}", path.display())) }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn free(dir: &Path) -> Result<u64, DiskError> {
    let stat = statvfs(dir).map_err(|e| failed(dir, &e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Fails where so many bytes, and what sled takes beside them, would not fit.
fn room_for(dir: &Path, bytes: u64) -> Result<(), DiskError> {
    if free(dir)? < bytes.saturating_mul(2).saturating_add(SPARE) { Err(DiskError::NoSpace) } else { Ok(()) }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the files of a folder durable, those of its folders, and their names.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for_each_file(dir, &mut |path| File::open(path)?.sync_all())?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_dir(&entry.path())?;
        }
    }
    sync_dir(dir)
}

/// Visits the files of a folder and of the folders in it, one level deep: sled makes no more.
fn for_each_file(dir: &Path, visit: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for inner in fs::read_dir(entry.path())? {
                visit(&inner?.path())?;
            }
        } else {
            visit(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads the envelopes out of a file, window by window; each different one once.
fn salvage_file(path: &Path) -> io::Result<Vec<Row>> {
    let mut file = File::open(path)?;
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    let mut window = Vec::with_capacity(WINDOW + VALUE_MAX);
    loop {
        let read = (&mut file).take(WINDOW as u64).read_to_end(&mut window)?;
        for row in envelope::scan(&window) {
            // sled writes a page again and again; the same envelope is the same row.
            if seen.insert(row.1.clone()) {
                rows.push(row);
            }
        }
        if read == 0 {
            return Ok(rows);
        }
        // An envelope that straddles the end of the window is found whole in the next one.
        window.drain(..window.len().saturating_sub(VALUE_MAX));
    }
}
