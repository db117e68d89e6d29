//! The options of a webhook: as they are written, and checked.

use super::format::{self, Format};
use super::keyring::{Keyring, Scheme};
use super::signing::{Signing, Written};
use crate::authorization::{Authorization, WrittenAuth};
use crate::endpoint::{WrittenWire, headers, shown_headers, shown_wire, target, timeout, wire};
use crate::guard::Guard;
use crate::http::Target;
use crate::options::{Keys, Options, Problem, Span, read};
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The keys of a webhook, and which of them hide their values.
pub const KEYS: Keys = Keys {
    known: &[
        "url",
        "secrets",
        "signature",
        "header_prefixes",
        "headers",
        "auth",
        "timeout",
        "connect_timeout",
        "first_byte_timeout",
        "ca",
        "dangerous_accept_invalid_certificates",
        "format",
        "mode",
        "source",
        "content_type",
        "give_up_on",
        "https_only",
    ],
    secret: &["url", "secrets", "headers", "auth", "ca"],
};

/// The options of a webhook as they are written.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookOptions {
    /// Where to post: an absolute http or https URL of at most 2,048 bytes, without user, password and fragment.
    /// Required. It counts as a secret: only its origin is shown.
    pub url: Option<String>,
    /// The secrets that sign, 1 to 8: `whsec_` and the base64 of 24 to 64 bytes each, or any text of 16 to 256 bytes where
    /// `signature` has no `"standard"`. The first signs first, all of them sign, so that a receiver can change from one
    /// to the next; `{ secret = "…", until = "…" }` signs before that time only, and at least one has no `until`. Required, but
    /// for the formats of chats.
    pub secrets: Option<Vec<Value>>,
    /// How it is signed: `"standard"`, `"github"` (`x-hub-signature-256`) or `"orchest"` (`x-hub-signature`), or a list of
    /// them. Default `"standard"`, of `format = "orchest"` `"orchest"`.
    pub signature: Option<Value>,
    /// What the names of the standard headers begin with, 1 to 4: each gets a whole set. Default `["webhook-"]`.
    pub header_prefixes: Option<Vec<String>>,
    /// Headers to send beside ours; at most 32. Names that HTTP or Posthaste needs are refused. Absent: none.
    pub headers: BTreeMap<String, String>,
    /// What is sent as `authorization`: `{ basic = { user = "…", password = "…" } }` or `{ bearer = "…" }`. Absent: nothing.
    pub auth: Option<WrittenAuth>,
    /// How long an attempt may take, from the look-up of the name to the end of the answer's body: 1 ms to 10 min.
    /// Default `"15s"`.
    pub timeout: Option<Span>,
    /// How long a connection may take, from the look-up of the name to the TLS handshake: 1 ms to `timeout`. Default `"5s"`.
    pub connect_timeout: Option<Span>,
    /// How long the head of the answer may take from when the request begins to be sent: 1 ms to `timeout`. Absent: no
    /// bound of its own.
    pub first_byte_timeout: Option<Span>,
    /// PEM text of 1 to 64 authorities that are believed beside the system's. Absent: none.
    pub ca: Option<String>,
    /// Whether any certificate is believed. Default false.
    pub dangerous_accept_invalid_certificates: bool,
    /// How the body is written: `"standard"`, the default, `"cloudevents"`, `"orchest"`, `"slack"`, `"teams"` or `"discord"`.
    pub format: Option<String>,
    /// Of `format = "cloudevents"`: `"structured"`, the default, or `"binary"`, with the attributes in headers.
    pub mode: Option<String>,
    /// Of `format = "cloudevents"`: the `source` of every event, a reference to a URI of at most 256 bytes. Default
    /// `"/posthaste"`.
    pub source: Option<String>,
    /// Of `format = "orchest"`: `"json"`, the default, or `"form"`, two fields of a form.
    pub content_type: Option<String>,
    /// Statuses that make a delivery dead at once: 300 to 599. Default none: every failure is tried again.
    pub give_up_on: BTreeSet<u16>,
    /// Whether a URL that is not https is refused. Default false.
    pub https_only: bool,
}

/// A webhook whose options were checked.
#[derive(Clone)]
pub struct Webhook {
    pub(super) target: Arc<Target>,
    pub(super) keyring: Keyring,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) authorization: Option<Authorization>,
    pub(super) format: Format,
    pub(super) timeout: Duration,
    pub(super) give_up_on: BTreeSet<u16>,
    https_only: bool,
    signature: Value,
    prefixes: Vec<String>,
}

impl fmt::Debug for WebhookOptions {
    /// Nothing of them: most of these may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookOptions").field("format", &self.format).finish_non_exhaustive()
    }
}

impl fmt::Debug for Webhook {
    /// As it is shown, which is without anything secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({})", Value::Object(self.shown()))
    }
}

