//! Reads and writes the subscriptions that the outbox keeps: what they say in JSON, the secret part sealed.
//!
//! A definition's body is JSON: `open` has the settings that every subscription has, `sealed` those of its kind, whatever
//! they are. Beside them stands what is known without opening: how the kind's settings are shown, and how large and how
//! long its calls are. So a start reads ten thousand of them without opening one; the seal is opened when the deliveree is
//! first made. One whose seal cannot be opened is disabled for that reason. Which settings are right is judged in
//! [`crate::config`].

use crate::clock::SystemRandom;
use crate::config::{self, Against, Front};
use crate::vault::{NotOpened, Vault, fill};
use bytes::Bytes;
use futures_util::FutureExt as _;
use posthaste_actors::author::{Author, Authored, Draft, Mistake, NotWritten, Rotation};
use posthaste_actors::settings::{Make, Reveal, Source, Subscription, Version};
use posthaste_deliverees::guard::Guard;
use posthaste_deliverees::registry::{Kinds, Parsed, Tools};
use posthaste_deliverees::webhook::sign::{self, FRESH_BYTES};
use posthaste_deliverees::webhook::{self, SECRETS_MAX};
use posthaste_events::catalogue::Catalogue;
use posthaste_events::outcome::Detail;
use posthaste_events::{
    AnyDeliveree, Batch, BatchLimits, BoxFuture, Deliveree, Outcome, Payload, Reporter, RetryPolicy, Signal, Takes,
    Timestamp,
};
use posthaste_outbox::{DEFINITION_MAX, Definition};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The version of the body's format.
const VERSION: u8 = 1;
/// How long old secrets count beside a new one where nothing is said, and at most.
const GRACE: Duration = Duration::from_secs(24 * 60 * 60);
const GRACE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The key of a kind that signs.
const SECRETS: &str = "secrets";
const SECRETS_POINTER: &str = "/secrets";

/// What subscriptions are read and written by; cheap to clone.
#[derive(Clone)]
pub(crate) struct Scribe(Arc<Desk>);

/// The parts of a [`Scribe`].
pub(crate) struct Desk {
    /// The kinds that there are.
    pub(crate) kinds: Kinds,
    /// What addresses a caller may name.
    pub(crate) guard: Guard,
    /// The retry policy of those that say nothing.
    pub(crate) retry: RetryPolicy,
    /// The event types that new ones are held against.
    pub(crate) catalogue: Catalogue,
    /// What deliverees are made with.
    pub(crate) tools: Tools,
    /// What seals.
    pub(crate) vault: Arc<Vault>,
    /// Where secrets and nonces come from.
    pub(crate) random: SystemRandom,
}

/// A definition's body.
#[derive(Serialize, Deserialize)]
struct Body {
    version: u8,
    /// The mark of the key that sealed.
    key: String,
    open: Map<String, Value>,
    sealed: String,
    shown: Map<String, Value>,
    telemetry: bool,
    batch: Size,
    timeout_ms: u64,
    /// Drawn when it was made; 0 of those that are older than this.
    #[serde(default)]
    made: u64,
    /// A mark of what its kind has but for the secrets, which tells nothing of it: whether the receiver is the same.
    #[serde(default)]
    receiver: String,
}

/// What is read of a [`Body`] of which nothing else can be.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wants {
    open: Map<String, Value>,
    telemetry: bool,
    made: u64,
}

impl Wants {
    fn of(definition: &Definition) -> Self {
        serde_json::from_slice(&definition.body).unwrap_or_default()
    }
}

/// How large a batch may be.
#[derive(Serialize, Deserialize)]
struct Size {
    events: usize,
    bytes: usize,
    wait_ms: u64,
}

impl Scribe {
    pub(crate) fn new(desk: Desk) -> Self {
        Self(Arc::new(desk))
    }

