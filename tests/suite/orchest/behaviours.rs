//! The behaviours of the reference (section 6), each by its number: what is kept, and what is mended.
//!
//! Those that another test pins already are listed with it in `docs/faithfulness.md`.

use super::model::{FOR_ANALYTICS, types};
use super::platform::{Platform, copy, held};
use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Count, Daemon, PrivateNetwork, Receiver, Reply, Subscription, daemon, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Runs a test on the example with its config changed.
fn on(change: impl FnOnce(String) -> String + Send, test: impl FnOnce(Platform) -> Result<()> + Send) -> Result<()> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| test(Platform::start(folder.path(), change)?))
}

/// Adds a webhook to the example, whose path is its name.
fn webhook(name: &str, rest: &str) -> impl FnOnce(String) -> String + Send {
    let hook = format!(
        "\n[[subscription]]\nname = \"{name}\"\ndeliveree = \"webhook\"\nurl = \"http://127.0.0.1:8322/{name}\"\n\
         secrets = [\"{}\"]\n{rest}\n",
        posthaste_tests::config::SECRET
    );
    move |config| config + &hook
}

/// What `check` says of the example with a webhook added, and whether it is accepted.
fn check(rest: &str) -> Result<(bool, String)> {
    let folder = folder()?;
    let home = copy(folder.path(), webhook("added", rest))?;
    let done = daemon::command(&home, &["check", "--config", "config.toml"], &[])?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(matches!(done.status.code(), Some(0 | 2)), "{}: {said}", done.status);
    Ok((done.status.success(), said))
}

fn project(uuid: &str) -> Value {
    json!({ "project": { "uuid": uuid } })
}

fn job(project: &str, job: &str) -> Value {
    json!({ "project": { "uuid": project, "job": { "uuid": job } } })
}

#[test]
fn keep_01_discovery_lists_every_type_with_the_filters_that_it_offers() -> Result<()> {
    on(
        |config| config,
        |platform| {
            let listed = platform.client().get("/v1/event-types?limit=1000")?;
            let listed = listed["data"].as_array().context("types")?;
            let names: BTreeSet<&str> = listed.iter().filter_map(|t| t["type"].as_str()).collect();
            let declared = types();
            ensure!(declared.iter().all(|t| names.contains(t.as_str())), "{names:?}");
            for shown in listed {
                let event_type = shown["type"].as_str().unwrap_or_default();
                if event_type.starts_with("posthaste:") || FOR_ANALYTICS.contains(&event_type) {
                    continue;
                }
                let filters: BTreeMap<&str, &Value> = shown["filters"]
                    .as_array()
                    .with_context(|| format!("filters of {shown}"))?
                    .iter()
                    .filter_map(|f| Some((f["path"].as_str()?, &f["requires"])))
                    .collect();
                let (of_project, of_job) = (filters.get("project.uuid"), filters.get("project.job.uuid"));
                ensure!(of_project.is_some() == event_type.starts_with("project:"), "{event_type}: {filters:?}");
                let jobs = event_type.contains("one-off-job:") || event_type.contains("cron-job:");
                ensure!(of_job.is_some() == jobs, "{event_type}: {filters:?}");
                ensure!(
                    of_job.is_none_or(|requires| **requires == json!(["project.uuid"])),
                    "{event_type}: {filters:?}"
                );
                ensure!(!event_type.starts_with("jupyter:") || filters.is_empty(), "{event_type}: {filters:?}");
            }
            Ok(())
        },
    )
}

