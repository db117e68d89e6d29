//! What stands in the rows of a generation, and under which keys.
//!
//! ```text
//! E seq             an event: to whom it is owed, its facts, its payloads
//! C seq             an event that was carried forward: the same, and of each delivery whether it was still owed
//! P seq part        what of such a row did not fit it, part by part from 1
//! A seq sub number  something that happened to a delivery (see [`crate::story::Entry`]); the highest number counts
//! H seq sub number  a copy of one, carried along to be shown; never replayed
//! S sub             a subscription
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

/// The version in which everything is written.
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
    Subscription = b'S',
    Head = b'M',
}

/// The key of an event's row.
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

/// How a delivery of an event stood when the event's row was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Born {
    /// Owed.
    Owed,
    /// Dead, since its subscription was owed too much.
    Dead,
    /// Settled before the event was carried forward.
    Settled,
    /// Dead at birth and never owed again until the event was carried forward; or owed again by then: see the entries.
    DeadThenOwed,
}

impl Born {
    /// Whether a replay of the row owes it.
    pub(crate) const fn owed(self) -> bool {
        matches!(self, Self::Owed | Self::DeadThenOwed)
    }

    /// Whether it began dead.
    pub(crate) const fn dead_at_birth(self) -> bool {
        matches!(self, Self::Dead | Self::DeadThenOwed)
    }
}

#[derive(Serialize, Deserialize)]
struct EventV1 {
    id: EventId,
    owed: Vec<(u32, Born)>,
    idempotency: Option<([u8; 16], [u8; 16])>,
    event_type: String,
    key: Option<String>,
    tenant: Option<String>,
    origin: Origin,
    occurred_at: Option<Timestamp>,
    recorded_at: Timestamp,
    notification: Option<u32>,
    telemetry: Option<u32>,
}

/// The head of an event's row: what a replay needs, and where the payloads lie.
pub(crate) struct EventHead {
    pub(crate) id: EventId,
    pub(crate) owed: Vec<(SubscriptionId, Born)>,
    pub(crate) idempotency: Option<Idempotency>,
}

/// The rows of an event.
pub(crate) fn write_event(
    kind: Kind,
    id: EventId,
    event: &Prepared,
    owed: &[(SubscriptionId, Born)],
    into: &mut Vec<Row>,
) {
    let length = |bytes: Option<&Bytes>| bytes.map(|b| u32::try_from(b.len()).unwrap_or(u32::MAX));
    let facts = &event.facts;
    let head = EventV1 {
        id,
        owed: owed.iter().map(|(id, born)| (id.0, *born)).collect(),
        idempotency: event.idempotency.map(|i| (i.key, i.content)),
        event_type: facts.event_type.as_str().to_owned(),
        key: facts.key.clone(),
        tenant: facts.tenant.clone(),
        origin: facts.origin,
        occurred_at: facts.occurred_at,
        recorded_at: facts.recorded_at,
        notification: length(event.payloads.notification()),
        telemetry: length(event.payloads.kept()),
    };
    let head = encode(&head);
    let mut blob = BytesMut::with_capacity(8 + head.len() + event.payloads.len());
    blob.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
    blob.put_u32(0);
    blob.put_slice(&head);
    for payload in [event.payloads.notification(), event.payloads.kept()].into_iter().flatten() {
        blob.put_slice(payload);
    }
    let key = event_key(kind, id.sequence());
    let longest = body_max(11);
    let parts = blob.len().div_ceil(longest).max(1) - 1;
    blob[4..8].copy_from_slice(&u32::try_from(parts).unwrap_or(u32::MAX).to_be_bytes());
    for (part, body) in blob.chunks(longest).enumerate() {
        // At most two payloads of 256 KiB and a head of as many bytes as there are subscriptions times six.
        let (key, kind) = match u16::try_from(part).unwrap_or(u16::MAX) {
            0 => (key.clone(), kind),
            part => (part_key(id.sequence(), part), Kind::Part),
        };
        let sealed = envelope::seal(&key, kind as u8, VERSION, body);
        into.push((key, sealed));
    }
}

/// Where the parts of an event are read: the value of a key, if it is there.
pub(crate) type Get<'a> = &'a mut dyn FnMut(&[u8]) -> Result<Option<Bytes>, DiskError>;

/// Reads the head of an event's row.
pub(crate) fn read_event_head(key: &[u8], sealed: &Bytes, get: Get<'_>) -> Result<EventHead, DiskError> {
    let blob = whole_blob(key, sealed, get, true)?;
    let head: EventV1 = decode(head_of(&blob)?)?;
    Ok(EventHead { id: head.id, owed: born(&head), idempotency: idempotency(&head) })
}

