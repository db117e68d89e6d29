//! What a webhook may not be configured as: each is told with its line, its key and a hint, before anything is sent.

use crate::folder;
use anyhow::{Result, ensure};
use posthaste_tests::{Config, Daemon, Subscription};
use serde_json::json;

/// A wrong setting, and what is said of it.
struct Wrong {
    name: &'static str,
    given: fn(Subscription) -> Subscription,
    /// Each must stand in the line about it.
    says: &'static [&'static str],
}

const fn wrong(name: &'static str, given: fn(Subscription) -> Subscription, says: &'static [&'static str]) -> Wrong {
    Wrong { name, given, says }
}

const ROWS: &[Wrong] = &[
    wrong(
        "given a URL with user and password, when it is checked, then it is refused with a hint to authenticate otherwise",
        |hook| hook.set("url", "https://user:pass@hooks.example.com/"),
        &["url", "user"],
    ),
    wrong(
        "given a URL with a fragment, when it is checked, then it is refused",
        |hook| hook.set("url", "https://hooks.example.com/#part"),
        &["url", "fragment"],
    ),
    wrong(
        "given a URL of more than 2,048 bytes, when it is checked, then it is refused",
        |hook| hook.set("url", format!("https://hooks.example.com/{}", "x".repeat(2048))),
        &["url", "2048"],
    ),
    wrong(
        "given a URL that is neither http nor https, when it is checked, then it is refused",
        |hook| hook.set("url", "ftp://hooks.example.com/"),
        &["url", "http"],
    ),
    wrong(
        "given https_only, when the URL is http, then it is refused",
        |hook| hook.set("url", "http://hooks.example.com/").set("https_only", true),
        &["url", "https_only"],
    ),
    wrong(
        "given no open network, when the URL is a private address, then it is refused and its network is named",
        |hook| hook.set("url", "http://10.0.0.7/"),
        &["url", "10.0.0.7", "private", "allow_networks"],
    ),
    wrong(
        "given no open network, when the URL is the metadata service in octal, then it is refused all the same",
        |hook| hook.set("url", "http://0251.0376.0251.0376/latest"),
        &["url", "169.254.169.254"],
    ),
    wrong(
        "given no open network, when the URL is IPv6 that embeds loopback, then it is refused",
        |hook| hook.set("url", "http://[2002:7f00:1::]/"),
        &["url", "refused"],
    ),
    wrong(
        "given a header named webhook-id, when it is checked, then it is reserved",
        |hook| hook.set("headers", json!({ "Webhook-Id": "forged" })),
        &["headers", "reserved"],
    ),
    wrong(
        "given a header named webhook-signature, when it is checked, then it is reserved",
        |hook| hook.set("headers", json!({ "webhook-signature": "v1,forged" })),
        &["headers", "reserved"],
    ),
    wrong(
        "given a header named host, when it is checked, then it is reserved",
        |hook| hook.set("headers", json!({ "Host": "elsewhere.example.com" })),
        &["headers", "reserved"],
    ),
    wrong(
        "given hop-by-hop headers, when they are checked, then they are reserved",
        |hook| hook.set("headers", json!({ "connection": "close", "transfer-encoding": "chunked" })),
        &["headers", "reserved"],
    ),
    wrong(
        "given a header of ours such as posthaste-attempt, when it is checked, then it is reserved",
        |hook| hook.set("headers", json!({ "posthaste-attempt": "9" })),
        &["headers", "reserved"],
    ),
    wrong(
        "given a header value with a line end, when it is checked, then it is refused",
        |hook| hook.set("headers", json!({ "x-env": "a\r\nx-forged: b" })),
        &["headers", "x-env"],
    ),
    wrong(
        "given a header name with a colon, when it is checked, then it is refused",
        |hook| hook.set("headers", json!({ "x:env": "a" })),
        &["headers", "x:env"],
    ),
    wrong(
        "given the same header in two spellings, when they are checked, then it is refused",
        |hook| hook.set("headers", json!({ "x-env": "a", "X-Env": "b" })),
        &["headers", "twice"],
    ),
    wrong(
        "given a secret of less than 24 bytes, when it is checked, then it is refused and not shown",
        |hook| hook.set("secrets", json!(["whsec_c2hvcnQ="])),
        &["secrets", "24"],
    ),
    wrong(
        "given a secret that is no base64, when it is checked, then it is refused and not shown",
        |hook| hook.set("secrets", json!(["whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"])),
        &["secrets"],
    ),
    wrong(
        "given nine secrets, when they are checked, then that is too many",
        |hook| hook.set("secrets", json!(vec![posthaste_tests::config::SECRET; 9])),
        &["secrets", "8"],
    ),
    wrong(
        "given a timeout of nothing, when it is checked, then it is refused",
        |hook| hook.set("timeout", "0s"),
        &["timeout"],
    ),
    wrong(
        "given a status that is no failure in give_up_on, when it is checked, then it is refused",
        |hook| hook.set("give_up_on", json!([204])),
        &["give_up_on", "204"],
    ),
    wrong(
        "given a format that there is not, when it is checked, then it is refused with those that there are",
        |hook| hook.set("format", "xml"),
        &["format", "xml", "standard"],
    ),
    wrong(
        "given a key with a slip, when it is checked, then it is refused with the key that was meant",
        |hook| hook.set("timeuot", "5s"),
        &["timeuot", "timeout"],
    ),
    wrong(
        "given a concurrency of nothing, when it is checked, then it is refused",
        |hook| hook.set("concurrency", 0),
        &["concurrency"],
    ),
    wrong(
        "given a retry that shrinks its waits, when it is checked, then it is refused",
        |hook| hook.set("retry", json!({ "multiplier": 0.5 })),
        &["multiplier"],
    ),
    wrong(
        "given a rate limit that is none, when it is checked, then it is refused with how one is written",
        |hook| hook.set("rate_limit", "fast"),
        &["rate_limit", "fast"],
    ),
    wrong(
        "given an ordering that there is not, when it is checked, then it is refused",
        |hook| hook.set("ordering", "random"),
        &["ordering", "random"],
    ),
    wrong(
        "given an environment variable that is not set as secret, when it is checked, then its name is told",
        |hook| hook.set("secrets", json!(["env:NO_SUCH_SECRET"])),
        &["env:NO_SUCH_SECRET", "not set"],
    ),
];

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}

