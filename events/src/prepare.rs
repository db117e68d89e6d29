//! Turns a draft into what an outbox records: admitted by the catalogue, matched, its payloads built once.
//!
//! This is the one place where payloads are built. Pure: it works on a [`Snapshot`] of catalogue and subscriptions.

use crate::catalogue::declare::Audience;
use crate::catalogue::{Catalogue, Declared, Misfit, Refused};
use crate::json::{first_16, hash, hash_text, read};
use crate::layered::{Attempted, Failure};
use crate::matching::{Targets, owed};
use crate::payload::{PAYLOAD_MAX, Telemetry};
use crate::{Draft, EventId, EventType, Facts, Idempotency, Origin, Payloads, Prepared, SubscriptionId, Timestamp};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// What catalogue and subscriptions were at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Which set of subscriptions this is; an outbox refuses what was matched against an older one.
    pub epoch: u64,
    /// The declared types.
    pub catalogue: Catalogue,
    /// The subscriptions that take new events.
    pub targets: Targets,
    /// How telemetry is built; `None`: it is switched off, nothing is built.
    pub telemetry: Option<TelemetryPolicy>,
    /// To whom an event is owed whose telemetry could not be built; `None`: nobody keeps such events.
    pub quarantine: Option<SubscriptionId>,
}

/// How telemetry is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelemetryPolicy {
    /// Times that leave are rounded down to it; 1 ms or more.
    pub time_grain: Duration,
}

impl Default for TelemetryPolicy {
    fn default() -> Self {
        Self { time_grain: Duration::from_secs(60 * 60) }
    }
}

/// An event of a client that brings what is already anonymized; nothing of it is ever notified.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayDraft {
    /// What happened.
    pub event_type: EventType,
    /// What leaves as `event_properties`: an object.
    pub properties: Value,
    /// What leaves as `derived_properties`: an object.
    pub derived_properties: Value,
    /// Repeating it records nothing new. 1 to 256 characters.
    pub idempotency_key: Option<String>,
    /// Whose event it is. 1 to 256 characters.
    pub tenant: Option<String>,
}

/// A relayed event, ready to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Relayed {
    /// What is recorded.
    pub prepared: Prepared,
    /// JSON Pointers of what the telemetry schema does not know, and which was left out.
    pub dropped: Vec<String>,
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
    /// The properties do not fit what the catalogue declares of the type; never empty.
    #[error("{}: {}", .0.first().map_or("", |m| &m.pointer), .0.first().map_or("", |m| &m.detail))]
    Misfits(Vec<Misfit>),
    /// The payload is longer than [`PAYLOAD_MAX`].
    #[error("the payload has {0} bytes; at most {PAYLOAD_MAX} are taken")]
    TooLarge(usize),
    /// Telemetry is switched off, so there is nothing to relay.
    #[error("telemetry is switched off")]
    TelemetryOff,
}

impl Snapshot {
    /// Prepares a caller's event; `now` becomes its time of recording.
    ///
    /// # Errors
    /// [`Unfit`] says what is wrong with it.
    pub fn prepare(&self, draft: Draft, now: Timestamp) -> Result<Prepared, Unfit> {
        let declared = self.catalogue.admit(&draft.event_type)?;
        self.build(draft, declared, Origin::Record, Fit::Must, now)
    }

    /// Prepares an event that was built in Rust, whatever came of building it: one that failed, or whose values do not
    /// fit, is recorded and notified as far as it goes, and quarantined.
    ///
    /// # Errors
    /// [`Unfit`] as for any other, but never [`Unfit::Misfits`].
    pub fn prepare_attempted(&self, attempted: Attempted, now: Timestamp) -> Result<Prepared, Unfit> {
        let Attempted { draft, failure } = attempted;
        let declared = self.catalogue.admit(&draft.event_type)?;
        self.build(draft, declared, Origin::Record, Fit::Tried(failure.map(|failure| failed(&failure))), now)
    }

    /// Prepares one of the daemon's own events.
    ///
    /// # Errors
    /// [`Unfit`] as for any other, but the catalogue is not asked.
    pub fn prepare_ours(&self, draft: Draft, now: Timestamp) -> Result<Prepared, Unfit> {
        self.build(draft, None, Origin::Daemon, Fit::Must, now)
    }

