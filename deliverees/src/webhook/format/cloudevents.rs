//! Writes CloudEvents 1.0.2 (<https://github.com/cloudevents/spec>): the JSON format, or the binary mode of the HTTP
//! binding.

use super::{Event, JSON, Message, data};
use serde::Serialize;
use serde_json::value::RawValue;

/// A CloudEvent as the JSON format has it (section 3.2 of it, for data that is JSON).
#[derive(Serialize)]
struct Structured<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    datacontenttype: &'a str,
    sequence: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    data: &'a RawValue,
}

pub(super) fn write(event: &Event<'_>, source: &str, binary: bool) -> Result<Message, serde_json::Error> {
    let data = data(event.body)?;
    let facts = event.facts;
    let (id, time) = (event.id.event.to_string(), facts.happened_at().to_string());
    // The extension wants texts that sort as the events do; a sequence has 48 bits at most, which are 15 digits.
    let sequence = format!("{:015}", event.id.event.sequence());
    let whole = Structured {
        specversion: "1.0",
        id: &id,
        source,
        r#type: facts.event_type.as_str(),
        time: &time,
        subject: facts.key.as_deref().filter(|key| is_text(key)),
        datacontenttype: JSON,
        sequence: &sequence,
        tenant: facts.tenant.as_deref().filter(|tenant| is_text(tenant)),
        data,
    };
    if !binary {
        return Ok(Message::of("application/cloudevents+json", serde_json::to_vec(&whole)?));
    }
    let attributes = [
        ("ce-specversion", Some(whole.specversion)),
        ("ce-id", Some(whole.id)),
        ("ce-source", Some(whole.source)),
        ("ce-type", Some(whole.r#type)),
        ("ce-time", Some(whole.time)),
        ("ce-subject", whole.subject),
        ("ce-sequence", Some(whole.sequence)),
        ("ce-tenant", whole.tenant),
    ];
    let headers = attributes.into_iter().filter_map(|(name, value)| Some((name, encoded(value?)))).collect();
    Ok(Message { headers, ..Message::of(JSON, data.get().as_bytes().to_vec()) })
}

/// Whether a text may be an attribute: the type system (section "Type System" of the specification) leaves out control
/// characters and what is no character.
fn is_text(text: &str) -> bool {
    let none = |c: char| u32::from(c) & 0xfffe == 0xfffe || matches!(c, '\u{fdd0}'..='\u{fdef}');
    !text.is_empty() && !text.chars().any(|c| c.is_control() || none(c))
}

/// The value of a header, as section 3.1.3.2 of the HTTP binding says: whatever is no visible ASCII, a quote and a percent
/// sign become the percent encoding of their UTF-8.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_encoded_as_the_example_of_the_binding() {
        // HTTP binding, 3.1.3.2.
        assert_eq!(encoded("Euro \u{20ac} \u{1f600}"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(encoded("50% \"off\"\t\r\n/~!"), "50%25%20%22off%22%09%0D%0A/~!");
    }

    #[test]
    fn a_text_with_control_characters_is_no_attribute() {
        for good in ["a", "\u{e4} \u{1f600}", "\u{feff}", "\u{a0}"] {
            assert!(is_text(good), "{good:?}");
        }
        for bad in ["", "a\n", "\u{7f}", "\u{85}", "\u{fffe}", "\u{1ffff}", "\u{fdd0}", "\u{0}"] {
            assert!(!is_text(bad), "{bad:?}");
        }
    }
}
