//! What is refused of properties and why, what is told of them, filtered by and masked.

use super::*;
use crate::catalogue::declare::Audience;
use FieldKind::{Array, Boolean, Integer, Number, Object, String as Text};

/// What is wrong with a value of the field `v` alone.
fn detail(declared: FieldDeclaration, value: Value) -> Option<String> {
    let misfits = get(&of(vec![declared]), "t").check(&json!({ "v": value }));
    assert!(misfits.iter().all(|m| m.pointer == "/v"), "{misfits:?}");
    misfits.into_iter().next().map(|m| m.detail)
}

#[test]
fn each_kind_takes_its_own_values_and_null_only_where_it_is_nullable() {
    let values = [json!(true), json!(1), json!(1.5), json!("s"), json!({"x": 1}), json!([1]), json!(null)];
    let takes = |kind| {
        let fits = |nullable| {
            let declared = FieldDeclaration { nullable, ..field("v", kind) };
            values.iter().map(|v| detail(declared.clone(), v.clone()).is_none()).collect::<Vec<_>>()
        };
        let (strict, nullable) = (fits(false), fits(true));
        assert_eq!(strict[..6], nullable[..6]);
        assert_eq!((strict[6], nullable[6]), (false, true));
        strict[..6].iter().map(|fits| if *fits { 'x' } else { '.' }).collect::<std::string::String>()
    };
    let kinds = [(Boolean, "x....."), (Integer, ".x...."), (Number, ".xx..."), (Text, "...x.."), (Object, "....x.")];
    for (kind, expected) in kinds.into_iter().chain([(Array, ".....x")]) {
        assert_eq!(takes(kind), expected, "{kind:?}");
    }
}

