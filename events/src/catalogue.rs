//! The catalogue: which event types are declared.
//!
//! So far a plain list of types with titles; layers and fields come to stand here, and [`crate::prepare`] is the one
//! place that builds payloads from them.

use crate::EventType;
use std::collections::BTreeMap;

/// What happens to an event whose type is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undeclared {
    /// It is refused.
    #[default]
    Reject,
    /// It is recorded and notified, yet never telemetry.
    Accept,
}

/// What the catalogue says of one type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// What a person calls it.
    pub title: Option<String>,
    /// Recorded no more; kept so that what waits still means something.
    pub retired: bool,
}

/// The declared event types.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    /// Every declared type.
    pub types: BTreeMap<EventType, Declared>,
    /// What happens to the others.
    pub undeclared: Undeclared,
}

/// Why the catalogue refuses an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The type is not declared.
    #[error(
        "the type {0:?} is not declared in the catalogue; declare it in events.toml, or set catalogue.undeclared = \"accept\""
    )]
    Undeclared(EventType),
    /// The type is retired.
    #[error("the type {0:?} is retired")]
    Retired(EventType),
    /// The type is the daemon's own.
    #[error("types of `posthaste:` are the daemon's own; nobody outside may record one")]
    Ours,
}

impl Catalogue {
    /// Whether an event of this type may be recorded by a caller.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub fn admit(&self, event_type: &EventType) -> Result<(), Refused> {
        if crate::builtin::is_ours(event_type.as_str()) {
            return Err(Refused::Ours);
        }
        match (self.types.get(event_type), self.undeclared) {
            (Some(declared), _) if declared.retired => Err(Refused::Retired(event_type.clone())),
            (Some(_), _) | (None, Undeclared::Accept) => Ok(()),
            (None, Undeclared::Reject) => Err(Refused::Undeclared(event_type.clone())),
        }
    }
}
