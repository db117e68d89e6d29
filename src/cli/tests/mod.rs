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
        "send a:b --telemetry --properties {} --derived-properties {} --idempotency-key i --wait",
        "subscriptions test s",
        "subscriptions test s --type a:b --json",
        "explain",
        "explain a:b --config c.toml --format markdown",
        "explain --json",
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
        "subscriptions create s --file -",
        "subscriptions update s --file f.json --json",
        "subscriptions delete s t",
        "subscriptions rotate-secret s",
        "subscriptions rotate-secret s --secret-file - --grace 1h --json",
        "subscriptions replay s",
        "subscriptions replay s --since T --until T --state dead --type a:** --wait --json",
        "deliveries --url http://x --token y --json list --state dead",
        "deliveries --url http://x retry d",
        "events --url http://x show e",
        "subscriptions --token y pause s --url http://x",
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
        "send a:b --telemetry --tenant t",
        "send a:b --derived-properties {}",
        "explain --format html",
        "explain --json --format text",
        "serve --no-such-flag",
        "send",
        "listen --status abc",
        "listen --status 100",
        "events --limit 0",
        "deliveries retry",
        "subscriptions create s",
        "subscriptions delete",
        "subscriptions replay",
        "--config c.toml check",
    ] {
        assert!(parsed(line).is_err_and(|e| e.use_stderr()), "{line}");
    }
}

#[test]
fn a_complaint_names_as_required_what_is_and_the_environment_stands_behind_the_option() {
    for (line, required) in [("send", "posthaste send <TYPE>\n"), ("events show", "posthaste events show <ID>\n")] {
        assert!(parsed(line).unwrap_err().to_string().contains(required), "{}", parsed(line).unwrap_err());
    }
    // clap would name these as required in every complaint, once the environment has them.
    fn from_environment(command: &clap::Command) -> bool {
        command.get_arguments().any(|a| a.get_env().is_some()) || command.get_subcommands().any(from_environment)
    }
    assert!(!from_environment(&Cli::command()));
    let daemon = |line| match parsed(line).unwrap().command {
        Some(Command::Tail(tail)) => tail.daemon,
        other => panic!("{other:?}"),
    };
    let env = [("POSTHASTE_URL", "http://env"), ("POSTHASTE_TOKEN", "env")];
    let env = env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let (given, silent) = (daemon("tail --url http://x --token y"), daemon("tail"));
    assert_eq!((given.url(&env).as_str(), given.token(&env).as_deref()), ("http://x", Some("y")));
    assert_eq!((silent.url(&env).as_str(), silent.token(&env).as_deref()), ("http://env", Some("env")));
    let none = crate::config::Env::new();
    assert_eq!((silent.url(&none).as_str(), silent.token(&none)), ("http://127.0.0.1:8321", None));
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
