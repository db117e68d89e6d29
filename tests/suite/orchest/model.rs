//! What each of Orchest's events becomes: an independent model of its two payload hierarchies, with our stated changes.
//!
//! Written from the reference of the original, a function a layer as there, and not from our catalogue or our builder:
//! it neither reads `events.toml` nor knows a rule. Each function adds its part to four trees at once: what is posted,
//! what people are told, and the two that analytics get.

use super::definition::{add, pipeline_definition, services};
use super::made::{Build, Fill, Made, words};
use rand::Rng as _;
use serde_json::{Map, Value, json};

/// The types of the original's event system, by what their names begin with.
const TYPES: &[(&str, &[&str])] = &[
    ("project", &["created", "updated", "deleted"]),
    ("project:environment", &["created", "deleted"]),
    ("project:environment:image-build", &["created", "started", "cancelled", "failed", "succeeded"]),
    ("project:pipeline", &["created", "updated", "deleted"]),
    ("project:pipeline:interactive-session", &["started", "stopped", "service-restarted", "failed", "succeeded"]),
    ("project:pipeline:interactive-session:pipeline-run", &["created", "started", "cancelled", "failed", "succeeded"]),
    ("project:one-off-job", &["created", "started", "deleted", "cancelled", "failed", "updated", "succeeded"]),
    ("project:one-off-job:pipeline-run", &["created", "started", "cancelled", "failed", "deleted", "succeeded"]),
    ("project:cron-job", &["created", "started", "deleted", "cancelled", "failed", "updated", "paused", "unpaused"]),
    ("project:cron-job:run", &["started", "succeeded", "failed"]),
    ("project:cron-job:run:pipeline-run", &["created", "started", "cancelled", "failed", "deleted", "succeeded"]),
    ("jupyter:image-build", &["created", "started", "cancelled", "failed", "succeeded"]),
];

/// The types that only analytics hear of.
pub(super) const FOR_ANALYTICS: [&str; 8] = [
    "alert:shown",
    "confirm:shown",
    "view:loaded",
    "heartbeat-trigger",
    "project:one-off-job:duplicated",
    "project:cron-job:duplicated",
    "project:pipeline:saved",
    "debug-ping",
];

/// The types of the event system: 58.
pub(super) fn told_types() -> Vec<String> {
    TYPES.iter().flat_map(|(prefix, ends)| ends.iter().map(move |end| format!("{prefix}:{end}"))).collect()
}

/// All types: 66.
pub(super) fn types() -> Vec<String> {
    told_types().into_iter().chain(FOR_ANALYTICS.map(str::to_owned)).collect()
}

/// Makes an event of a type and says what becomes of it.
pub(super) fn make(event_type: &str, fill: Fill, seed: u64) -> Made {
    let mut b = Build::new(fill, seed);
    let (prefix, end) = event_type.rsplit_once(':').unwrap_or(("", event_type));
    match prefix {
        "project" if end == "updated" => project_updated(&mut b),
        "project" => project_alone(&mut b),
        "project:environment" => environment(&mut b),
        "project:environment:image-build" => environment_image_build(&mut b, end),
        "project:pipeline" => pipeline_type(&mut b, end),
        "project:pipeline:interactive-session" => session_type(&mut b, end),
        "project:pipeline:interactive-session:pipeline-run" => interactive_pipeline_run(&mut b),
        "project:one-off-job" | "project:cron-job" => job_type(&mut b, prefix.ends_with("cron-job"), end),
        "project:one-off-job:pipeline-run" => {
            one_off_job(&mut b);
            job_pipeline_run(&mut b, "project.job.pipeline_run");
        }
        "project:cron-job:run" => cron_job_run(&mut b),
        "project:cron-job:run:pipeline-run" => {
            cron_job_run(&mut b);
            if b.has() {
                let number = b.number();
                b.kept("project.job.run.pipeline_run.number_in_run", number);
            }
            job_pipeline_run(&mut b, "project.job.run.pipeline_run");
        }
        "jupyter:image-build" => image_build(&mut b, "jupyter.image_build"),
        _ => alone(&mut b, event_type),
    }
    b.made(event_type, !FOR_ANALYTICS.contains(&event_type))
}

/// Keeps from here on only what analytics get: nobody is told.
fn alone(b: &mut Build, event_type: &str) {
    match event_type {
        "heartbeat-trigger" if b.has() => {
            let active = [json!(true), json!(false), Value::Null];
            let active = active[b.rng.random_range(0..3)].clone();
            b.kept("active", active);
        }
        "alert:shown" | "confirm:shown" => {
            // The original let the dialog's words out.
            b.perhaps_secret("title");
            b.perhaps_secret("content");
        }
        "view:loaded" if b.has() => {
            let name = b.pick(&["projects", "pipeline", "environments", "jobs", "job", "files", "settings"]);
            b.kept("name", name);
        }
        _ => {}
    }
}

fn project(b: &mut Build) {
    b.secret("project.uuid");
    b.perhaps_secret("project.name");
}

fn project_alone(b: &mut Build) {
    project(b);
    if b.has() {
        let count = b.number();
        b.only("project.projects_count", count.clone());
        b.derived("project.projects_count", count);
    }
}

