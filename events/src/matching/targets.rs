//! The subscriptions that take new events, found by what they ask for, so that thousands cost a record nothing that are for
//! another tenant, another kind of events or another entity.
//!
//! An index gives candidates, never fewer than want the event; each of them is then asked, as without an index. A change
//! of a few makes a small second index of what changed, beside a shared one of all the others, so that it costs nothing
//! that goes by how many there are; now and then the two are made one.

use super::{Selector, Target, is_owed};
use crate::filter::Subject;
use crate::payload::Payloads;
use crate::{Facts, SubscriptionId};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How much may have changed before one index is made of all: targets beside it, and subscriptions that it has no more.
const CHANGED_MAX: usize = 256;

/// The subscriptions that take new events. Matching reads it only; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// Most of them.
    settled: Arc<Index>,
    /// Those of whom `settled` is not true any more, ascending.
    outdated: Vec<SubscriptionId>,
    /// What is true of them, where they ask for anything, and of those that came since.
    changed: Arc<Index>,
}

/// Targets, and where to find them.
#[derive(Debug, Default)]
struct Index {
    /// By number, ascending; of one with several selectors, one behind the other.
    all: Vec<Arc<Target>>,
    /// Those that take the events of every tenant.
    any: Group,
    by_tenant: HashMap<String, Group>,
}

/// Where a target stands in `all`.
type Place = u32;

/// Some targets by the types that they ask for.
#[derive(Debug, Clone, Default)]
struct Group {
    /// By a whole type.
    whole: HashMap<String, Bucket>,
    /// By the first segment of a type.
    first: HashMap<String, Bucket>,
    /// Those that a type says nothing of.
    rest: Bucket,
}

/// Some targets by the first string that they want to be somewhere in an event.
#[derive(Debug, Clone, Default)]
struct Bucket {
    by_where: BTreeMap<Vec<String>, HashMap<String, Vec<Place>>>,
    rest: Vec<Place>,
}

impl From<Vec<Target>> for Targets {
    fn from(all: Vec<Target>) -> Self {
        let settled = Index::of(all.into_iter().map(Arc::new).collect());
        Self { settled: Arc::new(settled), ..Self::default() }
    }
}

/// What they were made of is all that they are.
impl PartialEq for Targets {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

impl Targets {
    /// These with a few changed: `those` ask for `now` and nothing else from now on, which is nothing where it has none of
    /// theirs. What `now` has of others is ignored.
    ///
    /// It costs what goes by the changes, and by how many there are only once in some hundred changes.
    #[must_use]
    pub fn amended(&self, those: &[SubscriptionId], now: Vec<Target>) -> Self {
        let mut outdated = self.outdated.clone();
        outdated.extend(those);
        outdated.sort_unstable();
        outdated.dedup();
        let kept = self.changed.all.iter().filter(|target| !those.contains(&target.id)).cloned();
        let new = now.into_iter().filter(|target| those.contains(&target.id)).map(Arc::new);
        let changed: Vec<_> = kept.chain(new).collect();
        if outdated.len().max(changed.len()) <= CHANGED_MAX {
            return Self { settled: Arc::clone(&self.settled), outdated, changed: Arc::new(Index::of(changed)) };
        }
        let settled = self.settled.all.iter().filter(|target| outdated.binary_search(&target.id).is_err()).cloned();
        Self { settled: Arc::new(Index::of(settled.chain(changed).collect())), ..Self::default() }
    }

    /// Every subscription that an event is owed to, ascending.
    #[must_use]
    pub fn owed(&self, facts: &Facts, data: &Value, payloads: &Payloads) -> Vec<SubscriptionId> {
        let subject = Subject::new(facts, data);
        let mut candidates = self.settled.candidates(facts, data);
        candidates.retain(|target| self.is_settled(target.id));
        candidates.extend(self.changed.candidates(facts, data));
        // In their order, since filters share what work one event may cost. Stable: the selectors of one are asked in theirs.
        candidates.sort_by_key(|target| target.id);
        let owed = candidates.into_iter().filter(|target| is_owed(target, &subject, payloads));
        let mut ids: Vec<_> = owed.map(|target| target.id).collect();
        ids.dedup();
        ids
    }

    /// What one subscription asks for: several are OR-ed; none where it takes no new events.
    #[must_use]
    pub fn of(&self, id: SubscriptionId) -> &[Arc<Target>] {
        let index = if self.is_settled(id) { &self.settled } else { &self.changed };
        let first = index.all.partition_point(|target| target.id < id);
        let end = index.all.partition_point(|target| target.id <= id);
        index.all.get(first..end).unwrap_or_default()
    }

