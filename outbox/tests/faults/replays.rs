//! A replay that is cut off at every call in turn: each delivery that matches becomes due exactly once.
//!
//! How often one became due is told by its attempts, each of which is made durable before the replay goes on. The control
//! takes away the last row of a replay at each crash, as if its cursor had been written in a batch of its own: over that
//! the same check must find deliveries that came twice.

use crate::seams::{attempt, event};
use crate::world::{Check, World};
use posthaste_events::{AttemptOutcome, DeliveryId, SubscriptionId};
use posthaste_outbox::disk::sim::{Fault, Leaves, Trouble};
use posthaste_outbox::*;
use std::time::Duration;

/// The kind of the row of a change of a replay.
const CHANGE: u8 = b'Q';

/// What a run does at a crash beside crashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cursor {
    Kept,
    /// The control.
    Lost,
}

struct Replaying {
    world: World,
    cursor: Cursor,
    /// Each delivery to the first subscription, and how many attempts it must have in the end.
    expected: Vec<(DeliveryId, u32)>,
    crashes: u32,
}

impl Replaying {
    fn new(seed: u64, cursor: Cursor) -> Check<Self> {
        let mut world = World::new(seed);
        world.start()?;
        let mut this = Self { world, cursor, expected: Vec::new(), crashes: 0 };
        let (one, two) = (this.world.subscriptions[0], this.world.subscriptions[1]);
        for n in 0..14 {
            // Every third was never owed to the first; of the others every second is dead.
            let owed = if n % 3 == 0 { two } else { one };
            let event = this.record(owed)?.ok_or("a disk without faults refuses an event")?;
            let delivery = DeliveryId { event, subscription: one };
            this.deliver(one, if n % 2 == 0 { Then::Delivered } else { Then::Dead("no".into()) })?;
            this.expected.push((delivery, if n % 3 == 0 { 1 } else { 2 }));
        }
        Ok(this)
    }

    /// Records an event, and so makes durable whatever was settled before; `None` where it was refused.
    fn record(&mut self, owed: SubscriptionId) -> Check<Option<posthaste_events::EventId>> {
        let (epoch, events) = (self.world.epoch, vec![event("{}", &[owed])]);
        let recorded = self.world.wait(|o| o.record(events, epoch))?;
        Ok(recorded.ok().map(|recorded| recorded[0].id))
    }

    /// Attempts whatever is due of the first subscription; true once that is durable.
    fn deliver(&mut self, id: SubscriptionId, then: Then) -> Check<bool> {
        let want = Want { count: 4, fresh_min: 0, bytes: usize::MAX, lease: Duration::from_secs(5) };
        let Ok(claimed) = self.world.wait(|o| o.claim(id, want))? else { return Ok(false) };
        let settlements = claimed.deliveries.into_iter().map(|leased| Settlement {
            lease: leased.lease,
            delivery: leased.delivery,
            attempt: Some(attempt(leased.attempt, AttemptOutcome::Delivered)),
            then: then.clone(),
        });
        let settlements = settlements.collect();
        let settled = self.world.wait(|o| o.settle(settlements))?.is_ok();
        Ok(settled && self.record(self.world.subscriptions[1])?.is_some())
    }

    /// Brings a store back whose power went, or that some trouble left as it is.
    fn recover(&mut self) -> Check {
        self.world.clock.forward(Duration::from_millis(600));
        if self.world.disk.is_off() {
            self.crashes += 1;
            self.world.store = None;
            self.world.disk.crash();
            if self.cursor == Cursor::Lost {
                self.world.disk.forget_last(CHANGE);
            }
            self.world.start()?;
        }
        Ok(())
    }

    /// The replay that is under way; orders one where there is none.
    fn order(&mut self) -> Check<Option<ReplayId>> {
        let known = self.world.wait(|o| o.replays())?.map_err(|e| e.to_string());
        let known = known.unwrap_or_default().into_iter().find(|r| r.state != ReplayState::Cancelled);
        if let Some(known) = known {
            return Ok(Some(known.id));
        }
        let subscription = self.world.subscriptions[0];
        let order = ReplayOrder { subscription, since: None, until: None, state: None, event_type: None, tenant: None };
        Ok(self.world.wait(|o| o.order_replay(order))?.ok().map(|replay| replay.id))
    }