impl Webhook {
    /// Reads and checks the options.
    ///
    /// # Errors
    /// Every problem that there is.
    pub fn parse(options: &Options, guard: &Guard) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let written: WebhookOptions = read(options, KEYS, &mut problems);
        // What had the wrong form was told already; it is not missing as well.
        let wrong = |key: &str, problems: &[Problem]| problems.iter().any(|p| p.path == key);
        if written.url.is_none() && !wrong("url", &problems) {
            problems.push(Problem::new("url", "url is missing", "say where to post: url = \"https://…\""));
        }
        let format = read_format(&written, &mut problems);
        let optional = format.is_chat();
        if written.secrets.is_none() && !optional && !wrong("secrets", &problems) {
            let hint =
                "write secrets = [\"env:NAME\"]; for a new one: printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\"";
            problems.push(Problem::new("secrets", "secrets is missing", hint));
        }
        let target = written.url.as_deref().and_then(|url| target(url, written.https_only, guard, &mut problems));
        let signing = Signing::read(
            &Written {
                secrets: written.secrets.as_deref(),
                signature: written.signature.as_ref(),
                prefixes: written.header_prefixes.as_deref(),
                scheme: if matches!(format, Format::Orchest { .. }) { Scheme::Orchest } else { Scheme::Standard },
                optional,
            },
            &mut problems,
        );
        let headers = own_headers(&written.headers, &signing.prefixes, &mut problems);
        let given = headers.iter().any(|(name, _)| name.as_str() == "authorization");
        let authorization = written.auth.as_ref().and_then(|auth| Authorization::read(auth, given, &mut problems));
        let timeout = timeout(written.timeout, &mut problems);
        let wire = wire(
            WrittenWire {
                connect_timeout: written.connect_timeout,
                first_byte_timeout: written.first_byte_timeout,
                ca: written.ca.as_deref(),
                dangerous_accept_invalid_certificates: written.dangerous_accept_invalid_certificates,
            },
            timeout,
            &mut problems,
        );
        check_give_up_on(&written.give_up_on, &mut problems);
        let (give_up_on, https_only) = (written.give_up_on, written.https_only);
        match target {
            Some(target) if problems.is_empty() => Ok(Self {
                target: Arc::new(target.reached(wire)),
                signature: signing.shown(),
                prefixes: signing.prefixes,
                keyring: signing.keyring,
                headers,
                authorization,
                format,
                timeout,
                give_up_on,
                https_only,
            }),
            _ => Err(problems),
        }
    }

    /// The settings without anything secret.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let mut shown = json!({
            "url": self.target.shown(),
            "signature": self.signature,
            "header_prefixes": self.prefixes,
            "headers": shown_headers(&self.headers),
            "timeout": Span(self.timeout).to_string(),
            "give_up_on": self.give_up_on,
            "https_only": self.https_only,
        });
        if let Some(authorization) = &self.authorization {
            shown["auth"] = authorization.shown();
        }
        let Value::Object(mut shown) = shown else { return Map::new() };
        self.format.show(&mut shown);
        shown.extend(shown_wire(self.target.wire()));
        shown
    }

    /// The whole URL.
    pub(super) fn revealed(&self) -> Map<String, Value> {
        Map::from_iter([("url".to_owned(), Value::from(self.target.url().as_str()))])
    }
}

fn read_format(written: &WebhookOptions, problems: &mut Vec<Problem>) -> Format {
    let written = format::Written {
        format: written.format.as_deref(),
        mode: written.mode.as_deref(),
        source: written.source.as_deref(),
        content_type: written.content_type.as_deref(),
        verify_ssl: !written.dangerous_accept_invalid_certificates,
    };
    Format::read(written, problems).unwrap_or(Format::Standard)
}

fn check_give_up_on(written: &BTreeSet<u16>, problems: &mut Vec<Problem>) {
    for status in written.iter().filter(|status| !(300..600).contains(*status)) {
        let what = format!("give_up_on has {status}, which is no failure's status");
        problems.push(Problem::new("give_up_on", what, "list statuses from 300 to 599"));
    }
}

/// Beginnings of headers that some format or signature of ours has, whether it is in use or not.
const RESERVED_PREFIXES: [&str; 3] = ["ce-", "x-orchest-", "x-hub-signature"];

/// Reads the headers of one's own, of which none may be one that a webhook has.
fn own_headers(
    written: &BTreeMap<String, String>,
    prefixes: &[String],
    problems: &mut Vec<Problem>,
) -> Vec<(HeaderName, HeaderValue)> {
    let ours = |name: &str| {
        let name = name.to_ascii_lowercase();
        RESERVED_PREFIXES.into_iter().chain(prefixes.iter().map(String::as_str)).any(|p| name.starts_with(p))
    };
    let (reserved, free): (BTreeMap<_, _>, BTreeMap<_, _>) =
        written.iter().map(|(name, value)| (name.clone(), value.clone())).partition(|(name, _)| ours(name));
    let read = headers(&free, problems);
    for name in reserved.keys() {
        let what = format!("headers: {name:?} is reserved");
        problems.push(Problem::new(format!("headers.{name}"), what, "a webhook sets this header; use another name"));
    }
    read
}
