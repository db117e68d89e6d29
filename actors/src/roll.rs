//! What becomes of settings once the outbox has numbered their subscriptions: targets, terms, posts.

use crate::scheduler::Terms;
use crate::settings::{Settings, Subscription};
use crate::subscriptions::Roster;
use crate::supervisor::{Staffing, make};
use posthaste_events::Takes;
use posthaste_events::matching::Target;
use posthaste_outbox::{Roll, Standing};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Settings, told to each who needs a part of them.
pub(crate) struct Staffed {
    /// For matching.
    pub(crate) targets: Vec<Target>,
    /// For the scheduler.
    pub(crate) terms: Vec<Terms>,
    /// For the supervisor.
    pub(crate) staff: Vec<Staffing>,
}

/// Matches those of `settings` that may send; `beside` runs and selects nothing.
///
/// A subscription whose deliveree cannot be made (its maker panics) takes events, and what it is owed waits.
pub(crate) fn staffed(roster: &Roster, beside: &Subscription, roll: &Roll) -> Staffed {
    let numbers: BTreeMap<_, _> = roll.subscriptions.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut staffed = Staffed { targets: Vec::new(), terms: Vec::new(), staff: Vec::new() };
    let settings = &roster.settings;
    let sending = roster.subscriptions.iter().map(|s| &**s).filter(|s| !is_silent(settings, s));
    // What is built again is telemetry too.
    let beside = Some(beside).filter(|_| settings.telemetry.is_some());
    for subscription in sending.chain(beside) {
        // The outbox numbers every name that it is given.
        let Some(subscribed) = numbers.get(subscription.name.as_str()) else { continue };
        let (id, name) = (subscribed.id, Arc::<str>::from(subscription.name.as_str()));
        let selectors = subscription.selectors.iter();
        staffed.targets.extend(selectors.map(|selector| Target {
            id,
            selector: selector.clone(),
            takes: subscription.takes,
        }));
        let (made, (limits, timeout)) = match subscription.ahead {
            Some(known) => (None, known),
            None => {
                let Some(made) = make(&name, &subscription.make) else { continue };
                let Ok(asked) = catch_unwind(AssertUnwindSafe(|| (made.limits(), made.timeout()))) else {
                    tracing::error!(subscription = %name, "the deliveree panicked when it was asked for its limits");
                    continue;
                };
                (Some(made), asked)
            }
        };
        staffed.terms.push(Terms {
            id,
            name: Arc::clone(&name),
            tenant: subscription.tenant.as_deref().map(Arc::from),
            retry: subscription.retry.clone(),
            concurrency: subscription.concurrency,
            circuit: subscription.circuit,
            rate: subscription.rate,
            ordered: subscription.ordered,
            disable_after: subscription.disable_after,
            vitals: subscribed.vitals,
            limits,
            takes: subscription.takes,
            timeout,
            mark: subscription.mark,
            active: subscribed.standing == Standing::Active,
        });
        staffed.staff.push(Staffing { id, name, make: Arc::clone(&subscription.make), made });
    }
    staffed
}

/// Whether a subscription sends nothing, since it takes telemetry and that is switched off.
pub(crate) fn is_silent(settings: &Settings, subscription: &Subscription) -> bool {
    settings.telemetry.is_none() && subscription.takes == Takes::Telemetry
}
