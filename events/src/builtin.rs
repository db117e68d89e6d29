//! The daemon's own events, `posthaste:*`: recorded and delivered like any other, to those that ask for them by name
//! or by `posthaste:**`. What fails while one of them is delivered makes no further one.

use crate::{Draft, EventType};
use serde_json::{Map, Value, json};

/// The first segment of every type of ours.
pub const OURS: &str = "posthaste";

/// The daemon listens.
pub const STARTED: &str = "posthaste:daemon:started";
/// A subscription was disabled.
pub const DISABLED: &str = "posthaste:subscription:disabled";
/// The circuit of a subscription opened: nothing arrives there.
pub const FAILING: &str = "posthaste:subscription:failing";
/// A disabled subscription delivers again or was resumed, or an open circuit closed.
pub const RECOVERED: &str = "posthaste:subscription:recovered";
/// Deliveries of a subscription are dead.
pub const DEAD: &str = "posthaste:delivery:dead";
/// Sent by `subscriptions test`.
pub const TEST: &str = "posthaste:test";

/// Telemetry of events could not be built.
pub const QUARANTINED: &str = "posthaste:event:quarantined";

/// Every type of ours.
pub const ALL: [&str; 7] = [STARTED, DISABLED, FAILING, RECOVERED, DEAD, TEST, QUARANTINED];

/// Whether a type is the daemon's own.
#[must_use]
pub fn is_ours(event_type: &str) -> bool {
    event_type.split([':', '.']).next() == Some(OURS)
}

/// Something that the daemon itself has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The daemon listens; with its version and its process id.
    Started {
        /// The version of the daemon.
        version: String,
    },
    /// A subscription was disabled.
    Disabled {
        /// Its name.
        subscription: String,
        /// Why.
        reason: String,
    },
    /// The circuit of a subscription opened.
    Failing {
        /// Its name.
        subscription: String,
        /// Why, beginning with `circuit: `.
        reason: String,
    },
    /// A subscription works again.
    Recovered {
        /// Its name.
        subscription: String,
        /// What ended: `disabled` or `circuit`.
        reason: String,
    },
    /// Deliveries of a subscription died within the same second.
    Dead {
        /// Its name.
        subscription: String,
        /// The first one's event.
        event: String,
        /// The first one's id.
        delivery: String,
        /// The first one's reason.
        reason: String,
        /// How many.
        count: u64,
    },
    /// Telemetry of events that were recorded within the same second could not be built; they are kept and tried again.
    Quarantined {
        /// The first one.
        event: String,
        /// Why not.
        reason: String,
        /// How many.
        count: u64,
    },
}

/// The properties of a `posthaste:test` for a subscription.
#[must_use]
pub fn test_of(subscription: &str) -> Option<Draft> {
    let Value::Object(fields) = json!({ "subscription": subscription }) else { return None };
    Some(Draft::new(EventType::parse(TEST).ok()?).properties(&fields))
}

impl News {
    /// The event that tells it; `None` never happens, since [`ALL`] are types (see the test).
    #[must_use]
    pub fn draft(&self) -> Option<Draft> {
        let (event_type, data) = match self {
            Self::Started { version } => (STARTED, json!({ "version": version })),
            Self::Disabled { subscription, reason } => {
                (DISABLED, json!({ "subscription": subscription, "reason": reason }))
            }
            Self::Failing { subscription, reason } => {
                (FAILING, json!({ "subscription": subscription, "reason": reason }))
            }
            Self::Recovered { subscription, reason } => {
                (RECOVERED, json!({ "subscription": subscription, "reason": reason }))
            }
            Self::Quarantined { event, reason, count } => {
                (QUARANTINED, json!({ "event": event, "reason": reason, "count": count }))
            }
            Self::Dead { subscription, event, delivery, reason, count } => (
                DEAD,
                json!({ "subscription": subscription, "event": event, "delivery": delivery, "reason": reason, "count": count }),
            ),
        };
        let properties = match data {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Some(Draft::new(EventType::parse(event_type).ok()?).properties(&properties))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_ours_is_a_type() {
        for text in ALL {
            assert!(EventType::parse(text).is_ok() && is_ours(text), "{text}");
        }
        assert!(is_ours("posthaste") && is_ours("posthaste.x") && !is_ours("posthaste2:x") && !is_ours("a:posthaste"));
    }
}
