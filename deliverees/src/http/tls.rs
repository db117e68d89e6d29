//! TLS as deliveries use it: rustls with ring, the system's authorities, TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1 by ALPN.
//!
//! One setting for each choice of whom to believe. What is wrong with a certificate is said in `certificate.rs`.

use super::Failure;
use super::certificate::Verifier;
use super::wire::Trust;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_rustls::TlsConnector;
use url::Host;

/// How many settings are kept ready; another is made again when it is needed, which takes less than a handshake.
const SETTINGS_MAX: usize = 64;
/// What is offered by ALPN, the best first.
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
/// How ALPN names HTTP/2.
pub(super) const HTTP_2: &[u8] = b"h2";

/// The TLS settings. The system's authorities are read when the first https endpoint is dialled: it takes milliseconds.
/// Where that fails, as without a descriptor left, it is our own fault, and they are read again at the next dial.
pub(super) struct Tls {
    extra: Vec<CertificateDer<'static>>,
    read: fn() -> Found,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    roots: Option<RootCertStore>,
    usual: Option<Arc<ClientConfig>>,
    others: HashMap<[u8; 32], Arc<ClientConfig>>,
}

/// What the system has: certificates of authorities, and why others could not be read.
type Found = (Vec<CertificateDer<'static>>, Vec<String>);

impl Tls {
    /// Settings that trust `extra` beside the system's authorities.
    pub(super) fn new(extra: Vec<CertificateDer<'static>>) -> Self {
        Self { extra, read: system, kept: Mutex::default() }
    }

    /// What handshakes are made with.
    ///
    /// # Errors
    /// [`Failure::Authorities`], which is ours, where those of the system can not be read, and [`Failure::Tls`] where
    /// nothing can be made of them.
    pub(super) fn connector(&self, trust: Option<&Trust>) -> Result<TlsConnector, Failure> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match trust {
            None => kept.usual.as_ref(),
            Some(trust) => kept.others.get(&trust.key()),
        };
        if let Some(config) = known {
            return Ok(TlsConnector::from(Arc::clone(config)));
        }
        let roots = match &kept.roots {
            Some(roots) => roots.clone(),
            None => kept.roots.insert(self.roots()?).clone(),
        };
        let config = settings(roots, trust).map_err(Failure::Tls)?;
        match trust {
            None => kept.usual = Some(Arc::clone(&config)),
            Some(trust) => {
                if kept.others.len() >= SETTINGS_MAX {
                    // Connections that were made with one go on without it.
                    kept.others.clear();
                }
                kept.others.insert(trust.key(), Arc::clone(&config));
            }
        }
        Ok(TlsConnector::from(config))
    }

    /// Whom everybody believes.
    fn roots(&self) -> Result<RootCertStore, Failure> {
        let (found, errors) = (self.read)();
        if found.is_empty()
            && let Some(error) = errors.first()
        {
            return Err(Failure::Authorities(format!("the system's authorities can not be read: {error}")));
        }
        for error in &errors {
            tracing::warn!(%error, "some certificates of the system could not be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.extra.iter().cloned());
        let (good, bad) = roots.add_parsable_certificates(found);
        tracing::debug!(good, bad, "read the certificates of the system");
        if roots.is_empty() {
            tracing::warn!(
                "there is no certificate of an authority: no https endpoint is trusted without one of its own"
            );
        }
        Ok(roots)
    }
}

fn settings(mut roots: RootCertStore, trust: Option<&Trust>) -> Result<Arc<ClientConfig>, String> {
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

fn system() -> Found {
    let found = rustls_native_certs::load_native_certs();
    (found.certs, found.errors.iter().map(ToString::to_string).collect())
}

/// The name that the endpoint's certificate must have.
pub(super) fn server_name(host: &Host<String>) -> Result<ServerName<'static>, String> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|e| e.to_string()),
        Host::Ipv4(v4) => Ok(ServerName::from(IpAddr::V4(*v4))),
        Host::Ipv6(v6) => Ok(ServerName::from(IpAddr::V6(*v6))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn authorities_that_could_not_be_read_are_ours_and_read_again() {
        static READ: AtomicUsize = AtomicUsize::new(0);
        let read: fn() -> Found = || match READ.fetch_add(1, Ordering::SeqCst) {
            0 => (Vec::new(), vec!["too many open files".to_owned()]),
            // One that has none says nothing of an error.
            _ => Found::default(),
        };
        let tls = Tls { read, ..Tls::new(Vec::new()) };
        let failure = tls.connector(None).err().unwrap();
        assert_eq!(failure.to_string(), "tls: the system's authorities can not be read: too many open files");
        assert!(failure.is_ours());
        assert!(tls.connector(None).is_ok() && tls.connector(None).is_ok());
        assert_eq!(READ.load(Ordering::SeqCst), 2);
    }
}
