//! .
#[cfg(feature = "fault-injection")]
pub mod fault;
