//! What the answers within one call mean for each event, and what is asked next.
//!
//! Pure but for its reports: it neither sends nor looks at a clock. A refusal of a single event is believed only from a
//! receiver that has taken something: a wrong URL, or a proxy in front of a good one, answers 400 to everything, and
//! must not cost what is waiting. So without any success halving stops at the first event that is refused alone. What is
//! left of the batch is asked once more each, uncut: one success is enough to believe the rest.

use super::backend::Others;
use super::config::Batching;
use super::plan::Plan;
use super::verdict::{Pause, Verdict};
use super::written::Written;
use posthaste_events::outcome::Detail;
use posthaste_events::{Outcome, Reporter};

/// One call under way.
pub(super) struct Call<'a> {
    /// What is still to be sent.
    pub(super) plan: Plan,
    events: &'a [Written<'a>],
    report: &'a Reporter,
    /// What was refused by a receiver that has taken nothing so far.
    doubted: Vec<(Vec<usize>, Detail)>,
}

impl<'a> Call<'a> {
    /// Plans the requests for these events.
    pub(super) fn new(events: &'a [Written<'a>], batching: Batching, report: &'a Reporter) -> Self {
        let sizes: Vec<usize> = events.iter().map(|event| event.bytes.len()).collect();
        let plan = Plan::new(&sizes, batching.limits.events, batching.limits.bytes);
        Self { plan, events, report, doubted: Vec::new() }
    }

    /// Draws the consequences of a request with the events of `group`; `has_taken`: whether its receiver ever took one.
    /// Returns why nothing more is to be sent, where it is so.
    pub(super) fn learn(&mut self, group: Vec<usize>, verdict: Verdict, has_taken: bool) -> Option<Pause> {
        if verdict.takes() {
            self.believe();
        }
        match verdict {
            Verdict::Taken(detail) => self.settle(&group, || Outcome::Delivered(detail.clone())),
            Verdict::Never(detail) => self.settle(&group, || Outcome::Rejected(detail.clone())),
            Verdict::Refused(detail) if has_taken => self.refuse(group, detail),
            Verdict::Refused(_) if group.len() > 1 && self.doubted.is_empty() => self.plan.halve(group),
            Verdict::Refused(detail) => self.doubted.push((group, detail)),
            Verdict::Named { detail, refused, others } => self.name(&group, &detail, &refused, others),
            Verdict::Later(why) => {
                // First what holds back the others, so that none of them starts in between.
                if let Some(signal) = why.signal.clone() {
                    self.report.signal(signal);
                }
                self.settle(&group, || put_off(&why));
                return Some(why);
            }
        }
        None
    }

    /// Ends the call: what was doubted and what was not sent is tried again.
    ///
    /// What was never sent pays with an attempt only where the failure holds for it too: where the receiver said so, or
    /// is not there at all. Where the time of the call was `over`, it says nothing of these events.
    pub(super) fn end(mut self, why: &Pause, over: bool) {
        for (group, detail) in std::mem::take(&mut self.doubted) {
            let words = detail.error.as_deref().unwrap_or_default();
            let error = Detail::error(format!("{words}, from a receiver that has taken nothing so far")).error;
            let detail = Detail { error, ..detail };
            self.settle(&group, || Outcome::Retry { detail: detail.clone(), after: None });
        }
        let words = why.detail.error.as_deref().unwrap_or_default();
        let detail = Detail::error(format!("not sent, after another: {words}"));
        let ours = why.ours || (over && !why.answered);
        let unsent = Pause { detail, ours, ..why.clone() };
        let rest = std::mem::take(&mut self.plan).rest();
        self.settle(&rest, || put_off(&unsent));
    }

    /// The receiver has proved to be one: what was doubted of its refusals counts.
    fn believe(&mut self) {
        for (group, detail) in std::mem::take(&mut self.doubted) {
            self.refuse(group, detail);
        }
    }

    /// A refusal that counts: one event alone is dead, of several the bad ones are looked for.
    fn refuse(&mut self, group: Vec<usize>, detail: Detail) {
        if group.len() == 1 {
            self.settle(&group, || Outcome::Rejected(detail.clone()));
        } else {
            self.plan.halve(group);
        }
    }

    /// A refusal that names events by themselves counts in any case: whoever names them has read them.
    fn name(&mut self, group: &[usize], detail: &Detail, refused: &[(usize, String)], others: Others) {
        for (at, why) in refused {
            let detail = Detail { error: Detail::error(format!("refused: {why}")).error, ..detail.clone() };
            self.settle(&group[*at..=*at], || Outcome::Rejected(detail.clone()));
        }
        let named = |at: usize| refused.iter().any(|(refused, _)| *refused == at);
        let left: Vec<usize> = (0..group.len()).filter(|at| !named(*at)).map(|at| group[at]).collect();
        match others {
            Others::Again => self.plan.again(left),
            Others::Taken => self.settle(&left, || Outcome::Delivered(detail.clone())),
        }
    }

    fn settle(&self, group: &[usize], outcome: impl Fn() -> Outcome) {
        for at in group {
            self.report.outcome(self.events[*at].ticket, outcome());
        }
    }
}

fn put_off(why: &Pause) -> Outcome {
    let detail = why.detail.clone();
    if why.ours { Outcome::Unattempted(detail) } else { Outcome::Retry { detail, after: why.after } }
}
