//! An outbox whose work is done whenever somebody waits for it.

use posthaste_events::{BoxFuture, DeliveryId, EventId, Prepared, SubscriptionId};
use posthaste_outbox::*;
use std::sync::Arc;
use std::time::Duration;

/// Does the work of a store without threads as soon as a caller would wait.
pub(crate) struct Stepped {
    outbox: Arc<dyn Outbox>,
    stepper: Stepper,
}

impl Stepped {
    pub(crate) fn wrap(outbox: Arc<dyn Outbox>, stepper: Option<Stepper>) -> Arc<dyn Outbox> {
        match stepper {
            Some(stepper) => Arc::new(Self { outbox, stepper }),
            None => outbox,
        }
    }

    fn drive<T: 'static>(&self, mut future: BoxFuture<T>) -> BoxFuture<T> {
        let stepper = self.stepper.clone();
        Box::pin(std::future::poll_fn(move |context| {
            let polled = future.as_mut().poll(context);
            if polled.is_pending() && stepper.step() {
                // Back to the executor each time: a task that never yields is told nothing any more by tokio.
                context.waker().wake_by_ref();
            }
            polled
        }))
    }
}

impl Outbox for Stepped {
    fn enroll(&self, wanted: Vec<Enrolment>) -> BoxFuture<Result<Roll, StoreError>> {
        self.drive(self.outbox.enroll(wanted))
    }

    fn amend(&self, changes: Vec<Amend>) -> BoxFuture<Result<Roll, StoreError>> {
        self.drive(self.outbox.amend(changes))
    }

    fn record(&self, events: Vec<Prepared>, epoch: Epoch) -> BoxFuture<Result<Vec<Recorded>, RecordError>> {
        self.drive(self.outbox.record(events, epoch))
    }

    fn claim(&self, subscription: SubscriptionId, want: Want) -> BoxFuture<Result<Claimed, StoreError>> {
        self.drive(self.outbox.claim(subscription, want))
    }

    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.drive(self.outbox.settle(settlements))
    }

    fn renew(&self, leases: Vec<LeaseId>, lease: Duration) -> BoxFuture<Result<Vec<bool>, StoreError>> {
        self.drive(self.outbox.renew(leases, lease))
    }

    fn ask(&self, delivery: DeliveryId, wish: Wish) -> BoxFuture<Result<Answer, StoreError>> {
        self.drive(self.outbox.ask(delivery, wish))
    }

    fn cancel_owed(&self, id: SubscriptionId, reason: String) -> BoxFuture<Result<Cancelled, StoreError>> {
        self.drive(self.outbox.cancel_owed(id, reason))
    }

    fn set_standing(&self, id: SubscriptionId, standing: Standing) -> BoxFuture<Result<Option<Standing>, StoreError>> {
        self.drive(self.outbox.set_standing(id, standing))
    }

    fn note(&self, vitals: Vec<(SubscriptionId, Vitals)>) -> BoxFuture<Result<(), StoreError>> {
        self.drive(self.outbox.note(vitals))
    }

    fn define(&self, changes: Vec<Define>) -> BoxFuture<Result<(), StoreError>> {
        self.drive(self.outbox.define(changes))
    }

    fn definitions(&self) -> BoxFuture<Result<Vec<Definition>, StoreError>> {
        self.drive(self.outbox.definitions())
    }

    fn order_replay(&self, order: ReplayOrder) -> BoxFuture<Result<Replay, StoreError>> {
        self.drive(self.outbox.order_replay(order))
    }

    fn replays(&self) -> BoxFuture<Result<Vec<Replay>, StoreError>> {
        self.drive(self.outbox.replays())
    }

    fn replay_page(&self, id: ReplayId, count: usize) -> BoxFuture<Result<Option<ReplayPage>, StoreError>> {
        self.drive(self.outbox.replay_page(id, count))
    }

    fn replay_step(&self, id: ReplayId, page: ReplayPage) -> BoxFuture<Result<Option<Replay>, StoreError>> {
        self.drive(self.outbox.replay_step(id, page))
    }

    fn cancel_replay(&self, id: ReplayId) -> BoxFuture<Result<Option<Replay>, StoreError>> {
        self.drive(self.outbox.cancel_replay(id))
    }

    fn subscribed(&self, name: String) -> BoxFuture<Result<Option<Subscribed>, StoreError>> {
        self.drive(self.outbox.subscribed(name))
    }

    fn roll(&self) -> BoxFuture<Result<Roll, StoreError>> {
        self.drive(self.outbox.roll())
    }

    fn owing(&self) -> BoxFuture<Result<Vec<Owing>, StoreError>> {
        self.drive(self.outbox.owing())
    }

    fn events(&self, query: EventQuery) -> BoxFuture<Result<Page<EventRow, EventId>, StoreError>> {
        self.drive(self.outbox.events(query))
    }

    fn deliveries(&self, query: DeliveryQuery) -> BoxFuture<Result<Page<DeliveryRow, DeliveryId>, StoreError>> {
        self.drive(self.outbox.deliveries(query))
    }

    fn event(&self, id: EventId) -> BoxFuture<Result<Option<EventView>, StoreError>> {
        self.drive(self.outbox.event(id))
    }

    fn delivery(&self, id: DeliveryId) -> BoxFuture<Result<Option<DeliveryView>, StoreError>> {
        self.drive(self.outbox.delivery(id))
    }

    fn sweep(&self, budget: Duration) -> BoxFuture<Result<Swept, StoreError>> {
        self.drive(self.outbox.sweep(budget))
    }

    fn on_due(&self, tell: Box<Tell>) {
        self.outbox.on_due(tell);
    }

    fn on_refused(&self, tell: Box<TellRefused>) {
        self.outbox.on_refused(tell);
    }

    fn health(&self) -> Health {
        self.outbox.health()
    }

    fn close(&self) -> BoxFuture<Result<(), StoreError>> {
        self.drive(self.outbox.close())
    }
}
