//! `[retry]`: when deliveries are tried again, and when they are given up; a subscription replaces single keys.

use super::section::Section;
use posthaste_events::RetryPolicy;
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);

/// How much larger a wait may be than the one before.
const MULTIPLIER_MAX: f64 = 100.0;

/// Reads the defaults of all subscriptions.
pub(super) fn read_defaults(top: &mut Section<'_, '_>) -> RetryPolicy {
    read(top.section("retry"), &RetryPolicy::default())
}

/// Reads a table of retry keys; an absent key is as in `base`.
pub(super) fn read(section: Section<'_, '_>, base: &RetryPolicy) -> RetryPolicy {
    read_as(section, base, false)
}

/// The same; of one that is `kept` the first wait is shortened to the longest where `base` has changed since it was
/// judged: whoever wrote it did nothing wrong.
pub(super) fn read_as(mut section: Section<'_, '_>, base: &RetryPolicy, kept: bool) -> RetryPolicy {
    let names_wait = section.has("initial") || section.has("max");
    let mut policy = RetryPolicy {
        initial: section.duration("initial", MILLISECOND, base.initial),
        multiplier: section.number("multiplier", 1.0..=MULTIPLIER_MAX, base.multiplier),
        max: section.duration("max", MILLISECOND, base.max),
        jitter: section.number("jitter", 0.0..=1.0, base.jitter),
        give_up_after: section.duration("give_up_after", MILLISECOND, base.give_up_after),
        attempts: match section.has("attempts") {
            true => u32::try_from(section.integer("attempts", 1..=1_000_000, 1)).ok(),
            false => {
                // Asked for nevertheless, so that it is among the known keys.
                section.node("attempts");
                base.attempts
            }
        },
    };
    if kept {
        policy.initial = policy.initial.min(policy.max);
    }
    if names_wait && policy.initial > policy.max {
        let place = section.place_of(if section.has("initial") { "initial" } else { "max" });
        let [initial, max] = [policy.initial, policy.max].map(super::units::written);
        let why = format!("= \"{initial}\" is longer than max = \"{max}\"");
        section.unseen(&place, "initial", why, "max is the longest wait; make it longer, or initial shorter");
    }
    section.finish();
    policy
}