fn project_updated(b: &mut Build) {
    project(b);
    changes(b, "project.update", &["name", "environment_variable"]);
}

/// What an update changed. One `update` level, and values never leave.
fn changes(b: &mut Build, at: &str, objects: &[&str]) {
    b.place(at);
    if !b.has() {
        return;
    }
    let (mut posted, mut kept, mut counted) = (Vec::new(), Vec::new(), Map::new());
    for _ in 0..b.some() {
        let (mut change, mut leaves) = (Map::new(), Map::new());
        if b.has() {
            let kind = b.pick(&["CREATED", "UPDATED", "DELETED"]);
            change.insert("type".into(), kind.clone());
            leaves.insert("type".into(), kind);
        }
        if b.has() {
            let (object, word) = b.word_or_other(objects);
            change.insert("changed_object".into(), object);
            add(&mut counted, &word, 1);
        }
        for value in ["old_value", "new_value"] {
            if b.has() {
                let text = if b.has() { b.text() } else { Value::Null };
                change.insert(value.into(), text);
            }
        }
        posted.push(Value::Object(change));
        kept.push(Value::Object(leaves));
    }
    b.derived(&format!("{at}.changes_count"), json!(posted.len()));
    b.derived_map(&format!("{at}.changes.changed_object_count"), counted);
    b.told(&format!("{at}.changes"), Value::Array(posted));
    b.leaves(&format!("{at}.changes"), Value::Array(kept));
}

fn environment(b: &mut Build) {
    project(b);
    b.secret("project.environment.uuid");
    b.perhaps_secret("project.environment.url_path");
}

fn environment_image_build(b: &mut Build, end: &str) {
    environment(b);
    let at = "project.environment.image_build";
    image_build(b, at);
    if end != "created" {
        return;
    }
    for flag in ["gpu_support", "uses_orchest_base_image"] {
        if b.has() {
            let value = json!(b.rng.random::<bool>());
            b.only(&format!("{at}.{flag}"), value.clone());
            b.leaves(&format!("{at}.{flag}"), value);
        }
    }
    let images = ["py", "r", "julia", "javascript"].map(|kind| format!("orchest/base-kernel-{kind}"));
    let known = [("language", vec!["python", "r", "julia", "javascript"]), ("base_image", words(&images))];
    for (name, known) in known {
        if b.has() {
            let (value, word) = b.word_or_other(&known);
            b.only(&format!("{at}.{name}"), value);
            b.derived(&format!("{at}.{name}"), json!({ word: 1 }));
        }
    }
}

/// The build of an image, an environment's or JupyterLab's: people are told nothing but that it happened.
fn image_build(b: &mut Build, at: &str) {
    b.place(at);
    if b.has() {
        let tag = b.number();
        b.only(&format!("{at}.image_tag"), tag.clone());
        b.leaves(&format!("{at}.image_tag"), tag);
    }
    // Times do not leave; whether there is one does.
    for (time, derived) in [("requested_time", false), ("started_time", true), ("finished_time", true)] {
        let value = if b.has() { b.text() } else { Value::Null };
        if derived {
            b.derived(&format!("{at}.{time}_present"), json!(!value.is_null()));
        }
        if !value.is_null() || b.has() {
            b.only(&format!("{at}.{time}"), value);
        }
    }
}

fn pipeline(b: &mut Build) {
    project(b);
    // The original put the event's uuid here.
    b.secret("project.pipeline.uuid");
    b.perhaps_secret("project.pipeline.name");
}

fn pipeline_type(b: &mut Build, end: &str) {
    pipeline(b);
    match end {
        "updated" => changes(b, "project.pipeline.update", &["name", "environment_variable"]),
        "saved" => pipeline_definition(b, "project.pipeline.pipeline_definition"),
        _ if b.has() => {
            let count = b.number();
            b.only("project.pipeline.project_pipelines_count", count.clone());
            b.derived("project.pipeline.project_pipelines_count", count);
        }
        _ => {}
    }
}

fn session(b: &mut Build) {
    pipeline(b);
    b.place("project.pipeline.session");
    if b.has() {
        let (services, binds) = services(b);
        b.derived("project.pipeline.session.user_services_count", json!(services.len()));
        b.derived_sum("project.pipeline.session.user_services.binds_count", &binds);
        b.only("project.pipeline.session.user_services", Value::Object(services));
    }
}

fn session_type(b: &mut Build, end: &str) {
    session(b);
    if end == "service-restarted" && b.has() {
        let active = json!(b.rng.random::<bool>());
        b.only("project.pipeline.session.active_runs", active.clone());
        b.leaves("project.pipeline.session.active_runs", active);
    }
}

fn interactive_pipeline_run(b: &mut Build) {
    session(b);
    let at = "project.pipeline.session.pipeline_run";
    b.secret(&format!("{at}.uuid"));
    b.perhaps_secret(&format!("{at}.url_path"));
    steps(b, &format!("{at}.steps"));
    steps(b, &format!("{at}.failed_steps"));
    parameters(b, at);
    pipeline_definition(b, &format!("{at}.pipeline_definition"));
}

