//! The options of an analytics subscription: as they are written, and checked.

use super::backend::{BACKENDS, Backend, Bounds, KeyUse, PLANNED, Spec};
use super::file;
use crate::endpoint::{WrittenWire, headers, shown_headers, shown_wire, target, timeout, wire};
use crate::guard::Guard;
use crate::http::{Target, Wire};
use crate::options::{Keys, Options, Problem, Size, Span, read};
use hyper::header::{HeaderName, HeaderValue};
use posthaste_events::BatchLimits;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How many events a batch has at most where nothing is said.
const EVENTS: usize = 100;
/// How many bytes of payload a batch has at most where nothing is said.
const BYTES: usize = 400 * 1024;
/// How long a batch that is not full waits where nothing is said.
const WAIT: Duration = Duration::from_secs(1);
/// How long a batch that is not full may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How many events a batch may have, whatever its backend takes: hardly more are under way of one subscription.
const EVENTS_MAX: usize = 500;
/// How many bytes of payload a batch may have, whatever its backend takes: as much as is under way of one subscription.
const BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long a key may be, in bytes.
const KEY_MAX: usize = 1_024;
/// How large a file is before the next one begins, where nothing is said.
const ROTATE: u64 = 64 * 1024 * 1024;
/// The smallest and the largest file that may be asked for.
const ROTATE_RANGE: (u64, u64) = (1_024, 1 << 40);
/// How many files of before are kept where nothing is said.
const KEEP: u64 = 8;
/// How many files of before may be kept.
const KEEP_MAX: u64 = 1_000;

/// The keys of an analytics subscription, and which of them hide their values.
pub const KEYS: Keys = Keys {
    known: &[
        "backend",
        "url",
        "key",
        "headers",
        "https_only",
        "gzip",
        "path",
        "rotate",
        "keep",
        "batch",
        "event_max",
        "timeout",
        "connect_timeout",
        "first_byte_timeout",
        "ca",
        "dangerous_accept_invalid_certificates",
    ],
    secret: &["url", "key", "headers", "ca"],
};

/// Those that only a backend that is posted to has.
const POSTED: [&str; 9] = [
    "url",
    "key",
    "headers",
    "https_only",
    "gzip",
    "connect_timeout",
    "first_byte_timeout",
    "ca",
    "dangerous_accept_invalid_certificates",
];
/// Those that only `file` has.
const WRITTEN: [&str; 3] = ["path", "rotate", "keep"];

/// The options of an analytics subscription as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnalyticsOptions {
    /// To what events are sent: `"posthog"`, `"otlp"`, `"http"` or `"file"`. `segment`, `amplitude`, `mixpanel` and `ga4` are not
    /// built yet. Required.
    pub backend: Option<String>,
    /// Where to post: an absolute http or https URL of at most 2,048 bytes, without user, password and fragment. `posthog`
    /// adds `/batch/` to it, `otlp` `/v1/logs`, `http` nothing. Required but for `file`. It counts as a secret: only its
    /// origin is shown.
    pub url: Option<String>,
    /// What opens the backend: the project's key of `posthog`, where it is required; of `http` what is sent as
    /// `authorization: Bearer`. 1 to 1,024 visible ASCII characters. It is never shown.
    pub key: Option<String>,
    /// Headers to send beside ours; at most 32. Names that HTTP or Posthaste needs are refused. Absent: none.
    pub headers: BTreeMap<String, String>,
    /// Whether a URL that is not https is refused. Default false.
    pub https_only: bool,
    /// Whether requests over 1 KiB are compressed with gzip. Default true for `posthog` and `otlp`, false for `http`.
    pub gzip: Option<bool>,
    /// Of `file`: where events are written, seen from the folder of the configuration. Its folder is made where it is
    /// absent. Required.
    pub path: Option<String>,
    /// Of `file`: how large a file may be before the next one begins; 1 KiB to 1 TiB. Default `"64MiB"`.
    pub rotate: Option<Size>,
    /// Of `file`: how many files of before are kept, beside the one that is written; 1 to 1,000. Default 8.
    pub keep: Option<u64>,
    /// How large a batch is, whichever comes first.
    pub batch: BatchOptions,
    /// How large one event may be as it is written; a larger one is dead at once. At most, and by default, what the
    /// backend takes: `"900KiB"` for `posthog`, else `"1MiB"`.
    pub event_max: Option<Size>,
    /// How long one batch may take, all its requests with their answers; 1 ms to 10 min. Default `"15s"`.
    pub timeout: Option<Span>,
    /// How long a connection may take, from the look-up of the name to the TLS handshake: 1 ms to `timeout`. Default `"5s"`.
    pub connect_timeout: Option<Span>,
    /// How long the head of an answer may take from when the request begins to be sent: 1 ms to `timeout`. Absent: no bound
    /// of its own.
    pub first_byte_timeout: Option<Span>,
    /// PEM text of 1 to 64 authorities that are believed beside the system's. Absent: none.
    pub ca: Option<String>,
    /// Whether any certificate is believed. Default false.
    pub dangerous_accept_invalid_certificates: bool,
}

