//! docs/promises.md says what each gap of other senders is here, and names rows; this holds it to them.

use super::names;
use anyhow::{Result, ensure};
use posthaste_tests::daemon::root;
use std::collections::BTreeSet;
use std::fs;

/// How many promises there are at least.
const ROWS_MIN: usize = 80;

#[test]
fn there_are_80_rows_and_each_says_given_when_and_then_once() -> Result<()> {
    let names = names();
    ensure!(names.len() >= ROWS_MIN, "{} rows", names.len());
    let odd: Vec<_> =
        names.iter().filter(|n| !(n.starts_with("given ") && n.contains(", when ") && n.contains(", then "))).collect();
    ensure!(odd.is_empty(), "{odd:?}");
    let different: BTreeSet<_> = names.iter().collect();
    ensure!(different.len() == names.len(), "two rows have the same name");
    Ok(())
}

/// The table's rows: its first cell, and what the second quotes.
fn promised(page: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    rows.skip(1)
        .filter_map(|line| {
            let mut cells = line.trim_matches(['|', ' ']).split(" | ");
            let (gap, here) = (cells.next()?.trim(), cells.next()?);
            Some((gap, here.split('`').skip(1).step_by(2).collect()))
        })
        .collect()
}

#[test]
fn every_gap_of_the_page_names_rows_that_there_are() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/promises.md"))?;
    let names: BTreeSet<&str> = names().into_iter().collect();
    let promised = promised(&page);
    ensure!(promised.len() >= 18, "only {} gaps", promised.len());
    let mut faults = Vec::new();
    for (gap, rows) in promised {
        if rows.is_empty() {
            faults.push(format!("{gap}: no row"));
        }
        // A test of another file is named by file and function.
        faults.extend(
            rows.iter().filter(|row| !names.contains(*row) && !is_test(row)).map(|row| format!("{gap}: {row}")),
        );
    }
    ensure!(faults.is_empty(), "docs/promises.md names what there is not:\n{}", faults.join("\n"));
    Ok(())
}

/// Whether `file.rs: function` is a test of the suite.
fn is_test(named: &str) -> bool {
    let Some((file, function)) = named.split_once(": ") else { return false };
    let text = fs::read_to_string(root().join("tests/suite").join(file)).unwrap_or_default();
    text.contains(&format!("#[test]\nfn {function}()"))
}
