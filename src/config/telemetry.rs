//! `[telemetry]` and `[relay]`: how telemetry is built, and what clients may send as such.

use super::section::Section;
use super::units::{RATE_HINT, rate};
use posthaste_events::Pattern;
use posthaste_events::prepare::TelemetryPolicy;
use std::time::Duration;

/// The finest grain that there is: below it a time is nearly an id.
const GRAIN_MIN: Duration = Duration::from_secs(60);
/// The coarsest.
const GRAIN_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// As `"50/s"`.
const RATE_DEFAULT: (u32, Duration) = (50, Duration::from_secs(1));

/// What `POST /analytics` takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Relay {
    /// Which of the declared types.
    pub types: Vec<Pattern>,
    /// The origins of browsers that may post, such as `https://app.example.com`; exactly these.
    pub origins: Vec<String>,
    /// How many events each token and address may send, within which time.
    pub rate_limit: (u32, Duration),
}

pub(super) fn read_telemetry(mut section: Section<'_, '_>) -> Option<TelemetryPolicy> {
    let enabled = section.boolean("enabled").is_none_or(|(enabled, _)| enabled);
    let default = TelemetryPolicy::default().time_grain;
    let time_grain = section.duration("time_grain", GRAIN_MIN, default);
    if time_grain > GRAIN_MAX
        && let Some(node) = section.node("time_grain")
    {
        section.wrong("time_grain", node, "is too long", "write at most \"7d\"");
    }
    section.finish();
    enabled.then_some(TelemetryPolicy { time_grain })
}

pub(super) fn read_relay(mut section: Section<'_, '_>) -> Relay {
    let mut types = Vec::new();
    let given = section.strings("types");
    for (text, node) in given.clone().unwrap_or_default() {
        match Pattern::parse(text) {
            Err(why) => section.wrong("types", node, format!("is no pattern: {why}"), "such as \"project:**\""),
            Ok(pattern) => types.push(pattern),
        }
    }
    if given.is_none() {
        types.extend(Pattern::parse("**"));
    }
    let origins = section.strings("origins").unwrap_or_default();
    let mut read = Vec::with_capacity(origins.len());
    for (text, node) in origins {
        match url::Url::parse(text).map(|url| url.origin()) {
            Ok(origin) if origin.is_tuple() && origin.ascii_serialization() == text => read.push(text.to_owned()),
            _ => {
                let hint =
                    "write scheme, host and port where it is not the usual one, such as \"https://app.example.com\"";
                section.wrong("origins", node, "is no origin", hint);
            }
        }
    }
    let mut rate_limit = RATE_DEFAULT;
    if let Some((text, node)) = section.string("rate_limit") {
        match rate(text) {
            None => section.wrong("rate_limit", node, "is not a rate", RATE_HINT),
            Some(rate) => rate_limit = rate,
        }
    }
    section.finish();
    Relay { types, origins: read, rate_limit }
}
