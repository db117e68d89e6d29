//! Replays: what a page shows, and what a step makes due.
//!
//! A page reads the events in the order of recording, each generation once, and tells of each whether its delivery fits.
//! A step takes effect in memory at once; what it made due and its cursor are taken together by the next batch, so that
//! a crash keeps both or neither. Pages, steps, wishes and the upkeep run on one lane, one after the other: nothing that
//! is settled becomes owed between the reading of a step and its effect.

use super::Store;
use super::newest::Newest;
use crate::disk::{DiskError, Row};
use crate::listing::Kept;
use crate::replays::{Ordered, PAGE_BYTES_MAX, PAGE_MAX, Replays, WORK_MAX};
use crate::rows::{self, Kind};
use crate::steps;
use crate::story::Entry;
use crate::{Candidate, Replay, ReplayId, ReplayOrder, ReplayPage, StoreError};
use posthaste_events::{State, SubscriptionId};
use std::collections::BTreeSet;

/// The replays of which rows wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    /// Those that changed.
    pub(crate) changes: BTreeSet<ReplayId>,
    /// Those that a new generation is to know of.
    pub(crate) copies: BTreeSet<ReplayId>,
}

impl Unwritten {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.copies.is_empty()
    }

    /// Adds what could not be written.
    pub(crate) fn extend(&mut self, failed: &Self) {
        self.changes.extend(&failed.changes);
        self.copies.extend(&failed.copies);
    }

    /// Makes the rows; one that is forgotten meanwhile has none.
    pub(crate) fn rows(&self, replays: &Replays, into: &mut Vec<Row>) {
        for (kind, ids) in [(Kind::ReplayChange, &self.changes), (Kind::Replay, &self.copies)] {
            into.extend(ids.iter().filter_map(|id| replays.get(*id)).map(|ordered| rows::write_replay(kind, ordered)));
        }
    }
}

impl Store {
    /// Orders a replay; durable once what waits to be written is.
    pub(crate) fn order_replay(&self, order: ReplayOrder) -> Result<Replay, StoreError> {
        let at = self.time.wall();
        let mut inner = self.inner();
        if inner.ledger.account(order.subscription).is_none_or(|account| account.unlisted_since.is_some()) {
            return Err(StoreError::Failed(format!("there is no subscription {} to replay to", order.subscription.0)));
        }
        let end = inner.committed;
        let replay = inner.replays.order(order, end, at)?;
        inner.unwritten.changes.insert(replay.id);
        Ok(replay)
    }

    /// Ends a replay; durable once what waits to be written is.
    pub(crate) fn cancel_replay(&self, id: ReplayId) -> Option<Replay> {
        let at = self.time.wall();
        let mut inner = self.inner();
        if inner.replays.cancel(id, at) {
            inner.unwritten.changes.insert(id);
        }
        inner.replays.shown(id)
    }

    /// Ends the replays whose subscription was deleted: nobody drives them any more.
    pub(crate) fn end_orphaned_replays(&self) {
        let orphaned: Vec<ReplayId> = {
            let inner = self.inner();
            let orphaned = |ordered: &&Ordered| {
                let account = inner.ledger.account(ordered.replay.order.subscription);
                ordered.runs() && account.is_none_or(|account| account.deleted && account.unlisted_since.is_some())
            };
            inner.replays.iter().filter(orphaned).map(|ordered| ordered.replay.id).collect()
        };
        orphaned.into_iter().for_each(|id| drop(self.cancel_replay(id)));
    }

    /// One that is under way; it ends where its subscription is gone.
    fn running(&self, id: ReplayId) -> Option<Ordered> {
        let ordered = self.inner().replays.get(id).filter(|ordered| ordered.runs()).cloned()?;
        let gone = {
            let inner = self.inner();
            let account = inner.ledger.account(ordered.replay.order.subscription);
            account.is_none_or(|account| account.unlisted_since.is_some())
        };
        if gone {
            self.cancel_replay(id);
            return None;
        }
        Some(ordered)
    }

