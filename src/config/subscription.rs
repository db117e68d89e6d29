//! `[[subscription]]`: what every subscription has, whatever its kind. The other keys are read by the kind.

use super::daemon::read_tenant;
use super::nearest;
use super::node::{Entry, Node, Value, quoted};
use super::problem::Problems;
use super::retry;
use super::section::{Section, unknown_key};
use super::selector;
use super::units::{RATE_HINT, rate, rate_written, written};
use posthaste_actors::settings::{self, Circuit, Rate, Source};
use posthaste_deliverees::guard::Guard;
use posthaste_deliverees::options::Options;
use posthaste_deliverees::registry::{Kind, Kinds, Parsed, Tools};
use posthaste_events::RetryPolicy;
use posthaste_events::catalogue::Catalogue;
use posthaste_events::matching::Selector;
use serde_json::{Map, json};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many calls of one subscription may be under way at once, at most.
pub(super) const CONCURRENCY_MAX: u64 = 1024;
/// How many by default.
pub(super) const CONCURRENCY_DEFAULT: u64 = 32;

/// After how long without one delivery that arrived a failing subscription is disabled by default: five days.
pub(super) const DISABLE_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);
/// How soon at least.
const DISABLE_AFTER_MIN: Duration = Duration::from_secs(60);

/// How the names of the subscriptions begin that the daemon itself has, such as `posthaste-quarantine`.
const RESERVED: &str = "posthaste-";
/// How long a name may be.
const NAME_MAX: usize = 64;

/// A checked subscription.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its identity over restarts and reloads.
    pub name: String,
    /// Which kind of deliveree it has.
    pub kind: String,
    /// Whose it is.
    pub tenant: Option<String>,
    /// Which events it wants; one or more sets, OR-ed.
    pub selectors: Vec<Selector>,
    /// When it tries again, and when it gives up.
    pub retry: RetryPolicy,
    /// How many of its calls may be under way at once.
    pub concurrency: usize,
    /// When it stops trying for a while.
    pub circuit: Option<Circuit>,
    /// How many of its calls may begin in how long.
    pub rate: Option<Rate>,
    /// Whether its deliveries go by key.
    pub ordered: bool,
    /// After how long without one that arrived it is disabled.
    pub disable_after: Option<Duration>,
    /// How it is shown, without anything secret: its settings, those of its kind included.
    pub shown: Map<String, serde_json::Value>,
    /// A mark of how it is shown and of its whole address; comparable only while this process runs.
    pub mark: u64,
    /// What makes its deliveree.
    pub parsed: Arc<Parsed>,
}

impl Subscription {
    /// What the actors are told of it; its deliverees will be made with `tools`.
    #[must_use]
    pub fn ready(&self, tools: &Tools, source: Source) -> settings::Subscription {
        let tools = Tools { subscription: Arc::from(self.name.as_str()), ..tools.clone() };
        settings::Subscription {
            name: self.name.clone(),
            kind: self.kind.clone(),
            tenant: self.tenant.clone(),
            selectors: self.selectors.clone(),
            retry: self.retry.clone(),
            concurrency: self.concurrency,
            circuit: self.circuit,
            rate: self.rate,
            ordered: self.ordered,
            disable_after: self.disable_after,
            source,
            shown: self.shown.clone(),
            reveal: self.parsed.revealed.clone().into(),
            ahead: None,
            mark: self.mark,
            takes: self.parsed.takes,
            make: self.parsed.make(tools),
        }
    }
}

/// What subscriptions are read against.
#[derive(Clone, Copy)]
pub(crate) struct Against<'a> {
    /// The kinds that there are.
    pub(crate) kinds: &'a Kinds,
    /// What addresses they may name.
    pub(crate) guard: &'a Guard,
    /// The retry policy of those that say nothing.
    pub(crate) retry: &'a RetryPolicy,
    /// The event types; `None` where something is wrong with them.
    pub(crate) catalogue: Option<&'a Catalogue>,
    /// The folder of the configuration: paths are seen from it.
    pub(crate) folder: &'a Path,
    /// Whether they were judged before, when they came: what is set elsewhere may be otherwise by now.
    pub(crate) kept: bool,
}

