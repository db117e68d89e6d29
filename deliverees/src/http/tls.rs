//! TLS as deliveries use it: rustls with ring, the system's certificates, TLS 1.2 and 1.3, HTTP/1.1 by ALPN.

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use tokio_rustls::TlsConnector;
use url::Host;

/// The TLS settings, read when the first https endpoint is dialled: reading the certificates takes milliseconds.
pub(super) struct Tls {
    extra: Vec<CertificateDer<'static>>,
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// Settings that trust `extra` beside the system's authorities.
    pub(super) const fn new(extra: Vec<CertificateDer<'static>>) -> Self {
        Self { extra, config: OnceLock::new() }
    }

    /// What handshakes are made with.
    ///
    /// # Errors
    /// The words for why there can be none.
    pub(super) fn connector(&self) -> Result<TlsConnector, String> {
        let config = self.config.get_or_init(|| settings(&self.extra)).clone()?;
        Ok(TlsConnector::from(config))
    }
}

fn settings(extra: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some certificates of the system could not be read");
    }
    roots.add_parsable_certificates(extra.iter().cloned());
    let (good, bad) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(good, bad, "read the certificates of the system");
    if roots.is_empty() {
        tracing::warn!("there is no certificate of an authority: no https endpoint can be trusted");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The name that the endpoint's certificate must have.
pub(super) fn server_name(host: &Host<String>) -> Result<ServerName<'static>, String> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|e| e.to_string()),
        Host::Ipv4(v4) => Ok(ServerName::from(IpAddr::V4(*v4))),
        Host::Ipv6(v6) => Ok(ServerName::from(IpAddr::V6(*v6))),
    }
}
