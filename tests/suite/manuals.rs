//! `docs/manuals`: each page is followed, block by block, as a reader would, on a copy of `examples/orchest`.
//!
//! TOML is added to the file that its first line names, commands are run, scripts too, and what a page says that one sees
//! must be seen. Rust must stand in the file that its first line names, line by line and piece after piece; such a file must
//! be one that is compiled.

use crate::folder;
use crate::orchest::platform::Platform;
use anyhow::{Context, Result, bail, ensure};
use posthaste_tests::PrivateNetwork;
use posthaste_tests::daemon::{binary, root};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A fenced block: its language and its lines, without the indent of the list that it stands in.
struct Block {
    language: String,
    lines: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut open): (Vec<Block>, Option<(usize, Block)>) = (Vec::new(), None);
    for line in page.lines() {
        let text = line.trim_start();
        open = match (open, text.strip_prefix("```")) {
            (None, Some(language)) => {
                Some((line.len() - text.len(), Block { language: language.to_owned(), lines: Vec::new() }))
            }
            (Some((_, block)), Some(_)) => {
                blocks.push(block);
                None
            }
            (Some((indent, mut block)), None) => {
                block.lines.push(line.get(indent..).unwrap_or_default().to_owned());
                Some((indent, block))
            }
            (None, None) => None,
        };
    }
    blocks
}

/// Somebody who follows a page.
struct Reader {
    /// The folder that the page speaks from.
    home: PathBuf,
    platform: Option<Platform>,
    /// Whether a file was changed that the daemon has not read.
    changed: bool,
    /// What the last commands printed.
    seen: String,
    /// How many blocks were followed.
    followed: usize,
    /// How far each file of code was read, in lines that say something.
    read: BTreeMap<String, usize>,
}

impl Reader {
    fn new(home: &Path) -> Result<Self> {
        // The daemon comes up with the first command that needs it.
        crate::orchest::platform::copy(&home.join("examples"), |config| config)?;
        fs::create_dir_all(home.join("bin"))?;
        symlink(fs::canonicalize(binary())?, home.join("bin/posthaste"))?;
        Ok(Self {
            home: home.to_owned(),
            platform: None,
            changed: false,
            seen: String::new(),
            followed: 0,
            read: BTreeMap::new(),
        })
    }

    fn follow(&mut self, block: &Block) -> Result<()> {
        self.followed += 1;
        match block.language.as_str() {
            "toml" => self.write(&block.lines),
            "sh" => {
                self.seen.clear();
                block.lines.iter().try_for_each(|line| self.run(line))
            }
            "js" => {
                self.seen.clear();
                fs::write(self.home.join("page.mjs"), block.lines.join("\n"))?;
                self.run("node page.mjs")
            }
            "text" => {
                let missing = block.lines.iter().find(|line| !self.seen.contains(line.trim()));
                ensure!(missing.is_none(), "{missing:?} is not in what was seen:\n{}", self.seen);
                Ok(())
            }
            "rust" => self.read_code(&block.lines),
            other => bail!("nobody can follow {other}"),
        }
    }

    fn write(&mut self, lines: &[String]) -> Result<()> {
        let file = lines.first().and_then(|line| line.strip_prefix("# ")).context("the first line names the file")?;
        let file = self.home.join(file);
        let before = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        self.changed = true;
        Ok(fs::write(&file, format!("{before}\n{}\n", lines.join("\n")))?)
    }

    fn run(&mut self, line: &str) -> Result<()> {
        // Examples of code are built, and run by a test of their own.
        if line.starts_with("cargo ") {
            return Ok(());
        }
        let offline = ["posthaste check ", "posthaste explain "].iter().any(|command| line.starts_with(command));
        if !offline {
            self.daemon()?;
        }
        let path = env::var("PATH").unwrap_or_default();
        let done = Command::new("sh")
            .args(["-c", line])
            .current_dir(&self.home)
            .env("PATH", format!("{}:{path}", self.home.join("bin").display()))
            .stdin(Stdio::null())
            .output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        ensure!(done.status.success(), "`{line}` ended with {}: {said}", done.status);
        self.seen.push_str(&said);
        Ok(())
    }

    /// Finds a piece of code in the file that its first line names, behind what the page showed of that file before.
    fn read_code(&mut self, lines: &[String]) -> Result<()> {
        let name = lines.first().and_then(|line| line.strip_prefix("// ")).context("the first line names the file")?;
        let file = root().join(name);
        ensure!(is_compiled(&file)?, "{name} is compiled nowhere");
        let text = fs::read_to_string(&file).with_context(|| name.to_owned())?;
        let (text, piece) = (telling(text.lines()), telling(lines.iter().skip(1).map(String::as_str)));
        ensure!(!piece.is_empty(), "nothing of {name} is shown");
        let read = self.read.entry(name.to_owned()).or_default();
        *read = after(&text, *read, &piece).with_context(|| format!("this stands not so in {name}, or sooner"))?;
        Ok(())
    }

