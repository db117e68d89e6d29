//! Events as they are written, each by itself, before anything is sent: what cannot be sent is refused here.

use super::backend::Event;
use posthaste_events::outcome::Detail;
use posthaste_events::{Anonymous, Delivery, Outcome, Reporter, Ticket};

/// An event, ready to be put into a request or a file.
pub(super) struct Written<'a> {
    /// What its outcome is reported with.
    pub(super) ticket: Ticket,
    /// What the receiver calls it.
    pub(super) id: &'a str,
    /// As it is written.
    pub(super) bytes: Vec<u8>,
}

/// Writes each event; one that cannot be written, or is larger than `event_max` bytes, is refused, it alone.
///
/// They come in the order of their hashes: the order in which they were recorded within a batch is told to nobody.
pub(super) fn write<'a>(
    deliveries: &'a [Delivery<Anonymous>],
    event_max: usize,
    report: &Reporter,
    written: impl Fn(&Event<'_>) -> Result<Vec<u8>, serde_json::Error>,
) -> Vec<Written<'a>> {
    let mut all = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let refused = match Event::of(&delivery.payload).and_then(|event| written(&event)) {
            Ok(bytes) if bytes.len() <= event_max => {
                all.push(Written { ticket: delivery.ticket, id: delivery.payload.id(), bytes });
                continue;
            }
            Ok(bytes) => format!("too large: {} bytes as it is written; at most {event_max} are sent", bytes.len()),
            // The words of the reader may quote the payload.
            Err(_) => "payload: it is not as the catalogue's rules write it".to_owned(),
        };
        report.outcome(delivery.ticket, Outcome::Rejected(Detail::error(refused)));
    }
    all.sort_unstable_by(|a, b| a.id.cmp(b.id));
    all
}
