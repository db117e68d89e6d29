//! Prints events, each as one line of bounded length without control characters.

use crate::registry::Printer;
use posthaste_events::outcome::{Detail, cut};
use posthaste_events::{
    Anonymous, Batch, BatchLimits, BoxFuture, Deliveree, Delivery, Notification, Outcome, Payload, Reporter,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write as _;
use std::time::Duration;

/// How long a line may be, in bytes; the rest is cut and an ellipsis says so.
const LINE_MAX: usize = 4 * 1024;
/// How many events are printed in one call.
const BATCH: BatchLimits = BatchLimits { events: 64, bytes: 256 * 1024, wait: Duration::ZERO };

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The deliveree of one console.
pub(super) struct Console(Printer);

impl Console {
    pub(super) const fn new(print: Printer) -> Self {
        Self(print)
    }
}

impl Deliveree<Notification> for Console {
    fn deliver(&self, batch: Batch<Notification>, report: Reporter) -> BoxFuture<()> {
        print_all(&self.0, batch, report, notified)
    }

    fn limits(&self) -> BatchLimits {
        BATCH
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }
}

impl Deliveree<Anonymous> for Console {
    fn deliver(&self, batch: Batch<Anonymous>, report: Reporter) -> BoxFuture<()> {
        print_all(&self.0, batch, report, anonymous)
    }

    fn limits(&self) -> BatchLimits {
        BATCH
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }
}

fn print_all<P: Payload>(
    print: &Printer,
    batch: Batch<P>,
    report: Reporter,
    line: fn(&Delivery<P>) -> String,
) -> BoxFuture<()> {
    let print = print.clone();
    Box::pin(async move {
        // All of them are on their way before the first is waited for, so that they are written together.
        let printed: Vec<_> = batch.deliveries.iter().map(|d| (d.ticket, print(&line(d)))).collect();
        drop(batch);
        for (ticket, written) in printed {
            let outcome = match written.await {
                Ok(()) => Outcome::Delivered(Detail::default()),
                Err(error) => Outcome::Retry { detail: Detail::error(format!("console: {error}")), after: None },
            };
            report.outcome(ticket, outcome);
        }
    })
}

/// `time type id [attempt=n] {"event",…}`
fn anonymous(delivery: &Delivery<Anonymous>) -> String {
    let payload = &delivery.payload;
    let mut line = format!("{} {} {}", payload.at(), payload.event_type(), payload.id());
    finish(&mut line, delivery.attempt, None, payload.bytes());
    shorten(escape(&line))
}

/// The part of a notification that is printed.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// `time type id [key=…] [tenant=…] [attempt=n] data`
fn notified(delivery: &Delivery<Notification>) -> String {
    let facts = delivery.facts();
    let mut line = String::with_capacity(256);
    // Writing to a string does not fail.
    let _ = write!(line, "{} {} {}", facts.happened_at(), facts.event_type, delivery.event());
    for (word, value) in [("key", &facts.key), ("tenant", &facts.tenant)] {
        if let Some(value) = value {
            let _ = write!(line, " {word}={value}");
        }
    }
    let bytes = delivery.payload.bytes();
    let data = serde_json::from_slice::<Body<'_>>(bytes).map(|body| body.data.get()).ok();
    finish(&mut line, delivery.attempt, data, bytes);
    shorten(escape(&line))
}

/// Puts the attempt and the payload behind: `data`, or else all of its bytes, cut before they are escaped, so that the work
/// is bounded too.
fn finish(line: &mut String, attempt: u32, data: Option<&str>, bytes: &[u8]) {
    if attempt > 1 {
        // Writing to a string does not fail.
        let _ = write!(line, " attempt={attempt}");
    }
    line.push(' ');
    match data {
        Some(data) => line.push_str(&data[..data.floor_char_boundary(LINE_MAX)]),
        None => line.push_str(&String::from_utf8_lossy(&bytes[..bytes.len().min(LINE_MAX)])),
    }
}

/// Writes control characters, and those that turn the direction of text, as `\u{…}`: a line stays what it looks like.
fn escape(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn shorten(line: String) -> String {
    if line.len() <= LINE_MAX {
        return line;
    }
    let mut line = cut(line, LINE_MAX - '…'.len_utf8());
    line.push('…');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_move_the_cursor_or_turn_the_text() {
        assert_eq!(escape("a\u{1b}[2J\r\nb\u{202e}c\u{9b}ä"), "a\\u{1b}[2J\\u{d}\\u{a}b\\u{202e}c\\u{9b}ä");
    }

    #[test]
    fn a_long_line_is_cut_within_its_bound() {
        let short = shorten("ä".repeat(LINE_MAX));
        assert!(short.len() <= LINE_MAX && short.ends_with('…'));
        assert_eq!(shorten("a".repeat(LINE_MAX)).len(), LINE_MAX);
    }
}
