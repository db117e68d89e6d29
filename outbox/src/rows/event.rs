//! The rows of an event: its head with its facts and to whom it is owed, then its payloads, over as many rows as it takes.

use super::*;

/// The version in which events are written.
const VERSION: u8 = 1;

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

/// Reads an event without its payloads.
pub(crate) fn read_event_facts(key: &[u8], sealed: &Bytes, get: Get<'_>) -> Result<Kept, DiskError> {
    let blob = whole_blob(key, sealed, get, true)?;
    let head: EventV1 = decode(head_of(&blob)?)?;
    let owed = owed(&born(&head));
    let (id, payloads) = (head.id, Payloads::restored(None, None));
    let event = EventRow { id, facts: facts(head)?, payloads };
    Ok(Kept { event, owed })
}

/// Reads an event: its row as shown, and what a carried row is made of.
pub(crate) fn read_event(key: &[u8], sealed: &Bytes, get: Get<'_>) -> Result<(Kept, Prepared), DiskError> {
    let blob = whole_blob(key, sealed, get, false)?;
    let head: EventV1 = decode(head_of(&blob)?)?;
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
    let id = head.id;
    let facts = facts(head)?;
    let owed = owed(&born);
    let event = EventRow { id, facts: Arc::clone(&facts), payloads: payloads.clone() };
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

fn facts(head: EventV1) -> Result<Arc<Facts>, DiskError> {
    let event_type = EventType::parse(&head.event_type).map_err(|e| damaged(format!("an event's type: {e}")))?;
    Ok(Arc::new(Facts {
        event_type,
        key: head.key,
        tenant: head.tenant,
        origin: head.origin,
        occurred_at: head.occurred_at,
        recorded_at: head.recorded_at,
    }))
}

fn owed(born: &[(SubscriptionId, Born)]) -> Vec<Owed> {
    let owed = |(subscription, born): &(SubscriptionId, Born)| Owed {
        subscription: *subscription,
        dead_at_birth: born.dead_at_birth(),
    };
    born.iter().map(owed).collect()
}

fn born(head: &EventV1) -> Vec<(SubscriptionId, Born)> {
    head.owed.iter().map(|(id, born)| (SubscriptionId(*id), *born)).collect()
}

fn idempotency(head: &EventV1) -> Option<Idempotency> {
    head.idempotency.map(|(key, content)| Idempotency { key, content })
}

/// The blob of an event; with `head_only` its first part where the whole head stands there.
fn whole_blob(key: &[u8], sealed: &Bytes, get: Get<'_>, head_only: bool) -> Result<Bytes, DiskError> {
    let first = open_first(key, sealed)?;
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
        blob.put_slice(&open_first(&key, &sealed)?);
    }
    Ok(blob.freeze())
}

fn head_of(blob: &Bytes) -> Result<&[u8], DiskError> {
    let length = blob.get(..4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let head = length.and_then(|length| blob.get(8..8_usize.saturating_add(length)));
    head.ok_or_else(|| damaged("an event's head is cut short"))
}
