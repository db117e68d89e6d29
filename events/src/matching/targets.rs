//! The subscriptions that take new events, found by what they ask for, so that thousands cost a record nothing that are for
//! another tenant, another kind of events or another entity.
//!
//! An index gives candidates, never fewer than want the event; each of them is then asked, as without an index.

use super::{Selector, Target, is_owed};
use crate::filter::Subject;
use crate::payload::Payloads;
use crate::{Facts, SubscriptionId};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// The subscriptions that take new events. Made once for a set of them; matching reads it only.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// By number, ascending; of one with several selectors, one behind the other.
    all: Vec<Target>,
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
    fn from(mut all: Vec<Target>) -> Self {
        // Stable: the selectors of one are asked in their order.
        all.sort_by_key(|target| target.id);
        let mut targets = Self { all: Vec::new(), ..Self::default() };
        for (place, target) in (0..).zip(&all) {
            let group = match &target.selector.tenant {
                Some(tenant) => targets.by_tenant.entry(tenant.clone()).or_default(),
                None => &mut targets.any,
            };
            group.put(place, &target.selector);
        }
        targets.all = all;
        targets
    }
}

/// What they were made of is all that they are.
impl PartialEq for Targets {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Targets {
    /// Every subscription that an event is owed to, ascending.
    #[must_use]
    pub fn owed(&self, facts: &Facts, data: &Value, payloads: &Payloads) -> Vec<SubscriptionId> {
        let subject = Subject::new(facts, data);
        let mut candidates = Vec::new();
        self.any.candidates(facts, data, &mut candidates);
        if let Some(group) = facts.tenant.as_ref().and_then(|tenant| self.by_tenant.get(tenant)) {
            group.candidates(facts, data, &mut candidates);
        }
        // Several patterns of one can fit. In their order, since filters share what work one event may cost.
        candidates.sort_unstable();
        candidates.dedup();
        let places = candidates.into_iter().filter_map(|place| self.all.get(place as usize));
        let mut ids: Vec<_> = places.filter(|t| is_owed(t, &subject, payloads)).map(|t| t.id).collect();
        ids.dedup();
        ids
    }

    /// What one subscription asks for: several are OR-ed; none where it takes no new events.
    #[must_use]
    pub fn of(&self, id: SubscriptionId) -> &[Target] {
        let first = self.all.partition_point(|target| target.id < id);
        let end = self.all.partition_point(|target| target.id <= id);
        self.all.get(first..end).unwrap_or_default()
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
            all in proptest::collection::vec(target(), 0..40), at in 0..TYPES.len(), tenant in tenant(),
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
            let targets = Targets::from(all.clone());
            prop_assert_eq!(targets.owed(&facts, &data, &payloads), owed(&all, &facts, &data, &payloads));
            for id in (0..13).map(SubscriptionId) {
                let of: Vec<_> = all.iter().filter(|target| target.id == id).cloned().collect();
                prop_assert_eq!(targets.of(id), of);
            }
        }
    }
}
