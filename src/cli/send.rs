//! `posthaste send`: records an event with a running daemon, and follows it where asked.

use super::client::Client;
use super::output::{self, Output, plain};
use super::{Daemon, Failure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

/// How many bytes of properties are read; a daemon takes far less.
const PROPERTIES_MAX: u64 = 64 * 1024 * 1024;
/// How long `--wait` waits between two looks: from the first to the last, doubling.
const LOOKS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// What to record.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// The event's type, such as project:created.
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// A JSON object, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON|@FILE|-")]
    properties: Option<String>,
    /// The same key again records nothing and answers the first event.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The entity that the event is about.
    #[arg(long)]
    key: Option<String>,
    /// Whose event it is.
    #[arg(long)]
    tenant: Option<String>,
    /// By the relay's way: the properties are anonymized already, and go to analytics alone.
    #[arg(long, conflicts_with_all = ["key", "tenant"])]
    telemetry: bool,
    /// With --telemetry, what was derived: a JSON object, @FILE, or -.
    #[arg(long, value_name = "JSON|@FILE|-", requires = "telemetry")]
    derived_properties: Option<String>,
    /// Wait until every delivery is settled; fails if one is dead.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
}

pub(super) async fn run(send: Send, output: &mut Output) -> Result<(), Failure> {
    if send.telemetry {
        return relay(&send, output).await;
    }
    let properties = given("--properties", send.properties.as_deref())?;
    let body = Body {
        event_type: &send.event_type,
        // Raw: the daemon gets the numbers as they were written.
        properties: properties.as_deref(),
        idempotency_key: send.idempotency_key.as_deref(),
        key: send.key.as_deref(),
        tenant: send.tenant.as_deref(),
    };
    let body = serde_json::to_vec(&body).map_err(|e| Failure::Usage(e.to_string()))?;
    let client = Client::new(&send.daemon)?;
    let answer = client.post(&["v1", "events"], body).await?;
    let id = answer.get("id").and_then(Value::as_str).ok_or_else(|| client.strange("an answer without id"))?;
    output.line(&plain(id))?;
    if send.wait { follow(&client, id, output).await } else { Ok(()) }
}

/// What the relay takes.
#[derive(Serialize)]
struct Relayed<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    derived_properties: Option<&'a RawValue>,
}

/// Sends what is anonymized already. What the type's telemetry schema does not know is dropped there, and named.
async fn relay(send: &Send, output: &mut Output) -> Result<(), Failure> {
    if send.properties.as_deref() == Some("-") && send.derived_properties.as_deref() == Some("-") {
        return Err(Failure::Usage("standard input is one text: give --derived-properties otherwise".to_owned()));
    }
    let properties = given("--properties", send.properties.as_deref())?;
    let derived = given("--derived-properties", send.derived_properties.as_deref())?;
    let body =
        Relayed { event: &send.event_type, properties: properties.as_deref(), derived_properties: derived.as_deref() };
    let body = serde_json::to_vec(&body).map_err(|e| Failure::Usage(e.to_string()))?;
    let client = Client::new(&send.daemon)?;
    let answer = client.post_once(&["analytics"], body, send.idempotency_key.as_deref()).await?;
    if answer.is_null() {
        output::complain("telemetry is switched off: nothing was recorded");
        return Ok(());
    }
    let id = answer.get("id").and_then(Value::as_str).ok_or_else(|| client.strange("an answer without id"))?;
    output.line(&plain(id))?;
    let dropped = answer.get("dropped").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for pointer in dropped.iter().filter_map(Value::as_str) {
        output::complain(&format!("dropped: {}", plain(pointer)));
    }
    if send.wait { follow(&client, id, output).await } else { Ok(()) }
}

/// The JSON text that an option names.
fn given(option: &str, from: Option<&str>) -> Result<Option<Box<RawValue>>, Failure> {
    from.map(|from| properties(option, from, std::io::stdin())).transpose()
}

fn properties(option: &str, from: &str, stdin: impl Read) -> Result<Box<RawValue>, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{option}: {why}"));
    let text = match from.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|e| wrong(format!("{} cannot be read: {e}", plain(path))))?;
            read(file)
        }
        None if from == "-" => read(stdin),
        None => Ok(from.to_owned()),
    };
    let text = text.map_err(|e| wrong(e.to_string()))?;
    serde_json::from_str(&text)
        .map_err(|e| wrong(format!("this is not JSON: {e}; write an object such as '{{\"name\":\"x\"}}'")))
}

/// The text of a file, or of standard input where it is `-`.
pub(super) fn text_of(option: &str, from: &str) -> Result<String, Failure> {
    let text = match from {
        "-" => read(std::io::stdin()),
        path => std::fs::File::open(path).and_then(read),
    };
    text.map_err(|e| Failure::Usage(format!("{option}: {} cannot be read: {e}", plain(from))))
}

fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(PROPERTIES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > PROPERTIES_MAX {
        return Err(std::io::Error::other(format!("longer than {PROPERTIES_MAX} bytes")));
    }
    Ok(text)
}

/// Tells of each delivery as it is settled, until all are.
async fn follow(client: &Client, id: &str, output: &mut Output) -> Result<(), Failure> {
    let (mut told, mut held) = (BTreeSet::new(), BTreeSet::new());
    let mut dead = false;
    let [mut pause, pause_max] = LOOKS;
    loop {
        let event = client.get(&["v1", "events", id], &[]).await?;
        let deliveries = event.get("deliveries").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut waiting = 0;
        for delivery in deliveries {
            let text = |key| plain(delivery.get(key).and_then(Value::as_str).unwrap_or_default());
            let (name, state) = (text("subscription"), text("state"));
            match state.as_str() {
                "delivered" | "dead" | "cancelled" => {
                    dead |= state == "dead";
                    if told.insert(name.clone()) {
                        let reason = text("reason");
                        let why = if reason.is_empty() { reason } else { format!(": {reason}") };
                        output.line(&format!("{name}  {state}{why}"))?;
                    }
                }
                "held" => {
                    waiting += 1;
                    if held.insert(name.clone()) {
                        output::complain(&format!("{name}  held: the subscription takes nothing; still waiting"));
                    }
                }
                _ => waiting += 1,
            }
        }
        if waiting == 0 {
            return if dead { Err(Failure::Failed("a delivery is dead".to_owned())) } else { Ok(()) };
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(pause_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_from_the_argument_a_file_and_standard_input() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.json");
        std::fs::write(&file, "{\"n\":1.50}\n").unwrap();
        let from =
            |from: &str| properties("--properties", from, &b"{\"from\":\"stdin\"}"[..]).map(|p| p.get().to_owned());
        assert_eq!(from("{\"n\": 1e400}").unwrap(), "{\"n\": 1e400}");
        assert_eq!(from(&format!("@{}", file.display())).unwrap(), "{\"n\":1.50}");
        assert_eq!(from("-").unwrap(), "{\"from\":\"stdin\"}");
        for wrong in ["{", "", "{} x", "@no/such/file"] {
            assert!(matches!(from(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
