//! The backend `file`: events as lines of JSON (<https://github.com/ndjson/ndjson-spec>) in a file of one's own that is
//! followed by the next when it is full.
//!
//! Promises: a delivered event was written and synced, its line whole; a line that a crash cut off was never delivered, and
//! is taken away before the next is written. The file is opened anew for each batch, so that whoever moves or deletes it is
//! followed, and locked meanwhile, so that several writers share it. It must be a regular file, not a link; it is made with
//! mode 0600, a folder with 0700. Whatever fails is tried again later.
//!
//! A file that is not empty must begin with a line of ours: a path that was mistyped costs nobody their file.

use super::backend::{Bounds, Plain};
use super::config::Batching;
use super::written::{Written, write};
use crate::http::REPORT_TIME;
use posthaste_events::outcome::Detail;
use posthaste_events::{Anonymous, Batch, BatchLimits, BoxFuture, Deliveree, Outcome, Reporter};
use rustix::fs::OFlags;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

/// Its name in `backend = "…"`.
pub(super) const NAME: &str = "file";
/// What it takes at most.
pub(super) const BOUNDS: Bounds = Bounds { events: 1_000, bytes: 16 * 1024 * 1024, event_bytes: 1024 * 1024 };

/// How every line of ours begins; what does not is somebody else's file.
const LINE_BEGINS: &[u8] = b"{\"id\":\"";
/// How much of the end is looked at where it is torn: more than one batch with its last line.
const TAIL_MAX: u64 = 4 * 1024 * 1024;
/// How often the file may be moved away under us before the batch is put off.
const OPENS_MAX: usize = 8;
/// How long to wait before a file that another process holds is tried again.
const LOCKED_WAIT: Duration = Duration::from_millis(5);

/// Where to write, and how much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The file that is written.
    pub(super) path: PathBuf,
    /// How many bytes it may have before the next one begins; a single batch may be larger.
    pub(super) rotate: u64,
    /// How many files of before are kept: `path.1`, the newest, to `path.N`.
    pub(super) keep: u64,
}

/// The deliveree of one file.
pub(super) struct Writer {
    settings: Arc<Settings>,
    batching: Batching,
    /// Held by the one call of this process that writes to the path.
    turn: Arc<Semaphore>,
}

impl Writer {
    pub(super) const fn new(settings: Arc<Settings>, batching: Batching, turn: Arc<Semaphore>) -> Self {
        Self { settings, batching, turn }
    }
}

impl Deliveree<Anonymous> for Writer {
    fn deliver(&self, batch: Batch<Anonymous>, report: Reporter) -> BoxFuture<()> {
        let (settings, event_max) = (Arc::clone(&self.settings), self.batching.event_max);
        let deadline = Instant::now() + batch.deadline.min(self.batching.timeout);
        let turn = Arc::clone(&self.turn);
        Box::pin(async move {
            let events = write(&batch.deliveries, event_max, &report, |event| serde_json::to_vec(&Plain::of(event)));
            let lines: Arc<[u8]> = lines(&events).into();
            if lines.is_empty() {
                return;
            }
            let outcome = match timeout_at(deadline, turn.acquire_owned()).await {
                Ok(Ok(turn)) => match append_unlocked(settings, lines, turn, deadline).await {
                    Ok(()) => Outcome::Delivered(Detail::default()),
                    Err(error) => Outcome::Retry { detail: Detail::error(format!("file: {error}")), after: None },
                },
                // It is ourselves who wrote all the time; the semaphore is never closed.
                _ => Outcome::Unattempted(Detail::error("file: other batches were written all the time")),
            };
            for event in &events {
                report.outcome(event.ticket, outcome.clone());
            }
        })
    }

    fn limits(&self) -> BatchLimits {
        self.batching.limits
    }

    fn timeout(&self) -> Duration {
        self.batching.timeout + REPORT_TIME
    }
}

