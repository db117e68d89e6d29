//! A subscription that came by the API: judged as one in a file is, and read again from what is kept of it.
//!
//! What may not come from a caller is refused here, beside what [`super::json`] refuses: whatever reaches into the
//! daemon's machine, and whatever takes a protection away. How it is kept, and what of it is sealed, is left to
//! [`crate::author`]; [`split`] says which part is which.

use super::daemon::read_tenant;
use super::json;
use super::problem::{Place, Problem, Problems};
use super::section::Section;
use super::selector;
use super::subscription::{self, Against, Subscription, read_common, scope_of};
use posthaste_actors::settings::{self, Make, Reveal, Source, Version};
use posthaste_deliverees::registry::Kinds;
use posthaste_events::matching::Selector;
use posthaste_events::{BatchLimits, Takes};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// How the keys begin that take a protection away.
const DANGEROUS: &str = "dangerous_";

/// Judges a subscription as a caller wrote it.
///
/// # Errors
/// Every problem, each at its JSON pointer; never empty.
pub(crate) fn judge(settings: &Map<String, Value>, against: &Against<'_>) -> Result<Subscription, Vec<Problem>> {
    let mut problems = Problems::default();
    let tree = json::tree(settings, &mut problems);
    refuse_local(settings, against.kinds, &mut problems);
    // What is refused already would only be told a second time, and a file might be looked for.
    if problems.count() > 0 {
        return Err(problems.into_sorted());
    }
    let read = subscription::read(&tree, &mut BTreeSet::new(), against, &mut problems);
    match (read, problems.into_sorted()) {
        (Some(read), found) if found.is_empty() => Ok(read),
        (_, found) => Err(found),
    }
}

/// Refuses what reaches into the daemon's machine, or takes a protection away.
fn refuse_local(settings: &Map<String, Value>, kinds: &Kinds, problems: &mut Problems) {
    let root = Place::Pointer("".into());
    let word = |key: &str| settings.get(key).and_then(Value::as_str);
    let kind = word("deliveree").and_then(|name| kinds.get(name));
    if word("deliveree") == Some("console") {
        let what = "deliveree = \"console\" writes to the daemon's own terminal";
        problems.add(&root.below("deliveree"), what, "put it into the daemon's configuration");
    }
    if word("deliveree") == Some("analytics") && word("backend") == Some("file") {
        let what = "backend = \"file\" writes to the daemon's own disk";
        problems.add(&root.below("backend"), what, "put it into the daemon's configuration");
    }
    for key in settings.keys() {
        if kind.is_some_and(|kind| kind.paths.contains(&key.as_str())) {
            let what = format!("{key} is a path on the daemon's machine");
            problems.add(&root.below(key), what, "put the subscription into the daemon's configuration");
        }
        if key.starts_with(DANGEROUS) {
            let what = format!("{key} takes a protection away, which no caller may");
            problems.add(&root.below(key), what, "put the subscription into the daemon's configuration");
        }
    }
}

/// What every subscription has, and what is its kind's own: the second part is sealed, by place and not by care.
pub(crate) fn split(settings: &Map<String, Value>, kinds: &Kinds) -> (Map<String, Value>, Map<String, Value>) {
    let kind = settings.get("deliveree").and_then(Value::as_str).and_then(|name| kinds.get(name));
    // Of a kind that is not there any more nothing is known to be open.
    let own = |key: &str| kind.is_none_or(|kind| kind.keys.contains(&key));
    settings.clone().into_iter().partition(|(key, _)| !own(key))
}

/// What is known of a kept subscription without its sealed part.
pub(crate) struct Front {
    /// How its kind's settings are shown.
    pub(crate) shown: Map<String, Value>,
    /// Which payload it takes.
    pub(crate) takes: Takes,
    /// How large its batches are.
    pub(crate) limits: BatchLimits,
    /// How long a call may take.
    pub(crate) timeout: Duration,
    /// A mark of whom it calls, and how.
    pub(crate) receiver: String,
    /// Which writing of it this is.
    pub(crate) version: Version,
    /// Makes its deliveree.
    pub(crate) make: Make,
    /// Shows its whole URLs.
    pub(crate) reveal: Reveal,
}

/// Whose a kept subscription is and what it wants, where the rest of it is not read any more; nothing where these two are
/// not read as they were meant, since it would get what it never asked for.
pub(crate) fn read_wants(open: &Map<String, Value>) -> (Option<String>, Vec<Selector>) {
    let mut problems = Problems::default();
    let tree = json::tree(open, &mut problems);
    let mut section = Section::of(&tree, &tree.place, scope_of(&tree), &mut problems);
    let tenant = read_tenant(&mut section);
    let selectors = selector::read(&mut section, tenant.as_deref(), None);
    if problems.count() > 0 {
        return (tenant, Vec::new());
    }
    (tenant, selectors)
}

/// Reads the open part of a kept subscription. What was judged when it came is not held against a catalogue again, which
/// may be another by now.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn read_open(
    open: &Map<String, Value>,
    front: Front,
    against: &Against<'_>,
) -> Result<settings::Subscription, String> {
    let mut problems = Problems::default();
    let tree = json::tree(open, &mut problems);
    let against = Against { catalogue: None, kept: true, ..*against };
    let mut section = Section::of(&tree, &tree.place, scope_of(&tree), &mut problems);
    let mut names = BTreeSet::new();
    let (common, _) = read_common(&tree, &mut section, &mut names, &against);
    section.finish();
    if let Some(problem) = problems.into_sorted().first() {
        return Err(problem.detail());
    }
    let common = common.ok_or("it has no name or kind")?;
    let shown = common.shown(&front.shown);
    let mut mark = DefaultHasher::new();
    // Neither what it wants nor its secrets: only whoever is called at the other end.
    (&common.kind, &front.receiver).hash(&mut mark);
    Ok(settings::Subscription {
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
        source: Source::Api(front.version),
        shown,
        reveal: front.reveal,
        mark: mark.finish(),
        takes: front.takes,
        ahead: Some((front.limits, front.timeout)),
        make: front.make,
    })
}
