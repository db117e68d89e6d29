//! Replays in a world at random, beside its model.

use crate::model::{History, Stands};
use crate::replays::everything;
use crate::world::{RETENTION, World};
use posthaste_events::{DeliveryId, EventId, State, SubscriptionId};
use posthaste_outbox::*;
use rand::Rng as _;
use std::collections::BTreeMap;

impl World {
    /// Replays some of what a subscription is not owed; false where the store failed at it.
    pub(crate) async fn replay(&mut self) -> bool {
        let subscription = self.subscriptions[self.dice.random_range(0..self.subscriptions.len())];
        let state =
            [None, Some(State::Delivered), Some(State::Dead), Some(State::Cancelled)][self.dice.random_range(0..4)];
        let order = ReplayOrder { state, ..everything(subscription) };
        let Ok(replay) = self.outbox().order_replay(order).await else { return false };
        let done = match self.outbox().replay_page(replay.id, 1_000).await {
            Ok(Some(page)) => self.step(replay.id, subscription, state, page).await,
            Ok(None) => panic!("a replay that was just ordered is not under way"),
            Err(_) => false,
        };
        // Whether that fails or not, it is under way no more.
        let _ = self.outbox().cancel_replay(replay.id).await;
        done
    }

    /// Holds a page that has everything against the model, and takes a step with some of it.
    async fn step(&mut self, id: ReplayId, of: SubscriptionId, state: Option<State>, mut page: ReplayPage) -> bool {
        assert!(page.last);
        self.check_candidates(of, state, &page.candidates);
        page.candidates.retain(|_| self.dice.random_bool(0.5));
        let events: Vec<EventId> = page.candidates.iter().map(|candidate| candidate.event.id).collect();
        let answer = self.outbox().replay_step(id, page).await;
        self.asked.extend(events.iter().map(|event| DeliveryId { event: *event, subscription: of }));
        for event in &events {
            self.made_due(*event, of, answer.is_ok()).await;
        }
        let Ok(replay) = answer else { return false };
        assert_eq!(replay.map(|replay| replay.replayed), Some(events.len() as u64));
        self.replayed += events.len() as u64;
        self.model.durable();
        true
    }

    /// Notes that a step made a delivery due, or may have.
    async fn made_due(&mut self, event: EventId, of: SubscriptionId, surely: bool) {
        let known = self.model.events[&event].deliveries.get(&of).map(|history| *history.latest());
        match known {
            Some(latest) => {
                let after = Stands { state: State::Pending, ..latest };
                if surely {
                    self.model.delivery(event, of).push(after);
                } else {
                    self.resolve(event, of, after).await;
                }
            }
            None => {
                let id = DeliveryId { event, subscription: of };
                // Where nobody answers any more the power is gone, and only the next start will tell.
                let mut found = true;
                for _ in 0..10 {
                    if let Ok(view) = self.outbox().delivery(id).await {
                        found = view.is_some();
                        break;
                    }
                }
                assert!(found || !surely, "{id:?} was made due and is not there");
                if found {
                    let known = self.model.events.get_mut(&event).unwrap();
                    known.deliveries.insert(of, History::new(Stands::NEW));
                    known.adopted.insert(of);
                }
            }
        }
    }

    /// What may be replayed is what is settled or never was owed, and all of that but what retention took meanwhile.
    fn check_candidates(&self, of: SubscriptionId, state: Option<State>, candidates: &[Candidate]) {
        let of_model = self.model.events.iter().filter_map(|(id, event)| {
            let stands = event.deliveries.get(&of).map(|history| history.latest().state);
            (stands != Some(State::Pending) && (state.is_none() || stands == state)).then_some((*id, stands))
        });
        let mut expected: BTreeMap<EventId, Option<State>> = of_model.collect();
        for candidate in candidates {
            let id = candidate.event.id;
            assert_eq!(expected.remove(&id), Some(candidate.delivery), "{id} for {of:?}");
            assert_eq!(candidate.event.payloads.notification().unwrap(), &self.model.events[&id].body);
        }
        let oldest_kept = self.now().saturating_sub(u64::try_from(RETENTION.as_millis()).unwrap());
        assert!(expected.keys().all(|id| id.millis() < oldest_kept), "not among the candidates: {expected:?}");
    }
}