/// Reads every subscription; those with a problem are left out, but their names count.
pub(super) fn read_all(top: &mut Section<'_, '_>, against: &Against<'_>) -> Vec<Subscription> {
    let Some(entry) = top.entry("subscription") else { return Vec::new() };
    let Value::Array(nodes) = &entry.node.value else {
        top.unseen(&entry.place, "subscription", "is no list", "write [[subscription]] with two brackets");
        return Vec::new();
    };
    let mut names = BTreeSet::new();
    nodes.iter().filter_map(|node| read(node, &mut names, against, top.problems)).collect()
}

pub(super) fn read<'a>(
    node: &'a Node,
    names: &mut BTreeSet<&'a str>,
    against: &Against<'_>,
    problems: &mut Problems,
) -> Option<Subscription> {
    let scope = scope_of(node);
    let mut section = Section::of(node, &node.place, scope.clone(), problems);
    let (common, kind) = read_common(node, &mut section, names, against);
    let parsed = read_options(section, kind, against);
    if let Some(parsed) = &parsed {
        let mut section = Section::of(node, &node.place, scope, problems);
        selector::judge_payload(node, parsed.takes, against.catalogue, &mut section);
    }
    let (common, parsed) = (common?, parsed?);
    let shown = common.shown(&parsed.shown);
    let mark = mark(&shown, &parsed.revealed);
    Some(Subscription {
        name: common.name,
        kind: common.kind,
        tenant: common.tenant,
        selectors: common.selectors,
        retry: common.retry,
        concurrency: common.concurrency,
        circuit: common.circuit,
        rate: common.rate,
        ordered: common.ordered,
        disable_after: common.disable_after,
        shown,
        mark,
        parsed: Arc::new(parsed),
    })
}

/// What problems call a subscription.
pub(super) fn scope_of(node: &Node) -> String {
    match node.get("name").map(|n| &n.value) {
        Some(Value::String(name)) => format!("subscription {}", quoted(name)),
        _ => "subscription without name".to_owned(),
    }
}

/// Reads what every subscription has, and which kind it is of; without a name or a kind there is a problem.
pub(super) fn read_common<'a, 'k>(
    node: &'a Node,
    section: &mut Section<'a, '_>,
    names: &mut BTreeSet<&'a str>,
    against: &Against<'k>,
) -> (Option<Common>, Option<&'k Kind>) {
    let name = read_name(section, names);
    let kind = read_kind(section, against.kinds);
    let tenant = read_tenant(section);
    let selectors = selector::read(section, tenant.as_deref(), against.catalogue);
    let own_retry = section.has("retry");
    let retry = retry::read_as(section.section("retry"), against.retry, against.kept);
    let concurrency = section.integer("concurrency", 1..=CONCURRENCY_MAX, CONCURRENCY_DEFAULT);
    let circuit = read_circuit(section);
    let ordered = section.word("ordering", &["none", "key"]).is_some_and(|(word, _)| word == "key");
    let rate = read_rate(section);
    let disable_after = read_disable_after(section);
    let (Some(name), Some(known)) = (name, kind) else { return (None, kind) };
    let mut chosen = Map::new();
    selector::show(node, &mut chosen);
    let common = Common {
        name: name.to_owned(),
        kind: known.name.to_owned(),
        tenant,
        selectors,
        chosen,
        retry,
        own_retry,
        // At most CONCURRENCY_MAX, which fits.
        concurrency: usize::try_from(concurrency).unwrap_or(1),
        circuit,
        rate,
        ordered,
        disable_after,
    };
    (Some(common), kind)
}

/// What every subscription has, whatever its kind.
pub(super) struct Common {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) tenant: Option<String>,
    pub(super) selectors: Vec<Selector>,
    /// The selectors as they were written.
    chosen: Map<String, serde_json::Value>,
    pub(super) retry: RetryPolicy,
    own_retry: bool,
    pub(super) concurrency: usize,
    pub(super) circuit: Option<Circuit>,
    pub(super) rate: Option<Rate>,
    pub(super) ordered: bool,
    pub(super) disable_after: Option<Duration>,
}

