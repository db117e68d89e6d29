//! The options of a webhook: as they are written, and checked.

use super::sign::Secret;
use crate::guard::Guard;
use crate::http::{Target, TargetError};
use crate::options::{Keys, Options, Problem, Span, read};
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use surf::http::headers::HeaderName as Name;

/// How many headers of its own a webhook may have.
const HEADERS_MAX: usize = 32;
/// How long a header's name or value may be, in bytes.
const HEADER_BYTES_MAX: usize = 4_096;
/// How many secrets a webhook may have.
const SECRETS_MAX: usize = 8;
/// How long an attempt may take at most.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// The keys of a webhook, and which of them hide their values.
pub const KEYS: Keys = Keys {
    known: &["url", "secrets", "headers", "timeout", "format", "give_up_on", "https_only"],
    secret: &["url", "secrets", "headers"],
};

/// The options of a webhook as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookOptions {
    /// Where to post: an absolute http or https URL of at most 2,048 bytes, without user, password and fragment.
    /// Required. It counts as a secret: only its origin is shown.
    pub url: Option<String>,
    /// The secrets that sign: `whsec_` and the base64 of 24 to 64 bytes each, 1 to 8 of them. The first signs first, all
    /// of them sign, so that a receiver can change from one to the next. Required.
    pub secrets: Option<Vec<String>>,
    /// Headers to send beside ours; at most 32. Names that HTTP or Posthaste needs are refused. Absent: none.
    pub headers: BTreeMap<String, String>,
    /// How long an attempt may take, from the look-up of the name to the end of the answer's body: 1 ms to 10 min.
    /// Default `"15s"`.
    pub timeout: Option<Span>,
    /// How the body is written: `"standard"`, the default. `cloudevents`, `orchest`, `slack`, `teams` and `discord` are not
    /// built yet.
    pub format: Option<String>,
    /// Statuses that make a delivery dead at once: 300 to 599. Default none: every failure is tried again.
    pub give_up_on: BTreeSet<u16>,
    /// Whether a URL that is not https is refused. Default false.
    pub https_only: bool,
}

/// A webhook whose options were checked.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub(super) target: Arc<Target>,
    pub(super) secrets: Vec<Secret>,
    pub(super) headers: Vec<(Name, String)>,
    pub(super) timeout: Duration,
    pub(super) give_up_on: BTreeSet<u16>,
    https_only: bool,
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
        if written.secrets.is_none() && !wrong("secrets", &problems) {
            problems.push(Problem::new("secrets", "secrets is missing", SECRET_HINT));
        }
        let target = written.url.as_deref().and_then(|url| target(url, written.https_only, guard, &mut problems));
        let secrets = secrets(written.secrets.as_deref(), &mut problems);
        let headers = headers(&written.headers, &mut problems);
        let timeout = written.timeout.map_or(TIMEOUT, |span| span.0);
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            let what = format!("timeout = \"{}\" is not between 1ms and {}", Span(timeout), Span(TIMEOUT_MAX));
            problems.push(Problem::new("timeout", what, "write a duration such as \"15s\""));
        }
        check_format(written.format.as_deref(), &mut problems);
        for status in written.give_up_on.iter().filter(|status| !(300..600).contains(*status)) {
            let what = format!("give_up_on has {status}, which is no failure's status");
            problems.push(Problem::new("give_up_on", what, "list statuses from 300 to 599"));
        }
        let (give_up_on, https_only) = (written.give_up_on, written.https_only);
        match target {
            Some(target) if problems.is_empty() => {
                Ok(Self { target: Arc::new(target), secrets, headers, timeout, give_up_on, https_only })
            }
            _ => Err(problems),
        }
    }

    /// The settings without anything secret.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let headers: Map<String, Value> = self.headers.iter().map(|(name, _)| shown_header(name)).collect();
        let shown = json!({
            "url": self.target.shown(),
            "headers": headers,
            "timeout": Span(self.timeout).to_string(),
            "format": "standard",
            "give_up_on": self.give_up_on,
            "https_only": self.https_only,
        });
        match shown {
            Value::Object(shown) => shown,
            _ => Map::new(),
        }
    }

    /// The whole URL.
    pub(super) fn revealed(&self) -> Map<String, Value> {
        Map::from_iter([("url".to_owned(), Value::from(self.target.url().as_str()))])
    }
}

