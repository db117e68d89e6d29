//! Writes what is explained as a page of Markdown, to be kept beside the code: a change of what leaves is a change of it.

use super::gather::{Explained, Leaving, Told, rounded_example};
use super::text;
use crate::cli::output::plain;
use serde_json::Value;

pub(super) fn lines(explained: &[Explained], others: bool) -> Vec<String> {
    let mut lines = vec![
        "# What is told, and what leaves".to_owned(),
        String::new(),
        "Made by `posthaste explain --format markdown`; do not edit. For each event type: who gets it, the `data` of the \
         notification, and all that leaves as telemetry."
            .to_owned(),
    ];
    let grain = explained.iter().find_map(|one| one.telemetry.as_ref()).map(|leaving| leaving.time_grain_seconds);
    if let Some((at, rounded)) = grain.and_then(rounded_example) {
        lines.extend([
            String::new(),
            format!(
                "Beside what stands here an event leaves with its time, rounded down (`{at}` leaves as `{rounded}`), and \
                 with two hashes under the installation's secret: one of the event, one of the installation and month."
            ),
        ]);
    }
    explained.iter().for_each(|one| of(one, &mut lines));
    if others {
        lines.extend([String::new(), text::OTHERS.to_owned()]);
    }
    lines
}

fn of(one: &Explained, lines: &mut Vec<String>) {
    lines.extend([String::new(), format!("## `{}`", one.event_type)]);
    let title = one.title.as_ref().map(|title| format!("{}.", escaped(title)));
    let layers = (!one.layers.is_empty()).then(|| {
        let names = one.layers.iter().map(|layer| format!("`{layer}`")).collect::<Vec<_>>();
        format!("Layers: {}.", names.join(" > "))
    });
    let standing = text::standing(one.declared).map(|note| format!("It is {note}."));
    let said: Vec<String> = [title, layers, standing].into_iter().flatten().collect();
    if !said.is_empty() {
        lines.extend([String::new(), said.join(" ")]);
    }
    lines.push(String::new());
    if one.receivers.is_empty() {
        lines.push("Nobody gets it.".to_owned());
    }
    lines.extend(one.receivers.iter().map(|r| format!("- {}", escaped(&text::receiver(r)))));
    lines.extend([String::new(), "### Notification".to_owned(), String::new()]);
    match &one.notification {
        Some(told) => notification(told, lines),
        None => lines.push("None: it is for analytics alone.".to_owned()),
    }
    lines.extend([String::new(), "### Telemetry".to_owned(), String::new()]);
    match &one.telemetry {
        Some(leaving) => telemetry(leaving, lines),
        None => lines.push("Nothing leaves.".to_owned()),
    }
}

fn notification(told: &Told, lines: &mut Vec<String>) {
    if told.fields.is_empty() {
        lines.push(if told.open { "Its properties, as they are." } else { "No fields." }.to_owned());
    } else {
        lines.extend(["| field | is | means |".to_owned(), "| --- | --- | --- |".to_owned()]);
        lines.extend(told.fields.iter().map(|field| {
            let means = field.description.as_deref().unwrap_or_default();
            format!("| {} | {} | {} |", cell(&field.path), escaped(&text::field(field)), escaped(means))
        }));
    }
    // On one line: what people are told is not what this page is read for.
    example(told.example.as_ref().map(Value::to_string), lines);
}

fn telemetry(leaving: &Leaving, lines: &mut Vec<String>) {
    let parts = [("event_properties", &leaving.event_properties), ("derived_properties", &leaving.derived_properties)];
    if parts.iter().all(|(_, leaves)| leaves.is_empty()) {
        lines.push("That it happened leaves, and no field.".to_owned());
    } else {
        lines.extend(["| leaves | is |".to_owned(), "| --- | --- |".to_owned()]);
    }
    for (part, leaves) in parts {
        lines.extend(leaves.iter().map(|leaf| {
            let path = cell(&format!("{part}.{}", leaf.path));
            format!("| {path} | {} |", escaped(&text::leaf(leaf)))
        }));
    }
    if !leaving.dropped.is_empty() {
        let dropped = leaving.dropped.iter().map(|path| code(path)).collect::<Vec<_>>();
        lines.extend([String::new(), format!("Nothing leaves of {}.", dropped.join(", "))]);
    }
    example(leaving.example.as_ref().and_then(|leaves| serde_json::to_string_pretty(leaves).ok()), lines);
}

fn example(text: Option<String>, lines: &mut Vec<String>) {
    let Some(text) = text else { return };
    lines.extend([String::new(), "```json".to_owned()]);
    // A string of JSON has no line breaks of its own, so nothing within ends the block.
    lines.extend(text.lines().map(str::to_owned));
    lines.push("```".to_owned());
}

/// A path as code within a cell of a table, which its `|` would end.
fn cell(path: &str) -> String {
    code(path).replace('|', "\\|")
}

/// A path as code, between more backticks than it has in a row.
fn code(path: &str) -> String {
    let path = plain(path);
    let most = path.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(most + 1);
    // A backtick beside the fence would belong to it.
    let space = if path.starts_with('`') || path.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{path}{space}{fence}")
}

/// Text that says nothing to Markdown.
fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in plain(text).chars() {
        if matches!(c, '\\' | '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']') {
            line.push('\\');
        }
        line.push(c);
    }
    line
}