impl AnalyticsOptions {
    fn wire(&self) -> WrittenWire<'_> {
        WrittenWire {
            connect_timeout: self.connect_timeout,
            first_byte_timeout: self.first_byte_timeout,
            ca: self.ca.as_deref(),
            dangerous_accept_invalid_certificates: self.dangerous_accept_invalid_certificates,
        }
    }
}

/// How large a batch is.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchOptions {
    /// Events; 1 to 500. Default 100.
    pub events: Option<u64>,
    /// Payload as it is kept; 1 B to 2 MiB. A request has at most so many bytes too, as its events are written and before
    /// compression, unless a single event is larger. Default `"400KiB"`.
    pub bytes: Option<Size>,
    /// How long a batch that is not full waits for more; 0 to 60 s. Default `"1s"`.
    pub wait: Option<Span>,
}

/// Options that were checked.
pub(super) struct Analytics {
    pub(super) bounds: Batching,
    pub(super) to: To,
}

/// How batches are made, and how long one may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batching {
    pub(super) limits: BatchLimits,
    /// Bytes of one event as it is written.
    pub(super) event_max: usize,
    /// Of a whole call.
    pub(super) timeout: Duration,
}

/// Where events go.
pub(super) enum To {
    /// To somebody who is posted to.
    Http(Endpoint),
    /// Into files.
    File(file::Settings),
}

/// A backend that is posted to.
pub(super) struct Endpoint {
    pub(super) name: &'static str,
    pub(super) backend: Box<dyn Backend>,
    pub(super) target: Arc<Target>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) gzip: bool,
    /// As it was written, to be revealed.
    url: String,
    https_only: bool,
    has_key: bool,
}

/// What a name stands for.
#[derive(Clone, Copy)]
enum Chosen {
    Posted(Spec),
    File,
}

impl Chosen {
    const fn bounds(self) -> Bounds {
        match self {
            Self::Posted(spec) => spec.bounds,
            Self::File => file::BOUNDS,
        }
    }
}

impl Analytics {
    /// Reads and checks the options.
    ///
    /// # Errors
    /// Every problem that there is.
    pub(super) fn parse(options: &Options, guard: &Guard) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let written: AnalyticsOptions = read(options, KEYS, &mut problems);
        let chosen = choose(options, written.backend.as_deref(), &mut problems);
        let timeout = timeout(written.timeout, &mut problems);
        // Without a backend its bounds are not known; what is larger than any of them is still told.
        let bounds = chosen.map_or(file::BOUNDS, Chosen::bounds);
        let limits = batch(written.batch, bounds, &mut problems);
        let event_max = event_max(written.event_max, bounds, &mut problems);
        let to = match chosen {
            Some(Chosen::Posted(spec)) => {
                let wire = wire(written.wire(), timeout, &mut problems);
                endpoint(spec, &written, wire, options, guard, &mut problems).map(To::Http)
            }
            Some(Chosen::File) => settings(&written, options, &mut problems).map(To::File),
            None => None,
        };
        match to {
            Some(to) if problems.is_empty() => Ok(Self { bounds: Batching { limits, event_max, timeout }, to }),
            _ => Err(problems),
        }
    }

    /// The settings without anything secret.
    pub(super) fn shown(&self) -> Map<String, Value> {
        let Batching { limits, event_max, timeout } = self.bounds;
        let mut shown = match &self.to {
            To::Http(endpoint) => json!({
                "backend": endpoint.name,
                "url": endpoint.target.shown(),
                "headers": shown_headers(&endpoint.headers),
                "https_only": endpoint.https_only,
                "gzip": endpoint.gzip,
            }),
            To::File(file) => json!({
                "backend": file::NAME,
                "path": file.path.display().to_string(),
                "rotate": Size(file.rotate).to_string(),
                "keep": file.keep,
            }),
        };
        if matches!(&self.to, To::Http(endpoint) if endpoint.has_key) {
            shown["key"] = "…".into();
        }
        let bytes = |bytes: usize| Size(u64::try_from(bytes).unwrap_or(u64::MAX)).to_string();
        shown["batch"] =
            json!({ "events": limits.events, "bytes": bytes(limits.bytes), "wait": Span(limits.wait).to_string() });
        shown["event_max"] = bytes(event_max).into();
        shown["timeout"] = Span(timeout).to_string().into();
        match shown {
            Value::Object(mut shown) => {
                if let To::Http(endpoint) = &self.to {
                    shown.extend(shown_wire(endpoint.target.wire()));
                }
                shown
            }
            _ => Map::new(),
        }
    }

    /// The whole URL.
    pub(super) fn revealed(&self) -> Map<String, Value> {
        match &self.to {
            To::Http(endpoint) => Map::from_iter([("url".to_owned(), Value::from(endpoint.url.as_str()))]),
            To::File(_) => Map::new(),
        }
    }
}

