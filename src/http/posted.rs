//! Turns a posted body into prepared events, or says everything that is wrong with it.
//!
//! Pure: what it needs to know (the catalogue, the time, the caller's tenant) is passed in.

use super::json;
use super::problem::{FAULTS_MAX, Fault, Problem, escaped, quoted};
use posthaste_events::event::NAME_CHARS_MAX;
use posthaste_events::json::compact;
use posthaste_events::payload::PAYLOAD_MAX;
use posthaste_events::prepare::{Snapshot, Unfit};
use posthaste_events::{Draft, EventType, Prepared, Timestamp};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// How many events one array may have.
pub(crate) const EVENTS_MAX: usize = 1_000;
/// The fields of an event, as the faults name them.
const FIELDS: &str = "type, properties, idempotency_key, occurred_at, key and tenant";

/// What a body is read against.
pub(crate) struct Against<'a> {
    /// The catalogue and the subscriptions.
    pub(crate) snapshot: &'a Snapshot,
    /// The tenant that the caller is bound to.
    pub(crate) tenant: Option<&'a str>,
    /// The header `Idempotency-Key`.
    pub(crate) idempotency_key: Option<&'a str>,
    /// What becomes the time of recording.
    pub(crate) now: Timestamp,
}

/// What was posted, ready to be recorded.
#[derive(Debug, PartialEq)]
pub(crate) enum Posted {
    /// One event.
    One(Box<Prepared>),
    /// An array of 1 to [`EVENTS_MAX`].
    Many(Vec<Prepared>),
}

/// Reads a body.
///
/// # Errors
/// 400 where it is not one whole JSON text, 403 where an event is another tenant's than the caller's, 413 where a
/// payload is too long, else 422 with every fault; after [`FAULTS_MAX`] of them nothing more is read.
pub(crate) fn read(body: &[u8], against: &Against<'_>) -> Result<Posted, Problem> {
    let text =
        json::check(body).map_err(|e| Problem::unreadable(format!("the body is not one whole JSON text: {e}")))?;
    let mut reading = Reading { against, faults: Vec::new(), foreign: false, too_large: false };
    let posted = if text.trim_ascii_start().starts_with('[') {
        // An array of anything: the elements are judged one by one.
        let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| Problem::unreadable(e.to_string()))?;
        if against.idempotency_key.is_some() {
            let detail = "the header Idempotency-Key is for a single event; in an array each event has its own field";
            reading.faults.push(Fault::at("", detail));
        }
        if elements.is_empty() || elements.len() > EVENTS_MAX {
            let detail = format!("an array has 1 to {EVENTS_MAX} events, this one {}", elements.len());
            return Err(Problem::wrong(vec![Fault::at("", detail)]));
        }
        let mut events = Vec::with_capacity(elements.len());
        for (n, raw) in elements.iter().enumerate() {
            events.extend(reading.event(raw.get(), &format!("/{n}")));
            // What is wrong all over is not read to its end.
            if reading.faults.len() >= FAULTS_MAX {
                break;
            }
        }
        Posted::Many(events)
    } else {
        match reading.event(text.trim_ascii(), "") {
            Some(event) => Posted::One(Box::new(event)),
            // Some fault was noted, see below.
            None => Posted::Many(Vec::new()),
        }
    };
    reading.judge().map(|()| posted)
}

struct Reading<'a> {
    against: &'a Against<'a>,
    faults: Vec<Fault>,
    foreign: bool,
    too_large: bool,
}

