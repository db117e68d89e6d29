//! `posthaste explain`: for each event type who gets it, what they are told, and exactly what leaves as telemetry.
//!
//! Reads the configuration as `check` does and needs no daemon. [`gather`] finds what is so, from the catalogue that
//! events are held against; [`text`] and [`markdown`] only write it.

mod gather;
mod leaves;
mod markdown;
mod text;

use super::output::{Output, plain};
use super::{Failure, check, environment};
use crate::config::{self, Config};
use clap::{Args, ValueEnum};
use gather::Explained;
use posthaste_events::EventType;
use posthaste_events::builtin::ALL;
use posthaste_events::catalogue::Undeclared;
use std::path::PathBuf;

/// What to explain.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The event type; every one where none is said.
    #[arg(value_name = "TYPE")]
    event_type: Option<String>,
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// One JSON object a line: the same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a terminal.
    Text,
    /// For a page to be kept and compared.
    Markdown,
    /// One JSON object a line, with both JSON Schemas.
    Json,
}

pub(super) fn run(explain: &Explain, output: &mut Output) -> Result<(), Failure> {
    let config = config::load(&explain.config, &environment()).map_err(|problems| check::refuse(&problems))?;
    let format = if explain.json { Format::Json } else { explain.format };
    for line in lines(&config, explain.event_type.as_deref(), format)? {
        output.line(&line)?;
    }
    Ok(())
}

/// What is printed.
fn lines(config: &Config, wanted: Option<&str>, format: Format) -> Result<Vec<String>, Failure> {
    let explained = match wanted {
        Some(name) => vec![gather::explained(config, &known(config, name)?)],
        None => {
            let declared = config.catalogue.types().map(|(name, _)| name.clone());
            let ours = ALL.iter().filter_map(|name| EventType::parse(name).ok());
            declared.chain(ours).map(|name| gather::explained(config, &name)).collect()
        }
    };
    let others = wanted.is_none() && config.catalogue.undeclared() == Undeclared::Accept;
    Ok(match format {
        Format::Text => text::lines(&explained, others),
        Format::Markdown => markdown::lines(&explained, others),
        Format::Json => explained.iter().map(json).collect::<Result<_, _>>()?,
    })
}

fn json(explained: &Explained) -> Result<String, Failure> {
    serde_json::to_string(explained).map_err(|e| Failure::Failed(e.to_string()))
}

/// The type of this name, if such an event may occur.
fn known(config: &Config, name: &str) -> Result<EventType, Failure> {
    let event_type = EventType::parse(name).map_err(|why| Failure::Usage(format!("{}: {why}", plain(name))))?;
    let accepted = config.catalogue.undeclared() == Undeclared::Accept && !posthaste_events::builtin::is_ours(name);
    if config.catalogue.get(&event_type).is_some() || ALL.contains(&name) || accepted {
        return Ok(event_type);
    }
    let names: Vec<&str> = config.catalogue.types().map(|(name, _)| name.as_str()).chain(ALL).collect();
    let hint = match config::nearest(name, names) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`posthaste explain` alone tells of every type".to_owned(),
    };
    Err(Failure::Usage(format!("the type {} is not declared; {hint}", plain(name))))
}

#[cfg(test)]
mod tests;
