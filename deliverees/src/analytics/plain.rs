//! The backend `http`: plain JSON to a collector of one's own. Its protocol is described in `docs/analytics.md`.
//!
//! `POST` to the URL as it is, `{"batch":[{"id","time","installation","event","event_properties","derived_properties"}…]}`,
//! with `authorization: Bearer` where there is a key. A 2xx takes the batch. An answer may name events that are refused,
//! `{"rejected":[{"id","reason"}…]}`: with a 2xx the others are taken, with a 400, 413 or 422 they are sent again at once
//! without them.

use super::backend::{Answer, Backend, Bounds, Event, KeyUse, Others, Plain, Reading, Spec, by_status, joined, said};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The line in the table.
pub(super) const SPEC: Spec = Spec {
    name: "http",
    path: "",
    key: KeyUse::Bearer,
    // There is no way to ask a collector whether it decodes.
    gzip: false,
    bounds: Bounds { events: 1_000, bytes: 16 * 1024 * 1024, event_bytes: 1024 * 1024 },
    make: |key| Box::new(Http { authorization: key.map(|key| format!("Bearer {key}")) }),
};

struct Http {
    authorization: Option<String>,
}

/// The part of an answer that is read.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    rejected: Vec<Rejected<'a>>,
}

#[derive(Deserialize)]
struct Rejected<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    reason: Option<String>,
}

impl Backend for Http {
    fn event(&self, event: &Event<'_>) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Plain::of(event))
    }

    fn body(&self, events: &[&[u8]]) -> Vec<u8> {
        joined(b"{\"batch\":[", events, b"]}")
    }

    fn authorization(&self) -> Option<String> {
        self.authorization.clone()
    }

    fn read(&self, answer: &Answer<'_>) -> Reading {
        let reading = by_status(answer.status);
        let others = match reading {
            Reading::Taken(_) => Others::Taken,
            Reading::Refused => Others::Again,
            _ => return reading,
        };
        let Ok(named) = serde_json::from_slice::<Said<'_>>(answer.body) else { return reading };
        let named: BTreeMap<&str, &Rejected<'_>> = named.rejected.iter().map(|r| (r.id.as_ref(), r)).collect();
        let why = |r: &Rejected<'_>| said(r.reason.as_deref().unwrap_or("no reason given"));
        // An id that was not sent says nothing of what was.
        let refused: Vec<(usize, String)> =
            answer.ids.iter().enumerate().filter_map(|(at, id)| Some((at, why(named.get(id)?)))).collect();
        if refused.is_empty() { reading } else { Reading::Named { refused, others } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_are_named_are_refused_and_the_others_taken_or_sent_again() {
        let read = |status, body: &str| {
            (SPEC.make)(None).read(&Answer { status, body: body.as_bytes(), ids: &["a", "b", "c"] })
        };
        let named = r#"{"rejected":[{"id":"b","reason":"odd"},{"id":"zzz"},{"id":"a"}]}"#;
        let refused = vec![(0, "no reason given".to_owned()), (1, "odd".to_owned())];
        assert_eq!(read(200, named), Reading::Named { refused: refused.clone(), others: Others::Taken });
        assert_eq!(read(422, named), Reading::Named { refused, others: Others::Again });
        assert_eq!(read(503, named), Reading::Later(None));
        for body in ["", "{}", "[]", r#"{"rejected":[]}"#, r#"{"rejected":[{"id":"zzz"}]}"#, r#"{"rejected":7}"#] {
            assert_eq!(read(202, body), Reading::Taken(None), "{body}");
            assert_eq!(read(400, body), Reading::Refused, "{body}");
        }
    }
}
