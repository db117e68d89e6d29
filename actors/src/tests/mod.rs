//! The actors as they run, on a paused clock: time passes only where everything waits for it.
#![expect(clippy::disallowed_methods, reason = "the tests are the clock")]

mod backpressure;
mod house;
mod life;
mod lines;
mod panics;
mod probes;
mod quarantine;
mod rooms;
mod silence;
mod subscriptions;
mod wishes;

use house::House;
