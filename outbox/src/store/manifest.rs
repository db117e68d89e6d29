//! What is known of a generation without opening it.
//!
//! Written when a generation is closed; of the active one it is kept in memory. A start reads the manifests, not the
//! generations; a damaged one is made again by reading its generation.

use crate::disk::{DiskError, Generation, Row};
use crate::envelope;
use crate::ledger::{bitmap, read_bitmap};
use crate::rows::{self, Kind};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

const KIND: u8 = b'G';
/// Version 2 names the adopted events too.
const VERSION: u8 = 2;

/// What a generation holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Manifest {
    pub(crate) generation: Generation,
    /// The sequences of the events that were recorded into it: the first and the last.
    pub(crate) sequences: Option<(u64, u64)>,
    /// Events recorded into it.
    pub(crate) events: u64,
    /// Rows that count for the digest.
    pub(crate) rows: u64,
    /// Bytes of all rows.
    pub(crate) bytes: u64,
    /// The outbox's time when it was begun and when it was last written.
    pub(crate) times: (u64, u64),
    /// What all its rows come to; finds rows that were lost silently.
    pub(crate) digest: u64,
    /// Whether rows and digest are known for certain: not where a write or a sync failed.
    pub(crate) exact: bool,
    /// Events of other generations of which it has entries.
    pub(crate) foreign: RoaringTreemap,
    /// Events of other generations that were carried into it.
    pub(crate) carried: RoaringTreemap,
    /// Events that a replay owed to somebody to whom they never were, which is said here.
    pub(crate) adopted: RoaringTreemap,
    /// Events that were written into it and never acknowledged, since a write or a sync failed: they never were.
    pub(crate) void: RoaringTreemap,
}

#[derive(Serialize, Deserialize)]
struct ManifestV1 {
    generation: Generation,
    sequences: Option<(u64, u64)>,
    events: u64,
    rows: u64,
    bytes: u64,
    times: (u64, u64),
    digest: u64,
    exact: bool,
    foreign: serde_bytes::ByteBuf,
    carried: serde_bytes::ByteBuf,
    void: serde_bytes::ByteBuf,
}

#[derive(Serialize, Deserialize)]
struct ManifestV2 {
    first: ManifestV1,
    adopted: serde_bytes::ByteBuf,
}

impl Manifest {
    /// That of a generation that is begun now.
    pub(crate) fn begun(generation: Generation, now: u64) -> Self {
        Self { generation, times: (now, now), exact: true, ..Self::default() }
    }

    /// Notes rows that were written and synced.
    pub(crate) fn note(&mut self, rows: &[Row], now: u64) {
        self.times.1 = self.times.1.max(now);
        for (key, value) in rows {
            self.bytes += (key.len() + value.len()) as u64;
            if counts(key) {
                self.rows += 1;
                self.digest = self.digest.wrapping_add(weight(key, value));
            }
            if key.first() == Some(&(Kind::Event as u8))
                && let Some(sequence) = rows::sequence_of(key)
            {
                self.events += 1;
                let (first, last) = self.sequences.unwrap_or((sequence, sequence));
                self.sequences = Some((first.min(sequence), last.max(sequence)));
            }
            if key.first() == Some(&(Kind::Adopted as u8)) {
                self.adopted.extend(rows::sequence_of(key));
            }
        }
    }

    /// What rows will add once they are written and synced.
    pub(crate) fn of(rows: &[Row], now: u64) -> Self {
        let mut added = Self::default();
        added.note(rows, now);
        added
    }

    /// Adds what was made of rows that are written and synced by now.
    pub(crate) fn add(&mut self, added: &Self) {
        self.times.1 = self.times.1.max(added.times.1);
        self.bytes += added.bytes;
        self.rows += added.rows;
        self.digest = self.digest.wrapping_add(added.digest);
        self.events += added.events;
        self.adopted |= &added.adopted;
        if let Some((first, last)) = added.sequences {
            let (a, b) = self.sequences.unwrap_or((first, last));
            self.sequences = Some((a.min(first), b.max(last)));
        }
    }

    /// Whether an event was recorded into this generation, as far as a range tells.
    pub(crate) fn spans(&self, sequence: u64) -> bool {
        self.sequences.is_some_and(|(first, last)| (first..=last).contains(&sequence)) && !self.void.contains(sequence)
    }

