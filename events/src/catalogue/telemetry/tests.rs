//! Each rule by itself: what leaves, what does not, and where.

use crate::EventType;
use crate::catalogue::declare::{Declarations, EventDeclaration, FieldDeclaration, FieldKind, LENGTH_BUCKETS, Rule};
use crate::catalogue::{Catalogue, Declared, Undeclared};
use serde_json::{Number, Value, json};

fn field(path: &str, kind: FieldKind, rule: Rule) -> FieldDeclaration {
    FieldDeclaration { rule, ..FieldDeclaration::new(path, kind) }
}

fn words(path: &str, kind: FieldKind, rule: Rule, words: &[&str]) -> FieldDeclaration {
    FieldDeclaration { values: words.iter().map(|word| Value::from(*word)).collect(), ..field(path, kind, rule) }
}

fn bounded(path: &str, kind: FieldKind, rule: Rule, bounds: (Value, Value)) -> FieldDeclaration {
    let number = |value: Value| value.as_number().cloned();
    FieldDeclaration { minimum: number(bounds.0), maximum: number(bounds.1), ..field(path, kind, rule) }
}

fn numbers(bounds: &[f64]) -> Vec<Number> {
    bounds.iter().map(|bound| Number::from_f64(*bound).unwrap()).collect()
}

fn declared(fields: &[FieldDeclaration]) -> Declared {
    let event = EventDeclaration { name: "t".into(), fields: fields.to_vec(), ..EventDeclaration::default() };
    let declarations = Declarations { layers: Vec::new(), events: vec![event] };
    let catalogue = Catalogue::compile(&declarations, Undeclared::Reject).unwrap();
    catalogue.get(&EventType::parse("t").unwrap()).unwrap().clone()
}

