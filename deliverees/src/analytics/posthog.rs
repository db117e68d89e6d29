//! PostHog: <https://posthog.com/docs/api/capture>, "Batch events".
//!
//! `POST {url}/batch/` with `{"api_key","batch":[…]}`; the key is the project's (`phc_…`) and no secret of a person. A
//! request may have 20 MB; one event 1 MB in their queue, of which their own clients leave a tenth for what the server adds
//! (900 KiB, `MAX_MSG_SIZE` of posthog-python). A 200 is `{"status":…}`; it names in `quota_limited` what was not kept
//! because the project is over its quota. An event that is refused is not named, a 400 is about the whole request.
//! Repetitions are told by `uuid`.
//!
//! What is switched off, event by event: `$process_person_profile = false` makes no person of the installation
//! (<https://posthog.com/docs/data/anonymous-vs-identified-events>), `$geoip_disable` looks up no place, and an `$ip` that is
//! there, null, is not filled with the address of the daemon. `sent_at` is left out: with it PostHog would move the times,
//! which are rounded on purpose, by what the clocks differ.

use super::backend::{Answer, Backend, Bounds, Event, KeyUse, Reading, Spec, by_status, joined};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

/// The line in the table.
pub(super) const SPEC: Spec = Spec {
    name: "posthog",
    path: "/batch/",
    key: KeyUse::Required,
    gzip: true,
    bounds: Bounds { events: 1_000, bytes: 20_000_000, event_bytes: 900 * 1024 },
    make: |key| Box::new(PostHog { before: format!("{{\"api_key\":{},\"batch\":[", json!(key.unwrap_or_default())) }),
};

struct PostHog {
    /// What stands before the events.
    before: String,
}

#[derive(Serialize)]
struct Written<'a> {
    uuid: &'a str,
    event: &'a str,
    distinct_id: &'a str,
    timestamp: String,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Properties<'a> {
    event_properties: &'a RawValue,
    derived_properties: &'a RawValue,
    #[serde(rename = "$process_person_profile")]
    process_person_profile: bool,
    #[serde(rename = "$geoip_disable")]
    geoip_disable: bool,
    #[serde(rename = "$ip")]
    ip: Option<&'a str>,
    #[serde(rename = "$lib")]
    lib: &'a str,
    #[serde(rename = "$lib_version")]
    lib_version: &'a str,
}

/// The part of an answer that is read.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    quota_limited: Vec<String>,
}

impl Backend for PostHog {
    fn event(&self, event: &Event<'_>) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Written {
            uuid: event.id,
            event: event.payload.event,
            distinct_id: event.installation,
            timestamp: event.at.to_string(),
            properties: Properties {
                event_properties: event.payload.event_properties,
                derived_properties: event.payload.derived_properties,
                process_person_profile: false,
                geoip_disable: true,
                ip: None,
                lib: "posthaste",
                lib_version: env!("CARGO_PKG_VERSION"),
            },
        })
    }

    fn body(&self, events: &[&[u8]]) -> Vec<u8> {
        joined(self.before.as_bytes(), events, b"]}")
    }

    fn read(&self, answer: &Answer<'_>) -> Reading {
        // What else is limited (recordings, flags) is none of ours.
        let limited = serde_json::from_slice::<Said>(answer.body)
            .is_ok_and(|said| said.quota_limited.iter().any(|what| what == "events"));
        match by_status(answer.status) {
            Reading::Taken(_) if limited => {
                Reading::Later(Some("quota: the project is over its quota of events".to_owned()))
            }
            reading => reading,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_200_that_says_that_events_are_over_the_quota_is_no_success() {
        let read = |body: &str| {
            (SPEC.make)(Some("phc_x")).read(&Answer { status: 200, body: body.as_bytes(), cut: false, ids: &["1"] })
        };
        assert!(matches!(read(r#"{"status":1,"quota_limited":["events"]}"#), Reading::Later(Some(_))));
        for body in [r#"{"status":1}"#, r#"{"status":"Ok","quota_limited":["recordings"]}"#, "1", "", "ok"] {
            assert_eq!(read(body), Reading::Taken(None), "{body}");
        }
    }

    #[test]
    fn a_key_with_a_quote_stays_a_text() {
        let body = (SPEC.make)(Some("a\"b")).body(&[b"{}", b"{}"]);
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read, json!({ "api_key": "a\"b", "batch": [{}, {}] }));
    }
}
