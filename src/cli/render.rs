//! JSON as a person reads it: tables for listings, names and values for one thing.

use super::output::plain;
use serde_json::Value;

/// How wide a cell may be, in characters; `--json` shows everything.
const CELL_MAX: usize = 60;

/// A column: its heading, and where its value stands in a row.
pub(super) type Column<'a> = (&'a str, &'a str);

/// Rows below their headings, one line each.
pub(super) fn table(rows: &[Value], columns: &[Column<'_>]) -> Vec<String> {
    let mut cells: Vec<Vec<String>> = vec![columns.iter().map(|(heading, _)| plain(heading)).collect()];
    cells.extend(rows.iter().map(|row| columns.iter().map(|(_, key)| cell(row.get(key))).collect()));
    let width = |at: usize| cells.iter().map(|row: &Vec<String>| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

/// What is said first of a thing, where it has it; the rest follows by name.
const FIRST: [&str; 10] =
    ["id", "name", "number", "type", "subscription", "state", "at", "outcome", "status", "duration_ms"];

/// One thing: a line for each name, and what it holds below.
pub(super) fn thing(value: &Value) -> Vec<String> {
    let Value::Object(fields) = value else { return vec![cell(Some(value))] };
    let names = ordered(fields.keys());
    let rows_of =
        |name: &str| fields.get(name).and_then(Value::as_array).filter(|rows| rows.iter().any(Value::is_object));
    let (held, plain_names): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| rows_of(name).is_some());
    let width = plain_names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let said = |name: &&str| format!("{:width$}  {}", plain(name), fields.get(*name).map(whole).unwrap_or_default());
    let mut lines: Vec<String> = plain_names.iter().map(said).map(|line| line.trim_end().to_owned()).collect();
    for name in held {
        lines.push(String::new());
        lines.push(format!("{}:", plain(name)));
        lines.extend(
            rows(rows_of(name).map_or(&[][..], Vec::as_slice))
                .into_iter()
                .map(|line| format!("  {line}").trim_end().to_owned()),
        );
    }
    lines
}

/// Things in a row: a table where they hold nothing themselves, else one below the other.
fn rows(rows: &[Value]) -> Vec<String> {
    let flat = |row: &Value| row.as_object().is_some_and(|r| r.values().all(|v| !v.is_array() && !v.is_object()));
    match rows.first().and_then(Value::as_object) {
        Some(first) if rows.iter().all(flat) => {
            let columns: Vec<Column<'_>> = ordered(first.keys()).into_iter().map(|name| (name, name)).collect();
            table(rows, &columns)
        }
        _ => {
            let marked = |(at, line): (usize, String)| if at == 0 { format!("- {line}") } else { format!("  {line}") };
            rows.iter().flat_map(|row| thing(row).into_iter().enumerate().map(marked)).collect()
        }
    }
}

fn ordered<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_by_key(|name| (FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()), *name));
    names
}

fn cell(value: Option<&Value>) -> String {
    let text = value.map(whole).unwrap_or_default();
    if text.chars().count() <= CELL_MAX {
        return text;
    }
    let mut cut: String = text.chars().take(CELL_MAX - 1).collect();
    cut.push('…');
    cut
}

fn whole(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_stand_below_their_headings_and_nothing_rewrites_the_terminal() {
        let rows =
            [json!({"id": "evt_1", "type": "a\u{1b}[2J", "n": null}), json!({"id": "e", "type": "x".repeat(99)})];
        let lines = table(&rows, &[("ID", "id"), ("TYPE", "type"), ("N", "n")]);
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["ID", "TYPE", "N"]);
        assert!(lines[1].starts_with("evt_1  a\\u{1b}[2J ") && lines[1].ends_with('-'), "{lines:?}");
        assert!(lines[2].starts_with("e      xxx") && lines[2].contains('…'), "{lines:?}");
    }

    #[test]
    fn a_thing_is_shown_whole_with_what_it_holds_below() {
        let attempts = json!([{"number": 1, "error": null}, {"number": 2, "error": "x"}]);
        let lines = thing(&json!({"key": null, "id": "evt_1", "deliveries": [{"attempts": attempts, "id": "d"}]}));
        assert_eq!(
            lines,
            [
                "id   evt_1",
                "key  -",
                "",
                "deliveries:",
                "  - id  d",
                "",
                "    attempts:",
                "      number  error",
                "      1       -",
                "      2       x",
            ]
        );
    }
}
