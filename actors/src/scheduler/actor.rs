//! The scheduler's actor: feeds the core with what waits in the inbox, and does what the core wants done.
//!
//! It decides nothing. Every answer of the outbox comes back through the inbox.

use super::lane::BACKLOG;
use super::words::{Action, Input, LaneView, Now, Terms, Told};
use super::{Core, Counts, Owed};
use crate::deliveree::{Order, Wires};
use crate::desk::Desk;
use crate::inbox::Inbox;
use crate::messages::Watched;
use crate::supervisor::{Hand, Supervisor};
use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Message, StreamHandler,
    WrapFuture as _,
};
use posthaste_events::Installation;
use posthaste_events::builtin::News;
use posthaste_events::seams::Random;
use posthaste_events::{DeliveryId, SubscriptionId};
use posthaste_outbox::{Settled, Settlement, Standing, StoreError, Then, Vitals};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages that may wait; outcomes and answers go another way.
const MAILBOX_MAX: usize = 1_024;
/// How much of an error is logged, in bytes.
const LOGGED_MAX: usize = 200;

/// The actor.
pub(crate) struct Scheduler {
    pub(crate) core: Core,
    pub(crate) desk: Arc<Desk>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) installation: Installation,
    pub(crate) supervisor: Addr<Supervisor>,
    pub(crate) restarts: Arc<AtomicU64>,
    /// Kept for a core that must be made again.
    pub(crate) roster: BTreeMap<SubscriptionId, Terms>,
    /// Whether the core was made again and has no subscriptions yet.
    pub(crate) is_bare: bool,
    pub(crate) halted: Option<oneshot::Sender<()>>,
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
        let inbox = Arc::clone(&self.inbox);
        ctx.add_stream(futures_util::stream::unfold(inbox, |inbox| async {
            let inputs = inbox.take().await;
            Some((inputs, inbox))
        }));
        self.feed(vec![Input::Wake]);
    }
}

impl StreamHandler<Vec<Input>> for Scheduler {
    fn handle(&mut self, inputs: Vec<Input>, ctx: &mut Self::Context) {
        self.feed(inputs);
        self.recover(ctx);
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Every configured subscription; answered once nothing more begins by the old ones.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Enlist(pub(crate) Vec<Terms>);

impl Handler<Enlist> for Scheduler {
    type Result = ();

    fn handle(&mut self, Enlist(terms): Enlist, ctx: &mut Self::Context) {
        self.roster = terms.iter().map(kept).collect();
        self.is_bare = false;
        self.feed(vec![Input::Roster(terms)]);
        self.recover(ctx);
    }
}

/// Some subscriptions as they are configured from now on, and some that are not any more; answered once nothing more
/// begins by what they were.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Amended {
    pub(crate) terms: Vec<Terms>,
    pub(crate) gone: Vec<SubscriptionId>,
}

impl Handler<Amended> for Scheduler {
    type Result = ();

    fn handle(&mut self, Amended { terms, gone }: Amended, ctx: &mut Self::Context) {
        gone.iter().for_each(|id| drop(self.roster.remove(id)));
        self.roster.extend(terms.iter().map(kept));
        // A core that has no subscriptions yet is told of these with all the others.
        if !self.is_bare {
            self.feed(vec![Input::Amended { terms, gone }]);
        }
        self.recover(ctx);
    }
}

/// What is kept of terms for a core that is made later: how they fared is told relative to now, and would be wrong for it.
fn kept(terms: &Terms) -> (SubscriptionId, Terms) {
    (terms.id, Terms { vitals: Vitals::default(), ..terms.clone() })
}

/// A subscription takes deliveries from now on, or none: answered once none begins any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Hold {
    pub(crate) subscription: SubscriptionId,
    pub(crate) active: bool,
}

impl Handler<Hold> for Scheduler {
    type Result = ();

    fn handle(&mut self, Hold { subscription, active }: Hold, ctx: &mut Self::Context) {
        self.feed(vec![Input::Standing { subscription, active }]);
        self.recover(ctx);
    }
}

/// A person wants what a subscription is owed to be tried, however long its receiver asked to wait.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Hurry(pub(crate) SubscriptionId);

impl Handler<Hurry> for Scheduler {
    type Result = ();

    fn handle(&mut self, Hurry(subscription): Hurry, ctx: &mut Self::Context) {
        self.feed(vec![Input::Hurry(subscription)]);
        self.recover(ctx);
    }
}

/// A person cancelled a delivery: answered once no attempt at it begins any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Withdraw(pub(crate) DeliveryId);

impl Handler<Withdraw> for Scheduler {
    type Result = ();

    fn handle(&mut self, Withdraw(delivery): Withdraw, ctx: &mut Self::Context) {
        self.feed(vec![Input::Withdraw(delivery)]);
        self.recover(ctx);
    }
}

/// How the subscriptions are.
#[derive(Message)]
#[rtype(result = "(Vec<LaneView>, Counts)")]
pub(crate) struct Look;

impl Handler<Look> for Scheduler {
    type Result = actix::MessageResult<Look>;

