//! Turns a draft into what an outbox records: admitted by the catalogue, matched, its payloads built once.
//!
//! This is the one place where payloads are built. Pure: it works on a [`Snapshot`] of catalogue and subscriptions.

use crate::catalogue::{Catalogue, Refused};
use crate::json::{first_16, hash, hash_text, read};
use crate::matching::{Target, owed};
use crate::payload::PAYLOAD_MAX;
use crate::{Draft, Facts, Idempotency, Origin, Payloads, Prepared, Timestamp};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// What catalogue and subscriptions were at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Which set of subscriptions this is; an outbox refuses what was matched against an older one.
    pub epoch: u64,
    /// The declared types.
    pub catalogue: Catalogue,
    /// The subscriptions that take new events.
    pub targets: Vec<Target>,
}

/// Why an event cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The catalogue refuses the type.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The properties are not a JSON object.
    #[error("properties must be a JSON object")]
    NotAnObject,
    /// The payload is longer than [`PAYLOAD_MAX`].
    #[error("the payload has {0} bytes; at most {PAYLOAD_MAX} are taken")]
    TooLarge(usize),
}

impl Snapshot {
    /// Prepares a caller's event; `now` becomes its time of recording.
    ///
    /// # Errors
    /// [`Unfit`] says what is wrong with it.
    pub fn prepare(&self, draft: Draft, now: Timestamp) -> Result<Prepared, Unfit> {
        self.catalogue.admit(&draft.event_type)?;
        self.build(draft, Origin::Record, now)
    }

    /// Prepares one of the daemon's own events.
    ///
    /// # Errors
    /// [`Unfit`] as for any other, but the catalogue is not asked.
    pub fn prepare_ours(&self, draft: Draft, now: Timestamp) -> Result<Prepared, Unfit> {
        self.build(draft, Origin::Daemon, now)
    }

    /// Matches an event again, after the subscriptions changed while it was on its way.
    #[must_use]
    pub fn rematch(&self, mut prepared: Prepared) -> Prepared {
        // `data` is read by itself: within the body it may be one level deeper than is read.
        let body = prepared.payloads.notification().and_then(|b| serde_json::from_slice::<Body>(b).ok());
        let data = body.and_then(|b| serde_json::from_str(b.data.get()).ok()).unwrap_or(Value::Null);
        prepared.owed = owed(&self.targets, &prepared.facts, &data);
        prepared
    }

    fn build(&self, draft: Draft, origin: Origin, now: Timestamp) -> Result<Prepared, Unfit> {
        let Draft { event_type, properties, idempotency_key, occurred_at, key, tenant } = draft;
        let data = read(properties.as_bytes()).ok().filter(Value::is_object).ok_or(Unfit::NotAnObject)?;
        let facts = Facts { event_type, key, tenant, origin, occurred_at, recorded_at: now };
        let body = notification(&facts, &properties);
        if body.len() > PAYLOAD_MAX {
            return Err(Unfit::TooLarge(body.len()));
        }
        let idempotency = idempotency_key.map(|key| idempotency(&facts, &key, &data));
        let owed = owed(&self.targets, &facts, &data);
        Ok(Prepared { facts: Arc::new(facts), idempotency, payloads: Payloads::built(Some(body), None), owed })
    }
}

/// What is read of a notification's body to match it again.
#[derive(serde::Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: &'a serde_json::value::RawValue,
}

