//! What a file of code may be called, how long it may be, and what it may not say.

use super::{files, none, shown};
use anyhow::Result;
use std::path::Path;

/// Lines of a file at most.
const LINES_MAX: usize = 500;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 5] = ["util", "common", "helper", "manager", "misc"];

#[test]
fn no_file_of_code_is_longer_than_500_lines() -> Result<()> {
    let long = files(".rs")?.into_iter().filter(|(_, text)| text.lines().count() > LINES_MAX);
    none(&long.map(|(path, text)| format!("{}: {} lines", shown(&path), text.lines().count())).collect::<Vec<_>>())
}

#[test]
fn no_file_has_a_name_that_says_nothing() -> Result<()> {
    let says_nothing = |part: &str| {
        let mut words = part.split(['_', '-', '.']);
        words.any(|word| EMPTY_NAMES.contains(&word.trim_end_matches('s')))
    };
    let found = files(".rs")?.into_iter().filter(|(path, _)| shown(path).split('/').any(says_nothing));
    none(&found.map(|(path, _)| shown(&path)).collect::<Vec<_>>())
}

#[test]
fn every_module_opens_with_what_it_is_for() -> Result<()> {
    let silent = files(".rs")?.into_iter().filter(|(_, text)| {
        let first = text.lines().find(|l| !l.starts_with("#![") && !l.is_empty()).unwrap_or_default();
        !(first.starts_with("//! ") && first.len() > 10)
    });
    none(&silent.map(|(path, _)| format!("{} opens without a word", shown(&path))).collect::<Vec<_>>())
}

#[test]
fn code_says_nothing_that_the_house_has_banned() -> Result<()> {
    // Lints see most of this, yet not in code that is compiled out.
    let banned = [
        ("#[allow(", "an #[expect(…, reason = …)] says why, and goes when it is not needed"),
        ("#![allow(", "an #![expect(…, reason = …)] says why, and goes when it is not needed"),
        ("todo!(", "finish it, or leave it out"),
        ("unimplemented!(", "finish it, or leave it out"),
        (".do_send(", "it ignores the mailbox's bound: try_send or send"),
        ("#[ignore", "a test that does not run proves nothing"),
    ];
    let mut findings = Vec::new();
    for (path, text) in files(".rs")? {
        if path == Path::new("tests/suite/tidy/text.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (word, instead) in &banned {
                if code.contains(word) {
                    findings.push(format!("{}:{}: {word}: {instead}", shown(&path), number + 1));
                }
            }
        }
    }
    none(&findings)
}

#[test]
fn no_file_names_a_folder_of_somebodys_machine() -> Result<()> {
    let folders = ["work", "root", "farm", "home"].map(|name| format!("/{name}/"));
    let mut findings = Vec::new();
    for kind in [".rs", ".toml", ".md", ".sh", ".py", ".mjs", "run"] {
        for (path, text) in files(kind)? {
            for (number, line) in text.lines().enumerate() {
                let names = folders.iter().any(|folder| {
                    line.match_indices(folder.as_str()).any(|(at, _)| {
                        // A part of a longer path, of a URL for example, is none.
                        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}~)".contains(c))
                    })
                });
                if names {
                    findings.push(format!("{}:{}: {line}", shown(&path), number + 1));
                }
            }
        }
    }
    none(&findings)
}