/// Reads an event: its row as shown, and what a carried row is made of.
pub(crate) fn read_event(key: &[u8], sealed: &Bytes, get: Get<'_>) -> Result<(Kept, Prepared), DiskError> {
    let blob = whole_blob(key, sealed, get, false)?;
    let head: EventV1 = decode(head_of(&blob)?)?;
    let event_type = EventType::parse(&head.event_type).map_err(|e| damaged(format!("an event's type: {e}")))?;
    let mut at = 8 + head_of(&blob)?.len();
    let mut payload = |length: Option<u32>| {
        let Some(length) = length else { return Ok(None) };
        let end = at.saturating_add(length as usize);
        if end > blob.len() {
            return Err(damaged("an event's payload is cut short"));
        }
        let bytes = blob.slice(at..end);
        at = end;
        Ok(Some(bytes))
    };
    let payloads = Payloads::restored(payload(head.notification)?, payload(head.telemetry)?);
    let born = born(&head);
    let idempotency = idempotency(&head);
    let facts = Arc::new(Facts {
        event_type,
        key: head.key,
        tenant: head.tenant,
        origin: head.origin,
        occurred_at: head.occurred_at,
        recorded_at: head.recorded_at,
    });
    let owed = born
        .iter()
        .map(|(subscription, born)| Owed { subscription: *subscription, dead_at_birth: born.dead_at_birth() })
        .collect();
    let event = EventRow { id: head.id, facts: Arc::clone(&facts), payloads: payloads.clone() };
    let prepared = Prepared {
        facts,
        idempotency,
        payloads,
        owed: born.into_iter().map(|(id, _)| id).collect(),
        quarantined: None,
        unnotified: None,
    };
    Ok((Kept { event, owed }, prepared))
}

fn born(head: &EventV1) -> Vec<(SubscriptionId, Born)> {
    head.owed.iter().map(|(id, born)| (SubscriptionId(*id), *born)).collect()
}

fn idempotency(head: &EventV1) -> Option<Idempotency> {
    head.idempotency.map(|(key, content)| Idempotency { key, content })
}

/// The blob of an event; with `head_only` its first part where the whole head stands there.
fn whole_blob(key: &[u8], sealed: &Bytes, get: Get<'_>, head_only: bool) -> Result<Bytes, DiskError> {
    let first = open(key, sealed)?;
    let parts = first.get(4..8).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let parts = parts.ok_or_else(|| damaged("an event's row is too short"))?;
    if parts == 0 || (head_only && head_of(&first).is_ok()) {
        return Ok(first);
    }
    let sequence = sequence_of(key).ok_or_else(|| damaged("an event's key is too short"))?;
    let mut blob = BytesMut::from(&first[..]);
    for part in 1..=u16::try_from(parts).unwrap_or(u16::MAX) {
        let key = part_key(sequence, part);
        let sealed = get(&key)?.ok_or_else(|| damaged(format!("part {part} of event {sequence} is missing")))?;
        blob.put_slice(&open(&key, &sealed)?);
    }
    Ok(blob.freeze())
}