impl Reading<'_> {
    fn judge(self) -> Result<(), Problem> {
        if self.foreign {
            return Err(Problem::forbidden("the token is bound to another tenant than the event's").naming(self.faults));
        }
        match (self.faults.is_empty(), self.too_large) {
            (true, _) => Ok(()),
            (false, true) => {
                Err(Problem::too_large(format!("a payload has at most {PAYLOAD_MAX} bytes")).naming(self.faults))
            }
            (false, false) => Err(Problem::wrong(self.faults)),
        }
    }

    /// Reads one event; `None` where a fault was noted.
    fn event(&mut self, text: &str, at: &str) -> Option<Prepared> {
        if !text.starts_with('{') {
            self.fault(at, "", "an event is a JSON object");
            return None;
        }
        let fields = match serde_json::from_str::<Fields<'_>>(text) {
            Ok(fields) => fields,
            Err(e) => {
                self.fault(at, "", e.to_string());
                return None;
            }
        };
        // Never full: nothing is read once it is.
        let before = self.faults.len();
        for name in &fields.unknown {
            let pointer = format!("/{}", escaped(&quoted(name)));
            self.fault(at, &pointer, format!("an event has no such field; it has {FIELDS}"));
        }
        let event_type = self.event_type(&fields, at);
        let properties = self.properties(&fields, at);
        let idempotency_key = self.idempotency_key(&fields, at);
        let occurred_at = self.occurred_at(&fields, at);
        let key = self.name(fields.key, at, "/key");
        let tenant = self.tenant(&fields, at);
        let event_type = event_type?;
        if self.faults.len() > before {
            // The catalogue's word is worth having beside the other faults.
            if let Err(refused) = self.against.snapshot.catalogue.admit(&event_type) {
                self.fault(at, "/type", refused.to_string());
            }
            return None;
        }
        let draft = Draft { event_type, properties, idempotency_key, occurred_at, key, tenant };
        self.prepare(draft, at)
    }

    fn prepare(&mut self, draft: Draft, at: &str) -> Option<Prepared> {
        match self.against.snapshot.prepare(draft, self.against.now) {
            Ok(prepared) => return Some(prepared),
            Err(Unfit::Refused(refused)) => self.fault(at, "/type", refused.to_string()),
            Err(Unfit::Misfits(misfits)) => {
                for misfit in misfits {
                    self.fault(at, &format!("/properties{}", misfit.pointer), misfit.detail);
                }
            }
            // That it is JSON and an object is known by now.
            Err(Unfit::NotAnObject | Unfit::TelemetryOff) => {
                self.fault(at, "/properties", "a number in it is too large to be read")
            }
            Err(error @ Unfit::TooLarge(_)) => {
                self.too_large = true;
                self.fault(at, "/properties", error.to_string());
            }
        }
        None
    }

    fn event_type(&mut self, fields: &Fields<'_>, at: &str) -> Option<EventType> {
        let Some(raw) = fields.event_type else {
            self.fault(at, "/type", "the type of the event is missing");
            return None;
        };
        let text = self.text(raw, at, "/type")?;
        EventType::parse(&text).map_err(|e| self.fault(at, "/type", e.to_string())).ok()
    }

    fn properties(&mut self, fields: &Fields<'_>, at: &str) -> String {
        match fields.properties.map(RawValue::get) {
            None => "{}".to_owned(),
            Some(text) if text.starts_with('{') => compact(text),
            Some(_) => {
                self.fault(at, "/properties", "properties are a JSON object");
                String::new()
            }
        }
    }

    fn idempotency_key(&mut self, fields: &Fields<'_>, at: &str) -> Option<String> {
        let field = self.name(fields.idempotency_key, at, "/idempotency_key");
        let header = self.against.idempotency_key.filter(|_| at.is_empty());
        if let Some(detail) = header.and_then(bad_name) {
            self.fault(at, "/idempotency_key", format!("the header Idempotency-Key: {detail}"));
        }
        if let (Some(header), Some(field)) = (header, &field)
            && header != field
        {
            self.fault(at, "/idempotency_key", "the header Idempotency-Key says something else");
        }
        field.or_else(|| header.map(str::to_owned))
    }

    fn occurred_at(&mut self, fields: &Fields<'_>, at: &str) -> Option<Timestamp> {
        let text = self.text(fields.occurred_at?, at, "/occurred_at")?;
        Timestamp::parse(&text).map_err(|e| self.fault(at, "/occurred_at", e.to_string())).ok()
    }

    fn tenant(&mut self, fields: &Fields<'_>, at: &str) -> Option<String> {
        let said = self.name(fields.tenant, at, "/tenant");
        match (said, self.against.tenant) {
            (Some(said), Some(bound)) if said != bound => {
                self.foreign = true;
                self.fault(at, "/tenant", "the token is bound to another tenant");
                None
            }
            (Some(said), _) => Some(said),
            (None, bound) => bound.map(str::to_owned),
        }
    }

    /// A text of 1 to 256 characters.
    fn name(&mut self, raw: Option<&RawValue>, at: &str, pointer: &str) -> Option<String> {
        let text = self.text(raw?, at, pointer)?;
        if let Some(detail) = bad_name(&text) {
            self.fault(at, pointer, detail);
            return None;
        }
        Some(text)
    }

    fn text(&mut self, raw: &RawValue, at: &str, pointer: &str) -> Option<String> {
        let read = serde_json::from_str(raw.get()).ok();
        if read.is_none() {
            self.fault(at, pointer, "this is a text; leave it out where there is none");
        }
        read
    }

    fn fault(&mut self, at: &str, pointer: &str, detail: impl Into<String>) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault::at(format!("{at}{pointer}"), detail));
        }
    }
}