    fn is_settled(&self, id: SubscriptionId) -> bool {
        self.outdated.binary_search(&id).is_err()
    }

    fn all(&self) -> Vec<&Target> {
        let settled = self.settled.all.iter().filter(|target| self.is_settled(target.id));
        let mut all: Vec<&Target> = settled.chain(&self.changed.all).map(|target| &**target).collect();
        all.sort_by_key(|target| target.id);
        all
    }
}

impl Index {
    fn of(mut all: Vec<Arc<Target>>) -> Self {
        // Stable: the selectors of one are asked in their order.
        all.sort_by_key(|target| target.id);
        let mut index = Self::default();
        for (place, target) in (0..).zip(&all) {
            let group = match &target.selector.tenant {
                Some(tenant) => index.by_tenant.entry(tenant.clone()).or_default(),
                None => &mut index.any,
            };
            group.put(place, &target.selector);
        }
        Self { all, ..index }
    }

    /// Those that may want an event, each once, in order.
    fn candidates(&self, facts: &Facts, data: &Value) -> Vec<&Target> {
        let mut places = Vec::new();
        self.any.candidates(facts, data, &mut places);
        if let Some(group) = facts.tenant.as_ref().and_then(|tenant| self.by_tenant.get(tenant)) {
            group.candidates(facts, data, &mut places);
        }
        // Several patterns of one can fit.
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| Some(&**self.all.get(place as usize)?)).collect()
    }
}

impl Group {
    fn put(&mut self, place: Place, selector: &Selector) {
        if selector.events.is_empty() {
            self.rest.put(place, selector);
        }
        for pattern in &selector.events {
            let bucket = match (pattern.is_whole(), pattern.first()) {
                (true, _) => self.whole.entry(pattern.as_str().to_owned()).or_default(),
                (false, Some(first)) => self.first.entry(first.to_owned()).or_default(),
                (false, None) => &mut self.rest,
            };
            bucket.put(place, selector);
        }
    }

    fn candidates(&self, facts: &Facts, data: &Value, into: &mut Vec<Place>) {
        let event_type = facts.event_type.as_str();
        let first = event_type.split([':', '.']).next().unwrap_or_default();
        let buckets = [self.whole.get(event_type), self.first.get(first), Some(&self.rest)];
        buckets.into_iter().flatten().for_each(|bucket| bucket.candidates(data, into));
    }
}

impl Bucket {
    fn put(&mut self, place: Place, selector: &Selector) {
        // Of a number or a boolean many spellings are the same; strings are few or the same to the letter.
        let by_string = selector.wheres.iter().find_map(|w| Some((&w.path, w.equals.as_str()?)));
        match by_string {
            Some((path, wanted)) => {
                let values = self.by_where.entry(path.clone()).or_default();
                values.entry(wanted.to_owned()).or_default().push(place);
            }
            None => self.rest.push(place),
        }
    }

