//! Which subscriptions an event is for.

mod targets;

pub use targets::Targets;

use crate::builtin::{OURS, is_ours};
use crate::catalogue::numbers::compare;
use crate::filter::{Filter, Subject};
use crate::payload::{Payloads, Takes};
use crate::{Facts, Pattern, SubscriptionId};
use serde_json::Value;

/// What a subscription asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selector {
    /// Types; none: every event.
    pub events: Vec<Pattern>,
    /// Equality on paths of the notification payload: all must hold.
    pub wheres: Vec<Where>,
    /// An expression that must hold.
    pub filter: Option<Filter>,
    /// The tenant's events only.
    pub tenant: Option<String>,
}

/// One condition of a `where` table.
#[derive(Debug, Clone, PartialEq)]
pub struct Where {
    /// The path's names, from the top of `data`.
    pub path: Vec<String>,
    /// A string, a number or a boolean.
    pub equals: Value,
}

impl Where {
    /// A condition on a path such as `project.uuid`.
    #[must_use]
    pub fn new(path: &str, equals: Value) -> Self {
        Self { path: path.split('.').map(str::to_owned).collect(), equals }
    }

    fn holds(&self, data: &Value) -> bool {
        let found = self.path.iter().try_fold(data, |at, name| at.get(name));
        found.is_some_and(|found| same(found, &self.equals))
    }
}

/// Whether a `where` takes these for equal. 1 and 1.0 are the same number; whole numbers of 64 bits are told apart to
/// the last digit.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).is_eq(),
        (a, b) => a == b,
    }
}

impl Selector {
    /// Whether an event is meant. The daemon's own are meant only by a pattern that begins with `posthaste`.
    #[must_use]
    pub fn wants(&self, subject: &Subject<'_>) -> bool {
        let facts = subject.facts();
        self.wants_type(facts.event_type.as_str())
            && self.tenant.as_ref().is_none_or(|t| facts.tenant.as_ref() == Some(t))
            && self.wheres.iter().all(|w| w.holds(subject.data()))
            && self.filter.as_ref().is_none_or(|f| f.holds(subject))
    }

    /// Whether the type alone is meant.
    #[must_use]
    pub fn wants_type(&self, event_type: &str) -> bool {
        let ours = is_ours(event_type);
        let meant = |p: &Pattern| (!ours || p.begins_with(OURS)) && p.matches(event_type);
        if self.events.is_empty() { !ours } else { self.events.iter().any(meant) }
    }
}

/// A subscription that takes new events, as matching sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// To whom.
    pub id: SubscriptionId,
    /// What it asks for.
    pub selector: Selector,
    /// Which payload its deliveree takes: it is owed no event that has none of that kind.
    pub takes: Takes,
}

/// Whether an event is owed to a subscription, by one of the things that it asks for.
fn is_owed(target: &Target, subject: &Subject<'_>, payloads: &Payloads) -> bool {
    let has = match target.takes {
        Takes::Notification => payloads.notification().is_some(),
        Takes::Telemetry => payloads.has_telemetry(),
    };
    has && target.selector.wants(subject)
}

/// Every subscription of these that an event is owed to, ascending; each of them is asked.
#[must_use]
pub fn owed<'a>(
    targets: impl IntoIterator<Item = &'a Target>,
    facts: &Facts,
    data: &Value,
    payloads: &Payloads,
) -> Vec<SubscriptionId> {
    let subject = Subject::new(facts, data);
    let wanting = targets.into_iter().filter(|t| is_owed(t, &subject, payloads));
    let mut ids: Vec<_> = wanting.map(|t| t.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventType, Origin, Timestamp};
    use serde_json::json;

    fn facts(event_type: &str, tenant: Option<&str>) -> Facts {
        Facts {
            event_type: EventType::parse(event_type).unwrap(),
            key: None,
            tenant: tenant.map(str::to_owned),
            origin: Origin::Record,
            occurred_at: None,
            recorded_at: Timestamp::from_millis(0),
        }
    }

    fn selector(events: &[&str]) -> Selector {
        Selector { events: events.iter().map(|p| Pattern::parse(p).unwrap()).collect(), ..Selector::default() }
    }

    #[test]
    fn the_daemons_own_events_go_only_to_those_that_name_them() {
        let started = facts("posthaste:daemon:started", None);
        for (patterns, wanted) in [
            (&["**"][..], false),
            (&[], false),
            (&["*:daemon:started"], false),
            (&["posthaste:**"], true),
            (&["posthaste:daemon:started"], true),
            (&["**", "posthaste:delivery:*"], false),
        ] {
            assert_eq!(selector(patterns).wants(&Subject::new(&started, &json!({}))), wanted, "{patterns:?}");
        }
    }

    #[test]
    fn every_where_must_hold_and_types_of_values_count() {
        let data = json!({"project": {"uuid": "p1", "size": 3, "open": true}});
        let wants = |path, equals| {
            let selector = Selector { wheres: vec![Where::new(path, equals)], ..Selector::default() };
            selector.wants(&Subject::new(&facts("a", None), &data))
        };
        assert!(
            wants("project.uuid", json!("p1")) && wants("project.size", json!(3)) && wants("project.size", json!(3.0))
        );
        assert!(wants("project.open", json!(true)));
        assert!(
            !wants("project.size", json!("3"))
                && !wants("project.open", json!("true"))
                && !wants("project.name", json!("x"))
        );
        assert!(!wants("project", json!("p1")) && !wants("uuid", json!("p1")));
    }

    #[test]
    fn large_whole_numbers_are_told_apart_to_the_last_digit() {
        let data = json!({"id": 9_007_199_254_740_992_i64, "last": u64::MAX});
        let wants = |path, equals| Where::new(path, equals).holds(&data);
        assert!(!wants("id", json!(9_007_199_254_740_993_i64)) && !wants("last", json!(u64::MAX - 1)));
        assert!(wants("id", json!(9_007_199_254_740_992_i64)) && wants("last", json!(u64::MAX)));
        assert!(wants("id", json!(9_007_199_254_740_992.0)), "the same number, written as a float");
    }

    #[test]
    fn a_tenants_subscription_gets_its_own_events_only() {
        let s = Selector { tenant: Some("acme".into()), ..Selector::default() };
        let wants = |tenant| s.wants(&Subject::new(&facts("a", tenant), &json!({})));
        assert!(wants(Some("acme")) && !wants(Some("other")) && !wants(None));
    }
}
