//! The registry: the address of the message API. It records, inspects, carries wishes, pauses, reloads and stops.
//!
//! Its handlers only carry: each starts a future that runs beside the actor, so that none waits for another's disk.
//! What is due and what an outcome leads to is the scheduler's matter.

use crate::desk::Desk;
use crate::inbox::Inbox;
use crate::messages::{
    Cancel, CancelReplay, Changed, EngineHealth, InspectDeliveries, InspectDelivery, InspectEvent, InspectEvents,
    InspectHealth, InspectReplays, InspectSubscription, InspectSubscriptions, InspectTypes, NotChanged, NotReplayed,
    NotSent, NotTested, Pause, PutSubscription, Record, RecordBatch, RecordTelemetry, Reload, RemoveSubscription,
    Replay, ReplayView, Resume, Retry, RotateSecret, Sent, Stop, SubscriptionView, Test, Watch, Watched, only,
};
use crate::probe;
use crate::quarantine::{self, QUARANTINE};
use crate::scheduler::LaneView;
use crate::scheduler::actor::{Halt, Hold, Hurry, Look, LookAt, Scheduler, Withdraw};
use crate::settings::{Settings, Source, Subscription};
use crate::subscriptions::{Changing, Gathered, Roster, Waiting};
use crate::supervisor::Supervisor;
use actix::{Actor, Addr, Context, Handler, MessageResult, ResponseFuture};
use posthaste_events::builtin::News;
use posthaste_events::filter::Filter;
use posthaste_events::prepare::RelayDraft;
use posthaste_events::{AttemptOutcome, DeliveryId, SubscriptionId, Timestamp};
use posthaste_outbox::query::{DeliveryRow, DeliveryView, EventRow, EventView, Page};
use posthaste_outbox::{Answer, DELETED, RecordError, Recorded, Standing, StoreError, Subscribed, Wish};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, Notify, broadcast, oneshot};

/// Messages that may wait for the registry.
const MAILBOX_MAX: usize = 4_096;
/// How long a stop waits, beyond its grace, for an outbox that does not answer.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The registry actor.
pub struct Registry {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) desk: Arc<Desk>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) scheduler: Addr<Scheduler>,
    pub(crate) supervisor: Addr<Supervisor>,
    pub(crate) restarts: Arc<AtomicU64>,
    /// What the engine goes by.
    pub(crate) roster: std::sync::Mutex<Arc<Roster>>,
    /// Held while the settings or the subscriptions are replaced, so that changes come one after another.
    pub(crate) changing: Mutex<Changing>,
    /// Changes of subscriptions that wait for that.
    pub(crate) waiting: std::sync::Mutex<Vec<Waiting>>,
    /// Rings once the engine may end.
    pub(crate) finished: Arc<Notify>,
}

impl Registry {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl Actor for Registry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
    }
}

impl Inner {
    /// Makes `settings` what the engine goes by, and with them what the outbox keeps.
    pub(crate) async fn reload(&self, settings: Settings) -> Result<(), StoreError> {
        let mut changing = self.changing.lock().await;
        if settings.telemetry.is_some() {
            // What was owed when it was switched off is not sent because it was switched on again soon.
            while changing.silence.keep(&*self.desk.outbox).await? {}
        }
        let Gathered { roster, faults } = self.gathered(settings, &mut changing).await?;
        let before = self.roster();
        let roll = self.apply(&mut changing, roster).await?;
        changing.is_stale = false;
        self.disable_faulty(faults, &roll).await;
        let roster = self.roster();
        let keeper = roll.subscriptions.iter().find(|s| s.name == QUARANTINE).map(|s| (s.id, s.owed));
        if let Some((id, 1..)) = keeper.filter(|_| before.settings.catalogue != roster.settings.catalogue) {
            let (desk, inbox) = (Arc::clone(&self.desk), Arc::clone(&self.inbox));
            tokio::spawn(async move {
                quarantine::hurry(&*desk.outbox, id).await;
                inbox.hint(&[id]);
            });
        }
        changing.silence.note(&roster, &roll);
        for Subscribed { name, owed, .. } in changing.silence.owed(roll) {
            tracing::info!(subscription = name, owed, "telemetry is switched off: what is owed is cancelled");
        }
        // The rest, and what fails here, is done with the upkeep: neither a long backlog nor a full disk keeps a start
        // from delivering what else is owed.
        let kept = changing.silence.keep(&*self.desk.outbox).await;
        kept.map(drop).unwrap_or_else(|error| tracing::warn!(%error, "what is owed of telemetry is not cancelled yet"));
        Ok(())
    }

