//! What one installation calls itself and its events towards analytics: hashes under a secret that only it knows.
//!
//! Nothing here can be turned back: an event's own id, its subscription and the time within the grain stay unknown to
//! whoever receives the hashes.

use crate::{DeliveryId, Timestamp};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use time::OffsetDateTime;

/// How many bytes the secret has.
pub const SECRET_BYTES: usize = 32;

/// The secret of an installation; cheap to clone, shown nowhere.
#[derive(Clone)]
pub struct Installation(Arc<Hmac<Sha256>>);

impl Installation {
    /// The installation that has this secret.
    #[must_use]
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        // HMAC takes keys of every length; were it not so, nothing could be told apart, and nothing would be revealed.
        Self(Arc::new(
            Hmac::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default())),
        ))
    }

    /// What an event is called towards one subscription, the same at every attempt, so that a receiver can tell a
    /// repetition: a UUID of version 8 (RFC 9562 section 5.8) over 122 bits of an HMAC-SHA256 of event and subscription.
    #[must_use]
    pub fn event_id(&self, delivery: DeliveryId) -> String {
        uuid(self.hash("event", &delivery.to_string()))
    }

    /// What the installation is called towards one subscription in the calendar month of `at` (UTC): another name each
    /// month, so that no history can be put together, and another for each subscription.
    #[must_use]
    pub fn name(&self, delivery: DeliveryId, at: Timestamp) -> String {
        let month = OffsetDateTime::from_unix_timestamp(at.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let of = format!("{}:{}-{}", delivery.subscription.0, month.year(), u8::from(month.month()));
        uuid(self.hash("installation", &of))
    }

    fn hash(&self, what: &str, of: &str) -> [u8; 16] {
        let mut mac = Hmac::clone(&self.0);
        for part in ["posthaste telemetry ", what, ":", of] {
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        std::array::from_fn(|i| digest[i])
    }
}

fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

impl fmt::Debug for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Installation(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventId, SubscriptionId};

    #[test]
    fn an_event_has_one_name_for_each_subscription_and_the_installation_one_for_each_month() {
        let ours = Installation::new(&[7; SECRET_BYTES]);
        let delivery = |n, s| DeliveryId { event: EventId::new(1_000, n, 5), subscription: SubscriptionId(s) };
        let id = ours.event_id(delivery(1, 1));
        assert_eq!(id, ours.event_id(delivery(1, 1)));
        assert!(id.len() == 36 && &id[14..15] == "8", "{id}");
        assert_ne!(id, ours.event_id(delivery(2, 1)));
        assert_ne!(id, ours.event_id(delivery(1, 2)));
        assert_ne!(id, Installation::new(&[8; SECRET_BYTES]).event_id(delivery(1, 1)));
        let at = |text| Timestamp::parse(text).unwrap();
        let (first, last) = (at("2026-01-01T00:00:00Z"), at("2026-01-31T23:00:00Z"));
        let name = ours.name(delivery(1, 1), first);
        assert_eq!(name, ours.name(delivery(9, 1), last));
        assert_ne!(name, ours.name(delivery(1, 1), at("2026-02-01T00:00:00Z")));
        assert_ne!(name, ours.name(delivery(1, 2), first));
        assert_eq!(format!("{ours:?}"), "Installation(…)");
    }
}