#[test]
fn keep_02_an_event_that_fits_several_sets_makes_one_delivery() -> Result<()> {
    let sets = r#"
        [[subscription.match]]
        events = ["project:one-off-job:failed"]
        [[subscription.match]]
        events = ["project:one-off-job:failed"]
        where = { "project.uuid" = "P" }
        [[subscription.match]]
        events = ["project:one-off-job:failed"]
        where = { "project.uuid" = "P", "project.job.uuid" = "A" }"#;
    on(webhook("several", sets), |platform| {
        let id = platform.record("project:one-off-job:failed", &job("P", "A"))?;
        platform.settled("several")?;
        let event = platform.client().get(&format!("/v1/events/{id}"))?;
        let deliveries = event["deliveries"].as_array().context("deliveries")?;
        let ours = deliveries.iter().filter(|d| d["subscription"] == "several").count();
        ensure!(ours == 1 && platform.hooks_of("/several").len() == 1, "{event}");
        Ok(())
    })
}

#[test]
fn fix_03_a_subscription_to_one_job_hears_nothing_of_another_one() -> Result<()> {
    let a = r#"events = ["project:one-off-job:**"]
        where = { "project.uuid" = "P", "project.job.uuid" = "A" }"#;
    on(webhook("job-a", a), |platform| {
        platform.record("project:one-off-job:failed", &job("P", "B"))?;
        platform.record("project:one-off-job:failed", &job("Q", "A"))?;
        platform.record("project:created", &project("P"))?;
        let id = platform.record("project:one-off-job:failed", &job("P", "A"))?;
        platform.settled("job-a")?;
        let ids: Vec<String> = platform.hooks_of("/job-a").into_iter().map(|hook| hook.id).collect();
        ensure!(ids == [id], "{ids:?}");
        Ok(())
    })
}

#[test]
fn fix_04_a_filter_that_a_type_does_not_offer_is_refused() -> Result<()> {
    for (events, filter) in [
        ("jupyter:image-build:failed", "\"project.uuid\" = \"P\""),
        ("jupyter:**", "\"project.uuid\" = \"P\""),
        ("project:created", "\"project.uuid\" = \"P\", \"project.job.uuid\" = \"J\""),
        ("project:pipeline:created", "\"project.uuid\" = \"P\", \"project.job.uuid\" = \"J\""),
        // It is told nobody.
        ("project:one-off-job:created", "\"project.job.snapshot_size\" = 1"),
    ] {
        let (taken, said) = check(&format!("events = [\"{events}\"]\nwhere = {{ {filter} }}"))?;
        ensure!(!taken && said.contains("config.toml:") && said.contains("added"), "{events}: {said}");
    }
    let (taken, said) = check("events = [\"project:created\"]\nwhere = { \"project.uuid\" = \"P\" }")?;
    ensure!(taken, "{said}");
    Ok(())
}

#[test]
fn keep_05_a_job_without_its_project_is_refused_and_nothing_is_stored() -> Result<()> {
    let (taken, said) = check("events = [\"project:cron-job:**\"]\nwhere = { \"project.job.uuid\" = \"J\" }")?;
    ensure!(!taken && said.contains("project.uuid"), "{said}");
    // A daemon that runs keeps what it has.
    on(
        |config| config,
        |platform| {
            let file = platform.home().join("config.toml");
            let wrong = r#"where = { "project.job.uuid" = "J" }"#;
            fs::write(&file, webhook("added", wrong)(fs::read_to_string(&file)?))?;
            ensure!(platform.reload().is_err(), "it took the wrong file");
            let shown = platform.client().send("GET", "/v1/subscriptions/added", &[], b"")?;
            ensure!(shown.status == 404, "{}", shown.status);
            Ok(())
        },
    )
}

#[test]
fn fix_07_a_subscription_that_names_no_types_is_taken_and_gets_what_people_are_told() -> Result<()> {
    on(webhook("plain", ""), |platform| {
        let told = platform.record("jupyter:image-build:failed", &json!({}))?;
        platform.record("heartbeat-trigger", &json!({ "active": true }))?;
        platform.settled("plain")?;
        let ids: Vec<String> = platform.hooks_of("/plain").into_iter().map(|hook| hook.id).collect();
        ensure!(ids == [told], "{ids:?}");
        Ok(())
    })
}

