//! The seed's system on our engine: every type of it becomes what the model says, and each behaviour of the original is
//! kept or mended, by its number in the reference.

mod behaviours;
mod bounded;
mod definition;
mod enveloped;
mod faithful;
mod listed;
mod made;
mod model;
pub(crate) mod platform;
mod played;
mod received;
mod relayed;
mod worked;
