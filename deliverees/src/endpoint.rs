//! The options of an HTTP endpoint, which every kind that posts reads in the same way: URL, how it is reached, headers,
//! timeout.
//!
//! What the kind itself sends is not known here, only which headers nobody may replace.

use crate::guard::Guard;
use crate::http::{CONNECT_TIMEOUT, Target, TargetError, Trust, Wire};
use crate::options::{Problem, Span};
use hyper::header::{HeaderName, HeaderValue};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How many headers of its own an endpoint may have.
const HEADERS_MAX: usize = 32;
/// How long a header's name or value may be, in bytes.
const HEADER_BYTES_MAX: usize = 4_096;
/// How long an attempt may take where nothing is said.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);
/// How long an attempt may take at most.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Reads how long an attempt may take.
pub(crate) fn timeout(written: Option<Span>, problems: &mut Vec<Problem>) -> Duration {
    let timeout = written.map_or(TIMEOUT, |span| span.0);
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        let what = format!("timeout = \"{}\" is not between 1ms and {}", Span(timeout), Span(TIMEOUT_MAX));
        problems.push(Problem::new("timeout", what, "write a duration such as \"15s\""));
    }
    timeout
}

/// Reads a URL; a host that is written as an address is judged by the guard.
pub(crate) fn target(url: &str, https_only: bool, guard: &Guard, problems: &mut Vec<Problem>) -> Option<Target> {
    let target = match Target::parse(url) {
        Ok(target) => target,
        Err(error) => {
            let hint = match error {
                TargetError::Userinfo => {
                    "take user and password out: a webhook sends them with auth = { basic = { user = \"…\", password = \
                     \"env:NAME\" } }, analytics with headers = { authorization = \"env:NAME\" }"
                }
                TargetError::Fragment => "leave the fragment out, it is never sent",
                _ => "write an absolute URL such as https://ops.example.com/hooks",
            };
            problems.push(Problem::new("url", format!("url {error}"), hint));
            return None;
        }
    };
    if https_only && !target.is_https() {
        let what = format!("url = {:?} is not https, yet https_only is true", target.shown());
        problems.push(Problem::new("url", what, "use an https URL, or leave https_only out"));
    }
    if let Some(refused) = target.literal().and_then(|address| guard.check(address).err()) {
        let what = format!("url = {:?}: {refused}, which is refused", target.shown());
        let hint = "use a public address, or open its network in [network] allow_networks";
        problems.push(Problem::new("url", what, hint));
    }
    if let Err(refused) = guard.check_port(target.port()) {
        let what = format!("url = {:?}: the port {refused}, so it is refused", target.shown());
        problems.push(Problem::new("url", what, "use one of those, or add it to [network] ports"));
    }
    Some(target)
}

/// How an endpoint is reached, as it is written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WrittenWire<'a> {
    pub(crate) connect_timeout: Option<Span>,
    pub(crate) first_byte_timeout: Option<Span>,
    pub(crate) ca: Option<&'a str>,
    pub(crate) dangerous_accept_invalid_certificates: bool,
}

/// How large the text of authorities may be, in bytes, and how many may be in it.
const CA_BYTES_MAX: usize = 256 * 1024;
const CA_MAX: usize = 64;

/// Reads how an endpoint is reached; `timeout` is that of the whole.
pub(crate) fn wire(written: WrittenWire<'_>, timeout: Duration, problems: &mut Vec<Problem>) -> Wire {
    let connect_timeout = part("connect_timeout", written.connect_timeout, timeout, problems);
    let first_byte_timeout = part("first_byte_timeout", written.first_byte_timeout, timeout, problems);
    let authorities = written.ca.map(|text| authorities(text, problems));
    let trust = match authorities {
        Some(_) if written.dangerous_accept_invalid_certificates => {
            let what = "ca does nothing beside dangerous_accept_invalid_certificates = true";
            problems.push(Problem::new("ca", what, "leave dangerous_accept_invalid_certificates out"));
            None
        }
        Some(authorities) => Some(Trust::beside(authorities)),
        None => written.dangerous_accept_invalid_certificates.then(Trust::anybody),
    };
    Wire { connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT), first_byte_timeout, trust: trust.map(Arc::new) }
}

/// Reads a time that is a part of the whole.
fn part(key: &str, written: Option<Span>, timeout: Duration, problems: &mut Vec<Problem>) -> Option<Duration> {
    let part = written?.0;
    if part.is_zero() || part > timeout {
        let what = format!("{key} = \"{}\" is not between 1ms and timeout = \"{}\"", Span(part), Span(timeout));
        problems.push(Problem::new(key, what, "the whole ends at timeout: write less, or raise timeout"));
    }
    Some(part)
}

