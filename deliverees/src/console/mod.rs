//! The `console` kind: prints one line for each event.

mod config;
mod deliver;

pub use config::{ConsoleOptions, KEYS};

use crate::registry::{Kind, Parsed};
use deliver::Console;
use posthaste_events::Takes;
use std::sync::Arc;

/// The kind as the table lists it.
#[must_use]
pub fn kind() -> Kind {
    Kind {
        name: "console",
        keys: KEYS.known,
        paths: &[],
        parse: Arc::new(|options, _guard| {
            let (takes, shown) = config::parse(options)?;
            let make = |tools: &crate::Tools| Console::new(Arc::clone(&tools.print));
            Ok(match takes {
                Takes::Notification => Parsed::notification(shown, make),
                Takes::Telemetry => Parsed::anonymous(shown, make),
            })
        }),
    }
}
