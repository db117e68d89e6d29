//! How far an exchange has come: whoever ends it at a deadline can say what it waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stage {
    /// The addresses of the name.
    #[default]
    Resolving,
    /// A connection.
    Connecting,
    /// The TLS handshake.
    Handshaking,
    /// The head of the answer.
    Answering,
}

/// Where an exchange notes its stage. Clones are the same note.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU8>);

impl Progress {
    /// The stage that it has come to.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let number = self.0.load(Ordering::Relaxed);
        let stages = [Stage::Resolving, Stage::Connecting, Stage::Handshaking, Stage::Answering];
        stages.into_iter().find(|stage| *stage as u8 == number).unwrap_or_default()
    }

    pub(super) fn at(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }
}
