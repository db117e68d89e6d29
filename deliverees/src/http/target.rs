//! Where a request goes: a URL taken apart once, when its subscription is read.

use super::wire::{Trust, Wire};
use hyper::Uri;
use hyper::header::HeaderValue;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use url::{Host, Url};

/// How long a URL may be, in bytes.
pub const URL_MAX: usize = 2048;

/// A place to send to: an absolute http or https URL without userinfo and fragment.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    origin: Origin,
    path: Uri,
    host_header: HeaderValue,
    wire: Wire,
}

/// A name as it is looked up: without the dot that may end it.
pub(super) fn plain(name: &str) -> &str {
    name.trim_end_matches('.')
}

impl fmt::Debug for Target {
    /// Its origin alone: the rest may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.shown())
    }
}

/// What connections are kept by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) tls: bool,
    pub(super) host: Host<String>,
    pub(super) port: u16,
    pub(super) trust: Option<Arc<Trust>>,
}

/// Why a text is not a target. No variant shows the text: path, query and userinfo are often secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is too long.
    #[error("is longer than {URL_MAX} bytes")]
    TooLong,
    /// It is no absolute URL.
    #[error("is not an absolute URL")]
    NotAbsolute,
    /// It has white space or control characters, which readers of URLs drop or change silently.
    #[error("has white space or control characters")]
    Characters,
    /// The scheme is not http or https.
    #[error("has a scheme other than http and https")]
    Scheme,
    /// It has a user or a password.
    #[error("has a user or a password in it")]
    Userinfo,
    /// It has a fragment, which is never sent.
    #[error("has a fragment")]
    Fragment,
    /// Its port is 0.
    #[error("has the port 0")]
    Port,
}

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// [`TargetError`] with the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.len() > URL_MAX {
            return Err(TargetError::TooLong);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TargetError::Characters);
        }
        let url = Url::parse(text).map_err(|_| TargetError::NotAbsolute)?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(TargetError::Scheme),
        };
        if !url.username().is_empty()
            || url.password().is_some()
            || text.split_once("://").is_some_and(|(_, rest)| rest.starts_with('@'))
        {
            return Err(TargetError::Userinfo);
        }
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        let host = url.host().ok_or(TargetError::NotAbsolute)?.to_owned();
        let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(TargetError::Port)?;
        let path = url[url::Position::BeforePath..url::Position::AfterQuery].parse();
        let path = path.map_err(|_| TargetError::NotAbsolute)?;
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let host_header = HeaderValue::from_str(authority).map_err(|_| TargetError::NotAbsolute)?;
        let origin = Origin { tls, host, port, trust: None };
        Ok(Self { origin, path, host_header, url, wire: Wire::default() })
    }

    /// The same place, reached in another way than the usual one.
    #[must_use]
    pub fn reached(mut self, wire: Wire) -> Self {
        // Without TLS nobody is believed, and connections are the same for all.
        self.origin.trust = wire.trust.clone().filter(|_| self.origin.tls);
        self.wire = wire;
        self
    }

    /// The name that is looked up for it; empty where it has an address in place of one.
    pub(super) fn name(&self) -> &str {
        if let Host::Domain(name) = &self.origin.host { plain(name) } else { "" }
    }

    /// How it is reached.
    #[must_use]
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The URL as it was read, whole: not to be shown.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Scheme, host and port: what may be shown of it.
    #[must_use]
    pub fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Whether it is https.
    #[must_use]
    pub const fn is_https(&self) -> bool {
        self.origin.tls
    }

    /// The address, where the host is written as one in any spelling.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        self.origin.literal()
    }

    /// The port, where none is written that of the scheme.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.origin.port
    }

    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn path(&self) -> Uri {
        self.path.clone()
    }

    /// The whole URL as HTTP/2 wants it, which has no `host` header.
    pub(super) fn absolute(&self) -> Option<Uri> {
        self.url.as_str().parse().ok()
    }

    pub(super) fn host_header(&self) -> HeaderValue {
        self.host_header.clone()
    }
}

impl Origin {
    pub(super) const fn literal(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Ipv4(v4) => Some(IpAddr::V4(*v4)),
            Host::Ipv6(v6) => Some(IpAddr::V6(*v6)),
            Host::Domain(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("https://Ops.Example.com:8443/hooks/a%20b?token=x").unwrap();
        assert_eq!(target.shown(), "https://ops.example.com:8443");
        assert_eq!(target.path().to_string(), "/hooks/a%20b?token=x");
        assert_eq!(target.host_header().to_str().unwrap(), "ops.example.com:8443");
        assert!(target.is_https() && target.literal().is_none());
        let plain = Target::parse("http://[::1]").unwrap();
        assert_eq!((plain.path().to_string().as_str(), plain.host_header().to_str().unwrap()), ("/", "[::1]"));
        assert_eq!(Target::parse("http://bücher.example/").unwrap().shown(), "http://xn--bcher-kva.example");
    }

    #[test]
    fn every_spelling_of_an_address_is_one() {
        for text in [
            "0177.0.0.1",
            "0x7f.1",
            "2130706433",
            "0x7f000001",
            "127.1",
            "127.0.1",
            "017700000001",
            "127.0.0.1.",
            "①②⑦.0.0.1",
        ] {
            let target = Target::parse(&format!("http://{text}/")).unwrap();
            assert_eq!(target.literal(), Some([127, 0, 0, 1].into()), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_target_is_refused_without_showing_it() {
        for (text, error) in [
            ("/hooks", TargetError::NotAbsolute),
            ("", TargetError::NotAbsolute),
            ("ops.example.com/hooks", TargetError::NotAbsolute),
            ("ftp://a.example/", TargetError::Scheme),
            ("file:///etc/passwd", TargetError::Scheme),
            ("http://u:p@a.example/", TargetError::Userinfo),
            ("http://u@a.example/", TargetError::Userinfo),
            ("http://@a.example/", TargetError::Userinfo),
            ("http://@a.example/?next=https://b.example", TargetError::Userinfo),
            ("http://a.example/#x", TargetError::Fragment),
            ("http://a.example:0/", TargetError::Port),
            ("http://a.example:99999/", TargetError::NotAbsolute),
            ("http://a.exa\tmple/", TargetError::Characters),
            (" http://a.example/", TargetError::Characters),
            ("http://a.example/\r\nx", TargetError::Characters),
            ("http://[fe80::1%25eth0]/", TargetError::NotAbsolute),
            ("http://1.2.3.256/", TargetError::NotAbsolute),
        ] {
            assert_eq!(Target::parse(text), Err(error), "{text}");
        }
        // An @ further on is nobody's name.
        assert!(Target::parse("https://a.example/h?next=https://@me").is_ok());
        let long = format!("http://a.example/{}", "a".repeat(URL_MAX));
        assert_eq!(Target::parse(&long), Err(TargetError::TooLong));
    }
}