const TIMEOUT: Duration = Duration::from_secs(15);
const SECRET_HINT: &str = "write whsec_ and the base64 of 24 to 64 random bytes, best as \"env:NAME\" or \"file:PATH\"";

fn target(url: &str, https_only: bool, guard: &Guard, problems: &mut Vec<Problem>) -> Option<Target> {
    let target = match Target::parse(url) {
        Ok(target) => target,
        Err(error) => {
            let hint = match error {
                TargetError::Userinfo => "send the credentials in a header: headers = { authorization = \"env:NAME\" }",
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
    Some(target)
}

fn secrets(written: Option<&[String]>, problems: &mut Vec<Problem>) -> Vec<Secret> {
    let Some(written) = written else { return Vec::new() };
    if written.is_empty() || written.len() > SECRETS_MAX {
        let what = format!("secrets has {} secrets, not 1 to {SECRETS_MAX}", written.len());
        problems.push(Problem::new("secrets", what, SECRET_HINT));
    }
    let mut read = Vec::with_capacity(written.len());
    for (i, text) in written.iter().enumerate() {
        match Secret::parse(text) {
            Ok(secret) => read.push(secret),
            Err(error) => {
                let what = format!("secrets: secret number {} {error}", i + 1);
                problems.push(Problem::new(format!("secrets.{i}"), what, SECRET_HINT));
            }
        }
    }
    read
}

/// Names that HTTP itself or a webhook of ours needs.
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

fn headers(written: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Vec<(Name, String)> {
    if written.len() > HEADERS_MAX {
        let what = format!("headers has {} headers, more than {HEADERS_MAX}", written.len());
        problems.push(Problem::new("headers", what, "send less, or put it into the URL"));
    }
    let mut read: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in written {
        let lower = name.to_ascii_lowercase();
        match header_fault(&lower, value) {
            Some((what, hint)) => {
                problems.push(Problem::new(format!("headers.{name}"), format!("headers: {name:?} {what}"), hint));
            }
            None => {
                if read.insert(lower, value.clone()).is_some() {
                    let what = format!("headers: {name:?} is there twice, in other letters");
                    problems.push(Problem::new(
                        format!("headers.{name}"),
                        what,
                        "names of headers are the same in any case",
                    ));
                }
            }
        }
    }
    read.into_iter().map(|(name, value)| (Name::from(name.as_str()), value)).collect()
}

fn header_fault(lower: &str, value: &str) -> Option<(&'static str, &'static str)> {
    if lower.len() > HEADER_BYTES_MAX || HeaderName::from_bytes(lower.as_bytes()).is_err() {
        return Some(("is not a header's name", "use letters, digits and -"));
    }
    if RESERVED.contains(&lower) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Some(("is reserved", "HTTP or Posthaste sets this header; use another name"));
    }
    let visible = value.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'));
    let trimmed = value.trim_matches([' ', '\t']).len() == value.len();
    if !visible || !trimmed || value.len() > HEADER_BYTES_MAX || HeaderValue::from_str(value).is_err() {
        let hint = "use visible ASCII, at most 4,096 bytes, no line end and no space around it";
        return Some(("has a value that can not be sent", hint));
    }
    None
}

/// Stands for a header's value: any of them may open something, whatever its name.
const MASK: &str = "…";

fn shown_header(name: &Name) -> (String, Value) {
    (name.as_str().to_owned(), MASK.into())
}

fn check_format(format: Option<&str>, problems: &mut Vec<Problem>) {
    match format {
        None | Some("standard") => {}
        Some(later @ ("cloudevents" | "orchest" | "slack" | "teams" | "discord")) => {
            problems.push(Problem::not_built("format", later));
        }
        Some(other) => {
            let hint = "there are standard, cloudevents, orchest, slack, teams and discord";
            problems.push(Problem::new("format", format!("format = {other:?} is unknown"), hint));
        }
    }
}
