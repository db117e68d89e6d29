//! Every fault of a declaration names its place and its key, and all are found at once.

use super::*;
use crate::catalogue::declare::{At, Audience, FIELDS_MAX, Fault, LAYERS_DEEP_MAX, TYPES_MAX};
use FieldKind::{Array, Boolean, Integer, Number, Object, String as Text};

fn faults(layers: Vec<LayerDeclaration>, events: Vec<EventDeclaration>) -> Vec<Fault> {
    Catalogue::compile(&Declarations { layers, events }, Undeclared::Reject).err().unwrap_or_default()
}

/// The one fault that there is.
fn only(layers: Vec<LayerDeclaration>, events: Vec<EventDeclaration>) -> Fault {
    let mut faults = faults(layers, events);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults.remove(0)
}

fn at(layer: bool, index: usize, field: Option<usize>, key: Option<&'static str>) -> At {
    At { layer, index, field, key }
}

/// Asserts that a type of these fields has one fault, at this field and key, which says that.
fn wrong(fields: Vec<FieldDeclaration>, index: usize, key: Option<&'static str>, says: &str) {
    let fault = only(vec![], vec![event("a:b", fields)]);
    assert_eq!(fault.at, at(false, 0, Some(index), key), "{fault:?}");
    assert!(fault.what.contains(says), "{fault:?}");
    assert!(!fault.hint.is_empty(), "{fault:?}");
}

fn ruled(path: &str, kind: FieldKind, rule: Rule) -> FieldDeclaration {
    FieldDeclaration { rule, ..field(path, kind) }
}

fn bounded(path: &str, kind: FieldKind, low: Value, high: Value) -> FieldDeclaration {
    let number = |value: Value| value.as_number().cloned();
    FieldDeclaration { minimum: number(low), maximum: number(high), ..field(path, kind) }
}

fn worded(path: &str, kind: FieldKind, values: Value) -> FieldDeclaration {
    FieldDeclaration { values: values.as_array().cloned().unwrap(), ..field(path, kind) }
}

#[test]
fn names_of_layers_and_types_must_be_of_the_grammar_and_their_own() {
    for name in ["A b", "a::b", ""] {
        let fault = only(vec![layer(name, vec![])], vec![]);
        assert_eq!((fault.at, fault.what.contains(&format!("{name:?}"))), (at(true, 0, None, None), true));
    }
    let fault = only(vec![layer("a", vec![]), layer("a", vec![])], vec![]);
    assert_eq!((fault.at, fault.what.contains("twice")), (at(true, 1, None, None), true));
    for (name, says) in [("a::b", "\"a::b\""), ("posthaste:test", "the daemon's own"), ("c:d", "twice")] {
        let fault = only(vec![], vec![event("c:d", vec![]), event(name, vec![])]);
        assert_eq!((fault.at.index, fault.at.layer, fault.at.key), (1, false, None));
        assert!(fault.what.contains(says), "{fault:?}");
    }
}

#[test]
fn an_unknown_parent_or_layer_is_named_with_those_that_there_are() {
    let lost = LayerDeclaration { parent: Some("c".into()), ..layer("a:b", vec![]) };
    let fault = only(vec![layer("a", vec![]), lost], vec![event("a:b:c", vec![])]);
    assert_eq!(fault.at, at(true, 1, None, Some("parent")));
    assert!(fault.what.contains("\"c\"") && fault.hint.contains("\"a\", \"a:b\""), "{fault:?}");
    let lost = EventDeclaration { layer: Some("c".into()), ..event("a:b", vec![]) };
    let fault = only(vec![layer("a", vec![])], vec![lost]);
    assert_eq!((fault.at, fault.what.contains("`layer = \"c\"`")), (at(false, 0, None, Some("layer")), true));
}

#[test]
fn a_circle_of_parents_is_told_at_each_of_its_layers_and_nowhere_else() {
    let on = |name: &str, parent: &str| LayerDeclaration { parent: Some(parent.into()), ..layer(name, vec![]) };
    let found = faults(
        vec![on("outside", "a"), on("a", "b"), on("b", "c"), on("c", "a"), on("self", "self")],
        vec![event("outside:x", vec![])],
    );
    let mut places: Vec<_> = found.iter().map(|f| (f.at.index, f.at.key)).collect();
    places.sort_unstable();
    assert_eq!(places, [1, 2, 3, 4].map(|index| (index, Some("parent"))));
}

