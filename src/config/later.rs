//! `[telemetry]` and `[relay]`: read and judged already, but what they ask for is not there yet.
//!
//! The defaults are taken; a good value that asks for something else is refused by name, so that nobody believes it
//! to be in force.

use super::section::Section;
use super::units::{RATE_HINT, rate};
use posthaste_events::Pattern;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);

pub(super) fn read(top: &mut Section<'_, '_>) {
    read_telemetry(top.section("telemetry"));
    read_relay(top.section("relay"));
}

fn read_telemetry(mut section: Section<'_, '_>) {
    if let Some((false, node)) = section.boolean("enabled") {
        section.not_built("enabled", node);
    }
    let grain = section.duration("time_grain", Duration::from_millis(1), HOUR);
    if grain != HOUR
        && let Some(node) = section.node("time_grain")
    {
        section.not_built("time_grain", node);
    }
    section.finish();
}

fn read_relay(mut section: Section<'_, '_>) {
    for (text, node) in section.strings("types").unwrap_or_default() {
        match Pattern::parse(text) {
            Err(why) => section.wrong("types", node, format!("is no pattern: {why}"), "such as \"project:**\""),
            Ok(_) if text != "**" => section.not_built("types", node),
            Ok(_) => {}
        }
    }
    for (_, node) in section.strings("origins").unwrap_or_default() {
        section.not_built("origins", node);
    }
    if let Some((text, node)) = section.string("rate_limit") {
        match rate(text) {
            None => section.wrong("rate_limit", node, "is not a rate", RATE_HINT),
            Some(_) if text != "50/s" => section.not_built("rate_limit", node),
            Some(_) => {}
        }
    }
    section.finish();
}