    fn daemon(&mut self) -> Result<()> {
        if let Some(platform) = &self.platform {
            if self.changed {
                platform.reload()?;
            }
        } else {
            self.platform = Some(Platform::at(&self.home.join("examples/orchest"))?);
        }
        self.changed = false;
        Ok(())
    }
}

/// Lines that say something, without their indent.
fn telling<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    lines.into_iter().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Where a piece ends in a text that it stands in, from a place on: no line may be between its lines.
fn after(text: &[&str], from: usize, piece: &[&str]) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.windows(piece.len()).position(|window| window == piece).map(|at| from + at + piece.len())
}

/// Whether a file is part of a crate: named by a `mod` beside it, or an example.
fn is_compiled(file: &Path) -> Result<bool> {
    let (folder, name) = (file.parent().context("a folder")?, file.file_stem().unwrap_or_default().to_string_lossy());
    if name == "mod" || folder.ends_with("examples") {
        return Ok(true);
    }
    let beside = [folder.join("mod.rs"), folder.join("lib.rs"), folder.with_extension("rs")];
    let named = |text: String| text.lines().any(|line| line.trim().ends_with(&format!("mod {name};")));
    Ok(beside
        .iter()
        .filter(|path| path.is_file())
        .map(fs::read_to_string)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .any(named))
}

/// Follows a page; answers how many blocks it has.
fn follow(page: &str) -> Result<usize> {
    let folder = folder()?;
    PrivateNetwork::make()?.run(|| {
        let mut reader = Reader::new(folder.path())?;
        for block in blocks(page) {
            let text = || format!("```{}\n{}", block.language, block.lines.join("\n"));
            reader.follow(&block).with_context(text)?;
        }
        Ok(reader.followed)
    })
}

fn manual(name: &str) -> Result<()> {
    let page = fs::read_to_string(root().join("docs/manuals").join(name))?;
    let followed = follow(&page).with_context(|| name.to_owned())?;
    ensure!(followed > 2, "{name} shows nothing to do");
    Ok(())
}

#[test]
fn the_manual_for_a_new_event_type_can_be_followed() -> Result<()> {
    manual("new-event-type.md")
}

#[test]
fn the_manual_for_telemetry_from_a_server_can_be_followed() -> Result<()> {
    manual("telemetry-event-from-a-server.md")
}

#[test]
fn the_manual_for_telemetry_from_a_browser_can_be_followed() -> Result<()> {
    manual("telemetry-event-from-a-browser.md")
}

#[test]
fn the_manual_for_a_new_subscription_can_be_followed() -> Result<()> {
    manual("new-subscription.md")
}

#[test]
fn the_manual_for_a_new_analytics_backend_can_be_followed() -> Result<()> {
    manual("new-analytics-backend.md")
}

#[test]
fn the_manual_for_a_new_deliveree_can_be_followed() -> Result<()> {
    manual("new-deliveree.md")
}

#[test]
fn every_manual_is_followed_and_listed() -> Result<()> {
    let (tests, list) = (include_str!("manuals.rs"), fs::read_to_string(root().join("docs/manuals/README.md"))?);
    let mut seen = 0;
    for entry in fs::read_dir(root().join("docs/manuals"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "README.md" {
            ensure!(tests.contains(&format!("manual(\"{name}\")")), "no test follows {name}");
            ensure!(list.contains(&format!("({name})")), "the README does not list {name}");
            seen += 1;
        }
    }
    ensure!(seen == 6, "{seen} manuals");
    Ok(())
}

#[test]
fn control_a_page_that_is_wrong_is_found() -> Result<()> {
    let check = "posthaste check --config examples/orchest/config.toml";
    let rust = |code: &str| format!("```rust\n// deliverees/src/analytics/pigeon.rs\n{code}\n```\n");
    for wrong in [
        format!(
            "1. x\n\n   ```toml\n   # examples/orchest/events.toml\n   [event.\"a:b\"]\n   titel = \"x\"\n   ```\n\n```sh\n{check}\n```\n"
        ),
        "```sh\nposthaste events list\n```\n\n```text\nsomething else\n```\n".to_owned(),
        "```sh\nposthaste send no:such-type\n```\n".to_owned(),
        rust("let nobody = wrote(this);"),
        // Each line stands there; not so, and not in this order.
        rust("struct Pigeon {\n}"),
        rust("struct Failed {") + &rust("struct Said {"),
        rust("struct Said {") + &rust("struct Said {"),
        rust(""),
        rust("struct Pigeon {").replace("pigeon.rs", "dove.rs"),
        "```rust\nstruct Pigeon {\n```\n".to_owned(),
    ] {
        ensure!(follow(&wrong).is_err(), "{wrong}");
    }
    ensure!(follow(&(rust("struct Said {") + &rust("struct Failed {\n    line: usize,")))? == 2);
    ensure!(follow(&format!("```sh\n{check}\n```\n"))? == 1);
    Ok(())
}
