//! `where` and `filter` against the catalogue, and types that only analytics gets.

use super::*;

const EVENTS: &str = r#"
[layer."project"]
fields.uuid = { type = "string", required = true, identity = true }
fields.size = { type = "integer" }
fields.open = { type = "boolean" }
fields.changes = { type = "array" }
fields."changes.*.type" = { type = "string" }
fields.hidden = { type = "string", audience = "telemetry" }
[layer."project:job"]
fields.uuid = { type = "string", required = true, identity = true }
fields.status = { type = "string", values = ["PENDING", "FAILURE"] }
fields.kind = { type = "string", values = ["a"], telemetry = "count-by" }
fields.cost = { type = "number" }
[event."project:created"]
[event."project:job:failed"]
[event."jupyter:image-build:created"]
[event."view:loaded"]
audience = "telemetry"
"#;

fn load_where(events: &str, condition: &str) -> Result<Config, Vec<Problem>> {
    load_set(&format!("events = {events}\nwhere = {condition}"), "reject")
}

fn load_set(set: &str, undeclared: &str) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), EVENTS).unwrap();
    let text = with("files = []", &format!("files = [\"events.toml\"]\nundeclared = \"{undeclared}\""));
    load_in(folder.path(), &text.replace("events = [\"project:**\"]", set), &[])
}

#[test]
fn conditions_on_what_the_types_have_are_taken() {
    for (events, condition) in [
        ("[\"project:created\"]", "{ \"project.uuid\" = \"p\", \"project.size\" = 3, \"project.open\" = true }"),
        ("[\"project:created\"]", "{ \"project.size\" = 3.0 }"),
        ("[\"project:**\"]", "{ \"project.uuid\" = \"p\" }"),
        ("[\"project:**\"]", "{ \"project.uuid\" = \"p\", \"project.job.uuid\" = \"j\" }"),
        ("[\"project:job:*\", \"project:created\"]", "{ project.uuid = \"p\" }"),
        ("[\"**\"]", "{ \"project.job.status\" = \"FAILURE\", \"project.job.cost\" = 1 }"),
        // What `count-by` counts is no closed vocabulary.
        ("[\"**\"]", "{ \"project.job.kind\" = \"b\" }"),
        // The daemon's own are not declared.
        ("[\"posthaste:delivery:dead\"]", "{ subscription = \"ops\" }"),
    ] {
        load_where(events, condition).unwrap_or_else(|p| panic!("{condition}: {}", told(&p)));
    }
    load_set("where = { \"project.job.status\" = \"FAILURE\" }", "reject").unwrap();
}

#[test]
fn conditions_that_no_event_can_meet_are_named() {
    for (events, condition, words) in [
        ("[\"project:created\"]", "{ \"project.uid\" = \"p\" }", ["\"project.uid\"", "did you mean `project.uuid`?"]),
        ("[\"project:created\"]", "{ \"project\" = \"p\" }", ["\"project\" = \"p\"", "no path of \"project:created\""]),
        ("[\"project:created\"]", "{ \"project.hidden\" = \"p\" }", ["\"project.hidden\"", "no path"]),
        ("[\"project:created\"]", "{ \"project.changes.0\" = \"p\" }", ["\"project.changes.0\"", "no path"]),
        ("[\"project:created\"]", "{ \"project.size\" = \"3\" }", ["is a string, yet a whole number", "write a whole"]),
        ("[\"project:created\"]", "{ \"project.size\" = 3.5 }", ["is a number, yet a whole number", "write a whole"]),
        ("[\"project:created\"]", "{ \"project.open\" = \"true\" }", ["is a string, yet a boolean", "write a boolean"]),
        (
            "[\"project:**\"]",
            "{ \"project.job.status\" = \"FAILED\" }",
            ["is none of what", "\"PENDING\", \"FAILURE\""],
        ),
        ("[\"other:**\"]", "{ \"project.uuid\" = \"p\" }", ["no path of \"other:**\"", "declare its fields"]),
        ("[\"other:x\"]", "{ \"project.uuid\" = \"p\" }", ["which is not declared", "declare its fields"]),
        ("[\"view:loaded\", \"project:**\"]", "{ \"project.nope\" = \"p\" }", ["", ""]),
    ] {
        let problems = load_where(events, condition).expect_err(condition);
        let told = told(&problems);
        assert!(told.contains("config.toml:") && told.contains("subscription \"ops\": where:"), "{told}");
        assert!(words.iter().all(|w| told.contains(w)), "{words:?}: {told}");
    }
}

#[test]
fn keep_05_a_job_without_its_project_is_refused() {
    for events in ["[\"project:job:failed\"]", "[\"project:**\"]", "[\"**\"]"] {
        let problems = load_where(events, "{ \"project.job.uuid\" = \"j\" }").unwrap_err();
        let told = told(&problems);
        assert!(told.contains("\"project.job.uuid\" = \"j\"") && told.contains("without `project.uuid`"), "{told}");
    }
}

