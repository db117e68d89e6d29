//! The newcomer's minute: the commands of the README, in their order, on the shipped files.
//!
//! In a network of its own, so that the shipped ports are free.

use crate::folder;
use anyhow::{Context, Result, bail, ensure};
use posthaste_tests::daemon::{binary, root};
use posthaste_tests::{Config, PrivateNetwork, Subscription, until};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The lines of the fenced blocks of one language, a text each.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    page.split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .map(|text| text.replace("\\\n", " "))
        .collect()
}

/// A copy of what a clone has, with the daemon where a release build puts it.
fn clone(folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("posthaste");
    fs::create_dir_all(copy.join("target/release"))?;
    for file in ["README.md", "config.toml", "events.toml"] {
        fs::copy(root().join(file), copy.join(file)).with_context(|| file.to_owned())?;
    }
    symlink(fs::canonicalize(binary())?, copy.join("target/release/posthaste"))?;
    Ok(copy)
}

/// A command that stays; it ends with this value.
pub(crate) struct Running {
    child: Child,
    pub(crate) out: PathBuf,
}

impl Running {
    pub(crate) fn start(home: &Path, command: &str) -> Result<Self> {
        let out = home.join(format!("{}.log", command.replace(['/', ' '], "-")));
        let log = File::create(&out)?;
        let child = Command::new("sh")
            // The shell becomes the command, so that ending the child ends it.
            .args(["-c", &format!("exec {command}")])
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        Ok(Self { child, out })
    }

