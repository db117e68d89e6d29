//! What `?reveal=` shows that is masked else: who may look behind the mask, and the line in the log for each who did.
//!
//! It asks for `manage` in place of `read`: whoever manages subscriptions could have every event sent to itself.

use super::Scope;
use super::access::Caller;

/// What events have to reveal: their sensitive fields.
pub(super) const FIELDS: &str = "fields";
/// What subscriptions have to reveal: their whole URLs.
pub(super) const URL: &str = "url";
/// The target of the lines, for whoever sorts the log by it.
const TARGET: &str = "audit";

/// The scope that a look needs.
pub(super) const fn scope(reveal: bool) -> Scope {
    if reveal { Scope::Manage } else { Scope::Read }
}

/// Tells who saw what: from the first to the last of `count` ids or names. Never what stands there.
pub(super) fn audit<T: ToString>(caller: &Caller, what: &str, shown: impl DoubleEndedIterator<Item = T>) {
    let mut shown = shown.map(|id| id.to_string());
    let Some(first) = shown.next() else { return };
    let (last, between) = (shown.next_back(), shown.count());
    let count = 1 + usize::from(last.is_some()) + between;
    let last = last.as_deref().unwrap_or(&first);
    let token = caller.token.as_deref().unwrap_or("none is configured");
    tracing::info!(target: TARGET, token, reveal = what, first, last, count, "audit: what is masked was shown");
}
