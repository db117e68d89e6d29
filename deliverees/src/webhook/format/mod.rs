//! How a webhook's body is written.
//!
//! Pure: what is written depends on the event, the delivery's id and the subscription's name alone, so that every attempt
//! brings the same. What is signed is decided elsewhere, over the bytes that come out here.

mod chat;
mod cloudevents;
mod digest;
mod orchest;

use crate::http::USER_AGENT;
use crate::options::Problem;
use bytes::Bytes;
use posthaste_events::{DeliveryId, Facts};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The type of a body that is plain JSON.
const JSON: &str = "application/json";

/// What is written of: an event that is owed to a subscription.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    /// The delivery's id, which has the event's.
    pub(super) id: DeliveryId,
    /// What is known of the event.
    pub(super) facts: &'a Facts,
    /// The notification: `{"type","timestamp","data"}`.
    pub(super) body: &'a Bytes,
    /// The subscription's name.
    pub(super) subscription: &'a str,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) content_type: &'static str,
    pub(super) user_agent: &'static str,
    /// Beside those that every webhook has; ASCII without control characters.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Message {
    fn of(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { content_type, user_agent: USER_AGENT, headers: Vec::new(), body: body.into() }
    }
}

/// How a body is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// `{"type","timestamp","data"}`, exactly the bytes that are kept.
    Standard,
    /// A CloudEvent.
    CloudEvents {
        /// Its attributes are headers, its body is the data alone.
        binary: bool,
        /// Its `source`.
        source: String,
    },
    /// The envelope of Orchest.
    Orchest {
        /// Two fields of a form instead of JSON.
        form: bool,
        /// What it says of certificates.
        verify_ssl: bool,
    },
    /// A message in a channel of Slack.
    Slack,
    /// A card in a channel of Microsoft Teams.
    Teams,
    /// A message in a channel of Discord.
    Discord,
}

/// `format` and what belongs to some formats only, as they are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) format: Option<&'a str>,
    pub(super) mode: Option<&'a str>,
    pub(super) source: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    /// Whether certificates are verified, which the envelope of Orchest tells.
    pub(super) verify_ssl: bool,
}

/// The `source` of CloudEvents where nothing is said.
const SOURCE: &str = "/posthaste";
/// How long a `source` may be, in bytes.
const SOURCE_MAX: usize = 256;

impl Format {
    /// Reads it; `None` where the format itself is unknown.
    pub(super) fn read(written: Written<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let mut wrong = |key: &str, what: String, hint: &str| problems.push(Problem::new(key, what, hint));
        let format = written.format.unwrap_or("standard");
        let belongs = [
            ("mode", written.mode, "cloudevents"),
            ("source", written.source, "cloudevents"),
            ("content_type", written.content_type, "orchest"),
        ];
        for (key, _, only) in belongs.iter().filter(|(_, value, only)| value.is_some() && *only != format) {
            wrong(
                key,
                format!("{key} is there, yet format is {format:?}"),
                &format!("it belongs to format = {only:?}"),
            );
        }
        Some(match format {
            "standard" => Self::Standard,
            "cloudevents" => {
                let source = written.source.unwrap_or(SOURCE);
                // RFC 3986 has these characters only; that it is a reference beyond that is not looked at.
                let good = |b: u8| b.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&b);
                if source.is_empty() || source.len() > SOURCE_MAX || !source.bytes().all(good) {
                    let what = format!("source = {source:?} is no reference to a URI");
                    wrong("source", what, "write 1 to 256 bytes such as \"https://shop.example.com/events\"");
                }
                let binary = match written.mode {
                    None | Some("structured") => false,
                    Some("binary") => true,
                    Some(other) => {
                        wrong("mode", format!("mode = {other:?} is unknown"), "there are structured and binary");
                        false
                    }
                };
                Self::CloudEvents { binary, source: source.to_owned() }
            }
            "orchest" => {
                let form = match written.content_type {
                    None | Some("json") => false,
                    Some("form") => true,
                    Some(other) => {
                        wrong(
                            "content_type",
                            format!("content_type = {other:?} is unknown"),
                            "there are json and form",
                        );
                        false
                    }
                };
                Self::Orchest { form, verify_ssl: written.verify_ssl }
            }
            other => {
                if let Some(chat) = Self::named_chat(other) {
                    return Some(chat);
                }
                let hint = "there are standard, cloudevents, orchest, slack, teams and discord";
                wrong("format", format!("format = {other:?} is unknown"), hint);
                return None;
            }
        })
    }

    /// The format of that name, where it goes to people in a chat.
    pub(super) fn named_chat(name: &str) -> Option<Self> {
        match name {
            "slack" => Some(Self::Slack),
            "teams" => Some(Self::Teams),
            "discord" => Some(Self::Discord),
            _ => None,
        }
    }

    /// Whether it goes to people in a chat, where nobody looks at signatures.
    pub(super) const fn is_chat(&self) -> bool {
        matches!(self, Self::Slack | Self::Teams | Self::Discord)
    }

    /// The settings as they would be written.
    pub(super) fn show(&self, shown: &mut Map<String, Value>) {
        let name = match self {
            Self::Standard => "standard",
            Self::CloudEvents { binary, source } => {
                shown.insert("mode".into(), if *binary { "binary" } else { "structured" }.into());
                shown.insert("source".into(), source.as_str().into());
                "cloudevents"
            }
            Self::Orchest { form, .. } => {
                shown.insert("content_type".into(), if *form { "form" } else { "json" }.into());
                "orchest"
            }
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Discord => "discord",
        };
        shown.insert("format".into(), name.into());
    }

    /// Writes the message.
    ///
    /// # Errors
    /// What is wrong with the notification, which is of our own making and should be right.
    pub(super) fn write(&self, event: &Event<'_>) -> Result<Message, serde_json::Error> {
        match self {
            Self::Standard => Ok(Message::of(JSON, event.body.clone())),
            Self::CloudEvents { binary, source } => cloudevents::write(event, source, *binary),
            Self::Orchest { form, verify_ssl } => orchest::write(event, *form, *verify_ssl),
            Self::Slack => chat::slack(event),
            Self::Teams => chat::teams(event),
            Self::Discord => chat::discord(event),
        }
    }
}

/// The `data` of a notification, as the bytes that it has there: numbers keep their digits.
fn data(body: &[u8]) -> Result<&RawValue, serde_json::Error> {
    #[derive(Deserialize)]
    struct Body<'b> {
        #[serde(borrow)]
        data: &'b RawValue,
    }
    Ok(serde_json::from_slice::<Body<'_>>(body)?.data)
}

#[cfg(test)]
mod tests;
