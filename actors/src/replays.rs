//! Drives replays: page by page, each step durable, beside everything else that is delivered.
//!
//! The outbox says which deliveries fit an order, and never makes one due twice; here it is chosen what is owed for the
//! first time, by what the subscription selects now, and how fast. A replay waits while its subscription is owed much: what
//! is new is delivered first all the same, and no backlog grows without bound. It goes on after a restart, and ends with
//! its subscription.

use crate::messages::{NotReplayed, Replay, ReplayView};
use crate::registry::Inner;
use posthaste_events::builtin::TEST;
use posthaste_events::{State, SubscriptionId, Takes};
use posthaste_outbox::{
    DELETED, REPLAYS_MAX, Replay as Kept, ReplayId, ReplayOrder, ReplayState, Standing, StoreError, Subscribed,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How many replays of one subscription may be under way.
const SUBSCRIPTION_MAX: usize = 3;
/// How many of one tenant, so that none takes the room of all others.
const TENANT_MAX: usize = 10;
/// How many candidates are looked at at once.
const PAGE: usize = 500;
/// How much a subscription may be owed for its replay to go on.
const OWED_MAX: u64 = 10_000;
/// How soon it is looked again whether that is so.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long is waited after the outbox failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

impl Inner {
    /// Orders a replay, and begins with it.
    pub(crate) async fn replay(self: &Arc<Self>, replay: Replay) -> Result<ReplayView, NotReplayed> {
        let Replay { subscription: name, since, until, state, event_type, bound } = replay;
        // Orders come one after another, so that the bounds hold; and never beside a change of their subscription.
        let _alone = self.changing.lock().await;
        let roster = self.roster();
        let stays = |s: &Subscribed| s.listed && s.standing != Standing::Disabled(DELETED.to_owned());
        let subscribed = self.subscribed_of(&name, bound.as_deref()).await?.filter(stays);
        let subscribed = subscribed.ok_or(NotReplayed::Unknown)?;
        let found = roster.find(&name).ok_or(NotReplayed::Unknown)?;
        if let Some(state @ (State::Pending | State::Held)) = state {
            return Err(NotReplayed::Unsettled(state.as_str()));
        }
        if found.takes == Takes::Telemetry && roster.settings.telemetry.is_none() {
            return Err(NotReplayed::TelemetryOff);
        }
        let mut running = self.desk.outbox.replays().await?;
        running.retain(|r| r.state == ReplayState::Running);
        let of_it = running.iter().filter(|r| r.order.subscription == subscribed.id).count();
        let of_tenant = running.iter().filter(|r| r.order.tenant.is_some() && r.order.tenant == found.tenant).count();
        for (count, max) in [(of_it, SUBSCRIPTION_MAX), (of_tenant, TENANT_MAX), (running.len(), REPLAYS_MAX)] {
            if count >= max {
                return Err(NotReplayed::TooMany(max));
            }
        }
        let order =
            ReplayOrder { subscription: subscribed.id, since, until, state, event_type, tenant: found.tenant.clone() };
        let replay = self.desk.outbox.order_replay(order).await?;
        let tenant = found.tenant.clone();
        self.drive(replay.id, subscribed.id, name.clone());
        Ok(ReplayView { replay, subscription: Some(name), tenant })
    }

    pub(crate) async fn replays(&self) -> Result<Vec<ReplayView>, StoreError> {
        let replays = self.desk.outbox.replays().await?;
        let roll = self.desk.outbox.roll().await?;
        let names: BTreeMap<_, _> = roll.subscriptions.into_iter().map(|s| (s.id, s.name)).collect();
        Ok(replays.into_iter().map(|replay| self.seen(replay, &names)).collect())
    }

    fn seen(&self, replay: Kept, names: &BTreeMap<SubscriptionId, String>) -> ReplayView {
        let subscription = names.get(&replay.order.subscription).cloned();
        let tenant = replay.order.tenant.clone();
        ReplayView { replay, subscription, tenant }
    }

    pub(crate) async fn cancel_replay(&self, id: ReplayId) -> Result<Option<ReplayView>, StoreError> {
        let Some(replay) = self.desk.outbox.cancel_replay(id).await? else { return Ok(None) };
        let roll = self.desk.outbox.roll().await?;
        let names = roll.subscriptions.into_iter().map(|s| (s.id, s.name)).collect();
        Ok(Some(self.seen(replay, &names)))
    }

    /// Goes on with what was under way before the start.
    pub(crate) async fn resume_replays(self: &Arc<Self>) -> Result<(), StoreError> {
        let roll = self.desk.outbox.roll().await?;
        let names: BTreeMap<_, _> = roll.subscriptions.into_iter().map(|s| (s.id, s.name)).collect();
        for replay in self.desk.outbox.replays().await? {
            if replay.state == ReplayState::Running {
                let subscription = replay.order.subscription;
                // Of no name where it is gone: the first step ends it.
                self.drive(replay.id, subscription, names.get(&subscription).cloned().unwrap_or_default());
            }
        }
        Ok(())
    }

    fn drive(self: &Arc<Self>, id: ReplayId, subscription: SubscriptionId, name: String) {
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let mut replayed = 0;
            while !inner.desk.is_stopping() {
                match inner.step(id, (subscription, &name), &mut replayed).await {
                    Ok(Pace::On) => tokio::task::yield_now().await,
                    Ok(Pace::Wait) => tokio::time::sleep(LOOK_AGAIN).await,
                    Ok(Pace::Ended) | Err(StoreError::Closed) => return,
                    Err(error) => {
                        tracing::warn!(replay = id.0, %error, "a replay does not go on; it is tried again");
                        tokio::time::sleep(AFTER_FAILURE).await;
                    }
                }
            }
        });
    }

    /// One page of a replay; `replayed` is what it made due so far.
    async fn step(
        &self,
        id: ReplayId,
        (subscription, name): (SubscriptionId, &str),
        replayed: &mut u64,
    ) -> Result<Pace, StoreError> {
        let subscribed = self.subscribed(name).await?.filter(|s| s.id == subscription && s.listed);
        let Some(Subscribed { owed, .. }) = subscribed else {
            tracing::info!(replay = id.0, "its subscription is gone: the replay is cancelled");
            self.desk.outbox.cancel_replay(id).await?;
            return Ok(Pace::Ended);
        };
        if owed > OWED_MAX {
            return Ok(Pace::Wait);
        }
        let Some(mut page) = self.desk.outbox.replay_page(id, PAGE).await? else { return Ok(Pace::Ended) };
        let snapshot = self.desk.snapshot.current();
        page.candidates.retain(|candidate| match candidate.delivery {
            Some(state) => state.is_settled(),
            // A test was for another one.
            None => {
                let (facts, payloads) = (&candidate.event.facts, &candidate.event.payloads);
                facts.event_type.as_str() != TEST && snapshot.selects(subscription, facts, payloads)
            }
        });
        let made_due = !page.candidates.is_empty();
        let after = self.desk.outbox.replay_step(id, page).await?;
        if made_due {
            self.inbox.hint(&[subscription]);
        }
        match after {
            Some(replay) if replay.state == ReplayState::Running => {
                let before = std::mem::replace(replayed, replay.replayed);
                // With no room in its backlog a step goes nowhere until something is delivered.
                Ok(if made_due && before == replay.replayed { Pace::Wait } else { Pace::On })
            }
            Some(replay) => {
                tracing::info!(replay = id.0, replayed = replay.replayed, "the replay is done");
                Ok(Pace::Ended)
            }
            None => Ok(Pace::Ended),
        }
    }
}

/// What follows a step.
enum Pace {
    On,
    Wait,
    Ended,
}
