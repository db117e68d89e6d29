//! Reads a batch of analytics events, whichever backend wrote it, and says what that backend wants to hear.
//!
//! Protobuf is read here by itself, as little of it as an event needs: so what is shown is also a second opinion on what
//! was written.

use super::{BODY_MAX, SHOWN_MAX};
use crate::cli::output::plain;
use flate2::read::GzDecoder;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;

/// How many events of a batch are read; the others are counted.
const EVENTS_MAX: usize = 1_000;
/// How long an event may be that is read: more than any backend takes.
const EVENT_MAX: usize = 1024 * 1024;
/// How many values of an event of protobuf are read: in memory each is many times what it may be in a body.
const VALUES_MAX: usize = 200_000;
/// How deep the messages of a batch may be nested: that of the protocol are ten, values of ours a few more.
const DEPTH_MAX: usize = 64;

/// A batch.
#[derive(Debug, PartialEq)]
pub(super) struct Batch {
    /// Whose form it has.
    pub(super) backend: &'static str,
    /// The type of each of the first [`EVENTS_MAX`] events, and the beginning of what it tells. As text, since the values
    /// of a whole batch may take many times as much memory as its body.
    pub(super) events: Vec<(String, String)>,
    /// How many events there are.
    pub(super) count: usize,
    /// What is answered to a good one: media type and body.
    pub(super) answer: (&'static str, &'static str),
}

/// A body as it was before it was compressed.
///
/// # Errors
/// Why it cannot be read, as a person is told.
pub(super) fn unpacked<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Cow<'b, [u8]>, String> {
    match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(Cow::Borrowed(body)),
        Some(b"gzip") => {
            let mut read = Vec::new();
            // A small body may unpack to a huge one.
            let most = u64::try_from(BODY_MAX).unwrap_or(u64::MAX);
            GzDecoder::new(body).take(most + 1).read_to_end(&mut read).map_err(|e| format!("this is no gzip: {e}"))?;
            if read.len() > BODY_MAX {
                Err(format!("unpacked it has more than {BODY_MAX} bytes"))
            } else {
                Ok(read.into())
            }
        }
        Some(other) => Err(format!("content-encoding {} is not read", plain(&String::from_utf8_lossy(other)))),
    }
}

/// The batch that a body is, if it is one.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Option<Batch> {
    if headers.get(CONTENT_TYPE).is_some_and(|value| value == "application/x-protobuf") {
        let (events, count) = logs(body)?;
        return Some(Batch { backend: "otlp", events, count, answer: ("application/x-protobuf", "") });
    }
    let Said { batch: Events { events, count }, api_key } = serde_json::from_slice(body).ok()?;
    let (backend, answer) = match api_key {
        Some(_) => ("posthog", "{\"status\":1}"),
        None => ("http", "{}"),
    };
    Some(Batch { backend, events, count, answer: ("application/json", answer) })
}

/// The lines that tell of a batch.
pub(super) fn lines(batch: &Batch) -> Vec<String> {
    let count = batch.count;
    let mut lines = vec![format!("{}  {count} event{}", batch.backend, if count == 1 { "" } else { "s" })];
    lines.extend(batch.events.iter().map(|(event_type, told)| format!("  {}  {told}", plain(event_type))));
    if count > batch.events.len() {
        lines.push(format!("  and {} more", count - batch.events.len()));
    }
    lines
}

/// The beginning of what an event tells.
fn shown(told: &Value) -> String {
    plain(&told.to_string()).chars().take(SHOWN_MAX).collect()
}

/// What a batch of JSON has.
#[derive(Deserialize)]
struct Said {
    batch: Events,
    api_key: Option<IgnoredAny>,
}

/// The first events of a batch, each read and let go before the next, and how many there are.
struct Events {
    events: Vec<(String, String)>,
    count: usize,
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EventsVisitor)
    }
}

struct EventsVisitor;

impl<'de> Visitor<'de> for EventsVisitor {
    type Value = Events;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Events, A::Error> {
        let mut read = Events { events: Vec::new(), count: 0 };
        while read.events.len() < EVENTS_MAX {
            let Some(raw) = seq.next_element::<&RawValue>()? else { break };
            read.events.push(event(raw));
            read.count += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            read.count += 1;
        }
        Ok(read)
    }
}

