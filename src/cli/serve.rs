//! `posthaste serve`: reads the configuration, starts the log and runs the daemon.

use super::check::refuse;
use super::{Failure, environment};
use crate::config;
use crate::telemetry::{self, LogFormat};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// How to run the daemon.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
    /// How the log looks.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    log_format: Format,
    /// What is logged: error, warn, info, debug, trace, or a filter as RUST_LOG takes it.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

pub(super) fn run(serve: Serve) -> Result<(), Failure> {
    let env = environment();
    let config = config::load(&serve.config, &env).map_err(|problems| refuse(&problems))?;
    let format = match serve.log_format {
        Format::Json => LogFormat::Json,
        Format::Human => LogFormat::Human,
    };
    // Held until the end: what is still to be written is written then.
    let _log = telemetry::start(format, serve.log_level.as_deref())
        .map_err(|e| Failure::Usage(format!("--log-level or RUST_LOG: {e:#}")))?;
    crate::serve::run(config, env).map_err(|e| Failure::Failed(format!("{e:#}")))
}