/// A list of steps: how many leave, neither uuid nor title.
fn steps(b: &mut Build, at: &str) {
    if !b.has() {
        return;
    }
    let mut list = Vec::new();
    for _ in 0..b.some() {
        list.push(b.object(&["uuid", "title"]));
    }
    b.derived(&format!("{at}_count"), json!(list.len()));
    b.told(at, Value::Array(list));
}

/// What a run was started with. The original counted by step, under its uuid; ours adds up, since a uuid is no word.
fn parameters(b: &mut Build, at: &str) {
    if !b.has() {
        return;
    }
    let (mut all, mut counts) = (Map::new(), Vec::new());
    for number in 0..b.some() {
        let mut entry = Map::new();
        let key = if number == 0 { json!("pipeline_parameters") } else { b.text() };
        if number > 0 && b.has() {
            entry.insert("step".into(), b.object(&["uuid", "title"]));
        }
        if b.has() {
            let values = b.bag();
            counts.push(values.len());
            entry.insert("parameters".into(), Value::Object(values));
        }
        all.insert(key.as_str().unwrap_or_default().to_owned(), Value::Object(entry));
    }
    b.derived_sum(&format!("{at}.parameters.parameters_count"), &counts);
    b.told(&format!("{at}.parameters"), Value::Object(all));
}

fn job(b: &mut Build) {
    project(b);
    b.secret("project.job.uuid");
    b.perhaps_secret("project.job.name");
    if b.has() {
        let status = b.pick(&["DRAFT", "PENDING", "STARTED", "PAUSED", "SUCCESS", "ABORTED", "FAILURE"]);
        b.kept("project.job.status", status);
    }
    b.perhaps_secret("project.job.pipeline_name");
    b.perhaps_secret("project.job.url_path");
}

fn one_off_job(b: &mut Build) {
    job(b);
    if b.has() {
        let runs = b.number();
        b.kept("project.job.total_runs", runs);
    }
}

/// The original put `total_runs` in the place of these.
fn cron_job(b: &mut Build) {
    job(b);
    let scheduled = b.has();
    if scheduled {
        b.secret("project.job.schedule");
    }
    b.derived("project.job.schedule_present", json!(scheduled));
    b.perhaps_secret("project.job.next_scheduled_time");
}

fn job_type(b: &mut Build, cron: bool, end: &str) {
    if cron {
        cron_job(b)
    } else {
        one_off_job(b)
    }
    if ["created", "updated"].contains(&end) && b.has() {
        definition(b);
    }
    if end == "created" && b.has() {
        // In MiB, with a decimal.
        let tenths = b.rng.random_range(0..1_000_000);
        let size = json!(f64::from(tenths) / 10.0);
        b.only("project.job.snapshot_size", size.clone());
        b.derived("project.job.snapshot_size", size);
    }
    if end == "updated" {
        let objects = ["name", "parameters", "strategy_json", "environment_variable", "schedule"];
        let more = ["max_retained_pipeline_runs", "next_scheduled_time", "status"];
        changes(b, "project.job.update", &[&objects[..], &more[..]].concat());
    }
}

fn definition(b: &mut Build) {
    let at = "project.job.definition";
    b.only(&format!("{at}.draft"), json!(true));
    b.leaves(&format!("{at}.draft"), json!(true));
    for name in ["uuid", "project_uuid", "pipeline_uuid"] {
        if b.has() {
            let uuid = b.text();
            b.only(&format!("{at}.{name}"), uuid);
        }
    }
    if b.has() {
        b.only(&format!("{at}.pipeline_run_spec"), json!({ "run_type": "full", "uuids": [] }));
    }
    for name in ["parameterized_runs_count", "env_variables_count"] {
        if b.has() {
            let count = b.number();
            b.only(&format!("{at}.{name}"), count.clone());
            b.derived(&format!("{at}.{name}"), count);
        }
    }
    pipeline_definition(b, &format!("{at}.pipeline_definition"));
}

fn cron_job_run(b: &mut Build) {
    cron_job(b);
    if b.has() {
        let status = b.pick(&["STARTED", "SUCCESS", "FAILURE"]);
        let status = if b.has() { status } else { Value::Null };
        b.kept("project.job.run.status", status);
    }
    if b.has() {
        let number = b.number();
        b.kept("project.job.run.number", number);
    }
    if b.has() {
        let total = if b.has() { b.number() } else { Value::Null };
        b.kept("project.job.run.total_pipeline_runs", total);
    }
}

fn job_pipeline_run(b: &mut Build, at: &str) {
    b.secret(&format!("{at}.uuid"));
    if b.has() {
        let status = b.pick(&["PENDING", "STARTED", "SUCCESS", "FAILURE", "ABORTED"]);
        b.kept(&format!("{at}.status"), status);
    }
    if b.has() {
        let number = b.number();
        b.kept(&format!("{at}.number"), number);
    }
    b.perhaps_secret(&format!("{at}.url_path"));
    parameters(b, at);
    steps(b, &format!("{at}.failed_steps"));
}
