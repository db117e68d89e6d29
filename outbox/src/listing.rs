//! Pages over events and deliveries, bounded in rows and in work, for every store.
//!
//! A store brings an iterator over its events, the newest first, that begins at the cursor.

use crate::query::{DeliveryQuery, DeliveryRow, EventQuery, EventRow, Page};
use posthaste_events::{DeliveryId, EventId, Facts, SubscriptionId};
use std::sync::Arc;

/// An event as the stores keep it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) event: EventRow,
    pub(crate) owed: Vec<Owed>,
}

impl Kept {
    /// Notes that a replay owes it to a subscription, unless it is known that it does or ever was owed to it.
    pub(crate) fn adopt(&mut self, subscription: SubscriptionId) {
        if !self.owed.iter().any(|owed| owed.subscription == subscription) {
            self.owed.push(Owed { subscription, dead_at_birth: false });
            // Pages go on behind a subscription.
            self.owed.sort_by_key(|owed| owed.subscription);
        }
    }
}

/// To whom an event is or was owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) subscription: SubscriptionId,
    pub(crate) dead_at_birth: bool,
}

/// A page of events.
pub(crate) fn events<E>(
    newest_first: impl Iterator<Item = Result<Kept, E>>,
    query: &EventQuery,
) -> Result<Page<EventRow, EventId>, E> {
    let (mut rows, mut work, mut last) = (Vec::new(), 0, None);
    for kept in newest_first {
        let event = kept?.event;
        if rows.len() >= query.limit.max(1) || work >= query.work_max.max(1) {
            return Ok(Page { rows, next: last });
        }
        work += 1;
        last = Some(event.id);
        if wanted(&event.facts, query) {
            rows.push(event);
        }
    }
    Ok(Page { rows, next: None })
}

fn wanted(facts: &Facts, query: &EventQuery) -> bool {
    query.event_type.as_ref().is_none_or(|t| *t == facts.event_type)
        && query.tenant.as_ref().is_none_or(|t| Some(t) == facts.tenant.as_ref())
        && query.since.is_none_or(|since| facts.recorded_at >= since)
        && query.until.is_none_or(|until| facts.recorded_at < until)
}

/// A page of deliveries; `row_of` shows one of them. The iterator begins with the event of the cursor.
pub(crate) fn deliveries<E>(
    newest_first: impl Iterator<Item = Result<Kept, E>>,
    query: &DeliveryQuery,
    mut row_of: impl FnMut(&Kept, Owed) -> Result<DeliveryRow, E>,
) -> Result<Page<DeliveryRow, DeliveryId>, E> {
    let (mut rows, mut work) = (Vec::new(), 0);
    let mut last = query.after;
    for kept in newest_first {
        let kept = kept?;
        let event = kept.event.id;
        let behind = |owed: &&Owed| {
            query.after.is_none_or(|after| after.event != event || owed.subscription > after.subscription)
        };
        if work >= query.work_max.max(1) {
            return Ok(Page { rows, next: last });
        }
        // The event of the cursor was counted on the page before; counting it again could keep a page from moving on.
        work += usize::from(query.after.is_none_or(|after| after.event != event));
        if of_event(&kept.event.facts, query) {
            for owed in kept.owed.iter().filter(behind) {
                if rows.len() >= query.limit.max(1) || work > query.work_max.max(1) {
                    return Ok(Page { rows, next: last });
                }
                last = Some(DeliveryId { event, subscription: owed.subscription });
                if query.subscription.is_some_and(|wanted| wanted != owed.subscription) {
                    continue;
                }
                work += 1;
                let row = row_of(&kept, *owed)?;
                if query.state.is_none_or(|state| state == row.state) {
                    rows.push(row);
                }
            }
        }
        // Behind everything that this event is owed to.
        last = Some(DeliveryId { event, subscription: SubscriptionId(u32::MAX) });
    }
    Ok(Page { rows, next: None })
}

/// Whether deliveries of an event are wanted at all.
pub(crate) fn of_event(facts: &Arc<Facts>, query: &DeliveryQuery) -> bool {
    query.tenant.as_ref().is_none_or(|t| Some(t) == facts.tenant.as_ref())
        && query.since.is_none_or(|since| facts.recorded_at >= since)
}