/// What leaves, and that it is sorted, known to the relay and to nothing but the schema.
fn leaves(fields: &[FieldDeclaration], properties: Value) -> (Value, Value) {
    let (declared, event_type) = (declared(fields), EventType::parse("t").unwrap());
    assert_eq!(declared.check(&properties), [], "{properties}");
    let text = declared.telemetry(&event_type, &properties).unwrap();
    let [kept, derived] = trees(&text);
    assert_eq!(text, format!(r#"{{"event":"t","event_properties":{kept},"derived_properties":{derived}}}"#));
    assert_eq!(declared.relay(&event_type, &kept, &derived), (text.clone(), Vec::new()), "{properties}");
    let schema = declared.telemetry_schema();
    let errors: Vec<_> = jsonschema::validator_for(&schema)
        .unwrap()
        .iter_errors(&serde_json::from_str(&text).unwrap())
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{text}: {errors:?}");
    (kept, derived)
}

fn trees(text: &str) -> [Value; 2] {
    let all: Value = serde_json::from_str(text).unwrap();
    [all["event_properties"].clone(), all["derived_properties"].clone()]
}

fn kept(field: FieldDeclaration, properties: Value) -> Value {
    let (kept, derived) = leaves(&[field], properties);
    assert_eq!(derived, json!({}));
    kept
}

fn derived(field: FieldDeclaration, properties: Value) -> Value {
    let (kept, derived) = leaves(&[field], properties);
    assert_eq!(kept, json!({}));
    derived
}

#[test]
fn what_has_no_rule_does_not_leave() {
    use FieldKind::{Array, Boolean, Integer, Number, Object, String};
    let fields: Vec<_> = [Boolean, Integer, Number, String, Object, Array]
        .iter()
        .enumerate()
        .map(|(n, kind)| field(&format!("a.f{n}"), *kind, Rule::Drop))
        .collect();
    let properties = json!({ "a": { "f0": true, "f1": 1, "f2": 1.5, "f3": "Ada", "f4": { "x": 1 }, "f5": ["y"] } });
    assert_eq!(leaves(&fields, properties), (json!({}), json!({})));
}

#[test]
fn keep_leaves_truth_words_and_numbers_within_bounds_at_their_own_place() {
    let truth = field("a.b", FieldKind::Boolean, Rule::Keep);
    assert_eq!(kept(truth.clone(), json!({ "a": { "b": false } })), json!({ "a": { "b": false } }));
    assert_eq!(kept(truth.clone(), json!({ "a": {} })), json!({}));
    let nullable = FieldDeclaration { nullable: true, ..truth };
    assert_eq!(kept(nullable, json!({ "a": { "b": null } })), json!({ "a": { "b": null } }));
    let word = words("s", FieldKind::String, Rule::Keep, &["B", "A \"quoted\"", "ä"]);
    for said in ["B", "A \"quoted\"", "ä"] {
        assert_eq!(kept(word.clone(), json!({ "s": said })), json!({ "s": said }));
    }
    let whole = bounded("n", FieldKind::Integer, Rule::Keep, (json!(-5), json!(10)));
    assert_eq!(kept(whole, json!({ "n": -5 })), json!({ "n": -5 }));
    let some = FieldDeclaration {
        values: vec![json!(1), json!(2.5), json!(u64::MAX)],
        ..field("n", FieldKind::Number, Rule::Keep)
    };
    assert_eq!(kept(some.clone(), json!({ "n": 2.5 })), json!({ "n": 2.5 }));
    assert_eq!(kept(some.clone(), json!({ "n": 1.0 })), json!({ "n": 1 }), "as it is declared");
    assert_eq!(kept(some, json!({ "n": u64::MAX })), json!({ "n": u64::MAX }));
}

#[test]
fn a_kept_number_is_rounded_so_that_its_bounds_span_a_million_steps() {
    let of = |bounds, n: f64| kept(bounded("n", FieldKind::Number, Rule::Keep, bounds), json!({ "n": n }))["n"].clone();
    assert_eq!(of((json!(0), json!(1)), 0.123_456_789), json!(0.123_457));
    assert_eq!(of((json!(0), json!(1)), 1e-9), json!(0));
    assert_eq!(of((json!(-1), json!(0)), -1e-9), json!(0), "not the negative zero, which would tell the sign");
    assert_eq!(of((json!(0), json!(100)), 12.345_678), json!(12.3457));
    assert_eq!(of((json!(0), json!(1_000_000)), 1234.5), json!(1235));
    let third = 1.0 / 3.0;
    assert_eq!(of((json!(third), json!(1)), third), json!(third), "what is rounded across a bound is the bound");
    assert_eq!(of((json!(5e-324), json!(5e-324)), 5e-324), json!(5e-324));
    assert_eq!(of((json!(1e300), json!(1e300)), 1e300), json!(1e300));
}

#[test]
fn keep_under_an_array_keeps_the_places_of_its_entries() {
    let list = field("l", FieldKind::Array, Rule::Drop);
    let word = words("l.*.t", FieldKind::String, Rule::Keep, &["A", "B"]);
    let name = field("l.*.name", FieldKind::String, Rule::Drop);
    let fields = [list.clone(), word, name];
    let of = |properties| leaves(&fields, properties).0;
    assert_eq!(
        of(json!({ "l": [{ "t": "A", "name": "Ada" }, { "name": "Bob" }, { "t": "B" }] })),
        json!({ "l": [{ "t": "A" }, {}, { "t": "B" }] })
    );
    assert_eq!(of(json!({ "l": [] })), json!({ "l": [] }));
    assert_eq!(of(json!({})), json!({}));
    let fields = [list, field("l.*", FieldKind::Array, Rule::Drop), field("l.*.*", FieldKind::Boolean, Rule::Keep)];
    assert_eq!(
        leaves(&fields, json!({ "l": [[true], [], [false, true]] })).0,
        json!({ "l": [[true], [], [false, true]] })
    );
}

#[test]
fn count_tells_how_many_entries_there_are_and_nothing_of_what_is_absent() {
    let of = |properties| derived(field("a.o", FieldKind::Object, Rule::Count), properties);
    assert_eq!(of(json!({ "a": { "o": { "x": 1, "y": [2, 3] } } })), json!({ "a": { "o_count": 2 } }));
    assert_eq!(of(json!({ "a": { "o": {} } })), json!({ "a": { "o_count": 0 } }));
    assert_eq!(of(json!({ "a": {} })), json!({}));
    assert_eq!(of(json!({})), json!({}));
    let null = FieldDeclaration { nullable: true, ..field("l", FieldKind::Array, Rule::Count) };
    assert_eq!(derived(null.clone(), json!({ "l": null })), json!({}));
    let named = FieldDeclaration { derived_name: Some("steps".into()), ..null };
    assert_eq!(derived(named, json!({ "l": [1, null] })), json!({ "steps": 2 }));
}

#[test]
fn count_under_entries_is_the_sum_beside_them_and_no_key_leaves() {
    let of = |properties| derived(field("services.*.binds", FieldKind::Object, Rule::Count), properties);
    assert_eq!(
        of(
            json!({ "services": { "ada": { "binds": { "/x": 1 } }, "bob": {}, "eve": { "binds": { "/y": 1, "/z": 2 } } } })
        ),
        json!({ "services": { "binds_count": 3 } })
    );
    assert_eq!(of(json!({ "services": [{ "binds": { "/x": 1 } }] })), json!({ "services": { "binds_count": 1 } }));
    assert_eq!(of(json!({ "services": {} })), json!({ "services": { "binds_count": 0 } }));
    assert_eq!(of(json!({})), json!({}));
    let nested = field("a.b.*.c.*.d.e", FieldKind::Array, Rule::Count);
    assert_eq!(
        derived(
            nested,
            json!({ "a": { "b": { "k1": { "c": [{ "d": { "e": [1] } }, {}] }, "k2": { "c": { "k3": { "d": { "e": [1, 2] } } } } } } })
        ),
        json!({ "a": { "b": { "c": { "d": { "e_count": 3 } } } } })
    );
}

#[test]
fn distinct_tells_how_many_different_scalars_there_are() {
    let list = |list: Value| derived(field("l", FieldKind::Array, Rule::Distinct), json!({ "l": list }));
    assert_eq!(list(json!(["a", "b", "a", null, {}, [1]])), json!({ "l_distinct": 2 }));
    assert_eq!(list(json!([1, 1.0, "1", true, -0.0, 0, 1.5])), json!({ "l_distinct": 5 }));
    assert_eq!(list(json!([])), json!({ "l_distinct": 0 }));
    let under = |properties| derived(field("m.*.id", FieldKind::String, Rule::Distinct), properties);
    let three = json!({ "m": { "x": { "id": "1" }, "y": { "id": "1" }, "z": { "id": "2" }, "w": {} } });
    assert_eq!(under(three), json!({ "m": { "id_distinct": 2 } }));
    assert_eq!(under(json!({ "m": [] })), json!({ "m": { "id_distinct": 0 } }));
    assert_eq!(under(json!({})), json!({}));
    let lists = field("m.*.tags", FieldKind::Array, Rule::Distinct);
    let over_all = json!({ "m": [{ "tags": ["a", "b"] }, { "tags": ["b"] }] });
    assert_eq!(derived(lists, over_all), json!({ "m": { "tags_distinct": 2 } }));
}

#[test]
fn sum_adds_bounded_numbers_on_their_grid() {
    let whole =
        |path, properties| derived(bounded(path, FieldKind::Integer, Rule::Sum, (json!(0), json!(9))), properties);
    assert_eq!(whole("m.*.n", json!({ "m": [{ "n": 9 }, {}, { "n": 4 }] })), json!({ "m": { "n_sum": 13 } }));
    assert_eq!(whole("m.*.n", json!({ "m": [] })), json!({ "m": { "n_sum": 0 } }));
    assert_eq!(whole("n", json!({ "n": 7 })), json!({ "n_sum": 7 }));
    assert_eq!(whole("n", json!({})), json!({}));
    let real = bounded("m.*", FieldKind::Number, Rule::Sum, (json!(-1), json!(1)));
    // 0.1 + 0.2 is 0.30000000000000004 where floats are added.
    assert_eq!(derived(real.clone(), json!({ "m": [0.1, 0.2, 1e-9] })), json!({ "m_sum": 0.3 }));
    assert_eq!(derived(real, json!({ "m": [-0.5, 0.5] })), json!({ "m_sum": 0 }));
}

#[test]
fn count_by_counts_the_words_that_occur_and_the_rest_as_other() {
    let by = |path, kind| words(path, kind, Rule::CountBy, &[".py", ".r"]);
    let entries = json!({ "m": { "a": { "x": ".py" }, "b": { "x": "secret" }, "c": { "x": ".py" }, "d": {} } });
    assert_eq!(
        derived(by("m.*.x", FieldKind::String), entries),
        json!({ "m": { "x_count_by": { ".py": 2, "other": 1 } } })
    );
    assert_eq!(derived(by("x", FieldKind::String), json!({ "x": ".r" })), json!({ "x_count_by": { ".r": 1 } }));
    assert_eq!(derived(by("x", FieldKind::String), json!({})), json!({}));
    let list = json!({ "x": [".r", 7, null, "Ada", ".r"] });
    assert_eq!(derived(by("x", FieldKind::Array), list), json!({ "x_count_by": { ".r": 2, "other": 2 } }));
    assert_eq!(derived(by("x", FieldKind::Array), json!({ "x": [] })), json!({}));
    let named = words("x", FieldKind::String, Rule::CountBy, &["other", "a"]);
    assert_eq!(derived(named, json!({ "x": "b" })), json!({ "x_count_by": { "other": 1 } }));
}

#[test]
fn present_tells_whether_it_is_there_and_under_entries_how_often() {
    let of = |path, properties| {
        derived(FieldDeclaration { nullable: true, ..field(path, FieldKind::String, Rule::Present) }, properties)
    };
    assert_eq!(of("a.s", json!({ "a": { "s": "" } })), json!({ "a": { "s_present": true } }));
    for absent in [json!({ "a": { "s": null } }), json!({ "a": {} }), json!({})] {
        assert_eq!(of("a.s", absent), json!({ "a": { "s_present": false } }));
    }
    let some = json!({ "m": { "x": { "s": "1" }, "y": { "s": null }, "z": {} } });
    assert_eq!(of("m.*.s", some), json!({ "m": { "s_present": 1 } }));
    assert_eq!(of("m.*.s", json!({})), json!({ "m": { "s_present": 0 } }));
}

#[test]
fn bucket_tells_between_which_bounds_a_number_lies() {
    let of = |n: Value| {
        let bounds = vec![Number::from(1), Number::from(10)];
        derived(field("n", FieldKind::Number, Rule::Bucket(bounds)), json!({ "n": n }))["n_bucket"].clone()
    };
    for (n, label) in [
        (json!(0.999), "<1"),
        (json!(-1e300), "<1"),
        (json!(1), "1..10"),
        (json!(1.0), "1..10"),
        (json!(9.999), "1..10"),
        (json!(10), ">=10"),
        (json!(u64::MAX), ">=10"),
    ] {
        assert_eq!(of(n.clone()), json!(label), "{n}");
    }
    let real = field("m.*", FieldKind::Number, Rule::Bucket(numbers(&[-0.5, 0.5])));
    assert_eq!(
        derived(real, json!({ "m": [-1, -0.5, 0, 0.4, 0.5, 7] })),
        json!({ "m_bucket": { "-0.5..0.5": 3, "<-0.5": 1, ">=0.5": 2 } })
    );
    let null = FieldDeclaration { nullable: true, ..field("n", FieldKind::Number, Rule::Bucket(numbers(&[1.0]))) };
    assert_eq!(derived(null.clone(), json!({ "n": null })), json!({}));
    assert_eq!(derived(null, json!({})), json!({}));
}

#[test]
fn length_bucket_tells_between_which_bounds_a_length_lies() {
    let rule = || Rule::LengthBucket(LENGTH_BUCKETS.to_vec());
    let text = |s: &str| derived(field("s", FieldKind::String, rule()), json!({ "s": s }))["s_length_bucket"].clone();
    assert_eq!(text(""), json!("<1"));
    assert_eq!(text(&"ä".repeat(9)), json!("1..10"), "characters, not bytes");
    assert_eq!(text(&"x".repeat(10)), json!("10..100"));
    assert_eq!(text(&"x".repeat(1_000)), json!(">=1000"));
    let list = field("m.*.l", FieldKind::Array, rule());
    let lists = json!({ "m": { "a": { "l": [] }, "b": { "l": [1] }, "c": { "l": [1, 2] } } });
    assert_eq!(derived(list, lists), json!({ "m": { "l_length_bucket": { "1..10": 2, "<1": 1 } } }));
}

#[test]
fn the_relay_drops_and_names_what_the_schema_does_not_know() {
    let fields = [
        words("project.job.status", FieldKind::String, Rule::Keep, &["FAILURE"]),
        bounded("project.job.n", FieldKind::Integer, Rule::Keep, (json!(0), json!(9))),
        bounded("project.job.r", FieldKind::Number, Rule::Keep, (json!(0), json!(1))),
        field("project.name", FieldKind::String, Rule::Present),
        field("project.l", FieldKind::Array, Rule::Count),
        field("project.l.*.ok", FieldKind::Boolean, Rule::Keep),
        bounded("project.m.*.n", FieldKind::Integer, Rule::Sum, (json!(0), json!(9))),
        words("project.m.*.w", FieldKind::String, Rule::CountBy, &["a"]),
        field("project.size", FieldKind::Number, Rule::Bucket(numbers(&[1.0]))),
    ];
    let declared = declared(&fields);
    let relay = |properties: Value, derived: Value| {
        let (text, dropped) = declared.relay(&EventType::parse("t").unwrap(), &properties, &derived);
        let [kept, derived] = trees(&text);
        (kept, derived, dropped)
    };
    let (kept, _, dropped) = relay(
        json!({ "x/~y": 1, "project": { "name": "Ada", "job": { "status": "Ada", "n": 10, "r": 0.123_456_789 },
            "l": [{ "ok": true, "no": 1 }, 7, { "ok": "x" }] } }),
        json!({}),
    );
    assert_eq!(kept, json!({ "project": { "job": { "r": 0.123_457 }, "l": [{ "ok": true }, {}, {}] } }));
    let mut sorted = dropped;
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "/properties/project/job/n",
            "/properties/project/job/status",
            "/properties/project/l/0/no",
            "/properties/project/l/1",
            "/properties/project/l/2/ok",
            "/properties/project/name",
            "/properties/x~1~0y",
        ]
    );
    let (_, derived, dropped) = relay(
        json!({}),
        json!({ "project": { "name_present": "yes", "l_count": -1, "size_bucket": "<2",
            "m": { "n_sum": 9_000_001, "w_count_by": { "a": 2, "Ada": 1, "other": 1.5 } } } }),
    );
    assert_eq!(derived, json!({ "project": { "m": { "w_count_by": { "a": 2 } } } }));
    let mut sorted = dropped;
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "/derived_properties/project/l_count",
            "/derived_properties/project/m/n_sum",
            "/derived_properties/project/m/w_count_by/Ada",
            "/derived_properties/project/m/w_count_by/other",
            "/derived_properties/project/name_present",
            "/derived_properties/project/size_bucket",
        ]
    );
    let (_, derived, dropped) = relay(
        json!({}),
        json!({ "project": { "name_present": true, "l_count": 1_000_000_000, "size_bucket": ">=1.0",
            "m": { "n_sum": 9_000_000, "w_count_by": { "a": 0, "other": 3 } } } }),
    );
    assert_eq!(dropped, Vec::<String>::new());
    assert_eq!(derived["project"]["m"], json!({ "n_sum": 9_000_000, "w_count_by": { "a": 0, "other": 3 } }));
    for wrong in [json!(7), json!([1]), json!("x"), json!(null)] {
        let (kept, derived, dropped) = relay(json!({ "project": wrong }), json!({ "project": wrong }));
        assert_eq!((kept, derived), (json!({}), json!({})));
        assert_eq!(dropped, ["/properties/project", "/derived_properties/project"]);
    }
}

#[test]
fn of_what_the_relay_drops_at_most_100_places_are_named() {
    let many: Value = (0..1_000).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into();
    let (text, dropped) = declared(&[]).relay(&EventType::parse("t").unwrap(), &many, &many);
    assert_eq!(dropped.len(), 100);
    assert_eq!(trees(&text), [json!({}), json!({})]);
}
