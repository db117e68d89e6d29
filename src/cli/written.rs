//! What `posthaste subscriptions` changes: making, changing and removing them, new secrets, replays.

use super::client::Client;
use super::listing::Asking;
use super::output::{Output, plain};
use super::render::thing;
use super::send::text_of;
use super::{Failure, output};
use clap::Args;
use hyper::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How soon it is looked again whether a replay has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// `create` and `update`.
#[derive(Debug, Args)]
pub(super) struct Write {
    /// The subscription's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// A file with its settings as a JSON object; - is standard input. Of `update` those to be changed.
    #[arg(long, value_name = "F")]
    file: String,
}

/// `delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// Which, one or more.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// `rotate-secret`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The subscription's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// A file with the new secret; - is standard input. One is made where nothing is said.
    #[arg(long, value_name = "F")]
    secret_file: Option<String>,
    /// How long those before it count: 0s to 7d; 24h where nothing is said.
    #[arg(long, value_name = "D")]
    grace: Option<String>,
}

/// `replay`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The subscription's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Events recorded at or after this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Events recorded before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Whose delivery is in this state only: delivered, dead, cancelled.
    #[arg(long)]
    state: Option<String>,
    /// Of these types only, such as "project:**".
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Wait until it has ended; 1 where it was cancelled.
    #[arg(long)]
    wait: bool,
}

pub(super) async fn create(write: &Write, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let mut settings = settings(&write.file)?;
    let named = settings.insert("name".to_owned(), write.name.as_str().into());
    if named.is_some_and(|named| named != write.name.as_str()) {
        return Err(Failure::Usage(format!("--file: it has another name than {}", plain(&write.name))));
    }
    let body = Value::from(settings).to_string().into_bytes();
    let made = Client::new(&asking.daemon)?.send_as(Method::POST, &["v1", "subscriptions"], body).await?;
    told(&made, asking, output)
}

pub(super) async fn update(write: &Write, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let body = Value::from(settings(&write.file)?).to_string().into_bytes();
    let path = ["v1", "subscriptions", &write.name];
    let changed = Client::new(&asking.daemon)?.send_as(Method::PATCH, &path, body).await?;
    told(&changed, asking, output)
}

/// Removes each; goes on behind one that is refused, and fails in the end.
pub(super) async fn delete(them: &Delete, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let client = Client::new(&asking.daemon)?;
    let mut is_refused = false;
    for name in &them.names {
        match client.send_as(Method::DELETE, &["v1", "subscriptions", name], Vec::new()).await {
            Ok(_) if asking.json => output.line(&json!({ "name": name, "state": "deleted" }).to_string())?,
            Ok(_) => output.line(&format!("{}  deleted", plain(name)))?,
            Err(Failure::Failed(why)) => {
                output::complain(&format!("error: {}: {why}", plain(name)));
                is_refused = true;
            }
            Err(other) => return Err(other),
        }
    }
    if is_refused { Err(Failure::Told(1)) } else { Ok(()) }
}

pub(super) async fn rotate(rotate: &Rotate, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let mut body = Map::new();
    if let Some(from) = &rotate.secret_file {
        body.insert("secret".to_owned(), text_of("--secret-file", from)?.trim().into());
    }
    if let Some(grace) = &rotate.grace {
        body.insert("grace".to_owned(), grace.as_str().into());
    }
    let path = ["v1", "subscriptions", &rotate.name, "rotate-secret"];
    let body = Value::from(body).to_string().into_bytes();
    let changed = Client::new(&asking.daemon)?.send_as(Method::POST, &path, body).await?;
    told(&changed, asking, output)
}

pub(super) async fn replay(replay: &Replay, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    let fields =
        [("since", &replay.since), ("until", &replay.until), ("state", &replay.state), ("type", &replay.event_type)];
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.as_deref()?.into())));
    let body = Value::Object(given.collect()).to_string().into_bytes();
    let client = Client::new(&asking.daemon)?;
    let path = ["v1", "subscriptions", &replay.name, "replay"];
    let mut at = client.send_as(Method::POST, &path, body).await?;
    let id = at.get("id").and_then(Value::as_str).ok_or_else(|| client.strange("a replay without id"))?.to_owned();
    while replay.wait && at.get("state").and_then(Value::as_str) == Some("running") {
        tokio::time::sleep(LOOK_AGAIN).await;
        at = client.get(&["v1", "replays", &id], &[]).await?;
    }
    told(&at, asking, output)?;
    match at.get("state").and_then(Value::as_str) {
        Some("cancelled") => Err(Failure::Failed("the replay was cancelled".to_owned())),
        _ => Ok(()),
    }
}

/// The settings in a file.
fn settings(from: &str) -> Result<Map<String, Value>, Failure> {
    let text = text_of("--file", from)?;
    let wrong = |e| Failure::Usage(format!("--file: this is not a JSON object: {e}"));
    serde_json::from_str(&text).map_err(wrong)
}

fn told(value: &Value, asking: &Asking, output: &mut Output) -> Result<(), Failure> {
    if asking.json {
        output.line(&value.to_string())?;
    } else {
        thing(value).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(())
}