#[test]
fn fix_04_a_condition_is_held_against_each_type_that_is_asked_for() {
    for (events, condition) in [
        ("[\"jupyter:**\"]", "{ \"project.uuid\" = \"p\" }"),
        ("[\"project:created\"]", "{ \"project.uuid\" = \"p\", \"project.job.uuid\" = \"j\" }"),
        ("[\"project:**\", \"jupyter:image-build:created\"]", "{ \"project.uuid\" = \"p\" }"),
    ] {
        let problems = load_where(events, condition).expect_err(events);
        assert!(problems.len() == 1 && told(&problems).contains("is no path of"), "{}", told(&problems));
    }
}

#[test]
fn conditions_that_only_different_types_meet_are_named() {
    let events =
        "[event.\"a:x\"]\nfields.x = { type = \"string\" }\n[event.\"a:y\"]\nfields.y = { type = \"string\" }\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), events).unwrap();
    let text = with("files = []", "files = [\"events.toml\"]")
        .replace("events = [\"project:**\"]", "events = [\"a:*\"]\nwhere = { x = \"1\", y = \"1\" }");
    let problems = load_in(folder.path(), &text, &[]).unwrap_err();
    assert!(problems.len() == 1 && told(&problems).contains("together on no type"), "{}", told(&problems));
}

#[test]
fn each_set_is_held_against_its_own_types() {
    let set = |events: &str, condition: &str| {
        format!("[[subscription.match]]\nevents = [\"{events}\"]\nwhere = {{ \"{condition}\" = \"x\" }}\n")
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), EVENTS).unwrap();
    let base = with("files = []", "files = [\"events.toml\"]").replace("events = [\"project:**\"]", "");
    let good = set("project:created", "project.uuid");
    assert!(load_in(folder.path(), &format!("{base}{good}"), &[]).is_ok());
    let text = format!("{base}{good}{}", set("jupyter:**", "project.uuid"));
    let problems = load_in(folder.path(), &text, &[]).unwrap_err();
    let line = text.lines().count();
    let told = told(&problems);
    assert!(problems.len() == 1 && told.contains(&format!("config.toml:{line}: ")), "{told}");
    assert!(told.contains("match 2: where:"), "{told}");
}

#[test]
fn where_nothing_is_declared_and_all_is_accepted_any_path_may_stand() {
    let set = |events: &str| format!("events = [\"{events}\"]\nwhere = {{ \"anything.at.all\" = 1 }}");
    assert!(load_set(&set("other:**"), "accept").is_ok());
    assert!(load_set(&set("other:x"), "accept").is_ok());
    assert!(load_set(&set("other:x"), "reject").is_err());
    // What is declared and named is known; by a pattern others may come.
    assert!(load_set(&set("project:created"), "accept").is_err());
    assert!(load_set(&set("project:**"), "reject").is_err());
    assert!(load_set(&set("project:**"), "accept").is_ok());
    assert!(load_set("where = { \"anything.at.all\" = 1 }", "accept").is_ok());
    assert!(load_set("where = { \"anything.at.all\" = 1 }", "reject").is_err());
    // A condition on a declared path is held against it all the same.
    let problems = load_set("where = { \"project.size\" = \"3\", \"anything\" = 1 }", "accept").unwrap_err();
    assert!(problems.len() == 1 && told(&problems).contains("yet a whole number"), "{}", told(&problems));
}

/// Two subscriptions that get telemetry, by this set.
fn load_telemetry(set: &str, events: &str) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), events).unwrap();
    let console = "name = \"screen\"\ndeliveree = \"console\"\npayload = \"telemetry\"";
    let file = "name = \"file\"\ndeliveree = \"analytics\"\nbackend = \"file\"\npath = \"out\"";
    let text = [console, file].map(|one| format!("[[subscription]]\n{one}\n{set}\n")).concat();
    load_in(folder.path(), &format!("[catalogue]\nfiles = [\"events.toml\"]\n{text}"), &[])
}

const KEPT: &str = r#"
[layer."project"]
fields.uuid = { type = "string", identity = true }
fields.open = { type = "boolean", telemetry = "keep" }
fields.size = { type = "integer", minimum = 0, maximum = 9, telemetry = "keep" }
fields.part = { type = "number", minimum = 0, maximum = 9, telemetry = "keep" }
fields.kind = { type = "string", values = ["a", "b"], telemetry = "count-by" }
fields.free = { type = "object", telemetry = "count" }
[event."project:created"]
fields.how = { type = "string", values = ["copied", "new"], telemetry = "keep" }
[event."project:deleted"]
fields.how = { type = "string" }
"#;

#[test]
fn telemetry_is_chosen_by_what_leaves_alone() {
    for set in [
        "where = { \"project.open\" = true, \"project.size\" = 3 }",
        "events = [\"project:created\"]\nwhere = { project.how = \"new\" }",
        "filter = \"type != 'project:created' || type.endsWith('d')\"",
        "tenant = \"acme\"",
        "events = [\"posthaste:**\"]",
    ] {
        load_telemetry(set, KEPT).unwrap_or_else(|p| panic!("{set}: {}", told(&p)));
    }
}