    pub(crate) fn guarded_roster(&self) -> MutexGuard<'_, Arc<Roster>> {
        // What it guards is whole between any two statements, so a panic elsewhere changes nothing.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the engine goes by.
    pub(crate) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.guarded_roster())
    }

    /// Cancels a piece of what is owed of telemetry while that is switched off, and says whether more is left: what a
    /// reload left, also when something failed, or what a person asked for since.
    pub(crate) async fn keep_silent(&self) -> Result<bool, StoreError> {
        // A reload does it by itself.
        let Ok(changing) = self.changing.try_lock() else { return Ok(false) };
        changing.silence.keep(&*self.desk.outbox).await
    }

    pub(crate) async fn subscribed(&self, name: &str) -> Result<Option<Subscribed>, StoreError> {
        self.desk.outbox.subscribed(name.to_owned()).await
    }

    /// The one of that name, for whoever is bound to a tenant. Whose it is holds until it is acted upon only while
    /// [`Inner::changing`] is held: else it may be removed, and another tenant's made under its name.
    pub(crate) async fn subscribed_of(
        &self,
        name: &str,
        bound: Option<&str>,
    ) -> Result<Option<Subscribed>, StoreError> {
        let is_theirs =
            bound.is_none() || self.roster().find(name).is_some_and(|found| found.tenant.as_deref() == bound);
        if is_theirs { self.subscribed(name).await } else { Ok(None) }
    }

    /// Changes a standing; none begins behind the back of a pause, and none is missed after a resume.
    async fn set_standing(
        &self,
        name: &str,
        bound: Option<&str>,
        standing: Standing,
    ) -> Result<Option<SubscriptionView>, StoreError> {
        let _alone = self.changing.lock().await;
        let Some(Subscribed { id, standing: so_far, .. }) = self.subscribed_of(name, bound).await? else {
            return Ok(None);
        };
        let active = standing == Standing::Active;
        if matches!(&so_far, Standing::Disabled(reason) if reason == DELETED) {
            return Ok(None);
        }
        if standing == Standing::Paused && matches!(so_far, Standing::Disabled(_)) {
            // It takes nothing already, and its reason is not to be lost.
            return self.view(name).await;
        }
        if !active {
            self.scheduler.send(Hold { subscription: id, active }).await.map_err(gone)?;
        }
        let before = self.desk.outbox.set_standing(id, standing).await;
        let now_active = match &before {
            Ok(Some(_)) => active,
            // It stands as before, or as somebody else changed it: the next scan would find out, this is sooner.
            Ok(None) | Err(_) => self.subscribed(name).await?.is_some_and(|s| s.standing == Standing::Active),
        };
        self.scheduler.send(Hold { subscription: id, active: now_active }).await.map_err(gone)?;
        if active && matches!(before, Ok(Some(_))) {
            self.scheduler.send(Hurry(id)).await.map_err(gone)?;
        }
        if let (true, Some(Standing::Disabled(_))) = (active, before?) {
            let news = News::Recovered { subscription: name.to_owned(), reason: "disabled".into() };
            if let Some(room) = self.desk.news_room(&news) {
                self.desk.announce(news, room).await;
            }
        }
        self.view(name).await
    }

    /// A subscription as the scheduler sees it; `None` where it has none of that number.
    pub(crate) async fn lane(&self, id: SubscriptionId) -> Result<Option<LaneView>, StoreError> {
        self.scheduler.send(LookAt(id)).await.map_err(gone)
    }

    async fn listed(&self) -> Result<Vec<SubscriptionView>, StoreError> {
        let mut views = self.views().await?;
        views.retain(|view| view.name != QUARANTINE || view.backlog > 0);
        Ok(views)
    }

    /// Prepared here and by nobody else, so that whoever sends the message cannot get around the schema.
    async fn record_telemetry(&self, drafts: Vec<RelayDraft>) -> Result<Vec<Sent>, NotSent> {
        let (snapshot, now) = (self.desk.snapshot.current(), self.desk.clock.wall());
        let (mut events, mut dropped) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for (index, draft) in drafts.into_iter().enumerate() {
            let relayed = snapshot.prepare_relayed(draft, now).map_err(|why| NotSent::Unfit { index, why })?;
            events.push(relayed.prepared);
            dropped.push(relayed.dropped);
        }
        let recorded = self.desk.record(events, snapshot.epoch).await?;
        Ok(recorded.into_iter().zip(dropped).map(|(recorded, dropped)| Sent { recorded, dropped }).collect())
    }

    pub(crate) async fn view(&self, name: &str) -> Result<Option<SubscriptionView>, StoreError> {
        let Some(subscribed) = self.subscribed(name).await? else { return Ok(None) };
        let lane = self.lane(subscribed.id).await?;
        Ok(self.views_of(vec![subscribed], lane.into_iter().collect()).pop())
    }

    async fn views(&self) -> Result<Vec<SubscriptionView>, StoreError> {
        let roll = self.desk.outbox.roll().await?;
        let (lanes, _) = self.scheduler.send(Look).await.map_err(gone)?;
        Ok(self.views_of(roll.subscriptions, lanes))
    }

    fn views_of(&self, subscribed: Vec<Subscribed>, lanes: Vec<LaneView>) -> Vec<SubscriptionView> {
        let (now, wall) = (self.desk.clock.elapsed(), self.desk.clock.wall());
        let lanes: BTreeMap<_, _> = lanes.into_iter().map(|lane| (lane.id, lane)).collect();
        let roster = self.roster();
        let keeper = quarantine::subscription(&self.desk);
        let mut views: Vec<_> = subscribed
            .into_iter()
            .map(|subscribed| {
                let is_keeper = subscribed.name == QUARANTINE;
                let configured = match is_keeper {
                    true => Some(&keeper),
                    false => roster.find(&subscribed.name).map(|s| &**s),
                };
                let lane = lanes.get(&subscribed.id);
                SubscriptionView {
                    id: subscribed.id,
                    shown: configured.map(|s| s.shown.clone()).unwrap_or_default(),
                    reveal: configured.map(|s| s.reveal.clone()).unwrap_or_default(),
                    source: configured.filter(|_| !is_keeper).map(|s: &Subscription| -> Source { s.source }),
                    tenant: configured.and_then(|s| s.tenant.clone()),
                    name: subscribed.name,
                    listed: subscribed.listed,
                    standing: subscribed.standing,
                    backlog: subscribed.owed,
                    in_flight: lane.map_or(0, |lane| lane.in_flight as u64),
                    circuit: lane.map(|lane| lane.circuit).unwrap_or_default(),
                    circuit_reason: lane.and_then(|lane| lane.circuit_reason.as_deref().map(str::to_owned)),
                    failing_since: lane.and_then(|lane| earlier(wall, lane.failing_for?)),
                    held_until: lane.and_then(|lane| later(wall, lane.held_until.checked_sub(now)?)),
                }
            })
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    async fn health(&self) -> EngineHealth {
        let mut health = EngineHealth {
            outbox: self.desk.outbox.health(),
            stopping: self.desk.is_stopping(),
            restarts_total: self.restarts.load(Ordering::Relaxed),
            quarantined_total: self.desk.ward.total(),
            filter_errors: self.filter_errors(),
            ..EngineHealth::default()
        };
        if let Ok(roll) = self.desk.outbox.roll().await {
            health.backlog = roll.subscriptions.into_iter().map(|s| (s.name, s.owed)).collect();
        }
        let Ok((lanes, counts)) = self.scheduler.send(Look).await else { return health };
        health.leases_lost_total = counts.leases_lost;
        for lane in lanes {
            let (name, tally) = (lane.name.to_string(), lane.tally);
            let by_outcome = [
                (AttemptOutcome::Delivered, tally.delivered),
                (AttemptOutcome::Failed, tally.failed),
                (AttemptOutcome::Rejected, tally.rejected),
                (AttemptOutcome::Unattempted, tally.unattempted),
            ];
            let attempts: u64 = by_outcome.iter().map(|(_, count)| count).sum();
            health.attempts.extend(by_outcome.map(|(outcome, count)| (name.clone(), outcome.as_str(), count)));
            health.attempt_seconds.push((name.clone(), tally.took.as_secs_f64(), attempts));
            health.dead.push((name, tally.dead));
        }
        health
    }

    fn filter_errors(&self) -> Vec<(String, u64)> {
        let errors = |s: &Arc<Subscription>| {
            let mut filters = s.selectors.iter().filter_map(|selector| selector.filter.as_ref()).peekable();
            filters.peek()?;
            Some((s.name.clone(), filters.map(Filter::errors).sum()))
        };
        self.roster().subscriptions.iter().filter_map(errors).collect()
    }

    async fn ask(&self, delivery: DeliveryId, wish: Wish) -> Result<Answer, StoreError> {
        let answer = self.desk.outbox.ask(delivery, wish).await;
        // Where the outbox failed it may be cancelled all the same; one that is not is claimed again.
        if wish == Wish::Cancel && matches!(answer, Ok(Answer::Done) | Err(_)) {
            self.scheduler.send(Withdraw(delivery)).await.map_err(gone)?;
        }
        let answer = answer?;
        if (answer, wish) == (Answer::Done, Wish::Retry) {
            self.scheduler.send(Hurry(delivery.subscription)).await.map_err(gone)?;
            self.inbox.hint(&[delivery.subscription]);
        }
        Ok(answer)
    }

    async fn stop(&self, grace: Duration) -> Result<(), StoreError> {
        self.desk.stopping.store(true, Ordering::Relaxed);
        let (done, halted) = oneshot::channel();
        let halting = async {
            if self.scheduler.send(Halt { grace, done }).await.is_ok() {
                let _the_scheduler_is_gone = halted.await;
            }
            self.desk.news_settled().await;
        };
        if tokio::time::timeout(grace.saturating_add(STOP_PATIENCE), halting).await.is_err() {
            tracing::warn!("the outbox does not answer; what is in flight is repeated after the next start");
        }
        let closed = self.desk.outbox.close().await;
        self.finished.notify_one();
        closed
    }
}

