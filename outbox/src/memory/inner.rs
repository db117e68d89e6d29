//! What the outbox in memory holds: the ledger, the events, their stories, the keys.

use super::{SWEEP_MAX, Shared};
use crate::definitions::Definitions;
use crate::ledger::{LEARNT_MAX, Ledger, Part, line_of};
use crate::listing::{Kept, Owed};
use crate::query::{DeliveryView, EventRow};
use crate::replays::Replays;
use crate::story::{self, Entry, Told};
use crate::time::{OutboxTime, millis};
use crate::{Health, RecordError, Recorded, Refused, StoreError};
use posthaste_events::{DeliveryId, EventId, Idempotency, Prepared, SubscriptionId};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

#[derive(Default)]
pub(super) struct Inner {
    pub(super) ledger: Ledger,
    pub(super) last_sequence: u64,
    pub(super) events: BTreeMap<u64, Kept>,
    pub(super) stories: BTreeMap<(u64, SubscriptionId), Vec<Entry>>,
    pub(super) keys: HashMap<[u8; 16], Known>,
    /// Keys by the time at which they are forgotten.
    pub(super) keys_end: VecDeque<(u64, [u8; 16])>,
    pub(super) health: Health,
    pub(super) definitions: Definitions,
    pub(super) replays: Replays,
    /// Dead at birth, and nobody told yet.
    pub(super) refused: Vec<Refused>,
    pub(super) closed: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) content: [u8; 16],
    pub(super) answer: Recorded,
    pub(super) until: u64,
}

impl Inner {
    /// Which of the events are new, and the answers of the others; judged before anything changes.
    pub(super) fn known(
        &self,
        events: &[Prepared],
        now: u64,
        ids: &[EventId],
    ) -> Result<Vec<Option<Recorded>>, RecordError> {
        let mut within: HashMap<[u8; 16], Known> = HashMap::new();
        let mut answers = Vec::with_capacity(events.len());
        for (index, (event, id)) in events.iter().zip(ids).enumerate() {
            let Some(Idempotency { key, content }) = event.idempotency else {
                answers.push(None);
                continue;
            };
            let known = self.keys.get(&key).filter(|k| now < k.until).or_else(|| within.get(&key)).copied();
            if let Some(known) = known {
                if known.content != content {
                    return Err(RecordError::Conflict { index, first: known.answer.id });
                }
                answers.push(Some(Recorded { duplicate: true, ..known.answer }));
                continue;
            }
            let answer = Recorded { id: *id, duplicate: false, deliveries: count(&event.owed) };
            within.insert(key, Known { content, answer, until: 0 });
            answers.push(None);
        }
        Ok(answers)
    }

    pub(super) fn record(
        &mut self,
        shared: &Shared,
        event: Prepared,
        id: EventId,
        due: &mut HashSet<SubscriptionId>,
    ) -> Recorded {
        let (sequence, now) = (id.sequence(), shared.time.now());
        let answer = Recorded { id, duplicate: false, deliveries: count(&event.owed) };
        let mut owed = Vec::with_capacity(event.owed.len());
        for subscription in event.owed {
            let full = self.ledger.account(subscription).is_none_or(|a| a.owed() >= a.backlog_max);
            owed.push(Owed { subscription, dead_at_birth: full });
            if full {
                let delivery = DeliveryId { event: id, subscription };
                self.refused.push(Refused { delivery, origin: event.facts.origin });
            } else {
                self.ledger.owe(subscription, sequence);
                due.insert(subscription);
            }
        }
        if let Some(Idempotency { key, content }) = event.idempotency {
            let until = now.saturating_add(millis(shared.limits.idempotency));
            self.keys.insert(key, Known { content, answer, until });
            self.keys_end.push_back((until, key));
        }
        let event = EventRow { id, facts: event.facts, payloads: event.payloads };
        self.events.insert(sequence, Kept { event, owed });
        self.health.recorded_total += 1;
        if shared.forgetting {
            self.drop_if_settled(sequence);
        }
        answer
    }

