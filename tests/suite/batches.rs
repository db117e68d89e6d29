//! Reads what the analytics backends post, each in its own wire format, without a line of the daemon's code.

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use posthaste_tests::Request;
use serde_json::Value;
use std::io::Read as _;

/// The backends that post, as `backend = "…"` names them.
pub(crate) const POSTED: [&str; 3] = ["http", "posthog", "otlp"];

/// An event of a batch: its number, and the id that it arrived under.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    pub(crate) n: u64,
    pub(crate) id: String,
}

/// The events of a request, each of which has its number kept as `n`.
pub(crate) fn numbered(backend: &str, request: &Request) -> Result<Vec<Numbered>> {
    let mut body = Vec::new();
    match request.header("content-encoding") {
        "" => body.extend_from_slice(&request.body),
        "gzip" => drop(GzDecoder::new(request.body.as_slice()).read_to_end(&mut body)?),
        other => bail!("content-encoding {other}"),
    }
    if backend == "otlp" {
        return logs(&body).context("no request of OTLP");
    }
    let said: Value = serde_json::from_slice(&body)?;
    let (id, place) =
        if backend == "posthog" { ("uuid", "/properties/event_properties/n") } else { ("id", "/event_properties/n") };
    let one = |event: &Value| Some(Numbered { n: event.pointer(place)?.as_u64()?, id: event[id].as_str()?.to_owned() });
    let events = said["batch"].as_array().context("a batch")?;
    events.iter().map(|event| one(event).with_context(|| event.to_string())).collect()
}

/// What a backend answers to a batch that it takes.
pub(crate) fn taken(backend: &str) -> (u16, &'static [u8]) {
    match backend {
        "posthog" => (200, b"{\"status\":1}"),
        "otlp" => (200, b""),
        _ => (202, b"{}"),
    }
}

/// Records of an `ExportLogsServiceRequest`: resource_logs = 1, scope_logs = 2, log_records = 2, attributes = 6.
fn logs(request: &[u8]) -> Option<Vec<Numbered>> {
    let mut events = Vec::new();
    for resource in within(request, 1)? {
        for scope in within(resource, 2)? {
            for record in within(scope, 2)? {
                let (mut n, mut id) = (None, None);
                for attribute in within(record, 6)? {
                    let value = within(attribute, 2)?.pop()?;
                    match within(attribute, 1)?.pop()? {
                        b"event_properties.n" => n = number(value),
                        b"log.record.uid" => id = String::from_utf8(within(value, 1)?.pop()?.to_vec()).ok(),
                        _ => {}
                    }
                }
                events.push(Numbered { n: n?, id: id? });
            }
        }
    }
    Some(events)
}

/// An `AnyValue` that is an int64 (field 3).
fn number(mut value: &[u8]) -> Option<u64> {
    (varint(&mut value)? == 3 << 3).then(|| varint(&mut value)).flatten()
}

/// What stands in the fields of this number that have a length.
fn within(mut message: &[u8], wanted: u64) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = match tag & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (bytes, rest) = message.split_at_checked(length)?;
        message = rest;
        if tag == wanted << 3 | 2 {
            found.push(bytes);
        }
    }
    Some(found)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