impl Common {
    /// How the subscription is shown, with what is shown of its kind.
    pub(super) fn shown(&self, of_kind: &Map<String, serde_json::Value>) -> Map<String, serde_json::Value> {
        let mut shown = Map::new();
        shown.insert("name".into(), self.name.as_str().into());
        shown.insert("deliveree".into(), self.kind.as_str().into());
        shown.extend(self.chosen.clone());
        if let Some(tenant) = &self.tenant {
            shown.insert("tenant".into(), tenant.as_str().into());
        }
        shown.extend(of_kind.clone());
        shown.insert("concurrency".into(), self.concurrency.into());
        shown.insert("ordering".into(), if self.ordered { "key" } else { "none" }.into());
        if let Some(Rate { calls, per }) = self.rate {
            shown.insert("rate_limit".into(), rate_written(calls, per).into());
        }
        shown.insert("disable_after".into(), self.disable_after.map_or(json!(false), |after| written(after).into()));
        shown.insert("circuit".into(), self.circuit.map_or(json!(false), show_circuit));
        if self.own_retry {
            shown.insert("retry".into(), show_retry(&self.retry));
        }
        shown
    }
}

/// A number that differs, most likely, where one of these does.
pub(super) fn mark(shown: &Map<String, serde_json::Value>, revealed: &Map<String, serde_json::Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (json!(shown).to_string(), json!(revealed).to_string()).hash(&mut hasher);
    hasher.finish()
}

fn read_name<'a>(section: &mut Section<'a, '_>, names: &mut BTreeSet<&'a str>) -> Option<&'a str> {
    let place = section.place_of("name");
    if !section.has("name") {
        section.unseen(&place, "name", "is missing", "a name is its identity: keep it over changes");
    }
    let (name, node) = section.string("name")?;
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(good) {
        section.wrong("name", node, "is no name", format!("write 1 to {NAME_MAX} of A-Z, a-z, 0-9, _ and -"));
        return None;
    }
    if name.starts_with(RESERVED) {
        section.wrong("name", node, "is the daemon's own", format!("begin it with something else than {RESERVED}"));
        return None;
    }
    if !names.insert(name) {
        section.wrong("name", node, "is the name of another subscription already", "each name stands once");
        return None;
    }
    Some(name)
}

fn read_kind<'k>(section: &mut Section<'_, '_>, kinds: &'k Kinds) -> Option<&'k Kind> {
    let place = section.place_of("deliveree");
    let known: Vec<&str> = kinds.names().collect();
    if !section.has("deliveree") {
        section.unseen(&place, "deliveree", "is missing", format!("write one of {}", nearest::listed(&known)));
    }
    let (text, node) = section.string("deliveree")?;
    let kind = kinds.get(text);
    if kind.is_none() {
        section.wrong("deliveree", node, "is an unknown kind", nearest::hint(text, &known));
    }
    kind
}

/// Hands the kind its keys; every other key is unknown. Of an unknown kind, any kind's keys may be meant.
fn read_options(section: Section<'_, '_>, kind: Option<&Kind>, against: &Against<'_>) -> Option<Parsed> {
    let all = || against.kinds.names().filter_map(|n| against.kinds.get(n)).flat_map(|k| k.keys.iter().copied());
    let own: Vec<&str> = match kind {
        Some(kind) => kind.keys.to_vec(),
        None => all().collect(),
    };
    let (given, unknown): (Vec<&Entry>, Vec<&Entry>) = section.rest().partition(|e| own.contains(&e.key.as_str()));
    let known: Vec<&str> = own.iter().copied().chain(section.known().iter().copied()).collect();
    for entry in unknown {
        unknown_key(entry, &section.scope, &known, section.problems);
    }
    let mut options: Options = given.iter().map(|e| (e.key.clone(), e.node.json())).collect();
    for path in kind?.paths {
        // What is empty or no text is judged by the kind.
        if let Some(serde_json::Value::String(path)) = options.get_mut(*path).filter(|path| **path != "") {
            *path = against.folder.join(path.as_str()).to_string_lossy().into_owned();
        }
    }
    match (kind?.parse)(&options, against.guard) {
        Ok(parsed) => Some(parsed),
        Err(found) => {
            for problem in found {
                let found = find_path(&given, &problem.path);
                if found.is_some_and(|(node, _)| node.has_missing()) {
                    continue;
                }
                let place = found.map_or_else(|| section.place_of(&problem.path), |(_, place)| place.clone());
                let what = given.iter().fold(problem.what, |text, e| unfetched(&e.node, text));
                section.problems.add(&place, format!("{}: {what}", section.scope), problem.hint);
            }
            None
        }
    }
}

