//! How one record describes itself on the disk, so that it can be trusted, or found again, without its keyspace.
//!
//! ```text
//! magic 4 | kind 1 | version 1 | length of key 2 | length of body 4 | crc32 4 | key | body      (big-endian)
//! ```
//!
//! The checksum covers everything but itself. What a kind and a version mean is for the writer of the body to say; this
//! module only answers whether the bytes are those that were sealed, under the key that they were sealed for.

use crate::disk::{DiskError, VALUE_MAX};
use bytes::{BufMut, Bytes, BytesMut};

/// Two of these bytes occur in no UTF-8 text, so that no payload of an event can pass itself off as a record.
const MAGIC: [u8; 4] = [0xFE, b'p', b'h', 0xF9];

/// The bytes before the key.
const HEADER: usize = 16;

/// How long a key may be, in bytes.
pub const KEY_MAX: usize = 256;

/// How long a body may be so that its envelope still fits a row, in bytes.
#[must_use]
pub const fn body_max(key_len: usize) -> usize {
    VALUE_MAX.saturating_sub(HEADER + key_len)
}

/// What an envelope held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the body is.
    pub kind: u8,
    /// In which version of that kind it is written.
    pub version: u8,
    /// The body; shares the memory of the envelope.
    pub body: Bytes,
}

/// Seals a body under its key.
///
/// A row takes at most [`body_max`] bytes of body; a file takes any length.
///
/// # Panics
/// Where the key is longer than [`KEY_MAX`] or the body than 4 GiB: a mistake of the caller, not of its input.
#[must_use]
pub fn seal(key: &[u8], kind: u8, version: u8, body: &[u8]) -> Bytes {
    assert!(key.len() <= KEY_MAX, "a key of {} bytes", key.len());
    assert!(u32::try_from(body.len()).is_ok(), "a body of {} bytes", body.len());
    let mut sealed = BytesMut::with_capacity(HEADER + key.len() + body.len());
    sealed.put_slice(&MAGIC);
    sealed.put_u8(kind);
    sealed.put_u8(version);
    // Both fit: asserted above.
    sealed.put_u16(key.len() as u16);
    sealed.put_u32(body.len() as u32);
    sealed.put_u32(0);
    sealed.put_slice(key);
    sealed.put_slice(body);
    let sum = checksum(&sealed);
    sealed[12..HEADER].copy_from_slice(&sum.to_be_bytes());
    sealed.freeze()
}

/// Opens what stands under `key`.
///
/// # Errors
/// [`DiskError::Damaged`] where a bit differs from what was sealed, a byte is missing or added, or where it was sealed
/// for another key.
pub fn open(key: &[u8], sealed: &Bytes) -> Result<Opened, DiskError> {
    let Some(found) = whole_at(sealed, 0, usize::MAX).filter(|f| f.end == sealed.len()) else {
        return Err(DiskError::Damaged(format!("the record under the key {}", hex(key))));
    };
    let own = &sealed[HEADER..found.body];
    if own != key {
        return Err(DiskError::Damaged(format!("the record under the key {} is that of {}", hex(key), hex(own))));
    }
    Ok(Opened { kind: sealed[4], version: sealed[5], body: sealed.slice(found.body..) })
}

/// Finds every whole envelope that a row could hold, at whatever offset, with its key; in the order of the bytes.
///
/// Work: each byte is looked at once, and where the magic stands at most [`VALUE_MAX`] bytes more are summed. Any input
/// is fine. A whole envelope within another whole one is not found.
pub fn scan(raw: &[u8]) -> impl Iterator<Item = (Vec<u8>, Bytes)> + '_ {
    let row = |(at, found): (usize, Found)| {
        (raw[at + HEADER..found.body].to_vec(), Bytes::copy_from_slice(&raw[at..found.end]))
    };
    places(raw, VALUE_MAX).map(row)
}

/// The same for envelopes of at most `longest` bytes, which then is the bound of what is summed where the magic stands;
/// what they held shares the memory of `raw`.
pub(crate) fn scan_opened(raw: &Bytes, longest: usize) -> impl Iterator<Item = (Vec<u8>, Opened)> + '_ {
    places(raw, longest).map(|(at, found)| {
        let opened = Opened { kind: raw[at + 4], version: raw[at + 5], body: raw.slice(found.body..found.end) };
        (raw[at + HEADER..found.body].to_vec(), opened)
    })
}

/// Where whole envelopes lie, one behind the other.
fn places(raw: &[u8], longest: usize) -> impl Iterator<Item = (usize, Found)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + HEADER <= raw.len() {
            if raw[at] != MAGIC[0] {
                at += raw[at..].iter().position(|b| *b == MAGIC[0])?;
                continue;
            }
            let Some(found) = whole_at(raw, at, longest) else {
                at += 1;
                continue;
            };
            let begins = std::mem::replace(&mut at, found.end);
            return Some((begins, found));
        }
        None
    })
}

