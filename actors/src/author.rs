//! The seam for whoever reads and writes the subscriptions that an outbox keeps: [`Author`].
//!
//! The actors know neither kinds nor formats nor keys. They decide who may change what, in which order it becomes
//! durable, and when it takes effect; what a definition says, and what of it is secret, is the author's matter.

use crate::settings::Subscription;
use posthaste_events::Timestamp;
use posthaste_outbox::Definition;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// Reads and writes definitions. Called while the subscriptions are being changed: it must not block for long.
pub trait Author: fmt::Debug + Send + Sync + 'static {
    /// Reads what is kept. What is wrong with it is a fault of the subscription, never an error: it is listed all the same.
    fn read(&self, definition: &Definition) -> Authored;

    /// Writes a new one, of revision 1.
    ///
    /// # Errors
    /// [`NotWritten::Wrong`] with all that is wrong with the settings.
    fn create(&self, settings: Map<String, Value>) -> Result<Draft, NotWritten>;

    /// Changes one by a JSON merge patch (RFC 7396) over what was written, secrets included.
    ///
    /// # Errors
    /// [`NotWritten`]; nothing is changed then.
    fn change(&self, kept: &Definition, patch: Map<String, Value>) -> Result<Draft, NotWritten>;

    /// Puts a new secret first; those before it count until the grace is over.
    ///
    /// # Errors
    /// [`NotWritten`]; nothing is changed then.
    fn rotate(&self, kept: &Definition, rotation: Rotation, now: Timestamp) -> Result<Draft, NotWritten>;

    /// The same definition, sealed again under the key of now; `None` where that is so already, or it cannot be opened.
    fn reseal(&self, kept: &Definition) -> Option<Definition>;
}

/// A definition as it was read.
#[derive(Debug, Clone)]
pub struct Authored {
    /// What to run.
    pub subscription: Subscription,
    /// Why it cannot run: it is disabled for this reason.
    pub fault: Option<String>,
}

/// What an author wrote.
#[derive(Clone)]
pub struct Draft {
    /// To be kept.
    pub definition: Definition,
    /// The same, read.
    pub authored: Authored,
    /// A secret that was made, to be shown this once.
    pub secret: Option<String>,
}

impl fmt::Debug for Draft {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Draft");
        shown.field("name", &self.definition.name).field("revision", &self.definition.revision);
        shown.field("fault", &self.authored.fault).finish_non_exhaustive()
    }
}

/// A change of secrets.
#[derive(Clone, Default)]
pub struct Rotation {
    /// The new one; `None`: one is made.
    pub secret: Option<String>,
    /// How long those before it count: 0 s to 7 days; `None`: a day.
    pub grace: Option<Duration>,
}

impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation").field("grace", &self.grace).finish_non_exhaustive()
    }
}

/// Something wrong with what somebody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands, or would stand: a JSON pointer.
    pub pointer: String,
    /// What is wrong, and what to do.
    pub detail: String,
}

/// Why an author wrote nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// The settings are wrong; never empty.
    #[error("{}", .0.first().map_or("", |m| m.detail.as_str()))]
    Wrong(Vec<Mistake>),
    /// What is kept cannot be read, so nothing can be changed in it.
    #[error("{0}; put the key back, or write its settings anew")]
    Unreadable(String),
    /// A subscription of this kind has no secrets.
    #[error("a subscription of this kind has no secrets")]
    NoSecrets,
}
