//! TLS as deliveries use it: rustls with ring, the system's authorities, TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1 by ALPN.
//!
//! One setting for each choice of whom to believe. What is wrong with a certificate is said in `certificate.rs`.

use super::certificate::Verifier;
use super::wire::Trust;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio_rustls::TlsConnector;
use url::Host;

/// How many settings are kept ready; another is made again when it is needed, which takes less than a handshake.
const SETTINGS_MAX: usize = 64;
/// What is offered by ALPN, the best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
/// How ALPN names HTTP/2.
pub(super) const HTTP_2: &[u8] = b"h2";

/// The TLS settings. The system's authorities are read when the first https endpoint is dialled: it takes milliseconds.
pub(super) struct Tls {
    extra: Vec<CertificateDer<'static>>,
    roots: OnceLock<RootCertStore>,
    usual: OnceLock<Result<Arc<ClientConfig>, String>>,
    others: Mutex<HashMap<[u8; 32], Arc<ClientConfig>>>,
}

impl Tls {
    /// Settings that trust `extra` beside the system's authorities.
    pub(super) fn new(extra: Vec<CertificateDer<'static>>) -> Self {
        Self { extra, roots: OnceLock::new(), usual: OnceLock::new(), others: Mutex::default() }
    }

    /// What handshakes are made with.
    ///
    /// # Errors
    /// The words for why there can be none.
    pub(super) fn connector(&self, trust: Option<&Trust>) -> Result<TlsConnector, String> {
        let config = match trust {
            None => self.usual.get_or_init(|| self.settings(None)).clone()?,
            Some(trust) => self.other(trust)?,
        };
        Ok(TlsConnector::from(config))
    }

    fn other(&self, trust: &Trust) -> Result<Arc<ClientConfig>, String> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = others.get(&trust.key()) {
            return Ok(Arc::clone(config));
        }
        let config = self.settings(Some(trust))?;
        if others.len() >= SETTINGS_MAX {
            // Connections that were made with one go on without it.
            others.clear();
        }
        others.insert(trust.key(), Arc::clone(&config));
        Ok(config)
    }

    fn settings(&self, trust: Option<&Trust>) -> Result<Arc<ClientConfig>, String> {
        let mut roots = self.roots.get_or_init(|| system(&self.extra)).clone();
        let provider = Arc::new(ring::default_provider());
        let verifier = match trust {
            Some(trust) if trust.is_anybody() => {
                tracing::warn!(
                    "a subscription has dangerous_accept_invalid_certificates: whoever is in between can read it"
                );
                Verifier::anybody(&provider)
            }
            Some(trust) => {
                roots.add_parsable_certificates(trust.authorities().iter().cloned());
                Verifier::of(roots, &provider)?
            }
            None => Verifier::of(roots, &provider)?,
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}

fn system(extra: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some certificates of the system could not be read");
    }
    roots.add_parsable_certificates(extra.iter().cloned());
    let (good, bad) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(good, bad, "read the certificates of the system");
    if roots.is_empty() {
        tracing::warn!("there is no certificate of an authority: no https endpoint is trusted without one of its own");
    }
    roots
}

/// The name that the endpoint's certificate must have.
pub(super) fn server_name(host: &Host<String>) -> Result<ServerName<'static>, String> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|e| e.to_string()),
        Host::Ipv4(v4) => Ok(ServerName::from(IpAddr::V4(*v4))),
        Host::Ipv6(v6) => Ok(ServerName::from(IpAddr::V6(*v6))),
    }
}