#[test]
fn keep_17_what_is_delivered_is_what_was_true_when_it_was_recorded() -> Result<()> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| {
        let open = Count::of(0);
        let gate = open.clone();
        let answer = move |_: &_| if gate.get() == 1 { 200 } else { 503 };
        let quick = |config: String| config.replace("initial = \"1s\"", "initial = \"100ms\"\nmax = \"200ms\"");
        let platform = Platform::start_answering(folder.path(), quick, answer)?;
        let posted = json!({ "project": { "uuid": "P", "name": "as it was" } });
        let id = platform.record("project:updated", &posted)?;
        until("a first attempt", Duration::from_secs(10), || Ok((!platform.hooks().is_empty()).then_some(())))?;
        // The project goes, and so does what its type may say.
        platform.record("project:deleted", &project("P"))?;
        let catalogue = fs::read_to_string(platform.home().join("events.toml"))?;
        let without = catalogue.replace("fields.name = { type = \"string\", sensitive = true }\n", "");
        let without = without
            .lines()
            .filter(|line| !line.starts_with("example "))
            .fold(String::new(), |text, line| text + line + "\n");
        fs::write(platform.home().join("events.toml"), without)?;
        platform.reload()?;
        ensure!(platform.try_record("project:updated", &posted)?.status == 422, "the catalogue did not change");
        open.set(1);
        platform.settled("everything")?;
        let hook = platform.hooks_of("/everything").into_iter().rfind(|hook| hook.id == id).context("a webhook")?;
        ensure!(hook.body["data"] == posted, "{}", hook.body);
        Ok(())
    })
}

/// Records one event for a webhook that answers each attempt as given; its delivery once it is settled, and the ids that
/// its attempts had.
fn retrying(answer: impl Fn(u64) -> u16 + Send + Sync + 'static, retry: Value) -> Result<(Value, Vec<String>)> {
    let folder = folder()?;
    let ids = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ids);
    let receiver = Receiver::start(move |request| {
        held(&seen).push(request.header("webhook-id").to_owned());
        Reply::Status(answer(request.header("posthaste-attempt").parse().unwrap_or_default()))
    })?;
    let hook = Subscription::webhook("w", &receiver.url("/")).set("retry", retry);
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?;
    daemon.start()?;
    let mut client = daemon.client();
    let id = client.post("/v1/events", &json!({ "type": "a:b", "properties": {} }))?.json()?["id"].clone();
    daemon.settled("w", Duration::from_secs(30))?;
    let event = client.get(&format!("/v1/events/{}", id.as_str().context("an id")?))?;
    let ids = held(&ids).clone();
    Ok((event["deliveries"][0].clone(), ids))
}

#[test]
fn keep_18_the_wait_doubles_from_failure_to_failure_and_the_id_stays() -> Result<()> {
    let retry = json!({ "initial": "200ms", "multiplier": 2.0, "max": "1h", "jitter": 0.0 });
    let (delivery, ids) = retrying(|attempt| if attempt > 4 { 200 } else { 500 }, retry)?;
    let attempts = delivery["attempts"].as_array().context("attempts")?;
    ensure!(attempts.len() == 5 && delivery["state"] == "delivered", "{delivery}");
    ensure!(ids.len() == 5 && ids.iter().all(|id| *id == ids[0]) && ids[0].starts_with("evt_"), "{ids:?}");
    let at: Vec<&str> = attempts.iter().filter_map(|a| a["at"].as_str()).collect();
    let seconds = at.iter().map(|time| seconds(time)).collect::<Result<Vec<_>>>()?;
    // No less than the wait; more is the machine's.
    for (pair, wait) in seconds.windows(2).zip([0.2, 0.4, 0.8, 1.6]) {
        ensure!((pair[1] - pair[0]).rem_euclid(86_400.0) >= wait - 0.01, "{at:?}: less than {wait} s");
    }
    Ok(())
}

