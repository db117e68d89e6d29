//! The receivers: what each answers while the storm lasts, and what it answers for ever afterwards.

use crate::seams::Dice;
use crate::world::World;
use posthaste_actors::scheduler::{Call, End, Input};
use posthaste_events::outcome::Detail;
use posthaste_events::seams::Random as _;
use posthaste_events::{AttemptOutcome, Outcome, Signal, SubscriptionId};
use posthaste_outbox::Wish;
use std::time::Duration;

/// What a receiver does with one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Accepts,
    Fails,
    AsksToWait,
    IsGone,
    Refuses,
    NeverAnswers,
    CannotBeTried,
    /// Accepts, and the report of it is lost.
    AcceptsUnheard,
    Panics,
    /// Accepts or fails, the one as likely as the other.
    Flaps,
}

/// How likely each mood is during the storm, and the end of it.
#[derive(Debug, Clone)]
pub(crate) struct Nature {
    weights: [(Mood, u64); 9],
    /// What it does once the storm is over.
    pub(crate) ends: Mood,
    /// How likely a call takes seconds.
    pub(crate) slow: f64,
}

impl Nature {
    pub(crate) fn of(dice: &Dice, may_refuse: bool) -> Self {
        let weight = |likely: f64, most| if dice.chance(likely) { dice.between(1, most) } else { 0 };
        let weights = [
            (Mood::Accepts, 1 + weight(0.9, 20)),
            (Mood::Fails, weight(0.7, 20)),
            (Mood::AsksToWait, weight(0.3, 3)),
            (Mood::IsGone, weight(0.2, 1)),
            (Mood::Refuses, if may_refuse { weight(0.7, 2) } else { 0 }),
            (Mood::NeverAnswers, weight(0.5, 5)),
            (Mood::CannotBeTried, weight(0.4, 5)),
            (Mood::AcceptsUnheard, weight(0.4, 2)),
            (Mood::Panics, weight(0.4, 2)),
        ];
        let ends = if dice.chance(0.75) { Mood::Accepts } else { Mood::Fails };
        Self { weights, ends, slow: 0.2 }
    }

    /// One that does the same for ever.
    pub(crate) fn always(mood: Mood, slow: f64) -> Self {
        Self { weights: [(mood, 1); 9], ends: mood, slow }
    }

    fn mood(&self, dice: &Dice, storm: bool) -> Mood {
        if !storm {
            let flapped = if dice.chance(0.5) { Mood::Accepts } else { Mood::Fails };
            return if self.ends == Mood::Flaps { flapped } else { self.ends };
        }
        let total: u64 = self.weights.iter().map(|(_, w)| w).sum();
        let mut left = dice.between(1, total);
        for (mood, weight) in self.weights {
            if left <= weight {
                return mood;
            }
            left -= weight;
        }
        Mood::Accepts
    }
}

impl World {
    /// A call is handed to its deliveree, and may wait in a mailbox before it begins.
    pub(crate) fn hand_over(&mut self, subscription: SubscriptionId, call: Call) {
        let id = call.id;
        let untaken = Input::Ended { call: id, end: End::NotTaken, took: Duration::ZERO };
        if self.fault(0.02) {
            self.answer(untaken);
        } else if self.storm() && self.of_mailboxes.chance(0.3) {
            let (wait, generation) = (self.of_mailboxes.millis(1, 10), Some(self.generation));
            if let Some(first) = call.deliveries.first().filter(|_| self.of_mailboxes.chance(0.03)) {
                let delivery = first.delivery;
                self.at(wait / 2, generation, move |world| world.wish(delivery, Wish::Cancel));
            }
            self.at(wait, generation, move |world| match world.away().is_none() && call.start.take() {
                true => world.begin_call(subscription, call),
                false => world.answer(untaken),
            });
        } else if call.start.take() {
            self.begin_call(subscription, call);
        }
    }

