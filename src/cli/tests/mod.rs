//! What can be typed, and with which code it ends.

mod docs;
mod talk;

use super::*;
use clap::CommandFactory as _;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("posthaste").chain(line.split_whitespace()))
}

#[test]
fn what_the_contract_names_can_be_typed() {
    for line in [
        "",
        "--config c.toml",
        "serve --config c.toml --log-format json",
        "check --config c.toml",
        "send a:b --properties {} --idempotency-key i --key k --tenant t --wait --url http://x --token y",
        "send a:b --telemetry",
        "events",
        "events --json",
        "events list --json --type a:b --since 2024-01-01T00:00:00Z --limit 5",
        "events show evt_1 --json",
        "deliveries --json",
        "deliveries list --state dead --subscription s --after c",
        "deliveries show d",
        "deliveries retry d e",
        "deliveries cancel d",
        "subscriptions --json",
        "subscriptions list",
        "subscriptions show s",
        "subscriptions pause s",
        "subscriptions resume s",
        "tail --json",
        "listen --addr 127.0.0.1:1 --status 418 --fail-first 2 --delay 300ms",
    ] {
        assert!(parsed(line).is_ok(), "{line}: {}", parsed(line).unwrap_err());
    }
}

#[test]
fn wrong_use_is_refused() {
    for line in [
        "fly",
        "serve --no-such-flag",
        "send",
        "listen --status abc",
        "listen --status 100",
        "listen --secret hello",
        "events --limit 0",
        "deliveries retry",
        "--config c.toml check",
    ] {
        assert!(parsed(line).is_err_and(|e| e.use_stderr()), "{line}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure_and_every_other_end_has_its_code() {
    let code = |failure| format!("{:?}", ended(Err(failure)));
    let is = |n: u8| format!("{:?}", ExitCode::from(n));
    assert_eq!(code(Failure::Output(std::io::ErrorKind::BrokenPipe.into())), is(0));
    assert_eq!(code(Failure::Output(std::io::ErrorKind::StorageFull.into())), is(1));
    assert_eq!(code(Failure::Failed(String::new())), is(1));
    assert_eq!(code(Failure::Usage(String::new())), is(2));
    assert_eq!(code(Failure::Told(2)), is(2));
}
