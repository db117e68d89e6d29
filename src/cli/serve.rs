//! `posthaste serve`: reads the configuration and runs the daemon.

use super::check::refuse;
use super::{Failure, environment};
use crate::config;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// How to run the daemon.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
    /// How the log looks; human by default.
    #[arg(long, value_enum)]
    log_format: Option<Format>,
    /// What is logged: error, warn, info, debug, trace; RUST_LOG says more.
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
    let config = config::load(&serve.config, &environment()).map_err(|problems| refuse(&problems))?;
    let _ = (config, serve.log_format, serve.log_level);
    Err(Failure::Failed("the daemon is not joined in yet".to_owned()))
}
