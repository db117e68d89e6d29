//! The life of a delivery: the closed state machine, drawn once.
//!
//! ```text
//!                     ┌──────── Retried (another attempt later) ────────┐
//!                     ▼                                                 │
//!   recorded ──▶ pending ──── attempt ────┬── Delivered ──▶ delivered   │
//!      │           │  ▲                   ├── Rejected ───▶ dead        │
//!      │           │  │                   └── Retried ──────────────────┘
//!      │           │  ├─ RetryAsked (dead, cancelled)
//!      │           │  └─ Replayed (delivered, dead, cancelled; or never owed before)
//!      │           ├──── GaveUp ─────▶ dead
//!      │           └──── Cancelled ──▶ cancelled
//!      └── Refused (backlog) ────────▶ dead
//! ```
//!
//! `held` is how a pending delivery is shown while its subscription is paused, disabled or gone from the config: no
//! row of a delivery changes when its subscription does, so a million held ones cost nothing.

use serde::{Deserialize, Serialize};

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Owed: never tried, or to be tried again.
    Pending,
    /// Owed, while its subscription takes nothing.
    Held,
    /// The receiver has it.
    Delivered,
    /// Given up; a person can replay it.
    Dead,
    /// Cancelled by a person.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Held, Self::Delivered, Self::Dead, Self::Cancelled];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether nothing more happens to it by itself.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Delivered | Self::Dead | Self::Cancelled)
    }

    /// How an owed delivery is shown: held where its subscription takes nothing.
    #[must_use]
    pub const fn shown(self, subscription_active: bool) -> Self {
        match self {
            Self::Pending if !subscription_active => Self::Held,
            Self::Held if subscription_active => Self::Pending,
            other => other,
        }
    }

    /// The state that `change` leads to; `None` where it does not apply, and then nothing happens.
    #[must_use]
    pub const fn after(self, change: Change) -> Option<Self> {
        match (self, change) {
            (Self::Pending | Self::Held, Change::Delivered) => Some(Self::Delivered),
            (Self::Pending | Self::Held, Change::Retried) => Some(Self::Pending),
            (Self::Pending | Self::Held, Change::Died) => Some(Self::Dead),
            (Self::Pending | Self::Held, Change::Cancelled) => Some(Self::Cancelled),
            (Self::Dead | Self::Cancelled | Self::Pending | Self::Held, Change::RetryAsked) => Some(Self::Pending),
            (Self::Delivered | Self::Dead | Self::Cancelled, Change::Replayed) => Some(Self::Pending),
            _ => None,
        }
    }
}

/// What can happen to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// An attempt arrived.
    Delivered,
    /// An attempt failed and another follows.
    Retried,
    /// It was refused for good, given up, or dead at birth.
    Died,
    /// A person cancelled it.
    Cancelled,
    /// A person wants it tried again, now.
    RetryAsked,
    /// A replay that a person ordered came to it. One that is owed comes anyway: to that it does not apply.
    Replayed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_delivery_changes_only_when_a_person_asks() {
        for state in State::ALL.into_iter().filter(|s| s.is_settled()) {
            for change in [Change::Delivered, Change::Retried, Change::Died, Change::Cancelled] {
                assert_eq!(state.after(change), None, "{state:?} {change:?}");
            }
        }
        assert_eq!(State::Dead.after(Change::RetryAsked), Some(State::Pending));
        assert_eq!(State::Cancelled.after(Change::RetryAsked), Some(State::Pending));
        assert_eq!(State::Delivered.after(Change::RetryAsked), None);
    }

    #[test]
    fn a_replay_makes_whatever_is_settled_pending_and_leaves_what_is_owed() {
        for state in State::ALL {
            assert_eq!(state.after(Change::Replayed), state.is_settled().then_some(State::Pending), "{state:?}");
        }
    }

    #[test]
    fn held_is_a_pending_one_whose_subscription_takes_nothing() {
        assert_eq!(State::Pending.shown(false), State::Held);
        assert_eq!(State::Held.shown(true), State::Pending);
        assert_eq!(State::Dead.shown(false), State::Dead);
    }
}
