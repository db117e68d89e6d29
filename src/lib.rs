//! Posthaste: one binary that an application tells "this happened", and that makes sure everyone who should know does.
//!
//! This crate joins the rooms: [`config`] reads what is wanted, [`engine`] runs it, [`http`] is its front, [`serve`]
//! the daemon around both, [`cli`] what is typed.

mod author;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
#[cfg(feature = "fault-injection")]
pub mod fault;
pub mod http;
mod lines;
pub mod metrics;
mod secret;
pub mod serve;
pub mod telemetry;
mod vault;

pub use engine::Engine;
