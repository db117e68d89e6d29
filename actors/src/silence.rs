//! Telemetry that is switched off: what is still owed of it is cancelled, a bounded piece at a time.
//!
//! A store does not know which payload a subscription takes, so that this remembers who took telemetry since the start,
//! also after a reload took them out of the configuration. That nothing new is owed or sent is the roll's matter.

use crate::quarantine::QUARANTINE;
use crate::subscriptions::Roster;
use posthaste_events::Takes;
use posthaste_outbox::{Outbox, Roll, StoreError, Subscribed};
use std::collections::BTreeSet;

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
        for subscription in &roster.subscriptions {
            if subscription.takes == Takes::Telemetry {
                self.takers.insert(subscription.name.clone());
            } else {
                // What is owed to it from now on is not telemetry.
                self.takers.remove(&subscription.name);
            }
        }
        // What is built again is telemetry too.
        self.takers.insert(QUARANTINE.to_owned());
        self.takers.retain(|name| roll.subscriptions.iter().any(|s| s.name == *name));
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
