//! What an exchange means for the events of a request.
//!
//! Pure: it sees what came, asks the backend what its protocol says in that, and judges the rest as every kind does.

use super::backend::{Answer, Backend, Others, Reading};
use crate::http::{End, Seen, signal};
use posthaste_events::outcome::{Detail, REASON_MAX, cut};
use posthaste_events::{Signal, Timestamp};
use std::time::Duration;

/// What an exchange means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The receiver has all of them.
    Taken(Detail),
    /// The receiver refuses what is in the request: halves of it may tell what.
    Refused(Detail),
    /// The receiver refuses these, by their place in the request.
    Named { detail: Detail, refused: Vec<(usize, String)>, others: Others },
    /// The receiver will never take them.
    Never(Detail),
    /// Neither this request nor another makes sense now.
    Later(Pause),
}

impl Verdict {
    /// Whether the receiver has taken something, or read it at least and only then refused.
    pub(super) const fn takes(&self) -> bool {
        matches!(self, Self::Taken(_) | Self::Named { others: Others::Taken, .. })
    }
}

/// Why nothing more is sent in this call, and what follows for what was not.
#[derive(Debug, Clone)]
pub(super) struct Pause {
    /// What happened.
    pub(super) detail: Detail,
    /// Whether it is a reason of our own.
    pub(super) ours: bool,
    /// Whether the receiver said so: then it holds for what was not sent too.
    pub(super) answered: bool,
    /// Not before so long from now.
    pub(super) after: Option<Duration>,
    /// What the subscription must know.
    pub(super) signal: Option<Signal>,
}

impl Pause {
    /// A pause for a reason that has no answer behind it.
    pub(super) fn of(words: impl Into<String>, ours: bool) -> Self {
        Self { detail: Detail::error(words), ours, answered: false, after: None, signal: None }
    }
}

/// Judges what came of a request with these events.
pub(super) fn judge(backend: &dyn Backend, seen: &Seen, end: End, ids: &[&str], now: Timestamp) -> Verdict {
    let detail = |error: Option<String>| Detail {
        status: seen.status,
        error: error.map(|e| cut(e, REASON_MAX)),
        answer: seen.kept(),
        trace: seen.traced(),
    };
    let without_answer = |words: String, ours| {
        let detail = detail(Some(words));
        Verdict::Later(Pause { detail, ours, answered: false, after: None, signal: None })
    };
    let status = match (seen.status, end) {
        (_, End::Ours(words)) => return without_answer(words, true),
        // A 2xx that breaks off is no acknowledgement.
        (None | Some(200..=299), End::Failed(words)) => return without_answer(words, false),
        (None, End::Complete) => return without_answer("answer: no status".to_owned(), false),
        // Any other status has said all, whether its body came or not.
        (Some(status), _) => status,
    };
    let said = Some(format!("status {status}"));
    match backend.read(&Answer { status, body: seen.body(), cut: seen.is_cut(), ids }) {
        Reading::Taken(note) => Verdict::Taken(detail(note)),
        Reading::Refused => Verdict::Refused(detail(said)),
        // A protocol that says so and names none would be asked the same again.
        Reading::Named { refused, others: Others::Again } if refused.is_empty() => Verdict::Refused(detail(said)),
        Reading::Named { refused, others } => Verdict::Named { detail: detail(None), refused, others },
        Reading::Never => Verdict::Never(detail(said)),
        Reading::Later(words) => {
            let after = seen.wait(now);
            let (detail, signal) = (detail(words.or(said)), signal(status, after));
            Verdict::Later(Pause { detail, ours: false, answered: true, after, signal })
        }
    }
}
