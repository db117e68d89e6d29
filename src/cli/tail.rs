//! `posthaste tail`: attempts as they happen, until it is stopped.

use super::client::Client;
use super::output::{Output, plain};
use super::{Daemon, Failure};
use clap::Args;
use serde_json::Value;

/// How attempts are shown.
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

pub(super) async fn run(tail: Tail, output: &mut Output) -> Result<(), Failure> {
    let client = Client::new(&tail.daemon)?;
    let mut lines = client.stream(&["v1", "tail"]).await?;
    while let Some(line) = lines.next().await? {
        // Whatever is no object keeps the connection alive, and tells nothing.
        let Ok(Value::Object(attempt)) = serde_json::from_str(&line) else { continue };
        let line = if tail.json { Value::Object(attempt).to_string() } else { human(&Value::Object(attempt)) };
        output.line(&line)?;
    }
    Err(Failure::Failed(format!("{} ended the stream", client.shown())))
}

/// An attempt as a person reads it.
fn human(attempt: &Value) -> String {
    let text = |key: &str| match attempt.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => plain(text),
        Some(other) => plain(&other.to_string()),
    };
    if attempt.get("missed").is_some() {
        return format!("… {} attempts were not shown: this reader is too slow", text("missed"));
    }
    let mut line = format!(
        "{}  {}  {}  {}  attempt {}  {} in {} ms",
        text("at"),
        text("subscription"),
        text("type"),
        text("event"),
        text("number"),
        text("state"),
        text("duration_ms")
    );
    for (word, key) in [("status ", "status"), ("", "error")] {
        let value = text(key);
        if !value.is_empty() {
            line.push_str("  ");
            line.push_str(word);
            line.push_str(&value);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_attempt_is_one_line_without_control_characters() {
        let line = human(&json!({
            "at": "2024-11-19T07:06:40.000Z", "subscription": "ops", "type": "a:b", "event": "evt_1", "number": 2,
            "state": "pending", "duration_ms": 12, "status": 500, "error": "status 500\n\u{1b}[2J",
        }));
        assert_eq!(
            line,
            "2024-11-19T07:06:40.000Z  ops  a:b  evt_1  attempt 2  pending in 12 ms  status 500  status 500\\n\\u{1b}[2J"
        );
    }
}