    /// Prepares what a client brings already anonymized: it goes to analytics alone.
    ///
    /// # Errors
    /// [`Unfit`]; a type that is not declared is refused whatever the catalogue says of such types.
    pub fn prepare_relayed(&self, draft: RelayDraft, now: Timestamp) -> Result<Relayed, Unfit> {
        let RelayDraft { event_type, properties, derived_properties, idempotency_key, tenant } = draft;
        let declared = self.catalogue.admit(&event_type)?.ok_or_else(|| Refused::Undeclared(event_type.clone()))?;
        let policy = self.telemetry.ok_or(Unfit::TelemetryOff)?;
        if !properties.is_object() || !derived_properties.is_object() {
            return Err(Unfit::NotAnObject);
        }
        let (body, dropped) = declared.relay(&event_type, &properties, &derived_properties);
        if body.len() > PAYLOAD_MAX {
            return Err(Unfit::TooLarge(body.len()));
        }
        let facts = Facts { event_type, key: None, tenant, origin: Origin::Relay, occurred_at: None, recorded_at: now };
        let brought = serde_json::json!([properties, derived_properties]);
        let idempotency = idempotency_key.map(|key| idempotency(&facts, &key, &brought));
        let telemetry = Telemetry { at: grained(now, policy), body: body.into() };
        let payloads = Payloads::built(None, Some(&telemetry));
        let owed = self.targets.owed(&facts, &Value::Null, &payloads);
        let facts = Arc::new(facts);
        let prepared = Prepared { facts, idempotency, payloads, owed, quarantined: None, unnotified: None };
        Ok(Relayed { prepared, dropped })
    }

    /// Matches an event again, after the subscriptions changed while it was on its way.
    #[must_use]
    pub fn rematch(&self, mut prepared: Prepared) -> Prepared {
        if self.telemetry.is_none() && prepared.payloads.kept().is_some() {
            // Switched off meanwhile: what was built, or kept to be built from, goes no further.
            prepared.payloads = Payloads::built(prepared.payloads.notification().cloned(), None);
        } else if let Some(built) = prepared.payloads.told_to_analytics() {
            let telemetry = self.still_leaves(&prepared.facts, &built);
            prepared.payloads = Payloads::built(prepared.payloads.notification().cloned(), telemetry.as_ref());
        }
        let Prepared { facts, payloads, unnotified, .. } = &prepared;
        prepared.owed = match unnotified {
            Some(data) => self.targets.owed(facts, data, &payloads.unnotified()),
            None => {
                let data = payloads.notification().and_then(|b| data_of(b)).unwrap_or(Value::Null);
                self.targets.owed(facts, &data, payloads)
            }
        };
        self.quarantine(&mut prepared);
        prepared
    }

    /// Whether a subscription would be owed an event that was recorded before, were it recorded now.
    #[must_use]
    pub fn selects(&self, subscription: SubscriptionId, facts: &Facts, payloads: &Payloads) -> bool {
        let targets = self.targets.of(subscription);
        if targets.is_empty() {
            return false;
        }
        let data = payloads.notification().and_then(|b| data_of(b)).unwrap_or(Value::Null);
        !owed(targets.iter().map(|target| &**target), facts, &data, payloads).is_empty()
    }

