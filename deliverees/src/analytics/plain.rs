//! The backend `http`: plain JSON to a collector of one's own. Its protocol is described in `docs/analytics.md`.
//!
//! `POST` to the URL as it is, `{"batch":[{"id","time","installation","event","event_properties","derived_properties"}…]}`,
//! with `authorization: Bearer` where there is a key. A 2xx takes the batch. An answer may name events that are refused,
//! `{"rejected":[{"id","reason"}…]}`: with a 2xx the others are taken, with a 400, 413 or 422 they are sent again at once
//! without them.

use super::backend::{Answer, Backend, Bounds, Event, KeyUse, Others, Plain, Reading, Spec, by_status, joined, said};
use serde_json::Value;
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

/// The events that an answer names, by id, with the reason; an entry that names none does not hide the others. With how
/// many such entries there are.
fn rejected(body: &[u8]) -> (BTreeMap<String, String>, usize) {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let entries = answer["rejected"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut named = BTreeMap::new();
    for entry in entries {
        let reason = match &entry["reason"] {
            Value::Null => "no reason given".to_owned(),
            Value::String(words) => said(words),
            other => said(&other.to_string()),
        };
        if let Value::String(id) = &entry["id"] {
            named.insert(id.clone(), reason);
        }
    }
    let nameless = entries.iter().filter(|entry| !entry["id"].is_string()).count();
    (named, nameless)
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
        if answer.cut && matches!(others, Others::Taken) {
            // Whom it names behind the cut would count as delivered.
            return Reading::Later(Some("answer: longer than is read".to_owned()));
        }
        let (named, nameless) = rejected(answer.body);
        // An id that was not sent says nothing of what was.
        let refused: Vec<(usize, String)> =
            answer.ids.iter().enumerate().filter_map(|(at, id)| Some((at, named.get(*id)?.clone()))).collect();
        match reading {
            _ if !refused.is_empty() => Reading::Named { refused, others },
            Reading::Taken(_) if nameless > 0 => {
                Reading::Taken(Some(format!("answer: entries of rejected without an id: {nameless}")))
            }
            reading => reading,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_are_named_are_refused_and_the_others_taken_or_sent_again() {
        let read_of = |status, body: &str, cut| {
            (SPEC.make)(None).read(&Answer { status, body: body.as_bytes(), cut, ids: &["a", "b", "c"] })
        };
        let read = |status, body: &str| read_of(status, body, false);
        let named = r#"{"rejected":[{"id":"b","reason":"odd"},{"id":"zzz"},{"id":"a"}]}"#;
        let refused = vec![(0, "no reason given".to_owned()), (1, "odd".to_owned())];
        assert_eq!(read(200, named), Reading::Named { refused: refused.clone(), others: Others::Taken });
        assert_eq!(read(422, named), Reading::Named { refused, others: Others::Again });
        assert_eq!(read(503, named), Reading::Later(None));
        for body in ["", "{}", "[]", r#"{"rejected":[]}"#, r#"{"rejected":[{"id":"zzz"}]}"#, r#"{"rejected":7}"#] {
            assert_eq!(read(202, body), Reading::Taken(None), "{body}");
            assert_eq!(read(400, body), Reading::Refused, "{body}");
        }
        // One entry that is not as it should be does not hide the others.
        let odd = r#"{"rejected":[7,{"id":5},{"reason":"x"},{"id":"c","reason":{"code":7}},null]}"#;
        let refused = vec![(2, "{\"code\":7}".to_owned())];
        assert_eq!(read(200, odd), Reading::Named { refused, others: Others::Taken });
        let note = "answer: entries of rejected without an id: 1".to_owned();
        assert_eq!(read(200, r#"{"rejected":["a"]}"#), Reading::Taken(Some(note)));
        // Of an answer that is cut nobody knows whom it names.
        let words = || Some("answer: longer than is read".to_owned());
        assert_eq!(read_of(200, r#"{"rejected":[{"id":"a"}"#, true), Reading::Later(words()));
        assert_eq!(read_of(400, r#"{"rejected":[{"id":"a"}"#, true), Reading::Refused);
    }
}
