//! Writes lines from a thread of its own, from a bounded queue, so that a slow terminal or pipe stops nobody.
//!
//! What to do with a line that finds no room is left to whoever brings it: the log counts it and goes on, the console
//! says that its delivery failed.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes that are written with one call, about.
const PIECE_BYTES: usize = 64 * 1024;
/// How long the end waits for lines that are still to be written.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

/// There was no room for a line, or nobody writes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("lines come faster than they can be written")]
pub(crate) struct NoRoom;

/// Where lines are put. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Lines(SyncSender<Entry>);

/// Writes what is left when it is dropped, for at most a second; keep it until the end.
#[derive(Debug)]
#[must_use]
pub(crate) struct LinesGuard {
    queue: SyncSender<Entry>,
    ending: Arc<AtomicBool>,
    done: Receiver<()>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// A line of somebody who waits to hear what became of it.
    Told(Vec<u8>, Teller),
    /// Wakes the writer to look whether it should end.
    Look,
}

/// Where somebody waits for what became of a line.
type Teller = oneshot::Sender<io::Result<()>>;

/// Asked before each piece is written for something to be said behind it.
pub(crate) type Remark = dyn FnMut() -> Option<String> + Send;

impl Lines {
    /// Starts a thread that writes to `out` what is put here; at most `queue_max` lines wait.
    ///
    /// It rests for `pause` after each piece: lines that come fast are then written together, and whoever puts them
    /// need not wake it for each.
    ///
    /// # Errors
    /// No thread could be had.
    pub(crate) fn start(
        name: &str,
        out: impl Write + Send + 'static,
        queue_max: usize,
        pause: Duration,
        remark: Box<Remark>,
    ) -> io::Result<(Self, LinesGuard)> {
        let (queue, entries) = sync_channel(queue_max);
        let (tell, done) = sync_channel(1);
        let ending = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ending);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            write_all(out, &entries, &ended, pause, remark);
            // Nobody waits where the process goes on.
            let _ = tell.try_send(());
        })?;
        Ok((Self(queue.clone()), LinesGuard { queue, ending, done }))
    }

    /// Puts a line, its end included; never waits.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(crate) fn put(&self, line: Vec<u8>) -> Result<(), NoRoom> {
        self.0.try_send(Entry::Line(line)).map_err(|_: TrySendError<_>| NoRoom)
    }
}

impl Lines {
    /// Puts a line, its end included, and never waits; the future that is returned does, until the line was written.
    /// Dropped before its turn, it takes the line back.
    ///
    /// # Errors
    /// There was no room, the write failed, or the writer ended before its turn: the line may be there in part.
    pub(crate) fn write(&self, line: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let (tell, told) = oneshot::channel();
        let put = self.0.try_send(Entry::Told(line, tell)).map_err(|_: TrySendError<_>| io::Error::other(NoRoom));
        async move {
            put?;
            told.await.unwrap_or_else(|_| Err(io::Error::other("nobody writes any more")))
        }
    }
}

impl Drop for LinesGuard {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // A full queue needs no waking: its writer looks after each piece.
        let _ = self.queue.try_send(Entry::Look);
        // A stream that is stuck is not waited for any longer.
        let _ = self.done.recv_timeout(FLUSH_WAIT_MAX);
    }
}

fn write_all(
    mut out: impl Write,
    entries: &Receiver<Entry>,
    ending: &AtomicBool,
    pause: Duration,
    mut remark: Box<Remark>,
) {
    let (mut piece, mut tellers) = (Vec::with_capacity(PIECE_BYTES), Vec::new());
    loop {
        // What was put before the end is written; what comes behind it has no promise.
        let first = if ending.load(Ordering::SeqCst) { entries.try_recv().ok() } else { entries.recv().ok() };
        let Some(first) = first else { return };
        gather(first, entries, &mut piece, &mut tellers);
        if let Some(remark) = remark() {
            piece.extend_from_slice(remark.as_bytes());
        }
        // Whoever reads it may be gone: those who wait are told so, there is no other place to say it.
        let written = out.write_all(&piece).and_then(|()| out.flush());
        piece.clear();
        for teller in tellers.drain(..) {
            // Which lines of a piece arrived before an error nobody knows; they share it.
            let told = written.as_ref().map_or_else(|e| Err(io::Error::new(e.kind(), e.to_string())), |()| Ok(()));
            // Whoever stopped waiting has counted it as not written.
            let _ = teller.send(told);
        }
        if !pause.is_zero() && !ending.load(Ordering::SeqCst) {
            thread::sleep(pause);
        }
    }
}