    /// Prepares what a quarantined event should have told analytics, by the catalogue of now: an event of its own, owed
    /// to analytics alone. The first of several that are recorded for the same event counts. `None` while telemetry is
    /// switched off.
    ///
    /// # Errors
    /// Why it still cannot be built.
    pub fn prepare_again(
        &self,
        event: EventId,
        facts: &Facts,
        payloads: &Payloads,
        now: Timestamp,
    ) -> Result<Option<Prepared>, String> {
        let declared = self.catalogue.get(&facts.event_type);
        let declared = declared.ok_or_else(|| format!("the type {:?} is not declared any more", facts.event_type))?;
        let properties = match (payloads.properties(), payloads.notification()) {
            (Some(kept), _) => std::str::from_utf8(kept).ok(),
            (None, Some(body)) => text_of(body),
            (None, None) => None,
        };
        let unread = || "what was kept of it cannot be read".to_owned();
        let properties = properties.ok_or_else(unread)?;
        let data: Value = serde_json::from_str(properties).map_err(|_| unread())?;
        if let Some(misfit) = declared.told_misfit(&data) {
            return Err(format!("its properties do not fit the type: {misfit}"));
        }
        let facts = Facts { origin: Origin::Relay, occurred_at: Some(facts.happened_at()), ..facts.clone() };
        let Some(telemetry) = self.telemetry(&facts, Some(declared), &data)? else { return Ok(None) };
        let facts = Facts { recorded_at: now, ..facts };
        let payloads = Payloads::built(None, Some(&telemetry));
        // As at first: matching sees what a notification tells.
        let told = match declared.notification(&data, properties) {
            Cow::Owned(text) if declared.audience != Audience::Telemetry => read(text.as_bytes()).ok(),
            _ => None,
        };
        let data = told.unwrap_or(data);
        let owed = self.targets.owed(&facts, &data, &payloads);
        let mut key = Sha256::new();
        // No caller's key hashes alike: those begin with 0, 1 or 2.
        hash_text("posthaste quarantine", &mut key);
        hash_text(&event.to_string(), &mut key);
        let key = first_16(key);
        Ok(Some(Prepared {
            facts: Arc::new(facts),
            idempotency: Some(Idempotency { key, content: key }),
            payloads,
            owed,
            quarantined: None,
            unnotified: Some(Arc::new(data)),
        }))
    }

    fn build(
        &self,
        draft: Draft,
        declared: Option<&Declared>,
        origin: Origin,
        fit: Fit,
        now: Timestamp,
    ) -> Result<Prepared, Unfit> {
        let Draft { event_type, properties, idempotency_key, occurred_at, key, tenant } = draft;
        // Before anything else is looked at: what is too long is that, whatever stands in it.
        if properties.len() > PAYLOAD_MAX {
            return Err(Unfit::TooLarge(properties.len()));
        }
        let data = read(properties.as_bytes()).ok().filter(Value::is_object).ok_or(Unfit::NotAnObject)?;
        let misfits = declared.map(|d| d.check(&data)).unwrap_or_default();
        let failure = match fit {
            Fit::Must if !misfits.is_empty() => return Err(Unfit::Misfits(misfits)),
            Fit::Must => None,
            Fit::Tried(why) => why.or_else(|| declared.and_then(|d| d.told_misfit(&data))),
        };
        let facts = Facts { event_type, key, tenant, origin, occurred_at, recorded_at: now };
        let told = declared.map_or(Cow::Borrowed(properties.as_str()), |d| d.notification(&data, &properties));
        let body = notification(&facts, &told);
        if body.len() > PAYLOAD_MAX {
            return Err(Unfit::TooLarge(body.len()));
        }
        // Where nothing would leave anyway, nothing is missing.
        let built = match failure.filter(|_| self.telemetry.is_some() && declared.is_some()) {
            Some(why) => Err(why),
            None => self.telemetry(&facts, declared, &data),
        };
        let (telemetry, quarantined) = match built {
            Ok(telemetry) => (telemetry, None),
            Err(why) => (None, Some(why)),
        };
        let idempotency = idempotency_key.map(|key| idempotency(&facts, &key, &data));
        // What is quarantined keeps its notification, since it is built from that again.
        let silent = declared.is_some_and(|d| d.audience == Audience::Telemetry);
        let kept = !silent || quarantined.is_some();
        let payloads = match &told {
            // That lacks what is telemetry's alone, which is kept beside it until then.
            Cow::Owned(_) if quarantined.is_some() => Payloads::unbuilt(Some(body), &properties),
            _ => Payloads::built(kept.then_some(body), telemetry.as_ref()),
        };
        // Where fields are telemetry's alone, matching sees what a notification tells, as it does when it is done again.
        let told = match told {
            Cow::Owned(text) if !silent => read(text.as_bytes()).ok(),
            _ => None,
        };
        let seen = if silent { Cow::Owned(payloads.unnotified()) } else { Cow::Borrowed(&payloads) };
        let owed = self.targets.owed(&facts, told.as_ref().unwrap_or(&data), &seen);
        let unnotified = silent.then(|| Arc::new(data));
        let facts = Arc::new(facts);
        let mut prepared = Prepared { facts, idempotency, payloads, owed, quarantined, unnotified };
        self.quarantine(&mut prepared);
        Ok(prepared)
    }

