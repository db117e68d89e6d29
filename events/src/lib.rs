//! The nouns of Posthaste.
//!
//! What an event is, what its type may look like, who asked for it ([`pattern`], [`matching`]), what becomes of it
//! ([`prepare`]), how a delivery lives ([`delivery`]), when it is tried again ([`retry`]), and what a [`Deliveree`]
//! must do.
//!
//! Pure: no I/O, no thread, no clock and no randomness of its own; `now` and `jitter` are arguments. This crate never
//! learns of stores, actors or HTTP.

pub mod builtin;
pub mod catalogue;
pub mod deliveree;
pub mod delivery;
pub mod event;
pub mod filter;
pub mod id;
pub mod installation;
pub mod json;
pub mod layered;
pub mod matching;
pub mod outcome;
pub mod pattern;
pub mod payload;
pub mod prepare;
pub mod retry;
pub mod seams;
pub mod timestamp;
pub mod types;

pub use deliveree::{
    AnyDeliveree, Batch, BatchLimits, Deliveree, Delivery, OneByOne, Report, Reporter, Signal, Ticket, Told,
};
pub use delivery::{Change, State};
pub use event::{Draft, Facts, Idempotency, Origin, Prepared};
pub use id::{DeliveryId, EventId, SubscriptionId};
pub use installation::Installation;
pub use outcome::{Attempt, AttemptOutcome, Outcome};
pub use pattern::Pattern;
pub use payload::{Anonymous, Notification, Payload, Payloads, Takes};
pub use retry::RetryPolicy;
pub use timestamp::Timestamp;
pub use types::EventType;

/// A boxed future that can be sent between threads; what the object-safe seams return.
pub type BoxFuture<T> = futures_util::future::BoxFuture<'static, T>;
