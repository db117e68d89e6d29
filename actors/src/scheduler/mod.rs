//! The scheduler: which deliveries are claimed when, handed to whom, and what their outcomes lead to.
//!
//! [`Core`] decides, and is pure: time, randomness and every answer of the outbox are arguments, what it wants done is
//! what it returns. One test runs it over thousands of seeds for that reason. It keeps in memory only what is out of
//! the outbox, a bounded window; what waits stays in the outbox and is asked for when it is due.

pub(crate) mod actor;
mod circuit;
mod core;
mod decide;
mod fairness;
pub(crate) mod lane;
mod pace;
mod report;
mod turn;
mod uncharged;
mod vitals;
mod window;
mod withdraw;
mod words;

pub use self::core::Core;
pub use window::{BYTES_MAX, COUNT_MAX};
pub use words::{
    Action, Call, CallId, CircuitState, Counts, End, Input, LaneView, Now, Owed, Refusals, Tally, Terms, Told,
};
