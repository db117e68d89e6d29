//! The replays that an outbox knows: what was ordered, how far each has come, which are remembered.
//!
//! Pure, and the same for every store. What an event's delivery is, and how a step becomes durable, is the store's matter.

use crate::{REPLAYS_MAX, Replay, ReplayId, ReplayOrder, ReplayState, StoreError};
use posthaste_events::{Facts, State, Timestamp};
use std::collections::BTreeMap;

/// How many candidates one page has at most, whatever was asked for.
pub(crate) const PAGE_MAX: usize = 1_000;
/// How many events one page looks at.
pub(crate) const WORK_MAX: usize = 4_096;
/// How many bytes of payload one page has, about: at least one candidate.
pub(crate) const PAGE_BYTES_MAX: usize = 8 << 20;

/// A replay with what only the store needs of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ordered {
    /// Its `until` is what was ordered: absent where that is not before the order.
    pub(crate) replay: Replay,
    /// The sequence from which it goes on.
    pub(crate) cursor: u64,
    /// The last sequence that was recorded when it was ordered.
    pub(crate) end: u64,
    /// How often it changed; tells its rows apart.
    pub(crate) changes: u64,
}

impl Ordered {
    pub(crate) fn runs(&self) -> bool {
        self.replay.state == ReplayState::Running
    }

    /// As it is shown: without an earlier end it ends with what was recorded before the order.
    fn shown(&self) -> Replay {
        let mut replay = self.replay.clone();
        replay.order.until = replay.order.until.or(Some(replay.at));
        replay
    }

    /// Whether an event fits what was ordered, its delivery aside.
    pub(crate) fn fits(&self, facts: &Facts) -> bool {
        let order = &self.replay.order;
        order.since.is_none_or(|since| facts.recorded_at >= since)
            && order.until.is_none_or(|until| facts.recorded_at < until)
            && order.event_type.as_ref().is_none_or(|pattern| pattern.matches(facts.event_type.as_str()))
            && order.tenant.as_ref().is_none_or(|tenant| Some(tenant) == facts.tenant.as_ref())
    }

    /// Whether a delivery fits that is not owed; `None`: it never was.
    pub(crate) fn fits_delivery(&self, delivery: Option<State>) -> bool {
        self.replay.order.state.is_none_or(|state| delivery == Some(state))
    }
}

/// The replays of an outbox, by number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Replays(BTreeMap<ReplayId, Ordered>);

impl Replays {
    /// Notes an order: it is about what was recorded up to `end`.
    pub(crate) fn order(&mut self, order: ReplayOrder, end: u64, at: Timestamp) -> Result<Replay, StoreError> {
        if let Some(state) = order.state.filter(|state| !state.is_settled()) {
            let word = state.as_str();
            return Err(StoreError::Failed(format!(
                "what is {word} comes anyway: only what is settled can be replayed"
            )));
        }
        if self.0.values().filter(|ordered| ordered.runs()).count() >= REPLAYS_MAX {
            return Err(StoreError::Failed(format!("{REPLAYS_MAX} replays are under way, and no more are taken")));
        }
        // Up to now is up to what was recorded last, however coarse the clock: `end` says so.
        let order = ReplayOrder { until: order.until.filter(|until| *until < at), ..order };
        let id = ReplayId(self.0.keys().next_back().map_or(1, |last| last.0.saturating_add(1)));
        let replay = Replay { id, order, state: ReplayState::Running, replayed: 0, at, ended_at: None };
        let ordered = Ordered { replay, cursor: 0, end, changes: 0 };
        let shown = ordered.shown();
        self.0.insert(id, ordered);
        self.forget();
        Ok(shown)
    }

    pub(crate) fn get(&self, id: ReplayId) -> Option<&Ordered> {
        self.0.get(&id)
    }

    pub(crate) fn shown(&self, id: ReplayId) -> Option<Replay> {
        self.get(id).map(Ordered::shown)
    }

