//! An open keyspace of sled: batches in, syncs that a power cut respects, and panics held back.
//!
//! What it works on, a copy or the folder itself, is decided where it is opened.

use super::folder::{failed, for_each_file, is_full, room_for, sync_dir, sync_tree};
use crate::disk::{DiskError, Generation, Keyspace, Row, check_lengths};
use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What sled may keep of a keyspace in memory, in bytes.
const CACHE: u64 = 2 * 1024 * 1024;

/// How often, and after which pause, a keyspace is opened again whose last user has not yet let go of its file: sled
/// closes it from threads of its own.
const LOCKED_TRIES: u32 = 100;
const LOCKED_PAUSE: Duration = Duration::from_millis(10);

/// That a generation is in use, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) open: Arc<Mutex<HashSet<Generation>>>,
    pub(super) generation: Generation,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.generation);
    }
}

/// An open keyspace.
pub(super) struct SledKeyspace {
    db: Option<::sled::Db>,
    /// Opened with the keyspace and kept: one that is opened later can miss the error of an earlier write-back.
    file: File,
    folder: PathBuf,
    /// Where it works while nothing was synced in it since it was opened.
    copy: Mutex<Option<PathBuf>>,
    _claim: Claim,
    /// A failed sync is final: the kernel may have dropped the pages that it could not write. So is a failed write: what
    /// sled then holds in memory is half a batch.
    poisoned: AtomicBool,
}

impl SledKeyspace {
    pub(super) fn boxed(
        db: ::sled::Db,
        file: File,
        folder: PathBuf,
        copy: Option<PathBuf>,
        claim: Claim,
    ) -> Box<dyn Keyspace> {
        let poisoned = AtomicBool::new(false);
        Box::new(Self { db: Some(db), file, folder, copy: Mutex::new(copy), _claim: claim, poisoned })
    }

    /// Lets the copy take the place of what it was copied from, durably.
    fn settle_copy(&self) -> io::Result<()> {
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(path), Some(dir)) = (&*copy, self.folder.parent()) else { return Ok(()) };
        sync_tree(path)?;
        renameat_with(CWD, path, CWD, &self.folder, RenameFlags::EXCHANGE)?;
        sync_dir(dir)?;
        fs::remove_dir_all(path)?;
        *copy = None;
        Ok(())
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
        check_lengths(&rows)?;
        let mut batch = ::sled::Batch::default();
        let mut bytes = 0;
        for (key, value) in rows {
            bytes += key.len() + value.len();
            batch.insert(key, &value[..]);
        }
        room_for(&self.folder, bytes as u64)?;
        let applied = self.with(|db| db.apply_batch(batch).map_err(|e| told(&e)));
        if applied.is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
        applied
    }

    fn sync(&self) -> Result<(), DiskError> {
        let synced = self.with(|db| {
            db.flush().map_err(|e| told(&e))?;
            // sled's flush ends in `sync_file_range`, which a power cut does not respect.
            rustix::fs::fdatasync(&self.file).map_err(|e| failed(&self.folder, &e.into()))?;
            self.settle_copy().map_err(|e| failed(&self.folder, &e))
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
        let db = self.db.take();
        if self.poisoned.load(Ordering::Acquire) {
            // sled flushes when it is dropped. After a failed write it waits for ever there, holding a lock over all its
            // keyspaces. So it stays in memory; this happens once a failure.
            std::mem::forget(db);
        } else if catch_unwind(AssertUnwindSafe(move || drop(db))).is_err() {
            tracing::warn!(folder = %self.folder.display(), "sled panicked at closing");
        }
        if let Some(copy) = self.copy.get_mut().unwrap_or_else(PoisonError::into_inner).take()
            && let Err(error) = fs::remove_dir_all(&copy)
        {
            tracing::warn!(folder = %copy.display(), %error, "a copy is left until the next start");
        }
    }
}

/// Opens or makes a keyspace.
pub(super) fn open_sled(folder: &Path) -> Result<::sled::Db, DiskError> {
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
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
        Err(DiskError::Damaged(format!("sled panicked: {text}")))
    })
}

/// Tells sled's errors apart. It hands on the error of a background write as a text of the first one.
pub(super) fn told(error: &::sled::Error) -> DiskError {
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

fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
