//! Writes an event for a channel of Slack, Microsoft Teams or Discord, each as its incoming webhooks take it.
//!
//! Nothing in an event can call people together, pose as markup or unfold a link.

use super::digest::Digest;
use super::{Event, JSON, Message};
use serde_json::{Value, json};

/// How long a text for Slack is, in characters, escaped: 4,000 are advised, 40,000 allowed
/// (<https://docs.slack.dev/reference/methods/chat.postMessage>).
const SLACK_MAX: usize = 3_500;
/// How long a card is, in bytes: Teams takes 28 KB
/// (<https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>).
const TEAMS_MAX: usize = 24 * 1024;
/// How long a message to Discord may be (<https://discord.com/developers/docs/resources/webhook#execute-webhook>), in UTF-16
/// units, of which a character has one or two: so it is short enough however they count.
const DISCORD_MAX: usize = 2_000;
/// Discord's message flag that keeps links folded.
const SUPPRESS_EMBEDS: u32 = 1 << 2;

pub(super) fn slack(event: &Event<'_>) -> Result<Message, serde_json::Error> {
    let text = Digest::of(event)?.fitted(SLACK_MAX, |digest| {
        let text = lines(digest, slack_escaped, |event_type| event_type);
        let size = text.chars().count();
        (text, size)
    });
    // Without markup, so that what only looks like it stays as it is.
    let body = json!({ "text": text, "mrkdwn": false, "unfurl_links": false, "unfurl_media": false });
    written(&body)
}

pub(super) fn discord(event: &Event<'_>) -> Result<Message, serde_json::Error> {
    let content = Digest::of(event)?.fitted(DISCORD_MAX, |digest| {
        let text = lines(digest, discord_escaped, |event_type| format!("**{event_type}**"));
        let size = text.encode_utf16().count();
        (text, size)
    });
    let body = json!({ "content": content, "allowed_mentions": { "parse": [] }, "flags": SUPPRESS_EMBEDS });
    written(&body)
}

/// An adaptive card in the message that the trigger "When a Teams webhook request is received" of Workflows takes, as the
/// incoming webhooks before it did. Rich text blocks read no markup.
pub(super) fn teams(event: &Event<'_>) -> Result<Message, serde_json::Error> {
    let card = Digest::of(event)?.fitted(TEAMS_MAX, |digest| {
        let card = card(digest);
        let size = card.to_string().len();
        (card, size)
    });
    let attachment =
        json!({ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card });
    written(&json!({ "type": "message", "attachments": [attachment] }))
}

fn written(body: &Value) -> Result<Message, serde_json::Error> {
    Ok(Message::of(JSON, serde_json::to_vec(body)?))
}

/// A line for each thing that is told.
fn lines(digest: &Digest, escaped: fn(&str) -> String, title: impl Fn(String) -> String) -> String {
    let mut lines = vec![title(escaped(&digest.event_type)), escaped(&digest.about)];
    lines.extend(digest.facts.iter().map(|(path, value)| format!("{}: {}", escaped(path), escaped(value))));
    lines.extend(digest.rest());
    lines.push(escaped(&digest.id));
    lines.join("\n")
}

/// Slack has three characters of its own; receivers that take the same messages know words
/// behind an @ that call people, in whatever case: a space of no width stands between.
fn slack_escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('@', "@\u{200b}")
}

/// A backslash before whatever Discord reads as markup or as a mention; some of it only where a line begins.
fn discord_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (i, c) in text.char_indices() {
        if matches!(c, '\\' | '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '(' | ')' | '@')
            || (i == 0 && matches!(c, '#' | '-' | '+'))
        {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn card(digest: &Digest) -> Value {
    let run = |text: &str| json!({ "type": "TextRun", "text": text });
    let block = |runs: Vec<Value>| json!({ "type": "RichTextBlock", "inlines": runs });
    let styled = |text: &str, key: &str, value: Value| {
        let mut run = run(text);
        run[key] = value;
        run
    };
    let bold = |text: &str| styled(text, "weight", "Bolder".into());
    let subtle = |text: &str| styled(text, "isSubtle", true.into());
    let mut body = vec![block(vec![bold(&digest.event_type)]), block(vec![subtle(&digest.about)])];
    body.extend(digest.facts.iter().map(|(path, value)| block(vec![bold(&format!("{path}: ")), run(value)])));
    body.extend(digest.rest().map(|rest| block(vec![run(&rest)])));
    body.push(block(vec![subtle(&digest.id)]));
    json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    })
}