    /// The next candidates of a replay that is under way.
    pub(crate) fn replay_page(&self, id: ReplayId, count: usize) -> Result<Option<ReplayPage>, DiskError> {
        let Some(ordered) = self.running(id) else { return Ok(None) };
        let subscription = ordered.replay.order.subscription;
        let count = count.clamp(1, PAGE_MAX);
        let mut next = Some(ordered.cursor);
        let mut heads: Vec<Kept> = Vec::new();
        let mut looked = 0;
        while let Some(from) = next.filter(|_| looked < WORK_MAX) {
            let Some((found, above)) = self.oldest_from(from, ordered.end)? else {
                next = None;
                break;
            };
            looked += found.len().max(1);
            heads.extend(found.into_iter().filter(|kept| ordered.fits(&kept.event.facts)));
            next = Some(above).filter(|above| *above <= ordered.end);
        }
        let sequences: Vec<u64> = heads.iter().map(|kept| kept.event.id.sequence()).collect();
        let newest = self.newest_of(&sequences, subscription)?;
        let (mut candidates, mut bytes) = (Vec::new(), 0);
        for kept in heads {
            let sequence = kept.event.id.sequence();
            if candidates.len() >= count || bytes >= PAGE_BYTES_MAX {
                return Ok(Some(ReplayPage { candidates, cursor: sequence, last: false }));
            }
            let Some(delivery) = self.replayable(&kept, subscription, &newest) else { continue };
            // One that is damaged beyond repair can be delivered to nobody.
            let event = ordered.fits_delivery(delivery).then(|| self.load(sequence)).transpose()?.flatten();
            if let Some((kept, _)) = event {
                bytes += kept.event.payloads.len();
                candidates.push(Candidate { event: kept.event, delivery });
            }
        }
        let cursor = next.unwrap_or_else(|| ordered.end.saturating_add(1));
        Ok(Some(ReplayPage { candidates, cursor, last: next.is_none() }))
    }

    /// How an event's delivery stands that is not owed: settled, or (`None` within) never made. `None` where it is owed.
    fn replayable(&self, kept: &Kept, subscription: SubscriptionId, newest: &Newest) -> Option<Option<State>> {
        let sequence = kept.event.id.sequence();
        if self.inner().ledger.look(subscription, sequence).is_some() {
            return None;
        }
        let of = kept.owed.iter().find(|owed| owed.subscription == subscription);
        match newest.get(&(sequence, subscription)) {
            Some(entry) if entry.after.is_settled() => Some(Some(entry.after)),
            // Its end is lost to damage: nobody knows better than that it is owed no more.
            Some(_) => Some(Some(State::Dead)),
            None => Some(of.map(|_| State::Dead)),
        }
    }

    /// Takes a step: makes due what of the page fits the backlog, and moves the replay on. Where not all of it fits, it moves
    /// on only so far. Whether anything changed.
    pub(crate) fn replay_step(&self, id: ReplayId, page: &ReplayPage) -> Result<bool, DiskError> {
        let Some(ordered) = self.running(id) else { return Ok(false) };
        let subscription = ordered.replay.order.subscription;
        let wanted = page.candidates.iter().filter(|c| (ordered.cursor..page.cursor).contains(&c.event.id.sequence()));
        let wanted: Vec<&Candidate> = wanted.collect();
        let sequences: Vec<u64> = wanted.iter().map(|c| c.event.id.sequence()).collect();
        let newest = self.newest_of(&sequences, subscription)?;
        let at = self.moment();
        let mut inner = self.inner();
        // A person may have ended it meanwhile.
        if inner.replays.get(id).is_none_or(|known| *known != ordered) {
            return Ok(false);
        }
        let (mut replayed, mut cursor) = (0, page.cursor);
        for candidate in wanted {
            let sequence = candidate.event.id.sequence();
            // Owed again already, or forgotten since the page was read.
            if inner.ledger.look(subscription, sequence).is_some() || self.catalog().home(sequence).is_none() {
                continue;
            }
            let full = inner.ledger.account(subscription).is_none_or(|a| a.owed() >= a.backlog_max);
            if full {
                cursor = sequence;
                break;
            }
            let found = newest.get(&(sequence, subscription));
            let under_way = inner.ledger.cancelled_under_way(subscription, sequence);
            let progress = under_way.or(found.map(Entry::progress)).unwrap_or_default();
            let settled = |entry: &Entry| if entry.after.is_settled() { entry.after } else { State::Dead };
            let state = found.map(settled).or(candidate.delivery);
            // It may have ended otherwise since the page was read.
            if !ordered.fits_delivery(state) {
                continue;
            }
            let Some(entry) = steps::replayed(state, progress, at) else { continue };
            inner.ledger.apply_wish(subscription, sequence, entry.progress(), entry.stand());
            inner.overlay.push(sequence, subscription, entry);
            replayed += 1;
        }
        let last = page.last && cursor == page.cursor;
        let changed = inner.replays.advance(id, cursor, replayed, last, at.wall);
        if changed {
            inner.unwritten.changes.insert(id);
        }
        Ok(changed)
    }
}
