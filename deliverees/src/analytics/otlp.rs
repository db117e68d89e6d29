//! OpenTelemetry logs: OTLP/HTTP 1.x with binary protobuf, <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.
//!
//! `POST {url}/v1/logs` (section "OTLP/HTTP Request"), `content-type: application/x-protobuf`. Credentials go into `headers`,
//! the protocol has none of its own. A body should not be over 20 MiB. Answers (section "OTLP/HTTP Response"): after a
//! partial success nothing may be sent again, and which records were rejected is not said, so all count as delivered, with
//! the words kept; 429, 502, 503 and 504 are retried, any other 4xx or 5xx must not be. Two readings of ours: halves of a
//! request that was refused for what is in it are not that request again; and 401, 403, 404, 405 and 407 speak of the
//! settings of either side, not of the events, so that they are tried again until somebody mends those.
//!
//! An event is a log record with an event name (<https://opentelemetry.io/docs/specs/otel/logs/data-model/#field-eventname>).
//! Both trees become attributes with dotted names. The messages below carry the field numbers of opentelemetry-proto 1.x:
//! `collector/logs/v1/logs_service.proto`, `logs/v1/logs.proto`, `resource/v1/resource.proto`, `common/v1/common.proto`.

use super::backend::{Answer, Backend, Bounds, Event, KeyUse, Reading, Spec, by_status, said};
use prost::Message;
use serde_json::Value;

/// The line in the table.
pub(super) const SPEC: Spec = Spec {
    name: "otlp",
    path: "/v1/logs",
    key: KeyUse::Never,
    gzip: true,
    bounds: Bounds { events: 1_000, bytes: 20 * 1024 * 1024, event_bytes: 1024 * 1024 },
    make: |_| Box::new(Otlp),
};

/// `SEVERITY_NUMBER_INFO`.
const INFO: i32 = 9;

struct Otlp;

impl Backend for Otlp {
    fn event(&self, event: &Event<'_>) -> Result<Vec<u8>, serde_json::Error> {
        let nanos = u64::try_from(event.at.micros()).unwrap_or(0).saturating_mul(1_000);
        let mut attributes = vec![
            // The name that the semantic conventions have for what tells repetitions.
            attribute("log.record.uid", text(event.id)),
            attribute("posthaste.installation", text(event.installation)),
        ];
        let trees = [
            ("event_properties", event.payload.event_properties),
            ("derived_properties", event.payload.derived_properties),
        ];
        for (name, tree) in trees {
            flatten(name.to_owned(), serde_json::from_str(tree.get())?, &mut attributes);
        }
        let record = LogRecord {
            time_unix_nano: nanos,
            observed_time_unix_nano: nanos,
            severity_number: INFO,
            attributes,
            event_name: event.payload.event.to_owned(),
        };
        Ok(record.encode_to_vec())
    }

    fn body(&self, events: &[&[u8]]) -> Vec<u8> {
        let version = env!("CARGO_PKG_VERSION");
        let resource = vec![attribute("service.name", text("posthaste")), attribute("service.version", text(version))];
        let scope = Scope { name: "posthaste".to_owned(), version: version.to_owned() };
        let log_records = events.iter().map(|event| event.to_vec()).collect();
        let request = ExportRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(Resource { attributes: resource }),
                scope_logs: vec![ScopeLogs { scope: Some(scope), log_records }],
            }],
        };
        request.encode_to_vec()
    }

    fn content_type(&self) -> &'static str {
        "application/x-protobuf"
    }

    fn read(&self, answer: &Answer<'_>) -> Reading {
        match by_status(answer.status) {
            Reading::Taken(_) => Reading::Taken(partial(answer.body)),
            Reading::Later(words) => match answer.status {
                // 410 disables the subscription, as for every kind.
                ..=399 | 401 | 403 | 404 | 405 | 407 | 410 | 429 | 502 | 503 | 504 => Reading::Later(words),
                _ => Reading::Never,
            },
            reading => reading,
        }
    }
}

/// What a 200 says beside that it was taken: how many were rejected, or a warning. An answer that is no such message, as
/// of a collector that answers in JSON, says nothing.
fn partial(body: &[u8]) -> Option<String> {
    let partial = ExportResponse::decode(body).ok()?.partial_success?;
    match (partial.rejected_log_records, said(&partial.error_message)) {
        (0, warning) if warning.is_empty() => None,
        (0, warning) => Some(format!("warning: {warning}")),
        (count, why) => Some(format!("partial success: {count} of the request's events were rejected: {why}")),
    }
}

/// Writes a tree as attributes: names of objects with dots between, anything else as a value.
fn flatten(name: String, value: Value, into: &mut Vec<KeyValue>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                flatten(format!("{name}.{key}"), value, into);
            }
        }
        value => into.push(KeyValue { key: name, value: Some(any(value)) }),
    }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value) }
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::Text(text.to_owned())) }
}