/// When it is `wait` later; `None` where that is now.
fn later(wall: Timestamp, wait: Duration) -> Option<Timestamp> {
    let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
    (micros > 0).then(|| Timestamp::from_micros(wall.micros().saturating_add(micros)))
}

/// When it was so long ago.
fn earlier(wall: Timestamp, ago: Duration) -> Option<Timestamp> {
    let micros = i64::try_from(ago.as_micros()).ok()?;
    Some(Timestamp::from_micros(wall.micros().saturating_sub(micros)))
}

/// An actor of ours that is gone: only while the engine ends.
pub(crate) fn gone(_: actix::MailboxError) -> StoreError {
    StoreError::Closed
}

impl Handler<Record> for Registry {
    type Result = ResponseFuture<Result<Recorded, RecordError>>;

    fn handle(&mut self, Record { event, epoch }: Record, _: &mut Self::Context) -> Self::Result {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(only(inner.desk.record(vec![event], epoch).await?)?) })
    }
}

impl Handler<InspectTypes> for Registry {
    type Result = MessageResult<InspectTypes>;

    fn handle(&mut self, _: InspectTypes, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.inner.desk.snapshot.current().catalogue.clone())
    }
}

impl Handler<Watch> for Registry {
    type Result = MessageResult<Watch>;

