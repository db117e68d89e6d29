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

/// How deep tables and arrays may be nested.
const DEPTH_MAX: usize = 32;

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
    let mut lines = Lines::of(text, path);
    match Document::parse(text) {
        Ok(document) => {
            let root = lines.table(document.as_table(), &lines.place(Some(0..0), None), DEPTH_MAX);
            if let Some(place) = lines.too_deep.take() {
                problems.add(
                    &place,
                    format!("this is nested deeper than {DEPTH_MAX} levels"),
                    "nothing here needs that",
                );
            }
            Some(root)
        }
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

/// Builds the tree: where the lines of a file begin, and where it was nested too deep.
struct Lines {
    file: Arc<Path>,
    starts: Vec<usize>,
    too_deep: Option<Place>,
}

impl Lines {
    fn of(text: &str, file: &Path) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), starts, too_deep: None }
    }

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

    /// One level further down; `None` where that is too deep, which is noted the first time. Dots and braces multiply in
    /// TOML, so what the parser bounds could still be thousands of levels: more than a stack holds.
    fn deeper(&mut self, levels: usize, place: &Place) -> Option<usize> {
        if levels == 0 {
            self.too_deep.get_or_insert_with(|| place.clone());
        }
        levels.checked_sub(1)
    }

    fn table(&mut self, table: &Table, outer: &Place, levels: usize) -> Node {
        let place = self.place(table.span(), Some(outer));
        let mut entries = Vec::with_capacity(table.len());
        if let Some(levels) = self.deeper(levels, &place) {
            for (key, item) in table {
                let at = self.place(table.key(key).and_then(toml_edit::Key::span), Some(&place));
                let node = match item {
                    Item::None => continue,
                    Item::Value(value) => self.value(value, &at, levels),
                    Item::Table(table) => self.table(table, &at, levels),
                    Item::ArrayOfTables(tables) => {
                        let nodes = tables.iter().map(|t| self.table(t, &at, levels)).collect();
                        Node::new(Value::Array(nodes), at.clone())
                    }
                };
                entries.push(Entry { key: key.to_owned(), place: at, node });
            }
        }
        Node::new(Value::Table(entries), place)
    }

    fn value(&mut self, value: &toml_edit::Value, outer: &Place, levels: usize) -> Node {
        let place = self.place(value.span(), Some(outer));
        let value = match value {
            toml_edit::Value::String(text) => Value::String(text.value().clone()),
            toml_edit::Value::Integer(n) => Value::Integer(*n.value()),
            toml_edit::Value::Float(n) => Value::Float(*n.value()),
            toml_edit::Value::Boolean(b) => Value::Boolean(*b.value()),
            toml_edit::Value::Datetime(date) => Value::Date(date.value().to_string()),
            toml_edit::Value::Array(array) => Value::Array(match self.deeper(levels, &place) {
                Some(levels) => array.iter().map(|v| self.value(v, &place, levels)).collect(),
                None => Vec::new(),
            }),
            toml_edit::Value::InlineTable(table) => {
                let mut entries = Vec::with_capacity(table.len());
                if let Some(levels) = self.deeper(levels, &place) {
                    for (key, v) in table {
                        let at = self.place(table.key(key).and_then(toml_edit::Key::span), Some(&place));
                        entries.push(Entry { key: key.to_owned(), node: self.value(v, &at, levels), place: at });
                    }
                }
                Value::Table(entries)
            }
        };
        Node::new(value, place)
    }
}

/// Reads one value of TOML; `None` where the text is none, or is nested too deep.
pub(super) fn parse_value(text: &str, place: &Place) -> Option<Node> {
    let value: toml_edit::Value = text.trim().parse().ok()?;
    let mut lines = Lines::of("", Path::new(""));
    let mut node = lines.value(&value, place, DEPTH_MAX);
    put_at(&mut node, place);
    lines.too_deep.is_none().then_some(node)
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
                Err((what, hint)) => {
                    problems.add(&node.place, format!("\"{written}\": {what}"), hint);
                    node.missing = true;
                }
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
