//! The actors of Posthaste: registry, scheduler, one supervised deliveree actor for each subscription.
//!
//! Thin shells around pure state machines: what is due, whose turn it is, what an outcome leads to and when a circuit
//! opens is decided in [`scheduler`]'s plain modules, with no actor, socket or clock in them. This is the only crate
//! that names `actix`; it never learns which deliverees exist, nor of an HTTP server or a command line.

pub mod messages;
pub mod scheduler;
pub mod settings;
