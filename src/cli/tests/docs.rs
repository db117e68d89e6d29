//! The pages for users: every command line that they show can be typed, and no command is missing in them.

use super::*;
use clap::CommandFactory as _;

/// The README and the pages in `docs`, in one text.
fn pages() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).chain([root.join("README.md")]);
    pages.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The lines of the blocks of shell commands that run us, from the program's name on.
fn commands(text: &str) -> Vec<Vec<String>> {
    let blocks = text.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let words = blocks.flat_map(str::lines).map(words);
    words.filter(|words| words.first().is_some_and(|w| w.rsplit('/').next() == Some("posthaste"))).collect()
}

/// Splits a line as a shell does, as far as the pages need it: spaces, and single quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted && begun => {
                words.push(std::mem::take(&mut word));
                begun = false;
            }
            ' ' if !quoted => {}
            other => {
                word.push(other);
                begun = true;
            }
        }
    }
    words.extend(begun.then_some(word));
    words
}

#[test]
fn every_command_line_that_the_pages_show_can_be_typed() {
    let commands = commands(&pages());
    for words in &commands {
        let parsed = Cli::try_parse_from(words);
        assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
    }
    assert!(commands.len() > 15, "{commands:?}");
}

#[test]
fn a_wrong_command_line_would_be_found() {
    let found =
        commands("x\n```sh\ncurl x\ntarget/release/posthaste send a:b --properties '{\"n\": \"x y\"}' --now\n```\n");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0][4], "{\"n\": \"x y\"}");
    assert!(Cli::try_parse_from(&found[0]).is_err());
}

#[test]
fn the_page_of_the_command_line_has_a_chapter_and_an_example_for_each_command() {
    let page = include_str!("../../../docs/command-line.md");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let chapter = page.split(&format!("\n## {name}\n")).nth(1).unwrap_or_else(|| panic!("no chapter {name}"));
        let chapter = chapter.split("\n## ").next().unwrap_or_default();
        let shown = commands(chapter);
        assert!(shown.iter().any(|w| w.get(1).is_some_and(|w| w == name)), "{name}");
        for verb in command.get_subcommands().map(clap::Command::get_name) {
            assert!(shown.iter().any(|w| w.get(2).is_some_and(|w| w == verb)), "{name} {verb}");
        }
        let all = std::iter::once(command).chain(command.get_subcommands());
        for option in all.flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("--{option}")), "{name} --{option}");
        }
    }
}

#[test]
fn the_commands_that_are_said_not_to_be_built_are_not() {
    let page = include_str!("../../../docs/not-yet.md");
    for line in ["backup d", "verify", "demo"] {
        let word = line.split(' ').next().unwrap();
        assert!(page.contains(&format!("`{word}`")), "{word}");
        assert!(parsed(line).is_err_and(|e| e.use_stderr()), "{line}");
    }
}
