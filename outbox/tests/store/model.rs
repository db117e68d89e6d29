//! What must be true of a store, written down independently: what was acknowledged, and what may have become of it.

use posthaste_events::{EventId, State, SubscriptionId};
use posthaste_outbox::{DeliveryView, EventView, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stands {
    pub(crate) state: State,
    pub(crate) attempts: u32,
}

impl Stands {
    pub(crate) const NEW: Self = Self { state: State::Pending, attempts: 0 };

    fn of(view: &DeliveryView) -> Self {
        let state = if view.row.state == State::Held { State::Pending } else { view.row.state };
        Self { state, attempts: view.row.attempt_count }
    }
}

/// How something stands now, and how it may stand after a crash: the first of these is certainly durable, each later one
/// came after it.
#[derive(Debug, Clone)]
pub(crate) struct History<T>(Vec<T>);

impl<T: Clone + PartialEq + std::fmt::Debug> History<T> {
    pub(crate) fn new(first: T) -> Self {
        Self(vec![first])
    }

    pub(crate) fn latest(&self) -> &T {
        self.0.last().unwrap()
    }

    pub(crate) fn push(&mut self, next: T) {
        self.0.push(next);
    }

    pub(crate) fn durable(&mut self) {
        self.0.drain(..self.0.len() - 1);
    }

    /// After a crash it stands like this.
    fn found(&mut self, found: T, what: &str) {
        assert!(self.0.contains(&found), "{what}: found {found:?}, possible are {:?}", self.0);
        self.0 = vec![found];
    }
}

/// An event that was acknowledged, or found after a crash.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) body: String,
    pub(crate) deliveries: BTreeMap<SubscriptionId, History<Stands>>,
    /// Those of the deliveries that a replay made, and that a crash may take away again.
    pub(crate) adopted: BTreeSet<SubscriptionId>,
}

impl Event {
    pub(crate) fn new(body: String, owed: &[SubscriptionId]) -> Self {
        let deliveries = owed.iter().map(|s| (*s, History::new(Stands::NEW))).collect();
        Self { body, deliveries, adopted: BTreeSet::new() }
    }
}

/// Everything that was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) events: BTreeMap<EventId, Event>,
    /// Events whose recording failed: after a crash they may be there, before it they are not.
    pub(crate) doubtful: BTreeMap<String, Vec<SubscriptionId>>,
    pub(crate) standings: BTreeMap<SubscriptionId, History<Standing>>,
    /// Idempotency keys by the event that has them.
    pub(crate) keys: BTreeMap<u8, EventId>,
    /// Settled events that the retention has taken. Where a removal failed they can be there again after a crash.
    pub(crate) gone: BTreeMap<EventId, Event>,
}

impl Model {
    pub(crate) fn delivery(&mut self, event: EventId, subscription: SubscriptionId) -> &mut History<Stands> {
        self.events.get_mut(&event).unwrap().deliveries.get_mut(&subscription).unwrap()
    }

    /// Everything that happened so far is durable.
    pub(crate) fn durable(&mut self) {
        for event in self.events.values_mut() {
            event.deliveries.values_mut().for_each(History::durable);
            event.adopted.clear();
        }
        self.standings.values_mut().for_each(History::durable);
    }

    /// The deliveries that are owed now.
    pub(crate) fn owed(&self) -> BTreeSet<(EventId, SubscriptionId)> {
        let all = self.events.iter().flat_map(|(id, e)| e.deliveries.iter().map(move |(s, d)| ((*id, *s), d)));
        all.filter(|(_, d)| d.latest().state == State::Pending).map(|(key, _)| key).collect()
    }

    /// Holds what a store shows against the model; after a crash takes over what may have become of it.
    pub(crate) fn check(&mut self, shown: &[EventView], crashed: bool, oldest_kept: u64) {
        for view in shown {
            let body = String::from_utf8(view.event.payloads.notification().unwrap().to_vec()).unwrap();
            let id = view.event.id;
            if let Some(event) = self.gone.remove(&id) {
                assert!(crashed, "an event came back: {id}");
                self.events.insert(id, event);
            }
            if !self.events.contains_key(&id) {
                let owed = self.doubtful.remove(&body);
                assert!(crashed && owed.is_some(), "an event that was never acknowledged: {id} {body}");
                self.events.insert(id, Event::new(body.clone(), &owed.unwrap()));
            }
            let event = self.events.get_mut(&id).unwrap();
            assert_eq!(event.body, body, "the payload of {id}");
            let subscriptions: Vec<_> = view.deliveries.iter().map(|d| d.row.id.subscription).collect();
            if crashed {
                for doubtful in std::mem::take(&mut event.adopted) {
                    if !subscriptions.contains(&doubtful) {
                        event.deliveries.remove(&doubtful);
                    }
                }
            }
            assert_eq!(subscriptions, event.deliveries.keys().copied().collect::<Vec<_>>(), "whom {id} is owed to");
            for delivery in &view.deliveries {
                let history = event.deliveries.get_mut(&delivery.row.id.subscription).unwrap();
                let (found, what) = (Stands::of(delivery), format!("{:?}", delivery.row.id));
                if crashed {
                    history.found(found, &what);
                } else {
                    assert_eq!(found, *history.latest(), "{what}");
                }
                assert!(delivery.attempts.len() <= found.attempts as usize, "{what}: {:?}", delivery.attempts);
            }
        }
        let ids: BTreeSet<EventId> = shown.iter().map(|v| v.event.id).collect();
        let missing: Vec<EventId> = self.events.keys().filter(|id| !ids.contains(id)).copied().collect();
        for id in missing {
            let event = self.events.remove(&id).unwrap();
            let may_be_settled = |d: &History<Stands>| d.latest().state != State::Pending;
            let settled = event.deliveries.values().all(may_be_settled);
            assert!(settled && id.millis() < oldest_kept, "lost: {id} {event:?}");
            self.gone.insert(id, event);
        }
    }

    /// Holds the standings against the model.
    pub(crate) fn check_standings(&mut self, shown: &[(SubscriptionId, Standing)], crashed: bool) {
        for (id, standing) in shown {
            let Some(history) = self.standings.get_mut(id) else { continue };
            if crashed {
                history.found(standing.clone(), &format!("{id:?}"));
            } else {
                assert_eq!(standing, history.latest(), "{id:?}");
            }
        }
    }
}
