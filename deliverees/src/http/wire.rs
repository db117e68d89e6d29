//! How an endpoint is reached: its deadlines on the way, and whose certificates it is believed.

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// How an endpoint is reached, beside the time that the whole exchange may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// How long the name, the connection and the TLS handshake may take together. Default 5 s.
    pub connect_timeout: Duration,
    /// How long the head of the answer may take once the request begins to be sent; `None`, the default: no bound of its own.
    pub first_byte_timeout: Option<Duration>,
    /// Whose certificates are believed; `None`, the default: what the system's authorities signed.
    pub trust: Option<Arc<Trust>>,
}

/// How long a connection may take where nothing is said.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Default for Wire {
    fn default() -> Self {
        Self { connect_timeout: CONNECT_TIMEOUT, first_byte_timeout: None, trust: None }
    }
}

/// Whose certificates are believed, where it is not the system's authorities alone. Two that say the same are the same:
/// connections are shared among those, and among no others.
pub struct Trust {
    key: [u8; 32],
    authorities: Vec<CertificateDer<'static>>,
    anybody: bool,
}

impl Trust {
    /// Believes what these authorities signed, beside the system's.
    #[must_use]
    pub fn beside(authorities: Vec<CertificateDer<'static>>) -> Self {
        Self::of(authorities, false)
    }

    /// Believes any certificate: whoever can stand in between can read and change what is sent.
    #[must_use]
    pub fn anybody() -> Self {
        Self::of(Vec::new(), true)
    }

    fn of(authorities: Vec<CertificateDer<'static>>, anybody: bool) -> Self {
        let mut hash = Sha256::new();
        hash.update([u8::from(anybody)]);
        for der in &authorities {
            hash.update(u64::try_from(der.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(der);
        }
        Self { key: hash.finalize().into(), authorities, anybody }
    }

    pub(super) fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// Whether it believes any certificate.
    #[must_use]
    pub const fn is_anybody(&self) -> bool {
        self.anybody
    }

    pub(super) const fn key(&self) -> [u8; 32] {
        self.key
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Trust {}

impl Hash for Trust {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("authorities", &self.authorities.len())
            .field("anybody", &self.anybody)
            .finish_non_exhaustive()
    }
}