/// What `check` says of these, a line a problem.
fn check(subscriptions: impl Iterator<Item = Subscription>) -> Result<(bool, Vec<String>)> {
    let folder = folder()?;
    let closed = Config::default().set("network", "allow_networks", json!([]));
    let daemon = Daemon::new(folder.path(), subscriptions.fold(closed, Config::subscribe))?;
    let done = daemon.cli(&["check", "--config", "config.toml"])?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(matches!(done.status.code(), Some(0 | 2)), "{}: {said}", done.status);
    Ok((done.status.success(), said.lines().map(str::to_owned).collect()))
}

fn hook(name: &str) -> Subscription {
    Subscription::webhook(name, "https://hooks.example.com/").set("events", json!(["a:b"]))
}

#[test]
fn every_promise_of_what_is_refused_holds() -> Result<()> {
    let named = |at: usize| format!("wrong-{at:02}");
    let (good, lines) = check(ROWS.iter().enumerate().map(|(at, row)| (row.given)(hook(&named(at)))))?;
    ensure!(!good);
    let mut faults = Vec::new();
    for (at, row) in ROWS.iter().enumerate() {
        // What stands for a value is a problem of the file, before it is one of a subscription.
        let of_file = |line: &str| row.says.iter().any(|word| word.starts_with("env:") && line.contains(word));
        let about: Vec<&String> = lines.iter().filter(|line| line.contains(&named(at)) || of_file(line)).collect();
        let placed = about.iter().any(|line| {
            line.contains("config.toml:") && line.contains("; ") && row.says.iter().all(|word| line.contains(word))
        });
        if !placed {
            faults.push(format!("- {}: {about:?}", row.name));
        }
    }
    let shown = lines.iter().any(|line| line.contains("whsec_c2hvcnQ=") || line.contains("user:pass"));
    ensure!(faults.is_empty(), "{} rows do not hold:\n{}", faults.len(), faults.join("\n"));
    ensure!(!shown, "a secret was shown");
    Ok(())
}

#[test]
fn control_a_webhook_that_is_right_is_not_refused() -> Result<()> {
    let (good, lines) = check(std::iter::once(hook("right")))?;
    ensure!(good, "{lines:?}");
    Ok(())
}
