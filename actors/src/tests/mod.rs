//! The actors as they run, on a paused clock: time passes only where everything waits for it.

mod backpressure;
mod house;
mod life;
mod panics;
mod rooms;

use house::House;