    fn handle(&mut self, _: Look, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult((self.core.lanes(self.desk.clock.elapsed()).collect(), self.core.counts()))
    }
}

/// How one subscription is; `None` where it is not known here.
#[derive(Message)]
#[rtype(result = "Option<LaneView>")]
pub(crate) struct LookAt(pub(crate) SubscriptionId);

impl Handler<LookAt> for Scheduler {
    type Result = Option<LaneView>;

    fn handle(&mut self, LookAt(id): LookAt, _: &mut Self::Context) -> Self::Result {
        self.core.lane(id, self.desk.clock.elapsed())
    }
}

/// Nothing more begins; `done` is told once everything that was begun is settled.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Halt {
    pub(crate) grace: Duration,
    pub(crate) done: oneshot::Sender<()>,
}

impl Handler<Halt> for Scheduler {
    type Result = ();

    fn handle(&mut self, Halt { grace, done }: Halt, _: &mut Self::Context) {
        self.halted = Some(done);
        self.feed(vec![Input::Stop { grace }]);
    }
}

impl Scheduler {
    fn feed(&mut self, inputs: Vec<Input>) {
        let now = Now { elapsed: self.desk.clock.elapsed(), wall: self.desk.clock.wall() };
        let random = &*self.random;
        let core = &mut self.core;
        match catch_unwind(AssertUnwindSafe(|| core.handle(now, inputs, random))) {
            Ok(actions) => actions.into_iter().for_each(|action| self.act(action)),
            Err(_panic) => {
                // A bug of ours. What it had out comes back when its leases run out, as after a crash.
                tracing::error!("the scheduler panicked; it begins anew from the outbox");
                self.restarts.fetch_add(1, Ordering::Relaxed);
                (self.core, self.is_bare) = (Core::default(), true);
            }
        }
    }

    /// Gives a core that was made again its subscriptions, as the outbox knows them: who is paused, whom a circuit or
    /// a wish of its receiver holds. Nothing comes before that.
    fn recover(&mut self, ctx: &mut Context<Self>) {
        if !self.is_bare {
            return;
        }
        let roll = self.desk.outbox.roll().into_actor(self);
        ctx.wait(roll.map(|roll, scheduler, _| {
            scheduler.is_bare = false;
            // Where the outbox fails, what it keeps stays unknown, as it would be without it.
            let known = told(roll, "roll").map(|roll| roll.subscriptions).unwrap_or_default();
            let known: BTreeMap<_, _> = known.iter().map(|subscribed| (subscribed.id, subscribed)).collect();
            let mut roster: Vec<_> = scheduler.roster.values().cloned().collect();
            for terms in &mut roster {
                // Where nothing is known it may be owed something.
                terms.waits = known.get(&terms.id).is_none_or(|subscribed| subscribed.owed > 0);
                if let Some(subscribed) = known.get(&terms.id) {
                    (terms.vitals, terms.active) = (subscribed.vitals, subscribed.standing == Standing::Active);
                }
            }
            let now = Now { elapsed: scheduler.desk.clock.elapsed(), wall: scheduler.desk.clock.wall() };
            for action in scheduler.core.handle(now, vec![Input::Roster(roster)], &*scheduler.random) {
                scheduler.act(action);
            }
        }));
    }

    fn act(&mut self, action: Action) {
        let (desk, inbox) = (Arc::clone(&self.desk), Arc::clone(&self.inbox));
        match action {
            Action::Deliver { subscription, calls } => {
                let wires = Wires { inbox, clock: Arc::clone(&desk.clock), installation: self.installation.clone() };
                let orders = calls.into_iter().map(|call| Order::new(call, wires.clone())).collect();
                let _dropped_orders_report_themselves = self.supervisor.try_send(Hand { subscription, orders });
            }
            Action::Claim { subscription, want } => {
                let claim = desk.outbox.claim(subscription, want);
                tokio::spawn(async move {
                    let claimed = told(claim.await, "claim");
                    inbox.push(Input::Claimed { subscription, claimed });
                });
            }
            Action::Settle { settlements, told } => {
                tokio::spawn(settle(desk, inbox, settlements, told));
            }
            Action::Renew { subscription, leases, lease, until } => {
                let renewal = desk.outbox.renew(leases.clone(), lease);
                tokio::spawn(async move {
                    let kept = told(renewal.await, "renew");
                    inbox.push(Input::Renewed { subscription, leases, until, kept });
                });
            }
            Action::Disable { subscription, reason } => {
                let disabling = desk.outbox.set_standing(subscription, Standing::Disabled(reason));
                tokio::spawn(async move {
                    let done = told(disabling.await, "disable").is_some();
                    inbox.push(Input::Disabled { subscription, done });
                });
            }
            Action::Note(vitals) => {
                let subscriptions = vitals.iter().map(|(id, _)| *id).collect();
                let noting = desk.outbox.note(vitals);
                tokio::spawn(async move {
                    let done = told(noting.await, "note").is_some();
                    inbox.push(Input::Noted { subscriptions, done });
                });
            }
            Action::Announce(news) => {
                if let News::Dead { subscription, reason, count, .. } = &news
                    && reason == BACKLOG
                {
                    tracing::warn!(%subscription, count, "the backlog is full: deliveries are dead at birth");
                }
                // Taken here, so that a stop waits for news that has not begun to be recorded.
                if let Some(room) = desk.news_room(&news) {
                    tokio::spawn(async move { desk.announce(news, room).await });
                }
            }
            Action::Scan => {
                let owing = desk.outbox.owing();
                tokio::spawn(async move {
                    let owing = told(owing.await, "scan");
                    inbox.push(Input::Owed(owing.map(|owing| owing.iter().map(owed).collect())));
                });
            }
            // Calls that are under way end with the runtime, and their late words are ignored.
            Action::Abort(calls) => {
                tracing::warn!(calls = calls.len(), "the grace is over; what is in flight goes back")
            }
            Action::WakeAt(at) => inbox.set_alarm(at),
            Action::Stopped => {
                if let Some(halted) = self.halted.take() {
                    let _nobody_waits_any_more = halted.send(());
                }
            }
        }
    }
}

