//! The actors as they run, on a paused clock: time passes only where everything waits for it.
#![expect(clippy::disallowed_methods, reason = "the tests are the clock")]

mod backpressure;
mod house;
mod life;
mod panics;
mod rooms;
mod wishes;

use house::House;
