//! `posthaste check`: says whether configuration and catalogue are good.

use super::output::{self, Output};
use super::{Failure, environment};
use crate::config::{self, Problem};
use clap::Args;
use std::path::PathBuf;

/// Which configuration.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

pub(super) fn run(check: &Check, output: &mut Output) -> Result<(), Failure> {
    match config::load(&check.config, &environment()) {
        Ok(config) => {
            let (subscriptions, types) = (config.subscriptions.len(), config.catalogue.types().count());
            let file = check.config.display();
            output.line(&format!("{file}: good ({subscriptions} subscriptions, {types} event types)"))?;
            Ok(())
        }
        Err(problems) => Err(refuse(&problems)),
    }
}

/// Prints every problem; a wrong configuration is wrong use.
pub(super) fn refuse(problems: &[Problem]) -> Failure {
    for problem in problems {
        output::complain(&problem.to_string());
    }
    Failure::Told(2)
}
