//! The actors of Posthaste: registry, scheduler, one supervised deliveree actor for each subscription.
//!
//! Thin shells around pure state machines: what is due, whose turn it is, what an outcome leads to and when a circuit
//! opens is decided in [`scheduler`]'s plain modules, with no actor, socket or clock in them. This is the only crate
//! that names `actix`; it never learns which deliverees exist, nor of an HTTP server or a command line.

pub mod author;
mod deliveree;
mod desk;
mod effect;
pub mod engine;
mod inbox;
pub mod messages;
mod probe;
mod quarantine;
mod registry;
mod replays;
mod roll;
pub mod scheduler;
pub mod settings;
mod silence;
mod snapshot;
mod subscriptions;
mod supervisor;
#[cfg(test)]
mod tests;

pub use engine::{Config, Engine, StartError, start};
pub use quarantine::QUARANTINE;
pub use registry::Registry;
pub use snapshot::SnapshotHandle;
