//! The `webhook` kind: one event a request over HTTP, as [Standard Webhooks](https://www.standardwebhooks.com) asks or in
//! another format that receivers know.

mod answer;
mod config;
mod deliver;
mod format;
mod keyring;
pub mod sign;
mod signing;

pub use crate::authorization::{Basic, WrittenAuth};
pub use config::{KEYS, Webhook, WebhookOptions};
pub use keyring::Scheme;
pub use signing::SECRETS_MAX;

/// Whether a format of that name is for people in a chat, who look at no signature: it needs no secret.
#[must_use]
pub fn goes_to_a_chat(format: &str) -> bool {
    format::Format::named_chat(format).is_some()
}

use crate::registry::{Kind, Parsed};
use deliver::Sender;
use std::sync::Arc;

/// The kind as the table lists it.
#[must_use]
pub fn kind() -> Kind {
    Kind {
        name: "webhook",
        keys: KEYS.known,
        paths: &[],
        parse: Arc::new(|options, guard| {
            let webhook = Arc::new(Webhook::parse(options, guard)?);
            let (shown, revealed) = (webhook.shown(), webhook.revealed());
            let make = move |tools: &crate::Tools| Sender::new(Arc::clone(&webhook), tools);
            Ok(Parsed::notification(shown, make).revealing(revealed))
        }),
    }
}
