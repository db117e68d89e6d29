//! The docs point to what is there, and the changelog knows the version.

use super::{files, none, shown};
use anyhow::{Context, Result, ensure};
use posthaste_tests::daemon::root;
use std::fs;
use toml_edit::DocumentMut;

/// Targets of `[text](target)` that lie in this tree.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| {
        !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:") && !target.contains(' ')
    })
}

#[test]
fn every_link_of_the_docs_leads_somewhere() -> Result<()> {
    let mut findings = Vec::new();
    for (path, text) in files(".md")? {
        let folder = root().join(path.parent().context("a folder")?);
        for target in links(&text) {
            let file = target.split('#').next().unwrap_or_default();
            if !folder.join(file).exists() {
                findings.push(format!("{}: {target} is not there", shown(&path)));
            }
        }
    }
    none(&findings)
}

#[test]
fn the_changelog_has_the_version() -> Result<()> {
    let manifest: DocumentMut = fs::read_to_string(root().join("Cargo.toml"))?.parse()?;
    let version = manifest["workspace"]["package"]["version"].as_str().context("a version")?;
    let changelog = fs::read_to_string(root().join("CHANGELOG.md"))?;
    let known = changelog.lines().any(|line| line.starts_with("## ") && line.contains(version));
    ensure!(known, "CHANGELOG.md has no section for {version}");
    Ok(())
}
