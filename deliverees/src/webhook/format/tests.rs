//! What each format writes of one event, byte for byte where it matters, and of events that are hard to write.

use super::*;
use posthaste_events::{EventId, EventType, Origin, SubscriptionId, Timestamp};
use proptest::prelude::{any, proptest};
use serde_json::json;

fn facts(key: Option<&str>, tenant: Option<&str>) -> Facts {
    Facts {
        event_type: EventType::parse("project:created").unwrap(),
        key: key.map(Into::into),
        tenant: tenant.map(Into::into),
        origin: Origin::Record,
        occurred_at: Some(Timestamp::parse("2024-05-01T02:03:04.5Z").unwrap()),
        recorded_at: Timestamp::from_millis(0),
    }
}

fn formats() -> Vec<Format> {
    let source = SOURCE.to_owned();
    vec![
        Format::Standard,
        Format::CloudEvents { binary: false, source: source.clone() },
        Format::CloudEvents { binary: true, source },
        Format::Orchest { form: false, verify_ssl: true },
        Format::Orchest { form: true, verify_ssl: true },
        Format::Slack,
        Format::Teams,
        Format::Discord,
    ]
}

fn write(format: &Format, facts: &Facts, data: &str) -> Message {
    let body = format!(r#"{{"type":"project:created","timestamp":"2024-05-01T02:03:04.500Z","data":{data}}}"#).into();
    let id = DeliveryId { event: EventId::new(1_714_528_984_500, 10, 7), subscription: SubscriptionId(3) };
    let event = Event { id, facts, body: &body, subscription: "ops" };
    let message = format.write(&event).unwrap();
    // Whatever it is, another attempt brings the same, and every header can be sent.
    assert_eq!(format.write(&event).unwrap(), message);
    for (name, value) in &message.headers {
        assert!(value.bytes().all(|b| b.is_ascii_graphic()), "{name}: {value:?}");
    }
    message
}

fn text(message: &Message) -> &str {
    std::str::from_utf8(&message.body).unwrap()
}

fn json_of(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap()
}

const DATA: &str = r#"{"project":{"uuid":"P","name":"Churn"},"n":12345678901234567890.10}"#;

#[test]
fn the_standard_body_is_the_bytes_that_are_kept() {
    let message = write(&Format::Standard, &facts(None, None), DATA);
    assert!(text(&message).ends_with(&format!("\"data\":{DATA}}}")) && message.headers.is_empty());
    assert_eq!((message.content_type, message.user_agent), ("application/json", USER_AGENT));
}

#[test]
fn a_structured_cloudevent_has_its_attributes_and_the_data_digit_for_digit() {
    let format = Format::CloudEvents { binary: false, source: "/posthaste".into() };
    let message = write(&format, &facts(Some("P"), Some("acme")), DATA);
    let id = json_of(&message)["id"].as_str().unwrap().to_owned();
    let wanted = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/posthaste\",\"type\":\"project:created\",\
         \"time\":\"2024-05-01T02:03:04.500Z\",\"subject\":\"P\",\"datacontenttype\":\"application/json\",\
         \"sequence\":\"000000000000010\",\"tenant\":\"acme\",\"data\":{DATA}}}"
    );
    assert_eq!(text(&message), wanted);
    assert!(id.starts_with("evt_") && message.content_type == "application/cloudevents+json");
}

#[test]
fn a_binary_cloudevent_has_its_attributes_in_headers_and_the_data_alone_as_its_body() {
    let format = Format::CloudEvents { binary: true, source: "https://shop.example.com/a".into() };
    let message = write(&format, &facts(Some("Käse 50%"), None), DATA);
    assert_eq!((text(&message), message.content_type), (DATA, "application/json"));
    let headers: Vec<String> = message.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert!(headers[1].starts_with("ce-id: evt_"), "{headers:?}");
    assert_eq!(headers[0], "ce-specversion: 1.0");
    let rest = [
        "ce-source: https://shop.example.com/a",
        "ce-type: project:created",
        "ce-time: 2024-05-01T02:03:04.500Z",
        "ce-subject: K%C3%A4se%2050%25",
        "ce-sequence: 000000000000010",
    ];
    assert_eq!(headers[2..], rest);
}

#[test]
fn an_envelope_says_for_whom_it_is_and_what_happened() {
    let message = write(&Format::Orchest { form: false, verify_ssl: true }, &facts(None, None), DATA);
    let body = json_of(&message);
    let delivered_for = &body["delivered_for"];
    let keys: Vec<&String> = delivered_for.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["content_type", "name", "type", "uuid", "verify_ssl"]);
    assert_eq!((&delivered_for["name"], &delivered_for["type"]), (&json!("ops"), &json!("webhook")));
    assert_eq!(body["event"]["timestamp"], "2024-05-01 02:03:04.500000+00:00");
    assert_eq!(body["event"]["project"], json!({ "uuid": "P", "name": "Churn" }));
    assert!(text(&message).contains("\"n\":12345678901234567890.10"), "{}", text(&message));
    let headers: Vec<&str> = message.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!((headers.as_slice(), message.user_agent), (&["x-orchest-event", "x-orchest-delivery"][..], "Orchest"));
}

#[test]
fn an_envelope_says_whether_certificates_are_verified() {
    for verify_ssl in [true, false] {
        let message = write(&Format::Orchest { form: false, verify_ssl }, &facts(None, None), "{}");
        assert_eq!(json_of(&message)["delivered_for"]["verify_ssl"], verify_ssl);
    }
}