/// Which backend is meant; also tells of keys that it does not have.
fn choose(options: &Options, backend: Option<&str>, problems: &mut Vec<Problem>) -> Option<Chosen> {
    let names: Vec<&str> = BACKENDS.iter().map(|spec| spec.name).chain([file::NAME]).collect();
    let hint = format!("there are {}", names.join(", "));
    let Some(name) = backend else {
        if !options.contains_key("backend") {
            problems.push(Problem::new("backend", "backend is missing", hint));
        }
        return None;
    };
    let posted = BACKENDS.iter().copied().find(|spec| spec.name == name).map(Chosen::Posted);
    let chosen = posted.or_else(|| (name == file::NAME).then_some(Chosen::File));
    match chosen {
        None if PLANNED.contains(&name) => {
            problems.push(Problem::new("backend", Problem::not_built("backend", name).what, hint));
        }
        None => problems.push(Problem::new("backend", format!("backend = {name:?} is unknown"), hint)),
        Some(chosen) => {
            let others: &[&str] = if matches!(chosen, Chosen::File) { &POSTED } else { &WRITTEN };
            for key in others.iter().filter(|key| options.contains_key(**key)) {
                let what = format!("{key} is no key of backend = {name:?}");
                problems.push(Problem::new(*key, what, "leave it out, or choose another backend"));
            }
        }
    }
    chosen
}

fn batch(written: BatchOptions, bounds: Bounds, problems: &mut Vec<Problem>) -> BatchLimits {
    let events =
        bounded("batch.events", written.events, 1, bounds.events.min(EVENTS_MAX), EVENTS, problems, |n| n.to_string());
    let most = bounds.bytes.min(BYTES_MAX);
    let bytes = bounded("batch.bytes", written.bytes.map(|s| s.0), 1, most, BYTES, problems, |n| Size(n).to_string());
    let wait = written.wait.map_or(WAIT, |span| span.0);
    if wait > WAIT_MAX {
        let what = format!("batch.wait = \"{}\" is more than {}", Span(wait), Span(WAIT_MAX));
        problems.push(Problem::new("batch.wait", what, "write a duration such as \"1s\""));
    }
    BatchLimits { events, bytes, wait }
}

fn event_max(written: Option<Size>, bounds: Bounds, problems: &mut Vec<Problem>) -> usize {
    let most = bounds.event_bytes;
    bounded("event_max", written.map(|s| s.0), 1, most, most, problems, |n| Size(n).to_string())
}

/// A number within bounds, or its default.
fn bounded(
    path: &str,
    written: Option<u64>,
    least: usize,
    most: usize,
    default: usize,
    problems: &mut Vec<Problem>,
    show: impl Fn(u64) -> String,
) -> usize {
    let Some(written) = written else { return default.min(most) };
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    match usize::try_from(written) {
        Ok(read) if (least..=most).contains(&read) => read,
        _ => {
            let (shown, least, most) = (show(written), show(wide(least)), show(wide(most)));
            let what = format!("{path} = {shown} is not between {least} and {most}");
            problems.push(Problem::new(path, what, "choose one within these bounds"));
            default
        }
    }
}