#[test]
fn layers_stand_on_one_another_only_so_deep() {
    let chain = |count: usize| -> Vec<_> {
        let parent = |i: usize| (i > 0).then(|| format!("l{}", i - 1));
        // The deepest first: nothing depends on the order of declarations.
        let layer = |i| LayerDeclaration { parent: parent(i), ..layer(&format!("l{i}"), vec![]) };
        (0..count).rev().map(layer).collect()
    };
    assert_eq!(faults(chain(LAYERS_DEEP_MAX), vec![]), []);
    let fault = only(chain(LAYERS_DEEP_MAX + 3), vec![]);
    assert_eq!(fault.at, at(true, 2, None, Some("parent")), "{fault:?}");
}

#[test]
fn the_place_of_a_layer_is_a_path_of_objects() {
    let place = |at: &str| LayerDeclaration { at: Some(at.into()), ..layer("a:b", vec![field("c", Text)]) };
    for (place_at, says) in [("a..b", "0 characters"), ("a.*", "`*`"), ("s.b", "a string"), ("list", "an array")] {
        let fault = only(vec![layer_at_top(), place(place_at)], vec![]);
        assert_eq!(fault.at, at(true, 1, None, Some("at")), "{fault:?}");
        assert!(fault.what.contains(says) && fault.what.contains(place_at), "{fault:?}");
    }
    let fits = compile(vec![layer_at_top(), place("")], vec![event("a:b:c", vec![])]);
    assert_eq!(get(&fits, "a:b:c").check(&json!({"c": "x", "s": "y", "list": []})), []);
}

/// Fields at the top, for whatever has no layer of its own above.
fn layer_at_top() -> LayerDeclaration {
    let fields = vec![field("s", Text), field("list", Array)];
    LayerDeclaration { at: Some(String::new()), ..layer("a", fields) }
}

#[test]
fn a_path_is_names_between_dots() {
    for path in ["", "a..b", "a.b*", "**", "a\n", &"x".repeat(65), &vec!["a"; 17].join(".")] {
        wrong(vec![field(path, Text)], 0, None, "has");
    }
}

#[test]
fn nothing_is_declared_twice_along_a_chain_or_inside_a_scalar() {
    wrong(vec![field("a", Text), field("a", Text)], 1, None, "declared already");
    wrong(vec![field("a", Text), field("a.b", Text)], 1, None, "stands in \"a\", which is a string");
    wrong(vec![field("a.b", Text), field("a", Text)], 1, None, "others are declared in it");
    wrong(vec![field("a", Array), field("a.b", Text)], 1, None, "an array");
    wrong(vec![field("a.b", Text), field("a", Array)], 1, None, "others are declared in it");
    wrong(vec![field("a.*", Text), field("a.b", Text)], 1, None, "both `*` and names");
    wrong(vec![field("a.b", Text), field("a.*.c", Text)], 1, None, "both `*` and names");
    let shadow = |fields| only(vec![layer("a", vec![field("b.c", Text)])], vec![event("a:x", fields)]);
    assert_eq!(shadow(vec![field("z", Text), field("b.c", Text)]).at, at(false, 0, Some(1), None));
    let mut below = layer("a:b", vec![]);
    below.at = Some("a.b.c".into());
    let fault = only(vec![layer("a", vec![field("b.c", Text)]), below], vec![]);
    assert_eq!(fault.at, at(true, 1, None, Some("at")));
}

#[test]
fn bounds_must_fit_their_type_and_leave_something() {
    wrong(vec![bounded("a", Text, json!(1), json!(null))], 0, Some("minimum"), "`minimum = 1`");
    wrong(vec![bounded("a", Boolean, json!(null), json!(2))], 0, Some("maximum"), "`maximum = 2`");
    wrong(vec![bounded("a", Integer, json!(0.5), json!(2))], 0, Some("minimum"), "0.5");
    wrong(vec![bounded("a", Number, json!(2), json!(1.5))], 0, Some("minimum"), "above `maximum = 1.5`");
    wrong(vec![FieldDeclaration { length_max: Some(9), ..field("a", Integer) }], 0, Some("length_max"), "9");
}