fn lines(events: &[Written<'_>]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(events.iter().map(|event| event.bytes.len() + 1).sum());
    for event in events {
        // Outside of its texts, where a line end is escaped, JSON may have any white space.
        lines.extend(event.bytes.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        lines.push(b'\n');
    }
    lines
}

/// Appends once no other process holds the file.
async fn append_unlocked(
    settings: Arc<Settings>,
    lines: Arc<[u8]>,
    mut turn: OwnedSemaphorePermit,
    deadline: Instant,
) -> io::Result<()> {
    loop {
        let (settings, lines) = (Arc::clone(&settings), Arc::clone(&lines));
        // A disk that hangs costs one thread of the pool: the turn goes with it, even where nobody waits for it any more.
        let appended = spawn_blocking(move || (append(&settings, &lines), turn)).await.map_err(io::Error::other)?;
        turn = match appended {
            (Err(error), turn) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => turn,
            (done, _) => return done,
        };
        sleep(LOCKED_WAIT).await;
    }
}

/// Appends these lines, all or none, and returns once they are on the disk. A file that somebody else holds is
/// [`io::ErrorKind::WouldBlock`].
fn append(settings: &Settings, lines: &[u8]) -> io::Result<()> {
    let len = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    let (mut file, end) = with_room(settings, len)?;
    file.seek(SeekFrom::Start(end))?;
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // Half of a line must not stay before the next try. Where even this fails, the next opening does it.
        let _ = file.set_len(end);
        return Err(error);
    }
    Ok(())
}

/// The file, locked, with room for so many bytes, and where its last whole line ends. A full one is moved on.
fn with_room(settings: &Settings, len: u64) -> io::Result<(File, u64)> {
    let (mut file, mut end) = open(&settings.path)?;
    for _ in 0..OPENS_MAX {
        if end == 0 || end.saturating_add(len) <= settings.rotate {
            return Ok((file, end));
        }
        rotate(settings)?;
        // The old one stays locked until the new one stands, so that nobody else moves it as well. Others may have filled
        // the new one before we hold it.
        let before = file;
        (file, end) = open(&settings.path)?;
        drop(before);
    }
    Err(moved())
}

fn moved() -> io::Error {
    io::Error::other("the file is moved away again and again")
}

/// Opens the file, locked, and says where its last whole line ends.
fn open(path: &Path) -> io::Result<(File, u64)> {
    for _ in 0..OPENS_MAX {
        let file = open_once(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "somebody else holds the file"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let held = file.metadata()?;
        // While it was opened another writer may have moved it on.
        match fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => {
                return whole(file, held.len());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(moved())
}

fn open_once(path: &Path) -> io::Result<File> {
    // No link is followed, and what is no file is refused before it could block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let options = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(flags);
        options
    };
    let file = match options().open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = folder(path);
            make(folder)?;
            let file = options().create(true).open(path)?;
            File::open(folder)?.sync_all()?;
            file
        }
        opened => opened.map_err(|error| named(error, path))?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// Makes a folder and those above it, and syncs each entry: else a power cut takes the file with its folder.
fn make(folder: &Path) -> io::Result<()> {
    let above = folder.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists());
    for missing in above.collect::<Vec<_>>().into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(missing) {
            // Another writer makes it too.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        File::open(self::folder(missing))?.sync_all()?;
    }
    Ok(())
}

/// The words for a link are misleading: too many levels.
fn named(error: io::Error, path: &Path) -> io::Error {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() => io::Error::other("it is a link, which is not followed"),
        _ => error,
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Takes away the rest of a line that a crash cut off, and what it left as NULs, the room of bytes that never came.
fn whole(file: File, len: u64) -> io::Result<(File, u64)> {
    let begin = len.saturating_sub(1);
    let end = if len == 0 || read(&file, begin, 1)? == b"\n" { len } else { end_of_lines(&file, len)? };
    let head = read(&file, 0, u64::try_from(LINE_BEGINS.len()).unwrap_or(0).min(end))?;
    if !LINE_BEGINS.starts_with(&head) {
        return Err(not_ours("it does not begin with a line of ours"));
    }
    if end < len {
        let bytes = len - end;
        tracing::warn!(bytes, "a line of telemetry that was cut off is taken away; its event is written again");
        file.set_len(end)?;
    }
    Ok((file, end))
}

/// Where the last whole line ends of a file that does not end in one.
fn end_of_lines(file: &File, len: u64) -> io::Result<u64> {
    let line_max = BOUNDS.event_bytes + 1;
    let begin = len.saturating_sub(TAIL_MAX);
    let tail = read(file, begin, TAIL_MAX)?;
    let written = tail.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let from = tail[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let rest = &tail[from..written];
    let begins = from > 0 || begin == 0;
    if !begins || rest.len() > line_max || !LINE_BEGINS.starts_with(&rest[..rest.len().min(LINE_BEGINS.len())]) {
        return Err(not_ours("its last line is none of ours"));
    }
    Ok(begin + u64::try_from(from).unwrap_or(0))
}

fn not_ours(what: &str) -> io::Error {
    io::Error::other(format!("{what}, so nothing is written to it: choose another path, or move the file away"))
}

/// Up to `len` bytes from `at`.
fn read(mut file: &File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Moves each file on by one; the oldest goes. What a larger `keep` of before left behind stays: it may be another daemon's.
fn rotate(settings: &Settings) -> io::Result<()> {
    for number in (1..settings.keep).rev() {
        match fs::rename(numbered(&settings.path, number), numbered(&settings.path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(&settings.path, numbered(&settings.path, 1))?;
    File::open(folder(&settings.path))?.sync_all()
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}