fn head_of(blob: &Bytes) -> Result<&[u8], DiskError> {
    let length = blob.get(..4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let head = length.and_then(|length| blob.get(8..8_usize.saturating_add(length)));
    head.ok_or_else(|| damaged("an event's head is cut short"))
}

#[derive(Serialize, Deserialize)]
struct EntryV1 {
    attempt: Option<AttemptV1>,
    after: State,
    due: u64,
    reason: Option<String>,
    at: Timestamp,
    attempts: u32,
    since: Option<NonZeroU64>,
}

#[derive(Serialize, Deserialize)]
struct AttemptV1 {
    number: u32,
    at: Timestamp,
    micros: u64,
    outcome: u8,
    status: Option<u16>,
    error: Option<String>,
    answer: Option<serde_bytes::ByteBuf>,
}

const OUTCOMES: [AttemptOutcome; 4] =
    [AttemptOutcome::Delivered, AttemptOutcome::Failed, AttemptOutcome::Rejected, AttemptOutcome::Unattempted];

/// The row of an entry: as something that happened, or as history.
pub(crate) fn write_entry(kind: Kind, sequence: u64, subscription: SubscriptionId, entry: &Entry) -> Row {
    let attempt = entry.attempt.as_ref().map(|a| AttemptV1 {
        number: a.number,
        at: a.at,
        micros: u64::try_from(a.duration.as_micros()).unwrap_or(u64::MAX),
        outcome: OUTCOMES.iter().position(|o| *o == a.outcome).unwrap_or(1) as u8,
        status: a.detail.status,
        error: a.detail.error.clone(),
        answer: a.detail.answer.as_ref().map(|b| serde_bytes::ByteBuf::from(b.to_vec())),
    });
    let body = EntryV1 {
        attempt,
        after: entry.after,
        due: entry.due,
        reason: entry.reason.clone(),
        at: entry.at,
        attempts: entry.attempts,
        since: entry.since,
    };
    let key = entry_key(kind, sequence, subscription, entry.number);
    let sealed = envelope::seal(&key, kind as u8, VERSION, &encode(&body));
    (key, sealed)
}

/// Reads the row of an entry.
pub(crate) fn read_entry(key: &[u8], sealed: &Bytes) -> Result<Entry, DiskError> {
    let number = key.get(13..17).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let number = number.ok_or_else(|| damaged("an entry's key is too short"))?;
    let body: EntryV1 = decode(&open(key, sealed)?)?;
    let attempt = body.attempt.map(|a| {
        let outcome = OUTCOMES.get(usize::from(a.outcome)).copied();
        Ok(Attempt {
            number: a.number,
            at: a.at,
            duration: Duration::from_micros(a.micros),
            outcome: outcome.ok_or_else(|| damaged("an attempt's outcome"))?,
            detail: Detail {
                status: a.status,
                error: a.error,
                answer: a.answer.map(|b| Bytes::from(b.into_vec())),
                trace: None,
            },
        })
    });
    Ok(Entry {
        number,
        attempt: attempt.transpose()?,
        after: body.after,
        due: body.due,
        reason: body.reason,
        at: body.at,
        attempts: body.attempts,
        since: body.since,
    })
}

/// A subscription as it is written, in rows and in snapshots.
#[derive(Serialize, Deserialize)]
pub(crate) struct SubscriptionV1 {
    name: String,
    unlisted_since: Option<u64>,
    standing: StandingV1,
    backlog_max: u64,
    held: Held,
}

#[derive(Serialize, Deserialize)]
enum StandingV1 {
    Active,
    Paused,
    Disabled(String),
}

impl From<&Account> for SubscriptionV1 {
    fn from(account: &Account) -> Self {
        Self {
            name: account.name.clone(),
            unlisted_since: account.unlisted_since,
            standing: match &account.standing {
                Standing::Active => StandingV1::Active,
                Standing::Paused => StandingV1::Paused,
                Standing::Disabled(reason) => StandingV1::Disabled(reason.clone()),
            },
            backlog_max: account.backlog_max,
            held: account.held.clone(),
        }
    }
}

impl From<SubscriptionV1> for Account {
    fn from(written: SubscriptionV1) -> Self {
        let mut account = Self::new(written.name, written.backlog_max);
        account.unlisted_since = written.unlisted_since;
        account.standing = match written.standing {
            StandingV1::Active => Standing::Active,
            StandingV1::Paused => Standing::Paused,
            StandingV1::Disabled(reason) => Standing::Disabled(reason),
        };
        account.held = written.held;
        account
    }
}

/// The row of a subscription.
pub(crate) fn write_subscription(id: SubscriptionId, account: &Account) -> Row {
    let key = subscription_key(id);
    let sealed = envelope::seal(&key, Kind::Subscription as u8, VERSION, &encode(&SubscriptionV1::from(account)));
    (key, sealed)
}

/// Reads the row of a subscription.
pub(crate) fn read_subscription(key: &[u8], sealed: &Bytes) -> Result<(SubscriptionId, Account), DiskError> {
    let id = key.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let id = id.ok_or_else(|| damaged("a subscription's key is too short"))?;
    let written: SubscriptionV1 = decode(&open(key, sealed)?)?;
    Ok((SubscriptionId(id), written.into()))
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
    decode(&open(key, sealed)?)
}

/// Opens an envelope of ours.
pub(crate) fn open(key: &[u8], sealed: &Bytes) -> Result<Bytes, DiskError> {
    let opened = envelope::open(key, sealed)?;
    if opened.version != VERSION || key.first().is_some_and(|kind| key.len() < 40 && *kind != opened.kind) {
        return Err(damaged(format!("a record of kind {} and version {}", opened.kind, opened.version)));
    }
    Ok(opened.body)
}

/// Bytes of a struct of the disk.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Writing plain structs into memory has no way to fail.
    bincode::DefaultOptions::new().serialize(value).unwrap_or_default()
}

/// A struct of the disk.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DiskError> {
    bincode::DefaultOptions::new().deserialize(bytes).map_err(|e| damaged(format!("a record's body: {e}")))
}

pub(crate) fn damaged(what: impl Into<String>) -> DiskError {
    DiskError::Damaged(what.into())
}