    pub(crate) fn says(&self, words: &[&str]) -> Result<()> {
        let said = || fs::read_to_string(&self.out).unwrap_or_default();
        until(&format!("{words:?}"), Duration::from_secs(10), || {
            Ok(words.iter().all(|word| said().contains(word)).then_some(()))
        })
        .with_context(said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a command to its end and answers what it printed.
fn shell(home: &Path, command: &str) -> Result<String> {
    let done = Command::new("sh").args(["-c", command]).current_dir(home).stdin(Stdio::null()).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.success(), "`{command}` ended with {}: {said}", done.status);
    Ok(said)
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() -> Result<()> {
    let folder = folder()?;
    let home = clone(folder.path())?;
    let readme = fs::read_to_string(home.join("README.md"))?;
    let commands = commands(&readme);
    let find = |word: &str| -> Result<&String> {
        commands.iter().find(|c| c.contains(word)).with_context(|| format!("the README shows no `{word}`"))
    };
    ensure!(find("cargo run")?.as_str() == "cargo run --release", "{commands:?}");
    let (listen, send) = (find(" listen")?, find(" send ")?);
    PrivateNetwork::make()?.run(|| {
        let daemon = Running::start(&home, "target/release/posthaste")?;
        daemon.says(&["posthaste:daemon:started"])?;
        let listener = Running::start(&home, listen)?;
        listener.says(&["8322"])?;
        let sent = shell(&home, send)?;
        ensure!(sent.contains("evt_"), "{sent}");
        listener.says(&["project:created", "signature holds"])?;
        let mut tail = None;
        for command in &commands {
            if command.contains("curl") {
                let answer = shell(&home, command)?;
                ensure!(answer.contains(" 202") && answer.contains("evt_"), "{command}: {answer}");
            } else if command.contains(" tail") {
                tail = Some(Running::start(&home, command)?);
            } else if ![listen, send].contains(&command) && !command.contains("cargo run") {
                shell(&home, command)?;
            }
        }
        // The receiver goes away and comes back: what was sent meanwhile arrives by itself.
        drop(listener);
        let missed = send.replace("--wait", "").replace(r#"{"name":"x"}"#, r#"{"name":"missed"}"#);
        ensure!(shell(&home, &missed)?.contains("evt_"));
        let listener = Running::start(&home, listen)?;
        until("what was missed", Duration::from_secs(30), || {
            Ok(fs::read_to_string(&listener.out)?.contains("missed").then_some(()))
        })?;
        tail.context("the README shows no `tail`")?.says(&["evt_"])
    })
}

/// The commands of a page: the lines of its `sh` blocks.
fn commands(page: &str) -> Vec<String> {
    let lines = blocks(page, "sh").into_iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Puts what is really there in the place of the ids that a page shows.
fn with_real_ids(command: &str, event: &str, delivery: &str) -> String {
    let words = command.split(' ').map(|word| match word {
        id if id.starts_with("evt_") => event,
        id if id.starts_with("dlv_") => delivery,
        other => other,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a command of the pages says exactly why it can do nothing here: nobody listens at `ops`, and what was tried
/// again is dead again by the time that it is to be cancelled.
fn fails_as_it_must(command: &str, said: &str) -> bool {
    let words: &[&str] = if command.contains(" subscriptions test ops") {
        &["it did not arrive", "Connection refused"]
    } else if command.contains(" deliveries cancel ") {
        &["a delivery that is dead cannot be cancelled"]
    } else {
        return false;
    };
    words.iter().all(|word| said.contains(word))
}

#[test]
fn the_commands_of_the_docs_are_understood_and_do_something() -> Result<()> {
    let folder = folder()?;
    let home = clone(folder.path())?;
    // The pages speak of a subscription of the reader's own.
    let shipped = fs::read_to_string(home.join("config.toml"))?;
    let ops = Subscription::webhook("ops", "http://127.0.0.1:9/").set("events", vec!["project:**"]);
    let ops = ops.set("retry", json!({ "attempts": 1 }));
    fs::write(home.join("config.toml"), format!("{shipped}\n{}", Config::piece(&ops)))?;
    // And of files with a customer's.
    let acme = json!({ "deliveree": "webhook", "events": ["project:**"], "url": "http://127.0.0.1:9/" });
    fs::write(home.join("acme.json"), acme.to_string())?;
    fs::write(home.join("change.json"), json!({ "timeout": "3s" }).to_string())?;
    let mut all = Vec::new();
    for page in pages()?.iter().filter(|page| !page.ends_with("README.md")) {
        all.extend(commands(&fs::read_to_string(page)?));
    }
    let stays = |command: &str| [" listen", " tail", " serve"].iter().any(|word| command.contains(word));
    PrivateNetwork::make()?.run(|| {
        let path = "PATH=target/release:$PATH";
        let daemon = Running::start(&home, "env PATH=target/release:$PATH posthaste serve")?;
        daemon.says(&["posthaste:daemon:started"])?;
        let sent = shell(&home, &format!("{path} posthaste send project:created --properties '{{\"name\":\"x\"}}'"))?;
        let event = sent.split_whitespace().find(|word| word.starts_with("evt_")).context("an id")?;
        // Nobody listens at `ops`: its delivery dies and can be tried again, as the pages do.
        let find = format!("{path} posthaste deliveries list --state dead --subscription ops --json");
        let delivery = until("a dead delivery", Duration::from_secs(10), || {
            let listed = shell(&home, &find)?;
            Ok(listed.split('"').find(|word| word.starts_with("dlv_")).map(str::to_owned))
        })?;
        // What builds was run before this test could be.
        let ours = |command: &&String| !command.starts_with("cargo ") && command.contains("posthaste ");
        for command in all.iter().filter(|command| ours(command) || command.contains("curl ")) {
            let command = with_real_ids(command, event, &delivery);
            if command.contains(" serve") {
                // The one that runs has its port; that it is understood is all there is to see.
                let said = shell(&home, &format!("{path} {command}")).err().context("two daemons")?;
                ensure!(!format!("{said:#}").contains("Usage"), "{said:#}");
            } else if stays(&command) {
                let running = Running::start(&home, &format!("env {path} {command}"))?;
                if command.contains(" listen") {
                    running.says(&["8322"])?;
                }
            } else {
                // Nobody listens at the shipped `listen` either, so there is nothing to wait for.
                let command = command.replace(" --wait", "");
                match shell(&home, &format!("{path} {command}")) {
                    Ok(_) => {}
                    Err(no) if fails_as_it_must(&command, &format!("{no:#}")) => {}
                    Err(no) => return Err(no),
                }
            }
        }
        Ok(())
    })
}

#[test]
fn every_config_that_the_docs_show_is_accepted() -> Result<()> {
    let mut seen = 0;
    for page in pages()? {
        let text = fs::read_to_string(&page)?;
        for block in blocks(&text, "toml") {
            let folder = folder()?;
            let home = clone(folder.path())?;
            // Subscriptions are shown as an addition to the shipped file; what has a [section] stands for itself.
            let shipped = fs::read_to_string(home.join("config.toml"))?;
            let alone = block.lines().any(|line| line.starts_with('[') && !line.starts_with("[["));
            let whole = if alone { block.clone() } else { format!("{shipped}\n{block}") };
            let (file, whole) =
                if block.contains("[event.") { ("events.toml", block.clone()) } else { ("config.toml", whole) };
            fs::write(home.join(file), whole)?;
            // Of the names in the pages those of signing secrets have the word in them; any other is a token.
            let names = block.split("\"env:").skip(1).filter_map(|rest| rest.split('"').next());
            let given = names.map(|name| match name {
                name if name.contains("SECRET") => format!("{name}={} ", posthaste_tests::config::SECRET),
                name if name.ends_with("_URL") => format!("{name}=https://hooks.example.com/{name} "),
                name => format!("{name}=token-0123456789-{name} "),
            });
            let check = format!("{}target/release/posthaste check", given.collect::<String>());
            if let Err(problem) = shell(&home, &check) {
                bail!("{}: {problem:#}\n{block}", page.display());
            }
            seen += 1;
        }
    }
    ensure!(seen > 0, "no page shows a config");
    Ok(())
}

/// The README and the pages in `docs`.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "md") {
            pages.push(path);
        }
    }
    Ok(pages)
}