/// An event of JSON: both trees, which `posthog` has under `properties`.
fn event(raw: &RawValue) -> (String, String) {
    let length = raw.get().len();
    if length > EVENT_MAX {
        return ("(too long)".to_owned(), format!("({length} bytes)"));
    }
    let event: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    let event_type = event.get("event").and_then(Value::as_str).unwrap_or("(no type)").to_owned();
    let of = event.get("properties").unwrap_or(&event);
    let tree = |name: &str| Some((name.to_owned(), of.get(name)?.clone()));
    let trees: Map<_, _> = ["event_properties", "derived_properties"].into_iter().filter_map(tree).collect();
    (event_type, shown(&trees.into()))
}

/// The first records of an `ExportLogsServiceRequest` (opentelemetry-proto, `collector/logs/v1/logs_service.proto`), and
/// how many there are; `None` where it is none.
fn logs(request: &[u8]) -> Option<(Vec<(String, String)>, usize)> {
    let (mut events, mut count) = (Vec::new(), 0);
    // resource_logs = 1, scope_logs = 2, log_records = 2.
    for resource in messages(request, 1) {
        for scope in messages(resource?, 2) {
            for record in messages(scope?, 2) {
                count += 1;
                if events.len() < EVENTS_MAX {
                    events.push(log(record?)?);
                }
            }
        }
    }
    Some((events, count))
}

/// A `LogRecord`: its attributes (6) and its event name (12).
fn log(record: &[u8]) -> Option<(String, String)> {
    let mut left = VALUES_MAX;
    let name = last(record, 12)?.map(|name| String::from_utf8_lossy(name).into_owned());
    Some((name.unwrap_or_else(|| "(no type)".to_owned()), shown(&entries(record, 6, 0, &mut left)?)))
}

/// The `KeyValue`s in a field: key = 1, value = 2; as many of them as `left` says may still be read.
fn entries(message: &[u8], field: u64, depth: usize, left: &mut usize) -> Option<Value> {
    let mut entries = Map::new();
    for entry in messages(message, field) {
        let entry = entry?;
        if *left == 0 {
            break;
        }
        *left -= 1;
        let key = last(entry, 1)?.unwrap_or_default();
        let value = last(entry, 2)?.unwrap_or_default();
        entries.insert(String::from_utf8_lossy(key).into_owned(), any(value, depth + 1, left)?);
    }
    Some(entries.into())
}

/// An `AnyValue`.
fn any(message: &[u8], depth: usize, left: &mut usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut value = Value::Null;
    for field in fields(message) {
        value = match field? {
            (1, Wire::Bytes(text)) => String::from_utf8_lossy(text).into_owned().into(),
            (2, Wire::Number(n)) => (n != 0).into(),
            // An int64 is written as the same 64 bits.
            (3, Wire::Number(n)) => n.cast_signed().into(),
            (4, Wire::Fixed(bits)) => Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number),
            (5, Wire::Bytes(list)) => values(list, depth, left)?,
            (6, Wire::Bytes(list)) => entries(list, 1, depth, left)?,
            (7, Wire::Bytes(bytes)) => format!("({} bytes)", bytes.len()).into(),
            _ => value,
        };
    }
    Some(value)
}

/// An `ArrayValue`; as much of it as `left` says may still be read.
fn values(list: &[u8], depth: usize, left: &mut usize) -> Option<Value> {
    let mut values = Vec::new();
    for value in messages(list, 1) {
        let value = value?;
        if *left == 0 {
            break;
        }
        *left -= 1;
        values.push(any(value, depth + 1, left)?);
    }
    Some(values.into())
}

/// A value of a field as protobuf writes it (<https://protobuf.dev/programming-guides/encoding/>).
#[derive(Clone, Copy)]
enum Wire<'b> {
    Number(u64),
    Fixed(u64),
    Bytes(&'b [u8]),
    /// Four bytes, which nothing here needs.
    Short,
}

/// The messages, texts or bytes of one field, one by one; `None` where what follows is no message.
fn messages(message: &[u8], wanted: u64) -> impl Iterator<Item = Option<&[u8]>> {
    fields(message).filter_map(move |read| match read {
        None => Some(None),
        Some((field, Wire::Bytes(bytes))) if field == wanted => Some(Some(bytes)),
        Some(_) => None,
    })
}