    fn against<'a>(&'a self, guard: &'a Guard) -> Against<'a> {
        let desk = &*self.0;
        let folder = Path::new("");
        Against { kinds: &desk.kinds, guard, retry: &desk.retry, catalogue: Some(&desk.catalogue), folder, kept: false }
    }

    /// Judges settings as a caller wrote them, and writes them down.
    fn write(
        &self,
        settings: &Map<String, Value>,
        version: Version,
        secret: Option<String>,
    ) -> Result<Draft, NotWritten> {
        self.write_as(settings, &self.against(&self.0.guard), version, secret)
    }

    fn write_as(
        &self,
        settings: &Map<String, Value>,
        against: &Against<'_>,
        version: Version,
        secret: Option<String>,
    ) -> Result<Draft, NotWritten> {
        let judged = config::judge(settings, against).map_err(mistakes)?;
        let made = judged.parsed.make(self.tools(&judged.name))();
        let (limits, timeout) = (made.limits(), made.timeout());
        let (open, own) = config::split(settings, &self.0.kinds);
        let plain = serde_json::to_vec(&own).map_err(|e| wrong("", e.to_string()))?;
        let mut named = own;
        named.remove(SECRETS);
        let receiver = serde_json::to_vec(&named).map_err(|e| wrong("", e.to_string()))?;
        let vault = &self.0.vault;
        let body = Body {
            version: VERSION,
            key: vault.mark().to_owned(),
            open,
            sealed: vault.seal(&judged.name, &plain, self.0.random),
            shown: judged.parsed.shown.clone(),
            telemetry: judged.parsed.takes == Takes::Telemetry,
            batch: Size { events: limits.events, bytes: limits.bytes, wait_ms: millis(limits.wait) },
            timeout_ms: millis(timeout),
            made: version.made,
            receiver: vault.mark_of(&judged.name, &receiver),
        };
        let body = serde_json::to_vec(&body).map_err(|e| wrong("", e.to_string()))?;
        if body.len() > DEFINITION_MAX {
            return Err(wrong(
                "",
                format!("this is too long: at most {DEFINITION_MAX} bytes are kept of a subscription"),
            ));
        }
        let definition = Definition { name: judged.name, revision: version.revision, body: body.into() };
        let authored = self.read(&definition);
        Ok(Draft { definition, authored, secret })
    }

    fn tools(&self, name: &str) -> Tools {
        Tools { subscription: Arc::from(name), ..self.0.tools.clone() }
    }

    /// The settings as they were written, secrets included.
    fn opened(&self, kept: &Definition) -> Result<Map<String, Value>, String> {
        let body: Body = serde_json::from_slice(&kept.body).map_err(|_| UNREAD.to_owned())?;
        let plain = self.0.vault.open(&kept.name, &body.key, &body.sealed).map_err(|e| e.to_string())?;
        let own: Map<String, Value> = serde_json::from_slice(&plain).map_err(|_| UNREAD.to_owned())?;
        Ok(body.open.into_iter().chain(own).collect())
    }

    /// Opens the seal, and reads what its kind has. What was judged when it came is not judged by the guard again: what it
    /// names is judged when it is dialled.
    fn parsed(&self, name: &str, body: &Bytes) -> Result<Parsed, String> {
        let kept = Definition { name: name.to_owned(), revision: 0, body: body.clone() };
        let settings = self.opened(&kept)?;
        let (open, own) = config::split(&settings, &self.0.kinds);
        let kind = open.get("deliveree").and_then(Value::as_str).and_then(|name| self.0.kinds.get(name));
        let kind = kind.ok_or_else(|| "there is no such kind of deliveree any more".to_owned())?;
        (kind.parse)(&own, &Guard::off()).map_err(|found| {
            let words: Vec<_> = found.into_iter().map(|problem| problem.what).collect();
            format!("its settings are not read any more: {}", words.join(", "))
        })
    }

