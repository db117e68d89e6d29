//! The subscriptions that came by the API: what an outbox keeps of them.
//!
//! What is in one is a matter of whoever wrote it: a store keeps bytes under a name, and never learns a secret.

use bytes::Bytes;

/// How long the body of a definition may be, in bytes: 64 KiB.
pub const DEFINITION_MAX: usize = 64 * 1024;
/// How many definitions an outbox keeps.
pub const DEFINITIONS_MAX: usize = 20_000;

/// Why a subscription is disabled that is being removed. It stays so, whatever its receiver or a person wants meanwhile.
pub const DELETED: &str = "deleted";

/// A subscription as whoever made it wrote it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its identity: 1 to 64 of A-Z, a-z, 0-9, _ and -.
    pub name: String,
    /// Grows with each change of it; from 1.
    pub revision: u64,
    /// At most [`DEFINITION_MAX`] bytes.
    pub body: Bytes,
}

/// A change of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Define {
    /// Keep this one, in place of one of its name.
    Put(Definition),
    /// Keep the one of this name no longer; that there is none is no error.
    Remove(String),
}
