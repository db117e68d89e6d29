//! Events as Rust structs that hold what they stand in: `cargo run --example typed`.
//!
//! A project, a job in it and a run of the job are layers, each with its own fields and what becomes of them towards
//! analytics; a type stands on the run. The same catalogue entry, notification and telemetry come of them as of TOML.
//! Records one, waits until people and analytics have it, shows what each got, and ends by itself.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use posthaste::{Engine, config};
use posthaste_actors::messages::InspectEvent;
use posthaste_deliverees::registry::Kinds;
use posthaste_events::catalogue::Unbuilt;
use posthaste_events::catalogue::declare::{Declarations, FieldDeclaration, FieldKind, Rule};
use posthaste_events::layered::{Event, Layer, Root, Typed as _, Values, values};
use std::error::Error;
use std::time::Duration;

const CONFIG: &str = r#"
[outbox]
free_min = "16MiB" # the temporary folder may be small

[catalogue]
files = [] # the types are declared below, in Rust

[[subscription]]
name = "people"
deliveree = "console"

[[subscription]]
name = "product"
deliveree = "analytics"
backend = "file"
path = "telemetry.ndjson"
batch = { wait = "10ms" }
"#;

/// A field without a rule: it never leaves as telemetry.
fn text(name: &str) -> FieldDeclaration {
    FieldDeclaration::new(name, FieldKind::String)
}

struct Project {
    uuid: String,
    name: String,
}

impl Layer for Project {
    const NAME: &'static str = "project";
    type Parent = Root;

    fn parent(&self) -> &Root {
        &Root
    }

    fn fields() -> Vec<FieldDeclaration> {
        let uuid = FieldDeclaration { required: true, identity: true, ..text("uuid") };
        vec![uuid, FieldDeclaration { sensitive: true, ..text("name") }]
    }

    fn values(&self) -> Result<Values, Unbuilt> {
        values([("uuid", self.uuid.as_str().into()), ("name", self.name.as_str().into())])
    }
}

/// A job knows its project, so its payloads are built on the project's.
struct Job {
    project: Project,
    uuid: String,
    parameters: Values,
}

impl Layer for Job {
    const NAME: &'static str = "project:job";
    type Parent = Project;

    fn parent(&self) -> &Project {
        &self.project
    }

    fn fields() -> Vec<FieldDeclaration> {
        let uuid = FieldDeclaration { required: true, identity: true, ..text("uuid") };
        let counted = FieldDeclaration::new("parameters", FieldKind::Object);
        vec![uuid, FieldDeclaration { rule: Rule::Count, ..counted }]
    }

    fn values(&self) -> Result<Values, Unbuilt> {
        values([("uuid", self.uuid.as_str().into()), ("parameters", self.parameters.clone().into())])
    }
}

struct Run {
    job: Job,
    failed: bool,
    /// Titles of steps.
    failed_steps: Vec<String>,
}

impl Layer for Run {
    const NAME: &'static str = "project:job:run";
    type Parent = Job;

    fn parent(&self) -> &Job {
        &self.job
    }

    fn fields() -> Vec<FieldDeclaration> {
        let words = vec!["SUCCESS".into(), "FAILURE".into()];
        let status = FieldDeclaration { values: words, rule: Rule::Keep, ..text("status") };
        let counted = FieldDeclaration::new("failed_steps", FieldKind::Array);
        vec![status, FieldDeclaration { rule: Rule::Count, ..counted }]
    }

    fn values(&self) -> Result<Values, Unbuilt> {
        let status = if self.failed { "FAILURE" } else { "SUCCESS" };
        values([("status", status.into()), ("failed_steps", self.failed_steps.clone().into())])
    }
}

/// The event: a run has ended.
struct RunEnded(Run);

impl Event for RunEnded {
    const TYPE: &'static str = "project:job:run:ended";
    type Layer = Run;

    fn layer(&self) -> &Run {
        &self.0
    }

    fn title() -> Option<&'static str> {
        Some("A run ended")
    }
}

fn ended() -> Result<RunEnded, Unbuilt> {
    let project = Project { uuid: "p-1".into(), name: "Churn".into() };
    let job = Job { project, uuid: "j-1".into(), parameters: values([("country", "BE".into())])? };
    Ok(RunEnded(Run { job, failed: true, failed_steps: vec!["Train".into()] }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.toml");
    std::fs::write(&file, CONFIG)?;
    let env = std::env::vars().collect();
    // Beside what TOML files declare, had there been any; what is wrong with either is told before anything runs.
    let declared = Declarations::default().with::<RunEnded>();
    let config = config::load_declared(&file, &env, &Kinds::built_in(), &declared)
        .map_err(|problems| problems[0].to_string())?;
    let engine = Engine::start(&config).await?;

    let event = ended()?;
    println!("notification  {}", event.to_notification()?);
    println!("telemetry     {}", event.to_telemetry()?);
    // What a layer could not say would be quarantined, and the event recorded all the same.
    let recorded = engine.record_typed(&event).await?;
    println!("{} is recorded, owed to {} subscriptions", recorded.id, recorded.deliveries);

    for _ in 0..1_000 {
        let view = engine.registry().send(InspectEvent(recorded.id)).await??.ok_or("no such event")?;
        if view.deliveries.iter().all(|delivery| delivery.row.state.is_settled()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    engine.stop(Duration::from_secs(5)).await?;
    let left = std::fs::read_to_string(folder.path().join("telemetry.ndjson"))?;
    println!("left          {}", left.trim_end());
    assert!(left.contains(r#""parameters_count":1"#) && !left.contains("Churn") && !left.contains("p-1"));
    Ok(())
}