    /// Every one that is known, by number.
    pub(crate) fn list(&self) -> Vec<Replay> {
        self.0.values().map(Ordered::shown).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ordered> {
        self.0.values()
    }

    /// Moves a replay on; whether that changed anything.
    pub(crate) fn advance(&mut self, id: ReplayId, cursor: u64, replayed: u64, last: bool, at: Timestamp) -> bool {
        let Some(ordered) = self.0.get_mut(&id).filter(|ordered| ordered.runs()) else { return false };
        if cursor <= ordered.cursor && !last {
            return false;
        }
        ordered.cursor = ordered.cursor.max(cursor);
        ordered.replay.replayed = ordered.replay.replayed.saturating_add(replayed);
        ordered.changes += 1;
        if last {
            self.finish(id, ReplayState::Done, at);
        }
        true
    }

    /// Ends a replay that is under way; whether it was.
    pub(crate) fn cancel(&mut self, id: ReplayId, at: Timestamp) -> bool {
        let Some(ordered) = self.0.get_mut(&id).filter(|ordered| ordered.runs()) else { return false };
        ordered.changes += 1;
        self.finish(id, ReplayState::Cancelled, at);
        true
    }

    fn finish(&mut self, id: ReplayId, state: ReplayState, at: Timestamp) {
        if let Some(ordered) = self.0.get_mut(&id) {
            (ordered.replay.state, ordered.replay.ended_at) = (state, Some(at));
        }
        self.forget();
    }

    /// Puts one as it was written, unless what is known of it is newer.
    pub(crate) fn restore(&mut self, written: Ordered) {
        let id = written.replay.id;
        if self.get(id).is_none_or(|known| known.changes <= written.changes) {
            self.0.insert(id, written);
            self.forget();
        }
    }

    /// Forgets those that ended, the lowest numbers first, past [`REPLAYS_MAX`].
    fn forget(&mut self) {
        let ended: Vec<ReplayId> = self.iter().filter(|o| !o.runs()).map(|o| o.replay.id).collect();
        let beyond = ended.len().saturating_sub(REPLAYS_MAX);
        ended.iter().take(beyond).for_each(|id| drop(self.0.remove(id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_events::SubscriptionId;

    fn at() -> Timestamp {
        Timestamp::from_millis(1_732_000_000_000)
    }

    fn order() -> ReplayOrder {
        let subscription = SubscriptionId(1);
        ReplayOrder { subscription, since: None, until: None, state: None, event_type: None, tenant: None }
    }

    #[test]
    fn a_step_that_is_taken_twice_counts_once() {
        let mut replays = Replays::default();
        let id = replays.order(order(), 100, at()).unwrap().id;
        assert!(replays.advance(id, 11, 4, false, at()));
        for cursor in [11, 10, 0] {
            assert!(!replays.advance(id, cursor, 4, false, at()));
        }
        assert!(replays.advance(id, 11, 0, true, at()), "the end may come without anything more to read");
        assert!(!replays.advance(id, 50, 3, true, at()) && !replays.cancel(id, at()));
        let shown = replays.shown(id).unwrap();
        assert_eq!((shown.replayed, shown.state, shown.ended_at), (4, ReplayState::Done, Some(at())));
    }

    #[test]
    fn numbers_are_never_used_twice_though_ended_ones_are_forgotten() {
        let mut replays = Replays::default();
        let mut last = 0;
        for _ in 0..3 * REPLAYS_MAX {
            let id = replays.order(order(), 1, at()).unwrap().id;
            assert!(id.0 > last);
            last = id.0;
            assert!(replays.cancel(id, at()));
        }
        assert_eq!(replays.list().len(), REPLAYS_MAX);
        let running: Vec<_> = (0..REPLAYS_MAX).map(|_| replays.order(order(), 1, at()).unwrap().id).collect();
        assert!(replays.order(order(), 1, at()).is_err());
        assert!(replays.cancel(running[0], at()));
        assert!(replays.order(order(), 1, at()).is_ok());
        assert_eq!(replays.list().len(), 2 * REPLAYS_MAX);
    }

    #[test]
    fn of_what_was_written_the_newest_counts_in_any_order() {
        let mut replays = Replays::default();
        let id = replays.order(order(), 9, at()).unwrap().id;
        let mut versions = vec![replays.get(id).unwrap().clone()];
        for (cursor, last) in [(3, false), (7, false), (9, true)] {
            replays.advance(id, cursor, 1, last, at());
            versions.push(replays.get(id).unwrap().clone());
        }
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]] {
            let mut found = Replays::default();
            order.iter().for_each(|n| found.restore(versions[*n].clone()));
            assert_eq!(found, replays);
        }
    }

    #[test]
    fn what_comes_anyway_can_not_be_ordered() {
        for state in [State::Pending, State::Held] {
            let refused = Replays::default().order(ReplayOrder { state: Some(state), ..order() }, 1, at());
            assert!(matches!(refused, Err(StoreError::Failed(why)) if why.contains(state.as_str())));
        }
    }
}