/// The body of a standard webhook: exactly `type`, `timestamp` and `data`. `data` is a compact JSON object.
fn notification(facts: &Facts, data: &str) -> Bytes {
    // Types and times need no escaping: their grammars have neither quotes nor backslashes.
    let (event_type, at) = (facts.event_type.as_str(), facts.happened_at());
    Bytes::from(format!(r#"{{"type":"{event_type}","timestamp":"{at}","data":{data}}}"#))
}

fn idempotency(facts: &Facts, key: &str, data: &Value) -> Idempotency {
    let optional = |text: Option<&str>, into: &mut Sha256| {
        into.update([u8::from(text.is_some())]);
        hash_text(text.unwrap_or_default(), into);
    };
    let mut id = Sha256::new();
    optional(facts.tenant.as_deref(), &mut id);
    hash_text(key, &mut id);
    let mut content = Sha256::new();
    hash_text(facts.event_type.as_str(), &mut content);
    optional(facts.key.as_deref(), &mut content);
    optional(facts.tenant.as_deref(), &mut content);
    optional(facts.occurred_at.map(|t| t.micros().to_string()).as_deref(), &mut content);
    hash(data, &mut content);
    Idempotency { key: first_16(id), content: first_16(content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventType;
    use crate::catalogue::{Declared, Undeclared};

    const NOW: i64 = 1_732_000_000_000;

    fn snapshot() -> Snapshot {
        let types = [(EventType::parse("a:b").unwrap(), Declared::default())].into();
        Snapshot { catalogue: Catalogue { types, undeclared: Undeclared::Reject }, ..Snapshot::default() }
    }

    fn draft(event_type: &str, properties: &str) -> Draft {
        Draft { properties: properties.into(), ..Draft::new(EventType::parse(event_type).unwrap()) }
    }

    fn prepare(draft: Draft) -> Result<Prepared, Unfit> {
        snapshot().prepare(draft, Timestamp::from_millis(NOW))
    }

    #[test]
    fn the_body_is_type_timestamp_and_data() {
        let prepared = prepare(draft("a:b", r#"{"n":1.50,"s":"\u00e9"}"#)).unwrap();
        let body = prepared.payloads.notification().unwrap();
        assert_eq!(body, r#"{"type":"a:b","timestamp":"2024-11-19T07:06:40.000Z","data":{"n":1.50,"s":"\u00e9"}}"#);
    }

    #[test]
    fn undeclared_types_and_ours_are_refused() {
        assert!(matches!(prepare(draft("a:c", "{}")), Err(Unfit::Refused(Refused::Undeclared(_)))));
        assert!(matches!(prepare(draft("posthaste:test", "{}")), Err(Unfit::Refused(Refused::Ours))));
    }

    #[test]
    fn properties_that_are_no_object_or_too_long_are_refused() {
        for properties in ["[]", "1", "null", "{", "\"x\""] {
            assert_eq!(prepare(draft("a:b", properties)), Err(Unfit::NotAnObject), "{properties}");
        }
        let long = format!(r#"{{"x":"{}"}}"#, "y".repeat(PAYLOAD_MAX));
        assert!(matches!(prepare(draft("a:b", &long)), Err(Unfit::TooLarge(_))));
    }

    #[test]
    fn an_event_as_deep_as_is_read_is_matched_again_like_any_other() {
        let deep = format!(r#"{{"id":"x","deep":{}{}}}"#, "[".repeat(126), "]".repeat(126));
        let prepared = prepare(draft("a:b", &deep)).unwrap();
        let wheres = vec![crate::matching::Where::new("id", Value::from("x"))];
        let selector = crate::matching::Selector { wheres, ..Default::default() };
        let targets = vec![Target { id: crate::SubscriptionId(7), selector }];
        let owed = Snapshot { targets, ..snapshot() }.rematch(prepared).owed;
        assert_eq!(owed, [crate::SubscriptionId(7)]);
    }

    #[test]
    fn the_same_key_of_another_tenant_is_another_key() {
        let of = |tenant: Option<&str>, properties| {
            let mut d = draft("a:b", properties);
            (d.tenant, d.idempotency_key) = (tenant.map(str::to_owned), Some("k".into()));
            prepare(d).unwrap().idempotency.unwrap()
        };
        assert_ne!(of(None, "{}").key, of(Some(""), "{}").key);
        assert_ne!(of(Some("a"), "{}").key, of(Some("b"), "{}").key);
        assert_eq!(of(None, r#"{"a":1,"b":2}"#), of(None, r#"{"b":2,"a":1}"#));
        assert_ne!(of(None, "{}").content, of(None, r#"{"a":1}"#).content);
    }
}