    /// One page and its step, and the attempts that it leads to; true once the replay is done and all of it durable.
    fn go_on(&mut self) -> Check<bool> {
        let Some(id) = self.order()? else { return Ok(false) };
        let Ok(page) = self.world.wait(|o| o.replay_page(id, 3))? else { return Ok(false) };
        let done = page.is_none();
        if let Some(mut page) = page {
            // What was recorded on the way belongs to the other subscription, and nobody matches it.
            page.candidates.retain(|c| self.expected.iter().any(|(id, _)| id.event == c.event.id));
            if self.world.wait(|o| o.replay_step(id, page))?.is_err() {
                return Ok(false);
            }
        }
        let durable = self.deliver(self.world.subscriptions[0], Then::Delivered)?;
        Ok(done && durable)
    }

    /// Goes on until the replay is done, over whatever troubles.
    fn finish(&mut self) -> Check {
        for _ in 0..60 {
            let done = self.go_on()?;
            if done && !self.world.disk.is_off() {
                break;
            }
            self.recover()?;
        }
        self.world.disk.disarm();
        for _ in 0..20 {
            self.recover()?;
            self.world.clock.forward(Duration::from_secs(6));
            self.deliver(self.world.subscriptions[0], Then::Delivered)?;
        }
        Ok(())
    }

    fn check(&mut self) -> Check {
        for (id, attempts) in self.expected.clone() {
            let found = self.world.wait(|o| o.delivery(id))?.map_err(|e| e.to_string())?;
            let found = found.ok_or_else(|| format!("{id} is not there"))?.row.attempt_count;
            if found != attempts {
                return Err(format!("{id} has {found} attempts, and became due {attempts} times"));
            }
        }
        Ok(())
    }
}

fn run(nth: u64, trouble: Trouble, leaves: Leaves, cursor: Cursor) -> Check<Replaying> {
    let mut replaying = Replaying::new(nth, cursor)?;
    replaying.world.disk.set_leaves(leaves);
    replaying.world.disk.arm(Fault { on: None, nth, trouble, lasting: false });
    replaying.finish()?;
    replaying.check()?;
    Ok(replaying)
}

/// How many calls a replay makes without faults.
fn calls_of_a_replay() -> u64 {
    let mut replaying = Replaying::new(0, Cursor::Kept).unwrap();
    let before: u64 = replaying.world.disk.calls().values().sum();
    replaying.finish().unwrap();
    replaying.check().unwrap();
    replaying.world.disk.calls().values().sum::<u64>() - before
}

#[test]
fn a_replay_makes_each_delivery_due_exactly_once_whichever_call_fails() {
    let calls = calls_of_a_replay();
    assert!(calls > 80, "{calls} calls are too few to show anything");
    let mut crashes = 0;
    for (trouble, step) in [(Trouble::PowerCut, 1), (Trouble::Fail, 3), (Trouble::Full, 5)] {
        for nth in (1..=calls).step_by(step) {
            let leaves = if nth % 2 == 0 { Leaves::Prefix } else { Leaves::Subset };
            let ran = run(nth, trouble, leaves, Cursor::Kept);
            crashes += ran.unwrap_or_else(|wrong| panic!("{trouble:?} at call {nth}, {leaves:?}: {wrong}")).crashes;
        }
    }
    assert!(u64::from(crashes) > calls / 2, "{crashes} crashes");
}

/// The control.
#[test]
fn a_cursor_in_a_batch_of_its_own_would_make_some_due_twice() {
    let calls = calls_of_a_replay();
    let wrong = (1..=calls)
        .step_by(2)
        .filter(|nth| run(*nth, Trouble::PowerCut, Leaves::Prefix, Cursor::Lost).is_err())
        .count();
    assert!(wrong > 5, "only {wrong} of {calls} runs made a delivery due twice");
}
