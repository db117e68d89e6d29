//! The subscriptions that the outbox keeps, beside those of the configuration: made, changed and removed while all runs.
//!
//! Changes come one after another, and never while a reload is under way. Those that wait are made together: one write of
//! their definitions, one enrolment. The order outlasts a crash: what is answered was durable and enrolled before; what
//! was durable and not enrolled is enrolled by the next start. One that is removed is disabled first, for a reason that
//! says so, and a start carries a removal through that was begun; what is made under its name later is another one. What a definition says is the author's matter.

use crate::author::{Author, Authored, Draft, Rotation};
use crate::effect::Changes;
use crate::messages::{Changed, NotChanged, Put, PutSubscription, RemoveSubscription, RotateSecret};
use crate::registry::{Inner, gone};
use crate::scheduler::actor::Hold;
use crate::settings::{Settings, Source, Subscription, Version};
use crate::silence::Silence;
use futures_util::{StreamExt as _, stream};
use posthaste_events::SubscriptionId;
use posthaste_outbox::{DEFINITIONS_MAX, DELETED, Define, Definition, Roll, Standing, StoreError, Subscribed};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use tokio::sync::oneshot;

/// How many are disabled at once.
const DISABLING_MAX: usize = 256;
/// How many changes may wait at once.
const WAITING_MAX: usize = 1_024;

/// What the engine goes by, with every subscription there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    /// All but the subscriptions.
    pub(crate) settings: Settings,
    /// Those of the configuration and of the outbox, each name once, by name.
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
}

impl Roster {
    /// The one of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Subscription>> {
        let at = self.subscriptions.binary_search_by(|s| s.name.as_str().cmp(name)).ok()?;
        self.subscriptions.get(at)
    }

    /// Puts one in the place of its name; `None` takes it out.
    pub(crate) fn put(&mut self, name: &str, subscription: Option<Arc<Subscription>>) {
        match (self.subscriptions.binary_search_by(|s| s.name.as_str().cmp(name)), subscription) {
            (Ok(at), Some(new)) => self.subscriptions[at] = new,
            (Ok(at), None) => drop(self.subscriptions.remove(at)),
            (Err(at), Some(new)) => self.subscriptions.insert(at, new),
            (Err(_), None) => {}
        }
    }
}

/// What is held while subscriptions or settings change.
#[derive(Debug, Default)]
pub(crate) struct Changing {
    pub(crate) silence: Silence,
    /// What the outbox keeps, by name.
    kept: BTreeMap<String, Definition>,
    /// Whether that was read.
    is_read: bool,
    /// Whether more was written perhaps than the engine goes by.
    pub(crate) is_stale: bool,
    /// Those that are being removed.
    leaving: BTreeSet<String>,
    /// Which numbers the names have that the engine goes by.
    numbers: HashMap<String, SubscriptionId>,
}

impl Changing {
    /// All that are listed have these numbers.
    pub(crate) fn number(&mut self, roll: &Roll) {
        self.numbers = numbered(roll).collect();
    }

    /// These names have the numbers of `roll`, or none any more; the numbers that they had and have, each once.
    pub(crate) fn renumber<'a>(&mut self, names: impl Iterator<Item = &'a String>, roll: &Roll) -> Vec<SubscriptionId> {
        let before: Vec<_> = names.filter_map(|name| self.numbers.remove(name)).collect();
        let now = numbered(roll).map(|(_, id)| id);
        let touched = before.into_iter().chain(now).collect::<BTreeSet<_>>();
        self.numbers.extend(numbered(roll));
        touched.into_iter().collect()
    }
}

/// Who is listed, and by which number.
fn numbered(roll: &Roll) -> impl Iterator<Item = (String, SubscriptionId)> {
    roll.subscriptions.iter().filter(|s| s.listed).map(|s| (s.name.clone(), s.id))
}

/// A change that waits.
pub(crate) struct Waiting {
    change: Change,
    tell: oneshot::Sender<Result<Option<String>, NotChanged>>,
}

