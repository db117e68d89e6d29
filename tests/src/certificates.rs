//! Certificates for a test: an authority of its own, and what it certifies, well or wrongly.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use std::sync::Arc;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Somebody who certifies servers, whom nobody trusts by default.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate chain and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    /// The chain as PEM, as a file of a web server has it.
    pub chain_pem: String,
    /// The key as PEM.
    pub key_pem: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// Where no key can be made.
    pub fn new() -> Result<Self> {
        Self::named("An authority of a test")
    }

    /// A new one of that name: certificates name who issued them.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn named(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate as PEM, for who is to trust it.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certifies a server of these names or addresses.
    ///
    /// # Errors
    /// Where one of them is none.
    pub fn certify(&self, names: &[&str]) -> Result<Identity> {
        self.sign(params(names)?)
    }

    /// Certifies a server of these names whose time was over years ago.
    ///
    /// # Errors
    /// As [`Authority::certify`].
    pub fn certify_expired(&self, names: &[&str]) -> Result<Identity> {
        let mut params = params(names)?;
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Identity::of(&certificate, &key))
    }
}

impl Identity {
    /// A certificate for these names that only it itself vouches for.
    ///
    /// # Errors
    /// As [`Authority::certify`].
    pub fn self_signed(names: &[&str]) -> Result<Self> {
        let key = KeyPair::generate()?;
        Ok(Self::of(&params(names)?.self_signed(&key)?, &key))
    }

    fn of(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            chain: vec![certificate.der().clone()],
            key: key.serialize_der(),
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// What a TLS server needs, which speaks these protocols by ALPN.
    ///
    /// # Errors
    /// Where certificate and key do not belong together.
    pub fn server(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let builder =
            ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(self.chain.clone(), key)?;
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn params(names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Ok(CertificateParams::new(names)?)
}
