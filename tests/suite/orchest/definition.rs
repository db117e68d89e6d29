//! The model's part for what the original sent whole but for a deny-list: pipeline definitions and services.

use super::made::Build;
use rand::Rng as _;
use serde_json::{Map, Value, json};

/// A pipeline's definition: of the original's deny-list nothing is left but its counts.
pub(super) fn pipeline_definition(b: &mut Build, at: &str) {
    if !b.has() {
        return;
    }
    let mut definition = Map::new();
    for name in ["uuid", "name", "version"] {
        if b.has() {
            definition.insert(name.into(), b.text());
        }
    }
    if b.has() {
        definition.insert("settings".into(), Value::Object(b.bag()));
    }
    if b.has() {
        let parameters = b.bag();
        b.derived(&format!("{at}.pipeline_parameters_count"), json!(parameters.len()));
        definition.insert("parameters".into(), Value::Object(parameters));
    }
    if b.has() {
        let steps = definition_steps(b, at);
        definition.insert("steps".into(), steps);
    }
    if b.has() {
        let (services, binds) = services(b);
        b.derived(&format!("{at}.services_count"), json!(services.len()));
        b.derived_sum(&format!("{at}.services.binds_count"), &binds);
        definition.insert("services".into(), Value::Object(services));
    }
    b.only(at, Value::Object(definition));
}

fn definition_steps(b: &mut Build, at: &str) -> Value {
    let (mut steps, mut environments, mut extensions, mut counts) = (Map::new(), Vec::new(), Map::new(), Vec::new());
    for _ in 0..b.some() {
        let mut step = Map::new();
        for name in ["uuid", "title", "file_path"] {
            if b.has() {
                step.insert(name.into(), b.text());
            }
        }
        if b.has() {
            let (extension, word) = b.word_or_other(&[".ipynb", ".jl", ".js", ".py", ".R", ".sh"]);
            step.insert("file_extension".into(), extension);
            add(&mut extensions, &word, 1);
        }
        if b.has() {
            // Now and then the same one again.
            let again = environments.first().filter(|_| b.rng.random()).cloned();
            let environment = again.unwrap_or_else(|| b.text());
            step.insert("environment".into(), environment.clone());
            environments.push(environment);
        }
        if b.has() {
            step.insert("incoming_connections".into(), json!([b.text()]));
        }
        if b.has() {
            let parameters = b.bag();
            counts.push(parameters.len());
            step.insert("parameters".into(), Value::Object(parameters));
        }
        for name in ["kernel", "meta_data"] {
            if b.has() {
                step.insert(name.into(), Value::Object(b.bag()));
            }
        }
        let key = b.text();
        steps.insert(key.as_str().unwrap_or_default().to_owned(), Value::Object(step));
    }
    b.derived(&format!("{at}.step_count"), json!(steps.len()));
    b.derived_map(&format!("{at}.steps.step_file_extension_count"), extensions);
    b.derived_sum(&format!("{at}.steps.step_parameters_count"), &counts);
    environments.sort_by_key(ToString::to_string);
    environments.dedup();
    b.derived(&format!("{at}.steps.unique_environments_count"), json!(environments.len()));
    Value::Object(steps)
}

/// Services by their names, and how many binds each has that has any said.
pub(super) fn services(b: &mut Build) -> (Map<String, Value>, Vec<usize>) {
    let (mut services, mut binds) = (Map::new(), Vec::new());
    for _ in 0..b.some() {
        let mut service = Map::new();
        for name in ["name", "image", "command", "args"] {
            if b.has() {
                service.insert(name.into(), b.text());
            }
        }
        if b.has() {
            service.insert("env_variables".into(), Value::Object(b.bag()));
        }
        if b.has() {
            service.insert("env_variables_inherit".into(), json!([b.text()]));
        }
        if b.has() {
            let bound = b.bag();
            binds.push(bound.len());
            service.insert("binds".into(), Value::Object(bound));
        }
        if b.has() {
            service.insert("ports".into(), json!([b.rng.random_range(1_000_001..9_999_999)]));
        }
        if b.has() {
            service.insert("exposed".into(), json!(true));
        }
        let name = b.text();
        services.insert(name.as_str().unwrap_or_default().to_owned(), Value::Object(service));
    }
    (services, binds)
}

/// Counts a word.
pub(super) fn add(counted: &mut Map<String, Value>, word: &str, more: u64) {
    let before = counted.get(word).and_then(Value::as_u64).unwrap_or_default();
    counted.insert(word.to_owned(), json!(before + more));
}
