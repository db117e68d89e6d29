//! What becomes of settings once the outbox has numbered their subscriptions: targets, terms, posts.

use crate::scheduler::Terms;
use crate::settings::{Settings, Subscription};
use crate::supervisor::{Staffing, make};
use posthaste_events::Takes;
use posthaste_events::matching::Target;
use posthaste_outbox::{Roll, Standing, Subscribed};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Subscriptions, told to each who needs a part of them.
pub(crate) struct Staffed {
    /// For matching.
    pub(crate) targets: Vec<Target>,
    /// For the scheduler.
    pub(crate) terms: Vec<Terms>,
    /// For the supervisor.
    pub(crate) staff: Vec<Staffing>,
}

/// What becomes of those of `subscriptions` that may send, as `roll` has them; of the others nothing.
///
/// A subscription whose deliveree cannot be made (its maker panics) takes events, and what it is owed waits.
pub(crate) fn staffed<'a>(
    settings: &Settings,
    subscriptions: impl IntoIterator<Item = &'a Subscription>,
    roll: &Roll,
) -> Staffed {
    // Of two of a name the listed one counts.
    let listed = roll.subscriptions.iter().filter(|s| s.listed);
    let numbers: HashMap<_, _> = listed.map(|s| (s.name.as_str(), s)).collect();
    let mut staffed = Staffed { targets: Vec::new(), terms: Vec::new(), staff: Vec::new() };
    for subscription in subscriptions {
        // The outbox numbers every name that it is given.
        if let Some(subscribed) = numbers.get(subscription.name.as_str())
            && !is_silent(settings, subscription)
        {
            staffed.add(subscription, subscribed);
        }
    }
    staffed
}

impl Staffed {
    fn add(&mut self, subscription: &Subscription, subscribed: &Subscribed) {
        let (id, name) = (subscribed.id, Arc::<str>::from(subscription.name.as_str()));
        let selectors = subscription.selectors.iter();
        self.targets.extend(selectors.map(|selector| Target {
            id,
            selector: selector.clone(),
            takes: subscription.takes,
        }));
        let (made, (limits, timeout)) = match subscription.ahead {
            Some(known) => (None, known),
            None => {
                let Some(made) = make(&name, &subscription.make) else { return };
                let Ok(asked) = catch_unwind(AssertUnwindSafe(|| (made.limits(), made.timeout()))) else {
                    tracing::error!(subscription = %name, "the deliveree panicked when it was asked for its limits");
                    return;
                };
                (Some(made), asked)
            }
        };
        self.terms.push(Terms {
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
            waits: subscribed.owed > 0,
        });
        self.staff.push(Staffing { id, name, make: Arc::clone(&subscription.make), made });
    }
}

/// Whether a subscription sends nothing, since it takes telemetry and that is switched off.
pub(crate) fn is_silent(settings: &Settings, subscription: &Subscription) -> bool {
    settings.telemetry.is_none() && subscription.takes == Takes::Telemetry
}