/// A change of one subscription.
enum Change {
    Create(Map<String, Value>, Option<String>),
    Patch(Target, Map<String, Value>),
    Rotate(Target, Rotation),
    /// Of one that is disabled as being removed.
    Remove(String),
}

/// Which subscription is to be changed, and by whom.
struct Target {
    name: String,
    versions: Option<Vec<Version>>,
    bound: Option<String>,
}

/// What a batch of changes makes of the names that it touches.
type Touched = BTreeMap<String, Option<(Definition, Authored)>>;

impl Inner {
    /// Makes `settings` what the engine goes by for the first time, and ends what was begun before the start.
    pub(crate) async fn begin(self: &Arc<Self>, settings: Settings) -> Result<(), StoreError> {
        let mut begun = self.desk.outbox.roll().await?.subscriptions;
        begun.retain(|s| s.standing == Standing::Disabled(DELETED.to_owned()));
        if !begun.is_empty() {
            // Before anything is enrolled, so that none of these names goes to another with what this one was owed. Its
            // definition may be gone already, and the account not marked.
            let removals = begun.iter().map(|s| Define::Remove(s.name.clone())).collect();
            if let Err(error) = self.desk.outbox.define(removals).await {
                tracing::warn!(%error, "removals are not carried through; the next start will");
                begun.clear();
            }
        }
        self.reload(settings).await?;
        for Subscribed { id, name, .. } in begun {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = inner.cancel_all(id).await {
                    tracing::warn!(subscription = name, %error, "what it was owed is left to the upkeep");
                }
            });
        }
        self.resume_replays().await
    }

    /// The subscriptions of `settings` and those that the outbox keeps.
    pub(crate) async fn gathered(
        &self,
        mut settings: Settings,
        changing: &mut Changing,
    ) -> Result<Gathered, StoreError> {
        let configured = std::mem::take(&mut settings.subscriptions).into_iter();
        let mut roster = Roster { settings, subscriptions: configured.map(Arc::new).collect() };
        roster.subscriptions.sort_by(|a, b| a.name.cmp(&b.name));
        let mut faults = Vec::new();
        let Some(author) = roster.settings.author.clone() else { return Ok(Gathered { roster, faults }) };
        self.read_kept(changing).await?;
        let resealed: Vec<_> = changing.kept.values().filter_map(|kept| author.reseal(kept)).collect();
        if !resealed.is_empty() {
            tracing::info!(subscriptions = resealed.len(), "to be sealed again under the encryption key of now");
            // A full disk keeps nobody from delivering: they are opened by the key of before, and tried again with the next
            // reload or start.
            match self.desk.outbox.define(resealed.iter().cloned().map(Define::Put).collect()).await {
                Ok(()) => changing.kept.extend(resealed.into_iter().map(|d| (d.name.clone(), d))),
                Err(error) => tracing::error!(%error, "not sealed again: the previous key is needed still"),
            }
        }
        let mut kept = Vec::with_capacity(changing.kept.len());
        for definition in changing.kept.values() {
            if roster.find(&definition.name).is_some() {
                tracing::warn!(subscription = definition.name, "stands in the configuration too, which counts");
                continue;
            }
            let Authored { subscription, fault } = author.read(definition);
            faults.extend(fault.map(|fault| (definition.name.clone(), fault)));
            kept.push(Arc::new(subscription));
        }
        roster.subscriptions.append(&mut kept);
        roster.subscriptions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Gathered { roster, faults })
    }

    async fn read_kept(&self, changing: &mut Changing) -> Result<(), StoreError> {
        if !changing.is_read || changing.is_stale {
            let kept = self.desk.outbox.definitions().await?;
            changing.kept = kept.into_iter().map(|d| (d.name.clone(), d)).collect();
            changing.is_read = true;
        }
        Ok(())
    }

    /// Disables those that cannot run; one that takes nothing already keeps its reason. One that could not be disabled says
    /// so itself when it is first to deliver.
    pub(crate) async fn disable_faulty(&self, faults: Vec<(String, String)>, roll: &Roll) {
        if faults.is_empty() {
            return;
        }
        let numbers: HashMap<_, _> = roll.subscriptions.iter().map(|s| (s.name.as_str(), s)).collect();
        let mut disabling = Vec::new();
        for (name, fault) in faults {
            let Some(found) = numbers.get(name.as_str()) else { continue };
            tracing::error!(subscription = name, fault, "this subscription cannot run; what it is owed is held");
            if found.standing == Standing::Active {
                let _the_engine_ends = self.scheduler.send(Hold { subscription: found.id, active: false }).await;
                disabling.push(async move {
                    if let Err(error) = self.desk.outbox.set_standing(found.id, Standing::Disabled(fault)).await {
                        tracing::error!(subscription = name, %error, "it is not disabled");
                    }
                });
            }
        }
        // Together, so that they become durable together: with a lost key it is all of them.
        stream::iter(disabling).buffer_unordered(DISABLING_MAX).collect::<()>().await;
    }

    pub(crate) async fn put(&self, PutSubscription { put, bound }: PutSubscription) -> Result<Changed, NotChanged> {
        let (name, change) = match put {
            Put::Create(settings) => {
                let name = settings.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                (name, Change::Create(settings, bound))
            }
            Put::Change { name, patch, versions } => {
                (name.clone(), Change::Patch(Target { name, versions, bound }, patch))
            }
        };
        self.changed(&name, change).await
    }

    pub(crate) async fn rotate(&self, rotate: RotateSecret) -> Result<Changed, NotChanged> {
        let RotateSecret { subscription: name, rotation, versions, bound } = rotate;
        self.changed(&name.clone(), Change::Rotate(Target { name, versions, bound }, rotation)).await
    }

    async fn changed(&self, name: &str, change: Change) -> Result<Changed, NotChanged> {
        let secret = self.change(change).await?;
        // Somebody else may have removed it since.
        let view = self.view(name).await?.ok_or(NotChanged::Unknown)?;
        Ok(Changed { view, secret })
    }

    pub(crate) async fn remove(&self, remove: RemoveSubscription) -> Result<(), NotChanged> {
        let RemoveSubscription { subscription: name, versions, bound } = remove;
        let mut changing = self.changing.lock().await;
        self.catch_up(&mut changing).await?;
        let roster = self.roster();
        if roster.settings.author.is_none() {
            return Err(NotChanged::NotKept);
        }
        self.read_kept(&mut changing).await?;
        let target = Target { name, versions, bound };
        sought(&target, &roster, &changing, &Touched::new())?;
        let name = target.name;
        // From here on nothing is sent to it; and whatever ends this now, the next start carries it through.
        let Some(Subscribed { id, .. }) = self.subscribed(&name).await? else { return Err(NotChanged::Unknown) };
        self.scheduler.send(Hold { subscription: id, active: false }).await.map_err(gone)?;
        self.desk.outbox.set_standing(id, Standing::Disabled(DELETED.to_owned())).await?;
        changing.leaving.insert(name.clone());
        drop(changing);
        let done = self.carry_out(&name, id).await;
        self.changing.lock().await.leaving.remove(&name);
        done
    }

    /// Carries a removal through: what is owed is cancelled before the definition goes, so that a crash in between leaves
    /// nothing that a later one of that name would get; and again what was recorded meanwhile.
    async fn carry_out(&self, name: &str, id: SubscriptionId) -> Result<(), NotChanged> {
        self.cancel_all(id).await?;
        self.change(Change::Remove(name.to_owned())).await?;
        Ok(self.cancel_all(id).await?)
    }

    async fn cancel_all(&self, id: SubscriptionId) -> Result<(), StoreError> {
        loop {
            let piece = self.desk.outbox.cancel_owed(id, DELETED.to_owned()).await?;
            if !piece.more || piece.count == 0 {
                return Ok(());
            }
        }
    }

    /// Makes a change, together with all that wait; a secret that was made for it.
    async fn change(&self, change: Change) -> Result<Option<String>, NotChanged> {
        let (tell, told) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING_MAX {
                return Err(NotChanged::Busy);
            }
            waiting.push(Waiting { change, tell });
        }
        let mut changing = self.changing.lock().await;
        // Empty where whoever held the lock before took this one along.
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if !waiting.is_empty() {
            self.make(&mut changing, waiting).await;
        }
        drop(changing);
        told.await.unwrap_or(Err(NotChanged::Store(StoreError::Closed)))
    }

    async fn make(&self, changing: &mut Changing, waiting: Vec<Waiting>) {
        if let Err(error) = self.catch_up(changing).await {
            return waiting.into_iter().for_each(|w| answer(w.tell, Err(error.clone().into())));
        }
        let roster = self.roster();
        let Some(author) = roster.settings.author.clone() else {
            return waiting.into_iter().for_each(|w| answer(w.tell, Err(NotChanged::NotKept)));
        };
        if let Err(error) = self.read_kept(changing).await {
            return waiting.into_iter().for_each(|w| answer(w.tell, Err(error.clone().into())));
        }
        let (mut touched, mut defines, mut made) = (Touched::new(), Vec::new(), Vec::new());
        for Waiting { change, tell } in waiting {
            match self.judge(change, &*author, &roster, changing, &mut touched, &mut defines) {
                Ok(secret) => made.push((tell, secret)),
                Err(why) => answer(tell, Err(why)),
            }
        }
        // Changed in place where nobody looks at it.
        drop(roster);
        let done = if defines.is_empty() { Ok(()) } else { self.take_effect(changing, touched, defines).await };
        for (tell, secret) in made {
            answer(tell, done.clone().map(|()| secret).map_err(NotChanged::Store));
        }
    }

    /// Goes by what the outbox keeps, where a change was written and did not take effect.
    async fn catch_up(&self, changing: &mut Changing) -> Result<(), StoreError> {
        if !changing.is_stale {
            return Ok(());
        }
        let roster = self.roster();
        let configured = roster.subscriptions.iter().filter(|s| s.source == Source::Config);
        let subscriptions = configured.map(|s| Subscription::clone(s)).collect();
        let settings = Settings { subscriptions, ..roster.settings.clone() };
        drop(roster);
        let Gathered { roster, faults } = self.gathered(settings, changing).await?;
        let roll = self.apply(changing, roster).await?;
        changing.is_stale = false;
        self.disable_faulty(faults, &roll).await;
        changing.silence.note(&self.roster(), &roll);
        Ok(())
    }

    /// Judges one change; what it makes is added to what the batch touches and writes.
    fn judge(
        &self,
        change: Change,
        author: &dyn Author,
        roster: &Roster,
        changing: &Changing,
        touched: &mut Touched,
        defines: &mut Vec<Define>,
    ) -> Result<Option<String>, NotChanged> {
        let draft = match change {
            Change::Create(settings, bound) => {
                let settings = match bound {
                    Some(tenant) => bind(settings, &tenant)?,
                    None => settings,
                };
                let draft = author.create(settings)?;
                let name = draft.definition.name.as_str();
                // One that goes with this very batch is not gone yet.
                if touched.contains_key(name) || changing.kept.contains_key(name) || roster.find(name).is_some() {
                    return Err(NotChanged::Exists);
                }
                let added = touched.values().filter(|t| t.is_some()).count();
                if changing.kept.len() + added >= DEFINITIONS_MAX {
                    return Err(NotChanged::TooMany(DEFINITIONS_MAX));
                }
                draft
            }
            Change::Patch(target, patch) => {
                let kept = sought(&target, roster, changing, touched)?;
                if let (Some(tenant), Some(named)) = (&target.bound, patch.get("tenant"))
                    && named.as_str() != Some(tenant)
                {
                    return Err(NotChanged::Foreign);
                }
                let draft = author.change(kept, patch)?;
                // Nothing is changed, so nothing is written.
                if draft.definition == *kept {
                    return Ok(None);
                }
                draft
            }
            Change::Rotate(target, rotation) => {
                let kept = sought(&target, roster, changing, touched)?;
                author.rotate(kept, rotation, self.desk.clock.wall())?
            }
            Change::Remove(name) => {
                defines.push(Define::Remove(name.clone()));
                touched.insert(name, None);
                return Ok(None);
            }
        };
        let Draft { definition, authored, secret } = draft;
        defines.push(Define::Put(definition.clone()));
        touched.insert(definition.name.clone(), Some((definition, authored)));
        Ok(secret)
    }

    /// Writes the definitions, and then goes by them.
    async fn take_effect(
        &self,
        changing: &mut Changing,
        touched: Touched,
        defines: Vec<Define>,
    ) -> Result<(), StoreError> {
        // Read anew where it is not known what was written, or what was does not take effect.
        changing.is_stale = true;
        self.desk.outbox.define(defines).await?;
        let (mut changes, mut faults) = (Changes::new(), Vec::new());
        for (name, becomes) in touched {
            let Some((definition, Authored { subscription, fault })) = becomes else {
                changing.kept.remove(&name);
                // The configuration may have taken the name meanwhile.
                if self.roster().find(&name).is_some_and(|s| s.source != Source::Config) {
                    changes.insert(name, None);
                }
                continue;
            };
            faults.extend(fault.map(|fault| (name.clone(), fault)));
            changing.kept.insert(name.clone(), definition);
            changes.insert(name, Some(Arc::new(subscription)));
        }
        let takes: Vec<_> = changes.iter().map(|(name, now)| (name.clone(), now.as_ref().map(|s| s.takes))).collect();
        let roll = self.amend(changing, changes).await?;
        changing.is_stale = false;
        self.disable_faulty(faults, &roll).await;
        changing.silence.note_some(takes, &roll);
        Ok(())
    }
}