/// Where the parts of an envelope lie.
struct Found {
    body: usize,
    end: usize,
}

/// The envelope that starts at `at`, if it is whole and at most `longest` bytes long.
fn whole_at(raw: &[u8], at: usize, longest: usize) -> Option<Found> {
    let header = raw.get(at..at.checked_add(HEADER)?)?;
    if header[..4] != MAGIC {
        return None;
    }
    let key_len = usize::from(u16::from_be_bytes([header[6], header[7]]));
    let body_len = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let len = HEADER.checked_add(key_len)?.checked_add(body_len)?;
    if key_len > KEY_MAX || len > longest {
        return None;
    }
    let end = at.checked_add(len)?;
    let whole = raw.get(at..end)?;
    let sum = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
    (checksum(whole) == sum).then_some(Found { body: at + HEADER + key_len, end })
}

fn checksum(envelope: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&envelope[..12]);
    sum.update(&envelope[HEADER..]);
    sum.finalize()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_as_it_was(key in vec(any::<u8>(), 0..40), kind: u8, version: u8, body in vec(any::<u8>(), 0..2000)) {
            let sealed = seal(&key, kind, version, &body);
            prop_assert_eq!(open(&key, &sealed).unwrap(), Opened { kind, version, body: body.into() });
        }

        #[test]
        fn a_flipped_bit_is_found(key in vec(any::<u8>(), 0..40), body in vec(any::<u8>(), 0..300), bit: prop::sample::Index) {
            let mut bytes = seal(&key, 1, 1, &body).to_vec();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&key, &bytes.clone().into()).is_err());
            prop_assert_eq!(scan(&bytes).count(), 0);
        }

        #[test]
        fn one_that_is_cut_or_prolonged_is_damaged(body in vec(any::<u8>(), 0..300), cut: prop::sample::Index) {
            let sealed = seal(b"key", 1, 1, &body);
            prop_assert!(open(b"key", &sealed.slice(..cut.index(sealed.len()))).is_err());
            prop_assert!(open(b"key", &[&sealed[..], b"x"].concat().into()).is_err());
        }

        #[test]
        fn a_scan_finds_all_that_is_whole_between_rubbish(
            rows in vec((vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..200), vec(0_u8..0xF0, 0..50)), 0..20),
        ) {
            let mut raw = Vec::new();
            let mut expected = Vec::new();
            for (key, body, rubbish) in rows {
                let sealed = seal(&key, 7, 1, &body);
                raw.extend_from_slice(&rubbish);
                raw.extend_from_slice(&MAGIC[..rubbish.len() % 5]);
                raw.extend_from_slice(&sealed);
                expected.push((key, sealed));
            }
            prop_assert_eq!(scan(&raw).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn a_scan_of_anything_ends_with_whole_rows_only(pieces in vec(prop_oneof![
            vec(any::<u8>(), 0..60), Just(MAGIC.to_vec()), Just(MAGIC.repeat(30)), Just(seal(b"k", 0, 0, b"b")[..15].to_vec()),
        ], 0..40)) {
            let raw = pieces.concat();
            for (key, sealed) in scan(&raw) {
                prop_assert!(open(&key, &sealed).is_ok());
            }
        }
    }

    #[test]
    fn a_record_under_the_key_of_another_is_damaged() {
        let sealed = seal(b"E1", 1, 1, b"body");
        assert!(matches!(open(b"E2", &sealed), Err(DiskError::Damaged(why)) if why.contains("4532")));
    }

    #[test]
    fn a_damaged_envelope_does_not_hide_the_next_one() {
        let mut raw = seal(b"a", 1, 1, &[0; 100]).to_vec();
        raw[50] ^= 1;
        raw.extend_from_slice(&seal(b"b", 1, 1, b"whole"));
        assert_eq!(scan(&raw).map(|(key, _)| key).collect::<Vec<_>>(), vec![b"b".to_vec()]);
    }

    #[test]
    fn no_text_holds_the_magic() {
        assert!(std::str::from_utf8(&MAGIC[..1]).is_err() && std::str::from_utf8(&MAGIC[3..]).is_err());
    }

    #[test]
    fn the_longest_body_fits_a_row_exactly() {
        let sealed = seal(b"key", 1, 1, &vec![1; body_max(3)]);
        assert_eq!(sealed.len(), VALUE_MAX);
        assert_eq!(scan(&sealed).count(), 1);
    }
}
