//! The deliverees: whoever can be told of an event.
//!
//! One folder a kind ([`webhook`], [`analytics`], [`console`]), one table of them all ([`registry`]), and what they share: how options are
//! read ([`options`]), the HTTP client ([`http`]), and the guard that judges every address before it is dialled ([`guard`]).
//!
//! This crate never learns of stores or actors: it is given deliveries and says what came of each.

pub mod analytics;
mod authorization;
pub mod console;
mod endpoint;
pub mod guard;
pub mod http;
pub mod options;
pub mod registry;
pub mod webhook;

pub use guard::Guard;
pub use http::Http;
pub use options::{Options, Problem};
pub use registry::{Kind, Kinds, Make, Parsed, Printer, Tools};
