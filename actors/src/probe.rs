//! Tests one subscription: records an event that is owed to it alone, and waits for the first attempt.
//!
//! Everything that would let the test wait for nothing is said at once instead. How the event is delivered is no matter
//! of this: it goes the way of every other.

use crate::messages::{NotTested, Test, Watched};
use crate::registry::Inner;
use crate::scheduler::{CircuitState, LaneView};
use crate::settings::Subscription;
use posthaste_events::builtin::test_of;
use posthaste_events::prepare::Snapshot;
use posthaste_events::{DeliveryId, Draft, EventType, Prepared, Takes};
use posthaste_outbox::{Standing, Subscribed};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// How much longer than a call and the wait of its batch the answer may take: claim and settlement.
const SLACK: Duration = Duration::from_secs(2);
/// And so much at most until its rate limit lets a call begin.
const SLOT_MAX: Duration = Duration::from_secs(40);

/// Does one test.
pub(crate) async fn test(inner: &Inner, test: Test) -> Result<Arc<Watched>, NotTested> {
    // Until the event is owed to it, the name stays with whoever has it.
    let alone = inner.changing.lock().await;
    let roster = inner.roster();
    let subscribed = inner.subscribed_of(&test.subscription, test.bound.as_deref()).await?;
    let subscribed = subscribed.ok_or(NotTested::Unknown)?;
    let subscription = roster.find(&test.subscription).ok_or(NotTested::Unknown)?;
    if subscription.takes == Takes::Telemetry && roster.settings.telemetry.is_none() {
        return Err(NotTested::TelemetryOff);
    }
    let lane = may_call(inner, &subscribed).await?;
    let mut attempts = inner.desk.watchers.subscribe();
    let (snapshot, now) = (inner.desk.snapshot.current(), inner.desk.clock.wall());
    let mut event = prepare(&snapshot, subscription, test.event_type, now)?;
    event.owed = vec![subscribed.id];
    let recorded = inner.desk.record_for(subscribed.id, event, snapshot.epoch).await?;
    drop(alone);
    let delivery = DeliveryId { event: recorded.id, subscription: subscribed.id };
    let patience =
        lane.timeout.saturating_add(lane.batch_wait).saturating_add(lane.slot_in.min(SLOT_MAX)).saturating_add(SLACK);
    let first = tokio::time::timeout(patience, attempt_at(delivery, &mut attempts)).await;
    match first {
        Ok(Some(watched)) => Ok(watched),
        Ok(None) | Err(_) => Err(NotTested::NoAnswer { delivery, after: patience }),
    }
}

/// Whether the subscription may be called now.
async fn may_call(inner: &Inner, subscribed: &Subscribed) -> Result<LaneView, NotTested> {
    match &subscribed.standing {
        Standing::Active => {}
        Standing::Paused => return Err(NotTested::Paused),
        Standing::Disabled(reason) => return Err(NotTested::Disabled(reason.clone())),
    }
    let lane = inner.lane(subscribed.id).await?.ok_or(NotTested::Broken)?;
    if lane.circuit != CircuitState::Closed {
        return Err(NotTested::CircuitOpen);
    }
    let left = lane.held_until.saturating_sub(inner.desk.clock.elapsed());
    if left.is_zero() { Ok(lane) } else { Err(NotTested::AskedToWait(left)) }
}

/// The event: `posthaste:test`, or the catalogue's example of a type.
fn prepare(
    snapshot: &Snapshot,
    subscription: &Subscription,
    event_type: Option<EventType>,
    now: posthaste_events::Timestamp,
) -> Result<Prepared, NotTested> {
    let tenant = subscription.tenant.clone();
    let event = match event_type {
        None => {
            let draft = test_of(&subscription.name).ok_or(NotTested::NothingToTell("it could not be made".into()))?;
            snapshot.prepare_ours(Draft { tenant, ..draft }, now)?
        }
        Some(event_type) => {
            let declared = snapshot.catalogue.get(&event_type).ok_or(NotTested::Undeclared(event_type.clone()))?;
            let example = declared.example.as_ref().ok_or(NotTested::NoExample(event_type.clone()))?;
            let draft = Draft::new(event_type).properties(example);
            snapshot.prepare(Draft { tenant, ..draft }, now)?
        }
    };
    let (payloads, why) = (&event.payloads, event.quarantined.clone());
    match subscription.takes {
        Takes::Notification if payloads.notification().is_none() => {
            Err(NotTested::NothingToTell("its audience is telemetry alone".into()))
        }
        Takes::Telemetry if !payloads.has_telemetry() => {
            Err(NotTested::NothingToTell(why.unwrap_or_else(|| "it has no telemetry".into())))
        }
        _ => Ok(Prepared { quarantined: None, ..event }),
    }
}

/// The first attempt at a delivery that is told; `None` where none will be.
async fn attempt_at(delivery: DeliveryId, attempts: &mut broadcast::Receiver<Arc<Watched>>) -> Option<Arc<Watched>> {
    loop {
        match attempts.recv().await {
            Ok(watched) if watched.delivery == delivery => return Some(watched),
            // What was missed may have been it: then the answer is where the delivery is looked at.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}