fn endpoint(
    spec: Spec,
    written: &AnalyticsOptions,
    wire: Wire,
    options: &Options,
    guard: &Guard,
    problems: &mut Vec<Problem>,
) -> Option<Endpoint> {
    if !options.contains_key("url") {
        problems.push(Problem::new("url", "url is missing", "say where to post: url = \"https://…\""));
    }
    let before = problems.len();
    let base = written.url.as_deref().and_then(|url| target(url, written.https_only, guard, problems));
    let target = match base {
        Some(base) if problems.len() == before => joined(&base, spec, problems),
        _ => None,
    };
    check_key(spec, written.key.as_deref(), options, problems);
    let headers = headers(&written.headers, problems);
    if written.key.is_some() && headers.iter().any(|(name, _)| name.as_str() == "authorization") {
        let what = "headers: \"authorization\" is there beside key";
        problems.push(Problem::new("headers", what, "use one of the two"));
    }
    Some(Endpoint {
        name: spec.name,
        backend: (spec.make)(written.key.as_deref()),
        target: Arc::new(target?.reached(wire)),
        headers,
        gzip: written.gzip.unwrap_or(spec.gzip),
        url: written.url.clone()?,
        https_only: written.https_only,
        has_key: written.key.is_some(),
    })
}

/// The URL that is posted to: with the backend's own path behind it, unless it is there already.
fn joined(base: &Target, spec: Spec, problems: &mut Vec<Problem>) -> Option<Target> {
    if spec.path.is_empty() {
        return Some(base.clone());
    }
    let mut url = base.url().clone();
    if url.query().is_some() {
        let what = format!("url = {:?} has a query, yet {:?} is put behind its path", base.shown(), spec.path);
        problems.push(Problem::new("url", what, "leave the query out"));
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let path = path.strip_suffix(spec.path.trim_end_matches('/')).unwrap_or(&path);
    url.set_path(&format!("{path}{}", spec.path));
    match Target::parse(url.as_str()) {
        Ok(target) => Some(target),
        Err(error) => {
            problems.push(Problem::new("url", format!("url with {:?} behind it {error}", spec.path), "shorten it"));
            None
        }
    }
}

fn check_key(spec: Spec, key: Option<&str>, options: &Options, problems: &mut Vec<Problem>) {
    let Some(key) = key else {
        if spec.key == KeyUse::Required && !options.contains_key("key") {
            let hint = "write the key of the project, best as \"env:NAME\" or \"file:PATH\"";
            problems.push(Problem::new("key", "key is missing", hint));
        }
        return;
    };
    if spec.key == KeyUse::Never {
        let what = format!("key is no key of backend = {:?}", spec.name);
        problems.push(Problem::new(
            "key",
            what,
            "send the credentials in a header: headers = { authorization = \"env:NAME\" }",
        ));
    } else if key.is_empty() || key.len() > KEY_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
        let hint = format!("write 1 to {KEY_MAX} visible ASCII characters without spaces, best as \"env:NAME\"");
        problems.push(Problem::new("key", "key is no key", hint));
    }
}

fn settings(written: &AnalyticsOptions, options: &Options, problems: &mut Vec<Problem>) -> Option<file::Settings> {
    if !options.contains_key("path") {
        problems.push(Problem::new("path", "path is missing", "say where to write: path = \"telemetry.ndjson\""));
    }
    let path = written.path.as_deref().map(PathBuf::from);
    if let Some(path) = &path
        && (path.file_name().is_none()
            || path.to_string_lossy().ends_with('/')
            || path.to_string_lossy().contains('\0'))
    {
        let what = format!("path = {:?} names no file", path.display().to_string());
        problems.push(Problem::new("path", what, "write a path such as \"telemetry.ndjson\""));
    }
    let rotate = written.rotate.map_or(ROTATE, |size| size.0);
    let (least, most) = ROTATE_RANGE;
    if !(least..=most).contains(&rotate) {
        let what = format!("rotate = {} is not between {} and {}", Size(rotate), Size(least), Size(most));
        problems.push(Problem::new("rotate", what, "write a size such as \"64MiB\""));
    }
    let keep = written.keep.unwrap_or(KEEP);
    if !(1..=KEEP_MAX).contains(&keep) {
        let what = format!("keep = {keep} is not between 1 and {KEEP_MAX}");
        problems.push(Problem::new("keep", what, "write how many files of before are kept"));
    }
    Some(file::Settings { path: path?, rotate, keep })
}