#[test]
fn a_vocabulary_is_short_of_one_type_and_without_repeats() {
    let many: Vec<_> = (0..257).map(|n| json!(format!("w{n}"))).collect();
    let long = "x".repeat(65);
    for (declared, says) in [
        (worded("a", Boolean, json!([true])), "does not fit a boolean"),
        (worded("a", Array, json!(["x"])), "does not fit an array"),
        (worded("a", Text, json!(many)), "257"),
        (worded("a", Text, json!([long])), "more than 64"),
        (worded("a", Text, json!(["x", 1])), "1 in `values`"),
        (worded("a", Text, json!(["x", "y", "x"])), "\"x\" is in `values` twice"),
        (worded("a", Integer, json!([1, 1.5])), "1.5 in `values`"),
        (worded("a", Number, json!([1, 2, 1.0])), "1.0 is in `values` twice"),
        (worded("a", Number, json!([null])), "null in `values`"),
        (FieldDeclaration { values: vec![json!(9)], ..bounded("a", Integer, json!(1), json!(5)) }, "outside"),
    ] {
        wrong(vec![declared], 0, Some("values"), says);
    }
}

#[test]
fn a_rule_must_fit_its_type_and_have_its_bounds() {
    let telemetry = Some("telemetry");
    for (declared, key, says) in [
        (ruled("a", Text, Rule::Keep), telemetry, "free text"),
        (ruled("a", Object, Rule::Keep), telemetry, "does not fit an object"),
        (ruled("a", Integer, Rule::Keep), telemetry, "needs `minimum` and `maximum`"),
        (FieldDeclaration { rule: Rule::Keep, ..bounded("a", Integer, json!(0), json!(1_000_001)) }, telemetry, "span"),
        (FieldDeclaration { rule: Rule::Keep, ..bounded("a", Number, json!(-1e300), json!(1e300)) }, telemetry, "span"),
        (FieldDeclaration { rule: Rule::Sum, ..bounded("a", Number, json!(0), json!(1e7)) }, telemetry, "span"),
        (ruled("a", Number, Rule::Sum), telemetry, "needs `minimum` and `maximum`"),
        (ruled("a", Text, Rule::Sum), telemetry, "\"sum\""),
        (ruled("a", Text, Rule::Count), telemetry, "\"count\""),
        (ruled("a", Text, Rule::Distinct), telemetry, "\"distinct\""),
        (ruled("a.*", Object, Rule::Distinct), telemetry, "\"distinct\""),
        (ruled("a", Text, Rule::CountBy), telemetry, "no `values`"),
        (ruled("a", Integer, Rule::CountBy), telemetry, "\"count-by\""),
        (ruled("a", Text, Rule::Bucket(vec![1.into()])), Some("bucket"), "\"bucket\""),
        (ruled("a", Integer, Rule::Bucket(vec![])), Some("bucket"), "0 bounds"),
        (ruled("a", Integer, Rule::Bucket((0..33).map(Into::into).collect())), Some("bucket"), "33 bounds"),
        (ruled("a", Integer, Rule::Bucket(vec![1.into(), 1.into()])), Some("bucket"), "do not rise"),
        (ruled("a", Integer, Rule::LengthBucket(vec![1])), telemetry, "\"length-bucket\""),
        (ruled("a", Text, Rule::LengthBucket(vec![2, 1])), Some("bucket"), "do not rise"),
    ] {
        wrong(vec![declared], 0, key, says);
    }
}

#[test]
fn keep_under_entries_is_for_arrays_that_are_declared() {
    let kept = |path: &str| ruled(path, Boolean, Rule::Keep);
    wrong(vec![kept("a.*.b")], 0, Some("telemetry"), "under `*`");
    wrong(vec![field("a", Object), kept("a.*.b")], 1, Some("telemetry"), "under `*`");
    wrong(vec![field("a", Array), kept("a.*.b.*")], 1, Some("telemetry"), "under `*`");
    assert_eq!(faults(vec![], vec![event("a:b", vec![kept("a.*.b"), field("a", Array)])]), []);
}

