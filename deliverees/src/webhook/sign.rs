//! Signs and verifies with one secret: `v1` of Standard Webhooks 1.0.0 (HMAC-SHA256 over `{id}.{timestamp}.{body}`), and
//! the HMAC-SHA256 over the body alone that GitHub and Orchest send.
//!
//! Which secrets sign when, and under which headers, is decided in `keyring.rs`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;

/// What a secret begins with.
pub const SECRET_PREFIX: &str = "whsec_";
/// How many bytes a secret has at least and at most.
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How far the timestamp of a message may be from the receiver's clock, in seconds, the end included.
pub const TOLERANCE_SECONDS: u64 = 300;

/// Standard base64, padded or not, as the libraries of receivers read it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How many bytes a secret has that is any text, at least and at most.
pub const TEXT_BYTES: std::ops::RangeInclusive<usize> = 16..=256;
/// How many random bytes a secret has that is made by us.
pub const FRESH_BYTES: usize = 24;

/// A secret that messages are signed with. It is never shown. The hash's state after the key is made once, so that an
/// attempt pays for its message only.
#[derive(Clone)]
pub struct Secret {
    /// Under the bytes that the base64 stands for; `None` where the text is no `whsec_…`.
    standard: Option<Hmac<Sha256>>,
    /// Under the bytes of the text itself, as the other schemes do it.
    text: Hmac<Sha256>,
}

/// Why a text is not a secret. No variant shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotASecret {
    /// It does not begin with `whsec_`.
    #[error("does not begin with whsec_")]
    Prefix,
    /// What follows is not base64.
    #[error("is not base64 after whsec_")]
    Base64,
    /// It is too short or too long.
    #[error("has {0} bytes, not 24 to 64")]
    Length(usize),
    /// A text that is too short or too long.
    #[error("has {0} bytes, not 16 to 256")]
    TextLength(usize),
}

/// A new secret of these random bytes, as it is written; they must come from a source that is fit for secrets.
#[must_use]
pub fn fresh(random: [u8; FRESH_BYTES]) -> String {
    let mut text = SECRET_PREFIX.to_owned();
    BASE64.encode_string(random, &mut text);
    text
}

impl Secret {
    /// Reads a secret: `whsec_` and the base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// [`NotASecret`] says why not.
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(NotASecret::Prefix)?;
        let bytes = BASE64.decode(encoded).map_err(|_| NotASecret::Base64)?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(NotASecret::Length(bytes.len()));
        }
        Ok(Self { standard: Some(keyed(&bytes)), ..Self::of(text) })
    }

    /// Reads a secret for the schemes that take any text: 16 to 256 bytes. Where it is a `whsec_…`, it serves the standard
    /// scheme too.
    ///
    /// # Errors
    /// [`NotASecret`] says why not.
    pub fn parse_text(text: &str) -> Result<Self, NotASecret> {
        if !TEXT_BYTES.contains(&text.len()) {
            return Err(NotASecret::TextLength(text.len()));
        }
        Ok(Self::parse(text).unwrap_or_else(|_| Self::of(text)))
    }

    fn of(text: &str) -> Self {
        Self { standard: None, text: keyed(text.as_bytes()) }
    }

    /// One entry of `webhook-signature`; `None` where the secret is no `whsec_…`.
    #[must_use]
    pub fn v1(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
        let mut entry = String::with_capacity(48);
        entry.push_str("v1,");
        BASE64.encode_string(self.mac(id, timestamp, body)?.finalize().into_bytes(), &mut entry);
        Some(entry)
    }

    /// The HMAC-SHA256 over the body alone under the bytes of the text, in small hexadecimal digits.
    #[must_use]
    pub fn hex(&self, body: &[u8]) -> String {
        let mut mac = self.text.clone();
        mac.update(body);
        let digits = b"0123456789abcdef";
        let digit = |bits: u8| char::from(digits[usize::from(bits)]);
        mac.finalize().into_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// Whether this is [`Secret::hex`] of the body; compared in constant time.
    #[must_use]
    pub fn verify_hex(&self, body: &[u8], hex: &str) -> bool {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let bytes: Option<Vec<u8>> = match hex.len() % 2 {
            0 => hex.as_bytes().chunks(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect(),
            _ => None,
        };
        let mut mac = self.text.clone();
        mac.update(body);
        bytes.is_some_and(|bytes| mac.verify_slice(&bytes).is_ok())
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = self.standard.clone()?;
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        Some(mac)
    }
}

#[expect(clippy::expect_used, reason = "RFC 2104 takes a key of any length, and so does the implementation")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("an HMAC takes any key")
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a receiver says of a message that it should not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// One of `webhook-id`, `webhook-timestamp` and `webhook-signature` is missing.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The timestamp is not whole seconds.
    #[error("webhook-timestamp is not whole seconds since 1970")]
    NotATime,
    /// The timestamp is too far from now.
    #[error("webhook-timestamp is more than 300 s from now")]
    TooFar,
    /// No signature is one of this secret over these bytes.
    #[error("no signature in webhook-signature is one of this secret over these bytes")]
    Wrong,
}

