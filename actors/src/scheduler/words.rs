//! What the scheduler's core is told, and what it wants done.

use crate::settings::{Circuit, Rate};
use posthaste_events::Timestamp;
use posthaste_events::builtin::News;
use posthaste_events::{
    Attempt, BatchLimits, DeliveryId, Facts, Outcome, RetryPolicy, Signal, State, SubscriptionId, Takes,
};
use posthaste_outbox::{Claimed, LeaseId, Leased, Settled, Settlement, Vitals, Want};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Decides; never runs back.
    pub elapsed: Duration,
    /// For display.
    pub wall: Timestamp,
}

/// A call of a deliveree; never used twice by one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What the core must know of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Its number in the outbox.
    pub id: SubscriptionId,
    /// Its name.
    pub name: Arc<str>,
    /// Whose it is.
    pub tenant: Option<Arc<str>>,
    /// When it tries again, and when it gives up.
    pub retry: RetryPolicy,
    /// Calls under way at most; 1 or more.
    pub concurrency: usize,
    /// When it stops trying for a while.
    pub circuit: Option<Circuit>,
    /// How many calls may begin in how long.
    pub rate: Option<Rate>,
    /// Whether its deliveries go by key; the outbox gives them out so, the scheduler calls with one at a time.
    pub ordered: bool,
    /// After how long without one that arrived it is disabled.
    pub disable_after: Option<Duration>,
    /// How it fared before, from the outbox.
    pub vitals: Vitals,
    /// How large a call may be.
    pub limits: BatchLimits,
    /// Which payload a call has of each delivery, and so which of them its size goes by.
    pub takes: Takes,
    /// How long a call may take.
    pub timeout: Duration,
    /// A mark of its settings: where it changes the receiver may be another.
    pub mark: u64,
    /// Whether it takes deliveries: neither paused nor disabled.
    pub active: bool,
    /// Whether it is owed something, as far as that is known: a core that begins asks for what waits of these alone.
    pub waits: bool,
}

/// What the core is told.
#[derive(Debug)]
pub enum Input {
    /// Every configured subscription; who is missing is let go once nothing of it is in flight.
    Roster(Vec<Terms>),
    /// Some subscriptions came, changed or went; the others are as they were.
    Amended {
        /// Those that are configured.
        terms: Vec<Terms>,
        /// Those that are to be let go; one that the core has not is ignored.
        gone: Vec<SubscriptionId>,
    },
    /// A subscription was paused, resumed, disabled. What it has ready goes back, what is in flight goes on.
    Standing {
        /// Which.
        subscription: SubscriptionId,
        /// Whether it takes deliveries now.
        active: bool,
    },
    /// A person wants what a subscription is owed to be tried, however long its receiver asked to wait.
    Hurry(SubscriptionId),
    /// A person cancelled a delivery: no attempt at it begins any more, one that has begun goes on.
    Withdraw(DeliveryId),
    /// Deliveries were dead at birth.
    Refused(BTreeMap<SubscriptionId, Refusals>),
    /// Something became due.
    Due(Vec<SubscriptionId>),
    /// What a claim brought; `None` where the outbox failed.
    Claimed {
        /// Whose claim.
        subscription: SubscriptionId,
        /// The answer.
        claimed: Option<Claimed>,
    },
    /// What came of one delivery of a call.
    Outcome {
        /// The call.
        call: CallId,
        /// The delivery.
        delivery: DeliveryId,
        /// What came of it.
        outcome: Outcome,
        /// How long it took.
        took: Duration,
    },
    /// Something about the subscription of a call.
    Signal {
        /// The call.
        call: CallId,
        /// What was said.
        signal: Signal,
    },
    /// A call ended; its deliveries that had no outcome get one.
    Ended {
        /// The call.
        call: CallId,
        /// How.
        end: End,
        /// How long it took.
        took: Duration,
    },
    /// The outbox took settlements.
    Settled {
        /// Which.
        settlements: Vec<Settlement>,
        /// One answer for each.
        answers: Vec<Settled>,
    },
    /// The outbox failed to take settlements: they are handed over again within a second.
    NotSettled {
        /// Which.
        settlements: Vec<Settlement>,
        /// What was to be told of them, as it was handed over.
        told: Vec<Told>,
    },
    /// What became of leases that were to be renewed; `None` where the outbox failed.
    Renewed {
        /// The subscription.
        subscription: SubscriptionId,
        /// Which leases.
        leases: Vec<LeaseId>,
        /// Until when they hold if they were kept, as asked.
        until: Duration,
        /// One answer for each: false where it was lost.
        kept: Option<Vec<bool>>,
    },
    /// The answer to [`Action::Scan`]; `None` where the outbox failed.
    Owed(Option<Vec<Owed>>),
    /// A subscription was disabled as [`Action::Disable`] asked; false where the outbox failed.
    Disabled {
        /// Which.
        subscription: SubscriptionId,
        /// Whether it worked.
        done: bool,
    },
    /// The outbox noted how subscriptions fare, or failed to.
    Noted {
        /// Which.
        subscriptions: Vec<SubscriptionId>,
        /// Whether it worked.
        done: bool,
    },
    /// Time passed: the core asked to be woken, or it does no harm.
    Wake,
    /// Nothing more may begin; after the grace what is in flight is returned.
    Stop {
        /// How long calls may go on.
        grace: Duration,
    },
}

