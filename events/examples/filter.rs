//! How long filters take at most: each of a set built to be slow, on payloads as large as one may be, cut down until the
//! filter is just still evaluated.
//!
//! `cargo run --release -p posthaste-events --example filter`

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement reads the clock and prints")]

use posthaste_events::filter::{Filter, Subject};
use posthaste_events::{EventType, Facts, Origin, Timestamp};
use serde_json::{Value, json};
use std::error::Error;
use std::time::{Duration, Instant};

/// The `data` of a payload of 256 KiB may be a little less; its frame takes the rest.
const BYTES: usize = 256 * 1024 - 128;

/// Makes a payload of about so many bytes.
type Shape = (&'static str, fn(usize) -> Value);

const SHAPES: [Shape; 6] = [
    ("numbers", |n| json!({"a": vec![1; n / 4], "b": vec![1; n / 4], "s": "x"})),
    ("fractions", |n| json!({"a": vec![1.5; n / 8], "b": vec![1.5; n / 8], "s": "x"})),
    ("words", |n| json!({"a": vec!["x"; n / 8], "b": vec!["x"; n / 8], "s": "x"})),
    ("texts", |n| json!({"a": "x".repeat(n / 2), "b": "x".repeat(n / 2), "s": "x".repeat(64)})),
    ("objects", |n| {
        let entry = json!({"x": 1, "y": {"z": 2}});
        json!({"a": vec![entry.clone(); n / 50], "b": vec![entry; n / 50], "s": "x"})
    }),
    ("names", |n| {
        let names = |n: usize| (0..n).map(|i| (format!("{i:x}"), json!(1))).collect::<serde_json::Map<_, _>>();
        json!({"a": names(n / 20), "b": names(n / 20), "s": "x"})
    }),
];

fn filters() -> Vec<String> {
    let each = |part: &str, with: &str, n: usize| vec![part; n].join(with);
    let long = "x".repeat(2_000);
    vec![
        "data.a.all(i, i == 'y' || i.contains('xxxxxxxxxxxxxxxy') || true)".into(),
        "data.s == 'y'".into(),
        "data.a == data.b".into(),
        each("data.a == data.b", " && ", 20),
        each("data.a != data.b", " || ", 20),
        format!("{} == data.a", each("data.a", " + ", 12)),
        format!("[{}] == data.a", each("data.a", ", ", 40)),
        format!("{{{}}} == data.a", (0..30).map(|i| format!("{i}: data.a")).collect::<Vec<_>>().join(", ")),
        "data.a.all(i, i == i)".into(),
        "data.a.exists(i, i > 'x' || i > {})".into(),
        "data.a.exists(i, i.x.y.z.w.v == 1)".into(),
        "data.a.exists(i, data > i)".into(),
        "data.a.exists(i, i in data.b && i == 7)".into(),
        "data.a.exists(i, i.y > i)".into(),
        "data.a.exists_one(i, i == 1)".into(),
        "data.a.map(i, [i, i, i, i]) == data.a.map(i, [i, i, i, i]) && false".into(),
        "data.a.map(i, data.b) == 1".into(),
        "data.a.filter(i, i == i).size() + data.b.filter(i, i != 'y').size() == 3".into(),
        format!("data.a.all(i, {})", each("i == 1", " && ", 20)),
        format!("data.a.all(i, {} || true)", each("string(i) == 'y'", " || ", 12)),
        format!("data.a.all(i, {} == i || true)", each("string(i)", " + ", 20)),
        format!("data.a.all(i, '{long}'.contains(i) || true)"),
        format!("data.a.all(i, {} || true)", each("data.s.contains('xxxxxxxxxxxxxxxy')", " || ", 12)),
        format!("['{long}', '{long}'].all(i, data.a.contains(i) || true)"),
        format!("{} || true", each("data.a.contains('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxy')", " || ", 20)),
        format!("{} > 0", each("size(data.a)", " + ", 25)),
        format!("{} == 'y'", each("data.a", " + ", 28)),
        format!("data.a.all(i, {} > i)", each("i.x", " + ", 20)),
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let facts = Facts {
        event_type: EventType::parse("a:b")?,
        key: None,
        tenant: None,
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: Timestamp::from_millis(0),
    };
    let never = Filter::compile("type == 'x'")?;
    println!("making what filters are evaluated in, once an event of 256 KiB:");
    for (name, shape) in SHAPES {
        let data = shape(BYTES);
        let took = best(|| Subject::new(&facts, &data), |subject| never.holds(subject));
        println!("  {name:<10} {:>8.3} ms", ms(took));
    }
    let (mut worst, mut of) = (Duration::ZERO, String::new());
    for text in filters() {
        let filter = Filter::compile(&text).map_err(|why| format!("{text}: {why}"))?;
        for (name, shape) in SHAPES {
            let Some((bytes, data)) = largest(&filter, shape) else { continue };
            // Of a subject of its own each time: an event's filters share a bound.
            let subject = || {
                let subject = Subject::new(&facts, &data);
                let _ = never.holds(&subject);
                subject
            };
            let took = best(subject, |subject| filter.holds(subject));
            let line = format!("{:>8.3} ms  {bytes:>6} bytes of {name:<10} {text:.60}", ms(took));
            if took > Duration::from_millis(1) {
                println!("{line}");
            }
            if took > worst {
                (worst, of) = (took, line);
            }
        }
    }
    println!("worst:\n{of}");
    Ok(())
}

/// The largest payload of a shape for which a filter is still evaluated.
fn largest(filter: &Filter, shape: fn(usize) -> Value) -> Option<(usize, Value)> {
    let (mut low, mut high) = (0, BYTES);
    let fits = |n: usize| filter.work(&shape(n)) <= posthaste_events::filter::WORK_MAX;
    if fits(high) {
        return Some((high, shape(high)));
    }
    while high - low > 64 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    (low > 0).then(|| (low, shape(low)))
}

fn best<'a>(subject: impl Fn() -> Subject<'a>, run: impl Fn(&Subject<'a>) -> bool) -> Duration {
    let runs = (0..5).map(|_| {
        let subject = subject();
        let begun = Instant::now();
        let _ = std::hint::black_box(run(&subject));
        begun.elapsed()
    });
    runs.min().unwrap_or_default()
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}
