//! The reader as a whole: each mistake that a person makes is named with file, line and word, all of them at once, and
//! no secret is shown.

mod catalogue;
mod conditions;
mod docs;
mod fuzz;
mod mistakes;
mod schema;
mod shipped;
mod telemetry;
mod whole;

use super::*;
use std::fmt::Write as _;

const CANARY: &str = "canary-7f3a";

/// A good configuration: sections as they would be written, to be changed by [`with`].
const GOOD: &str = r#"[daemon]
listen = "127.0.0.1:8321"
data_dir = "data"

[retry]
initial = "5s"
multiplier = 2.0
jitter = 0.25

[outbox]
engine = "sled"

[catalogue]
files = []

[[subscription]]
name = "ops"
deliveree = "webhook"
events = ["project:**"]
url = "https://ops.example.com/hooks"
secrets = ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
timeout = "2s"
"#;

fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    load_in(tempfile::tempdir().unwrap().path(), text, env)
}

fn load_in(folder: &Path, text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let file = folder.join("config.toml");
    std::fs::write(&file, text).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(&file, &env)
}

/// [`GOOD`] with the line that begins with `key` replaced: what stands behind a `section.` is the key.
fn with(line: &str, instead: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    GOOD.replacen(line, instead, 1)
}

fn told(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut all, p| {
        let _ = writeln!(all, "{p}");
        all
    })
}

/// Asserts one problem that stands at the line that contains `at` and names every word.
fn refused(text: &str, at: &str, words: &[&str]) {
    refused_with(text, &[], at, words);
}

fn refused_with(text: &str, env: &[(&str, &str)], at: &str, words: &[&str]) {
    let problems = load_text(text, env).expect_err(text);
    let line = text.lines().position(|l| l.contains(at)).unwrap() + 1;
    let told = told(&problems);
    assert_eq!(problems.len(), 1, "{told}");
    assert!(told.contains(&format!("config.toml:{line}: ")), "line {line}: {told}");
    assert!(words.iter().all(|w| told.contains(w)), "{words:?}: {told}");
    assert!(!told.contains("whsec_A"), "{told}");
}
