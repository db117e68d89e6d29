//! The options of a webhook: as they are written, and checked.

use super::sign::Secret;
use crate::endpoint::{headers, shown_headers, target, timeout};
use crate::guard::Guard;
use crate::http::Target;
use crate::options::{Keys, Options, Problem, Span, read};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use surf::http::headers::HeaderName as Name;

/// How many secrets a webhook may have.
const SECRETS_MAX: usize = 8;

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
        let timeout = timeout(written.timeout, &mut problems);
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
        let shown = json!({
            "url": self.target.shown(),
            "headers": shown_headers(&self.headers),
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

const SECRET_HINT: &str = "write whsec_ and the base64 of 24 to 64 random bytes, best as \"env:NAME\" or \"file:PATH\"";

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