/// Takes as many lines as there are, up to about [`PIECE_BYTES`].
fn gather(first: Entry, entries: &Receiver<Entry>, piece: &mut Vec<u8>, tellers: &mut Vec<Teller>) {
    let mut next = Some(first);
    while let Some(entry) = next.take() {
        match entry {
            Entry::Line(line) => piece.extend_from_slice(&line),
            Entry::Told(line, teller) if !teller.is_closed() => {
                piece.extend_from_slice(&line);
                tellers.push(teller);
            }
            Entry::Told(..) | Entry::Look => {}
        }
        if piece.len() < PIECE_BYTES {
            next = entries.try_recv().ok();
        }
    }
}

/// A place to write to that a test can hold shut.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Sink {
    pub(crate) fn held(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.held().clone()).unwrap()
    }
}

#[cfg(test)]
impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn what_was_put_is_written_in_order_before_the_end() {
        let sink = Sink::default();
        let (lines, guard) = Lines::start("test", sink.clone(), 200, Duration::ZERO, Box::new(|| None)).unwrap();
        let expected: String = (0..200).map(|n| format!("line {n}\n")).collect();
        expected.split_inclusive('\n').for_each(|l| lines.put(l.into()).unwrap());
        drop(guard);
        assert_eq!(sink.text(), expected);
    }

    #[test]
    fn a_stuck_stream_refuses_lines_and_stops_nobody() {
        let sink = Sink::default();
        let (lines, _guard) = Lines::start("test", sink.clone(), 4, Duration::ZERO, Box::new(|| None)).unwrap();
        let _stuck = sink.held();
        // None of these waits, or the test would never end. At most four wait and one piece is being written.
        let refused = (0..100).filter(|_| lines.put(b"line\n".to_vec()).is_err()).count();
        assert!(refused > 0);
    }

    #[tokio::test]
    async fn a_line_is_told_to_be_written_only_after_the_write() {
        let sink = Sink::default();
        let (lines, _guard) = Lines::start("test", sink.clone(), 4, Duration::ZERO, Box::new(|| None)).unwrap();
        let stuck = sink.held();
        let mut written = Box::pin(lines.write(b"line\n".to_vec()));
        assert!(written.as_mut().now_or_never().is_none(), "told while the stream was stuck");
        drop(stuck);
        written.await.unwrap();
        assert_eq!(sink.text(), "line\n");
    }

    #[tokio::test]
    async fn a_failed_write_is_told_to_every_line_of_its_piece_and_the_next_is_tried() {
        let sink = Sink::default();
        let broken = Arc::new(AtomicBool::new(true));
        let out = Breaks { sink: sink.clone(), broken: Arc::clone(&broken) };
        let (lines, _guard) = Lines::start("test", out, 4, Duration::ZERO, Box::new(|| None)).unwrap();
        let both = [lines.write(b"a\n".to_vec()), lines.write(b"b\n".to_vec())];
        for written in both {
            assert_eq!(written.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
        broken.store(false, Ordering::SeqCst);
        lines.write(b"c\n".to_vec()).await.unwrap();
        assert_eq!(sink.text(), "c\n");
    }

    #[test]
    fn a_line_that_nobody_waits_for_any_more_is_not_written() {
        let (queue, entries) = sync_channel(4);
        let lines = Lines(queue);
        drop(lines.write(b"given up\n".to_vec()));
        let kept = lines.write(b"kept\n".to_vec());
        let (mut piece, mut tellers) = (Vec::new(), Vec::new());
        gather(entries.try_recv().unwrap(), &entries, &mut piece, &mut tellers);
        assert_eq!((piece.as_slice(), tellers.len()), (&b"kept\n"[..], 1));
        drop(kept);
    }

    /// A pipe whose reader is gone, as long as it is broken.
    struct Breaks {
        sink: Sink,
        broken: Arc<AtomicBool>,
    }

    impl Write for Breaks {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.broken.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.sink.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