/// The last of them, which counts where there should be one; `None` where it is no message.
fn last(message: &[u8], wanted: u64) -> Option<Option<&[u8]>> {
    messages(message, wanted).try_fold(None, |_, found| found.map(Some))
}

/// Every field of a message, one by one: together they may be many times as large as it is. `None`, which is the last, where
/// it is none.
fn fields(mut message: &[u8]) -> impl Iterator<Item = Option<(u64, Wire<'_>)>> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let read = field(&mut message);
        if read.is_none() {
            message = &[];
        }
        Some(read)
    })
}

/// Takes the first field off a message.
fn field<'b>(message: &mut &'b [u8]) -> Option<(u64, Wire<'b>)> {
    let tag = varint(message)?;
    let wire = match tag & 7 {
        0 => Wire::Number(varint(message)?),
        1 => {
            let (bits, rest) = message.split_first_chunk::<8>()?;
            *message = rest;
            Wire::Fixed(u64::from_le_bytes(*bits))
        }
        2 => {
            let length = usize::try_from(varint(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(length)?;
            *message = rest;
            Wire::Bytes(bytes)
        }
        5 => {
            *message = message.get(4..)?;
            Wire::Short
        }
        _ => return None,
    };
    Some((tag >> 3, wire))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, prop, prop_oneof, proptest};
    use serde_json::json;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parsed = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        parsed.collect::<Vec<(hyper::header::HeaderName, _)>>().into_iter().collect()
    }

    fn told() -> String {
        json!({"event_properties": {"a": true}, "derived_properties": {"b_count": 2}}).to_string()
    }

    #[test]
    fn batches_of_json_are_told_apart_by_their_key() {
        let posthog = json!({"api_key": "phc_x", "batch": [{"event": "a:b", "uuid": "u", "properties": {
            "event_properties": {"a": true}, "derived_properties": {"b_count": 2}, "$ip": null,
        }}]});
        let batch = read(&HeaderMap::new(), posthog.to_string().as_bytes()).unwrap();
        assert_eq!((batch.backend, batch.answer.1), ("posthog", "{\"status\":1}"));
        assert_eq!(batch.events, [("a:b".to_owned(), told())]);
        let plain = json!({"batch": [{"id": "u", "event": "a:b", "event_properties": {"a": true},
            "derived_properties": {"b_count": 2}}, {"event": "a:c"}]});
        let batch = read(&HeaderMap::new(), plain.to_string().as_bytes()).unwrap();
        assert_eq!(batch.backend, "http");
        assert_eq!(batch.events, [("a:b".to_owned(), told()), ("a:c".to_owned(), "{}".to_owned())]);
        assert_eq!(lines(&batch)[0], "http  2 events");
        assert!(lines(&batch)[1].starts_with("  a:b  {\"derived_properties\""), "{:?}", lines(&batch));
        for other in [&br#"{"type":"a:b","data":{}}"#[..], b"{\"batch\":1}", b"text", b""] {
            assert_eq!(read(&HeaderMap::new(), other), None);
        }
    }

    /// Messages as protobuf writes them: a tag, a length of one byte, and what is in it.
    fn message(field: u8, inner: &[u8]) -> Vec<u8> {
        let length = u8::try_from(inner.len()).unwrap();
        assert!(length < 128);
        [&[field << 3 | 2, length], inner].concat()
    }

    fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
        message(6, &[message(1, key.as_bytes()), message(2, value)].concat())
    }

    #[test]
    fn logs_of_opentelemetry_are_read() {
        let list = message(5, &[message(1, &message(1, b"x")), message(1, &[3 << 3, 1])].concat());
        let map = message(6, &message(1, &[message(1, b"k"), message(2, &[2 << 3, 0])].concat()));
        let record = [
            // time_unix_nano, which is not looked at.
            [&[1 << 3 | 1][..], &7_u64.to_le_bytes()].concat(),
            attribute("text", &message(1, b"yes")),
            attribute("flag", &[2 << 3, 1]),
            attribute("whole", &[3 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            attribute("half", &[&[4 << 3 | 1][..], &0.5_f64.to_le_bytes()].concat()),
            attribute("list", &list),
            attribute("map", &map),
            attribute("null", &[]),
            message(12, b"a:b"),
        ]
        .concat();
        // The record is longer than a length of one byte says.
        let longer = |field: u8, inner: &[u8]| {
            let length = inner.len();
            let bytes = [u8::try_from(length & 0x7f).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()];
            [&[field << 3 | 2][..], &bytes, inner].concat()
        };
        let request = longer(1, &[message(1, b""), longer(2, &longer(2, &record))].concat());
        let batch = read(&headers(&[("content-type", "application/x-protobuf")]), &request).unwrap();
        let expected = json!({"text": "yes", "flag": true, "whole": -1, "half": 0.5, "list": ["x", 1],
            "map": {"k": false}, "null": null});
        assert_eq!(batch.events, [("a:b".to_owned(), expected.to_string())]);
        assert_eq!(read(&headers(&[("content-type", "application/x-protobuf")]), &request[..request.len() - 1]), None);
    }

    #[test]
    fn what_would_be_many_times_its_body_in_memory_is_counted_and_not_kept() {
        let otlp = headers(&[("content-type", "application/x-protobuf")]);
        let long = |field: u8, inner: &[u8]| {
            let length = inner.len();
            let digits = [length & 0x7f | 0x80, length >> 7 & 0x7f | 0x80, length >> 14];
            let digits = digits.map(|digit| u8::try_from(digit).unwrap());
            [&[field << 3 | 2][..], &digits, inner].concat()
        };
        // Records of two bytes, each without a name.
        let records = [2_u8 << 3 | 2, 0].repeat(100_000);
        let batch = read(&otlp, &long(1, &long(2, &records))).unwrap();
        assert_eq!((batch.events.len(), batch.count), (EVENTS_MAX, 100_000));
        assert_eq!(lines(&batch).last().unwrap(), "  and 99000 more");
        // A list of more values than are read.
        let list = [1_u8 << 3 | 2, 0].repeat(VALUES_MAX + 10);
        let mut left = VALUES_MAX;
        let read_list = any(&long(5, &list), 0, &mut left).unwrap();
        assert_eq!((read_list.as_array().unwrap().len(), left), (VALUES_MAX, 0));
        // Of JSON the same.
        let many = format!("{{\"batch\":[{}0]}}", "0,".repeat(100_000));
        let batch = read(&HeaderMap::new(), many.as_bytes()).unwrap();
        assert_eq!((batch.events.len(), batch.count), (EVENTS_MAX, 100_001));
        let one = format!("{{\"batch\":[[{}0]]}}", "0,".repeat(EVENT_MAX));
        let batch = read(&HeaderMap::new(), one.as_bytes()).unwrap();
        assert_eq!(batch.events, [("(too long)".to_owned(), format!("({} bytes)", 2 * EVENT_MAX + 3))]);
    }

    #[test]
    fn gzip_is_unpacked_and_bounded() {
        use std::io::Write as _;
        let packed = |bytes: &[u8]| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        };
        let gzip = headers(&[("content-encoding", "gzip")]);
        assert_eq!(unpacked(&gzip, &packed(b"text")).unwrap().as_ref(), b"text");
        assert!(unpacked(&gzip, b"text").unwrap_err().contains("no gzip"));
        assert!(unpacked(&gzip, &packed(&vec![0; BODY_MAX + 1])).unwrap_err().contains("more than"));
        assert!(unpacked(&headers(&[("content-encoding", "br")]), b"").unwrap_err().contains("br is not read"));
        assert_eq!(unpacked(&HeaderMap::new(), b"text").unwrap().as_ref(), b"text");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any_byte(), 0..200)) {
            let _ = read(&headers(&[("content-type", "application/x-protobuf")]), &bytes);
        }
    }

    /// Tags and lengths that occur, and everything else.
    fn any_byte() -> impl Strategy<Value = u8> {
        prop_oneof![4 => prop::sample::select(vec![0x0a_u8, 0x12, 0x32, 0x2a, 0x62, 2, 4, 8, 16, 3]), 1 => proptest::num::u8::ANY]
    }
}
