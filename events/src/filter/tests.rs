//! Filters: what is taken, what they answer, and that their work is bounded.

use super::*;
use crate::{EventType, Origin, Timestamp};
use proptest::prelude::*;
use serde_json::json;

fn facts() -> Facts {
    Facts {
        event_type: EventType::parse("shop:order:paid").unwrap(),
        key: None,
        tenant: Some("acme".into()),
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: Timestamp::from_millis(0),
    }
}

fn holds(text: &str, data: &Value) -> bool {
    let filter = Filter::compile(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    filter.holds(&Subject::new(&facts(), data))
}

fn refused(text: &str) -> String {
    Filter::compile(text).expect_err(text).0
}

#[test]
fn a_filter_sees_type_key_tenant_and_data() {
    let data = json!({"total": 150, "tags": ["new", "eu"], "items": [{"n": 1}, {"n": 7}], "who": {"name": "Ada"}});
    for text in [
        "data.total > 100",
        "data.total > 100.5 && data.total < 200u",
        "type == 'shop:order:paid' && type.startsWith('shop:')",
        "key == null && tenant == \"acme\"",
        "'eu' in data.tags && data.tags == ['new', 'eu'] && size(data.tags) == 2 && data.tags.size() == 2",
        "data.items.exists(i, i.n > 5) && !data.items.all(i, i.n > 5)",
        "data.items.filter(i, i.n > 5).size() == 1",
        "data.items.map(i, i.n) == [1, 7]",
        "data.items[1].n == 7 && data['who'].name == 'Ada'",
        "has(data.who.name) && !has(data.who.age)",
        "'name' in data.who && data.who == {'name': 'Ada'}",
        "data.who.exists(name, name == 'name')",
        "['new', 'old'].exists(t, t in data.tags)",
        "double(data.total) * 1.5 > 200.0",
        "data.total > 100 ? true : false",
        "data.missing == 1 || data.total == 150",
    ] {
        assert!(holds(text, &data), "{text}");
    }
    for text in ["data.total > 150", "data.who.name == 'Bob'", "tenant == null", "data.items.exists_one(i, i.n > 0)"] {
        assert!(!holds(text, &data), "{text}");
    }
}

#[test]
fn a_filter_says_which_variables_it_names() {
    for (text, named) in [
        ("type == 'a:b' || type.startsWith('c')", &["type"][..]),
        ("true", &[]),
        ("key == 'k' && tenant == type && key != ''", &["key", "tenant", "type"]),
        ("data.a.b == 1", &["data"]),
        ("data['type'] == 1", &["data"]),
        ("has(data.a)", &["data"]),
        ("size(data) > 1", &["data"]),
        ("data.list.exists(x, x == 1)", &["data"]),
        ("['a', 'b'].exists(x, x == type)", &["type"]),
        ("(type == 'a' ? data : data).x", &["type", "data"]),
        ("{'a': tenant}.a == 'x'", &["tenant"]),
        ("data.list[size(key)] == 1", &["data", "key"]),
    ] {
        assert_eq!(Filter::compile(text).unwrap_or_else(|e| panic!("{text}: {e}")).variables(), named, "{text}");
    }
}

#[test]
fn a_number_is_compared_as_one_however_it_is_written() {
    for (text, total, held) in [
        ("data.total > 100", json!(150), true),
        ("data.total > 100", json!(150.5), true),
        ("data.total > 100", json!(99.9), false),
        ("data.total > 100.0", json!(150), true),
        ("data.total == 150.0", json!(150), true),
        ("data.total > 100", json!(u64::MAX), true),
        ("data.total < 0", json!(i64::MIN), true),
    ] {
        assert_eq!(holds(text, &json!({"total": total.clone()})), held, "{text} of {total}");
    }
}

#[test]
fn what_fails_or_is_no_yes_or_no_is_no_match_and_is_counted() {
    let filter = Filter::compile("data.total > 100").unwrap();
    let facts = facts();
    let held = |data: Value| filter.holds(&Subject::new(&facts, &data));
    assert!(held(json!({"total": 101})) && !held(json!({"total": 99})));
    assert_eq!(filter.errors(), 0);
    for data in [json!({}), json!({"total": "many"}), json!({"total": null}), json!([]), json!(null)] {
        assert!(!held(data));
    }
    assert_eq!(filter.clone().errors(), 5);
    for text in ["data.x", "data.x ? 1 : 2", "data.a / 0 == 1", "data.a + 9223372036854775807 > 0", "size(data.a) > 0"]
    {
        let filter = Filter::compile(text).unwrap();
        assert!(!filter.holds(&Subject::new(&facts, &json!({"x": "text", "a": 1}))), "{text}");
        assert_eq!(filter.errors(), 1, "{text}");
    }
}

#[test]
fn what_is_no_filter_is_refused_and_says_why() {
    for (text, why) in [
        ("", "cannot be read as CEL"),
        ("data.total >", "cannot be read as CEL at line 1, column"),
        ("data.total > 1 &&\n&& 2", "line 2"),
        ("'open", "cannot be read"),
        ("datum.total > 1", "names \"datum\""),
        ("data.name.matches('^a+$')", "calls \"matches\""),
        ("dyn(data) == 1", "calls \"dyn\""),
        ("type(data) == 1", "calls \"type\""),
        ("optional.none() == 1", "calls \"none\""),
        ("data.?a == 1", "cannot be read"),
        ("b'ab' == data", "bytes"),
        ("data.total + 1", "yes or no"),
        ("'yes'", "yes or no"),
        ("data", "yes or no"),
        ("data.items.map(i, i)", "yes or no"),
        ("Message{a: 1} == data", "message"),
        ("data.items.all(data, data.x == 1)", "choose another name"),
        ("data.a.all(i, i.b.all(j, j > 0))", "macro within a macro"),
        ("data.a.filter(i, i > 0).all(j, j > 0)", "over something else"),
        ("data.a.all(i, i > 0) && data.a.all(i, i > 0) && data.a.all(i, i > 0)", "more than 2 macros"),
        ("[data.a, data.b].all(i, i > 0)", "over something else"),
    ] {
        let said = refused(text);
        assert!(said.contains(why), "{text}: {said}");
    }
}

#[test]
fn a_filter_built_to_be_slow_is_refused_when_it_is_read() {
    // Over a hundred entries this one took eleven seconds in the library.
    let nested = "data.a.all(a, data.a.all(b, data.a.all(c, data.a.all(d, a + b + c + d >= 0))))";
    assert!(refused(nested).contains("macro within a macro"));
    let many = |part: &str, with: &str, n: usize| vec![part; n].join(with);
    for text in [
        many("data.a == data.b", " && ", 100),
        many("a", " + ", 150),
        "(".repeat(2_000) + "1" + &")".repeat(2_000),
        "[".repeat(2_000),
        "!".repeat(2_000) + "true",
        "-".repeat(2_000) + "1 == 1",
        "data".to_owned() + &".a".repeat(2_000),
        "data".to_owned() + &"[0]".repeat(1_000),
        "true ? ".repeat(500) + "true",
        format!("data.a == '{}'", "x".repeat(TEXT_MAX)),
    ] {
        assert!(Filter::compile(&text).is_err(), "{}…", &text[..20]);
    }
}

#[test]
fn what_would_be_too_much_work_for_an_event_is_not_begun() {
    let filter = Filter::compile("data.a.all(x, x in data.b)").unwrap();
    let facts = facts();
    let of = |n: usize| json!({"a": vec![1; n], "b": vec![1; n]});
    assert!(filter.holds(&Subject::new(&facts, &of(100))));
    assert_eq!(filter.errors(), 0);
    // Ten thousand times ten thousand comparisons.
    assert!(!filter.holds(&Subject::new(&facts, &of(10_000))));
    assert_eq!(filter.errors(), 1);
    let named =
        Filter::compile("data.m.all(n, n.contains('y') || n.contains('z') || n.contains('xy') || true)").unwrap();
    let names: serde_json::Map<_, _> = (0..100).map(|i| (format!("{i}{}", "x".repeat(600)), json!(1))).collect();
    assert!(named.work(&json!({"m": names})) > 4 * 100 * 600 / 16);
    // A large payload beside what a filter looks at costs it nothing.
    let large = json!({"a": [1], "b": [1], "c": vec![1; 100_000]});
    assert!(filter.holds(&Subject::new(&facts, &large)));
}

#[test]
fn all_filters_of_an_event_share_its_work_and_small_ones_are_always_evaluated() {
    let heavy = || Filter::compile("data.a.all(x, x in data.b)").unwrap();
    let small = Filter::compile("data.n > 1 && type != 'x'").unwrap();
    let data = json!({"a": vec![1; 120], "b": vec![1; 120], "n": 2});
    let facts = facts();
    assert!((WORK_MAX / 2..WORK_MAX).contains(&heavy().work(&data)) && small.work(&data) <= WORK_FREE);
    let subject = Subject::new(&facts, &data);
    let filters: Vec<Filter> = (0..100).map(|_| heavy()).collect();
    let held = filters.iter().filter(|f| f.holds(&subject)).count() as u64;
    assert!((2..=4).contains(&held), "{held}");
    assert_eq!(filters.iter().map(Filter::errors).sum::<u64>(), 100 - held, "each of the rest is counted");
    assert!((0..1_000).all(|_| small.holds(&subject)));
    assert_eq!(subject.left.get() / WORK_FREE, 0, "what was refused was counted too");
    assert!(filters.iter().all(|f| f.holds(&Subject::new(&facts, &data))), "the next event has its own");
}

#[test]
fn texts_as_deep_as_is_read_are_parsed_on_a_small_stack() {
    let parts = TOKENS_MAX - 10;
    let mut texts = vec![
        "!".repeat(parts) + "true",
        "-".repeat(parts) + "1 == 1",
        "data".to_owned() + &".a".repeat(parts / 2),
        "data".to_owned() + &"[0]".repeat(parts / 3),
        "true ? true : ".repeat(parts / 4) + "true",
        vec!["1"; parts / 2].join("+"),
        vec!["1"; parts / 2].join("<"),
        "data.a".to_owned() + &".size()".repeat(parts / 4),
    ];
    for (open, close) in [("(", ")"), ("[", "]"), ("{1:", "}"), ("size(", ")"), ("data[", "]"), ("!(", ")")] {
        texts.push(open.repeat(NESTING_MAX) + "1" + &close.repeat(NESTING_MAX));
    }
    let small = std::thread::Builder::new().stack_size(1024 * 1024);
    let compile = move || texts.iter().for_each(|text| drop(Filter::compile(text)));
    small.spawn(compile).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = Filter::compile(&text);
    }

    #[test]
    fn no_row_of_words_of_the_language_makes_anything_panic(
        words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..14),
    ) {
        if let Ok(filter) = Filter::compile(&words.join(" ")) {
            let data = json!({"a": [1, 2.5, "x", null, {"b": true}], "b": "text", "c": {"a": 1}});
            let _ = filter.holds(&Subject::new(&facts(), &data));
        }
    }
}

const WORDS: [&str; 36] = [
    "data",
    ".",
    "a",
    "b",
    "data.a",
    "data.b",
    "data.c",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "?",
    ":",
    ",",
    "1",
    "1.5",
    "2u",
    "'x'",
    "null",
    "true",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "==",
    "<",
    "in",
    ".all(x,",
    ".map(x,",
    "size(",
    "has(data.a)",
    ".contains(",
    "%",
];