/// Deliveries of a subscription that were dead at birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refusals {
    /// How many.
    pub count: u64,
    /// How many of them the daemon may make an event of: those of its own events are not told.
    pub told: u64,
    /// The first of those.
    pub first: Option<DeliveryId>,
}

/// What the outbox knows of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// Which.
    pub subscription: SubscriptionId,
    /// Deliveries that it is owed, those in flight included.
    pub owed: u64,
    /// Whether it takes deliveries.
    pub active: bool,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Done,
    /// Its time was over and it was dropped.
    TimedOut,
    /// It panicked.
    Panicked,
    /// It never began: it was withdrawn, or there was nobody to take it.
    NotTaken,
}

/// A call to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// When it must have ended.
    pub deadline: Duration,
    /// What to deliver: 1 or more.
    pub deliveries: Vec<Leased>,
    /// To be taken before anything is sent; where that fails, the call ends as [`End::NotTaken`].
    pub start: Start,
}

/// Who has a call that has not begun: whoever makes it, or the core that withdraws it. The first who takes it.
#[derive(Debug, Clone, Default)]
pub struct Start(Arc<AtomicBool>);

impl Start {
    /// True for the first.
    #[must_use]
    pub fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// What the core wants done.
#[derive(Debug, Clone)]
pub enum Action {
    /// Claim; answer with [`Input::Claimed`].
    Claim {
        /// For whom.
        subscription: SubscriptionId,
        /// How much.
        want: Want,
    },
    /// Make calls; answer each delivery with [`Input::Outcome`], and each call with [`Input::Ended`].
    Deliver {
        /// Whose.
        subscription: SubscriptionId,
        /// The calls, each on its own.
        calls: Vec<Call>,
    },
    /// Settle; answer with [`Input::Settled`] or [`Input::NotSettled`].
    Settle {
        /// What to settle.
        settlements: Vec<Settlement>,
        /// What to tell watchers and the log of those that have an attempt, in the same order, once they are applied.
        told: Vec<Told>,
    },
    /// Renew leases; answer with [`Input::Renewed`].
    Renew {
        /// Whose.
        subscription: SubscriptionId,
        /// Which.
        leases: Vec<LeaseId>,
        /// For how long from now.
        lease: Duration,
        /// The same as a time, to be handed back.
        until: Duration,
    },
    /// Disable a subscription in the outbox; answer with [`Input::Disabled`].
    Disable {
        /// Which.
        subscription: SubscriptionId,
        /// Why.
        reason: String,
    },
    /// Note how subscriptions fare; answer with [`Input::Noted`]. None other comes before that.
    Note(Vec<(SubscriptionId, Vitals)>),
    /// Record one of the daemon's own events.
    Announce(News),
    /// Ask what each subscription is owed; answer with [`Input::Owed`].
    Scan,
    /// End these calls; no answer is needed.
    Abort(Vec<CallId>),
    /// Wake the core at this time by the deciding clock; replaces what was wished before.
    WakeAt(Duration),
    /// Everything that was begun is settled: the core is done.
    Stopped,
}

/// An attempt to tell of.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The name of the subscription.
    pub subscription: Arc<str>,
    /// The delivery.
    pub delivery: DeliveryId,
    /// What is known of the event.
    pub facts: Arc<Facts>,
    /// The attempt.
    pub attempt: Attempt,
    /// The state of the delivery after it, where the outbox answers that it was applied.
    pub state: State,
}

/// What a core has counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Outcomes that came too late: their lease was lost before they could be settled.
    pub leases_lost: u64,
    /// Reports of calls or deliveries that were not in flight.
    pub strays: u64,
}

/// What a subscription has counted since the start of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Attempts that arrived.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts that were refused for good.
    pub rejected: u64,
    /// Attempts that could not be made.
    pub unattempted: u64,
    /// Deliveries that died.
    pub dead: u64,
    /// How long all attempts took together.
    pub took: Duration,
}

/// The state of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CircuitState {
    /// Deliveries go.
    #[default]
    Closed,
    /// None goes for now.
    Open,
    /// One goes, to see whether its receiver is back.
    Probing,
}

impl CircuitState {
    /// As it is shown: `closed`, `open` or `probing`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}

/// A subscription as the core sees it.
#[derive(Debug, Clone)]
pub struct LaneView {
    /// Which.
    pub id: SubscriptionId,
    /// Its name.
    pub name: Arc<str>,
    /// Deliveries in flight.
    pub in_flight: usize,
    /// How its circuit stands.
    pub circuit: CircuitState,
    /// Why its circuit opened, where it is not closed.
    pub circuit_reason: Option<Arc<str>>,
    /// For how long nothing has arrived, where the last attempt failed.
    pub failing_for: Option<Duration>,
    /// Nothing begins before this by the deciding clock; may be past.
    pub held_until: Duration,
    /// How long it takes at most until its rate limit lets the next call begin, where no other waits before it; zero without
    /// a limit.
    pub slot_in: Duration,
    /// How long a call may take.
    pub timeout: Duration,
    /// How long a batch that is not full waits for more.
    pub batch_wait: Duration,
    /// What it counted.
    pub tally: Tally,
}
