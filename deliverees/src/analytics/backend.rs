//! What a backend is: a wire format, and what its protocol says in an answer. Nothing here sends anything.

#[cfg(test)]
use super::pigeon;
use super::{otlp, plain, posthog};
use posthaste_events::outcome::REASON_MAX;
use posthaste_events::{Anonymous, Payload as _, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The backends that are posted to, by name.
pub(super) const BACKENDS: &[Spec] = &[
    posthog::SPEC,
    otlp::SPEC,
    plain::SPEC,
    #[cfg(test)]
    pigeon::SPEC,
];
/// Backends that are planned: known by name, refused as not built yet.
pub(super) const PLANNED: [&str; 4] = ["segment", "amplitude", "mixpanel", "ga4"];

/// One line of the table.
#[derive(Clone, Copy)]
pub(super) struct Spec {
    /// Its name in `backend = "…"`.
    pub(super) name: &'static str,
    /// What is put behind the path of `url`; empty: nothing, the URL is posted to as it is.
    pub(super) path: &'static str,
    /// What becomes of `key`.
    pub(super) key: KeyUse,
    /// Whether requests are compressed where nothing is said.
    pub(super) gzip: bool,
    /// What its protocol takes at most.
    pub(super) bounds: Bounds,
    /// Makes one, with the key where there is one.
    pub(super) make: fn(Option<&str>) -> Box<dyn Backend>,
}

/// What becomes of `key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyUse {
    /// There must be one.
    Required,
    /// It is sent in `authorization`, where there is one.
    Bearer,
    /// There is none in the protocol.
    Never,
}

/// How much a protocol takes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Events in a request.
    pub(super) events: usize,
    /// Bytes of a request's body before compression.
    pub(super) bytes: usize,
    /// Bytes of one event as it is written.
    pub(super) event_bytes: usize,
}

/// A wire format.
pub(super) trait Backend: Send + Sync + 'static {
    /// One event as it stands in a request.
    fn event(&self, event: &Event<'_>) -> Result<Vec<u8>, serde_json::Error>;

    /// The body of a request with these events, each as [`Backend::event`] wrote it. One or more.
    fn body(&self, events: &[&[u8]]) -> Vec<u8>;

    /// What the body is.
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    /// The value of `authorization`, where there is one.
    fn authorization(&self) -> Option<String> {
        None
    }

    /// What an answer says. The default goes by the status alone: [`by_status`].
    fn read(&self, answer: &Answer<'_>) -> Reading {
        by_status(answer.status)
    }
}

/// An answer that came, with what was asked.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// Its status.
    pub(super) status: u16,
    /// Its body, at most 64 KiB of it.
    pub(super) body: &'a [u8],
    /// Whether there was more of the body.
    pub(super) cut: bool,
    /// The ids of the events in the request, in their order.
    pub(super) ids: &'a [&'a str],
}

/// What an answer says of the events in the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It has them; with words that are worth keeping.
    Taken(Option<String>),
    /// It refuses the request for what is in it.
    Refused,
    /// It names the events that it refuses, by their place in the request, and why.
    Named { refused: Vec<(usize, String)>, others: Others },
    /// It will never take them, whatever is in the request.
    Never,
    /// Another time it may; with words where the status does not say all.
    Later(Option<String>),
}

/// What became of the events that were not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// They were taken.
    Taken,
    /// They were not; they must come again without the ones that were named.
    Again,
}

/// What a status alone says: a 2xx is taken; 400, 413 and 422 are about what is in the request; anything else (no
/// permission, a wrong URL, a redirect, too many requests, a failure) may be mended, on either side.
pub(super) const fn by_status(status: u16) -> Reading {
    match status {
        200..=299 => Reading::Taken(None),
        400 | 413 | 422 => Reading::Refused,
        _ => Reading::Later(None),
    }
}

/// One event, taken apart as far as backends need it.
#[derive(Debug)]
pub(super) struct Event<'a> {
    /// The same at every attempt: what a receiver tells repetitions by.
    pub(super) id: &'a str,
    /// When it happened, at the grain.
    pub(super) at: Timestamp,
    /// What the installation is called this month.
    pub(super) installation: &'a str,
    /// The payload.
    pub(super) payload: Parts<'a>,
}

/// A telemetry payload, its trees as they were written.
#[derive(Debug, Deserialize)]
pub(super) struct Parts<'a> {
    /// The type.
    pub(super) event: &'a str,
    /// What the catalogue keeps.
    #[serde(borrow)]
    pub(super) event_properties: &'a RawValue,
    /// What it derives.
    #[serde(borrow)]
    pub(super) derived_properties: &'a RawValue,
}

impl<'a> Event<'a> {
    /// Takes an event apart; fails where its bytes are not what the catalogue's rules write.
    pub(super) fn of(anonymous: &'a Anonymous) -> Result<Self, serde_json::Error> {
        let payload = serde_json::from_slice(anonymous.bytes())?;
        Ok(Self { id: anonymous.id(), at: anonymous.at(), installation: anonymous.installation(), payload })
    }
}

/// An event as plain JSON, as the backends `http` and `file` write it.
#[derive(Debug, Serialize)]
pub(super) struct Plain<'a> {
    id: &'a str,
    time: String,
    installation: &'a str,
    event: &'a str,
    event_properties: &'a RawValue,
    derived_properties: &'a RawValue,
}

impl<'a> Plain<'a> {
    pub(super) fn of(event: &Event<'a>) -> Self {
        Self {
            id: event.id,
            time: event.at.to_string(),
            installation: event.installation,
            event: event.payload.event,
            event_properties: event.payload.event_properties,
            derived_properties: event.payload.derived_properties,
        }
    }
}

/// What a receiver says in its own words, fit to be shown in one line.
pub(super) fn said(words: &str) -> String {
    let shown = words.chars().take(REASON_MAX);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Puts events that are JSON texts between two pieces of JSON, with commas.
pub(super) fn joined(before: &[u8], events: &[&[u8]], after: &[u8]) -> Vec<u8> {
    let len = events.iter().map(|e| e.len() + 1).sum::<usize>() + before.len() + after.len();
    let mut body = Vec::with_capacity(len);
    body.extend_from_slice(before);
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.extend_from_slice(after);
    body
}