/// A JSON value; null is the empty one. Its depth is bounded by the reader of JSON.
fn any(value: Value) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(b) => Some(any_value::Value::Bool(b)),
        Value::Number(n) => Some(match n.as_i64() {
            Some(whole) => any_value::Value::Int(whole),
            None => any_value::Value::Double(n.as_f64().unwrap_or_default()),
        }),
        Value::String(s) => Some(any_value::Value::Text(s)),
        Value::Array(values) => {
            Some(any_value::Value::Array(ArrayValue { values: values.into_iter().map(any).collect() }))
        }
        Value::Object(entries) => {
            let values = entries.into_iter().map(|(key, v)| KeyValue { key, value: Some(any(v)) }).collect();
            Some(any_value::Value::List(KeyValueList { values }))
        }
    };
    AnyValue { value }
}

/// `ExportLogsServiceRequest`
#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

/// `ExportLogsServiceResponse`
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportLogsPartialSuccess`
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_log_records: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `ResourceLogs`
#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

/// `Resource`
#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

/// `ScopeLogs`; its records stand there as each was written: a message within another is its bytes with their length.
#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    log_records: Vec<Vec<u8>>,
}

/// `InstrumentationScope`
#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

/// `LogRecord`
#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "11")]
    observed_time_unix_nano: u64,
    #[prost(string, tag = "12")]
    event_name: String,
}

/// `KeyValue`
#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// `AnyValue`
#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "any_value::Value", tags = "1, 2, 3, 4, 5, 6")]
    value: Option<any_value::Value>,
}

/// The `oneof` of `AnyValue`.
mod any_value {
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Value {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(bool, tag = "2")]
        Bool(bool),
        #[prost(int64, tag = "3")]
        Int(i64),
        #[prost(double, tag = "4")]
        Double(f64),
        #[prost(message, tag = "5")]
        Array(super::ArrayValue),
        #[prost(message, tag = "6")]
        List(super::KeyValueList),
    }
}

/// `ArrayValue`
#[derive(Clone, PartialEq, Message)]
struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

/// `KeyValueList`
#[derive(Clone, PartialEq, Message)]
struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    values: Vec<KeyValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &[u8]) -> Reading {
        Otlp.read(&Answer { status, body, cut: false, ids: &["1"] })
    }

    #[test]
    fn a_partial_success_is_taken_with_its_words() {
        let answered = |rejected_log_records, error_message: &str| {
            let partial = PartialSuccess { rejected_log_records, error_message: error_message.to_owned() };
            read(200, &ExportResponse { partial_success: Some(partial) }.encode_to_vec())
        };
        let words = "partial success: 3 of the request's events were rejected: too old";
        assert_eq!(answered(3, "too\u{1b}old"), Reading::Taken(Some(words.to_owned())));
        assert_eq!(answered(0, "slow down"), Reading::Taken(Some("warning: slow down".to_owned())));
        assert_eq!(answered(0, ""), Reading::Taken(None));
        for body in [&b""[..], b"{\"partialSuccess\":{}}", b"\xff\xff"] {
            assert_eq!(read(200, body), Reading::Taken(None));
        }
    }

    #[test]
    fn only_what_the_specification_lists_is_tried_again_and_what_settings_may_mend() {
        for status in [302, 401, 403, 404, 405, 407, 410, 429, 502, 503, 504] {
            assert_eq!(read(status, b""), Reading::Later(None), "{status}");
        }
        for status in [402, 406, 408, 409, 415, 431, 500, 501, 505, 599] {
            assert_eq!(read(status, b""), Reading::Never, "{status}");
        }
        for status in [400, 413, 422] {
            assert_eq!(read(status, b""), Reading::Refused, "{status}");
        }
    }

    #[test]
    fn every_json_value_has_its_any_value() {
        let mut attributes = Vec::new();
        let tree = r#"{"a":{"b":[1,{"c":null}]},"big":18446744073709551615,"half":0.5,"no":{},"yes":true}"#;
        flatten("t".to_owned(), serde_json::from_str(tree).unwrap(), &mut attributes);
        let keys: Vec<&str> = attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["t.a.b", "t.big", "t.half", "t.yes"]);
        let list = KeyValueList { values: vec![KeyValue { key: "c".to_owned(), value: Some(AnyValue::default()) }] };
        let one = AnyValue { value: Some(any_value::Value::Int(1)) };
        let inner = AnyValue { value: Some(any_value::Value::List(list)) };
        let array = any_value::Value::Array(ArrayValue { values: vec![one, inner] });
        assert_eq!(attributes[0].value, Some(AnyValue { value: Some(array) }));
        let big = any_value::Value::Double(18_446_744_073_709_551_615_f64);
        assert_eq!(attributes[1].value, Some(AnyValue { value: Some(big) }));
    }
}
