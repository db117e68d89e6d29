//! Ids: of an event, a subscription, a delivery.
//!
//! An event's id is `evt_` and 26 characters of base32hex (digits before letters, so that text sorts as the bytes do).
//! Its 16 bytes are the outbox's time in milliseconds (6), the event's sequence (6) and a random part (4): ids sort in
//! the order of recording as ASCII text, and a store finds an event from its id without an index.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const EVENT_PREFIX: &str = "evt_";
const DELIVERY_PREFIX: &str = "dlv_";
const EVENT_CHARS: usize = 26;
const SUBSCRIPTION_CHARS: usize = 7;

/// The largest value of the two six-byte parts of an [`EventId`].
pub const SIX_BYTES_MAX: u64 = (1 << 48) - 1;

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {0} id")]
pub struct NotAnId(&'static str);

/// The id of an event; the same at every attempt and for every receiver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Makes an id; `millis` and `sequence` keep their lower 48 bits.
    #[must_use]
    pub fn new(millis: u64, sequence: u64, random: u32) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        bytes[6..12].copy_from_slice(&sequence.to_be_bytes()[2..]);
        bytes[12..].copy_from_slice(&random.to_be_bytes());
        Self(bytes)
    }

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The place of the event in its outbox, from 1.
    #[must_use]
    pub fn sequence(self) -> u64 {
        six_bytes(&self.0[6..12])
    }

    /// The outbox's time when the event was recorded, in milliseconds.
    #[must_use]
    pub fn millis(self) -> u64 {
        six_bytes(&self.0[..6])
    }
}

fn six_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, b| sum << 8 | u64::from(*b))
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EVENT_PREFIX)?;
        write_bits(f, u128::from_be_bytes(self.0), EVENT_CHARS)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let error = NotAnId("event");
        let bits = read_bits(text.strip_prefix(EVENT_PREFIX).ok_or(error.clone())?, EVENT_CHARS).ok_or(error)?;
        Ok(Self(bits.to_be_bytes()))
    }
}

/// The number of a subscription within one outbox; its name is its identity outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubscriptionId(pub u32);

/// The id of a delivery: an event owed to a subscription.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId {
    /// What is owed.
    pub event: EventId,
    /// To whom.
    pub subscription: SubscriptionId,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DELIVERY_PREFIX)?;
        write_bits(f, u128::from_be_bytes(self.event.0), EVENT_CHARS)?;
        write_bits(f, u128::from(self.subscription.0), SUBSCRIPTION_CHARS)
    }
}

impl fmt::Debug for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeliveryId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let error = NotAnId("delivery");
        let rest = text.strip_prefix(DELIVERY_PREFIX).ok_or(error.clone())?;
        let (event, subscription) = rest.split_at_checked(EVENT_CHARS).ok_or(error.clone())?;
        let event = read_bits(event, EVENT_CHARS).ok_or(error.clone())?;
        let subscription = read_bits(subscription, SUBSCRIPTION_CHARS).ok_or(error.clone())?;
        let subscription = u32::try_from(subscription).map_err(|_| error)?;
        Ok(Self { event: EventId(event.to_be_bytes()), subscription: SubscriptionId(subscription) })
    }
}

/// Writes the lower bits of `value` as `chars` characters, the highest first.
fn write_bits(f: &mut fmt::Formatter<'_>, value: u128, chars: usize) -> fmt::Result {
    let mut text = [0_u8; EVENT_CHARS];
    for (place, slot) in text[..chars].iter_mut().rev().enumerate() {
        *slot = ALPHABET[((value >> (5 * place)) & 31) as usize];
    }
    f.write_str(std::str::from_utf8(&text[..chars]).map_err(|_| fmt::Error)?)
}

/// Reads exactly `chars` characters; `None` where one is not of the alphabet or the value does not fit 128 bits.
fn read_bits(text: &str, chars: usize) -> Option<u128> {
    if text.len() != chars {
        return None;
    }
    text.bytes().try_fold(0_u128, |value, b| {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'v' => b - b'a' + 10,
            _ => return None,
        };
        value.checked_mul(32).map(|v| v | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_reads_back_as_written(millis in 0..=SIX_BYTES_MAX, sequence in 0..=SIX_BYTES_MAX, random: u32, subscription: u32) {
            let event = EventId::new(millis, sequence, random);
            prop_assert_eq!(event.to_string().parse(), Ok(event));
            prop_assert_eq!((event.millis(), event.sequence()), (millis, sequence));
            let delivery = DeliveryId { event, subscription: SubscriptionId(subscription) };
            prop_assert_eq!(delivery.to_string().parse(), Ok(delivery));
        }

        #[test]
        fn ids_sort_as_text_in_the_order_of_recording(a: (u32, u32, u32), b: (u32, u32, u32)) {
            let id = |(m, s, r): (u32, u32, u32)| EventId::new(m.into(), s.into(), r);
            prop_assert_eq!(id(a).cmp(&id(b)), id(a).to_string().cmp(&id(b).to_string()));
            if (a.0, a.1) != (b.0, b.1) {
                prop_assert_eq!(id(a).cmp(&id(b)), (a.0, a.1).cmp(&(b.0, b.1)));
            }
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".*") {
            let _ = text.parse::<EventId>();
            let _ = text.parse::<DeliveryId>();
        }
    }

    #[test]
    fn ids_have_letters_digits_and_underscore_only() {
        let text = EventId::new(1_732_000_000_000, 7, 0xdead_beef).to_string();
        assert_eq!(text.len(), 30);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{text}");
    }

    #[test]
    fn a_text_that_overflows_is_refused() {
        assert!(format!("evt_{}", "v".repeat(26)).parse::<EventId>().is_err());
        assert!(format!("evt_é{}", "0".repeat(24)).parse::<EventId>().is_err());
        assert!("dlv_é0000000000000000000000000000".parse::<DeliveryId>().is_err());
    }
}
