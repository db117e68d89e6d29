//! The rules of the house that a compiler does not hold: who may know whom, how long a file may be, what a name may
//! say, and that the docs point to what is there.

mod arrows;
mod pages;
mod text;

use anyhow::{Result, ensure};
use posthaste_tests::daemon::root;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are made, not written.
const MADE: [&str; 5] = ["target", ".git", ".tools", "data", "node_modules"];

/// Every written file of the tree whose name ends as given, with its path from the root.
fn files(extension: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !MADE.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(extension) {
                // What is not text has nothing to say here.
                if let Ok(text) = fs::read_to_string(&path) {
                    found.push((path.strip_prefix(root())?.to_owned(), text));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Fails with every finding, a line each.
fn none(findings: &[String]) -> Result<()> {
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn the_tree_is_read_at_all() -> Result<()> {
    ensure!(files(".rs")?.len() > 30 && files(".md")?.len() > 5 && files("Cargo.toml")?.len() == 7);
    Ok(())
}
