//! Reads who and what a message is about, whatever its format: type, id, when the event happened; and remembers ids, so that
//! one that comes again is told.

use crate::cli::output::plain;
use hyper::header::HeaderMap;
use posthaste_events::Timestamp;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};

/// How many ids are remembered; then the oldest is forgotten.
const IDS_MAX: usize = 10_000;
/// How long an id may be that is remembered, in bytes.
const ID_BYTES_MAX: usize = 256;

/// What a message says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) event_type: Option<String>,
    /// The same at every attempt.
    pub(super) id: Option<String>,
    pub(super) happened_at: Option<Timestamp>,
}

impl Arrived {
    /// Reads the headers and the unpacked body of a webhook in any format.
    pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let prefixed = || {
            let mut names = headers.keys().map(hyper::header::HeaderName::as_str);
            // Signatures of the body alone have no id beside them.
            names.find_map(|name| {
                let prefix = name.strip_suffix("signature").filter(|p| p.ends_with('-') && *p != "x-hub-")?;
                header(&format!("{prefix}id"))
            })
        };
        let body = envelope(headers, body);
        let said = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let time = header("ce-time")
            .or_else(|| said("/timestamp"))
            .or_else(|| said("/time"))
            .or_else(|| said("/event/timestamp"));
        Self {
            event_type: said("/type")
                .filter(|_| body.get("attachments").is_none())
                .or_else(|| header("ce-type"))
                .or_else(|| header("x-orchest-event")),
            id: header("webhook-id")
                .or_else(prefixed)
                .or_else(|| header("ce-id"))
                .or_else(|| header("x-orchest-delivery"))
                .filter(|id| id.len() <= ID_BYTES_MAX),
            // The envelope of Orchest has a space where RFC 3339 has a T.
            happened_at: time.and_then(|text| Timestamp::parse(&text.replacen(' ', "T", 1)).ok()),
        }
    }

    /// How long ago the event happened, in words.
    pub(super) fn latency(&self, now: Timestamp) -> Option<String> {
        let micros = now.micros().saturating_sub(self.happened_at?.micros());
        // Ahead of us by less than clocks differ is no news.
        let early = micros < -1_000_000;
        let millis = if early { micros.unsigned_abs() } else { micros.max(0).unsigned_abs() } / 1_000;
        let span = match millis {
            0..10_000 => format!("{millis} ms"),
            10_000..600_000 => format!("{} s", millis / 1_000),
            600_000..172_800_000 => format!("{} min", millis / 60_000),
            _ => format!("{} d", millis / 86_400_000),
        };
        Some(if early { format!("{span} before its time") } else { format!("{span} after the event") })
    }

    /// Type and id, as they are printed.
    pub(super) fn named(&self) -> String {
        let event_type = self.event_type.as_deref().map_or_else(|| "(no type)".to_owned(), plain);
        format!("{event_type}  {}", self.id.as_deref().map_or_else(|| "-".to_owned(), plain))
    }
}

/// The body as JSON; a form of two fields becomes the envelope that it stands for.
fn envelope(headers: &HeaderMap, body: &[u8]) -> Value {
    let form = headers.get("content-type").is_some_and(|value| value == "application/x-www-form-urlencoded");
    if !form {
        return serde_json::from_slice(body).unwrap_or_default();
    }
    let fields = url::form_urlencoded::parse(body).take(8);
    fields.map(|(name, text)| (name.into_owned(), serde_json::from_str::<Value>(&text).unwrap_or_default())).collect()
}

/// The ids that came lately, and how often each.
#[derive(Debug, Default)]
pub(super) struct Ids {
    times: HashMap<String, u32>,
    order: VecDeque<String>,
}

impl Ids {
    /// Notes an id, and says the how-manieth time it came, from 1.
    pub(super) fn note(&mut self, id: &str) -> u32 {
        if let Some(times) = self.times.get_mut(id) {
            *times = times.saturating_add(1);
            return *times;
        }
        if self.order.len() >= IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.times.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.times.insert(id.to_owned(), 1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn type_id_and_time_are_found_in_every_format() {
        let at = Timestamp::parse("2024-05-01T02:03:04.5Z").unwrap();
        let form = "delivered_for=%7B%7D&event=%7B%22timestamp%22%3A%222024-05-01+02%3A03%3A04.500000%2B00%3A00%22%7D";
        for (pairs, body, whole) in [
            (
                &[("webhook-id", "evt_1")][..],
                r#"{"type":"a:b","timestamp":"2024-05-01T02:03:04.500Z","data":{}}"#,
                true,
            ),
            (
                &[("webhook-id", "evt_1")],
                r#"{"specversion":"1.0","type":"a:b","time":"2024-05-01T02:03:04.500Z"}"#,
                true,
            ),
            (&[("ce-id", "evt_1"), ("ce-type", "a:b"), ("ce-time", "2024-05-01T02:03:04.500Z")], r#"{"x":1}"#, true),
            (
                &[("x-orchest-delivery", "evt_1"), ("x-orchest-event", "a:b")],
                r#"{"delivered_for":{},"event":{"type":"a:b","timestamp":"2024-05-01 02:03:04.500000+00:00"}}"#,
                true,
            ),
            (
                &[
                    ("x-orchest-event", "a:b"),
                    ("acme-id", "evt_1"),
                    ("acme-signature", "v1,x"),
                    ("content-type", "application/x-www-form-urlencoded"),
                ],
                form,
                true,
            ),
            (
                &[
                    ("x-hub-signature", "0a"),
                    ("x-hub-id", "evt_2"),
                    ("b-signature", "v1,x"),
                    ("acme-signature", "v1,x"),
                    ("acme-id", "evt_1"),
                ],
                r#"{"type":"a:b","timestamp":"2024-05-01T02:03:04.500Z","data":{}}"#,
                true,
            ),
            (&[], r#"{"type":"message","attachments":[]}"#, false),
            (&[], "no json", false),
        ] {
            let arrived = Arrived::read(&headers(pairs), body.as_bytes());
            let wanted = Arrived { event_type: Some("a:b".into()), id: Some("evt_1".into()), happened_at: Some(at) };
            assert_eq!(arrived, if whole { wanted } else { Arrived::default() }, "{body}");
        }
    }

    #[test]
    fn how_long_ago_is_said_in_a_unit_that_fits() {
        let arrived = Arrived { happened_at: Some(Timestamp::from_millis(1_000_000)), ..Arrived::default() };
        for (after, words) in [
            (12, "12 ms after the event"),
            (-500, "0 ms after the event"),
            (-5_000, "5000 ms before its time"),
            (61_000, "61 s after the event"),
            (7_200_000, "120 min after the event"),
            (864_000_000, "10 d after the event"),
        ] {
            assert_eq!(arrived.latency(Timestamp::from_millis(1_000_000 + after)).unwrap(), words);
        }
        assert_eq!(Arrived::default().latency(Timestamp::from_millis(0)), None);
    }

    #[test]
    fn an_id_that_comes_again_is_counted_and_old_ones_are_forgotten() {
        let mut ids = Ids::default();
        assert_eq!([ids.note("a"), ids.note("b"), ids.note("a"), ids.note("a")], [1, 1, 2, 3]);
        for n in 0..IDS_MAX {
            ids.note(&format!("id {n}"));
        }
        assert_eq!((ids.times.len(), ids.order.len(), ids.note("a")), (IDS_MAX, IDS_MAX, 1));
    }
}
