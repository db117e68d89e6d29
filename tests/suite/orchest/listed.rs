//! `docs/faithfulness.md`: every behaviour has its tests, and they are there.

use anyhow::{Result, ensure};
use posthaste_tests::daemon::root;
use std::collections::BTreeSet;
use std::fs;

/// Numbers of the reference, 1 to 30, that the page says are not built or that have a row.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=30;

/// The names of every test in the tree.
fn tests() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders =
        ["tests", "events", "outbox", "deliverees", "actors", "src"].map(|name| root().join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with(".tools") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                names.extend(names_in(&fs::read_to_string(path)?));
            }
        }
    }
    Ok(names)
}

/// The functions of a file that have a `#[test]` or `#[tokio::test]` above them.
fn names_in(code: &str) -> Vec<String> {
    let mut marked = false;
    let mut names = Vec::new();
    for line in code.lines().map(str::trim) {
        if line.starts_with("#[") {
            marked |= line.starts_with("#[test]") || line.contains("::test");
        } else if marked {
            let name = line.split_once("fn ").and_then(|(_, rest)| rest.split('(').next());
            names.extend(name.map(str::to_owned));
            marked = false;
        }
    }
    names
}

/// The rows of the page: a number, and the tests named in it.
fn rows(page: &str) -> Vec<(u32, Vec<&str>)> {
    let cells = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
        Some((cells.first()?.parse().ok()?, cells.last()?.split('`').skip(1).step_by(2).collect()))
    });
    cells.collect()
}

#[test]
fn every_behaviour_of_the_original_is_held_by_tests_that_exist() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/faithfulness.md"))?;
    let (tests, rows) = (tests()?, rows(&page));
    let later = page.lines().skip_while(|line| !line.starts_with("Not built yet:")).take(2).collect::<String>();
    for number in NUMBERS {
        let of = rows.iter().filter(|(n, _)| *n == number).collect::<Vec<_>>();
        let named_later = later.split(|c: char| !c.is_ascii_digit()).any(|word| word == number.to_string());
        ensure!(of.is_empty() == named_later, "{number} is neither held nor said to come, or both");
        for (_, names) in of {
            ensure!(!names.is_empty(), "{number} has no test");
            let missing = names.iter().find(|name| !tests.contains(**name));
            ensure!(missing.is_none(), "{number}: there is no test {missing:?}");
        }
    }
    // The other way round: what is named after a number is listed under it.
    for name in tests.iter().filter(|name| name.starts_with("keep_") || name.starts_with("fix_")) {
        let Some(number) = name.split('_').nth(1).and_then(|n| n.parse::<u32>().ok()) else { continue };
        let listed = rows.iter().any(|(n, names)| *n == number && names.contains(&name.as_str()));
        ensure!(listed, "{name} is not listed");
    }
    Ok(())
}