    fn candidates(&self, data: &Value, into: &mut Vec<Place>) {
        into.extend(&self.rest);
        for (path, values) in &self.by_where {
            let found = path.iter().try_fold(data, |at, name| at.get(name));
            into.extend(found.and_then(Value::as_str).and_then(|found| values.get(found)).into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Where, owed};
    use super::*;
    use crate::filter::Filter;
    use crate::payload::{Takes, Telemetry};
    use crate::{EventType, Origin, Pattern, Timestamp};
    use proptest::prelude::*;
    use serde_json::json;

    const PATTERNS: [&str; 12] =
        ["**", "*", "a", "a:**", "a:b", "a.b", "a:*", "*:b", "**:b", "posthaste:**", "posthaste:test", "b:**:c"];
    const TYPES: [&str; 8] = ["a", "a:b", "a.b", "a:b:c", "b:c", "b:x:c", "posthaste:test", "posthaste:daemon:started"];

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!("x")),
            Just(json!("y")),
            Just(json!("1")),
            Just(json!(1)),
            Just(json!(1.0)),
            Just(json!(true))
        ]
    }

    fn tenant() -> impl Strategy<Value = Option<String>> {
        prop_oneof![Just(None), Just(Some("acme".to_owned())), Just(Some("other".to_owned()))]
    }

    fn target() -> impl Strategy<Value = Target> {
        let wheres = proptest::collection::vec((prop_oneof![Just("s"), Just("o.s"), Just("none")], value()), 0..3);
        let events = proptest::collection::vec(0..PATTERNS.len(), 0..4);
        let filter = prop_oneof![3 => Just(None), 1 => Just(Some("has(data.s)"))];
        (0_u32..12, events, wheres, tenant(), filter, any::<bool>()).prop_map(
            |(id, events, wheres, tenant, filter, takes)| Target {
                id: SubscriptionId(id),
                selector: Selector {
                    events: events.into_iter().map(|at| Pattern::parse(PATTERNS[at]).unwrap()).collect(),
                    wheres: wheres.into_iter().map(|(path, equals)| Where::new(path, equals)).collect(),
                    filter: filter.map(|text| Filter::compile(text).unwrap()),
                    tenant,
                },
                takes: if takes { Takes::Notification } else { Takes::Telemetry },
            },
        )
    }

    proptest! {
        #[test]
        fn an_index_finds_exactly_what_asking_each_finds(
            all in proptest::collection::vec(target(), 0..40), changes in proptest::collection::vec(change(), 0..6),
            at in 0..TYPES.len(), tenant in tenant(),
            s in value(), inner in value(), told in any::<bool>(), measured in any::<bool>(),
        ) {
            let facts = Facts {
                event_type: EventType::parse(TYPES[at]).unwrap(),
                key: None,
                tenant,
                origin: Origin::Record,
                occurred_at: None,
                recorded_at: Timestamp::from_millis(0),
            };
            let data = json!({"s": s, "o": {"s": inner}});
            let telemetry = Telemetry { at: Timestamp::from_millis(0), body: "{}".into() };
            let payloads = Payloads::built(told.then(|| "{}".into()), Some(&telemetry).filter(|_| measured));
            let (mut all, mut targets) = (all.clone(), Targets::from(all));
            for (those, now) in std::iter::once((Vec::new(), Vec::new())).chain(changes) {
                targets = targets.amended(&those, now.clone());
                all.retain(|target| !those.contains(&target.id));
                all.extend(now.into_iter().filter(|target| those.contains(&target.id)));
                prop_assert_eq!(targets.owed(&facts, &data, &payloads), owed(&all, &facts, &data, &payloads));
                for id in (0..13).map(SubscriptionId) {
                    let of: Vec<_> = all.iter().filter(|target| target.id == id).collect();
                    let found: Vec<_> = targets.of(id).iter().map(|target| &**target).collect();
                    prop_assert_eq!(found, of);
                }
                prop_assert_eq!(&targets, &Targets::from(all.clone()));
            }
        }
    }

    /// Some subscriptions, and what they ask for from then on: of many at times, so that one index is made of all.
    fn change() -> impl Strategy<Value = (Vec<SubscriptionId>, Vec<Target>)> {
        let those = proptest::collection::vec((0_u32..12).prop_map(SubscriptionId), 0..4);
        let now = proptest::collection::vec(target(), 0..20);
        let many = prop_oneof![5 => Just(1), 1 => Just(CHANGED_MAX / 4)];
        (those, now, many).prop_map(|(those, now, times)| {
            let many = now.iter().flat_map(|target| std::iter::repeat_n(target, times)).cloned().collect();
            (those, many)
        })
    }

    #[test]
    fn a_change_of_one_among_ten_thousand_leaves_what_was_made_for_the_others() {
        let of = |id: u32, tenant: &str| Target {
            id: SubscriptionId(id),
            selector: Selector { tenant: Some(tenant.to_owned()), ..Selector::default() },
            takes: Takes::Notification,
        };
        let first = Targets::from((0..10_000).map(|id| of(id, "acme")).collect::<Vec<_>>());
        let mut targets = first.clone();
        let mut made_anew = 0;
        for id in 0..1_000 {
            let before = Arc::clone(&targets.settled);
            targets = targets.amended(&[SubscriptionId(id)], vec![of(id, "other")]);
            made_anew += usize::from(!Arc::ptr_eq(&before, &targets.settled));
            assert!(targets.changed.all.len().max(targets.outdated.len()) <= CHANGED_MAX);
        }
        assert_eq!(made_anew, 1_000 / CHANGED_MAX);
        assert_eq!(targets.of(SubscriptionId(999))[0].selector.tenant.as_deref(), Some("other"));
        assert_eq!(first.of(SubscriptionId(999))[0].selector.tenant.as_deref(), Some("acme"));
    }
}
