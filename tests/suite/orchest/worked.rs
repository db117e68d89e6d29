//! The worked examples of the reference (2.3), word for word but for our stated changes: what we add up instead of
//! listing by a key, the fields of a cron job, and no uuid, URL path or time.

use super::platform::Platform;
use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::PrivateNetwork;
use serde_json::{Value, json};

struct Example {
    event_type: &'static str,
    /// What people are told.
    told: Value,
    /// What is posted besides, for analytics alone: a place and what stands there.
    besides: Vec<(&'static str, Value)>,
    kept: Value,
    derived: Value,
}

fn definition() -> Value {
    json!({
        "uuid": "L", "name": "Train churn", "version": "1.2.7", "settings": { "auto_eviction": false },
        "parameters": { "country": "BE" },
        "steps": {
            "s1": { "uuid": "s1", "title": "Load", "file_path": "load.ipynb", "file_extension": ".ipynb",
                    "environment": "V", "incoming_connections": [], "parameters": { "limit": 500 } },
            "s2": { "uuid": "s2", "title": "Train", "file_path": "src/train.py", "file_extension": ".py",
                    "environment": "V", "incoming_connections": ["s1"], "parameters": {} },
        },
        "services": services(),
    })
}

fn services() -> Value {
    json!({ "redis": { "name": "redis", "image": "redis:7", "ports": [6379], "command": "redis-server",
                       "env_variables": { "PASSWORD": "hunter2" }, "binds": { "/srv": "/data" } } })
}

/// What leaves of [`definition`]: every number of the original.
fn definition_counts() -> Value {
    json!({
        "pipeline_parameters_count": 1, "step_count": 2, "services_count": 1, "services": { "binds_count": 1 },
        "steps": {
            "unique_environments_count": 1, "step_parameters_count": 1,
            "step_file_extension_count": { ".ipynb": 1, ".py": 1 },
        },
    })
}

fn a_scheduled_pipeline_run_failed() -> Example {
    Example {
        event_type: "project:cron-job:run:pipeline-run:failed",
        told: json!({ "project": { "uuid": "P", "name": "Churn", "job": {
            "uuid": "J", "name": "Nightly retrain", "status": "STARTED", "pipeline_name": "Train churn",
            "url_path": "/job?project_uuid=P&job_uuid=J",
            "schedule": "0 3 * * *", "next_scheduled_time": "2024-05-02T03:00:00Z",
            "run": { "status": "FAILURE", "number": 20, "total_pipeline_runs": 2, "pipeline_run": {
                "uuid": "R", "status": "FAILURE", "number": 41, "number_in_run": 1,
                "url_path": "/job-run?project_uuid=P&pipeline_uuid=L&job_uuid=J&run_uuid=R",
                "parameters": {
                    "s1": { "step": { "uuid": "s1", "title": "Load" }, "parameters": { "limit": 500 } },
                    "pipeline_parameters": { "parameters": { "country": "BE" } },
                },
                "failed_steps": [{ "uuid": "s1", "title": "Load" }],
            } },
        } } }),
        besides: Vec::new(),
        kept: json!({ "project": { "job": { "status": "STARTED", "run": {
            "status": "FAILURE", "number": 20, "total_pipeline_runs": 2,
            "pipeline_run": { "status": "FAILURE", "number": 41, "number_in_run": 1 },
        } } } }),
        derived: json!({ "project": { "job": { "schedule_present": true, "run": { "pipeline_run": {
            "failed_steps_count": 1, "parameters": { "parameters_count": 2 },
        } } } } }),
    }
}

fn b_one_off_job_created() -> Example {
    Example {
        event_type: "project:one-off-job:created",
        told: json!({ "project": { "uuid": "P", "name": "Churn", "job": {
            "uuid": "J", "name": "Backfill", "status": "DRAFT", "pipeline_name": "Train churn",
            "url_path": "/job?project_uuid=P&job_uuid=J", "total_runs": 2,
        } } }),
        besides: vec![
            ("/project/job/snapshot_size", json!(12.5)),
            (
                "/project/job/definition",
                json!({
                    "draft": true, "uuid": "J", "project_uuid": "P", "pipeline_uuid": "L",
                    "pipeline_run_spec": { "run_type": "full", "uuids": [] },
                    "parameterized_runs_count": 2, "env_variables_count": 2, "pipeline_definition": definition(),
                }),
            ),
        ],
        kept: json!({ "project": { "job": { "status": "DRAFT", "total_runs": 2, "definition": { "draft": true } } } }),
        derived: json!({ "project": { "job": { "snapshot_size": 12.5, "definition": {
            "parameterized_runs_count": 2, "env_variables_count": 2, "pipeline_definition": definition_counts(),
        } } } }),
    }
}

fn c_interactive_run_failed() -> Example {
    Example {
        event_type: "project:pipeline:interactive-session:pipeline-run:failed",
        // `L`, where the original had the event's own uuid.
        told: json!({ "project": { "uuid": "P", "name": "Churn", "pipeline": {
            "uuid": "L", "name": "Train churn", "session": { "pipeline_run": {
                "uuid": "R", "url_path": "/pipeline?project_uuid=P&pipeline_uuid=L",
                "steps": [{ "uuid": "s1", "title": "Load" }, { "uuid": "s2", "title": "Train" }],
                "parameters": {
                    "s1": { "step": { "uuid": "s1", "title": "Load" }, "parameters": { "limit": 100 } },
                    "s2": { "step": { "uuid": "s2", "title": "Train" }, "parameters": {} },
                    "pipeline_parameters": { "parameters": { "country": "NL" } },
                },
                "failed_steps": [{ "uuid": "s2", "title": "Train" }],
            } },
        } } }),
        besides: vec![
            ("/project/pipeline/session/user_services", services()),
            ("/project/pipeline/session/pipeline_run/pipeline_definition", definition()),
        ],
        kept: json!({}),
        derived: json!({ "project": { "pipeline": { "session": {
            "user_services_count": 1, "user_services": { "binds_count": 1 },
            "pipeline_run": {
                "steps_count": 2, "failed_steps_count": 1, "parameters": { "parameters_count": 2 },
                "pipeline_definition": definition_counts(),
            },
        } } } }),
    }
}

#[test]
fn keep_28_no_private_value_leaves_and_the_counts_match_the_worked_examples() -> Result<()> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| {
        let platform = Platform::start(folder.path(), |config| config)?;
        let examples = [a_scheduled_pipeline_run_failed(), b_one_off_job_created(), c_interactive_run_failed()];
        for example in &examples {
            let mut posted = example.told.clone();
            for (place, value) in &example.besides {
                let (parent, name) = place.rsplit_once('/').context("a place")?;
                posted.pointer_mut(parent).context("its parent")?[name] = value.clone();
            }
            let id = platform.record(example.event_type, &posted)?;
            platform.settled("everything")?;
            let hook = platform.hooks_of("/everything").into_iter().find(|hook| hook.id == id).context("a webhook")?;
            ensure!(hook.body["data"] == example.told, "{}: {}", example.event_type, hook.body);
        }
        let telemetry = platform.telemetry()?;
        for example in &examples {
            let left = telemetry.iter().find(|line| line["event"] == example.event_type).context("telemetry")?;
            ensure!(left["event_properties"] == example.kept, "{}: {left}", example.event_type);
            ensure!(left["derived_properties"] == example.derived, "{}: {left}", example.event_type);
        }
        let text = telemetry.iter().map(Value::to_string).collect::<String>();
        let private = ["Churn", "Train", "Nightly", "Load", "redis", "hunter2", "country", "limit", "/job", "0 3 *"];
        for word in private {
            ensure!(!text.contains(word), "{word} has left");
        }
        Ok(())
    })
}
