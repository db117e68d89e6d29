//! The `analytics` kind: sends what is anonymous to one of several backends, in batches.
//!
//! Written once, for every backend: how large a batch may be, which event is too large, compression, one deadline for a
//! whole call, what an answer means for each event, and the halving of a batch that was refused as a whole, so that one
//! bad event costs itself alone. A backend knows only its wire format: how an event and a request are written, and
//! what its protocol says in an answer. Each is one file and one line in `backend.rs`.
//!
//! The backend `file` posts nothing; it is a deliveree of its own beside the one that posts.

mod backend;
mod call;
mod config;
mod deliver;
mod file;
mod otlp;
#[cfg(test)]
mod pigeon;
mod plain;
mod plan;
mod posthog;
mod turns;
mod verdict;
mod written;

pub use config::{AnalyticsOptions, BatchOptions, KEYS};

use crate::registry::{Kind, Parsed};
use config::{Analytics, To};
use deliver::Sender;
use file::Writer;
use std::sync::Arc;
use turns::Turns;

/// The kind as the table lists it.
#[must_use]
pub fn kind() -> Kind {
    let turns = Arc::new(Turns::default());
    Kind {
        name: "analytics",
        keys: KEYS.known,
        paths: &["path"],
        parse: Arc::new(move |options, guard| {
            let analytics = Analytics::parse(options, guard)?;
            let (shown, revealed) = (analytics.shown(), analytics.revealed());
            let Analytics { bounds, to } = analytics;
            Ok(match to {
                To::Http(endpoint) => {
                    let endpoint = Arc::new(endpoint);
                    Parsed::anonymous(shown, move |tools: &crate::Tools| {
                        Sender::new(Arc::clone(&endpoint), bounds, tools.http.clone(), Arc::clone(&tools.clock))
                    })
                }
                To::File(file) => {
                    let (file, turns) = (Arc::new(file), Arc::clone(&turns));
                    Parsed::anonymous(shown, move |_: &crate::Tools| {
                        Writer::new(Arc::clone(&file), bounds, turns.of(&file.path))
                    })
                }
            }
            .revealing(revealed))
        }),
    }
}
