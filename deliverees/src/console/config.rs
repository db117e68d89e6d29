//! The options of a console.

use crate::options::{Keys, Options, Problem, read};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The keys of a console.
pub const KEYS: Keys = Keys { known: &["payload"], secret: &[] };

/// The options of a console as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleOptions {
    /// Which payload is printed: `"notification"`, the default. `"telemetry"` is not built yet.
    pub payload: Option<String>,
}

/// Reads the options and says how they are shown.
pub(super) fn parse(options: &Options) -> Result<Map<String, Value>, Vec<Problem>> {
    let mut problems = Vec::new();
    let written: ConsoleOptions = read(options, KEYS, &mut problems);
    match written.payload.as_deref() {
        None | Some("notification") => {}
        Some("telemetry") => problems.push(Problem::not_built("payload", "telemetry")),
        Some(other) => {
            let hint = "there are notification and telemetry";
            problems.push(Problem::new("payload", format!("payload = {other:?} is unknown"), hint));
        }
    }
    if problems.is_empty() {
        Ok(Map::from_iter([("payload".to_owned(), Value::from("notification"))]))
    } else {
        Err(problems)
    }
}
