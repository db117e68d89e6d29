//! What the daemon says of itself: log lines, for people or as JSON.
//!
//! Lines go to the standard error stream through a bounded queue, so that a slow terminal or pipe never slows a
//! delivery. What finds no room is dropped and counted: the count stands in `/metrics`, and a line tells it once there
//! is room again. A line has at most `LINE_MAX` bytes.

use crate::lines::{Lines, LinesGuard};
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may be, in bytes; longer ones are cut.
const LINE_MAX: usize = 8 * 1024;
/// Lines that may wait to be written.
const QUEUE_MAX: usize = 8_192;
/// How long the writer of the log rests after each piece, so that a thousand attempts do not wake it a thousand times.
const PAUSE: Duration = Duration::from_millis(2);

/// What is logged where nothing is said.
const DEFAULT_LEVEL: &str = "info";
/// Said of the HTTP server's libraries unless a filter names them itself: their steps are nobody's news, and whoever
/// sends what is no HTTP must not be able to fill the log. Who looked behind a mask is told at every level.
const LIBRARIES: &str = "actix_http=off,actix_server=warn,audit=info";

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
    _lines: LinesGuard,
}

/// Sends log lines to the standard error stream from now on.
///
/// `level` is a filter such as `info` or `posthaste=debug,info`; without one `RUST_LOG` counts, else `info`.
///
/// # Errors
/// The filter cannot be read, or logs go elsewhere already.
pub fn start(format: LogFormat, level: Option<&str>) -> anyhow::Result<LogGuard> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let filter = filter(level.or(from_environment.as_deref()).unwrap_or(DEFAULT_LEVEL))?;
    let colors = io::stderr().is_terminal();
    let (lines, guard) = Lines::start("log", io::stderr(), QUEUE_MAX, PAUSE, notices(format, &DROPPED))?;
    let place = Place { lines, dropped: &DROPPED };
    let build = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(place);
    let started = match format {
        LogFormat::Human => build.with_ansi(colors).try_init(),
        LogFormat::Json => build.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("logs cannot be started: {e}"))?;
    Ok(LogGuard { _lines: guard })
}

/// What is logged of everything that could be; of two words on the same target the later counts.
fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("{LIBRARIES},{level}"))
}

/// Tells, once there is room again, how many lines are missing.
fn notices(format: LogFormat, dropped: &'static AtomicU64) -> Box<crate::lines::Remark> {
    let mut told = 0;
    Box::new(move || {
        let missing = dropped.load(Ordering::Relaxed) - told;
        if missing == 0 {
            return None;
        }
        told += missing;
        let words = format!("{missing} log lines were dropped: they came faster than they could be written");
        Some(match format {
            LogFormat::Human => format!("{words}\n"),
            LogFormat::Json => format!("{{\"level\":\"WARN\",\"message\":\"{words}\"}}\n"),
        })
    })
}

/// Where `tracing` puts its lines; never blocks.
struct Place {
    lines: Lines,
    dropped: &'static AtomicU64,
}

impl<'a> MakeWriter<'a> for Place {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { place: self, bytes: Vec::new() }
    }
}

/// One line, put when it is whole.
struct Line<'a> {
    place: &'a Place,
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
        if self.place.lines.put(line).is_err() {
            self.place.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Sink;

    #[test]
    fn a_line_is_whole_and_bounded() {
        static DROPPED: AtomicU64 = AtomicU64::new(0);
        let sink = Sink::default();
        let (lines, guard) =
            Lines::start("test", sink.clone(), 16, Duration::ZERO, notices(LogFormat::Human, &DROPPED)).unwrap();
        let place = Place { lines, dropped: &DROPPED };
        place.make_writer().write_all(b"first\n").unwrap();
        place.make_writer().write_all(&vec![b'x'; LINE_MAX * 2]).unwrap();
        drop(guard);
        let lengths: Vec<_> = sink.text().lines().map(str::len).collect();
        assert_eq!(lengths, [5, LINE_MAX]);
    }

    #[test]
    fn the_http_library_says_nothing_unless_the_filter_names_it() {
        for (level, expected) in [("info", "ours\n"), ("trace", "ours\n"), ("info,actix_http=error", "theirs\nours\n")]
        {
            static DROPPED: AtomicU64 = AtomicU64::new(0);
            let sink = Sink::default();
            let (lines, guard) =
                Lines::start("test", sink.clone(), 16, Duration::ZERO, notices(LogFormat::Human, &DROPPED)).unwrap();
            let place = Place { lines, dropped: &DROPPED };
            let build = tracing_subscriber::fmt().with_env_filter(filter(level).unwrap()).with_writer(place);
            let bare = build.without_time().with_level(false).with_target(false).with_ansi(false).finish();
            tracing::subscriber::with_default(bare, || {
                tracing::error!(target: "actix_http::h1::dispatcher", "theirs");
                tracing::info!("ours");
            });
            drop(guard);
            let text = sink.text();
            let words: String = text.lines().map(|l| format!("{}\n", l.trim())).collect();
            assert_eq!(words, expected, "{level}");
        }
    }

    #[test]
    fn who_looked_behind_a_mask_is_told_at_every_level() {
        for (level, expected) in [("info", 2), ("warn", 1), ("off", 1), ("off,audit=off", 0)] {
            let sink = Sink::default();
            static DROPPED: AtomicU64 = AtomicU64::new(0);
            let (lines, guard) =
                Lines::start("test", sink.clone(), 16, Duration::ZERO, notices(LogFormat::Human, &DROPPED)).unwrap();
            let build = tracing_subscriber::fmt().with_env_filter(filter(level).unwrap());
            let subscriber = build.with_writer(Place { lines, dropped: &DROPPED }).finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(target: "audit", "told");
                tracing::info!("told");
            });
            drop(guard);
            assert_eq!(sink.text().lines().count(), expected, "{level}");
        }
    }

    #[test]
    fn lines_without_room_are_counted_and_told_once_there_is_room() {
        static DROPPED: AtomicU64 = AtomicU64::new(0);
        let sink = Sink::default();
        let (lines, guard) =
            Lines::start("test", sink.clone(), 4, Duration::ZERO, notices(LogFormat::Json, &DROPPED)).unwrap();
        let place = Place { lines, dropped: &DROPPED };
        {
            let _stuck = sink.held();
            (0..100).for_each(|_| place.make_writer().write_all(b"{}\n").unwrap());
        }
        assert!(DROPPED.load(Ordering::Relaxed) > 0);
        // The queue may still be full just now, then this line waits for its turn as any other would not.
        while place.lines.put(b"{}\n".to_vec()).is_err() {
            std::thread::yield_now();
        }
        drop(guard);
        let text = sink.text();
        assert!(text.contains("log lines were dropped"), "{text}");
        assert!(text.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{text}");
    }
}
