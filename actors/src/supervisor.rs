//! The supervisor: makes a deliveree actor when its subscription first has work, and makes it again when it died.
//!
//! A panic in the handler of an actor leaves it dead and its address disconnected; nobody is told. So the supervisor
//! looks, several times a second. Calls that were lost in a dead actor's mailbox report themselves (see `deliveree`).

use crate::deliveree::{DelivereeActor, Make, Order};
use crate::settings;
use actix::{Actor, Addr, AsyncContext as _, Context, Handler, Message};
use posthaste_events::{AnyDeliveree, SubscriptionId};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked whether an actor died.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Messages that may wait for the supervisor.
const MAILBOX_MAX: usize = 4_096;

/// The supervisor.
pub(crate) struct Supervisor {
    pub(crate) restarts: Arc<AtomicU64>,
    /// Off only in the negative control of the tests.
    pub(crate) restores: bool,
    posts: BTreeMap<SubscriptionId, Post>,
}

/// The place of one deliveree actor.
struct Post {
    name: Arc<str>,
    make: settings::Make,
    /// What was made for the limits, for the first actor; later ones are made anew.
    made: Option<AnyDeliveree>,
    actor: Option<Addr<DelivereeActor>>,
}

/// A subscription that may have work.
pub(crate) struct Staffing {
    pub(crate) id: SubscriptionId,
    pub(crate) name: Arc<str>,
    pub(crate) make: settings::Make,
    /// Where it was made already, to be asked for its limits.
    pub(crate) made: Option<AnyDeliveree>,
}

impl Supervisor {
    pub(crate) fn new(restarts: Arc<AtomicU64>, restores: bool) -> Self {
        Self { restarts, restores, posts: BTreeMap::new() }
    }

    fn look(&mut self) {
        if !self.restores {
            return;
        }
        for post in self.posts.values_mut() {
            if post.actor.as_ref().is_some_and(|actor| !actor.connected()) {
                self.restarts.fetch_add(1, Ordering::Relaxed);
                tracing::error!(subscription = %post.name, "a deliveree actor died; it is made again");
                post.actor = None;
                post.start();
            }
        }
    }
}

impl Post {
    fn start(&mut self) -> Option<&Addr<DelivereeActor>> {
        if self.actor.is_none() {
            let deliveree = match self.made.take() {
                Some(made) => made,
                None => make(&self.name, &self.make)?,
            };
            self.actor = Some(DelivereeActor { deliveree }.start());
        }
        self.actor.as_ref()
    }
}

/// Makes a deliveree; a maker that panics makes none.
pub(crate) fn make(name: &str, make: &settings::Make) -> Option<AnyDeliveree> {
    let made = catch_unwind(AssertUnwindSafe(|| make()));
    if made.is_err() {
        tracing::error!(subscription = name, "making the deliveree panicked; it is tried again with its next call");
    }
    made.ok()
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
        ctx.run_interval(LOOK_EVERY, |supervisor, _| supervisor.look());
    }
}

/// The subscriptions that there are now; the actors of those that changed are made anew, with what they have in flight
/// going on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Staff(pub(crate) Vec<Staffing>);

impl Handler<Staff> for Supervisor {
    type Result = ();

    fn handle(&mut self, Staff(staff): Staff, _: &mut Self::Context) {
        let there: BTreeSet<_> = staff.iter().map(|s| s.id).collect();
        let gone = self.posts.keys().copied().filter(|id| !there.contains(id)).collect();
        self.restaff(staff, gone);
    }
}

/// Some that came or changed, and some that are not there any more; the others are as they were.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Restaff {
    pub(crate) staff: Vec<Staffing>,
    pub(crate) gone: Vec<SubscriptionId>,
}

impl Handler<Restaff> for Supervisor {
    type Result = ();

    fn handle(&mut self, Restaff { staff, gone }: Restaff, _: &mut Self::Context) {
        self.restaff(staff, gone);
    }
}

impl Supervisor {
    fn restaff(&mut self, staff: Vec<Staffing>, gone: Vec<SubscriptionId>) {
        // The calls of the actors that are let go here run outside of them, and end and report as before.
        for id in gone {
            self.posts.remove(&id);
        }
        for Staffing { id, name, make, made } in staff {
            // One that did not change keeps its actor.
            if self.posts.get(&id).is_none_or(|post| !Arc::ptr_eq(&post.make, &make)) {
                self.posts.insert(id, Post { name, make, made, actor: None });
            }
        }
    }
}

/// Calls for a subscription.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Hand {
    pub(crate) subscription: SubscriptionId,
    pub(crate) orders: Vec<Order>,
}

impl Handler<Hand> for Supervisor {
    type Result = ();

    fn handle(&mut self, hand: Hand, _: &mut Self::Context) {
        // Orders that nobody takes are dropped, and say so by themselves.
        let Some(post) = self.posts.get_mut(&hand.subscription) else { return };
        if let Some(actor) = post.start() {
            let _dropped_orders_report_themselves = actor.try_send(Make(hand.orders));
        }
    }
}

/// Makes the handler of a deliveree actor panic.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PoisonOne(pub(crate) SubscriptionId);

#[cfg(test)]
impl Handler<PoisonOne> for Supervisor {
    type Result = ();

    fn handle(&mut self, PoisonOne(id): PoisonOne, _: &mut Self::Context) {
        if let Some(actor) = self.posts.get(&id).and_then(|post| post.actor.as_ref()) {
            actor.try_send(crate::deliveree::Poison).unwrap();
        }
    }
}
