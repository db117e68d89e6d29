//! JSON as a person reads it: tables for listings, names and values for one thing.

use super::output::plain;
use serde_json::Value;

/// How wide a cell may be, in characters; `--json` shows everything.
const CELL_MAX: usize = 60;

/// A column: its heading, and where its value stands in a row.
pub(super) type Column = (&'static str, &'static str);

/// Rows below their headings, one line each.
pub(super) fn table(rows: &[Value], columns: &[Column]) -> Vec<String> {
    let mut cells: Vec<Vec<String>> = vec![columns.iter().map(|(heading, _)| (*heading).to_owned()).collect()];
    cells.extend(rows.iter().map(|row| columns.iter().map(|(_, key)| cell(row.get(key))).collect()));
    let width = |at: usize| cells.iter().map(|row: &Vec<String>| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

/// One thing: a line for each name; arrays of objects as tables below theirs.
pub(super) fn thing(value: &Value) -> Vec<String> {
    let Value::Object(fields) = value else { return vec![cell(Some(value))] };
    let is_table = |v: &Value| v.as_array().is_some_and(|rows| rows.iter().any(Value::is_object));
    let width = fields.iter().filter(|(_, v)| !is_table(v)).map(|(k, _)| k.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for (name, value) in fields.iter().filter(|(_, v)| !is_table(v)) {
        lines.push(format!("{:width$}  {}", plain(name), whole(value)).trim_end().to_owned());
    }
    for (name, value) in fields.iter().filter(|(_, v)| is_table(v)) {
        lines.push(String::new());
        lines.push(format!("{}:", plain(name)));
        for row in value.as_array().into_iter().flatten() {
            let nested = thing(row);
            lines.extend(nested.iter().enumerate().map(|(at, line)| {
                let line = if at == 0 { format!("- {line}") } else { format!("  {line}") };
                line.trim_end().to_owned()
            }));
        }
    }
    lines
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
        let lines =
            thing(&json!({"id": "evt_1", "deliveries": [{"id": "d", "attempts": [{"number": 1}]}], "key": null}));
        assert_eq!(lines, ["id   evt_1", "key  -", "", "deliveries:", "- id  d", "", "  attempts:", "  - number  1"]);
    }
}