    /// Whether nothing of it would be missed.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0 && self.exact
    }

    /// The name of its file.
    pub(crate) fn file(generation: Generation) -> String {
        format!("manifest-{generation:016x}")
    }

    /// The generation whose manifest a file of this name is.
    pub(crate) fn of_file(name: &str) -> Option<Generation> {
        Generation::from_str_radix(name.strip_prefix("manifest-")?, 16).ok()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let set = |set| serde_bytes::ByteBuf::from(bitmap(set));
        let first = ManifestV1 {
            generation: self.generation,
            sequences: self.sequences,
            events: self.events,
            rows: self.rows,
            bytes: self.bytes,
            times: self.times,
            digest: self.digest,
            exact: self.exact,
            foreign: set(&self.foreign),
            carried: set(&self.carried),
            void: set(&self.void),
        };
        let body = ManifestV2 { first, adopted: set(&self.adopted) };
        envelope::seal(Self::file(self.generation).as_bytes(), KIND, VERSION, &rows::encode(&body)).to_vec()
    }

    pub(crate) fn from_bytes(generation: Generation, bytes: Vec<u8>) -> Result<Self, DiskError> {
        let opened = envelope::open(Self::file(generation).as_bytes(), &bytes.into())?;
        let (body, adopted) = match (opened.kind, opened.version) {
            (KIND, 1) => (rows::decode::<ManifestV1>(&opened.body)?, RoaringTreemap::new()),
            (KIND, VERSION) => {
                let ManifestV2 { first, adopted } = rows::decode(&opened.body)?;
                (first, read_bitmap(&adopted)?)
            }
            (_, version) => return Err(rows::damaged(format!("a manifest of version {version}"))),
        };
        Ok(Self {
            generation: body.generation,
            sequences: body.sequences,
            events: body.events,
            rows: body.rows,
            bytes: body.bytes,
            times: body.times,
            digest: body.digest,
            exact: body.exact,
            foreign: read_bitmap(&body.foreign)?,
            carried: read_bitmap(&body.carried)?,
            adopted,
            void: read_bitmap(&body.void)?,
        })
    }
}

/// Whether a row counts for the digest: those that may be written twice do not, nor those that every generation begins
/// with, so that one with nothing else is empty.
fn counts(key: &[u8]) -> bool {
    let not = [Kind::Pack, Kind::Subscription, Kind::Head, Kind::Replay].map(|kind| kind as u8);
    !key.first().is_some_and(|kind| not.contains(kind))
}

/// What a row adds to a digest: the same in any order.
fn weight(key: &[u8], value: &[u8]) -> u64 {
    // The checksum in the envelope stands for the body; the key is summed anew.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.iter().chain(value.get(12..16).unwrap_or(value)) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // FNV's high bits are weak over short input.
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_manifest_reads_back_as_written_and_a_flipped_bit_is_found() {
        let mut manifest = Manifest::begun(7, 1_000);
        let row = |n| (rows::event_key(Kind::Event, n), Bytes::from(vec![7; 20]));
        manifest.note(&[row(4), row(5), (vec![b'S', 0, 0, 0, 1], Bytes::from_static(b"x"))], 2_000);
        manifest.carried.insert(2);
        manifest.adopted.insert(4);
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::from_bytes(7, bytes.clone()).unwrap(), manifest);
        assert_eq!((manifest.events, manifest.rows, manifest.sequences), (2, 2, Some((4, 5))));
        for bit in (0..bytes.len() * 8).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::from_bytes(7, flipped).is_err(), "{bit}");
        }
        assert!(Manifest::from_bytes(8, bytes).is_err());
    }

    #[test]
    fn a_digest_goes_by_the_rows_and_not_by_their_order() {
        let row = |n: u64| (rows::event_key(Kind::Event, n), Bytes::from(n.to_be_bytes().repeat(3)));
        let digest = |rows: &[Row]| {
            let mut manifest = Manifest::default();
            manifest.note(rows, 0);
            manifest.digest
        };
        assert_eq!(digest(&[row(1), row(2)]), digest(&[row(2), row(1)]));
        assert_ne!(digest(&[row(1), row(2)]), digest(&[row(1), row(3)]));
        assert_ne!(digest(&[row(1), row(2)]), digest(&[row(1)]));
    }
}
