//! How far an exchange has come: whoever ends it at a deadline can say what it waited for, and how long the rest took.

use posthaste_events::outcome::Trace;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// What an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// A connection that is free, or room for another.
    #[default]
    Queueing,
    /// The addresses of the name.
    Resolving,
    /// A connection.
    Connecting,
    /// The TLS handshake.
    Handshaking,
    /// The head of the answer.
    Answering,
}

/// Where an exchange notes its stage, and the time of those that are over. Clones are the same note.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Note>);

#[derive(Debug, Default)]
struct Note {
    stage: AtomicU8,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    trace: Trace,
    since: Option<Instant>,
}

impl Progress {
    /// The stage that it has come to.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let number = self.0.stage.load(Ordering::Relaxed);
        let stages = [Stage::Queueing, Stage::Resolving, Stage::Connecting, Stage::Handshaking, Stage::Answering];
        stages.into_iter().find(|stage| *stage as u8 == number).unwrap_or_default()
    }

    /// How it went so far; a stage that is not over has no time.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.written().trace.clone()
    }

    /// A stage begins.
    pub(super) fn at(&self, stage: Stage) {
        self.0.stage.store(stage as u8, Ordering::Relaxed);
        self.written().since = Some(Instant::now());
    }

    /// The stage that began last is over, and did what it was for.
    pub(super) fn done(&self) {
        let mut written = self.written();
        let took = written.since.take().map(|since| since.elapsed());
        let trace = &mut written.trace;
        match self.stage() {
            Stage::Queueing => {}
            Stage::Resolving => trace.dns = took,
            Stage::Connecting => trace.connect = took,
            Stage::Handshaking => trace.tls = took,
            Stage::Answering => trace.first_byte = took,
        }
    }

    /// Whom the request goes to, or was about to go to.
    pub(super) fn address(&self, address: SocketAddr) {
        self.written().trace.address = Some(address);
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_stage_has_a_time_once_it_is_over() {
        let progress = Progress::default();
        for (stage, ms) in [(Stage::Resolving, 3), (Stage::Connecting, 5), (Stage::Handshaking, 7)] {
            progress.at(stage);
            tokio::time::advance(Duration::from_millis(ms)).await;
            progress.done();
        }
        progress.at(Stage::Answering);
        tokio::time::advance(Duration::from_millis(9)).await;
        let expected = Trace {
            dns: Some(Duration::from_millis(3)),
            connect: Some(Duration::from_millis(5)),
            tls: Some(Duration::from_millis(7)),
            ..Trace::default()
        };
        assert_eq!((progress.trace(), progress.stage()), (expected, Stage::Answering));
    }
}
