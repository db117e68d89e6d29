//! The row of an entry: something that happened to a delivery.
//!
//! Version 2 tells of an attempt also how it went on the wire; version 1 is read still.

use super::*;
use posthaste_events::outcome::Trace;
use std::net::{IpAddr, SocketAddr};

/// The version in which entries are written.
const VERSION: u8 = 2;

/// An entry as every version writes it; they differ in what they tell of an attempt.
#[derive(Serialize, Deserialize)]
struct EntryOf<A> {
    attempt: Option<A>,
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

#[derive(Serialize, Deserialize)]
struct AttemptV2 {
    first: AttemptV1,
    trace: Option<TraceV1>,
}

/// Times in microseconds.
#[derive(Serialize, Deserialize)]
struct TraceV1 {
    /// The octets of the address, 4 or 16 of them, and the port.
    address: Option<(serde_bytes::ByteBuf, u16)>,
    dns: Option<u64>,
    connect: Option<u64>,
    tls: Option<u64>,
    first_byte: Option<u64>,
}

const OUTCOMES: [AttemptOutcome; 4] =
    [AttemptOutcome::Delivered, AttemptOutcome::Failed, AttemptOutcome::Rejected, AttemptOutcome::Unattempted];

/// The row of an entry: as something that happened, or as history.
pub(crate) fn write_entry(kind: Kind, sequence: u64, subscription: SubscriptionId, entry: &Entry) -> Row {
    let body = EntryOf {
        attempt: entry.attempt.as_ref().map(AttemptV2::from),
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

/// The rows of what happened to a delivery.
pub(crate) fn write_entries(sequence: u64, subscription: SubscriptionId, entries: &[Entry], into: &mut Vec<Row>) {
    if entries.iter().any(|entry| entry.adopts) {
        into.push(write_adoption(sequence, subscription));
    }
    into.extend(entries.iter().map(|entry| write_entry(Kind::Entry, sequence, subscription, entry)));
}

/// Reads the row of an entry, of either version.
pub(crate) fn read_entry(key: &[u8], sealed: &Bytes) -> Result<Entry, DiskError> {
    let number = key.get(13..17).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let number = number.ok_or_else(|| damaged("an entry's key is too short"))?;
    let body: EntryOf<AttemptV2> = match open(key, sealed)? {
        (1, body) => {
            let EntryOf { attempt, after, due, reason, at, attempts, since } = decode::<EntryOf<AttemptV1>>(&body)?;
            let attempt = attempt.map(|first| AttemptV2 { first, trace: None });
            EntryOf { attempt, after, due, reason, at, attempts, since }
        }
        (VERSION, body) => decode(&body)?,
        (version, _) => return Err(unknown(key, version)),
    };
    Ok(Entry {
        number,
        attempt: body.attempt.map(Attempt::try_from).transpose()?,
        after: body.after,
        due: body.due,
        reason: body.reason,
        at: body.at,
        attempts: body.attempts,
        since: body.since,
        adopts: false,
    })
}

impl From<&Attempt> for AttemptV2 {
    fn from(attempt: &Attempt) -> Self {
        let first = AttemptV1 {
            number: attempt.number,
            at: attempt.at,
            micros: micros(attempt.duration),
            outcome: OUTCOMES.iter().position(|o| *o == attempt.outcome).unwrap_or(1) as u8,
            status: attempt.detail.status,
            error: attempt.detail.error.clone(),
            answer: attempt.detail.answer.as_ref().map(|b| serde_bytes::ByteBuf::from(b.to_vec())),
        };
        Self { first, trace: attempt.detail.trace.as_deref().map(TraceV1::from) }
    }
}

impl TryFrom<AttemptV2> for Attempt {
    type Error = DiskError;

    fn try_from(AttemptV2 { first, trace }: AttemptV2) -> Result<Self, DiskError> {
        let outcome = OUTCOMES.get(usize::from(first.outcome)).copied();
        Ok(Self {
            number: first.number,
            at: first.at,
            duration: Duration::from_micros(first.micros),
            outcome: outcome.ok_or_else(|| damaged("an attempt's outcome"))?,
            detail: Detail {
                status: first.status,
                error: first.error,
                answer: first.answer.map(|b| Bytes::from(b.into_vec())),
                trace: trace.map(Trace::try_from).transpose()?.map(Box::new),
            },
        })
    }
}

impl From<&Trace> for TraceV1 {
    fn from(trace: &Trace) -> Self {
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        Self {
            address: trace.address.map(|a| (serde_bytes::ByteBuf::from(octets(a.ip())), a.port())),
            dns: trace.dns.map(micros),
            connect: trace.connect.map(micros),
            tls: trace.tls.map(micros),
            first_byte: trace.first_byte.map(micros),
        }
    }
}

impl TryFrom<TraceV1> for Trace {
    type Error = DiskError;

    fn try_from(written: TraceV1) -> Result<Self, DiskError> {
        let address = written.address.map(|(octets, port)| {
            let v4 = <[u8; 4]>::try_from(&octets[..]).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(&octets[..]).map(IpAddr::from));
            ip.map(|ip| SocketAddr::new(ip, port)).map_err(|_| damaged("the address of an attempt"))
        });
        Ok(Self {
            address: address.transpose()?,
            dns: written.dns.map(Duration::from_micros),
            connect: written.connect.map(Duration::from_micros),
            tls: written.tls.map(Duration::from_micros),
            first_byte: written.first_byte.map(Duration::from_micros),
        })
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attempt(trace: Option<Trace>) -> Attempt {
        let detail = Detail {
            status: Some(503),
            error: Some("status: 503".into()),
            answer: Some(Bytes::from_static(b"\xff\x00later")),
            trace: trace.map(Box::new),
        };
        let (at, duration) = (Timestamp::from_millis(1_732_000_000_123), Duration::from_micros(4_321));
        Attempt { number: 3, at, duration, outcome: AttemptOutcome::Failed, detail }
    }

    fn entry(trace: Option<Trace>) -> Entry {
        Entry {
            number: 4,
            attempt: Some(attempt(trace)),
            after: State::Dead,
            due: 7,
            reason: Some("attempts: 3".into()),
            at: Timestamp::from_millis(1_732_000_000_127),
            attempts: 3,
            since: NonZeroU64::new(9),
            adopts: false,
        }
    }

    proptest! {
        #[test]
        fn an_attempt_comes_back_with_its_trace_as_it_was(
            address: Option<(IpAddr, u16)>, times: [Option<u32>; 4],
        ) {
            let [dns, connect, tls, first_byte] = times.map(|t| t.map(|t| Duration::from_micros(u64::from(t))));
            let address = address.map(|(ip, port)| SocketAddr::new(ip, port));
            let entry = entry(Some(Trace { address, dns, connect, tls, first_byte }));
            let (key, sealed) = write_entry(Kind::Entry, 12, SubscriptionId(5), &entry);
            prop_assert_eq!(read_entry(&key, &sealed).unwrap(), entry);
        }
    }

    #[test]
    fn an_entry_of_the_first_version_is_read_without_a_trace() {
        let AttemptV2 { first, .. } = AttemptV2::from(&attempt(None));
        let Entry { after, due, reason, at, attempts, since, .. } = entry(None);
        let body = EntryOf { attempt: Some(first), after, due, reason, at, attempts, since };
        let key = entry_key(Kind::Entry, 12, SubscriptionId(5), 4);
        let sealed = envelope::seal(&key, Kind::Entry as u8, 1, &encode(&body));
        assert_eq!(read_entry(&key, &sealed).unwrap(), entry(None));
        let later = envelope::seal(&key, Kind::Entry as u8, 3, &encode(&body));
        assert!(matches!(read_entry(&key, &later), Err(DiskError::Damaged(what)) if what.contains("version 3")));
    }
}
