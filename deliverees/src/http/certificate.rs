//! Judges the certificates of endpoints, and says what is wrong with one so that whoever runs the endpoint can act.
//!
//! The judgement is rustls' own; added is only which of those that nobody trusted signed themselves. Revocation is not
//! asked for: no list and no responder is fetched.

use posthaste_events::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use std::fmt;
use std::io;
use std::sync::Arc;

/// How many of the names in a certificate are told.
const NAMES_TOLD_MAX: usize = 4;

/// The last second of the year 9999, where dates of certificates end.
const LAST_SECOND: u64 = 253_402_300_799;

/// Judges certificates for one choice of whom to believe.
pub(super) struct Verifier {
    judge: Judge,
    provider: Arc<CryptoProvider>,
}

enum Judge {
    Authorities(Arc<WebPkiServerVerifier>),
    /// There is no authority at all.
    Nobody,
    /// `dangerous_accept_invalid_certificates`.
    Anybody,
}

impl Verifier {
    /// Believes what these authorities signed.
    ///
    /// # Errors
    /// The words for why that can not be.
    pub(super) fn of(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let judge = if roots.is_empty() {
            Judge::Nobody
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Judge::Authorities(builder.build().map_err(|e| e.to_string())?)
        };
        Ok(Self { judge, provider: Arc::clone(provider) })
    }

    /// Believes whatever is shown; whoever shows it must have its key all the same.
    pub(super) fn anybody(provider: &Arc<CryptoProvider>) -> Self {
        Self { judge: Judge::Anybody, provider: Arc::clone(provider) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = match &self.judge {
            Judge::Anybody => return Ok(ServerCertVerified::assertion()),
            Judge::Nobody => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            Judge::Authorities(judge) => {
                judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
        };
        judged.map_err(|error| match error {
            // An authority's own certificate that an endpoint shows is told as something else by the library.
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_))
                if is_self_signed(end_entity) =>
            {
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(SelfSigned))))
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// A certificate that no authority signed.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is self-signed, and not trusted")]
struct SelfSigned;

/// What went wrong in a handshake.
pub(super) fn words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(error)) => certificate(error),
        Some(Error::AlertReceived(alert)) => format!("the endpoint ended the handshake: {alert:?}"),
        Some(Error::NoCertificatesPresented) => "the endpoint showed no certificate".to_owned(),
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    let day = |at: &UnixTime| {
        let seconds = i64::try_from(at.as_secs().min(LAST_SECOND)).unwrap_or(0);
        Timestamp::from_millis(seconds * 1_000).to_string()
    };
    match error {
        CertificateError::Expired => "the certificate expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("the certificate expired at {}", day(not_after)),
        CertificateError::NotValidYet => "the certificate is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", day(not_before))
        }
        CertificateError::Revoked => "the certificate was revoked".to_owned(),
        CertificateError::UnknownIssuer => "the certificate is from an authority that is not trusted".to_owned(),
        CertificateError::NotValidForName => "the certificate is for another host".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            // The library writes each as `DnsName("a.example")`.
            let plain = |name: &'_ String| name.split('"').nth(1).unwrap_or(name).to_owned();
            let mut names: Vec<String> = presented.iter().take(NAMES_TOLD_MAX).map(plain).collect();
            names.extend((presented.len() > NAMES_TOLD_MAX).then(|| "…".to_owned()));
            let names = if names.is_empty() { "no host".to_owned() } else { names.join(", ") };
            format!("the certificate is for another host: not for {}, but {names}", expected.to_str())
        }
        // As from an unknown authority that has the name of a trusted one.
        CertificateError::BadSignature => {
            "the certificate is not signed by the authority that it names, or by one of that name that is not trusted"
                .to_owned()
        }
        CertificateError::Other(OtherError(other)) => other.to_string(),
        error => format!("the certificate is not accepted: {error}"),
    }
}

/// Whether a certificate names itself as who issued it (RFC 5280 section 4.1). What is not read as one is not.
fn is_self_signed(der: &[u8]) -> bool {
    issuer_and_subject(der).is_some_and(|(issuer, subject)| issuer == subject)
}

/// The two names of a certificate: `tbsCertificate` begins with version, serial, algorithm, issuer, validity, subject.
fn issuer_and_subject(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    let (tag, _, after) = element(rest)?;
    // The version is written only where it is not the first one.
    if tag == 0xa0 {
        rest = after;
    }
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (_, issuer, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (_, subject, _) = element(rest)?;
    Some((issuer, subject))
}

/// The first element of DER: its tag, what is in it, what comes after.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let digits = usize::from(first & 0x7f);
        // More is no certificate that a handshake has room for.
        let (length, rest) = rest.split_at_checked(digits).filter(|_| digits <= 4)?;
        (length.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length).map(|(inside, after)| (tag, inside, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, Issuer, KeyPair};

    #[test]
    fn who_signed_itself_is_told_from_who_did_not() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let own = params.self_signed(&key).unwrap();
        assert!(is_self_signed(own.der()));
        let mut of_authority = CertificateParams::new(vec![]).unwrap();
        of_authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let issuer = Issuer::from_params(&of_authority, &key);
        let signed = params.signed_by(&key, &issuer).unwrap();
        assert!(!is_self_signed(signed.der()));
    }

    #[test]
    fn what_is_no_certificate_is_read_without_harm() {
        let key = KeyPair::generate().unwrap();
        let der = CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().der().to_vec();
        for end in 0..60 {
            assert!(!is_self_signed(&der[..end]));
        }
        for text in [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..], &[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1], b"x", b""] {
            assert!(!is_self_signed(text));
        }
    }
}