/// A message as a receiver sees it: three headers and the body as it came.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// `webhook-id`.
    pub id: Option<&'a str>,
    /// `webhook-timestamp`.
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`.
    pub signature: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

impl Received<'_> {
    /// Judges the message as a receiver must; `now` in seconds since 1970. Compares in constant time.
    ///
    /// # Errors
    /// [`Unverified`] says what is wrong with it.
    pub fn verify(&self, secret: &Secret, now: i64) -> Result<(), Unverified> {
        let present = |value: Option<_>, name| value.ok_or(Unverified::Missing(name));
        let id: &str = present(self.id.filter(|id| !id.is_empty()), "webhook-id")?;
        let timestamp: &str = present(self.timestamp, "webhook-timestamp")?;
        let signatures: &str = present(self.signature, "webhook-signature")?;
        let at: i64 = timestamp.parse().map_err(|_| Unverified::NotATime)?;
        if at.abs_diff(now) > TOLERANCE_SECONDS {
            return Err(Unverified::TooFar);
        }
        let right =
            signatures.split(' ').filter_map(|entry| BASE64.decode(entry.strip_prefix("v1,")?).ok()).any(|signature| {
                secret.mac(id, timestamp, self.body).is_some_and(|mac| mac.verify_slice(&signature).is_ok())
            });
        if right { Ok(()) } else { Err(Unverified::Wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET_A: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID_A: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT_A: i64 = 1_614_265_330;
    const BODY_A: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNED_A: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const SECRET_B: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID_B: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
    const AT_B: i64 = 1_649_367_553;
    const BODY_B: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    const SIGNED_B: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

    fn secret(text: &str) -> Secret {
        Secret::parse(text).unwrap()
    }

    fn v1(text: &str, id: &str, at: i64, body: &[u8]) -> String {
        secret(text).v1(id, &at.to_string(), body).unwrap()
    }

    fn verify_b(signature: &str, now: i64) -> Result<(), Unverified> {
        let at = AT_B.to_string();
        let received = Received { id: Some(ID_B), timestamp: Some(&at), signature: Some(signature), body: BODY_B };
        received.verify(&secret(SECRET_B), now)
    }

    #[test]
    fn the_published_vectors_are_signed_as_published() {
        assert_eq!(v1(SECRET_A, ID_A, AT_A, BODY_A), SIGNED_A);
        assert_eq!(v1(SECRET_B, ID_B, AT_B, BODY_B), SIGNED_B);
    }

    #[test]
    fn the_hmac_of_the_body_alone_is_the_published_one_and_every_byte_counts() {
        // The example of GitHub's page on validating webhook deliveries.
        let (secret, body) = (Secret::parse_text("It's a Secret to Everybody").unwrap(), b"Hello, World!");
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(secret.hex(body), hex);
        assert!(secret.verify_hex(body, hex) && secret.verify_hex(body, &hex.to_uppercase()));
        for wrong in ["", "7", "75", &hex[..63], &hex[..62], &format!("{hex}00"), &hex.replace('e', "g")] {
            assert!(!secret.verify_hex(body, wrong), "{wrong}");
        }
        assert!(!secret.verify_hex(b"Hello, World!\n", hex));
        assert!(!Secret::parse_text("It's a Secret to everybody").unwrap().verify_hex(body, hex));
    }

    #[test]
    fn a_secret_of_any_text_signs_nothing_of_the_standard() {
        assert_eq!(Secret::parse_text("It's a Secret to Everybody").unwrap().v1(ID_A, "1", BODY_A), None);
        let both = Secret::parse_text(SECRET_A).unwrap();
        assert_eq!(both.v1(ID_A, &AT_A.to_string(), BODY_A).as_deref(), Some(SIGNED_A));
        for (text, good) in [(15, false), (16, true), (256, true), (257, false), (0, false)] {
            let found = Secret::parse_text(&"k".repeat(text)).err();
            assert_eq!(found, (!good).then_some(NotASecret::TextLength(text)), "{text}");
        }
    }

    #[test]
    fn a_fresh_secret_is_its_24_bytes() {
        let random = std::array::from_fn(|i| u8::try_from(i * 7).unwrap());
        let text = fresh(random);
        assert_eq!(BASE64.decode(text.strip_prefix("whsec_").unwrap()).unwrap(), random);
        assert!(text.len() == 38 && Secret::parse(&text).is_ok());
    }

    #[test]
    fn wrong_signatures_are_refused_and_a_right_one_is_found_among_decoys() {
        let decoys = "v1,tFtCZ5RDCPxzWQRWXWPgrCgE2frDBe9gjpbWQxnVfsQ= v1,Mm7xgUVICxZfQ3bgf0h0Dof65L/IFx+PnZvnDWPCX6Q= \
            v1a,9DfC1c3eeOrXB6w/5dIDydLNQaEyww5KalE5jLBZucE= v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=";
        for wrong in [
            "v1,R3PTzyfHASBKHH98a7yexTwaJ4yNIcGhFQc1yuN+BPU=",
            "v1,",
            "v1,tZ1I4/hD",
            "",
            "v2,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            decoys,
        ] {
            assert_eq!(verify_b(wrong, AT_B), Err(Unverified::Wrong), "{wrong}");
        }
        assert_eq!(verify_b(&format!("{decoys} {SIGNED_B}"), AT_B), Ok(()));
    }

    #[test]
    fn the_time_may_be_300_seconds_off_and_no_more() {
        for (now, expected) in [
            (AT_B + 300, Ok(())),
            (AT_B - 300, Ok(())),
            (AT_B + 301, Err(Unverified::TooFar)),
            (AT_B - 301, Err(Unverified::TooFar)),
        ] {
            assert_eq!(verify_b(SIGNED_B, now), expected);
        }
    }

    #[test]
    fn a_missing_header_or_a_changed_part_is_refused() {
        let at = AT_B.to_string();
        let whole = Received { id: Some(ID_B), timestamp: Some(&at), signature: Some(SIGNED_B), body: BODY_B };
        let verify = |received: Received<'_>| received.verify(&secret(SECRET_B), AT_B);
        assert_eq!(verify(whole), Ok(()));
        assert_eq!(verify(Received { id: None, ..whole }), Err(Unverified::Missing("webhook-id")));
        assert_eq!(verify(Received { timestamp: None, ..whole }), Err(Unverified::Missing("webhook-timestamp")));
        assert_eq!(verify(Received { signature: None, ..whole }), Err(Unverified::Missing("webhook-signature")));
        assert_eq!(verify(Received { timestamp: Some("soon"), ..whole }), Err(Unverified::NotATime));
        assert_eq!(verify(Received { id: Some("msg_other"), ..whole }), Err(Unverified::Wrong));
        assert_eq!(verify(Received { timestamp: Some("1649367554"), ..whole }), Err(Unverified::Wrong));
        assert_eq!(verify(Received { body: b"{}", ..whole }), Err(Unverified::Wrong));
    }

    #[test]
    fn only_secrets_of_24_to_64_bytes_are_read() {
        let of = |n: usize| format!("whsec_{}", BASE64.encode(vec![7; n]));
        assert!(
            Secret::parse(&of(24)).is_ok()
                && Secret::parse(&of(64)).is_ok()
                && Secret::parse(of(25).trim_end_matches('=')).is_ok()
        );
        for (text, error) in [
            (of(23), NotASecret::Length(23)),
            (of(65), NotASecret::Length(65)),
            ("whsec_".into(), NotASecret::Length(0)),
            (String::new(), NotASecret::Prefix),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), NotASecret::Prefix),
            ("whsec_!!!!not*base64!!!!!!!!!!!!!!!!!!!".into(), NotASecret::Base64),
            (format!("{SECRET_A}\n"), NotASecret::Base64),
        ] {
            assert_eq!(Secret::parse(&text).err(), Some(error), "{text}");
        }
    }
}
