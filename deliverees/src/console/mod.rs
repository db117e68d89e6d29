//! The `console` kind: prints one line for each event.

mod config;
mod deliver;

pub use config::{ConsoleOptions, KEYS};

use crate::registry::{Kind, Parsed};
use deliver::Console;
use std::sync::Arc;

/// The kind as the table lists it.
#[must_use]
pub fn kind() -> Kind {
    Kind {
        name: "console",
        keys: KEYS.known,
        parse: Arc::new(|options, _guard| {
            let shown = config::parse(options)?;
            Ok(Parsed::notification(shown, |tools| Console::new(Arc::clone(&tools.print))))
        }),
    }
}
