//! Posthaste: one binary that an application tells "this happened", and that makes sure everyone who should know does.
//!
//! This crate joins the rooms: [`config`] reads what is wanted, [`cli`] is the command line.

pub mod cli;
pub mod config;
#[cfg(feature = "fault-injection")]
pub mod fault;
