//! Telemetry that is switched off: what is still owed of it is cancelled, a bounded piece at a time.
//!
//! A store does not know which payload a subscription takes, so that this remembers who took telemetry since the start,
//! also after a reload took them out of the configuration. That nothing new is owed or sent is the roll's matter.

use crate::quarantine::QUARANTINE;
use crate::subscriptions::Roster;
use posthaste_events::Takes;
use posthaste_outbox::{Outbox, Roll, StoreError, Subscribed};
use std::collections::{BTreeSet, HashSet};

/// Why a delivery is cancelled that was owed of telemetry.
const SWITCHED_OFF: &str = "telemetry is switched off";

/// Who takes telemetry, and whether what they are owed is to be cancelled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Silence {
    takers: BTreeSet<String>,
    is_on: bool,
}

impl Silence {
    /// Takes note of the settings that hold from now on, as the outbox knows their subscriptions.
    pub(crate) fn note(&mut self, roster: &Roster, roll: &Roll) {
        self.is_on = roster.settings.telemetry.is_none();
        roster.subscriptions.iter().for_each(|s| self.note_one(&s.name, s.takes));
        // What is built again is telemetry too.
        self.takers.insert(QUARANTINE.to_owned());
        let known: HashSet<_> = roll.subscriptions.iter().map(|s| s.name.as_str()).collect();
        self.takers.retain(|name| known.contains(name.as_str()));
    }

    /// Takes note of what some take from now on, `None` where they are gone; `roll` has those of them that are owed something.
    pub(crate) fn note_some(&mut self, some: Vec<(String, Option<Takes>)>, roll: &Roll) {
        for (name, takes) in some {
            match takes {
                Some(takes) => self.note_one(&name, takes),
                None if roll.subscriptions.iter().any(|s| s.name == name) => {}
                None => drop(self.takers.remove(&name)),
            }
        }
    }

    fn note_one(&mut self, name: &str, takes: Takes) {
        if takes == Takes::Telemetry {
            self.takers.insert(name.to_owned());
        } else {
            // What is owed to it from now on is not telemetry.
            self.takers.remove(name);
        }
    }

    /// Those that are owed something that is to be cancelled.
    pub(crate) fn owed(&self, roll: Roll) -> Vec<Subscribed> {
        let mut owed = roll.subscriptions;
        owed.retain(|s| self.is_on && s.owed > 0 && self.takers.contains(&s.name));
        owed
    }

    /// Cancels one piece of what each of them is owed; whether more is left. Durable when it returns.
    pub(crate) async fn keep(&self, outbox: &dyn Outbox) -> Result<bool, StoreError> {
        if !self.is_on {
            return Ok(false);
        }
        let mut more = false;
        for Subscribed { id, name, .. } in self.owed(outbox.roll().await?) {
            let piece = outbox.cancel_owed(id, SWITCHED_OFF.to_owned()).await?;
            tracing::debug!(subscription = name, count = piece.count, "telemetry is switched off: cancelled");
            // A piece of nothing would come again and again.
            more |= piece.more && piece.count > 0;
        }
        Ok(more)
    }
}
