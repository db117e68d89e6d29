//! The backend `file`: events as lines of JSON (<https://github.com/ndjson/ndjson-spec>) in a file of one's own that is
//! followed by the next when it is full.
//!
//! Promises: a delivered event was written and synced, its line whole; a line that a crash cut off was never delivered, and
//! is taken away before the next is written. The file is opened anew for each batch, so that whoever moves or deletes it is
//! followed, and locked meanwhile, so that several writers share it. It must be a regular file, not a link; it is made with
//! mode 0600, a folder with 0700. Whatever fails is tried again later.

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
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// Its name in `backend = "…"`.
pub(super) const NAME: &str = "file";
/// What it takes at most.
pub(super) const BOUNDS: Bounds = Bounds { events: 1_000, bytes: 16 * 1024 * 1024, event_bytes: 1024 * 1024 };

/// How every line of ours begins; what does not is somebody else's file.
const LINE_BEGINS: &[u8] = b"{\"id\":\"";
/// How often the file may be moved away under us before the batch is put off.
const OPENS_MAX: usize = 8;
/// How long to wait before a locked file is tried again.
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
}

impl Writer {
    pub(super) const fn new(settings: Arc<Settings>, batching: Batching) -> Self {
        Self { settings, batching }
    }
}

impl Deliveree<Anonymous> for Writer {
    fn deliver(&self, batch: Batch<Anonymous>, report: Reporter) -> BoxFuture<()> {
        let (settings, event_max) = (Arc::clone(&self.settings), self.batching.event_max);
        let deadline = Instant::now() + batch.deadline.min(self.batching.timeout);
        Box::pin(async move {
            let events = write(&batch.deliveries, event_max, &report, |event| serde_json::to_vec(&Plain::of(event)));
            let lines: Arc<[u8]> = lines(&events).into();
            if lines.is_empty() {
                return;
            }
            let outcome = match append_unlocked(settings, lines, deadline).await {
                Ok(()) => Outcome::Delivered(Detail::default()),
                Err(error) => Outcome::Retry { detail: Detail::error(format!("file: {error}")), after: None },
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

/// Appends once nobody else holds the file.
async fn append_unlocked(settings: Arc<Settings>, lines: Arc<[u8]>, deadline: Instant) -> io::Result<()> {
    loop {
        let (settings, lines) = (Arc::clone(&settings), Arc::clone(&lines));
        // A disk that hangs costs a thread of the pool, not the daemon.
        match spawn_blocking(move || append(&settings, &lines)).await.map_err(io::Error::other)? {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                sleep(LOCKED_WAIT).await;
            }
            done => return done,
        }
    }
}

/// Appends these lines, all or none, and returns once they are on the disk. A file that somebody else holds is
/// [`io::ErrorKind::WouldBlock`].
fn append(settings: &Settings, lines: &[u8]) -> io::Result<()> {
    let len = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    let (mut file, mut end) = open(&settings.path)?;
    if end > 0 && end.saturating_add(len) > settings.rotate {
        rotate(settings)?;
        // The old one stays locked until the new one stands, so that nobody else moves it as well.
        let before = file;
        (file, end) = open(&settings.path)?;
        drop(before);
    }
    file.seek(SeekFrom::Start(end))?;
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if let Err(error) = written {
        // Half of a line must not stay before the next try. Where even this fails, the next opening does it.
        let _ = file.set_len(end);
        return Err(error);
    }
    Ok(())
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
    Err(io::Error::other("the file is moved away again and again"))
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
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let file = options().create(true).open(path)?;
            File::open(folder)?.sync_all()?;
            file
        }
        opened => opened.map_err(|error| named(error, path))?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
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

/// Takes away the rest of a line that a crash cut off.
fn whole(mut file: File, len: u64) -> io::Result<(File, u64)> {
    let line_max = u64::try_from(BOUNDS.event_bytes).unwrap_or(u64::MAX) + 1;
    let begin = len.saturating_sub(line_max);
    file.seek(SeekFrom::Start(len.saturating_sub(1)))?;
    let mut last = Vec::with_capacity(1);
    (&mut file).take(1).read_to_end(&mut last)?;
    if len == 0 || last == b"\n" {
        return Ok((file, len));
    }
    file.seek(SeekFrom::Start(begin))?;
    let mut tail = Vec::new();
    (&mut file).take(line_max).read_to_end(&mut tail)?;
    let rest = tail.iter().rposition(|byte| *byte == b'\n').map_or(tail.as_slice(), |at| &tail[at + 1..]);
    let compared = rest.len().min(LINE_BEGINS.len());
    if rest.len() == tail.len() && begin > 0 || rest[..compared] != LINE_BEGINS[..compared] {
        return Err(io::Error::other("its last line is none of ours, so nothing is written to it"));
    }
    let end = len - u64::try_from(rest.len()).unwrap_or(0);
    tracing::warn!(
        bytes = rest.len(),
        "a line of telemetry that was cut off is taken away; its event is written again"
    );
    file.set_len(end)?;
    Ok((file, end))
}

/// Moves each file on by one; the oldest goes.
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