    /// What leaves of an event; `None` where nothing does: it is switched off, or the type is not declared.
    fn telemetry(&self, facts: &Facts, declared: Option<&Declared>, data: &Value) -> Result<Option<Telemetry>, String> {
        let Some(policy) = self.telemetry else { return Ok(None) };
        let body = match declared {
            // A panic in here costs this event its telemetry, never the caller its record.
            Some(declared) => match catch_unwind(AssertUnwindSafe(|| declared.telemetry(&facts.event_type, data))) {
                Ok(built) => built.map_err(|e| e.to_string())?,
                Err(_) => return Err("building it panicked".to_owned()),
            },
            // Of the daemon's own only that they happened.
            None if facts.origin == Origin::Daemon => {
                let event = &facts.event_type;
                format!(r#"{{"event":"{event}","event_properties":{{}},"derived_properties":{{}}}}"#)
            }
            None => return Ok(None),
        };
        Ok(Some(Telemetry { at: grained(facts.happened_at(), policy), body: body.into() }))
    }

    /// What of telemetry that was built before leaves by the rules of now: nothing where it is switched off or the type
    /// is gone.
    fn still_leaves(&self, facts: &Facts, built: &Telemetry) -> Option<Telemetry> {
        let at = grained(built.at, self.telemetry?);
        let Some(declared) = self.catalogue.get(&facts.event_type) else {
            // The daemon's own are never declared, and nothing is in them.
            return (facts.origin == Origin::Daemon).then(|| Telemetry { at, body: built.body.clone() });
        };
        let trees: Trees = serde_json::from_slice(&built.body).ok()?;
        let (body, _) = declared.relay(&facts.event_type, &trees.event_properties, &trees.derived_properties);
        Some(Telemetry { at, body: body.into() })
    }

    /// Owes a quarantined event to whoever keeps such events.
    fn quarantine(&self, prepared: &mut Prepared) {
        if let (Some(keeper), Some(_)) = (self.quarantine, &prepared.quarantined)
            && let Err(at) = prepared.owed.binary_search(&keeper)
        {
            prepared.owed.insert(at, keeper);
        }
    }
}

/// What becomes of properties that do not fit.
enum Fit {
    /// They are refused.
    Must,
    /// They are quarantined; with why they could not be built, where that is so.
    Tried(Option<String>),
}

/// What is kept and told of a failure: who failed, never the text of it.
fn failed(failure: &Failure) -> String {
    format!("`{}` could not say its values", failure.who)
}

/// A time rounded down to the grain.
fn grained(time: Timestamp, policy: TelemetryPolicy) -> Timestamp {
    let grain = i64::try_from(policy.time_grain.as_micros()).unwrap_or(i64::MAX).max(1);
    Timestamp::from_micros(time.micros().div_euclid(grain).saturating_mul(grain))
}

/// The `data` of a notification's body.
fn data_of(body: &[u8]) -> Option<Value> {
    // Read by itself: within the body it may be one level deeper than is read.
    serde_json::from_str(text_of(body)?).ok()
}

fn text_of(body: &[u8]) -> Option<&str> {
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    Some(body.data.get())
}

/// What is read of a notification's body to match it again.
#[derive(serde::Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: &'a serde_json::value::RawValue,
}

/// What is read of telemetry to hold it against the rules again.
#[derive(serde::Deserialize)]
struct Trees {
    event_properties: Value,
    derived_properties: Value,
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
    if facts.origin == Origin::Relay {
        // A relay's token is public: its keys are no application's. Other ids begin with 0, 1 or a longer length.
        id.update([2]);
    }
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
mod tests;
