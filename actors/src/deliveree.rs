//! The actor of one subscription: takes calls, runs each outside its handler under a hard deadline, and sees to it
//! that every call ends exactly once, whatever happens to it.
//!
//! It decides nothing. A call that panics, runs late or is lost with its actor is reported as such; what follows is
//! the scheduler's matter.

use crate::inbox::{Inbox, SIGNALS_MAX};
use crate::scheduler::{Call, End, Input};
use actix::{Actor, Context, Handler, Message};
use futures_util::FutureExt as _;
use posthaste_events::outcome::Detail;
use posthaste_events::seams::Clock;
use posthaste_events::{
    AnyDeliveree, Batch, Deliveree, Delivery, DeliveryId, Installation, Outcome, Payload, Report, Reporter, Ticket,
    Told,
};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Messages that may wait for one deliveree actor; each holds several calls.
const MAILBOX_MAX: usize = 256;

/// A deliveree actor.
pub(crate) struct DelivereeActor {
    pub(crate) deliveree: AnyDeliveree,
}

impl Actor for DelivereeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
    }
}

/// Calls for one subscription.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Make(pub(crate) Vec<Order>);

impl Handler<Make> for DelivereeActor {
    type Result = ();

    fn handle(&mut self, Make(orders): Make, _: &mut Self::Context) {
        for order in orders {
            tokio::spawn(order.run(self.deliveree.clone()));
        }
    }
}

/// Makes the handler panic, to see who notices.
#[cfg(test)]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Poison;

#[cfg(test)]
impl Handler<Poison> for DelivereeActor {
    type Result = ();

    fn handle(&mut self, _: Poison, _: &mut Self::Context) {
        panic!("poisoned by a test");
    }
}

/// A call on its way. Dropped at any point it still says how it ended: nobody waits for one that was lost.
pub(crate) struct Order {
    call: Call,
    wires: Wires,
    began: Option<Duration>,
    end: End,
}

/// Where an order reports to.
#[derive(Clone)]
pub(crate) struct Wires {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) installation: Installation,
}

impl Order {
    pub(crate) const fn new(call: Call, wires: Wires) -> Self {
        Self { call, wires, began: None, end: End::NotTaken }
    }

    async fn run(mut self, deliveree: AnyDeliveree) {
        if !self.call.start.take() {
            return;
        }
        self.began = Some(self.wires.clock.elapsed());
        // What drops this future from here on is a fault, and counts as one.
        self.end = End::Panicked;
        self.end = match deliveree {
            AnyDeliveree::Notification(d) => self.deliver(&*d).await,
            AnyDeliveree::Anonymous(d) => self.deliver(&*d).await,
        };
    }

    async fn deliver<P: Payload>(&mut self, deliveree: &dyn Deliveree<P>) -> End {
        let report = Reports::new(&self.call, self.began.unwrap_or_default(), self.wires.clone());
        let mut deliveries = Vec::with_capacity(self.call.deliveries.len());
        for (at, leased) in std::mem::take(&mut self.call.deliveries).into_iter().enumerate() {
            let (ticket, attempt) = (Ticket(at), leased.attempt);
            let told = Told { id: leased.delivery, facts: leased.facts };
            match P::of(&leased.payloads, told, &self.wires.installation) {
                Some((payload, about)) => deliveries.push(Delivery { ticket, attempt, about, payload }),
                None => {
                    let detail = Detail::error("payload: the event has none for this kind of deliveree");
                    report.outcome(ticket, Outcome::Rejected(detail));
                }
            }
        }
        if deliveries.is_empty() {
            return End::Done;
        }
        let batch = Batch { deliveries, deadline: self.call.deadline };
        let reporter = Reporter::new({
            let report = Arc::clone(&report);
            move |r| report.take(r)
        });
        // Made inside the guarded future: the part of `deliver` before its first wait may panic as well.
        let work = AssertUnwindSafe(async move { deliveree.deliver(batch, reporter).await }).catch_unwind();
        let end = match tokio::time::timeout(self.call.deadline, work).await {
            Ok(Ok(())) => End::Done,
            Ok(Err(_panic)) => End::Panicked,
            Err(_elapsed) => End::TimedOut,
        };
        report.close();
        end
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        let took = self.began.map_or(Duration::ZERO, |began| self.wires.clock.elapsed().saturating_sub(began));
        self.wires.inbox.push(Input::Ended { call: self.call.id, end: self.end, took });
    }
}

/// Lets each delivery's first outcome through while the call runs, and nothing else.
struct Reports {
    call: crate::scheduler::CallId,
    began: Duration,
    wires: Wires,
    open: Mutex<Open>,
}

struct Open {
    /// By ticket; `None` once its outcome is known.
    deliveries: Vec<Option<DeliveryId>>,
    signals: usize,
}

impl Reports {
    fn new(call: &Call, began: Duration, wires: Wires) -> Arc<Self> {
        let deliveries = call.deliveries.iter().map(|d| Some(d.delivery)).collect();
        Arc::new(Self { call: call.id, began, wires, open: Mutex::new(Open { deliveries, signals: SIGNALS_MAX }) })
    }

    fn take(&self, report: Report) {
        match report {
            Report::Outcome(ticket, outcome) => self.outcome(ticket, outcome),
            Report::Signal(signal) => {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                if open.signals > 0 {
                    open.signals -= 1;
                    self.wires.inbox.push(Input::Signal { call: self.call, signal });
                }
            }
        }
    }

    fn outcome(&self, Ticket(at): Ticket, outcome: Outcome) {
        // Held while it is handed on, so that no outcome can come behind the end of its call.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(delivery) = open.deliveries.get_mut(at).and_then(Option::take) {
            let took = self.wires.clock.elapsed().saturating_sub(self.began);
            self.wires.inbox.push(Input::Outcome { call: self.call, delivery, outcome, took });
        }
    }

    /// What comes later, from a clone of the reporter that outlived the call, is dropped.
    fn close(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.deliveries.clear();
        open.signals = 0;
    }
}
