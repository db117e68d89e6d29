//! The promises of docs/webhooks.md, each a row: given, when, then, on the built daemon from outside.
//!
//! A group of rows shares one daemon, so that a row costs milliseconds. docs/promises.md lists what other senders miss,
//! with the rows that show it here; that list is held against the rows.

mod authored;
mod durable;
mod formatted;
mod isolated;
mod listed;
mod owned;
mod proven;
mod refused;
mod replayed;
mod settled;
mod signed;
mod stage;
mod tried;
mod wired;

use stage::Row;

/// The groups that are played on a daemon.
const PLAYED: [&[Row]; 11] = [
    signed::ROWS,
    settled::ROWS,
    tried::ROWS,
    isolated::ROWS,
    durable::ROWS,
    proven::ROWS,
    authored::ROWS,
    replayed::ROWS,
    wired::ROWS,
    formatted::ROWS,
    owned::ROWS,
];

/// The name of every row.
fn names() -> Vec<&'static str> {
    let played = PLAYED.iter().flat_map(|rows| rows.iter()).map(|row| row.name);
    played.chain(refused::names()).collect()
}