    fn handle(&mut self, _: Watch, _: &mut Self::Context) -> Self::Result {
        let receiver: broadcast::Receiver<Arc<Watched>> = self.inner.desk.watchers.subscribe();
        MessageResult(receiver)
    }
}

/// A handler that hands its message to a future and carries nothing else.
macro_rules! carries {
    ($($message:ident => $answer:ty: |$inner:ident, $m:pat_param| $work:expr;)*) => {$(
        impl Handler<$message> for Registry {
            type Result = ResponseFuture<$answer>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let $inner = Arc::clone(&self.inner);
                let $m = message;
                Box::pin(async move { $work })
            }
        }
    )*};
}

carries! {
    RecordBatch => Result<Vec<Recorded>, RecordError>: |inner, m| inner.desk.record(m.events, m.epoch).await;
    InspectEvents => Result<Page<EventRow, posthaste_events::EventId>, StoreError>:
        |inner, m| inner.desk.outbox.events(m.0).await;
    InspectEvent => Result<Option<EventView>, StoreError>: |inner, m| inner.desk.outbox.event(m.0).await;
    InspectDeliveries => Result<Page<DeliveryRow, DeliveryId>, StoreError>:
        |inner, m| inner.desk.outbox.deliveries(m.0).await;
    InspectDelivery => Result<Option<DeliveryView>, StoreError>: |inner, m| inner.desk.outbox.delivery(m.0).await;
    RecordTelemetry => Result<Vec<Sent>, NotSent>: |inner, m| inner.record_telemetry(m.0).await;
    InspectSubscriptions => Result<Vec<SubscriptionView>, StoreError>: |inner, _| inner.listed().await;
    InspectSubscription => Result<Option<SubscriptionView>, StoreError>: |inner, m| inner.view(&m.0).await;
    Test => Result<Arc<Watched>, NotTested>: |inner, m| probe::test(&inner, m).await;
    InspectHealth => EngineHealth: |inner, _| inner.health().await;
    Retry => Result<Answer, StoreError>: |inner, m| inner.ask(m.0, Wish::Retry).await;
    Cancel => Result<Answer, StoreError>: |inner, m| inner.ask(m.0, Wish::Cancel).await;
    Pause => Result<Option<SubscriptionView>, StoreError>: |inner, m| {
        inner.set_standing(&m.subscription, m.bound.as_deref(), Standing::Paused).await
    };
    Resume => Result<Option<SubscriptionView>, StoreError>: |inner, m| {
        inner.set_standing(&m.subscription, m.bound.as_deref(), Standing::Active).await
    };
    PutSubscription => Result<Changed, NotChanged>: |inner, m| inner.put(m).await;
    RotateSecret => Result<Changed, NotChanged>: |inner, m| inner.rotate(m).await;
    RemoveSubscription => Result<(), NotChanged>: |inner, m| inner.remove(m).await;
    Replay => Result<ReplayView, NotReplayed>: |inner, m| inner.replay(m).await;
    InspectReplays => Result<Vec<ReplayView>, StoreError>: |inner, _| inner.replays().await;
    CancelReplay => Result<Option<ReplayView>, StoreError>: |inner, m| inner.cancel_replay(m.0).await;
    Reload => Result<(), StoreError>: |inner, m| inner.reload(m.0).await;
    Stop => Result<(), StoreError>: |inner, m| inner.stop(m.grace).await;
}
