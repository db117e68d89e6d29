//! Which accounts have a name, so that nobody goes over all of them to find one.
//!
//! Several have the same one where its subscription was deleted and another made under it: which of them counts is for
//! [`super::roll`] to say.

use posthaste_events::SubscriptionId;
use std::collections::HashMap;
use std::sync::Arc;

/// Accounts by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Names(HashMap<Arc<str>, Vec<SubscriptionId>>);

impl Names {
    /// The accounts of a name, ascending.
    pub(super) fn of(&self, name: &str) -> &[SubscriptionId] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn add(&mut self, name: &Arc<str>, id: SubscriptionId) {
        let ids = self.0.entry(Arc::clone(name)).or_default();
        if let Err(at) = ids.binary_search(&id) {
            ids.insert(at, id);
        }
    }

    pub(super) fn remove(&mut self, name: &str, id: SubscriptionId) {
        let Some(ids) = self.0.get_mut(name) else { return };
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            self.0.remove(name);
        }
    }
}