    fn read_body(&self, definition: &Definition) -> Result<(Subscription, Option<String>), String> {
        let body: Body = serde_json::from_slice(&definition.body).map_err(|_| UNREAD.to_owned())?;
        if body.version != VERSION {
            return Err(format!("it was written by a later version of the daemon (format {})", body.version));
        }
        let fault = (!self.0.vault.has(&body.key)).then(|| NotOpened::KeyLost.to_string());
        let takes = if body.telemetry { Takes::Telemetry } else { Takes::Notification };
        let (limits, timeout) = (body.batch.limits(), Duration::from_millis(body.timeout_ms));
        let front = Front {
            shown: body.shown,
            takes,
            limits,
            timeout,
            version: Version { revision: definition.revision, made: body.made },
            receiver: body.receiver,
            make: self.make(definition, takes, timeout),
            reveal: self.reveal(definition),
        };
        let subscription = config::read_open(&body.open, front, &self.against(&self.0.guard))?;
        if subscription.name != definition.name {
            return Err(UNREAD.to_owned());
        }
        Ok((subscription, fault))
    }

    /// Makes the deliveree; of one that cannot be opened, one that says so.
    fn make(&self, definition: &Definition, takes: Takes, timeout: Duration) -> Make {
        let (scribe, name, body) = (self.clone(), definition.name.clone(), definition.body.clone());
        Arc::new(move || match scribe.parsed(&name, &body) {
            Ok(parsed) if parsed.takes == takes => parsed.make(scribe.tools(&name))(),
            Ok(_) => Shut { reason: UNREAD.to_owned(), timeout }.of(takes),
            Err(reason) => Shut { reason, timeout }.of(takes),
        })
    }

    fn reveal(&self, definition: &Definition) -> Reveal {
        let (scribe, name, body) = (self.clone(), definition.name.clone(), definition.body.clone());
        Reveal::new(move || scribe.parsed(&name, &body).map(|parsed| parsed.revealed).unwrap_or_default())
    }

    fn new_secret(&self) -> String {
        let mut bytes = [0; FRESH_BYTES];
        fill(&mut bytes, self.0.random);
        sign::fresh(bytes)
    }

    fn signs(&self, settings: &Map<String, Value>) -> bool {
        let kind = settings.get("deliveree").and_then(Value::as_str).and_then(|name| self.0.kinds.get(name));
        kind.is_some_and(|kind| kind.keys.contains(&SECRETS))
    }
}

const UNREAD: &str = "its definition is damaged";

impl Author for Scribe {
    fn read(&self, definition: &Definition) -> Authored {
        match self.read_body(definition) {
            Ok((subscription, fault)) => Authored { subscription, fault },
            Err(reason) => Authored { subscription: self.unread(definition, &reason), fault: Some(reason) },
        }
    }

    fn create(&self, mut settings: Map<String, Value>) -> Result<Draft, NotWritten> {
        // Nobody in a chat looks at signatures; where one is asked for all the same, it is made.
        let unsigned = !settings.contains_key("signature")
            && settings.get("format").and_then(Value::as_str).is_some_and(webhook::goes_to_a_chat);
        let secret = (self.signs(&settings) && !unsigned && !settings.contains_key(SECRETS)).then(|| self.new_secret());
        if let Some(secret) = &secret {
            settings.insert(SECRETS.to_owned(), json!([secret]));
        }
        let mut made = [0; 8];
        fill(&mut made, self.0.random);
        self.write(&settings, Version { revision: 1, made: u64::from_le_bytes(made).max(1) }, secret)
    }

