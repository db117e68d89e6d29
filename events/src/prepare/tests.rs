//! What is prepared: bodies, refusals, matching again, quarantine.

use super::*;
use crate::EventType;
use crate::catalogue::Undeclared;
use crate::catalogue::declare::{Declarations, FieldDeclaration, FieldKind, Rule};
use crate::matching::Target;

const NOW: i64 = 1_732_000_000_000;

fn snapshot() -> Snapshot {
    let mut declarations = Declarations::of_types(&["a:b"]);
    let kinds = [("s", FieldKind::String), ("n", FieldKind::Number), ("deep", FieldKind::Array)];
    declarations.events[0].fields = kinds.map(|(path, kind)| FieldDeclaration::new(path, kind)).into();
    let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).unwrap();
    Snapshot { catalogue, ..Snapshot::default() }
}

fn draft(event_type: &str, properties: &str) -> Draft {
    Draft { properties: properties.into(), ..Draft::new(EventType::parse(event_type).unwrap()) }
}

fn prepare(draft: Draft) -> Result<Prepared, Unfit> {
    snapshot().prepare(draft, Timestamp::from_millis(NOW))
}

#[test]
fn the_body_is_type_timestamp_and_data() {
    let prepared = prepare(draft("a:b", r#"{"n":1.50,"s":"\u00e9"}"#)).unwrap();
    let body = prepared.payloads.notification().unwrap();
    assert_eq!(body, r#"{"type":"a:b","timestamp":"2024-11-19T07:06:40.000Z","data":{"n":1.50,"s":"\u00e9"}}"#);
}

#[test]
fn undeclared_types_and_ours_are_refused() {
    assert!(matches!(prepare(draft("a:c", "{}")), Err(Unfit::Refused(Refused::Undeclared(_)))));
    assert!(matches!(prepare(draft("posthaste:test", "{}")), Err(Unfit::Refused(Refused::Ours))));
}

#[test]
fn properties_that_are_no_object_or_too_long_are_refused() {
    for properties in ["[]", "1", "null", "{", "\"x\""] {
        assert_eq!(prepare(draft("a:b", properties)), Err(Unfit::NotAnObject), "{properties}");
    }
    let long = format!(r#"{{"s":"{}"}}"#, "y".repeat(PAYLOAD_MAX));
    assert!(matches!(prepare(draft("a:b", &long)), Err(Unfit::TooLarge(_))));
}

#[test]
fn an_event_as_deep_as_is_read_is_matched_again_like_any_other() {
    let deep = format!(r#"{{"s":"x","deep":{}{}}}"#, "[".repeat(126), "]".repeat(126));
    let prepared = prepare(draft("a:b", &deep)).unwrap();
    let wheres = vec![crate::matching::Where::new("s", Value::from("x"))];
    let selector = crate::matching::Selector { wheres, ..Default::default() };
    let target = Target { id: crate::SubscriptionId(7), selector, takes: crate::payload::Takes::Notification };
    let owed = Snapshot { targets: vec![target].into(), ..snapshot() }.rematch(prepared).owed;
    assert_eq!(owed, [crate::SubscriptionId(7)]);
}

/// A snapshot whose one type is for analytics alone, and whose one subscription wants a certain `s`.
fn silent() -> Snapshot {
    let mut declarations = Declarations::of_types(&["a:b"]);
    declarations.events[0].audience = Audience::Telemetry;
    declarations.events[0].fields = vec![FieldDeclaration::new("s", FieldKind::String)];
    let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).unwrap();
    let wheres = vec![crate::matching::Where::new("s", Value::from("x"))];
    let selector = crate::matching::Selector { wheres, ..Default::default() };
    let target = Target { id: crate::SubscriptionId(7), selector, takes: crate::payload::Takes::Telemetry };
    Snapshot {
        catalogue,
        targets: vec![target].into(),
        telemetry: Some(TelemetryPolicy::default()),
        ..Snapshot::default()
    }
}

#[test]
fn an_event_for_analytics_alone_is_matched_again_like_any_other() {
    for (properties, owed) in [(r#"{"s":"x"}"#, &[crate::SubscriptionId(7)][..]), (r#"{"s":"y"}"#, &[])] {
        let mut prepared = silent().prepare(draft("a:b", properties), Timestamp::from_millis(NOW)).unwrap();
        assert_eq!((prepared.payloads.notification(), &prepared.owed[..]), (None, owed));
        prepared.owed = vec![crate::SubscriptionId(1)];
        assert_eq!(silent().rematch(prepared).owed, owed);
    }
}

#[test]
fn an_event_for_analytics_alone_is_notified_to_nobody_though_it_is_quarantined() {
    let keeper = crate::SubscriptionId(9);
    let people = Target { id: crate::SubscriptionId(3), selector: Default::default(), takes: Default::default() };
    let snapshot = Snapshot { targets: vec![people].into(), quarantine: Some(keeper), ..silent() };
    let mut prepared = snapshot.prepare(draft("a:b", "{}"), Timestamp::from_millis(NOW)).unwrap();
    let body = notification(&prepared.facts, "{}");
    (prepared.payloads, prepared.quarantined) = (Payloads::built(Some(body), None), Some("it is too long".into()));
    assert_eq!(snapshot.rematch(prepared.clone()).owed, [keeper]);
    prepared.unnotified = None;
    assert_eq!(snapshot.rematch(prepared).owed, [crate::SubscriptionId(3), keeper], "the control is told to people");
}

#[test]
fn an_event_that_could_not_say_all_is_recorded_and_quarantined_until_its_type_takes_it_so() {
    let keeper = crate::SubscriptionId(9);
    let with = |required| {
        let mut declarations = Declarations::of_types(&["a:b"]);
        let field = FieldDeclaration { required, ..FieldDeclaration::new("s", FieldKind::String) };
        declarations.events[0].fields = vec![field];
        let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).unwrap();
        Snapshot { catalogue, quarantine: Some(keeper), targets: Targets::default(), ..silent() }
    };
    let now = Timestamp::from_millis(NOW);
    let failure = Failure { who: "project", why: "the key Ada is not known".into() };
    let attempted = Attempted { draft: draft("a:b", "{}"), failure: Some(failure) };
    assert!(with(true).prepare(attempted.draft.clone(), now).is_err(), "as it is it does not fit");
    let prepared = with(true).prepare_attempted(attempted.clone(), now).unwrap();
    assert_eq!(
        (prepared.quarantined.as_deref(), &prepared.owed[..]),
        (Some("`project` could not say its values"), &[keeper][..])
    );
    let told = &prepared.payloads;
    let again = |required| with(required).prepare_again(EventId::new(1, 1, 1), &prepared.facts, told, now);
    assert!(again(true).unwrap_err().contains("/s"));
    assert!(again(false).unwrap().is_some());
    let off = Snapshot { telemetry: None, ..with(true) }.prepare_attempted(attempted, now).unwrap();
    assert_eq!((off.quarantined, off.owed), (None, vec![]));
}

#[test]
fn what_was_built_goes_no_further_once_telemetry_is_switched_off() {
    let prepared = silent().prepare(draft("a:b", r#"{"s":"x"}"#), Timestamp::from_millis(NOW)).unwrap();
    let off = Snapshot { telemetry: None, ..silent() }.rematch(prepared);
    assert_eq!((off.payloads.kept(), off.owed), (None, vec![]));
}

#[test]
fn what_was_quarantined_is_built_again_under_one_key_and_for_analytics_alone() {
    let (event, now) = (EventId::new(1_000, 1, 5), Timestamp::from_millis(NOW + 3_600_000));
    let first =
        Snapshot { targets: Targets::default(), ..snapshot() }.prepare(draft("a:b", "{}"), Timestamp::from_millis(NOW));
    let first = first.unwrap();
    let body = &first.payloads;
    let again = |snapshot: &Snapshot| snapshot.prepare_again(event, &first.facts, body, now);
    let built = again(&silent()).unwrap().unwrap();
    assert_eq!((built.payloads.notification(), built.facts.origin), (None, Origin::Relay));
    assert_eq!(built.payloads.told_to_analytics().unwrap().at, Timestamp::parse("2024-11-19T07:00:00Z").unwrap());
    assert_eq!(again(&silent()).unwrap().unwrap().idempotency, built.idempotency);
    assert_eq!(again(&Snapshot { telemetry: None, ..silent() }), Ok(None));
    let empty = Catalogue::compile(&Declarations::default(), Undeclared::Accept).unwrap();
    let undeclared = again(&Snapshot { catalogue: empty, ..silent() }).unwrap_err();
    assert!(undeclared.contains("a:b"), "{undeclared}");
}

#[test]
fn the_same_key_of_another_tenant_is_another_key() {
    let of = |tenant: Option<&str>, properties| {
        let mut d = draft("a:b", properties);
        (d.tenant, d.idempotency_key) = (tenant.map(str::to_owned), Some("k".into()));
        prepare(d).unwrap().idempotency.unwrap()
    };
    assert_ne!(of(None, "{}").key, of(Some(""), "{}").key);
    assert_ne!(of(Some("a"), "{}").key, of(Some("b"), "{}").key);
    assert_eq!(of(None, r#"{"n":1,"s":"2"}"#), of(None, r#"{"s":"2","n":1}"#));
    assert_ne!(of(None, "{}").content, of(None, r#"{"n":1}"#).content);
}

/// A snapshot whose one type has a required field that is telemetry's alone, and a Rust event of it that failed.
fn half_hidden(keeper: crate::SubscriptionId) -> (Snapshot, Attempted) {
    let mut declarations = Declarations::of_types(&["a:b"]);
    let hidden = FieldDeclaration {
        required: true,
        audience: Audience::Telemetry,
        rule: crate::catalogue::declare::Rule::LengthBucket(vec![1, 10]),
        ..FieldDeclaration::new("s", FieldKind::String)
    };
    declarations.events[0].fields = vec![hidden, FieldDeclaration::new("n", FieldKind::Number)];
    let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).unwrap();
    let wheres = vec![crate::matching::Where::new("n", Value::from(1))];
    let selector = crate::matching::Selector { wheres, ..Default::default() };
    let target = |id, takes| Target { id: crate::SubscriptionId(id), selector: selector.clone(), takes };
    let targets = vec![target(3, crate::payload::Takes::Notification), target(7, crate::payload::Takes::Telemetry)];
    let failure = Some(Failure { who: "clock", why: "it stood still".into() });
    let attempted = Attempted { draft: draft("a:b", r#"{"n":1,"s":"CANARY"}"#), failure };
    (Snapshot { catalogue, targets: targets.into(), quarantine: Some(keeper), ..silent() }, attempted)
}

#[test]
fn what_is_telemetrys_alone_outlives_the_quarantine_and_reaches_nobody_before() {
    use crate::deliveree::Told;
    use crate::{Anonymous, DeliveryId, Installation, Payload as _, SubscriptionId};
    let keeper = SubscriptionId(9);
    let (snapshot, attempted) = half_hidden(keeper);
    let now = Timestamp::from_millis(NOW);
    let prepared = snapshot.prepare_attempted(attempted, now).unwrap();
    assert_eq!(prepared.owed, [SubscriptionId(3), keeper], "analytics is owed nothing");
    assert_eq!(snapshot.rematch(prepared.clone()).owed, prepared.owed);
    let event = EventId::new(1_000, 1, 5);
    let Prepared { facts, payloads, .. } = prepared.clone();
    let told = Told { id: DeliveryId { event, subscription: keeper }, facts: Arc::clone(&facts) };
    let holds = |bytes: &[u8]| bytes.windows(6).any(|w| w == b"CANARY");
    assert!(holds(payloads.kept().unwrap()), "it is kept");
    assert!(!holds(payloads.notification().unwrap()) && payloads.len_of(crate::payload::Takes::Telemetry) == 0);
    assert!(payloads.told_to_analytics().is_none() && !payloads.has_telemetry());
    assert!(Anonymous::of(&payloads, told.clone(), &Installation::new(&[7; 32])).is_none());

    let again = snapshot.prepare_again(event, &facts, &payloads, now).unwrap().unwrap();
    let body = again.payloads.told_to_analytics().unwrap().body;
    assert_eq!(body, r#"{"event":"a:b","event_properties":{},"derived_properties":{"s_length_bucket":"1..10"}}"#);
    assert_eq!(again.owed, [SubscriptionId(7)]);
    assert_eq!(snapshot.rematch(again.clone()).owed, again.owed);
    assert!(!format!("{:?}", again.unnotified).contains("CANARY"), "it is matched by what a notification tells");
    assert!(Anonymous::of(&again.payloads, told, &Installation::new(&[7; 32])).is_some());
    // The notification alone would never do.
    let without = Payloads::built(payloads.notification().cloned(), None);
    assert!(snapshot.prepare_again(event, &facts, &without, now).unwrap_err().contains("/s"));

    let off = Snapshot { telemetry: None, ..snapshot }.rematch(prepared);
    assert_eq!(off.payloads.kept(), None, "switched off meanwhile, nothing is kept to build from");
}

#[test]
fn what_was_built_by_the_rules_of_before_leaves_by_those_of_now() {
    let by = |rule: Option<Rule>| {
        let mut declarations = Declarations::of_types(if rule.is_some() { &["a:b"] } else { &["a:c"] });
        let kept = FieldDeclaration { rule: Rule::Keep, ..FieldDeclaration::new("kept", FieldKind::Boolean) };
        let field =
            FieldDeclaration { rule: rule.unwrap_or_default(), ..FieldDeclaration::new("b", FieldKind::Boolean) };
        declarations.events[0].fields = vec![kept, field];
        let catalogue = Catalogue::compile(&declarations, Undeclared::Accept).unwrap();
        Snapshot { catalogue, targets: Targets::default(), ..silent() }
    };
    let before = by(Some(Rule::Keep));
    let prepared = before.prepare(draft("a:b", r#"{"b":true,"kept":true}"#), Timestamp::from_millis(NOW)).unwrap();
    let after = |snapshot: &Snapshot| snapshot.rematch(prepared.clone()).payloads;
    assert_eq!(after(&before), prepared.payloads, "the control: the same rules");
    let dropped = after(&by(Some(Rule::Drop)));
    let body = dropped.told_to_analytics().unwrap().body;
    assert_eq!(body, r#"{"event":"a:b","event_properties":{"kept":true},"derived_properties":{}}"#);
    assert_eq!(dropped.notification(), prepared.payloads.notification());
    assert_eq!(after(&by(None)).told_to_analytics(), None, "the type is gone");
    let day = TelemetryPolicy { time_grain: Duration::from_secs(24 * 60 * 60) };
    let coarser = after(&Snapshot { telemetry: Some(day), ..by(Some(Rule::Keep)) });
    assert_eq!(coarser.told_to_analytics().unwrap().at, Timestamp::parse("2024-11-19T00:00:00Z").unwrap());
}

#[test]
fn the_same_key_of_a_relayed_event_is_another_key() {
    let now = Timestamp::from_millis(NOW);
    let mut own = draft("a:b", "{}");
    own.idempotency_key = Some("order-1".into());
    let relayed = RelayDraft {
        event_type: own.event_type.clone(),
        properties: Value::Object(serde_json::Map::new()),
        derived_properties: Value::Object(serde_json::Map::new()),
        idempotency_key: own.idempotency_key.clone(),
        tenant: None,
    };
    let brought = || silent().prepare_relayed(relayed.clone(), now).unwrap().prepared.idempotency.unwrap();
    assert_ne!(silent().prepare(own, now).unwrap().idempotency.unwrap().key, brought().key);
    assert_eq!(brought(), brought(), "the control: the relay's own repetition is one");
}
