//! Seals what is secret of a subscription that the outbox keeps.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) under a key that is derived from the installation's by HMAC-SHA256 with
//! a label of its own, so that no other use of that key meets this one. The nonce is random, which its 24 bytes allow. The
//! subscription's name and the format's version are authenticated with it: what is sealed for one opens for no other.

use crate::clock::SystemRandom;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use posthaste_events::installation::SECRET_BYTES;
use sha2::Sha256;
use std::fmt;
use std::fmt::Write as _;

/// How long a nonce is, in bytes.
const NONCE_BYTES: usize = 24;
/// What the keys are derived for.
const LABEL: &[u8] = b"posthaste: subscriptions at rest, 1";
/// What the mark of a key is derived for.
const MARK_LABEL: &[u8] = b"posthaste: which key, 1";
/// What the key of marks of receivers is derived for.
const RECEIVER_LABEL: &[u8] = b"posthaste: which receiver, 1";

/// Keys that seal and open.
pub(crate) struct Vault {
    current: Sealer,
    previous: Vec<Sealer>,
}

struct Sealer {
    cipher: XChaCha20Poly1305,
    mark: String,
    /// What marks of what is sealed are made with.
    marking: [u8; SECRET_BYTES],
}

/// Why something cannot be opened; it shows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOpened {
    #[error("its secrets are sealed under a key that is not here (encryption_key)")]
    KeyLost,
    #[error("its secrets are damaged")]
    Damaged,
}

impl Vault {
    /// A vault that seals under `key`, and opens what `previous` sealed too.
    pub(crate) fn new(key: &[u8; SECRET_BYTES], previous: &[[u8; SECRET_BYTES]]) -> Self {
        Self { current: Sealer::new(key), previous: previous.iter().map(Sealer::new).collect() }
    }

    /// The mark of the key that seals: it tells which key is needed, and nothing of the key.
    pub(crate) fn mark(&self) -> &str {
        &self.current.mark
    }

    /// Whether there is the key of this mark.
    pub(crate) fn has(&self, mark: &str) -> bool {
        self.sealer(mark).is_some()
    }

    /// Whether there is a previous key.
    pub(crate) const fn opens_others(&self) -> bool {
        !self.previous.is_empty()
    }

    /// Seals for the subscription of this name.
    pub(crate) fn seal(&self, name: &str, secret: &[u8], random: SystemRandom) -> String {
        let mut nonce = [0; NONCE_BYTES];
        fill(&mut nonce, random);
        let payload = Payload { msg: secret, aad: &associated(name) };
        // It fails only for what is longer than 256 GiB; sealed as nothing it is found damaged.
        let sealed = self.current.cipher.encrypt(XNonce::from_slice(&nonce), payload).unwrap_or_default();
        STANDARD.encode([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed under the key of `mark` for the subscription of this name.
    pub(crate) fn open(&self, name: &str, mark: &str, sealed: &str) -> Result<Vec<u8>, NotOpened> {
        let sealer = self.sealer(mark).ok_or(NotOpened::KeyLost)?;
        let bytes = STANDARD.decode(sealed).map_err(|_| NotOpened::Damaged)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or(NotOpened::Damaged)?;
        let payload = Payload { msg: sealed, aad: &associated(name) };
        sealer.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| NotOpened::Damaged)
    }

    /// A mark of something secret of the subscription of this name: the same for the same, as long as the key is.
    pub(crate) fn mark_of(&self, name: &str, secret: &[u8]) -> String {
        let mut mac = keyed(&self.current.marking);
        mac.update(&associated(name));
        mac.update(b"\0");
        mac.update(secret);
        STANDARD.encode(mac.finalize().into_bytes())
    }

    fn sealer(&self, mark: &str) -> Option<&Sealer> {
        std::iter::once(&self.current).chain(&self.previous).find(|s| s.mark == mark)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Sealer {
    fn new(key: &[u8; SECRET_BYTES]) -> Self {
        let cipher = XChaCha20Poly1305::new(Key::from_slice(&derived(key, LABEL)));
        let mark = derived(key, MARK_LABEL).iter().take(4).fold(String::new(), |mut mark, byte| {
            // Writing to a string does not fail.
            let _ = write!(mark, "{byte:02x}");
            mark
        });
        Self { cipher, mark, marking: derived(key, RECEIVER_LABEL) }
    }
}

fn derived(key: &[u8; SECRET_BYTES], label: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(label);
    mac.finalize().into_bytes().into()
}

fn keyed(key: &[u8; SECRET_BYTES]) -> Hmac<Sha256> {
    // A key that is shorter than a block is filled up with zeros (RFC 2104 section 2), which cannot fail here.
    let mut block = [0; 64];
    block[..SECRET_BYTES].copy_from_slice(key);
    <Hmac<Sha256> as Mac>::new(&block.into())
}

fn associated(name: &str) -> Vec<u8> {
    [b"posthaste subscription 1\0", name.as_bytes()].concat()
}

/// Fills with random bytes of the system's own, and of nothing else: they become nonces and secrets.
pub(crate) fn fill(bytes: &mut [u8], random: SystemRandom) {
    random.fill(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; SECRET_BYTES] = [1; SECRET_BYTES];
    const NEW: [u8; SECRET_BYTES] = [2; SECRET_BYTES];

    #[test]
    fn what_is_sealed_opens_for_its_name_alone_and_is_never_the_same_twice() {
        let vault = Vault::new(&OLD, &[]);
        let (first, second) = (vault.seal("ops", b"canary", SystemRandom), vault.seal("ops", b"canary", SystemRandom));
        assert_ne!(first, second);
        assert_eq!(vault.open("ops", vault.mark(), &first).unwrap(), b"canary");
        assert_eq!(vault.open("opt", vault.mark(), &first), Err(NotOpened::Damaged));
        assert!(!String::from_utf8_lossy(&STANDARD.decode(first).unwrap()).contains("canary"));
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let vault = Vault::new(&OLD, &[]);
        let sealed = STANDARD.decode(vault.seal("ops", b"canary", SystemRandom)).unwrap();
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert_eq!(vault.open("ops", vault.mark(), &STANDARD.encode(bad)), Err(NotOpened::Damaged), "{at}");
        }
        for bad in ["", "!", "AAAA"] {
            assert_eq!(vault.open("ops", vault.mark(), bad), Err(NotOpened::Damaged), "{bad}");
        }
    }

    #[test]
    fn a_previous_key_opens_what_it_sealed_and_a_lost_one_is_named_so() {
        let old = Vault::new(&OLD, &[]);
        let sealed = old.seal("ops", b"canary", SystemRandom);
        let both = Vault::new(&NEW, &[OLD]);
        assert_eq!(both.open("ops", old.mark(), &sealed).unwrap(), b"canary");
        assert_ne!(both.mark(), old.mark());
        let new = Vault::new(&NEW, &[]);
        assert_eq!(new.open("ops", old.mark(), &sealed), Err(NotOpened::KeyLost));
        assert_eq!(new.open("ops", new.mark(), &sealed), Err(NotOpened::Damaged), "another key opens nothing");
    }
}
