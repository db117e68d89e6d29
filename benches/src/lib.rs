//! What the benchmark is made of: a load process, a receiver process, and the measures that put the built daemon
//! between them.
//!
//! Load and receiver speak raw HTTP/1.1 over kept connections, one thread each, so that they take as little of the
//! machine as can be: alone they reach several times what the daemon does, and the table says how much.

pub mod load;
pub mod measure;
pub mod neighbours;
pub mod sink;
pub mod table;
pub mod wire;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the machine's monotonic clock, the same in every process.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts at 0 and never runs back, so both parts fit.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
