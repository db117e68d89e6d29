//! Which signatures a message carries: under which schemes and headers, and which of the secrets sign at that moment.
//!
//! Pure: the time is an argument, asked for at each attempt, so that a secret stops by itself where its time is over.

use super::sign::Secret;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use posthaste_events::Timestamp;
use std::collections::BTreeSet;

/// A way to sign that receivers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Standard Webhooks 1.0.0: id, time and body are signed, once for each secret.
    Standard,
    /// `X-Hub-Signature-256`, as GitHub sends it: the body alone, by one secret.
    GitHub,
    /// `X-Hub-Signature` with bare hex digits, as Orchest sends it: the body alone, by one secret.
    Orchest,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 3] = [Self::Standard, Self::GitHub, Self::Orchest];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::GitHub => "github",
            Self::Orchest => "orchest",
        }
    }

    /// The scheme of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }
}

/// A secret, and until when it signs.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) secret: Secret,
    /// From then on it signs no more; `None`: it goes on.
    pub(super) until: Option<Timestamp>,
}

/// The headers of Standard Webhooks under one prefix.
#[derive(Debug, Clone)]
struct Names {
    id: HeaderName,
    timestamp: HeaderName,
    signature: HeaderName,
}

/// The secrets of a webhook and what they sign.
#[derive(Debug, Clone)]
pub(super) struct Keyring {
    /// In the order in which they sign; empty where nothing is signed.
    held: Vec<Held>,
    schemes: BTreeSet<Scheme>,
    names: Vec<Names>,
}

impl Keyring {
    /// Signs by these schemes with these secrets; the id and the time go out under each of the prefixes, of which one that
    /// is no beginning of a header was told as a problem before.
    pub(super) fn new(held: Vec<Held>, schemes: BTreeSet<Scheme>, prefixes: &[String]) -> Self {
        let named = |prefix: &String| {
            let name = |end: &str| HeaderName::try_from(format!("{prefix}{end}")).ok();
            Some(Names { id: name("id")?, timestamp: name("timestamp")?, signature: name("signature")? })
        };
        Self { held, schemes, names: prefixes.iter().filter_map(named).collect() }
    }

    /// Sets id, time and signatures of a message that is sent `now` with exactly this body; `id` is visible ASCII.
    pub(super) fn sign(&self, id: &str, now: Timestamp, body: &[u8], headers: &mut HeaderMap) {
        let at = now.seconds().to_string();
        let live = || self.held.iter().filter(|held| held.until.is_none_or(|until| now < until)).map(|h| &h.secret);
        let mut signature = String::new();
        if self.schemes.contains(&Scheme::Standard) {
            for entry in live().filter_map(|secret| secret.v1(id, &at, body)) {
                if !signature.is_empty() {
                    signature.push(' ');
                }
                signature.push_str(&entry);
            }
        }
        let (id, at) = (visible(id.to_owned()), visible(at));
        let signature = (!signature.is_empty()).then(|| visible(signature));
        for names in &self.names {
            headers.insert(names.id.clone(), id.clone());
            headers.insert(names.timestamp.clone(), at.clone());
            if let Some(signature) = &signature {
                headers.insert(names.signature.clone(), signature.clone());
            }
        }
        // Both have room for one signature only: that of the last that still signs. So the receiver has until the end of
        // the old secret to learn the new one, which stands before it.
        let bare = self.schemes.iter().any(|scheme| *scheme != Scheme::Standard);
        let Some(hex) = live().next_back().filter(|_| bare).map(|secret| secret.hex(body)) else { return };
        if self.schemes.contains(&Scheme::GitHub) {
            headers.insert(GITHUB, visible(format!("sha256={hex}")));
        }
        if self.schemes.contains(&Scheme::Orchest) {
            headers.insert(ORCHEST, visible(hex));
        }
    }
}

const GITHUB: HeaderName = HeaderName::from_static("x-hub-signature-256");
const ORCHEST: HeaderName = HeaderName::from_static("x-hub-signature");

#[expect(
    clippy::expect_used,
    reason = "ids, times and signatures are letters, digits and signs, which any value may have"
)]
fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const BODY: &[u8] = b"{}";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn held(text: &str, until: Option<i64>) -> Held {
        Held { secret: Secret::parse_text(text).unwrap(), until: until.map(at) }
    }

    fn signed(ring: &Keyring, now: i64) -> BTreeMap<String, String> {
        let mut headers = HeaderMap::new();
        ring.sign("evt_1", at(now), BODY, &mut headers);
        let read = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        headers.iter().map(read).collect()
    }

    fn ring(held: Vec<Held>, schemes: &[Scheme], prefixes: &[&str]) -> Keyring {
        let prefixes: Vec<String> = prefixes.iter().map(|p| (*p).to_owned()).collect();
        Keyring::new(held, schemes.iter().copied().collect(), &prefixes)
    }

    fn v1(text: &str, now: i64) -> String {
        Secret::parse(text).unwrap().v1("evt_1", &now.to_string(), BODY).unwrap()
    }

    #[test]
    fn every_secret_signs_in_its_order_until_its_time_is_over() {
        let ring = ring(vec![held(SECOND, None), held(FIRST, Some(1_000))], &[Scheme::Standard], &["webhook-"]);
        let both = |now| format!("{} {}", v1(SECOND, now), v1(FIRST, now));
        assert_eq!(signed(&ring, 999)["webhook-signature"], both(999));
        assert_eq!(signed(&ring, 1_000)["webhook-signature"], v1(SECOND, 1_000));
        assert_eq!(signed(&ring, 9_000_000)["webhook-signature"], v1(SECOND, 9_000_000));
        // A clock that is set back brings it back: what counts is the time that the message itself claims.
        assert_eq!(signed(&ring, 999)["webhook-signature"], both(999));
    }

    #[test]
    fn the_schemes_with_one_signature_take_the_last_secret_that_still_signs_so_that_an_old_one_has_its_grace() {
        let schemes = [Scheme::GitHub, Scheme::Orchest];
        let ring = ring(vec![held(FIRST, None), held("an old text of the seed", Some(10))], &schemes, &["webhook-"]);
        let hex = |text: &str| Secret::parse_text(text).unwrap().hex(BODY);
        let before = signed(&ring, 9);
        assert_eq!(before["x-hub-signature-256"], format!("sha256={}", hex("an old text of the seed")));
        assert_eq!(before["x-hub-signature"], hex("an old text of the seed"));
        assert!(!before.contains_key("webhook-signature") && before["webhook-id"] == "evt_1", "{before:?}");
        assert_eq!(signed(&ring, 10)["x-hub-signature"], hex(FIRST));
    }

    #[test]
    fn each_prefix_gets_the_whole_set_and_several_schemes_go_together() {
        let ring = ring(vec![held(FIRST, None)], &Scheme::ALL, &["webhook-", "svix-"]);
        let signed = signed(&ring, 5);
        for prefix in ["webhook-", "svix-"] {
            assert_eq!(signed[&format!("{prefix}id")], "evt_1");
            assert_eq!(signed[&format!("{prefix}timestamp")], "5");
            assert_eq!(signed[&format!("{prefix}signature")], v1(FIRST, 5));
        }
        assert_eq!(signed.len(), 8, "{signed:?}");
    }

    #[test]
    fn without_a_secret_nothing_is_signed_and_the_id_is_there_all_the_same() {
        let signed = signed(&ring(Vec::new(), &Scheme::ALL, &["webhook-"]), 5);
        assert_eq!(signed.keys().collect::<Vec<_>>(), ["webhook-id", "webhook-timestamp"]);
    }
}
