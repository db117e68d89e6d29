//! The command line: what can be typed, and with which code it ends.
//!
//! Each command is a file; they talk to a daemon only by its HTTP API. Exit codes: 0 done, 1 failed, 2 wrong use or
//! wrong configuration.

mod check;
mod client;
mod explain;
mod listen;
mod listing;
mod output;
mod render;
mod send;
mod serve;
mod tail;
mod written;

use clap::{Args, Parser, Subcommand};
use output::Output;
use std::ffi::OsString;
use std::process::ExitCode;

/// Tell it "this happened", and everyone who should know does.
#[derive(Debug, Parser)]
#[command(name = "posthaste", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    serve: serve::Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (what happens without a command too).
    Serve(serve::Serve),
    /// Validate configuration and catalogue, and print every problem.
    Check(check::Check),
    /// Record an event with a running daemon, and print its id.
    Send(send::Send),
    /// Look at events.
    Events(listing::Events),
    /// Look at deliveries, try them again or cancel them.
    Deliveries(listing::Deliveries),
    /// Look at subscriptions, make and change them, replay what they got.
    Subscriptions(listing::Subscriptions),
    /// Show attempts as they happen.
    Tail(tail::Tail),
    /// Receive webhooks for development: print what arrives and judge its signature.
    Listen(listen::Listen),
    /// Tell of each event type who gets it, what they are told, and exactly what leaves as telemetry.
    Explain(explain::Explain),
}

/// The daemon of whoever names none.
const URL_DEFAULT: &str = "http://127.0.0.1:8321";

/// Which daemon a command talks to. The environment is asked here and not by clap, whose complaints would name as
/// required what stands there.
#[derive(Debug, Args)]
struct Daemon {
    /// The daemon's URL [env: POSTHASTE_URL] [default: http://127.0.0.1:8321].
    #[arg(long, global = true)]
    url: Option<String>,
    /// A token of the daemon's [env: POSTHASTE_TOKEN].
    #[arg(long, global = true)]
    token: Option<String>,
}

impl Daemon {
    fn url(&self, env: &crate::config::Env) -> String {
        self.url.clone().or_else(|| env.get("POSTHASTE_URL").cloned()).unwrap_or_else(|| URL_DEFAULT.to_owned())
    }

    fn token(&self, env: &crate::config::Env) -> Option<String> {
        self.token.clone().or_else(|| env.get("POSTHASTE_TOKEN").cloned())
    }
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It was asked wrongly.
    #[error("{0}")]
    Usage(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// What it prints goes nowhere any more.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
    /// It has said what is wrong already.
    #[error("")]
    Told(u8),
}

/// Runs the command that `args` name (the program's own name first), with the process's environment and streams.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(said) => {
            // Help and version are no mistakes; a closed pipe is nobody's.
            let _ = said.print();
            return ExitCode::from(if said.use_stderr() { 2 } else { 0 });
        }
    };
    let mut output = Output::stdout();
    let done = match cli.command {
        None => serve::run(cli.serve),
        Some(Command::Serve(serve)) => serve::run(serve),
        Some(Command::Check(check)) => check::run(&check, &mut output),
        Some(Command::Send(send)) => asynchronously(send::run(send, &mut output)),
        Some(Command::Events(events)) => asynchronously(listing::events(events, &mut output)),
        Some(Command::Deliveries(deliveries)) => asynchronously(listing::deliveries(deliveries, &mut output)),
        Some(Command::Subscriptions(them)) => asynchronously(listing::subscriptions(them, &mut output)),
        Some(Command::Tail(tail)) => asynchronously(tail::run(tail, &mut output)),
        Some(Command::Listen(listen)) => asynchronously(listen::run(listen)),
        Some(Command::Explain(explain)) => explain::run(&explain, &mut output),
    };
    ended(done)
}

/// The exit code of what happened, after saying it.
fn ended(done: Result<(), Failure>) -> ExitCode {
    let code = match &done {
        Ok(()) => return ExitCode::SUCCESS,
        // Whoever read it has seen enough: `posthaste events | head`.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(Failure::Told(code)) => return ExitCode::from(*code),
        Err(Failure::Usage(_)) => 2,
        Err(Failure::Failed(_) | Failure::Output(_)) => 1,
    };
    if let Err(failure) = done {
        output::complain(&format!("error: {failure}"));
    }
    ExitCode::from(code)
}

fn asynchronously(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("cannot start: {e}")))?;
    runtime.block_on(work)
}

/// The environment as the configuration takes it; what is not UTF-8 cannot be meant by any key.
fn environment() -> crate::config::Env {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

#[cfg(test)]
mod tests;
