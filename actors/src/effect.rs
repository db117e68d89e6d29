//! Lets a roster take effect: the outbox enrols it, events are matched by it, the scheduler and the supervisor are told.
//!
//! A reload goes over all subscriptions, a change of some over those that change: what it costs goes by them alone. Both go
//! the same way, and end in the same. When a change is durable, and whom it concerns, is for `subscriptions` to say.

use crate::quarantine::{self, QUARANTINE};
use crate::registry::{Inner, gone};
use crate::roll::{Staffed, staffed};
use crate::scheduler::actor::{Amended, Enlist};
use crate::settings::{Source, Subscription};
use crate::subscriptions::{Changing, Roster};
use crate::supervisor::{Restaff, Staff};
use posthaste_events::SubscriptionId;
use posthaste_events::prepare::Snapshot;
use posthaste_outbox::{Amend, Enrolment, Roll, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What some names become; `None`: there is none of that name any more.
pub(crate) type Changes = BTreeMap<String, Option<Arc<Subscription>>>;

impl Inner {
    /// Enrols these subscriptions and goes by them from now on; to be called by whoever holds [`Inner::changing`].
    pub(crate) async fn apply(&self, changing: &mut Changing, roster: Roster) -> Result<Roll, StoreError> {
        let settings = &roster.settings;
        let keeper = quarantine::subscription(&self.desk);
        let listed = roster.subscriptions.iter().map(|s| &**s).chain([&keeper]);
        let wanted = listed.map(|s| enrolment(s, settings.backlog_max)).collect();
        // What changes neither the list nor what is matched begins no epoch, and makes nobody match again.
        let before = self.desk.snapshot.current();
        let is_known = before.quarantine.is_some() && are_matched_alike(&self.roster(), &roster);
        let roll = match is_known {
            true => self.desk.outbox.roll().await?,
            false => self.desk.outbox.enroll(wanted).await?,
        };
        // What is built again is telemetry too.
        let beside = Some(&keeper).filter(|_| settings.telemetry.is_some());
        let all = roster.subscriptions.iter().map(|s| &**s).chain(beside);
        let Staffed { targets, terms, staff } = staffed(settings, all, &roll);
        // The snapshot first: whoever records from now on matches by it, and whoever matched before is told to again.
        self.desk.snapshot.publish(Snapshot {
            epoch: roll.epoch,
            catalogue: settings.catalogue.clone(),
            targets: targets.into(),
            telemetry: settings.telemetry,
            quarantine: roll.subscriptions.iter().find(|s| s.name == QUARANTINE).map(|s| s.id),
        });
        changing.number(&roll);
        self.supervisor.send(Staff(staff)).await.map_err(gone)?;
        self.scheduler.send(Enlist(terms)).await.map_err(gone)?;
        *self.guarded_roster() = Arc::new(roster);
        Ok(roll)
    }

    /// Goes by `changes` from now on, and for all others as before; to be called by whoever holds [`Inner::changing`], once
    /// something was applied. The roll has only what changed, as far as it is listed or still owed something.
    pub(crate) async fn amend(&self, changing: &mut Changing, changes: Changes) -> Result<Roll, StoreError> {
        let before = self.roster();
        let is_known = changes.iter().all(|(name, now)| match (before.find(name), now) {
            (Some(before), Some(now)) => is_matched_alike(before, now),
            (before, now) => before.is_none() && now.is_none(),
        });
        let roll = match is_known {
            true => self.roll_of(changes.keys()).await?,
            false => {
                let amends = changes.iter().map(|(name, now)| match now {
                    Some(now) => Amend::List(enrolment(now, before.settings.backlog_max)),
                    None => Amend::Unlist(name.clone()),
                });
                self.desk.outbox.amend(amends.collect()).await?
            }
        };
        let now = changes.values().flatten().map(|s| &**s);
        let Staffed { targets, terms, staff } = staffed(&before.settings, now, &roll);
        // Let go, or changed in place: another reader of it makes a copy of all.
        drop(before);
        let touched = changing.renumber(changes.keys(), &roll);
        if !is_known {
            let so_far = self.desk.snapshot.current();
            let targets = so_far.targets.amended(&touched, targets);
            self.desk.snapshot.publish(Snapshot { epoch: roll.epoch, targets, ..Snapshot::clone(&so_far) });
        }
        let gone_now: Vec<SubscriptionId> =
            touched.into_iter().filter(|id| terms.iter().all(|terms| terms.id != *id)).collect();
        self.supervisor.send(Restaff { staff, gone: gone_now.clone() }).await.map_err(gone)?;
        self.scheduler.send(Amended { terms, gone: gone_now }).await.map_err(gone)?;
        let mut roster = self.guarded_roster();
        let roster = Arc::make_mut(&mut roster);
        changes.into_iter().for_each(|(name, now)| roster.put(&name, now));
        Ok(roll)
    }

    async fn roll_of(&self, names: impl Iterator<Item = &String>) -> Result<Roll, StoreError> {
        let mut roll = Roll { epoch: self.desk.snapshot.current().epoch, ..Roll::default() };
        for name in names {
            roll.subscriptions.extend(self.subscribed(name).await?);
        }
        Ok(roll)
    }
}

fn enrolment(subscription: &Subscription, backlog_max: u64) -> Enrolment {
    let (name, ordered) = (subscription.name.clone(), subscription.ordered);
    Enrolment { name, backlog_max, ordered, kept: subscription.source != Source::Config }
}

/// Whether the outbox lists the same in both, and the same events are matched to the same subscriptions.
fn are_matched_alike(a: &Roster, b: &Roster) -> bool {
    let (s, t) = (&a.settings, &b.settings);
    let whole = s.backlog_max == t.backlog_max && s.catalogue == t.catalogue && s.telemetry == t.telemetry;
    whole
        && a.subscriptions.len() == b.subscriptions.len()
        && a.subscriptions.iter().zip(&b.subscriptions).all(|(a, b)| is_matched_alike(a, b))
}

fn is_matched_alike(a: &Arc<Subscription>, b: &Arc<Subscription>) -> bool {
    // One that changed nothing is the same one.
    Arc::ptr_eq(a, b)
        || is_same(a.source, b.source)
            && (&a.name, a.ordered, a.takes, &a.selectors) == (&b.name, b.ordered, b.takes, &b.selectors)
}

/// Whether it is the same subscription, perhaps changed: one that came from elsewhere under its name, or was made anew, is
/// another, and the outbox must be told.
const fn is_same(a: Source, b: Source) -> bool {
    match (a, b) {
        (Source::Config, Source::Config) => true,
        (Source::Api(before), Source::Api(now)) => now.made == before.made && now.revision > before.revision,
        _ => false,
    }
}
