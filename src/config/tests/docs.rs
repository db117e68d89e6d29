//! The pages for users: every configuration that they show is good, and no setting is missing in them.

use super::catalogue::load_catalogue;
use super::schema::known;
use super::shipped::known_keys;
use super::*;
use crate::config::catalogue::{KINDS, RULES};
use std::collections::BTreeSet;

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The README and the pages in `docs`, with their names.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).chain([root.join("README.md")]);
    pages.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The blocks of TOML of a page.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("\n```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next())
}

/// A value for every `env:NAME` in a text.
fn environment(text: &str) -> Env {
    let names = text.split("\"env:").skip(1).filter_map(|rest| rest.split('"').next());
    let value = |name: &str| match name {
        // Of the pages' names these stand for signing secrets; any other takes a token.
        "OPS_SECRET" | "OPS_SECRET_BEFORE" => SECRET.to_owned(),
        "SLACK_URL" => "https://hooks.slack.com/services/T/B/x".to_owned(),
        other => format!("{other}-0123456789abcdef"),
    };
    names.map(|name| (name.to_owned(), value(name))).collect()
}

#[test]
fn every_configuration_that_the_pages_show_is_good() {
    let mut seen = 0;
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("events.toml")).unwrap();
    for (page, text) in pages() {
        for block in blocks(&text) {
            let folder = tempfile::tempdir().unwrap();
            // Configurations stand beside the shipped catalogue, as they do for whoever tries them.
            let is_catalogue = ["[event.", "[layer."].iter().any(|word| block.contains(word));
            let (catalogue, config) = if is_catalogue { (block, "") } else { (shipped.as_str(), block) };
            std::fs::write(folder.path().join("events.toml"), catalogue).unwrap();
            let file = folder.path().join("config.toml");
            std::fs::write(&file, config).unwrap();
            load(&file, &environment(block)).unwrap_or_else(|p| panic!("{page}: {}{block}", told(&p)));
            seen += 1;
        }
    }
    assert!(seen > 3, "{seen}");
}

#[test]
fn a_wrong_block_would_be_found() {
    let page = "x\n```toml\n[daemon]\nlissten = 1\n```\ny\n```toml\na = 1\n```\n";
    assert_eq!(blocks(page).collect::<Vec<_>>(), ["[daemon]\nlissten = 1", "a = 1"]);
    assert!(load_text(blocks(page).next().unwrap(), &[]).is_err());
}

#[test]
fn the_page_of_the_configuration_names_every_setting_in_its_section() {
    const NOBODY: &str = "zzzzzzzzzzzzzzzzzz = 1";
    let (_, page) = pages().into_iter().find(|(name, _)| name.ends_with("configuration.md")).unwrap();
    let chapter = |title: &str| {
        let begin = format!("\n## {title}\n");
        let text = page.split(&begin).nth(1).unwrap_or_else(|| panic!("no chapter {title}"));
        text.split("\n## ").next().unwrap_or_default().to_owned()
    };
    let mut seen = BTreeSet::new();
    let mut judge = |title: &str, keys: BTreeSet<String>| {
        let text = chapter(title);
        for key in keys {
            assert!(text.contains(&format!("`{key}`")), "{title} says nothing of {key}");
            seen.insert(key);
        }
    };
    for section in ["daemon", "outbox", "retry", "network", "catalogue", "telemetry", "relay"] {
        judge(&format!("[{section}]"), known_keys(&format!("[{section}]\n{NOBODY}\n[[subscription]]\n")));
    }
    for kind in ["webhook", "console", "analytics"] {
        let text =
            format!("[catalogue]\nfiles = []\n[[subscription]]\nname = \"a\"\ndeliveree = \"{kind}\"\n{NOBODY}\n");
        judge("[[subscription]]", known_keys(&text));
    }
    assert!(seen.len() > 35, "{seen:?}");
}

/// A page of `docs`.
fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// The rows of the table that begins with this header, each as its cells.
fn rows<'a>(page: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let table = page.split(header).nth(1).unwrap_or_else(|| panic!("no table {header}"));
    let lines = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    lines.map(|line| line.split(" |").map(|cell| cell.trim_start_matches('|').trim()).collect()).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_page_of_the_catalogue_names_every_key_in_its_table() {
    let page = page("catalogue.md");
    for (header, table) in [
        ("| key of `[layer.\"…\"]` |", "[layer.l]"),
        ("| key of `[event.\"…\"]` |", "[event.e]"),
        ("| key of a field |", "[layer.l.fields.f]\ntype = \"string\""),
    ] {
        let keys: BTreeSet<String> = rows(&page, header).iter().flat_map(|row| quoted(row[0])).collect();
        assert_eq!(keys, known(table), "{header}");
    }
}

#[test]
fn the_page_of_the_catalogue_says_which_rule_fits_which_type() {
    let page = page("catalogue.md");
    let rows = rows(&page, "| `telemetry` | fits |");
    let names: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    assert_eq!(names, RULES);
    let fits = |rule: &str, kind: &str, path: &str| {
        // Everything that a rule may need beside it, as far as the type takes it.
        let needs = match (rule, kind) {
            ("keep", "string") | ("count-by", "string" | "array") => ", values = [\"a\"]",
            ("keep" | "sum", "integer" | "number") => ", minimum = 0, maximum = 9",
            ("bucket", _) => ", bucket = [1]",
            _ => "",
        };
        let field = format!("fields.\"{path}\" = {{ type = \"{kind}\", telemetry = \"{rule}\"{needs} }}");
        load_catalogue(&format!("[event.e]\nfields.l = {{ type = \"array\" }}\n{field}\n")).is_ok()
    };
    for row in &rows {
        let rule = row[0].trim_matches('`');
        for (kind, _) in KINDS {
            let alone = quoted(row[1]).contains(kind);
            assert_eq!(fits(rule, kind, "f"), alone, "{rule} of {kind}");
            assert_eq!(fits(rule, kind, "l.*.f"), alone || quoted(row[2]).contains(kind), "{rule} of {kind} under *");
        }
    }
}
