//! The engine in a program of one's own, with a deliveree of one's own: `cargo run --example embed`.
//!
//! Starts an engine on a configuration in a temporary folder, declares the kind `memo`, records an event, waits until the
//! memo has it, and ends by itself.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use posthaste::{Engine, config};
use posthaste_actors::messages::InspectEvent;
use posthaste_deliverees::{Kind, Kinds, Parsed, Problem};
use posthaste_events::outcome::Detail;
use posthaste_events::{
    AnyDeliveree, Delivery, Draft, EventType, Notification, OneByOne, Outcome, Payload as _, State,
};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const CONFIG: &str = r#"
[outbox]
engine = "memory"

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

/// What the deliveree was given: the number of the attempt, and the payload.
type Seen = mpsc::UnboundedSender<(u32, String)>;

/// The kind `memo`: it has one option of its own, `title`, and hands what it gets to `seen`.
fn memo(seen: Seen) -> Kind {
    Kind {
        name: "memo",
        keys: &["title"],
        parse: Arc::new(move |options, _guard| {
            let Some(title) = options.get("title").and_then(Value::as_str) else {
                return Err(vec![Problem::new("title", "title is missing or no string", "write title = \"…\"")]);
            };
            let shown = Map::from_iter([("title".to_owned(), Value::from(title))]);
            let (title, seen) = (title.to_owned(), seen.clone());
            Ok(Parsed::new(shown, move |_tools| {
                let (title, seen) = (title.clone(), seen.clone());
                let send = move |delivery: Delivery<Notification>| {
                    let outcome = write(&title, &seen, &delivery);
                    async move { outcome }
                };
                AnyDeliveree::Notification(Arc::new(OneByOne::new(Duration::from_secs(5), send)))
            }))
        }),
    }
}

/// One attempt. The first fails, to show that another follows.
fn write(title: &str, seen: &Seen, delivery: &Delivery<Notification>) -> Outcome {
    let payload = String::from_utf8_lossy(delivery.payload.bytes()).into_owned();
    println!("{title}, attempt {}: {payload}", delivery.attempt);
    // The program that reads may be gone, which is no reason to try again.
    let _ = seen.send((delivery.attempt, payload));
    if delivery.attempt == 1 {
        return Outcome::Retry { detail: Detail::error("memo: not in the mood"), after: None };
    }
    Outcome::Delivered(Detail::default())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.toml");
    std::fs::write(&file, CONFIG)?;
    let (seen, mut attempts) = mpsc::unbounded_channel();
    let kinds = Kinds::built_in().with(memo(seen));
    let config = config::load_with(&file, &config::Env::new(), &kinds).map_err(|problems| problems[0].to_string())?;

    let engine = Engine::start(&config).await?;
    let properties = json!({ "order": "o-1", "total": 42.5 });
    let draft = Draft::new(EventType::parse("shop:order:placed")?);
    let draft = draft.properties(properties.as_object().ok_or("an object")?);
    let recorded = engine.record(draft).await?;
    println!("{} is recorded, owed to {} subscription", recorded.id, recorded.deliveries);

    // The deliveree tells of both attempts; then the outbox is asked, by a message, what became of the delivery.
    for wanted in 1..=2 {
        let (attempt, payload) =
            tokio::time::timeout(Duration::from_secs(10), attempts.recv()).await?.ok_or("ended")?;
        assert_eq!(attempt, wanted);
        assert!(payload.contains(r#""order":"o-1""#), "{payload}");
    }
    let state = loop {
        let view = engine.registry().send(InspectEvent(recorded.id)).await??.ok_or("no such event")?;
        let state = view.deliveries.first().ok_or("no delivery")?.row.state;
        if state != State::Pending {
            break state;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    println!("the delivery is {}", state.as_str());
    assert_eq!(state, State::Delivered);

    engine.stop(Duration::from_secs(5)).await?;
    println!("stopped");
    Ok(())
}
