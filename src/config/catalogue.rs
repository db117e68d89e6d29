//! `[catalogue]` and the files that it names: which event types are declared.

use super::problem::Problems;
use super::section::Section;
use super::source;
use posthaste_events::EventType;
use posthaste_events::builtin::is_ours;
use posthaste_events::catalogue::declare::{Declarations, EventDeclaration};
use posthaste_events::catalogue::{Catalogue, Undeclared};
use std::path::Path;

const FILE_DEFAULT: &str = "events.toml";

pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path) -> Catalogue {
    let mut section = top.section("catalogue");
    let undeclared = match section.word("undeclared", &["reject", "accept"]) {
        Some(("accept", _)) => Undeclared::Accept,
        _ => Undeclared::Reject,
    };
    let mut declarations = Declarations::default();
    let given = section.has("files");
    let mut files = section.strings("files").unwrap_or_default();
    files.dedup_by_key(|(path, _)| *path);
    let mut paths: Vec<_> = files.iter().map(|(path, node)| (*path, node.place.clone())).collect();
    if !given {
        paths.push((FILE_DEFAULT, section.place.clone()));
    }
    for (path, place) in paths {
        let full = folder.join(path);
        // A folder or a missing file is named at the line that names it.
        if let Err(error) = std::fs::File::open(&full) {
            let why = format!("= \"{path}\" cannot be read: {error}");
            let hint = format!("paths are seen from {}; files = [] declares nothing", folder.display());
            section.unseen(&place, "files", why, hint);
            continue;
        }
        read_file(&full, &mut declarations, section.problems);
    }
    section.finish();
    // Faults are told where the file is read; what is left here is none.
    Catalogue::compile(&declarations, undeclared).unwrap_or_default()
}

fn read_file(path: &Path, declarations: &mut Declarations, problems: &mut Problems) {
    let Some(root) = source::parse(path, problems) else { return };
    let mut top = Section::top(&root, problems);
    if let Some(entry) = top.entry("layer") {
        top.unseen(
            &entry.place,
            "[layer…]",
            "is not built yet",
            "leave layers out for now; declare types as [event.\"a:b\"]",
        );
    }
    let events = top.section("event");
    let declared: Vec<_> = events.rest().collect();
    for entry in declared {
        let scope = format!("event \"{}\"", entry.key);
        let mut section = Section::of(&entry.node, &entry.place, scope, events.problems);
        if !matches!(entry.node.value, super::node::Value::Table(_)) {
            section.unseen(
                &entry.place,
                "it",
                format!("is {}, not a table", entry.node.kind()),
                "write [event.\"a:b\"]",
            );
            continue;
        }
        let said = read_declared(&mut section);
        match EventType::parse(&entry.key) {
            Err(why) => {
                section.unseen(
                    &entry.place,
                    "its name",
                    format!("is no type: {why}"),
                    "such as [event.\"project:created\"]",
                );
            }
            Ok(name) if is_ours(name.as_str()) => {
                section.unseen(
                    &entry.place,
                    "its name",
                    "is the daemon's own",
                    "types of `posthaste:` need no declaration",
                );
            }
            Ok(name) if declarations.events.iter().any(|e| e.name == name.as_str()) => {
                section.unseen(
                    &entry.place,
                    "its name",
                    "is declared in another file already",
                    "declare each type once",
                );
            }
            Ok(name) => {
                declarations.events.push(EventDeclaration { name: name.as_str().to_owned(), ..said });
            }
        }
        section.finish();
    }
    top.finish();
}

fn read_declared(section: &mut Section<'_, '_>) -> EventDeclaration {
    let title = section.string("title").map(|(text, _)| text.to_owned());
    let retired = section.boolean("retired").is_some_and(|(retired, _)| retired);
    if let Some(entry) = section.entry("example")
        && !matches!(entry.node.value, super::node::Value::Table(_))
    {
        section.wrong("example", &entry.node, "is no table", "an example is the properties of one event");
    }
    for key in ["layer", "fields", "audience"] {
        if let Some(entry) = section.entry(key) {
            section.unseen(&entry.place, key, "is not built yet", "leave it out for now");
        }
    }
    EventDeclaration { title, retired, ..EventDeclaration::default() }
}
