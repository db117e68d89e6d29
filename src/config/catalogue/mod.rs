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
use posthaste_events::catalogue::declare::Declarations;
use posthaste_events::catalogue::{Catalogue, Undeclared};
use spots::Spots;
use std::path::Path;

const FILE_DEFAULT: &str = "events.toml";

/// Reads the catalogue; `None` where something is wrong with it, which was told then.
pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path) -> Option<Catalogue> {
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
