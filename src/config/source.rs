//! From files to trees: reads and parses TOML, and fetches what `env:NAME` and `file:PATH` stand for.

use super::Env;
use super::node::{Entry, Node, Value};
use super::problem::{Place, Problems};
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml_edit::{Document, Item, Table};

/// How long a configuration or catalogue file may be, in bytes: 4 MiB.
pub(super) const FILE_MAX: u64 = 4 * 1024 * 1024;

/// The folder that relative paths of a configuration are seen from.
pub(super) fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reads and parses a file. What stands in it is not shown where it does not parse: it may be a secret.
pub(super) fn parse(path: &Path, problems: &mut Problems) -> Option<Node> {
    let place = Place::Line { file: path.into(), line: 1 };
    match read_text(path) {
        Ok(text) => parse_text(&text, path, problems),
        Err(error) => {
            problems.add(&place, format!("{} cannot be read: {error}", path.display()), "name a file with --config");
            None
        }
    }
}

/// Parses a file's text.
pub(super) fn parse_text(text: &str, path: &Path, problems: &mut Problems) -> Option<Node> {
    let lines = Lines { file: path.into(), starts: line_starts(text) };
    match Document::parse(text) {
        Ok(document) => Some(lines.table(document.as_table(), &lines.place(Some(0..0), None))),
        Err(error) => {
            let place = lines.place(error.span().or(Some(0..0)), None);
            let what = format!("this is not TOML: {}", error.message().trim());
            problems.add(&place, what, "strings stand between quotes, each section and each key once");
            None
        }
    }
}

/// The text of a file of at most [`FILE_MAX`] bytes.
fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(std::io::Error::other(format!("it is longer than {FILE_MAX} bytes")));
    }
    Ok(text)
}

/// Where the lines of a file begin.
struct Lines {
    file: Arc<Path>,
    starts: Vec<usize>,
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

impl Lines {
    fn place(&self, span: Option<Range<usize>>, otherwise: Option<&Place>) -> Place {
        match (span, otherwise) {
            // A table that only its children imply has no place of its own.
            (None, Some(place)) => place.clone(),
            (span, _) => {
                let at = span.map_or(0, |s| s.start);
                let line = self.starts.partition_point(|start| *start <= at).max(1);
                Place::Line { file: Arc::clone(&self.file), line }
            }
        }
    }

    fn table(&self, table: &Table, outer: &Place) -> Node {
        let place = self.place(table.span(), Some(outer));
        let entry = |(key, item): (&str, &Item)| {
            let at = self.place(table.key(key).and_then(toml_edit::Key::span), Some(&place));
            self.item(item, &at).map(|node| Entry { key: key.to_owned(), place: at, node })
        };
        let entries = table.iter().filter_map(entry).collect();
        Node::new(Value::Table(entries), place)
    }

    fn item(&self, item: &Item, outer: &Place) -> Option<Node> {
        match item {
            Item::None => None,
            Item::Value(value) => Some(self.value(value, outer)),
            Item::Table(table) => Some(self.table(table, outer)),
            Item::ArrayOfTables(tables) => {
                let nodes = tables.iter().map(|t| self.table(t, outer)).collect();
                Some(Node::new(Value::Array(nodes), outer.clone()))
            }
        }
    }

    fn value(&self, value: &toml_edit::Value, outer: &Place) -> Node {
        let place = self.place(value.span(), Some(outer));
        let value = match value {
            toml_edit::Value::String(text) => Value::String(text.value().clone()),
            toml_edit::Value::Integer(n) => Value::Integer(*n.value()),
            toml_edit::Value::Float(n) => Value::Float(*n.value()),
            toml_edit::Value::Boolean(b) => Value::Boolean(*b.value()),
            toml_edit::Value::Datetime(date) => Value::Date(date.value().to_string()),
            toml_edit::Value::Array(array) => Value::Array(array.iter().map(|v| self.value(v, &place)).collect()),
            toml_edit::Value::InlineTable(table) => {
                let entry = |(key, v): (&str, &toml_edit::Value)| {
                    let at = self.place(table.key(key).and_then(toml_edit::Key::span), Some(&place));
                    Entry { key: key.to_owned(), node: self.value(v, &at), place: at }
                };
                Value::Table(table.iter().map(entry).collect())
            }
        };
        Node::new(value, place)
    }
}

/// Reads one value of TOML; `None` where the text is none.
pub(super) fn parse_value(text: &str, place: &Place) -> Option<Node> {
    let value: toml_edit::Value = text.trim().parse().ok()?;
    let lines = Lines { file: Path::new("").into(), starts: vec![0] };
    let mut node = lines.value(&value, place);
    put_at(&mut node, place);
    Some(node)
}

/// Gives a tree the place of the variable that it came from.
fn put_at(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::Array(nodes) => nodes.iter_mut().for_each(|n| put_at(n, place)),
        Value::Table(entries) => {
            for entry in entries {
                entry.place = place.clone();
                put_at(&mut entry.node, place);
            }
        }
        _ => {}
    }
}

/// Replaces every `env:NAME` and `file:PATH`; one that is missing is a problem that names it, and stays as it is.
pub(super) fn resolve(node: &mut Node, folder: &Path, env: &Env, problems: &mut Problems) {
    match &mut node.value {
        Value::Array(nodes) => nodes.iter_mut().for_each(|n| resolve(n, folder, env, problems)),
        Value::Table(entries) => entries.iter_mut().for_each(|e| resolve(&mut e.node, folder, env, problems)),
        Value::String(text) => {
            let fetched = match text.split_once(':') {
                Some(("env", name)) => fetch_variable(name, env),
                Some(("file", path)) => fetch_file(path, folder),
                _ => return,
            };
            let written = std::mem::take(text);
            match fetched {
                Ok(value) => *text = value,
                Err((what, hint)) => problems.add(&node.place, format!("\"{written}\": {what}"), hint),
            }
            node.written = Some(written);
        }
        _ => {}
    }
}

fn fetch_variable(name: &str, env: &Env) -> Result<String, (String, String)> {
    match env.get(name) {
        Some(value) => Ok(value.clone()),
        None => Err((format!("the environment variable {name} is not set"), format!("set {name}, or write the value"))),
    }
}

fn fetch_file(path: &str, folder: &Path) -> Result<String, (String, String)> {
    match read_text(&folder.join(path)) {
        Ok(mut text) => {
            // Editors and `echo` end a file with one line break, which is not meant.
            let end = text.strip_suffix('\n').map(|t| t.strip_suffix('\r').unwrap_or(t).len());
            text.truncate(end.unwrap_or(text.len()));
            Ok(text)
        }
        Err(error) => Err((
            format!("the file {path} cannot be read: {error}"),
            format!("paths are seen from the configuration's folder, {}", folder.display()),
        )),
    }
}
