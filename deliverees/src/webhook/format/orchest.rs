//! Writes the envelope of Orchest, so that its receivers need no change: `delivered_for` and `event`, as JSON or as two
//! fields of a form, with its headers. The ids are made from ours and stay the same at every attempt.

use super::{Event, JSON, Message, data};
use posthaste_events::Timestamp;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use url::form_urlencoded::Serializer;

const FORM: &str = "application/x-www-form-urlencoded";
/// Who its receivers know.
const USER_AGENT: &str = "Orchest";

/// For whom it is: what a receiver was told of itself.
#[derive(Serialize)]
struct DeliveredFor<'a> {
    uuid: String,
    r#type: &'a str,
    name: &'a str,
    verify_ssl: bool,
    content_type: &'a str,
}

#[derive(Serialize)]
struct Envelope<'a> {
    delivered_for: DeliveredFor<'a>,
    event: &'a BTreeMap<String, &'a RawValue>,
}

pub(super) fn write(event: &Event<'_>, form: bool, verify_ssl: bool) -> Result<Message, serde_json::Error> {
    let content_type = if form { FORM } else { JSON };
    let event_type = event.facts.event_type.as_str();
    // The three names are the envelope's, whatever the data say.
    let ours = [
        ("uuid", to_raw_value(&uuid("event", &event.id.event.to_bytes()))?),
        ("type", to_raw_value(event_type)?),
        ("timestamp", to_raw_value(&written(event.facts.happened_at()))?),
    ];
    let mut told: BTreeMap<String, &RawValue> = serde_json::from_str(data(event.body)?.get())?;
    told.extend(ours.iter().map(|(name, value)| ((*name).to_owned(), &**value)));
    let delivered_for = DeliveredFor {
        uuid: uuid("subscription", event.subscription.as_bytes()),
        r#type: "webhook",
        name: event.subscription,
        verify_ssl,
        content_type,
    };
    let body = if form {
        let mut fields = Serializer::new(String::new());
        fields.append_pair("delivered_for", &serde_json::to_string(&delivered_for)?);
        fields.append_pair("event", &serde_json::to_string(&told)?);
        fields.finish().into_bytes()
    } else {
        serde_json::to_vec(&Envelope { delivered_for, event: &told })?
    };
    let headers = vec![
        ("x-orchest-event", event_type.to_owned()),
        ("x-orchest-delivery", uuid("delivery", event.id.to_string().as_bytes())),
    ];
    Ok(Message { headers, user_agent: USER_AGENT, ..Message::of(content_type, body) })
}

/// A UUID of version 8 (RFC 9562, section 5.8): 122 bits of the SHA-256 over what it stands for.
fn uuid(of: &str, bytes: &[u8]) -> String {
    let hash = Sha256::new().chain_update(of).chain_update([0]).chain_update(bytes).finalize();
    let hex: String = hash[..16]
        .iter()
        .enumerate()
        .map(|(i, byte)| match i {
            6 => format!("{:02x}", byte & 0x0f | 0x80),
            8 => format!("{:02x}", byte & 0x3f | 0x80),
            _ => format!("{byte:02x}"),
        })
        .collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A time as its receivers read it, `2024-05-01 02:03:04.500000+00:00`: six digits behind the point, always.
fn written(at: Timestamp) -> String {
    let text = at.to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    let (seconds, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((time, ""));
    format!("{day} {seconds}.{fraction:0<6}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_original_wrote_them() {
        for (at, text) in [
            ("2024-05-01T02:03:04.5Z", "2024-05-01 02:03:04.500000+00:00"),
            ("2024-05-01T09:00:00.000001Z", "2024-05-01 09:00:00.000001+00:00"),
            ("2024-05-01T11:00:00+02:00", "2024-05-01 09:00:00.000000+00:00"),
        ] {
            assert_eq!(written(Timestamp::parse(at).unwrap()), text);
        }
    }

    #[test]
    fn an_id_is_a_uuid_of_version_8_and_differs_by_what_it_stands_for() {
        let id = uuid("event", b"x");
        let bytes: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(bytes, [8, 4, 4, 4, 12]);
        assert!(id.as_bytes()[14] == b'8' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_eq!(id, uuid("event", b"x"));
        assert!(id != uuid("event", b"y") && id != uuid("delivery", b"x"));
    }
}
