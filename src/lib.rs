//! Posthaste: one binary that an application tells "this happened", and that makes sure everyone who should know does.

pub mod clock;
pub mod http;
pub mod metrics;
pub mod telemetry;
