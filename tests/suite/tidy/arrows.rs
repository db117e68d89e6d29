//! Dependencies point only downwards: each crate, and what it must never know.

use super::{files, none, shown};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;
use toml_edit::DocumentMut;

/// A room, the rooms that it may know, and what it must never name besides.
struct Room {
    folder: &'static str,
    knows: &'static [&'static str],
    never: &'static [&'static str],
}

/// `actix` stands for the actor library; `actix-web` for the HTTP server.
const ROOMS: &[Room] = &[
    Room {
        folder: "events",
        knows: &[],
        never: &["actix", "actix-web", "tokio", "sled", "hyper", "surf", "http", "http-client", "rustix", "rand"],
    },
    Room {
        folder: "outbox",
        knows: &["posthaste-events"],
        never: &["actix", "actix-web", "hyper", "surf", "http", "http-client", "url"],
    },
    Room {
        folder: "deliverees",
        knows: &["posthaste-events"],
        never: &["actix", "actix-web", "sled", "bincode", "clap"],
    },
    Room {
        folder: "actors",
        knows: &["posthaste-events", "posthaste-outbox"],
        never: &["actix-web", "sled", "bincode", "hyper", "surf", "http", "http-client", "clap"],
    },
    Room {
        folder: "src",
        knows: &["posthaste-events", "posthaste-outbox", "posthaste-deliverees", "posthaste-actors"],
        never: &["sled", "bincode", "surf", "backoff"],
    },
    // From outside: the tests know the daemon's promises, and no part of it. Of hyper they take the server alone.
    Room { folder: "tests", knows: &[], never: &["sled", "actix", "actix-web", "surf"] },
    Room { folder: "benches", knows: &["posthaste-tests"], never: &["sled", "actix", "actix-web", "surf"] },
];

/// The dependencies that a crate is built with; those of its tests do not count.
fn dependencies(folder: &str) -> Result<BTreeSet<String>> {
    let manifest = if folder == "src" { "Cargo.toml".to_owned() } else { format!("{folder}/Cargo.toml") };
    let (_, text) =
        files("Cargo.toml")?.into_iter().find(|(path, _)| path == Path::new(&manifest)).context(manifest.clone())?;
    let manifest: DocumentMut = text.parse()?;
    let table = manifest.get("dependencies").and_then(|item| item.as_table_like());
    Ok(table.map(|t| t.iter().map(|(name, _)| name.to_owned()).collect()).unwrap_or_default())
}

#[test]
fn each_room_depends_only_on_the_rooms_below_it() -> Result<()> {
    let mut findings = Vec::new();
    for room in ROOMS {
        for name in dependencies(room.folder)? {
            if name.starts_with("posthaste") && !room.knows.contains(&name.as_str()) {
                findings.push(format!("{} must not depend on {name}", room.folder));
            }
            if room.never.contains(&name.as_str()) {
                findings.push(format!("{} must never know {name}", room.folder));
            }
        }
    }
    none(&findings)
}

/// Libraries and functions that only some files may name, and those files by the beginning of their path.
const NAMED_ONLY_IN: &[(&str, &[&str])] = &[
    ("actix::", &["actors/", "src/"]),
    ("actix_web::", &["src/"]),
    ("sled::", &["outbox/src/disk"]),
    ("bincode::", &["outbox/"]),
    ("surf::", &["deliverees/"]),
    ("hyper::client", &["deliverees/", "src/"]),
    ("backoff::", &["events/"]),
    ("cel::", &["events/"]),
    ("prost::", &["deliverees/"]),
    // Whoever restores payloads could make telemetry of anything.
    (
        "Payloads::restored",
        &["outbox/", "events/src/prepare/tests.rs", "actors/tests/", "deliverees/tests/", "deliverees/examples/"],
    ),
];

#[test]
fn each_library_is_named_only_where_it_belongs() -> Result<()> {
    let mut findings = Vec::new();
    for (path, text) in files(".rs")? {
        let path = shown(&path);
        if path.starts_with("tests/suite/tidy/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (library, places) in NAMED_ONLY_IN {
                let named = code.match_indices(library).any(|(at, _)| {
                    // `posthaste_x::sled::` or `my_surf::` name something else.
                    !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if named && !places.iter().any(|place| path.starts_with(place)) {
                    findings.push(format!("{path}:{}: {library} belongs in {places:?}", number + 1));
                }
            }
        }
    }
    none(&findings)
}
