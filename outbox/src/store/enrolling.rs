//! Enrolments: what is listed changes in memory at once, and is undone where it can not be made durable.
//!
//! Until then the upkeep forgets no subscription and ends no grace: what it did could not be taken back.

use super::Store;
use crate::ledger::{Enrolled, Ledger};
use crate::{Amend, Enrolment, Roll};
use posthaste_events::SubscriptionId;
use std::sync::Arc;

/// An enrolment that is not durable yet; dropped before it is kept, it is undone.
///
/// Else one that fails would leave an epoch that nobody matches by, and so stop all recording.
pub(crate) struct Enrolling {
    store: Arc<Store>,
    /// What it changed; `None` once it is kept.
    enrolled: Option<Enrolled>,
    roll: Roll,
}

impl Enrolling {
    /// Whether it must be durable before it may be kept. An epoch alone need not be: a start begins another one.
    pub(crate) fn must_be_durable(&self) -> bool {
        self.enrolled.as_ref().is_some_and(|enrolled| !enrolled.changed.is_empty())
    }

    /// Lets it stand. Who may have something due.
    pub(crate) fn keep(mut self) -> (Roll, Vec<SubscriptionId>) {
        let changed = self.enrolled.take().map(|enrolled| enrolled.changed.into_iter().collect());
        self.store.inner().enrolling = false;
        (std::mem::take(&mut self.roll), changed.unwrap_or_default())
    }
}

impl Drop for Enrolling {
    fn drop(&mut self) {
        let Some(enrolled) = self.enrolled.take() else { return };
        let mut inner = self.store.inner();
        inner.enrolling = false;
        inner.ledger.take_back(&enrolled, self.store.time.now());
        // It may have been written all the same: what stands is written over it.
        inner.dirty.extend(enrolled.changed);
        inner.dirty_head = true;
    }
}

impl Store {
    /// Enrols in memory; the caller waits until it is durable, and keeps it then. One at a time.
    pub(crate) fn enroll(self: &Arc<Self>, wanted: Vec<Enrolment>) -> Enrolling {
        self.enrolling(|ledger, now| (ledger.enroll(wanted, now), ledger.roll(now)))
    }

    /// Changes some of what is enrolled in memory, as [`Store::enroll`].
    pub(crate) fn amend(self: &Arc<Self>, changes: &[Amend]) -> Enrolling {
        self.enrolling(|ledger, now| (ledger.amend(changes, now), ledger.roll_of(changes, now)))
    }

    fn enrolling(self: &Arc<Self>, enrol: impl FnOnce(&mut Ledger, u64) -> (Enrolled, Roll)) -> Enrolling {
        let mut inner = self.inner();
        let (enrolled, roll) = enrol(&mut inner.ledger, self.time.now());
        inner.dirty.extend(enrolled.changed.iter().copied());
        (inner.dirty_head, inner.enrolling) = (true, true);
        Enrolling { store: Arc::clone(self), enrolled: Some(enrolled), roll }
    }
}