    /// A call reaches the network.
    fn begin_call(&mut self, subscription: SubscriptionId, call: Call) {
        self.model_call_begins(subscription, &call);
        let storm = self.storm();
        let fast = !self.dice.chance(self.lanes[&subscription].nature.slow);
        let timeout = call.deadline;
        let mut at = Duration::ZERO;
        for leased in call.deliveries {
            at += if fast { self.dice.millis(1, 20) } else { self.dice.millis(100, 5_000) };
            let mood = self.lanes[&subscription].nature.mood(&self.dice, storm);
            let late = at >= timeout;
            if late || matches!(mood, Mood::NeverAnswers | Mood::Panics) {
                let end = if mood == Mood::Panics && !late { End::Panicked } else { End::TimedOut };
                let took = if end == End::Panicked { at } else { timeout };
                // The receiver may have it all the same: its answer came too late.
                if self.dice.chance(0.5) {
                    self.at(took, None, move |world| world.model_accepts(leased.delivery));
                }
                self.end_call(subscription, call.id, end, took);
                return;
            }
            let (id, delivery) = (call.id, leased.delivery);
            let generation = Some(self.generation);
            self.at(at, None, move |world| {
                if matches!(mood, Mood::Accepts | Mood::AcceptsUnheard) {
                    world.model_accepts(delivery);
                }
            });
            let (signal, outcome) = answer(mood, &self.dice, self.asked_wait);
            self.at(at, generation, move |world| {
                let mut inputs = Vec::new();
                inputs.extend(signal.map(|signal| {
                    world.model_signal(subscription, &signal);
                    Input::Signal { call: id, signal }
                }));
                inputs.extend(outcome.map(|outcome| Input::Outcome { call: id, delivery, outcome, took: at }));
                world.tell(inputs);
            });
        }
        self.end_call(subscription, call.id, End::Done, at);
    }

    fn end_call(
        &mut self,
        subscription: SubscriptionId,
        call: posthaste_actors::scheduler::CallId,
        end: End,
        took: Duration,
    ) {
        let generation = self.generation;
        if self.lanes[&subscription].terms.rate.is_some() {
            // What a process had not sent when it died never comes.
            let wait = took.mul_f64(self.of_network.unit());
            self.at(wait, Some(generation), move |world| world.model_arrives(subscription));
        }
        self.at(took, None, move |world| world.model_call_ends(subscription, generation, call));
        self.at(took, Some(generation), move |world| world.tell(vec![Input::Ended { call, end, took }]));
    }
}

fn answer(mood: Mood, dice: &Dice, asked_wait: Option<Duration>) -> (Option<Signal>, Option<Outcome>) {
    let detail = |status| Detail { status: Some(status), ..Detail::default() };
    let retry = |status| Outcome::Retry { detail: detail(status), after: None };
    match mood {
        Mood::Accepts => (None, Some(Outcome::Delivered(detail(200)))),
        Mood::Fails => (None, Some(retry(500))),
        Mood::AsksToWait => {
            let wait = asked_wait.unwrap_or_else(|| dice.millis(500, 20_000));
            (Some(Signal::SlowDown(wait)), Some(Outcome::Retry { detail: detail(429), after: Some(wait) }))
        }
        Mood::IsGone => (Some(Signal::Disable("gone".into())), Some(retry(410))),
        Mood::Refuses => (None, Some(Outcome::Rejected(detail(400)))),
        Mood::CannotBeTried => (None, Some(Outcome::Unattempted(Detail::error("resolver: away")))),
        Mood::AcceptsUnheard | Mood::NeverAnswers | Mood::Panics | Mood::Flaps => (None, None),
    }
}

/// What the model counts towards giving up.
pub(crate) const fn is_charged(outcome: AttemptOutcome) -> bool {
    !matches!(outcome, AttemptOutcome::Unattempted)
}

impl Nature {
    /// Whether it may disable its subscription.
    pub(crate) fn may_be_gone(&self) -> bool {
        self.weights.iter().any(|(mood, weight)| *mood == Mood::IsGone && *weight > 0)
    }
}
