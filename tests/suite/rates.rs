//! A rate limit holds at the receiver's clock: no window of a second has more than it allows.

use crate::{folder, size};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Daemon, Receiver, Reply, Subscription, held, until};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Calls a second.
const RATE: usize = 20;

/// The most arrivals in any window of a second that is open at its end.
fn most_in_a_second(times: &[Instant]) -> usize {
    let second = Duration::from_secs(1);
    times
        .iter()
        .enumerate()
        .map(|(at, begin)| times[at..].iter().filter(|t| **t - *begin < second).count())
        .max()
        .unwrap_or(0)
}

/// What a run is made of beside the limit.
struct Course {
    events: usize,
    /// The receiver takes a while, or fails every third.
    slow: bool,
    failing: bool,
    /// Killed and started again in the middle.
    killed: bool,
}

/// Sends events through a subscription with this limit; answers when its receiver was called, by its own clock.
fn arrivals(limit: Option<&str>, course: &Course) -> Result<Vec<Instant>> {
    let folder = folder()?;
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = Arc::clone(&times);
    let (slow, failing) = (course.slow, course.failing);
    let receiver = Receiver::start(move |_| {
        let count = {
            let mut noted = held(&noted);
            noted.push(Instant::now());
            noted.len()
        };
        if slow {
            std::thread::sleep(Duration::from_millis(300));
        }
        Reply::Status(if failing && count.is_multiple_of(3) { 500 } else { 200 })
    })?;
    let hook =
        Subscription::webhook("limited", &receiver.url("/")).set("events", json!(["rate:**"])).set("concurrency", 64);
    let hook = match limit {
        Some(limit) => hook.set("rate_limit", limit),
        None => hook,
    };
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?;
    daemon.start()?;
    let events: Vec<Value> =
        (0..course.events).map(|n| json!({ "type": "rate:sent", "properties": { "n": n } })).collect();
    let answer = daemon.client().post("/v1/events", &json!(events))?;
    ensure!(answer.status == 202, "{}", answer.status);
    if course.killed {
        until("a third of them", Duration::from_secs(60), || {
            Ok((held(&times).len() > course.events / 3).then_some(()))
        })?;
        daemon.kill9()?;
        daemon.start()?;
    }
    daemon.settled("limited", Duration::from_secs(120))?;
    drop(daemon);
    let times = held(&times).clone();
    ensure!(times.len() >= course.events, "{} of {} arrived", times.len(), course.events);
    Ok(times)
}

fn holds(course: &Course) -> Result<()> {
    let times = arrivals(Some(&format!("{RATE}/s")), course)?;
    let most = most_in_a_second(&times);
    ensure!(most <= RATE, "{most} calls within a second");
    // A limit that lets too little through would pass as well: a fast receiver gets most of what it may have.
    let took = *times.last().context("arrivals")? - *times.first().context("arrivals")?;
    let least = course.events as f64 / took.as_secs_f64();
    ensure!(course.slow || course.killed || least > RATE as f64 * 0.5, "only {least:.1} a second");
    Ok(())
}

#[test]
fn no_second_at_the_receiver_has_more_calls_than_its_limit() -> Result<()> {
    holds(&Course { events: size(120, 600), slow: false, failing: false, killed: false })
}

#[test]
fn a_receiver_that_is_slow_and_fails_gets_no_more_than_its_limit_either() -> Result<()> {
    holds(&Course { events: size(60, 300), slow: true, failing: true, killed: false })
}

#[test]
fn a_limit_holds_over_a_kill_and_a_start() -> Result<()> {
    holds(&Course { events: size(90, 300), slow: false, failing: false, killed: true })
}

#[test]
fn control_without_a_limit_a_second_has_more_calls() -> Result<()> {
    let times = arrivals(None, &Course { events: 120, slow: false, failing: false, killed: false })?;
    let most = most_in_a_second(&times);
    ensure!(most > RATE, "the test can not see a rate: {most} calls within a second");
    Ok(())
}
