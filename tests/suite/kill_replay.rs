//! R1 for replays: kill -9 at random moments while a replay is under way.
//!
//! Each delivery that matches is made due exactly once more. What was in flight at a kill, or was answered within the 20 ms
//! before it and is not settled on the disk, arrives again, as after any crash, and is the same attempt then: so each has
//! exactly two attempts at the end, however often it arrived.

use crate::{folder, size};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Client, Config, Count, Daemon, Ledger, Load, Receiver, Reply, Shape, Subscription, until};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::Duration;

/// A subscription may be owed so many for its replay to go on (docs/limits.md).
const OWED_MAX: u64 = 10_000;
/// How long a delivery of the replay takes while kills go on, so that some 500 of them are made in a life.
const TAKES: Duration = Duration::from_millis(10);

/// So many that a replay of them is still under way at the last of so many kills.
fn events(kills: u32) -> u64 {
    OWED_MAX + 2_000 + 500 * u64::from(kills)
}

/// The longest life between two kills.
const WITHIN: Duration = Duration::from_millis(600);
/// What may be under way at once.
const CONCURRENCY: u64 = 16;

/// What the kills left.
#[derive(Debug, Default)]
struct Aftermath {
    events: u64,
    /// How the replay ended, and how many deliveries it counts.
    ended: (String, u64),
    /// Kills that came while it was under way.
    caught: u32,
    /// Events that did not arrive once more.
    missing: usize,
    /// Arrivals past the second of each event.
    extra: u64,
    /// Deliveries that are not delivered by exactly two attempts.
    miscounted: usize,
}

impl Aftermath {
    fn is_sound(&self) -> bool {
        self.ended == ("done".to_owned(), self.events)
            && (self.missing, self.miscounted) == (0, 0)
            // How many are answered and not settled yet is a matter of the machine; a page of them is not.
            && self.extra < self.events / 2
    }
}

/// How many of so many deliveries are not `delivered` after two attempts.
fn miscounted(client: &mut Client, events: u64) -> Result<usize> {
    let (mut wrong, mut seen, mut after) = (0, 0, String::new());
    loop {
        let page = client.get(&format!("/v1/deliveries?subscription=all&limit=1000{after}"))?;
        let rows = page["data"].as_array().context("deliveries")?;
        wrong += rows.iter().filter(|d| d["state"] != "delivered" || d["attempt_count"] != 2).count();
        seen += rows.len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    // What is not even listed is not delivered.
    Ok(wrong + usize::try_from(events)?.saturating_sub(seen))
}

fn order(client: &mut Client) -> Result<String> {
    let answer = client.post("/v1/subscriptions/all/replay", &json!({ "state": "delivered" }))?;
    ensure!(answer.status == 202, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(answer.json()?["id"].as_str().context("an id")?.to_owned())
}

/// The replay as the API shows it, if it does.
fn shown(client: &mut Client, id: &str) -> Result<Value> {
    let answer = client.send("GET", &format!("/v1/replays/{id}"), &[], b"")?;
    if answer.status == 200 { answer.json() } else { Ok(Value::Null) }
}

/// Delivers events, replays them, and kills the daemon so often meanwhile, each time after a random part of `within`. With
/// `twice` a second replay of the same follows.
fn storm(kills: u32, within: Duration, fault: Option<&str>, twice: bool, seed: u64) -> Result<Aftermath> {
    let folder = folder()?;
    let (ledger, events, killed) = (Ledger::default(), events(kills), Count::default());
    let (book, over) = (ledger.clone(), killed.clone());
    let receiver = Receiver::start(move |request| {
        book.arrive(request);
        if request.header("posthaste-attempt") != "1" && over.get() == 0 {
            sleep(TAKES);
        }
        Reply::Status(200)
    })?;
    let hook = Subscription::webhook("all", &receiver.url("/")).set("events", vec!["load:**"]);
    let config = Config::default().subscribe(hook.set("concurrency", CONCURRENCY));
    let mut daemon = Daemon::new(folder.path(), config)?.with_fault(fault);
    daemon.start()?;
    let shape = Shape { connections: 1, array: 1_000, padding: |_| 20, events_max: events, ..Shape::default() };
    Load::start(daemon.address(), &shape, 0, &ledger).finish()?;
    daemon.settled("all", Duration::from_secs(120))?;
    let id = order(&mut daemon.client())?;
    let (mut random, mut found) = (StdRng::seed_from_u64(seed), Aftermath { events, ..Aftermath::default() });
    for _ in 0..kills {
        sleep(within.mul_f64(random.random()));
        found.caught += u32::from(shown(&mut daemon.client(), &id)?["state"] == "running");
        daemon.kill9()?;
        daemon.start()?;
    }
    killed.add(1);
    let mut client = daemon.client();
    let ended = until("the end of the replay", Duration::from_secs(120), || {
        Ok(Some(shown(&mut client, &id)?).filter(|replay| replay["state"] != "running"))
    })?;
    found.ended = (ended["state"].as_str().unwrap_or("gone").to_owned(), ended["replayed"].as_u64().unwrap_or(0));
    daemon.settled("all", Duration::from_secs(120))?;
    if twice {
        order(&mut client)?;
        until("the second replay", Duration::from_secs(120), || {
            let owed = client.get("/v1/replays")?["data"]
                .as_array()
                .is_some_and(|all| all.iter().any(|r| r["state"] == "running"));
            Ok((!owed).then_some(()))
        })?;
        daemon.settled("all", Duration::from_secs(120))?;
    }
    let times: Vec<u64> = (0..events).map(|n| ledger.arrivals(n)).collect();
    found.missing = times.iter().filter(|n| **n < 2).count();
    found.extra = times.iter().map(|n| n.saturating_sub(2)).sum();
    found.miscounted = miscounted(&mut client, events)?;
    ensure!(ledger.promised() as u64 == events, "{} were taken", ledger.promised());
    ensure!(fault.is_some() || ledger.difference().wrong_id.is_empty(), "{:?}", ledger.difference());
    Ok(found)
}

#[test]
fn a_replay_over_several_kills_makes_each_delivery_due_exactly_once() -> Result<()> {
    let (kills, seed) = (size(5, 40), rand::random());
    let found = storm(kills, WITHIN, None, false, seed)?;
    println!("seed {seed}: {found:?}");
    ensure!(found.is_sound(), "seed {seed}: {found:?}");
    ensure!(found.caught >= kills / 2, "seed {seed}: it was over too soon to be killed: {found:?}");
    Ok(())
}

#[test]
fn control_without_syncs_a_replay_that_is_killed_is_seen_to_be_forgotten() -> Result<()> {
    // At once, so that the order itself is what the disk has not seen.
    let found = storm(1, Duration::ZERO, Some("skip-sync"), false, 1)?;
    ensure!(!found.is_sound(), "the test can not see loss: {found:?}");
    Ok(())
}

#[test]
fn control_a_delivery_that_is_made_due_twice_is_seen() -> Result<()> {
    let found = storm(0, WITHIN, None, true, 1)?;
    ensure!(
        found.extra == found.events && found.miscounted as u64 == found.events,
        "the test can not see repeats: {found:?}"
    );
    Ok(())
}