#[test]
fn derived_values_have_places_and_names_of_their_own() {
    let named = |path: &str, name: &str| FieldDeclaration {
        derived_name: Some(name.into()),
        ..ruled(path, Text, Rule::Present)
    };
    wrong(vec![named("a", "x"), named("b", "x")], 1, Some("as"), "\"x\"");
    wrong(vec![named("a.c", "x"), named("a.*.d".trim_start_matches("a.*."), "a")], 1, Some("as"), "\"a.x\"");
    wrong(vec![named("b", "a"), named("a.c", "x")], 1, Some("as"), "\"a\"");
    for name in ["", "a.b", "*", "a\u{7}", &"x".repeat(65)] {
        wrong(vec![named("a", name)], 0, Some("as"), "is no name");
    }
    wrong(vec![FieldDeclaration { rule: Rule::Drop, ..named("a", "x") }], 0, Some("as"), "names nothing");
    wrong(vec![ruled("*", Text, Rule::Present)], 0, Some("telemetry"), "no name of its own");
    wrong(vec![named("*", "x")], 0, Some("as"), "the top");
    // Of a layer below too.
    let fault = only(vec![layer("a", vec![named("b", "x")])], vec![event("a:c", vec![named("c", "x")])]);
    assert_eq!(fault.at, at(false, 0, Some(0), Some("as")));
    // And a type that collides with nothing but another type is fine.
    let twice = |name: &str| event(name, vec![named("c", "x")]);
    assert_eq!(faults(vec![layer("a", vec![])], vec![twice("a:b"), twice("a:c")]), []);
}

#[test]
fn an_identity_is_one_string_that_is_told_and_required_needs_a_name() {
    let identity = |declared| FieldDeclaration { identity: true, ..declared };
    wrong(vec![identity(field("a", Integer))], 0, Some("identity"), "an integer");
    wrong(vec![identity(field("a.*.b", Text))], 0, Some("identity"), "under `*`");
    let hidden = FieldDeclaration { audience: Audience::Telemetry, ..field("a", Text) };
    wrong(vec![identity(hidden)], 0, Some("identity"), "never in a notification");
    wrong(vec![FieldDeclaration { required: true, ..field("a.*", Text) }], 0, Some("required"), "each entry");
}

#[test]
fn an_example_must_fit_its_type() {
    let example = |example: Value| EventDeclaration {
        example: example.as_object().cloned(),
        retired: true,
        ..event("a:b", vec![field("n", Integer)])
    };
    assert_eq!(faults(vec![], vec![example(json!({"n": 1}))]), []);
    let fault = only(vec![], vec![example(json!({"n": "secret"}))]);
    assert_eq!(fault.at, at(false, 0, None, Some("example")));
    assert!(fault.what.contains("\"/n\" must be an integer") && !fault.what.contains("secret"), "{fault:?}");
}

#[test]
fn too_many_fields_layers_or_types_are_refused() {
    let fields = |count: usize| (0..count).map(|i| field(&format!("f{i}"), Boolean)).collect::<Vec<_>>();
    assert_eq!(faults(vec![], vec![event("a:b", fields(FIELDS_MAX))]), []);
    wrong(fields(FIELDS_MAX + 1), FIELDS_MAX, None, "257 fields");
    let names: Vec<_> = (0..=TYPES_MAX).map(|i| format!("t{i}")).collect();
    let events = names.iter().map(|name| event(name, vec![])).collect();
    assert_eq!(only(vec![], events).at, at(false, TYPES_MAX, None, None));
    let layers = names.iter().map(|name| layer(name, vec![])).collect();
    assert_eq!(only(layers, vec![]).at, at(true, TYPES_MAX, None, None));
}

#[test]
fn all_faults_are_found_at_once() {
    let found = faults(
        vec![
            LayerDeclaration { parent: Some("x".into()), ..layer("a", vec![ruled("a", Text, Rule::Keep)]) },
            layer("b", vec![field("", Text)]),
        ],
        vec![
            EventDeclaration { layer: Some("y".into()), ..event("c", vec![ruled("a", Text, Rule::Sum)]) },
            event("a:d", vec![ruled("a", Text, Rule::Count)]),
        ],
    );
    let mut places: Vec<_> = found.iter().map(|f| (!f.at.layer, f.at.index, f.at.field, f.at.key)).collect();
    places.sort_unstable();
    let telemetry = Some("telemetry");
    let expected = [
        (false, 0, None, Some("parent")),
        (false, 0, Some(0), telemetry),
        (false, 1, Some(0), None),
        (true, 0, None, Some("layer")),
        (true, 0, Some(0), telemetry),
        (true, 1, Some(0), telemetry),
    ];
    assert_eq!(places, expected);
}