#[test]
fn bounds_lengths_and_vocabularies_hold_at_their_borders() {
    let bounded = |kind| FieldDeclaration {
        minimum: Some(1.into()),
        maximum: Some(3.into()),
        length_max: None,
        ..field("v", kind)
    };
    for (value, fits) in [(json!(0), false), (json!(1), true), (json!(3), true), (json!(4), false)] {
        assert_eq!(detail(bounded(Integer), value.clone()).is_none(), fits, "{value}");
    }
    assert_eq!(detail(bounded(Number), json!(3.0001)).unwrap(), "must be at most 3");
    assert_eq!(detail(bounded(Number), json!(0.9999)).unwrap(), "must be at least 1");
    let big = FieldDeclaration { maximum: Some(u64::MAX.into()), ..field("v", Integer) };
    assert_eq!(detail(big, json!(u64::MAX)), None);
    let short = |kind| FieldDeclaration { length_max: Some(2), ..field("v", kind) };
    assert_eq!(detail(short(Text), json!("éé")), None);
    assert_eq!(detail(short(Text), json!("ééé")).unwrap(), "may have 2 characters, has 3");
    assert_eq!(detail(short(Array), json!([1, 2, 3])).unwrap(), "may have 2 entries, has 3");
    assert_eq!(detail(short(Object), json!({"a": 1, "b": 2, "c": 3})).unwrap(), "may have 2 entries, has 3");
    let words = |rule| FieldDeclaration { values: vec!["a".into(), "b".into()], rule, ..field("v", Text) };
    assert_eq!(detail(words(Rule::Keep), json!("c")).unwrap(), r#"must be one of "a", "b""#);
    assert_eq!(detail(words(Rule::CountBy), json!("c")), None, "the rest is counted as other");
    let numbers = FieldDeclaration { values: vec![json!(1), json!(2)], ..field("v", Number) };
    assert_eq!((detail(numbers.clone(), json!(2.0)), detail(numbers, json!(3)).is_some()), (None, true));
}

#[test]
fn entries_of_objects_and_arrays_are_held_one_by_one() {
    let catalogue = of(vec![
        FieldDeclaration { required: true, ..field("steps.*.uuid", Text) },
        field("tags", Array),
        field("tags.*", Text),
        field("free", Object),
    ]);
    let t = get(&catalogue, "t");
    for fits in [
        json!({}),
        json!({"steps": {}, "tags": [], "free": {"a": {"b": null}}}),
        json!({"steps": {"s1": {"uuid": "u"}}, "tags": ["x"]}),
        json!({"steps": [{"uuid": "u"}]}),
    ] {
        assert_eq!(t.check(&fits), [], "{fits}");
    }
    let misfits = t.check(&json!({"steps": [{"uuid": "u"}, {}, 3], "tags": ["x", 1, null], "free": []}));
    assert_eq!(pointers(&misfits), ["/free", "/steps/1/uuid", "/steps/2", "/tags/1", "/tags/2"]);
    assert_eq!(pointers(&t.check(&json!({"tags": {"a": "x"}, "steps": "x"}))), ["/steps", "/tags"]);
}

#[test]
fn what_is_required_in_a_container_is_required_where_that_is_there() {
    let required = |path: &str| FieldDeclaration { required: true, ..field(path, Text) };
    let catalogue = compile(
        vec![layer("a", vec![required("inner.x")]), layer("a:b:c", vec![required("y")])],
        vec![event("a:b:c:d", vec![])],
    );
    let declared = get(&catalogue, "a:b:c:d");
    assert_eq!(pointers(&declared.check(&json!({}))), ["/a/b/c/y"]);
    assert_eq!(pointers(&declared.check(&json!({"a": {"inner": {}}}))), ["/a/inner/x", "/a/b/c/y"]);
    assert_eq!(pointers(&declared.check(&json!({"a": {"b": null}}))), ["/a/b"]);
    assert_eq!(declared.check(&json!({"a": {"b": {"c": {"y": "z"}}}})), []);
}

#[test]
fn a_layer_may_add_to_the_place_of_its_parent() {
    let job = layer("project:job", vec![field("name", Text)]);
    let cron = LayerDeclaration {
        parent: Some("project:job".into()),
        at: Some("project.job".into()),
        ..layer("project:cron-job", vec![field("schedule", Text)])
    };
    let catalogue =
        compile(vec![cron, job], vec![event("project:cron-job:started", vec![]), event("project:job:started", vec![])]);
    let both = json!({"project": {"job": {"name": "n", "schedule": "s"}}});
    assert_eq!(get(&catalogue, "project:cron-job:started").check(&both), []);
    assert_eq!(pointers(&get(&catalogue, "project:job:started").check(&both)), ["/project/job/schedule"]);
}

#[test]
fn at_most_a_hundred_misfits_are_listed_and_no_pointer_is_long() {
    let t = of(vec![field("free.*", Text)]);
    let many: serde_json::Map<_, _> = (0..500).map(|i| (format!("k{i}"), json!(i))).collect();
    assert_eq!(get(&t, "t").check(&json!({ "free": many })).len(), 100);
    assert_eq!(get(&t, "t").check(&Value::Object(many)).len(), 100);
    let long = get(&t, "t").check(&json!({"free": {"x".repeat(9_999): 1}}));
    assert_eq!(pointers(&long), ["/free"]);
}

#[test]
fn what_is_kept_of_a_misfit_names_nothing_that_a_caller_named() {
    let sensitive = FieldDeclaration { sensitive: true, ..field("secret", Object) };
    let t = of(vec![
        field("a/b.n", Integer),
        field("services.*.n", Integer),
        sensitive,
        field("secret.inner", Integer),
        field("list", Array),
        field("list.*", Integer),
    ]);
    let told = |properties: Value| get(&t, "t").told_misfit(&properties).unwrap_or_default();
    for (properties, expected) in [
        (json!({ "a/b": { "n": "x" } }), "/a~1b/n: must be an integer"),
        (json!({ "a/b": { "Ada": 1 } }), "/a~1b/…: is not declared; the catalogue declares `n`"),
        (json!({ "services": { "Ada": { "n": "x" } } }), "/services/…: must be an integer"),
        (json!({ "services": { "Ada": { "Bob": 1 } } }), "/services/…: is not declared; the catalogue declares `n`"),
        (json!({ "secret": { "inner": "x" } }), "/secret/…: must be an integer"),
        (json!({ "secret": { "Ada": 1 } }), "/secret/…: is not declared; the catalogue declares `inner`"),
        (json!({ "list": ["x"] }), "/list/…: must be an integer"),
        (json!({ "list": 1 }), "/list: must be an array"),
        (json!({}), ""),
    ] {
        assert_eq!(told(properties), expected);
    }
}

#[test]
fn what_is_for_telemetry_alone_is_cut_out_and_the_rest_stays_as_it_was_written() {
    let hidden = |path: &str, kind| FieldDeclaration { audience: Audience::Telemetry, ..field(path, kind) };
    let catalogue = of(vec![
        hidden("top", Object),
        hidden("services.*.binds", Array),
        hidden("only.way.there", Boolean),
        field("steps", Array),
        field("steps.*.id", Number),
        hidden("steps.*.secret", Text),
        field("é", Number),
    ]);
    let t = get(&catalogue, "t");
    let cut = |text: &str| {
        let data = serde_json::from_str(text).unwrap();
        assert_eq!(t.check(&data), [], "{text}");
        t.notification(&data, text).into_owned()
    };
    assert_eq!(cut(r#"{"top":{"a":{"b":1}},"\u00e9":1.50}"#), r#"{"é":1.50}"#);
    assert_eq!(cut(r#"{"services":{"redis":{"binds":["x"]}},"only":{"way":{}}}"#), "{}");
    let steps = r#"{"steps":[{"id":12345678901234567890123,"secret":"s"},{"secret":"s"},{"id":1e2}]}"#;
    assert_eq!(cut(steps), r#"{"steps":[{"id":12345678901234567890123},{},{"id":1e2}]}"#);
    // A name that comes twice is cut out twice: of an object the last one counts.
    assert_eq!(cut(r#"{"top":{"a":1},"steps":[],"top":{}}"#), r#"{"steps":[]}"#);
    let untouched = r#"{"steps":[{"id":1.0}]}"#;
    let data = serde_json::from_str(untouched).unwrap();
    assert!(matches!(t.notification(&data, untouched), std::borrow::Cow::Borrowed(_)));
}

#[test]
fn an_identity_needs_those_of_the_layers_above() {
    let identity = || vec![FieldDeclaration { identity: true, ..field("uuid", Text) }, field("name", Text)];
    let catalogue = compile(
        vec![layer("p", identity()), layer("p:j", identity()), layer("p:j:r", identity())],
        vec![event("p:j:r:x", vec![field("list.*", Text), field("n", Integer), field("o", Object)])],
    );
    let declared = get(&catalogue, "p:j:r:x");
    let filters: Vec<_> = declared.filters().into_iter().map(|f| (f.path, f.requires)).collect();
    let requires = |path: &str, above: &[&str]| (path.to_owned(), above.iter().map(|s| (*s).to_owned()).collect());
    let expected: Vec<(std::string::String, Vec<_>)> = vec![
        requires("p.j.name", &[]),
        requires("p.j.r.n", &[]),
        requires("p.j.r.name", &[]),
        requires("p.j.r.uuid", &["p.uuid", "p.j.uuid"]),
        requires("p.j.uuid", &["p.uuid"]),
        requires("p.name", &[]),
        requires("p.uuid", &[]),
    ];
    assert_eq!(filters, expected);
    for filter in declared.filters() {
        let path: Vec<_> = filter.path.split('.').map(str::to_owned).collect();
        assert_eq!(declared.filter(&path), Some(filter));
    }
    for none in ["p", "p.j.r.list.*", "p.j.r.list.0", "p.j.r.o", "p.j.r.o.x", "q", "p.uuid.x"] {
        let path: Vec<_> = none.split('.').map(str::to_owned).collect();
        assert_eq!(declared.filter(&path), None, "{none}");
    }
}

#[test]
fn masks_reach_under_entries_and_cover_objects_whole() {
    let sensitive = |path: &str, kind| FieldDeclaration { sensitive: true, ..field(path, kind) };
    let catalogue = of(vec![
        sensitive("steps.*.title", Text),
        sensitive("env", Object),
        field("env.secret", Text),
        field("n", Text),
    ]);
    let event_type = EventType::parse("t").unwrap();
    let mut data = json!({"steps": {"a": {"title": "x"}, "b": {}}, "env": {"secret": "y"}, "n": "z"});
    assert!(catalogue.mask(&event_type, &mut data));
    assert_eq!(data, json!({"steps": {"a": {"title": "…"}, "b": {}}, "env": "…", "n": "z"}));
    let mut array = json!({"steps": [{"title": null}, 3]});
    assert!(catalogue.mask(&event_type, &mut array));
    assert_eq!(array, json!({"steps": [{"title": "…"}, 3]}));
    // What is older than the catalogue, and fits it no more.
    let mut odd = json!({"steps": "x", "unknown": 1});
    assert!(!catalogue.mask(&event_type, &mut odd));
}

#[test]
fn of_a_type_that_is_gone_every_value_is_masked() {
    let gone = EventType::parse("renamed:since").unwrap();
    let data = json!({"user": {"name": "Ada"}, "n": 1, "none": null});
    let mut shown = data.clone();
    assert!(of(vec![]).mask(&gone, &mut shown));
    assert_eq!(shown, json!({"user": "…", "n": "…", "none": "…"}));
    assert!(!of(vec![]).mask(&gone, &mut json!({})));
    // The daemon's own are declared nowhere, nor is what is taken undeclared.
    let open = Catalogue::compile(&Declarations::default(), Undeclared::Accept).unwrap();
    let ours = EventType::parse("posthaste:delivery:dead").unwrap();
    for (catalogue, event_type) in [(of(vec![]), ours), (open, gone)] {
        let mut shown = data.clone();
        assert!(!catalogue.mask(&event_type, &mut shown));
        assert_eq!(shown, data);
    }
}

#[test]
fn a_path_is_reached_where_a_notification_may_have_a_scalar() {
    let hidden = FieldDeclaration { audience: Audience::Telemetry, ..field("hidden", Text) };
    let catalogue = of(vec![
        field("a.b", Text),
        field("free", Object),
        field("list", Array),
        field("each.*.n", Number),
        field("array", Array),
        field("array.*.n", Number),
        hidden,
    ]);
    let reaches = |path: &str| {
        let path: Vec<_> = path.split('.').map(str::to_owned).collect();
        get(&catalogue, "t").reaches(&path)
    };
    for path in ["a.b", "free.x", "free.x.y", "each.some.n"] {
        assert!(reaches(path), "{path}");
    }
    for path in ["a", "a.c", "a.b.c", "free", "list.0", "each.some", "each.some.m", "array.0.n", "hidden", "x"] {
        assert!(!reaches(path), "{path}");
    }
}

#[test]
fn what_leaves_as_it_is_is_kept_and_what_is_rounded_is_not() {
    let kept = |path: &str, kind, rule| FieldDeclaration {
        rule,
        minimum: Some(0.into()),
        maximum: Some(10.into()),
        ..field(path, kind)
    };
    let catalogue = of(vec![
        FieldDeclaration { rule: Rule::Keep, ..field("flag", Boolean) },
        kept("whole", Integer, Rule::Keep),
        kept("rounded", Number, Rule::Keep),
        kept("summed", Integer, Rule::Sum),
        FieldDeclaration { rule: Rule::Keep, values: vec!["a".into()], ..field("word", Text) },
        FieldDeclaration { rule: Rule::CountBy, values: vec!["a".into()], ..field("counted", Text) },
        field("text", Text),
    ]);
    let kept = get(&catalogue, "t").filters().into_iter().filter(|f| f.kept).map(|f| f.path);
    assert_eq!(kept.collect::<Vec<_>>(), ["flag", "whole", "word"]);
}

#[test]
fn properties_fit_their_schema_and_the_told_example_fits_that_of_the_notification() {
    let hidden =
        |path: &str, kind| FieldDeclaration { audience: Audience::Telemetry, required: true, ..field(path, kind) };
    let fields = vec![
        hidden("top", Boolean),
        field("way.told", Text),
        hidden("way.hidden", Text),
        FieldDeclaration { audience: Audience::Telemetry, ..field("each.*", Text) },
    ];
    let example = json!({"top": true, "way": {"told": "x", "hidden": "y"}, "each": ["z"]});
    let whole = EventDeclaration { example: example.as_object().cloned(), ..event("t", fields) };
    let catalogue = compile(vec![], vec![whole]);
    let t = get(&catalogue, "t");
    let fits = |schema: &Value, data: &Value| jsonschema::validator_for(schema).unwrap().is_valid(data);
    let told = t.told_example().unwrap();
    assert_eq!(told, json!({"way": {"told": "x"}}));
    assert!(fits(&t.properties_schema(), &example) && !fits(&t.properties_schema(), &told));
    assert!(fits(&t.schema(), &told) && !fits(&t.schema(), &example));
    let missing = json!({"top": true, "way": {"told": "x"}});
    assert_eq!((fits(&t.properties_schema(), &missing), t.check(&missing).len()), (false, 1));
}