/// What an engine is to go by, and who of it cannot run.
pub(crate) struct Gathered {
    pub(crate) roster: Roster,
    /// Names and reasons.
    pub(crate) faults: Vec<(String, String)>,
}

fn answer(tell: oneshot::Sender<Result<Option<String>, NotChanged>>, answer: Result<Option<String>, NotChanged>) {
    let _nobody_waits = tell.send(answer);
}

/// What is kept of the subscription that somebody wants to change.
fn sought<'a>(
    target: &Target,
    roster: &Roster,
    changing: &'a Changing,
    touched: &'a Touched,
) -> Result<&'a Definition, NotChanged> {
    let name = target.name.as_str();
    let running = match touched.get(name) {
        Some(becomes) => becomes.as_ref().map(|(_, authored)| &authored.subscription),
        None => roster.find(name).map(|s| &**s),
    };
    let running = running.ok_or(NotChanged::Unknown)?;
    if target.bound.is_some() && target.bound != running.tenant {
        return Err(NotChanged::Unknown);
    }
    let Source::Api(version) = running.source else { return Err(NotChanged::Configured) };
    let kept = match touched.get(name) {
        Some(becomes) => becomes.as_ref().map(|(definition, _)| definition),
        None => changing.kept.get(name),
    };
    let kept = kept.filter(|_| !changing.leaving.contains(name)).ok_or(NotChanged::Unknown)?;
    match &target.versions {
        Some(versions) if !versions.contains(&version) => Err(NotChanged::Version(version)),
        _ => Ok(kept),
    }
}

/// The settings with the tenant that their caller is bound to.
fn bind(mut settings: Map<String, Value>, tenant: &str) -> Result<Map<String, Value>, NotChanged> {
    match settings.get("tenant") {
        Some(named) if named.as_str() != Some(tenant) => Err(NotChanged::Foreign),
        _ => {
            settings.insert("tenant".to_owned(), tenant.into());
            Ok(settings)
        }
    }
}
