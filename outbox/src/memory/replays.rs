//! Replays in memory: the same pages and steps, with nothing to read and nothing to write.

use super::Shared;
use super::inner::Inner;
use crate::listing::Kept;
use crate::replays::{Ordered, PAGE_BYTES_MAX, PAGE_MAX, WORK_MAX};
use crate::steps;
use crate::story::Entry;
use crate::{Candidate, Replay, ReplayId, ReplayOrder, ReplayPage, StoreError};
use posthaste_events::{State, SubscriptionId, Timestamp};

impl Inner {
    pub(super) fn order_replay(&mut self, order: ReplayOrder, at: Timestamp) -> Result<Replay, StoreError> {
        if self.gone(order.subscription) {
            return Err(StoreError::Failed(format!("there is no subscription {} to replay to", order.subscription.0)));
        }
        self.replays.order(order, self.last_sequence, at)
    }

    fn gone(&self, subscription: SubscriptionId) -> bool {
        self.ledger.account(subscription).is_none_or(|account| account.unlisted_since.is_some())
    }

    /// One that is under way; it ends where its subscription is gone.
    fn running(&mut self, id: ReplayId, at: Timestamp) -> Option<Ordered> {
        let ordered = self.replays.get(id).filter(|ordered| ordered.runs()).cloned()?;
        if self.gone(ordered.replay.order.subscription) {
            self.replays.cancel(id, at);
            return None;
        }
        Some(ordered)
    }

    pub(super) fn replay_page(&mut self, id: ReplayId, count: usize, at: Timestamp) -> Option<ReplayPage> {
        let ordered = self.running(id, at)?;
        let subscription = ordered.replay.order.subscription;
        let (mut candidates, mut bytes) = (Vec::new(), 0);
        for (looked, (sequence, kept)) in self.events.range(ordered.cursor..=ordered.end).enumerate() {
            let full = candidates.len() >= count.clamp(1, PAGE_MAX) || bytes >= PAGE_BYTES_MAX;
            if full || looked >= WORK_MAX {
                return Some(ReplayPage { candidates, cursor: *sequence, last: false });
            }
            if !ordered.fits(&kept.event.facts) || self.ledger.look(subscription, *sequence).is_some() {
                continue;
            }
            let delivery = self.delivery(kept, subscription);
            if ordered.fits_delivery(delivery) {
                bytes += kept.event.payloads.len();
                candidates.push(Candidate { event: kept.event.clone(), delivery });
            }
        }
        Some(ReplayPage { candidates, cursor: ordered.end.saturating_add(1), last: true })
    }

    /// How a delivery stands that is not owed.
    fn delivery(&self, kept: &Kept, subscription: SubscriptionId) -> Option<State> {
        let newest = self.stories.get(&(kept.event.id.sequence(), subscription)).and_then(|entries| entries.last());
        let of = kept.owed.iter().find(|owed| owed.subscription == subscription);
        newest.map(|entry| entry.after).or(of.map(|_| State::Dead))
    }
}

impl Shared {
    /// Takes a step; the subscription, where something may be due.
    pub(super) fn replay_step(&self, inner: &mut Inner, id: ReplayId, page: &ReplayPage) -> Option<SubscriptionId> {
        let at = self.moment();
        let ordered = inner.running(id, at.wall)?;
        let subscription = ordered.replay.order.subscription;
        let (mut replayed, mut cursor) = (0, page.cursor);
        for candidate in &page.candidates {
            let sequence = candidate.event.id.sequence();
            let in_reach = (ordered.cursor..page.cursor).contains(&sequence);
            if !in_reach || inner.ledger.look(subscription, sequence).is_some() {
                continue;
            }
            let Some(kept) = inner.events.get(&sequence) else { continue };
            if inner.ledger.account(subscription).is_none_or(|a| a.owed() >= a.backlog_max) {
                cursor = sequence;
                break;
            }
            let state = inner.delivery(kept, subscription);
            // It may have ended otherwise since the page was read.
            if !ordered.fits_delivery(state) {
                continue;
            }
            let newest = inner.stories.get(&(sequence, subscription)).and_then(|entries| entries.last());
            let under_way = inner.ledger.cancelled_under_way(subscription, sequence);
            let progress = under_way.or(newest.map(Entry::progress)).unwrap_or_default();
            let Some(entry) = steps::replayed(state, progress, at) else { continue };
            if let Some(kept) = inner.events.get_mut(&sequence).filter(|_| entry.adopts) {
                kept.adopt(subscription);
            }
            inner.ledger.apply_wish(subscription, sequence, entry.progress(), entry.stand());
            self.keep(inner, (sequence, subscription), entry);
            replayed += 1;
        }
        let last = page.last && cursor == page.cursor;
        inner.replays.advance(id, cursor, replayed, last, at.wall).then_some(subscription)
    }
}
