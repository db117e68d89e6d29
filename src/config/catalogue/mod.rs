//! `[catalogue]` and the files that it names: layers, event types and their fields.
//!
//! Here each declaration is read by itself; [`Catalogue::compile`] judges them as a whole, and what it finds is told at
//! the line where it stands.

mod fields;
mod file;
mod spots;

#[cfg(test)]
pub(super) use fields::{AUDIENCES, KINDS, RULES};

use super::problem::Place;
use super::section::Section;
use posthaste_events::catalogue::declare::{Declarations, FieldDeclaration, LayerDeclaration};
use posthaste_events::catalogue::{Catalogue, Undeclared};
use spots::{Spot, Spots};
use std::path::Path;

const FILE_DEFAULT: &str = "events.toml";

/// Reads the catalogue, to which `declared` is added; `None` where something is wrong with it, which was told then.
pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path, declared: &Declarations) -> Option<Catalogue> {
    let mut section = top.section("catalogue");
    let before = section.problems.count();
    let undeclared = match section.word("undeclared", &["reject", "accept"]) {
        Some(("accept", _)) => Undeclared::Accept,
        _ => Undeclared::Reject,
    };
    let (mut declarations, mut spots) = (Declarations::default(), Spots::default());
    for (path, place) in files(&mut section) {
        let full = folder.join(path);
        // A folder or a missing file is named at the line that names it.
        if let Err(error) = std::fs::File::open(&full) {
            let why = format!("= \"{path}\" cannot be read: {error}");
            let hint = format!("paths are seen from {}; files = [] declares nothing", folder.display());
            section.unseen(&place, "files", why, hint);
            (spots.broken, spots.lost_layer) = (true, true);
            continue;
        }
        file::read(&full, &mut declarations, &mut spots, section.problems);
    }
    add(declared, &mut declarations, &mut spots, &section.place);
    let compiled = Catalogue::compile(&declarations, undeclared);
    let catalogue = match compiled {
        Ok(catalogue) => Some(catalogue),
        Err(faults) => {
            for fault in faults {
                spots.tell(fault, &section.place, section.problems);
            }
            None
        }
    };
    let is_good = section.problems.count() == before;
    section.finish();
    catalogue.filter(|_| is_good)
}

/// Adds what is declared in Rust to what was read; its place is the section.
fn add(declared: &Declarations, declarations: &mut Declarations, spots: &mut Spots, place: &Place) {
    let read = declarations.layers.clone();
    let names: Vec<&str> = read.iter().chain(&declared.layers).map(|layer| layer.name.as_str()).collect();
    for layer in &declared.layers {
        // Types of both may stand on it.
        if !read.iter().any(|other| is_alike(layer, other, &names)) {
            spots.layers.push(Spot::in_rust("layer", &layer.name, &layer.fields, place));
            declarations.layers.push(layer.clone());
        }
    }
    for event in &declared.events {
        spots.events.push(Spot::in_rust("event", &event.name, &event.fields, place));
        declarations.events.push(event.clone());
    }
}

/// Whether two layers of a catalogue with these names say the same, in whatever order.
fn is_alike(one: &LayerDeclaration, other: &LayerDeclaration, names: &[&str]) -> bool {
    let is_within =
        |fields: &[FieldDeclaration], others: &[FieldDeclaration]| fields.iter().all(|f| others.contains(f));
    (&one.name, parent(one, names), &one.at) == (&other.name, parent(other, names), &other.at)
        && is_within(&one.fields, &other.fields)
        && is_within(&other.fields, &one.fields)
}

/// The layer that one builds on: what it says, else the nearest that its name begins with. Rust always says it.
fn parent<'n>(layer: &'n LayerDeclaration, names: &[&'n str]) -> Option<&'n str> {
    let is_below = |name: &&str| layer.name.strip_prefix(*name).is_some_and(|rest| rest.starts_with([':', '.']));
    layer.parent.as_deref().or_else(|| names.iter().copied().filter(is_below).max_by_key(|name| name.len()))
}

/// The files, each with the place that names it.
fn files<'a>(section: &mut Section<'a, '_>) -> Vec<(&'a str, Place)> {
    if !section.has("files") {
        let _ = section.node("files");
        return vec![(FILE_DEFAULT, section.place.clone())];
    }
    let mut files = section.strings("files").unwrap_or_default();
    files.dedup_by_key(|(path, _)| *path);
    files.into_iter().map(|(path, node)| (path, node.place.clone())).collect()
}