/// What is wrong with a key or a name of a caller's.
pub(super) fn bad_name(text: &str) -> Option<String> {
    // Counted no further than needed: a body may be megabytes of one text.
    let chars = text.chars().take(NAME_CHARS_MAX + 1).count();
    (chars == 0 || chars > NAME_CHARS_MAX).then(|| format!("this has 1 to {NAME_CHARS_MAX} characters"))
}

/// The fields of an event, each still as its own JSON text.
#[derive(Default)]
struct Fields<'a> {
    event_type: Option<&'a RawValue>,
    properties: Option<&'a RawValue>,
    idempotency_key: Option<&'a RawValue>,
    occurred_at: Option<&'a RawValue>,
    key: Option<&'a RawValue>,
    tenant: Option<&'a RawValue>,
    unknown: Vec<String>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(Name(name)) = map.next_key()? {
            let value = map.next_value()?;
            let place = match &*name {
                "type" => &mut fields.event_type,
                "properties" => &mut fields.properties,
                "idempotency_key" => &mut fields.idempotency_key,
                "occurred_at" => &mut fields.occurred_at,
                "key" => &mut fields.key,
                "tenant" => &mut fields.tenant,
                _ => {
                    if fields.unknown.len() < FAULTS_MAX {
                        fields.unknown.push(name.into_owned());
                    }
                    continue;
                }
            };
            *place = Some(value);
        }
        Ok(fields)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::ResponseError as _;
    use posthaste_events::catalogue::declare::{Declarations, EventDeclaration, FieldDeclaration, FieldKind};
    use posthaste_events::catalogue::{Catalogue, Undeclared};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn snapshot() -> Snapshot {
        let plain = [("n", FieldKind::Number), ("big", FieldKind::Number), ("s", FieldKind::String)];
        let fields = plain.map(|(name, kind)| FieldDeclaration::new(name, kind)).to_vec();
        let event = EventDeclaration { name: "a:b".into(), fields, ..EventDeclaration::default() };
        let declared = Declarations { layers: Vec::new(), events: vec![event] };
        let catalogue = Catalogue::compile(&declared, Undeclared::Reject).unwrap();
        Snapshot { catalogue, ..Snapshot::default() }
    }

    fn read_as(body: &[u8], tenant: Option<&str>, header: Option<&str>) -> Result<Posted, (u16, Vec<String>)> {
        let against =
            Against { snapshot: &snapshot(), tenant, idempotency_key: header, now: Timestamp::from_millis(0) };
        read(body, &against).map_err(|problem| {
            let status = problem.status_code().as_u16();
            let body = problem.error_response().into_body();
            let bytes = actix_web::body::MessageBody::try_into_bytes(body).unwrap();
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            let errors = body["errors"].as_array().cloned().unwrap_or_default();
            (status, errors.iter().map(|e| e["pointer"].as_str().unwrap().to_owned()).collect())
        })
    }

    fn refused(body: &str) -> (u16, Vec<String>) {
        read_as(body.as_bytes(), None, None).unwrap_err()
    }

    #[test]
    fn an_event_keeps_the_callers_own_json_text() {
        let body = r#" {"type":"a:b", "properties": { "n": 1.50, "big": 12345678901234567890123, "s": "\u00e9 x" } } "#;
        let Posted::One(event) = read_as(body.as_bytes(), None, None).unwrap() else { panic!("not one") };
        let text = std::str::from_utf8(event.payloads.notification().unwrap()).unwrap().to_owned();
        assert!(text.ends_with(r#""data":{"n":1.50,"big":12345678901234567890123,"s":"\u00e9 x"}}"#), "{text}");
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let body = json!({"type": "A", "properties": [], "idempotency_key": "", "occurred_at": "yesterday",
            "key": 5, "tenant": "x".repeat(257), "a/b~": 1});
        let (status, pointers) = refused(&body.to_string());
        assert_eq!(status, 422);
        assert_eq!(
            pointers,
            ["/a~1b~0", "/type", "/properties", "/idempotency_key", "/occurred_at", "/key", "/tenant"]
        );
    }

    #[test]
    fn in_an_array_each_pointer_has_its_place() {
        let body =
            json!([{"type": "a:b"}, {"type": "a:undeclared"}, 7, {"properties": {}}, {"type": "posthaste:test"}]);
        assert_eq!(
            refused(&body.to_string()),
            (422, ["/1/type", "/2", "/3/type", "/4/type"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn bodies_that_are_no_events_are_refused() {
        for body in ["7", "null", "\"a\"", "[]", "true"] {
            assert_eq!(refused(body), (422, vec![String::new()]), "{body}");
        }
        let many = Value::from(vec![json!({"type": "a:b"}); 1_001]).to_string();
        assert_eq!(refused(&many), (422, vec![String::new()]));
        for field in ["type", "properties", "idempotency_key", "occurred_at", "key", "tenant"] {
            let mut body = json!({"type": "a:b"});
            body[field] = Value::Null;
            assert_eq!(refused(&body.to_string()), (422, vec![format!("/{field}")]), "{field}");
        }
        assert_eq!(refused(r#"{"type":"a:b","properties":{"n":1e999}}"#), (422, vec!["/properties".to_owned()]));
    }

    #[test]
    fn after_a_hundred_faults_nothing_more_is_read() {
        let unknown = five_hundred();
        let long = format!("{}{}", "y".repeat(PAYLOAD_MAX), "y");
        let first = json!({"type": "a:b", "properties": unknown});
        let second = json!({"type": "a:b", "properties": {"s": long}});
        let (status, pointers) = refused(&json!([first, second]).to_string());
        assert_eq!((status, pointers.len(), pointers[99].as_str()), (422, 100, "/0/properties/k099"));
        assert_eq!(refused(&json!([second, first]).to_string()).0, 413, "the control: what is read is judged");
        let (_, pointers) = refused(&Value::Object(five_hundred()).to_string());
        assert_eq!(pointers.len(), 100);
    }

    fn five_hundred() -> serde_json::Map<String, Value> {
        (0..500).map(|n| (format!("k{n:03}"), Value::Null)).collect()
    }

    #[test]
    fn what_is_not_json_is_400_whatever_else_is_wrong() {
        for body in ["", "{", r#"{"type":"\ud800"}"#, r#"{"what":1} x"#, r#"{"type":"a:b","type":"a:b"}"#] {
            assert_eq!(refused(body).0, 400, "{body}");
        }
    }

    #[test]
    fn a_payload_over_the_bound_is_413() {
        let body = json!({"type": "a:b", "properties": {"s": "y".repeat(PAYLOAD_MAX)}});
        assert_eq!(refused(&body.to_string()), (413, vec!["/properties".to_owned()]));
    }

    #[test]
    fn a_bound_caller_records_with_its_tenant_and_no_other() {
        let tenant = |body: &str| match read_as(body.as_bytes(), Some("acme"), None) {
            Ok(Posted::One(event)) => Ok(event.facts.tenant.clone()),
            Ok(Posted::Many(_)) => panic!("many"),
            Err((status, _)) => Err(status),
        };
        assert_eq!(tenant(r#"{"type":"a:b"}"#), Ok(Some("acme".to_owned())));
        assert_eq!(tenant(r#"{"type":"a:b","tenant":"acme"}"#), Ok(Some("acme".to_owned())));
        assert_eq!(tenant(r#"{"type":"a:b","tenant":"other"}"#), Err(403));
        assert_eq!(tenant(r#"[{"type":"a:b"},{"type":"a:b","tenant":"other"}]"#), Err(403));
    }

    #[test]
    fn the_header_serves_a_single_event_as_the_field_does() {
        let key = |body: &str, header| match read_as(body.as_bytes(), None, header) {
            Ok(Posted::One(event)) => Ok(event.idempotency),
            Ok(Posted::Many(_)) => panic!("many"),
            Err((status, _)) => Err(status),
        };
        let field = key(r#"{"type":"a:b","idempotency_key":"k"}"#, None).unwrap();
        assert!(field.is_some());
        assert_eq!(key(r#"{"type":"a:b"}"#, Some("k")), Ok(field));
        assert_eq!(key(r#"{"type":"a:b","idempotency_key":"k"}"#, Some("k")), Ok(field));
        assert_eq!(key(r#"{"type":"a:b","idempotency_key":"other"}"#, Some("k")), Err(422));
        assert_eq!(key(r#"{"type":"a:b"}"#, Some("")), Err(422));
        assert_eq!(key(r#"[{"type":"a:b"}]"#, Some("k")), Err(422));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused_with_a_4xx(
            body: Vec<u8>,
            name in "type|properties|key|tenant|occurred_at|idempotency_key|[a-z]{0,5}",
            value in "[0-9\\[\\]{}\",:a-z\\\\. -]{0,20}|\"[^\"\\\\]{0,10}\"",
        ) {
            let object = format!("{{\"type\":\"a:b\",\"{name}\":{value}}}");
            for bytes in [body.as_slice(), object.as_bytes(), format!("[{object}]").as_bytes()] {
                if let Err((status, _)) = read_as(bytes, None, None) {
                    prop_assert!((400..500).contains(&status), "{status}");
                }
            }
        }
    }
}
