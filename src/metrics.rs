//! Counts what the HTTP API answers, and writes every figure of the daemon as Prometheus reads it.
//!
//! Names begin with `posthaste_` and end in their unit; counters end in `_total` and start at zero with the process.

use posthaste_actors::messages::EngineHealth;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The routes that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/events`
    Events,
    /// `/v1/events/{id}`
    Event,
    /// `/v1/deliveries` and what lies below it
    Deliveries,
    /// `/v1/subscriptions` and what lies below it
    Subscriptions,
    /// `/v1/event-types` and what lies below it
    EventTypes,
    /// `/analytics`
    Relay,
    /// `/v1/tail`
    Tail,
    /// `/healthz`, `/readyz`, `/metrics`
    Status,
    /// Everything else
    Other,
}

impl Route {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Events, "/v1/events"),
        (Self::Event, "/v1/events/{id}"),
        (Self::Deliveries, "/v1/deliveries"),
        (Self::Subscriptions, "/v1/subscriptions"),
        (Self::EventTypes, "/v1/event-types"),
        (Self::Relay, "/analytics"),
        (Self::Tail, "/v1/tail"),
        (Self::Status, "/status"),
        (Self::Other, "/other"),
    ];

    /// The route of a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/v1/") else {
            return match path {
                "/healthz" | "/readyz" | "/metrics" => Self::Status,
                "/analytics" => Self::Relay,
                _ => Self::Other,
            };
        };
        match rest.split_once('/').map_or((rest, false), |(first, _)| (first, true)) {
            ("events", false) => Self::Events,
            ("events", true) => Self::Event,
            ("deliveries", _) => Self::Deliveries,
            ("subscriptions", _) => Self::Subscriptions,
            ("event-types", _) => Self::EventTypes,
            ("tail", false) => Self::Tail,
            _ => Self::Other,
        }
    }
}

/// What became of a post to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayOutcome {
    /// It is durable
    Recorded,
    /// Its idempotency key was known
    Duplicate,
    /// Something was wrong with it or with its sender
    Refused,
    /// Its sender sends too much
    Limited,
    /// Telemetry is switched off
    Off,
    /// It could not be recorded
    Failed,
}

impl RelayOutcome {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Recorded, "recorded"),
        (Self::Duplicate, "duplicate"),
        (Self::Refused, "refused"),
        (Self::Limited, "limited"),
        (Self::Off, "off"),
        (Self::Failed, "failed"),
    ];
}

/// The statuses that are told apart; the last place is for all others.
const STATUSES: [u16; 16] = [200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503, 504];
const PLACES: usize = STATUSES.len() + 1;
/// The upper bounds of the buckets for the time to record, in microseconds.
const BOUNDS: [u64; 10] = [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000];

/// What was answered since the start.
#[derive(Debug, Default)]
pub struct Counters {
    answers: [[AtomicU64; PLACES]; Route::ALL.len()],
    /// How many fell into each bucket, and behind the last.
    record_buckets: [AtomicU64; BOUNDS.len() + 1],
    record_micros: AtomicU64,
    relayed: [AtomicU64; RelayOutcome::ALL.len()],
    relay_dropped: AtomicU64,
}

impl Counters {
    /// Counts an answer.
    pub fn answered(&self, route: Route, status: u16) {
        let place = STATUSES.iter().position(|s| *s == status).unwrap_or(PLACES - 1);
        self.answers[route as usize][place].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a post to the relay.
    pub fn relayed(&self, outcome: RelayOutcome) {
        self.relayed[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what was dropped of relayed events.
    pub fn relay_dropped(&self, places: usize) {
        self.relay_dropped.fetch_add(places as u64, Ordering::Relaxed);
    }

    /// Counts a post that became durable, and how long that took from its last byte.
    pub fn recorded_in(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.record_buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.record_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Every figure as text.
#[must_use]
pub fn text(health: &EngineHealth, counters: &Counters, stopping: bool) -> String {
    let mut out = String::with_capacity(8 * 1024);
    // Writing to a string does not fail.
    let _ = engine(&mut out, health, stopping || health.stopping).and_then(|()| http(&mut out, counters));
    out
}

fn engine(out: &mut String, health: &EngineHealth, stopping: bool) -> fmt::Result {
    let outbox = &health.outbox;
    let ready = u64::from(outbox.refusing.is_none() && !stopping);
    one(out, "build_info", "gauge", "What runs here.", &format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1)?;
    one(out, "ready", "gauge", "1 where events can be recorded.", "", ready)?;
    one(out, "events_recorded_total", "counter", "Events recorded.", "", outbox.recorded_total)?;
    one(out, "outbox_disk_bytes", "gauge", "What the outbox takes on disk.", "", outbox.disk_bytes)?;
    one(out, "outbox_generations", "gauge", "Generations on disk.", "", outbox.generations)?;
    one(out, "outbox_syncs_total", "counter", "Syncs that returned.", "", outbox.syncs_total)?;
    one(out, "outbox_failures_total", "counter", "Syncs and writes that failed.", "", outbox.failures_total)?;
    one(out, "outbox_damaged_records_total", "counter", "Damaged records found.", "", outbox.damaged_total)?;
    one(out, "deliveries_owed", "gauge", "Deliveries owed, held ones included.", "", outbox.owed)?;
    one(out, "deliveries_leased", "gauge", "Deliveries being tried.", "", outbox.leased)?;
    one(out, "deliveree_restarts_total", "counter", "Deliveree actors made again.", "", health.restarts_total)?;
    let lost = health.leases_lost_total;
    one(out, "leases_lost_total", "counter", "Outcomes that came after their lease had ended.", "", lost)?;
    let dropped = crate::telemetry::lines_dropped();
    one(out, "log_lines_dropped_total", "counter", "Log lines that found no room.", "", dropped)?;

    head(out, "attempts_total", "counter", "Attempts, by subscription and outcome.")?;
    for (subscription, outcome, count) in &health.attempts {
        writeln!(out, "posthaste_attempts_total{{subscription=\"{subscription}\",outcome=\"{outcome}\"}} {count}")?;
    }
    head(out, "attempt_duration_seconds", "summary", "How long attempts took.")?;
    for (subscription, seconds, count) in &health.attempt_seconds {
        writeln!(out, "posthaste_attempt_duration_seconds_sum{{subscription=\"{subscription}\"}} {seconds}")?;
        writeln!(out, "posthaste_attempt_duration_seconds_count{{subscription=\"{subscription}\"}} {count}")?;
    }
    let quarantined = "Events whose telemetry could not be built.";
    one(out, "quarantined_total", "counter", quarantined, "", health.quarantined_total)?;
    by_subscription(out, "filter_errors_total", "counter", "Filters that failed at run time.", &health.filter_errors)?;
    by_subscription(out, "deliveries_dead_total", "counter", "Deliveries given up.", &health.dead)?;
    by_subscription(out, "subscription_owed", "gauge", "Deliveries owed to each subscription.", &health.backlog)
}

fn http(out: &mut String, counters: &Counters) -> fmt::Result {
    head(out, "http_requests_total", "counter", "Answers of the HTTP API.")?;
    for ((_, route), statuses) in Route::ALL.iter().zip(&counters.answers) {
        for (place, count) in statuses.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            let status = STATUSES.get(place).map_or("other".to_owned(), ToString::to_string);
            if count > 0 {
                writeln!(out, "posthaste_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}")?;
            }
        }
    }
    head(out, "relay_events_total", "counter", "Posts to the relay, by what became of them.")?;
    for ((_, outcome), count) in RelayOutcome::ALL.iter().zip(&counters.relayed) {
        writeln!(out, "posthaste_relay_events_total{{outcome=\"{outcome}\"}} {}", count.load(Ordering::Relaxed))?;
    }
    let dropped = counters.relay_dropped.load(Ordering::Relaxed);
    one(out, "relay_dropped_total", "counter", "Places of relayed events that were dropped and named.", "", dropped)?;
    head(out, "record_duration_seconds", "histogram", "From a post's last byte until it was durable.")?;
    let mut sum = 0;
    for (place, bucket) in counters.record_buckets.iter().enumerate() {
        sum += bucket.load(Ordering::Relaxed);
        let bound = BOUNDS.get(place).map_or("+Inf".to_owned(), |b| (*b as f64 / 1e6).to_string());
        writeln!(out, "posthaste_record_duration_seconds_bucket{{le=\"{bound}\"}} {sum}")?;
    }
    let seconds = counters.record_micros.load(Ordering::Relaxed) as f64 / 1e6;
    writeln!(out, "posthaste_record_duration_seconds_sum {seconds}")?;
    writeln!(out, "posthaste_record_duration_seconds_count {sum}")
}

fn by_subscription(out: &mut String, name: &str, kind: &str, help: &str, rows: &[(String, u64)]) -> fmt::Result {
    head(out, name, kind, help)?;
    // Names of subscriptions need no escaping: they are of [A-Za-z0-9_-].
    rows.iter().try_for_each(|(s, count)| writeln!(out, "posthaste_{name}{{subscription=\"{s}\"}} {count}"))
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP posthaste_{name} {help}\n# TYPE posthaste_{name} {kind}")
}

fn one(out: &mut String, name: &str, kind: &str, help: &str, labels: &str, value: u64) -> fmt::Result {
    head(out, name, kind, help)?;
    writeln!(out, "posthaste_{name}{labels} {value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_comment_or_a_sample_of_ours() {
        let counters = Counters::default();
        counters.answered(Route::Events, 202);
        counters.answered(Route::Other, 418);
        counters.recorded_in(Duration::from_micros(700));
        let health = EngineHealth {
            attempts: vec![("ops".into(), "delivered", 3)],
            dead: vec![("ops".into(), 1)],
            backlog: vec![("ops".into(), 9)],
            attempt_seconds: vec![("ops".into(), 0.25, 3)],
            quarantined_total: 2,
            filter_errors: vec![("ops".into(), 4)],
            ..EngineHealth::default()
        };
        let text = text(&health, &counters, false);
        for line in text.lines() {
            let sample = line.strip_prefix("posthaste_").and_then(|l| l.rsplit_once(' '));
            assert!(line.starts_with("# ") || sample.is_some_and(|(_, v)| v.parse::<f64>().is_ok()), "{line}");
        }
        for line in [
            "posthaste_http_requests_total{route=\"/v1/events\",status=\"202\"} 1",
            "posthaste_http_requests_total{route=\"/other\",status=\"other\"} 1",
            "posthaste_record_duration_seconds_bucket{le=\"0.0005\"} 0",
            "posthaste_record_duration_seconds_bucket{le=\"0.001\"} 1",
            "posthaste_record_duration_seconds_bucket{le=\"+Inf\"} 1",
            "posthaste_attempts_total{subscription=\"ops\",outcome=\"delivered\"} 3",
            "posthaste_ready 1",
            "posthaste_quarantined_total 2",
            "posthaste_filter_errors_total{subscription=\"ops\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_place_of_a_route_is_its_place_in_the_list() {
        for (place, (route, _)) in Route::ALL.iter().enumerate() {
            assert_eq!(*route as usize, place);
        }
        for (place, (outcome, _)) in RelayOutcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
        }
        assert_eq!(Route::of("/analytics"), Route::Relay);
        assert_eq!(Route::of("/v1/event-types/a:b"), Route::EventTypes);
        assert_eq!(Route::of("/v1/events"), Route::Events);
        assert_eq!(Route::of("/v1/events/evt_1"), Route::Event);
        assert_eq!(Route::of("/v1/eventsx"), Route::Other);
        assert_eq!(Route::of("/v1/deliveries/d/retry"), Route::Deliveries);
    }
}