#[test]
fn telemetry_chosen_by_what_does_not_leave_is_refused() {
    for (set, words) in [
        (
            "where = { \"project.uuid\" = \"p\" }",
            ["where: \"project.uuid\" = \"p\"", "leave as it is of \"project:created\""],
        ),
        ("where = { project = { uuid = \"p\" } }", ["\"project.uuid\" = \"p\"", "\"keep\""]),
        // It leaves rounded.
        ("where = { \"project.part\" = 0.123456789 }", ["\"project.part\"", "not rounded"]),
        ("where = { \"project.kind\" = \"a\" }", ["\"project.kind\"", "does not leave as it is"]),
        // It is kept of one type and dropped of another.
        ("where = { \"project.how\" = \"new\" }", ["\"project.how\"", "of \"project:deleted\""]),
        (
            "[[subscription.match]]\nevents = [\"project:created\"]\n[[subscription.match]]\nwhere = { project.uuid = \"p\" }",
            ["\"project.uuid\"", "\"project:created\""],
        ),
        (
            "events = [\"posthaste:delivery:dead\"]\nwhere = { subscription = \"ops\" }",
            ["\"subscription\"", "the daemon's own"],
        ),
        ("filter = \"data.project.name == 'Ada'\"", ["filter = \"data.project", "by `data`, which does not leave"]),
        ("filter = \"type == 'a:b' && (key == 'k' || tenant == 't')\"", ["`key`", "`tenant`"]),
        ("[[subscription.match]]\nfilter = \"has(data.project)\"", ["filter", "over `type` alone"]),
    ] {
        let problems = load_telemetry(set, KEPT).expect_err(set);
        let told = told(&problems);
        assert_eq!(problems.len(), 2, "{set}: {told}");
        assert!(words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
        // Each is named at its line.
        let key = if set.contains("filter") { "filter" } else { "where" };
        let line = 7 + set.lines().position(|line| line.starts_with(key)).unwrap();
        assert!(problems[0].to_string().contains(&format!("config.toml:{line}: ")), "{line}: {told}");
    }
    // People are told all of it.
    assert!(load_where("[\"project:created\"]", "{ \"project.uuid\" = \"p\" }").is_ok());
}

#[test]
fn what_is_free_inside_chooses_no_telemetry_where_any_path_may_stand() {
    let events = format!("{KEPT}[layer.\"other\"]\n");
    for (undeclared, path, good) in
        [("accept", "project.free.x", false), ("accept", "anything", true), ("reject", "project.free.x", false)]
    {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.toml"), &events).unwrap();
        let text = format!(
            "[catalogue]\nfiles = [\"events.toml\"]\nundeclared = \"{undeclared}\"\n[[subscription]]\nname = \"s\"\n\
             deliveree = \"console\"\npayload = \"telemetry\"\nwhere = {{ \"{path}\" = 1 }}\n"
        );
        assert_eq!(load_in(folder.path(), &text, &[]).is_ok(), good, "{undeclared} {path}");
    }
}

#[test]
fn a_wrong_catalogue_makes_no_condition_wrong() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("events.toml"), "[event.\"project:created\"]\nfields.x = { type = \"strng\" }\n")
        .unwrap();
    let text = with("files = []", "files = [\"events.toml\"]").replace("timeout = \"2s\"", "where = { x = \"1\" }");
    let problems = load_in(folder.path(), &text, &[]).unwrap_err();
    assert!(problems.len() == 1 && told(&problems).contains("strng"), "{}", told(&problems));
}

#[test]
fn a_type_for_analytics_alone_is_no_type_for_a_webhook() {
    let problems = load_set("events = [\n  \"project:**\",\n  \"view:loaded\"]", "reject").unwrap_err();
    let told = told(&problems);
    assert!(problems.len() == 1 && told.contains("events = \"view:loaded\" is for analytics alone"), "{told}");
    assert!(told.contains("config.toml:22: subscription \"ops\""), "{told}");
    assert!(load_set("events = [\"view:**\"]", "reject").is_ok());
}

#[test]
fn filters_are_compiled_and_listed() {
    let text = with("timeout = \"2s\"", "filter = \"data.total > 100\"");
    let config = load_text(&text, &[]).unwrap_or_else(|p| panic!("{}", told(&p)));
    let filter = config.subscriptions[0].selectors[0].filter.as_ref().unwrap();
    assert_eq!(filter.as_str(), "data.total > 100");
    assert_eq!(config.subscriptions[0].shown["filter"], "data.total > 100");
}

#[test]
fn wrong_filters_are_named_and_what_comes_from_outside_is_not_shown() {
    let key = |line: &str| with("timeout = \"2s\"", line);
    refused(
        &key("filter = \"data.total >\""),
        "filter",
        &["subscription \"ops\": filter = \"data.total >\"", "no filter"],
    );
    refused(&key("filter = 1"), "filter", &["filter = 1", "a string"]);
    let outside = format!("{CANARY} >");
    let problems = load_text(&key("filter = \"env:X\""), &[("X", &outside)]).unwrap_err();
    assert!(told(&problems).contains("filter = \"env:X\"") && !told(&problems).contains(CANARY), "{}", told(&problems));
}