#[test]
fn the_names_of_an_envelope_are_its_own() {
    let data = r#"{"uuid":"mine","type":"mine","timestamp":"mine","x":1}"#;
    let event = &json_of(&write(&Format::Orchest { form: false, verify_ssl: true }, &facts(None, None), data))["event"];
    assert!(!event.to_string().contains("mine") && event["x"] == 1 && event["type"] == "project:created", "{event}");
}

#[test]
fn a_form_has_the_same_envelope_in_two_fields() {
    let message =
        write(&Format::Orchest { form: true, verify_ssl: true }, &facts(None, None), r#"{"t":"a&b=c+d %é\n"}"#);
    assert_eq!(message.content_type, "application/x-www-form-urlencoded");
    let fields: Vec<(String, Value)> = url::form_urlencoded::parse(&message.body)
        .map(|(name, value)| (name.into_owned(), serde_json::from_str(&value).unwrap()))
        .collect();
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["delivered_for", "event"]);
    assert_eq!(fields[0].1["content_type"], "application/x-www-form-urlencoded");
    assert_eq!(fields[1].1["t"], "a&b=c+d %é\n");
}

#[test]
fn a_message_to_slack_is_short_plain_and_calls_nobody() {
    let data = r#"{"name":"<!channel> & <@U1> *bold*","note":"@Here\nand @EVERYONE"}"#;
    let body = json_of(&write(&Format::Slack, &facts(Some("P"), Some("acme")), data));
    let said = body["text"].as_str().unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["project:created", "2024-05-01 02:03:04 UTC · key P · tenant acme"]);
    assert_eq!(lines[2], "name: &lt;!channel&gt; &amp; &lt;@\u{200b}U1&gt; *bold*");
    assert_eq!(lines[3], "note: @\u{200b}Here and @\u{200b}EVERYONE");
    assert!(lines[4].starts_with("evt_") && lines.len() == 5, "{said}");
    assert_eq!((&body["mrkdwn"], &body["unfurl_links"]), (&json!(false), &json!(false)));
}

#[test]
fn a_message_to_discord_pings_nobody_and_shows_markup_as_it_is() {
    let data = r##"{"#name":"**x** `y` [z](https://e.example) <@1> ||s||","-":"-1"}"##;
    let body = json_of(&write(&Format::Discord, &facts(None, None), data));
    let said = body["content"].as_str().unwrap();
    assert!(said.starts_with("**project:created**\n"), "{said}");
    assert!(
        said.contains("\n\\#name: \\*\\*x\\*\\* \\`y\\` \\[z\\]\\(https://e.example\\) \\<\\@1\\> \\|\\|s\\|\\|\n"),
        "{said}"
    );
    assert!(said.contains("\n\\-: \\-1\n"), "{said}");
    assert_eq!((&body["allowed_mentions"], &body["flags"]), (&json!({ "parse": [] }), &json!(4)));
}

#[test]
fn a_card_for_teams_has_text_runs_only() {
    let body = json_of(&write(&Format::Teams, &facts(None, None), r#"{"name":"**x** [y](z)"}"#));
    let attachment = &body["attachments"][0];
    assert_eq!(
        (&body["type"], &attachment["contentType"]),
        (&json!("message"), &json!("application/vnd.microsoft.card.adaptive"))
    );
    let card = &attachment["content"];
    assert_eq!((&card["type"], &card["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
    let blocks = card["body"].as_array().unwrap();
    assert!(blocks.iter().all(|block| block["type"] == "RichTextBlock"), "{card}");
    assert_eq!(blocks[2]["inlines"][1]["text"], "**x** [y](z)");
}

/// Of the chats: how long what they show is, and how long it may be.
fn length(format: &Format, message: &Message) -> Option<(usize, usize)> {
    let body = || json_of(message);
    match format {
        Format::Slack => Some((body()["text"].as_str().unwrap().chars().count(), 4_000)),
        Format::Discord => Some((body()["content"].as_str().unwrap().encode_utf16().count(), 2_000)),
        Format::Teams => Some((message.body.len(), 28_000)),
        _ => None,
    }
}

#[test]
fn a_long_event_is_told_within_the_bounds_of_each_chat_and_says_what_is_left_out() {
    let many: Map<String, Value> = (0..500).map(|i| (format!("*field*{i:03}"), "👋🏽_&".repeat(2_000).into())).collect();
    let data = Value::Object(many).to_string();
    let key = "*&👋".repeat(80);
    for format in formats().iter().filter(|format| format.is_chat()) {
        let message = write(format, &facts(Some(&key), Some(&key)), &data);
        let (length, max) = length(format, &message).unwrap();
        assert!(length <= max && length > max / 3, "{format:?}: {length}");
        let body = json_of(&message).to_string();
        assert!(body.contains("field") && body.contains("… and 4") && body.contains("evt"), "{body}");
    }
}

#[test]
fn what_is_no_text_to_cloudevents_is_left_out() {
    let format = Format::CloudEvents { binary: false, source: SOURCE.into() };
    let body = json_of(&write(&format, &facts(Some("a\u{0}b"), Some("a\nb")), "{}"));
    assert!(body.get("subject").is_none() && body.get("tenant").is_none() && body["data"] == json!({}), "{body}");
}

proptest! {
    #[test]
    fn whatever_an_event_says_every_format_can_be_read_back(text in any::<String>(), name in any::<String>(), key in "\\PC{1,64}") {
        let data = Value::Object(Map::from_iter([(name, Value::from(text))])).to_string();
        for format in formats() {
            let message = write(&format, &facts(Some(&key), Some(&key)), &data);
            if let Some((length, max)) = length(&format, &message) {
                assert!(length <= max);
            }
            match message.content_type {
                "application/x-www-form-urlencoded" => assert_eq!(url::form_urlencoded::parse(&message.body).count(), 2),
                _ => assert!(json_of(&message).is_object()),
            }
        }
    }
}
