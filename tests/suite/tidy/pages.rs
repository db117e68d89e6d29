//! The docs point to what is there, and the changelog knows the version.

use super::{files, none, shown};
use crate::newcomer::blocks;
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

/// The cells `name: type = value` of a page's tables, each with the file that its row links.
fn quoted_limits(page: &str) -> Vec<(&str, &str)> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains("` in ["));
    rows.filter_map(|row| {
        let (before, after) = row.split_once("` in [")?;
        Some((before.rsplit('`').next()?, after.split("](").nth(1)?.split(')').next()?))
    })
    .collect()
}

#[test]
fn every_limit_of_the_page_stands_so_in_the_code() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/limits.md"))?;
    let limits = quoted_limits(&page);
    ensure!(limits.len() > 40, "only {} limits", limits.len());
    let mut findings = Vec::new();
    for (quoted, file) in limits {
        let code = fs::read_to_string(root().join("docs").join(file)).with_context(|| file.to_owned())?;
        if !code.contains(quoted) {
            findings.push(format!("docs/limits.md: {file} does not say `{quoted}`"));
        }
    }
    none(&findings)
}

#[test]
fn every_message_stands_in_the_page_of_messages() -> Result<()> {
    let code = fs::read_to_string(root().join("actors/src/messages.rs"))?;
    let page = fs::read_to_string(root().join("docs/messages.md"))?;
    let mut messages = code.split("#[rtype(result = \"").skip(1);
    let mut findings = Vec::new();
    let mut seen = 0;
    for message in &mut messages {
        let (answer, rest) = message.split_once("\")]").context("an answer")?;
        let name = rest.split("pub struct ").nth(1).and_then(|r| r.split([' ', '(', ';']).next()).context("a name")?;
        if !page.lines().any(|line| line.starts_with(&format!("| `{name}` | `{answer}` | "))) {
            findings.push(format!("docs/messages.md has no row for {name} with {answer}"));
        }
        seen += 1;
    }
    ensure!(seen > 10, "only {seen} messages");
    none(&findings)
}

#[test]
fn every_line_of_rust_in_the_docs_stands_in_code_that_is_compiled() -> Result<()> {
    let sources = ["examples/embed.rs", "examples/typed.rs", "src/engine.rs"];
    let compiled =
        sources.map(|file| fs::read_to_string(root().join(file))).into_iter().collect::<Result<String, _>>()?;
    let mut findings = Vec::new();
    let mut seen = 0;
    for (path, text) in files(".md")?.into_iter().filter(|(path, _)| path.starts_with("docs")) {
        for line in blocks(&text, "rust").iter().flat_map(|block| block.lines()).filter(|line| !line.is_empty()) {
            seen += 1;
            if !compiled.contains(line.trim()) {
                findings.push(format!("{}: `{line}` is compiled nowhere", shown(&path)));
            }
        }
    }
    ensure!(seen > 8, "only {seen} lines");
    none(&findings)
}
