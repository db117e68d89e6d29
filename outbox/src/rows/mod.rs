//! What stands in the rows of a generation, and under which keys.
//!
//! ```text
//! E seq             an event: to whom it is owed, its facts, its payloads
//! C seq             an event that was carried forward: the same, and of each delivery whether it was still owed
//! P seq part        what of such a row did not fit it, part by part from 1
//! A seq sub number  something that happened to a delivery (see [`crate::story::Entry`]); the highest number counts
//! H seq sub number  a copy of one, carried along to be shown; never replayed
//! D seq sub         a delivery that the event's row does not name: a replay made it
//! Q id change       a change of a replay; the highest counts
//! R id              a copy of what is known of a replay, at the head of a generation
//! T number          many subscriptions, at the head of a generation
//! S sub             a subscription that changed since
//! M                 epoch and time, at the head of a generation
//! ```
//!
//! The structs here are those of the disk, with a version; a change makes a new version and keeps reading the old.
//! Everything is in an envelope, see [`crate::envelope`].

use crate::disk::{DiskError, Row};
use crate::envelope::{self, body_max};
use crate::ledger::{Account, Held};
use crate::listing::{Kept, Owed};
use crate::query::EventRow;
use crate::story::Entry;
use crate::{Epoch, Standing};
use bincode::Options as _;
use bytes::{BufMut, Bytes, BytesMut};
use posthaste_events::outcome::{Attempt, AttemptOutcome, Detail};
use posthaste_events::{
    EventId, EventType, Facts, Idempotency, Origin, Payloads, Prepared, State, SubscriptionId, Timestamp,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

mod entry;
mod event;
mod pack;
mod replay;
mod subscription;

pub(crate) use entry::{read_entry, write_entries, write_entry};
pub(crate) use event::{Born, EventHead, Get, read_event, read_event_facts, read_event_head, write_event};
pub(crate) use pack::{Pack, read_pack, write_packs};
pub(crate) use replay::{ReplayV1, read_replay, write_adoption, write_replay};
pub(crate) use subscription::{SubscriptionV1, SubscriptionV2, read_subscription, write_subscription};

/// The version in which a head is written.
const VERSION: u8 = 1;

/// What a row is: the first byte of its key, and the kind of its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Event = b'E',
    Carried = b'C',
    Part = b'P',
    Entry = b'A',
    History = b'H',
    Adopted = b'D',
    ReplayChange = b'Q',
    Replay = b'R',
    Subscription = b'S',
    Pack = b'T',
    Head = b'M',
}

/// The key of an event's row, or the beginning of those about it.
pub(crate) fn event_key(kind: Kind, sequence: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.put_u8(kind as u8);
    key.put_u64(sequence);
    key
}

fn part_key(sequence: u64, part: u16) -> Vec<u8> {
    let mut key = event_key(Kind::Part, sequence);
    key.put_u16(part);
    key
}

/// The key of an entry's row; with number 0 the first place of a delivery's entries.
pub(crate) fn entry_key(kind: Kind, sequence: u64, subscription: SubscriptionId, number: u32) -> Vec<u8> {
    let mut key = event_key(kind, sequence);
    key.put_u32(subscription.0);
    key.put_u32(number);
    key
}

/// The delivery that an entry's key is about.
pub(crate) fn delivery_of(key: &[u8]) -> Option<(u64, SubscriptionId)> {
    let sequence = sequence_of(key)?;
    let subscription = u32::from_be_bytes(key.get(9..13)?.try_into().ok()?);
    Some((sequence, SubscriptionId(subscription)))
}

/// The sequence in the key of an event, a part or an entry.
pub(crate) fn sequence_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

fn subscription_key(id: SubscriptionId) -> Vec<u8> {
    let mut key = vec![Kind::Subscription as u8];
    key.put_u32(id.0);
    key
}

/// What stands at the head of a generation, and is written again when the epoch changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) epoch: Epoch,
    pub(crate) next_subscription: u32,
    pub(crate) next_sequence: u64,
    /// The outbox's time.
    pub(crate) millis: u64,
}

/// The row of a head.
pub(crate) fn write_head(head: &Head) -> Row {
    let key = vec![Kind::Head as u8];
    let sealed = envelope::seal(&key, Kind::Head as u8, VERSION, &encode(head));
    (key, sealed)
}

/// Reads the row of a head.
pub(crate) fn read_head(key: &[u8], sealed: &Bytes) -> Result<Head, DiskError> {
    decode(&open_first(key, sealed)?)
}

/// Opens the envelope of a row: its version, and its body.
pub(crate) fn open(key: &[u8], sealed: &Bytes) -> Result<(u8, Bytes), DiskError> {
    let opened = envelope::open(key, sealed)?;
    if key.first() != Some(&opened.kind) {
        return Err(damaged(format!("a record of kind {} and version {}", opened.kind, opened.version)));
    }
    Ok((opened.version, opened.body))
}

/// Opens the envelope of a row of which there is but one version.
fn open_first(key: &[u8], sealed: &Bytes) -> Result<Bytes, DiskError> {
    match open(key, sealed)? {
        (1, body) => Ok(body),
        (version, _) => Err(unknown(key, version)),
    }
}

/// A version that this code does not know: a later one, or damage that no checksum found.
fn unknown(key: &[u8], version: u8) -> DiskError {
    damaged(format!("a record of kind {} and version {version}", key.first().copied().unwrap_or(0)))
}

/// Bytes of a struct of the disk.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Writing plain structs into memory has no way to fail.
    bincode::DefaultOptions::new().serialize(value).unwrap_or_default()
}

/// How long a struct of the disk is in bytes.
fn encoded_len<T: Serialize>(value: &T) -> u64 {
    // As above.
    bincode::DefaultOptions::new().serialized_size(value).unwrap_or(0)
}

/// A struct of the disk.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DiskError> {
    bincode::DefaultOptions::new().deserialize(bytes).map_err(|e| damaged(format!("a record's body: {e}")))
}

pub(crate) fn damaged(what: impl Into<String>) -> DiskError {
    DiskError::Damaged(what.into())
}