    fn change(&self, kept: &Definition, patch: Map<String, Value>) -> Result<Draft, NotWritten> {
        // Of one that cannot be opened the open part is left: whoever writes the rest anew has it back.
        let mut settings = match self.opened(kept) {
            Ok(settings) => settings,
            Err(why) => match serde_json::from_slice::<Body>(&kept.body) {
                Ok(body) if body.version == VERSION => body.open,
                _ => return Err(NotWritten::Unreadable(why)),
            },
        };
        // The name is its identity; what it is owed is its tenant's.
        for fixed in ["name", "tenant"] {
            if patch.get(fixed).is_some_and(|new| *new != settings.get(fixed).cloned().unwrap_or_default()) {
                let why = format!("{fixed} does not change; make another subscription, and delete this one");
                return Err(wrong(&format!("/{fixed}"), why));
            }
        }
        let before = settings.clone();
        merge(&mut settings, patch);
        // Of one that cannot be opened all is to be written anew.
        if settings == before && self.opened(kept).is_ok() {
            return Ok(Draft { definition: kept.clone(), authored: self.read(kept), secret: None });
        }
        self.write(&settings, following(kept), None)
    }

    fn rotate(&self, kept: &Definition, rotation: Rotation, now: Timestamp) -> Result<Draft, NotWritten> {
        let mut settings = self.opened(kept).map_err(NotWritten::Unreadable)?;
        if !self.signs(&settings) {
            return Err(NotWritten::NoSecrets);
        }
        let grace = rotation.grace.unwrap_or(GRACE);
        if grace > GRACE_MAX {
            return Err(wrong("/grace", "grace is \"0s\" to \"7d\"".to_owned()));
        }
        let made = rotation.secret.is_none().then(|| self.new_secret());
        let new = rotation.secret.or_else(|| made.clone()).unwrap_or_default();
        let before = settings.get(SECRETS).and_then(Value::as_array).cloned().unwrap_or_default();
        let until = later(now, grace);
        let mut old: Vec<(Timestamp, Value)> =
            before.into_iter().filter_map(|secret| ending(secret, &new, until, now)).collect();
        while old.len() >= SECRETS_MAX
            && let Some(soonest) = (0..old.len()).rev().min_by_key(|at| old[*at].0)
        {
            old.remove(soonest);
        }
        let old = old.into_iter().map(|(_, secret)| secret);
        let secrets: Vec<Value> = std::iter::once(Value::from(new.as_str())).chain(old).collect();
        settings.insert(SECRETS.to_owned(), secrets.into());
        // All but the secret was judged when it came: networks and event types of today have no say in it.
        let guard = Guard::off();
        let against = Against { catalogue: None, kept: true, ..self.against(&guard) };
        let written = self.write_as(&settings, &against, following(kept), made);
        written.map_err(|why| match why {
            NotWritten::Wrong(mistakes) => {
                let named = |m: Mistake| match m.pointer.strip_prefix(SECRETS_POINTER) {
                    Some(_) => Mistake { pointer: "/secret".to_owned(), ..m },
                    None => m,
                };
                NotWritten::Wrong(mistakes.into_iter().map(named).collect())
            }
            other => other,
        })
    }

    fn reseal(&self, kept: &Definition) -> Option<Definition> {
        let vault = &self.0.vault;
        // Of thousands none is read twice at a start, where it could not be opened anyway.
        if !vault.opens_others() {
            return None;
        }
        let mut body: Body = serde_json::from_slice(&kept.body).ok()?;
        if body.key == vault.mark() || body.version != VERSION {
            return None;
        }
        let plain = vault.open(&kept.name, &body.key, &body.sealed).ok()?;
        body.sealed = vault.seal(&kept.name, &plain, self.0.random);
        body.key = vault.mark().to_owned();
        let body = serde_json::to_vec(&body).ok()?;
        Some(Definition { body: body.into(), ..kept.clone() })
    }
}

