//! The options of a console.

use crate::options::{Keys, Options, Problem, read};
use posthaste_events::Takes;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The keys of a console.
pub const KEYS: Keys = Keys { known: &["payload"], secret: &[] };

/// The options of a console as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleOptions {
    /// Which payload is printed: `"notification"`, the default, or `"telemetry"`, what leaves towards analytics.
    pub payload: Option<String>,
}

/// Reads the options: which payload is printed, and how they are shown.
pub(super) fn parse(options: &Options) -> Result<(Takes, Map<String, Value>), Vec<Problem>> {
    let mut problems = Vec::new();
    let written: ConsoleOptions = read(options, KEYS, &mut problems);
    let (takes, word) = match written.payload.as_deref() {
        None | Some("notification") => (Takes::Notification, "notification"),
        Some("telemetry") => (Takes::Telemetry, "telemetry"),
        Some(other) => {
            let hint = "there are notification and telemetry";
            problems.push(Problem::new("payload", format!("payload = {other:?} is unknown"), hint));
            (Takes::Notification, "notification")
        }
    };
    let shown = Map::from_iter([("payload".to_owned(), Value::from(word))]);
    if problems.is_empty() { Ok((takes, shown)) } else { Err(problems) }
}