/// Reads certificates of authorities from PEM.
fn authorities(text: &str, problems: &mut Vec<Problem>) -> Vec<CertificateDer<'static>> {
    const HINT: &str = "write ca = \"file:ca.pem\", a file with -----BEGIN CERTIFICATE----- and so on, of those who sign \
                        the endpoint's certificate";
    let mut wrong = |what: String| {
        problems.push(Problem::new("ca", what, HINT));
        Vec::new()
    };
    if text.len() > CA_BYTES_MAX {
        return wrong(format!("ca has more than {CA_BYTES_MAX} bytes"));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).take(CA_MAX + 1).collect();
    let Ok(read) = read else { return wrong("ca is no PEM text of certificates".to_owned()) };
    if read.is_empty() || read.len() > CA_MAX {
        return wrong(format!("ca has {} certificates, not 1 to {CA_MAX}", read.len()));
    }
    let bad = read.iter().position(|der| RootCertStore::empty().add(der.clone()).is_err());
    match bad {
        Some(at) => wrong(format!("ca: certificate number {} can not be read", at + 1)),
        None => read,
    }
}

/// How an endpoint is reached, as it is shown.
pub(crate) fn shown_wire(wire: &Wire) -> Map<String, Value> {
    let mut shown = Map::from_iter([("connect_timeout".to_owned(), Span(wire.connect_timeout).to_string().into())]);
    if let Some(within) = wire.first_byte_timeout {
        shown.insert("first_byte_timeout".to_owned(), Span(within).to_string().into());
    }
    match &wire.trust {
        Some(trust) if trust.is_anybody() => {
            shown.insert("dangerous_accept_invalid_certificates".to_owned(), true.into());
        }
        Some(_) => {
            shown.insert("ca".to_owned(), MASK.into());
        }
        None => {}
    }
    shown
}

/// Names that HTTP itself or a request of ours needs.
const RESERVED: [&str; 17] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const RESERVED_PREFIXES: [&str; 2] = ["webhook-", "posthaste-"];

/// Reads the headers of one's own: names in small letters, each once.
pub(crate) fn headers(
    written: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Vec<(HeaderName, HeaderValue)> {
    if written.len() > HEADERS_MAX {
        let what = format!("headers has {} headers, more than {HEADERS_MAX}", written.len());
        problems.push(Problem::new("headers", what, "send less, or put it into the URL"));
    }
    let mut read: BTreeMap<String, (HeaderName, HeaderValue)> = BTreeMap::new();
    for (name, value) in written {
        let lower = name.to_ascii_lowercase();
        let twice = ("is there twice, in other letters", "names of headers are the same in any case");
        let header = header(&lower, value);
        let fault = header.and_then(|header| read.insert(lower, header).map_or(Ok(()), |_| Err(twice)));
        let Err((what, hint)) = fault else { continue };
        problems.push(Problem::new(format!("headers.{name}"), format!("headers: {name:?} {what}"), hint));
    }
    read.into_values().collect()
}

fn header(lower: &str, value: &str) -> Result<(HeaderName, HeaderValue), (&'static str, &'static str)> {
    let read = HeaderName::from_bytes(lower.as_bytes()).ok().filter(|_| lower.len() <= HEADER_BYTES_MAX);
    let name = read.ok_or(("is not a header's name", "use letters, digits and -"))?;
    if RESERVED.contains(&lower) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err(("is reserved", "HTTP or Posthaste sets this header; use another name"));
    }
    let visible = value.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'));
    let trimmed = value.trim_matches([' ', '\t']).len() == value.len();
    let good = visible && trimmed && value.len() <= HEADER_BYTES_MAX;
    secret(value).filter(|_| good).map(|value| (name, value)).ok_or((
        "has a value that can not be sent",
        "use visible ASCII, at most 4,096 bytes, no line end and no space around it",
    ))
}

/// A header's value that may open something: HTTP/2 keeps it out of the tables that requests share (RFC 7541 section 7.1.3).
pub(crate) fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Stands for a header's value: any of them may open something, whatever its name.
const MASK: &str = "…";

/// The headers without their values.
pub(crate) fn shown_headers(headers: &[(HeaderName, HeaderValue)]) -> Map<String, Value> {
    headers.iter().map(|(name, _)| (name.as_str().to_owned(), MASK.into())).collect()
}