/// The seconds of the day of a time such as `2026-11-24T22:19:37.123Z`, whichever day.
pub(super) fn seconds(time: &str) -> Result<f64> {
    let clock = time.split('T').nth(1).context("a time")?.trim_end_matches('Z');
    let parts = clock.split(':').map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.iter().fold(0.0, |sum, part| sum * 60.0 + part))
}

#[test]
fn fix_19_and_22_retries_end_in_a_dead_letter_that_shows_its_attempts() -> Result<()> {
    let (dead, _) = retrying(|_| 500, json!({ "initial": "50ms", "attempts": 3 }))?;
    let attempts = dead["attempts"].as_array().context("attempts")?;
    ensure!(dead["state"] == "dead" && attempts.len() == 3, "{dead}");
    for (number, attempt) in (1..).zip(attempts) {
        ensure!(attempt["number"] == number && attempt["status"] == 500, "{attempt}");
        ensure!(attempt["at"].is_string() && attempt["duration_ms"].is_number(), "{attempt}");
    }
    Ok(())
}

#[test]
fn fix_27_each_layer_has_the_fields_that_were_meant() -> Result<()> {
    let change = |changed: &str| json!({ "changes": [{ "type": "UPDATED", "changed_object": changed }] });
    let scheduled = json!({ "uuid": "J", "schedule": "0 3 * * *", "next_scheduled_time": "2026-11-25T03:00:00Z",
                            "update": change("schedule") });
    on(
        |config| config,
        |platform| {
            let posted = json!({ "project": { "uuid": "P", "pipeline": { "uuid": "L" } } });
            let pipeline = platform.record("project:pipeline:created", &posted)?;
            let cron = platform
                .record("project:cron-job:updated", &json!({ "project": { "uuid": "P", "job": scheduled } }))?;
            platform.settled("everything")?;
            let hooks = platform.hooks_of("/everything");
            let find = |id: &str| hooks.iter().find(|hook| hook.id == *id).context("a webhook");
            let (pipeline, cron) = (find(&pipeline)?, find(&cron)?);
            ensure!(pipeline.body["data"]["project"]["pipeline"]["uuid"] == "L", "{}", pipeline.body);
            ensure!(cron.body["data"]["project"]["job"] == scheduled, "{}", cron.body);
            for hook in [pipeline, cron] {
                let time = hook.body["timestamp"].as_str().context("a time")?;
                ensure!(time.contains('T') && time.ends_with('Z') && !time.contains(' '), "{time}");
            }
            let number = |text: &str| text.parse::<u64>().context("a sequence");
            ensure!(number(&pipeline.sequence)? < number(&cron.sequence)?, "{hooks:?}");
            // The old form, wrapped twice, and a field of the other kind of job, are named.
            for (event_type, job, place) in [
                (
                    "project:cron-job:updated",
                    json!({ "uuid": "J", "update": { "update": {} } }),
                    "/project/job/update/update",
                ),
                ("project:cron-job:created", json!({ "uuid": "J", "total_runs": 2 }), "/project/job/total_runs"),
            ] {
                let answer = platform.try_record(event_type, &json!({ "project": { "uuid": "P", "job": job } }))?;
                let said = answer.json()?;
                let pointer = format!("/properties{place}");
                ensure!(answer.status == 422 && said["errors"][0]["pointer"] == pointer.as_str(), "{said}");
            }
            Ok(())
        },
    )
}

#[test]
fn fix_28_what_the_catalogue_does_not_know_can_not_pass_through() -> Result<()> {
    on(
        |config| config,
        |platform| {
            let definition = json!({ "steps": {}, "secret_sauce": "x" });
            let pipeline = json!({ "uuid": "L", "pipeline_definition": definition });
            let posted = json!({ "project": { "uuid": "P", "pipeline": pipeline } });
            let answer = platform.try_record("project:pipeline:saved", &posted)?;
            let place = "/properties/project/pipeline/pipeline_definition/secret_sauce";
            ensure!(answer.status == 422 && answer.json()?["errors"][0]["pointer"] == place, "{:?}", answer.json()?);
            Ok(())
        },
    )
}