    /// Learns the keys that a claim needs, a bounded piece of them at most.
    pub(super) fn learn(&mut self, subscription: SubscriptionId, part: Part, now: u64) {
        for _ in 0..LEARNT_MAX {
            let Some(sequence) = self.ledger.to_learn(subscription, part, now) else { break };
            let key = self.events.get(&sequence).and_then(|kept| kept.event.facts.key.as_deref());
            self.ledger.learn(subscription, sequence, line_of(key, sequence));
        }
    }

    pub(super) fn drop_if_settled(&mut self, sequence: u64) {
        let owed = |owed: &Owed| self.ledger.look(owed.subscription, sequence).is_some();
        if self.events.get(&sequence).is_some_and(|kept| !kept.owed.iter().any(owed)) {
            self.events.remove(&sequence);
        }
    }

    pub(super) fn kept(&self, id: EventId) -> Option<&Kept> {
        self.events.get(&id.sequence()).filter(|kept| kept.event.id == id)
    }

    pub(super) fn owed(&self, id: DeliveryId) -> Option<(&Kept, Owed)> {
        let kept = self.kept(id.event)?;
        let owed = kept.owed.iter().find(|owed| owed.subscription == id.subscription)?;
        Some((kept, *owed))
    }

    pub(super) fn entries(&self, id: DeliveryId) -> &[Entry] {
        self.stories.get(&(id.event.sequence(), id.subscription)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn view(&self, kept: &Kept, owed: Owed, time: &OutboxTime) -> DeliveryView {
        let id = DeliveryId { event: kept.event.id, subscription: owed.subscription };
        let entries = self.entries(id);
        story::view(&told(kept, owed, entries.last()), entries, &self.ledger, time)
    }

    pub(super) fn newest_first(&self, from: Option<u64>) -> impl Iterator<Item = Result<Kept, StoreError>> {
        self.events.range(..=from.unwrap_or(u64::MAX)).rev().map(|(_, kept)| Ok(kept.clone()))
    }

    /// Drops settled events past retention; how many, and whether there may be more.
    pub(super) fn drop_old(&mut self, older_than: u64) -> (u64, bool) {
        let old = self.events.iter().take_while(|(_, kept)| kept.event.id.millis() <= older_than);
        let owed = |sequence: u64, kept: &Kept| {
            kept.owed.iter().any(|owed| self.ledger.look(owed.subscription, sequence).is_some())
        };
        let settled = old.filter(|(sequence, kept)| !owed(**sequence, kept));
        let looked: Vec<u64> = settled.map(|(sequence, _)| *sequence).take(SWEEP_MAX).collect();
        let before = self.events.len();
        for sequence in &looked {
            self.drop_if_settled(*sequence);
            if !self.events.contains_key(sequence) {
                let all = (*sequence, SubscriptionId(0))..=(*sequence, SubscriptionId(u32::MAX));
                let stories: Vec<_> = self.stories.range(all).map(|(key, _)| *key).collect();
                stories.iter().for_each(|key| drop(self.stories.remove(key)));
            }
        }
        let gone = before - self.events.len();
        (gone as u64, gone == SWEEP_MAX)
    }

    pub(super) fn forget_keys(&mut self, now: u64) {
        while let Some((_, key)) = self.keys_end.front().copied().filter(|(until, _)| *until <= now) {
            self.keys_end.pop_front();
            if self.keys.get(&key).is_some_and(|known| known.until <= now) {
                self.keys.remove(&key);
            }
        }
    }
}

pub(super) fn told<'a>(kept: &'a Kept, owed: Owed, newest: Option<&'a Entry>) -> Told<'a> {
    let id = DeliveryId { event: kept.event.id, subscription: owed.subscription };
    Told { id, facts: &kept.event.facts, dead_at_birth: owed.dead_at_birth, newest }
}

pub(super) fn count(owed: &[SubscriptionId]) -> u32 {
    u32::try_from(owed.len()).unwrap_or(u32::MAX)
}
