//! Folders and files: what is free, made durable, copied, and what a raw file still holds.

use crate::disk::{DiskError, Row, VALUE_MAX};
use crate::envelope;
use rustix::fs::statvfs;
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// What must be free beside the rows before they are written: sled fills segments of 512 KiB, and one that met a full
/// disk answers nothing but errors until it is opened again.
const SPARE: u64 = 2 * 1024 * 1024;

/// How much of a raw file a salvage reads at a time, in bytes.
const WINDOW: usize = 4 * 1024 * 1024;

pub(super) fn failed(path: &Path, error: &io::Error) -> DiskError {
    if is_full(error) { DiskError::NoSpace } else { DiskError::Failed(format!("{}: {error}", path.display())) }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

pub(super) fn free(dir: &Path) -> Result<u64, DiskError> {
    let stat = statvfs(dir).map_err(|e| failed(dir, &e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Fails where so many bytes, and what sled takes beside them, would not fit.
pub(super) fn room_for(dir: &Path, bytes: u64) -> Result<(), DiskError> {
    if free(dir)? < bytes.saturating_mul(2).saturating_add(SPARE) { Err(DiskError::NoSpace) } else { Ok(()) }
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the files of a folder durable, those of its folders, and their names.
pub(super) fn sync_tree(dir: &Path) -> io::Result<()> {
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
pub(super) fn for_each_file(dir: &Path, visit: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
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

/// Copies the files of a keyspace; whatever stood there goes.
pub(super) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Reads the envelopes out of a file, window by window; each different one once.
pub(super) fn salvage_file(path: &Path) -> io::Result<Vec<Row>> {
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