fn owed(owing: &posthaste_outbox::Owing) -> Owed {
    Owed { subscription: owing.id, owed: owing.owed, active: owing.active }
}

fn told<T>(answer: Result<T, StoreError>, what: &str) -> Option<T> {
    answer.map_err(|error| tracing::warn!(%error, what, "the outbox failed; it is asked again")).ok()
}

async fn settle(desk: Arc<Desk>, inbox: Arc<Inbox>, settlements: Vec<Settlement>, told: Vec<Told>) {
    // What is needed of them once they are gone: which has an attempt, and whom a release is for.
    let tried: Vec<bool> = settlements.iter().map(|s| s.attempt.is_some()).collect();
    let released = settlements.iter().filter(|s| s.then == Then::Release).map(|s| s.delivery.subscription);
    let released: Vec<_> = released.collect();
    match desk.outbox.settle(settlements.clone()).await {
        Ok(answers) => {
            let answered = answers.iter().zip(tried).filter(|(_, tried)| *tried).map(|(answer, _)| *answer);
            told.into_iter().zip(answered).for_each(|(told, answer)| tell(&desk, told, answer));
            inbox.push(Input::Settled { settlements, answers });
            if !released.is_empty() {
                inbox.hint(&released);
            }
        }
        Err(StoreError::Closed) => {
            told.into_iter().for_each(|told| tell(&desk, told, Settled::LeaseLost));
            let answers = vec![Settled::LeaseLost; settlements.len()];
            inbox.push(Input::Settled { settlements, answers });
        }
        Err(error) => {
            tracing::warn!(%error, count = settlements.len(), "outcomes are not settled yet");
            inbox.push(Input::NotSettled { settlements, told });
        }
    }
}

/// One line in the log; and where the outbox took the attempt, the stream for whoever watches.
pub(crate) fn tell(desk: &Desk, told: Told, answer: Settled) {
    let Told { subscription, delivery, facts, attempt, state } = told;
    let (state, lease) = match answer {
        Settled::Applied => (Some(state), None),
        Settled::Kept(state) => (Some(state), None),
        Settled::LeaseLost => (None, Some("lost")),
    };
    let error = attempt.detail.error.as_deref().map(logged);
    tracing::info!(
        event = %delivery.event,
        r#type = %facts.event_type,
        subscription = %subscription,
        delivery = %delivery,
        attempt = attempt.number,
        outcome = attempt.outcome.as_str(),
        status = attempt.detail.status,
        duration_ms = u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
        error,
        lease,
        "attempt"
    );
    if let Some(state) = state.filter(|_| desk.watchers.receiver_count() > 0) {
        let watched = Watched {
            event: delivery.event,
            event_type: facts.event_type.clone(),
            tenant: facts.tenant.clone(),
            subscription: subscription.to_string(),
            delivery,
            attempt,
            state,
        };
        let _nobody_watches_any_more = desk.watchers.send(Arc::new(watched));
    }
}

/// An error as it may stand in the log: short, and of a URL the origin only, since the rest is often the secret.
fn logged(error: &str) -> String {
    let mut text = String::with_capacity(error.len().min(LOGGED_MAX));
    for (n, word) in error.split(' ').enumerate() {
        if n > 0 {
            text.push(' ');
        }
        match word.split_once("://") {
            Some((scheme, rest)) => {
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                // What stands before an `@` is a name and a password.
                let host = host.rsplit('@').next().unwrap_or_default();
                text.extend([scheme, "://", host]);
            }
            None => text.push_str(word),
        }
    }
    posthaste_events::outcome::cut(text, LOGGED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_the_log_has_the_origin_only() {
        assert_eq!(
            logged("connect: https://user:pw@hooks.example.com/T0/secret?x=1 refused"),
            "connect: https://hooks.example.com refused"
        );
        assert_eq!(logged(&"x".repeat(1_000)).len(), LOGGED_MAX);
    }
}