/// The option at a dotted path, and where it stands: as deep as there is something.
fn find_path<'a>(given: &[&'a Entry], path: &str) -> Option<(&'a Node, &'a super::Place)> {
    // A key of a table may have dots itself, so the longest that fits is taken at each step.
    let (key, mut rest) = path.split_once('.').unwrap_or((path, ""));
    let entry = given.iter().find(|e| e.key == key)?;
    let (mut node, mut place) = (&entry.node, &entry.node.place);
    while !rest.is_empty() {
        let next = match &node.value {
            Value::Array(nodes) => {
                let (index, after) = rest.split_once('.').unwrap_or((rest, ""));
                index.parse::<usize>().ok().and_then(|i| nodes.get(i)).map(|n| (n, &n.place, after))
            }
            Value::Table(entries) => entries
                .iter()
                .filter(|e| rest == e.key || rest.strip_prefix(e.key.as_str()).is_some_and(|r| r.starts_with('.')))
                .max_by_key(|e| e.key.len())
                .map(|e| (&e.node, &e.place, rest[e.key.len()..].trim_start_matches('.'))),
            _ => None,
        };
        let Some((next, at, after)) = next else { break };
        (node, place, rest) = (next, at, after);
    }
    Some((node, place))
}

/// Puts back `env:NAME` where a kind shows what it stands for: what comes from outside is never shown.
fn unfetched(node: &Node, text: String) -> String {
    match &node.value {
        Value::Array(nodes) => nodes.iter().fold(text, |text, n| unfetched(n, text)),
        Value::Table(entries) => entries.iter().fold(text, |text, e| unfetched(&e.node, text)),
        // What is shorter is no secret, and would be found in any word.
        Value::String(value) if value.len() >= 3 => match node.fetched_by() {
            // A kind may quote it, which writes some characters otherwise.
            Some(written) => [format!("{value:?}"), json!(value).to_string()]
                .iter()
                .map(|quoted| &quoted[1..quoted.len() - 1])
                .filter(|inner| *inner != value.as_str())
                .fold(text.replace(value.as_str(), written), |text, inner| text.replace(inner, written)),
            None => text,
        },
        _ => text,
    }
}

fn read_circuit(section: &mut Section<'_, '_>) -> Option<Circuit> {
    let default = Circuit::default();
    match section.entry("circuit").map(|e| &e.node.value) {
        Some(Value::Boolean(false)) => return None,
        None => return Some(default),
        _ => {}
    }
    let mut circuit = section.section("circuit");
    let millisecond = Duration::from_millis(1);
    let read = Circuit {
        failures: u32::try_from(circuit.integer("failures", 1..=1_000_000, default.failures.into())).unwrap_or(1),
        over: circuit.duration("over", millisecond, default.over),
        pause: circuit.duration("pause", millisecond, default.pause),
    };
    circuit.finish();
    Some(read)
}

fn read_rate(section: &mut Section<'_, '_>) -> Option<Rate> {
    let (text, node) = section.string("rate_limit")?;
    let Some((calls, per)) = rate(text) else {
        section.wrong("rate_limit", node, "is not a rate", RATE_HINT);
        return None;
    };
    Some(Rate { calls, per })
}

fn read_disable_after(section: &mut Section<'_, '_>) -> Option<Duration> {
    match section.entry("disable_after").map(|e| &e.node.value) {
        Some(Value::Boolean(false)) => None,
        None => Some(DISABLE_AFTER),
        _ => Some(section.duration("disable_after", DISABLE_AFTER_MIN, DISABLE_AFTER)),
    }
}

fn show_circuit(circuit: Circuit) -> serde_json::Value {
    json!({ "failures": circuit.failures, "over": written(circuit.over), "pause": written(circuit.pause) })
}

fn show_retry(retry: &RetryPolicy) -> serde_json::Value {
    let mut shown = json!({
        "initial": written(retry.initial),
        "multiplier": retry.multiplier,
        "max": written(retry.max),
        "jitter": retry.jitter,
        "give_up_after": written(retry.give_up_after),
    });
    if let Some(attempts) = retry.attempts {
        shown["attempts"] = attempts.into();
    }
    shown
}
