//! Decides which entry follows when a delivery is settled, asked for, or cancelled with others.
//!
//! Pure. Every change of a delivery's state goes through [`State::after`] here, for every store.

use crate::ledger::{Lease, Place, Progress};
use crate::story::Entry;
use crate::time::millis_up;
use crate::{Answer, Settled, Settlement, Then, Wish};
use posthaste_events::{Change, State, Timestamp};
use std::num::NonZeroU64;

/// The two times of a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// In the outbox's milliseconds.
    pub(crate) now: u64,
    /// By the wall clock.
    pub(crate) wall: Timestamp,
}

/// What a settlement leads to; `None` where it is only released.
pub(crate) fn settle(lease: &Lease, settlement: Settlement, at: Moment) -> Option<Entry> {
    let made = u32::from(settlement.attempt.is_some());
    let Progress { attempts, entries, mut since } = lease.progress;
    let (change, due, reason) = match (settlement.then, lease.wish) {
        (Then::Delivered, _) => (Change::Delivered, 0, None),
        (Then::Release, _) if made == 0 => return None,
        // What arrived has arrived; else what a person wanted meanwhile goes before what would follow.
        (_, Some(Wish::Cancel)) => (Change::Cancelled, 0, None),
        (Then::Dead(_), Some(Wish::Retry)) => {
            // It begins anew, as it would if it had been asked for after its death.
            since = NonZeroU64::new(at.now);
            (Change::Retried, at.now, None)
        }
        (Then::Release, _) | (Then::RetryIn(_), Some(Wish::Retry)) => (Change::Retried, at.now, None),
        (Then::RetryIn(wait), None) => (Change::Retried, at.now.saturating_add(millis_up(wait)), None),
        (Then::Dead(reason), None) => (Change::Died, 0, Some(reason)),
    };
    let entry = Entry {
        number: entries.saturating_add(1),
        attempt: settlement.attempt,
        after: State::Pending.after(change)?,
        due,
        reason,
        at: at.wall,
        attempts: attempts.saturating_add(made),
        since,
        adopts: false,
    };
    Some(entry)
}

/// Whether a settlement did what it says, now that the delivery is in this state.
pub(crate) fn settled(asked: State, after: State) -> Settled {
    if after == asked { Settled::Applied } else { Settled::Kept(after) }
}

/// The state that a settlement asks for.
pub(crate) const fn asked(then: &Then) -> State {
    match then {
        Then::Delivered => State::Delivered,
        Then::Dead(_) => State::Dead,
        Then::RetryIn(_) | Then::Release => State::Pending,
    }
}

/// What a wish leads to: an entry, or at once an answer.
pub(crate) fn wish(
    wish: Wish,
    state: State,
    place: Option<Place>,
    progress: Progress,
    at: Moment,
) -> Result<Entry, Answer> {
    let change = match wish {
        Wish::Retry => Change::RetryAsked,
        Wish::Cancel => Change::Cancelled,
    };
    let after = state.after(change).ok_or(Answer::NotNow(state))?;
    match (wish, place) {
        // It is being tried, or is the next to be.
        (Wish::Retry, Some(Place::Fresh | Place::Leased(_))) => return Err(Answer::Done),
        (Wish::Retry, Some(Place::Waiting(waiting))) if waiting.due <= at.now => return Err(Answer::Done),
        _ => {}
    }
    // One that was settled begins anew: else it would be given up at its first failure, since it was recorded so long ago.
    let since = if wish == Wish::Retry && place.is_none() { NonZeroU64::new(at.now) } else { progress.since };
    Ok(Entry {
        number: progress.entries.saturating_add(1),
        attempt: None,
        after,
        due: at.now,
        reason: None,
        at: at.wall,
        attempts: progress.attempts,
        since,
        adopts: false,
    })
}

/// The end of a delivery that is cancelled along with all that its subscription is owed.
pub(crate) fn cancelled(progress: Progress, reason: &str, at: Moment) -> Option<Entry> {
    Some(Entry {
        number: progress.entries.saturating_add(1),
        attempt: None,
        after: State::Pending.after(Change::Cancelled)?,
        due: 0,
        reason: Some(reason.to_owned()),
        at: at.wall,
        attempts: progress.attempts,
        since: progress.since,
        adopts: false,
    })
}

/// What a replay makes of a delivery that is not owed, and of one that never was (`None`): owed since now, and due.
pub(crate) fn replayed(state: Option<State>, progress: Progress, at: Moment) -> Option<Entry> {
    let after = state.map_or(Some(State::Pending), |state| state.after(Change::Replayed))?;
    Some(Entry {
        number: progress.entries.saturating_add(1),
        attempt: None,
        after,
        due: at.now,
        reason: None,
        at: at.wall,
        attempts: progress.attempts,
        since: NonZeroU64::new(at.now),
        adopts: state.is_none(),
    })
}
