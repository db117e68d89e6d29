//! The engine in a program of one's own, with a deliveree of one's own: `cargo run --example embed`.
//!
//! Starts an engine on a configuration in a temporary folder, with a kind of deliveree of its own, `memo`; records events,
//! one and many at once; waits until the memo has them, and ends by itself.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use posthaste::{Engine, config};
use posthaste_actors::messages::{InspectEvent, RecordBatch};
use posthaste_deliverees::{Kind, Kinds, Parsed, Problem};
use posthaste_events::outcome::Detail;
use posthaste_events::{Delivery, Draft, EventId, EventType, Notification, OneByOne, Outcome, Payload as _, State};
use posthaste_outbox::DeliveryView;
use serde_json::{Map, Value};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

const CONFIG: &str = r#"
[outbox]
free_min = "16MiB" # the temporary folder may be small

[catalogue]
files = []
undeclared = "accept"

[retry]
initial = "50ms"

[[subscription]]
name = "memo"
deliveree = "memo"
events = ["shop:**"]
title = "Orders"
"#;

/// The kind `memo`: it has one option of its own, `title`, and prints what it gets.
fn memo() -> Kind {
    Kind {
        name: "memo",
        keys: &["title"],
        paths: &[],
        parse: Arc::new(|options, _guard| {
            let Some(title) = options.get("title").and_then(Value::as_str) else {
                return Err(vec![Problem::new("title", "title is missing or no string", "write title = \"…\"")]);
            };
            let shown = Map::from_iter([("title".to_owned(), Value::from(title))]);
            let title: Arc<str> = title.into();
            Ok(Parsed::notification(shown, move |_tools| {
                let title = Arc::clone(&title);
                let send = move |delivery| write(Arc::clone(&title), delivery);
                OneByOne::new(Duration::from_secs(5), send)
            }))
        }),
    }
}

/// One attempt. The first of each delivery fails, to show that another follows.
async fn write(title: Arc<str>, delivery: Delivery<Notification>) -> Outcome {
    println!("{title}, attempt {}: {}", delivery.attempt, String::from_utf8_lossy(delivery.payload.bytes()));
    if delivery.attempt == 1 {
        return Outcome::Retry { detail: Detail::error("memo: not in the mood"), after: None };
    }
    Outcome::Delivered(Detail::default())
}

fn draft(event_type: &str, order: &str) -> Result<Draft, Box<dyn Error>> {
    let properties = Map::from_iter([("order".to_owned(), Value::from(order))]);
    Ok(Draft::new(EventType::parse(event_type)?).properties(&properties))
}

/// The delivery of an event once it is settled, within ten seconds.
async fn settled(engine: &Engine, event: EventId) -> Result<DeliveryView, Box<dyn Error>> {
    for _ in 0..1_000 {
        let view = engine.registry().send(InspectEvent(event)).await??.ok_or("no such event")?;
        let delivery = view.deliveries.into_iter().next().ok_or("it is owed to nobody")?;
        if delivery.row.state.is_settled() {
            return Ok(delivery);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("it is not settled within ten seconds".into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.toml");
    std::fs::write(&file, CONFIG)?;
    let kinds = Kinds::built_in().with(memo());
    let env = std::env::vars().collect();
    let config = config::load_with(&file, &env, &kinds).map_err(|problems| problems[0].to_string())?;
    let engine = Engine::start(&config).await?;

    let one = engine.record(draft("shop:order:placed", "o-1")?).await?;
    println!("{} is recorded, owed to {} subscription", one.id, one.deliveries);

    // Many at once, by the message that the HTTP API sends too.
    let drafts = [draft("shop:order:paid", "o-1")?, draft("shop:order:shipped", "o-1")?];
    let snapshot = engine.snapshot().current();
    let now = engine.clock().wall();
    let events = drafts.into_iter().map(|draft| snapshot.prepare(draft, now)).collect::<Result<Vec<_>, _>>()?;
    let recorded = engine.registry().send(RecordBatch { events, epoch: snapshot.epoch }).await??;

    for event in [one].iter().chain(&recorded) {
        let delivery = settled(&engine, event.id).await?;
        println!("{} is {} after {} attempts", event.id, delivery.row.state.as_str(), delivery.row.attempt_count);
        assert_eq!((delivery.row.state, delivery.row.attempt_count), (State::Delivered, 2));
        assert_eq!(delivery.attempts[0].detail.error.as_deref(), Some("memo: not in the mood"));
    }
    engine.stop(Duration::from_secs(5)).await?;
    println!("stopped");
    Ok(())
}
