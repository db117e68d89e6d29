//! What the daemon says of itself: log lines, for people or as JSON.
//!
//! Lines are written by a thread of their own from a bounded queue, so that a slow terminal or pipe never slows a
//! delivery. What finds no room is dropped and counted: the count stands in `/metrics`, and a line tells it once there
//! is room again. A line has at most [`LINE_MAX`] bytes.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may be, in bytes; longer ones are cut.
const LINE_MAX: usize = 8 * 1024;
/// Lines that may wait to be written.
const QUEUE_MAX: usize = 8_192;
/// Lines that are written with one call.
const PIECE_BYTES: usize = 64 * 1024;
/// How long the end of the process waits for lines that are still to be written.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many log lines found no room since the start.
#[must_use]
pub fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Writes what is left when it is dropped; keep it until the end of the process.
#[derive(Debug)]
#[must_use]
pub struct LogGuard {
    queue: SyncSender<Entry>,
    done: Receiver<()>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // Waits for room at most as long as for the end.
        if self.queue.send(Entry::End).is_ok() {
            let _ = self.done.recv_timeout(FLUSH_WAIT_MAX);
        }
    }
}

/// Sends log lines to the standard error stream from now on.
///
/// `level` is a filter such as `info` or `posthaste=debug,info`; without one `RUST_LOG` counts, else `info`.
///
/// # Errors
/// The filter cannot be read, or logs go elsewhere already.
pub fn start(format: LogFormat, level: Option<&str>) -> anyhow::Result<LogGuard> {
    let filter = match level {
        Some(level) => EnvFilter::try_new(level)?,
        None if std::env::var_os("RUST_LOG").is_some() => EnvFilter::try_from_default_env()?,
        None => EnvFilter::new("info"),
    };
    let colors = io::stderr().is_terminal();
    let (lines, guard) = writer(io::stderr(), format, QUEUE_MAX, &DROPPED)?;
    let build =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colors).with_writer(lines);
    let started = match format {
        LogFormat::Human => build.try_init(),
        LogFormat::Json => build.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("logs cannot be started: {e}"))?;
    Ok(guard)
}

enum Entry {
    Line(Vec<u8>),
    End,
}

/// A place for lines, and the thread that writes them to `out`.
fn writer(
    out: impl Write + Send + 'static,
    format: LogFormat,
    queue_max: usize,
    dropped: &'static AtomicU64,
) -> io::Result<(Lines, LogGuard)> {
    let (queue, entries) = sync_channel(queue_max);
    let (tell, done) = sync_channel(1);
    thread::Builder::new().name("log".into()).spawn(move || {
        write_all(out, format, &entries, dropped);
        // Nobody waits where the process goes on.
        let _ = tell.try_send(());
    })?;
    Ok((Lines { queue: queue.clone(), dropped }, LogGuard { queue, done }))
}

fn write_all(mut out: impl Write, format: LogFormat, entries: &Receiver<Entry>, dropped: &AtomicU64) {
    let mut told = 0;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    // Bounded by the senders: when the last is gone, so is this.
    while let Some(end) = next_piece(entries, &mut piece) {
        let now = dropped.load(Ordering::Relaxed);
        if now > told {
            piece.extend_from_slice(notice(format, now - told).as_bytes());
            told = now;
        }
        // A log that cannot be written has no place to say so.
        let _ = out.write_all(&piece).and_then(|()| out.flush());
        piece.clear();
        if end {
            return;
        }
    }
}

/// Tells how many lines are missing here.
fn notice(format: LogFormat, missing: u64) -> String {
    let words = "log lines were dropped: they came faster than they could be written";
    match format {
        LogFormat::Human => format!("{missing} {words}\n"),
        LogFormat::Json => format!("{{\"level\":\"WARN\",\"message\":\"{missing} {words}\"}}\n"),
    }
}

/// Waits for lines and takes as many as there are, up to [`PIECE_BYTES`]; true at the end, `None` behind it.
fn next_piece(entries: &Receiver<Entry>, piece: &mut Vec<u8>) -> Option<bool> {
    let first = loop {
        match entries.recv_timeout(Duration::from_secs(60)) {
            Ok(entry) => break entry,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    };
    let mut next = Some(first);
    while let Some(entry) = next.take() {
        match entry {
            Entry::End => return Some(true),
            Entry::Line(line) => piece.extend_from_slice(&line),
        }
        if piece.len() < PIECE_BYTES {
            next = entries.try_recv().ok();
        }
    }
    Some(false)
}

/// Where `tracing` puts its lines; never blocks.
struct Lines {
    queue: SyncSender<Entry>,
    dropped: &'static AtomicU64,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, bytes: Vec::new() }
    }
}

/// One line, sent when it is whole.
struct Line<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut line = std::mem::take(&mut self.bytes);
        if line.is_empty() {
            return;
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        if let Err(TrySendError::Full(_)) = self.lines.queue.try_send(Entry::Line(line)) {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    /// A place to write to that can be held shut.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        fn held(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.held().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_whole_bounded_and_written_before_the_end() {
        static DROPPED: AtomicU64 = AtomicU64::new(0);
        let sink = Sink::default();
        let (lines, guard) = writer(sink.clone(), LogFormat::Human, 16, &DROPPED).unwrap();
        lines.make_writer().write_all(b"first\n").unwrap();
        lines.make_writer().write_all(&vec![b'x'; LINE_MAX * 2]).unwrap();
        drop(guard);
        let text = String::from_utf8(sink.held().clone()).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("first"));
        assert_eq!(lines.next().map(str::len), Some(LINE_MAX));
    }

    #[test]
    fn a_stuck_stream_drops_lines_counts_them_and_blocks_nobody() {
        static DROPPED: AtomicU64 = AtomicU64::new(0);
        let sink = Sink::default();
        let (lines, guard) = writer(sink.clone(), LogFormat::Json, 4, &DROPPED).unwrap();
        {
            let _stuck = sink.held();
            // None of these waits, or the test would never end.
            for _ in 0..100 {
                lines.make_writer().write_all(b"line\n").unwrap();
            }
        }
        assert!(DROPPED.load(Ordering::Relaxed) > 0);
        drop(guard);
        let text = String::from_utf8(sink.held().clone()).unwrap();
        let notice = text.lines().find(|l| l.contains("log lines were dropped")).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(notice).is_ok(), "{notice}");
    }
}
