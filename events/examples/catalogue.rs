//! Measures the catalogue: `catalogue [TYPES] [EVENTS]` prints how long TYPES types take to compile and how much memory
//! they keep, and how long an event four layers deep takes, EVENTS times.

use posthaste_events::EventType;
use posthaste_events::catalogue::declare::{
    Audience, Declarations, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration, Rule,
};
use posthaste_events::catalogue::{Catalogue, Undeclared};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn field(path: &str, kind: FieldKind) -> FieldDeclaration {
    FieldDeclaration::new(path, kind)
}

/// The fields of a layer as a product has them: an id, a name, a state, a number, an object.
fn fields() -> Vec<FieldDeclaration> {
    let words = ["PENDING", "STARTED", "SUCCESS", "FAILURE"].map(Value::from).to_vec();
    vec![
        FieldDeclaration { required: true, identity: true, ..field("uuid", FieldKind::String) },
        FieldDeclaration { sensitive: true, rule: Rule::Present, ..field("name", FieldKind::String) },
        FieldDeclaration { values: words, rule: Rule::Keep, ..field("status", FieldKind::String) },
        FieldDeclaration {
            minimum: Some(0.into()),
            maximum: Some(1_000.into()),
            rule: Rule::Keep,
            ..field("number", FieldKind::Integer)
        },
        FieldDeclaration { rule: Rule::Count, ..field("parameters", FieldKind::Object) },
        FieldDeclaration { rule: Rule::Keep, audience: Audience::Telemetry, ..field("retried", FieldKind::Boolean) },
    ]
}

/// A catalogue of so many types, four layers deep, twenty to a layer; every fourth adds a field of its own.
fn declarations(types: usize) -> Declarations {
    let mut all = Declarations::default();
    let layer = |name: String| LayerDeclaration { name, fields: fields(), ..LayerDeclaration::default() };
    all.layers.extend(["project", "project:job", "project:job:run"].map(|name| layer(name.to_owned())));
    all.layers.extend((0..types.div_ceil(20)).map(|n| layer(format!("project:job:run:part{n}"))));
    for n in 0..types {
        let own = if n % 4 == 3 { vec![field("reason", FieldKind::String)] } else { Vec::new() };
        let name = format!("project:job:run:part{}:done{n}", n / 20);
        all.events.push(EventDeclaration { name, fields: own, ..EventDeclaration::default() });
    }
    all
}

/// The resident memory of this process in bytes; 0 where the system does not tell.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

fn per(taken: Duration, count: usize) -> f64 {
    taken.as_secs_f64() * 1e6 / count.max(1) as f64
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs the clock")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
fn main() {
    let mut given = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let (types, events) = (given.next().unwrap_or(1_000), given.next().unwrap_or(200_000));
    let declared = declarations(types);
    let before = resident();
    let (compiled, taken) = timed(|| Catalogue::compile(&declared, Undeclared::Reject));
    let catalogue = match compiled {
        Ok(catalogue) => catalogue,
        Err(faults) => return println!("{faults:#?}"),
    };
    let kept = resident().saturating_sub(before);
    println!("{types} types: {:.1} ms to compile, {kept} bytes kept", taken.as_secs_f64() * 1e3);

    let place = |inside: Value| {
        let mut place = json!({
            "uuid": "8d3f0a52-6f5e-4a33-9c53-0d1b5d1f6a11", "name": "Churn", "status": "STARTED", "number": 20,
            "parameters": {"limit": 500, "country": "BE"}, "retried": true
        });
        if let (Some(place), Value::Object(inside)) = (place.as_object_mut(), inside) {
            place.extend(inside);
        }
        place
    };
    let innermost = place(json!({}));
    let data = json!({"project": place(json!({"job": place(json!({"run": place(json!({ "part0": innermost }))}))}))});
    let text = data.to_string();
    let (Ok(name), bare) = (EventType::parse("project:job:run:part0:done0"), without(&data, "retried")) else { return };
    let Some(declared) = catalogue.get(&name) else { return };
    println!("an event four layers deep, {} bytes; misfits: {:?}", text.len(), declared.check(&data));
    let bare_text = bare.to_string();
    let ((), checks) = timed(|| (0..events).for_each(|_| drop(black_box(declared.check(black_box(&data))))));
    let tell = |data: &Value, text: &str| {
        timed(|| (0..events).for_each(|_| drop(black_box(declared.notification(black_box(data), text))))).1
    };
    let (told, cut) = (tell(&bare, &bare_text), tell(&data, &text));
    let ((), left) = timed(|| (0..events).for_each(|_| drop(black_box(declared.telemetry(&name, black_box(&data))))));
    println!("check: {:.2} us", per(checks, events));
    println!("notification: {:.2} us, {:.2} us with four fields to cut out", per(told, events), per(cut, events));
    println!("telemetry: {:.2} us", per(left, events));
}

/// The same without this name anywhere.
fn without(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| *key != name);
            kept.map(|(key, field)| (key.clone(), without(field, name))).collect()
        }
        other => other.clone(),
    }
}