impl Scribe {
    /// A subscription that is not read any more. Whose it is and what it wants is kept wherever that can be read: events
    /// that come meanwhile are owed to it, and held until it is written anew.
    fn unread(&self, definition: &Definition, reason: &str) -> Subscription {
        let timeout = Duration::from_secs(1);
        let shut = Shut { reason: reason.to_owned(), timeout };
        let wants = Wants::of(definition);
        // What names another is damaged.
        let own = wants.open.get("name").and_then(Value::as_str) == Some(&definition.name);
        let (tenant, selectors) = if own { config::read_wants(&wants.open) } else { (None, Vec::new()) };
        let kind = wants.open.get("deliveree").and_then(Value::as_str).filter(|_| own).unwrap_or("unknown").to_owned();
        let takes = if own && wants.telemetry { Takes::Telemetry } else { Takes::Notification };
        Subscription {
            name: definition.name.clone(),
            kind,
            tenant,
            selectors,
            retry: self.0.retry.clone(),
            concurrency: 1,
            circuit: None,
            rate: None,
            ordered: false,
            disable_after: None,
            source: Source::Api(Version { revision: definition.revision, made: wants.made }),
            shown: if own { wants.open } else { Map::new() },
            reveal: Reveal::default(),
            mark: 0,
            takes,
            ahead: Some((BatchLimits::ONE, timeout)),
            make: Arc::new(move || shut.clone().of(takes)),
        }
    }
}

impl fmt::Debug for Scribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scribe(…)")
    }
}

impl Size {
    fn limits(&self) -> BatchLimits {
        BatchLimits { events: self.events.max(1), bytes: self.bytes, wait: Duration::from_millis(self.wait_ms) }
    }
}

/// A deliveree that cannot be made: it disables its subscription, and charges nothing.
#[derive(Clone)]
struct Shut {
    reason: String,
    timeout: Duration,
}

impl Shut {
    fn of(self, takes: Takes) -> AnyDeliveree {
        match takes {
            Takes::Notification => AnyDeliveree::Notification(Arc::new(self)),
            Takes::Telemetry => AnyDeliveree::Anonymous(Arc::new(self)),
        }
    }
}

impl<P: Payload> Deliveree<P> for Shut {
    fn deliver(&self, batch: Batch<P>, report: Reporter) -> BoxFuture<()> {
        let reason = self.reason.clone();
        async move {
            report.signal(Signal::Disable(reason.clone()));
            for delivery in batch.deliveries {
                report.outcome(delivery.ticket, Outcome::Unattempted(Detail::error(format!("settings: {reason}"))));
            }
        }
        .boxed()
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// The version after the one that is kept.
fn following(kept: &Definition) -> Version {
    Version { revision: kept.revision + 1, made: Wants::of(kept).made }
}

/// JSON merge patch (RFC 7396 section 2).
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(&key)),
            Value::Object(patch) => {
                let mut inner = match target.remove(&key) {
                    Some(Value::Object(inner)) => inner,
                    _ => Map::new(),
                };
                merge(&mut inner, patch);
                target.insert(key, inner.into());
            }
            value => drop(target.insert(key, value)),
        }
    }
}

/// An old secret, which counts until then or until it ended before; `None` where that is over, or it is the new one.
fn ending(secret: Value, new: &str, until: Timestamp, now: Timestamp) -> Option<(Timestamp, Value)> {
    let (text, ends) = match &secret {
        Value::Object(table) => {
            let ends = table.get("until").and_then(Value::as_str).and_then(|t| Timestamp::parse(t).ok());
            (table.get("secret").and_then(Value::as_str)?.to_owned(), ends)
        }
        other => (other.as_str()?.to_owned(), None),
    };
    let until = ends.map_or(until, |ends| ends.min(until));
    (text != new && until > now).then(|| (until, json!({ "secret": text, "until": until.to_string() })))
}

fn later(now: Timestamp, wait: Duration) -> Timestamp {
    Timestamp::from_micros(now.micros().saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn wrong(pointer: &str, detail: String) -> NotWritten {
    NotWritten::Wrong(vec![Mistake { pointer: pointer.to_owned(), detail }])
}

fn mistakes(found: Vec<config::Problem>) -> NotWritten {
    let mistake = |p: config::Problem| Mistake { pointer: p.place.to_string(), detail: p.detail() };
    NotWritten::Wrong(found.into_iter().map(mistake).collect())
}

#[cfg(test)]
pub(crate) mod tests;
