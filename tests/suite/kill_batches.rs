//! R1 for analytics: kill -9 in the middle of batches, while receivers refuse, put off and name single events. Each event
//! is settled by itself and under one id; none is lost, and none is dead but those that the receiver refuses.

use crate::batches::{self, Numbered};
use crate::{folder, size};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{
    Config, Count, Daemon, Ledger, Load, Receiver, Reply, Request, Shape, Subscription, held, until,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

/// What leaves of an event is its number.
const CATALOGUE: &str = r#"
[event."load:posted"]
fields.n = { type = "integer", minimum = 0, maximum = 1000000, telemetry = "keep" }
fields.padding = { type = "string" }
"#;

/// Fewer acknowledged events prove nothing.
const PROMISED_MIN: usize = 1_000;

/// Whether an event is one that the receiver may refuse.
fn bad(n: u64) -> bool {
    n % 101 == 7
}

/// A storm of kills.
struct Storm {
    backend: &'static str,
    /// How many kills at least; as many more, up to ten times as many, as it takes until [`PROMISED_MIN`] are promised.
    kills: u32,
    /// What the receiver refuses.
    refused: fn(u64) -> bool,
    fault: Option<&'static str>,
    seed: u64,
}

/// What a receiver sees.
#[derive(Default)]
struct Seen {
    /// The ids under which each number was taken.
    ids: Mutex<BTreeMap<u64, BTreeSet<String>>>,
    /// Events in the largest batch that was taken.
    largest: Mutex<usize>,
    /// Requests with a bad event in them that are being answered now.
    halving: Mutex<u32>,
    /// Answers of each status.
    answers: Mutex<BTreeMap<u16, u64>>,
    /// What could not be read.
    unreadable: Mutex<Vec<String>>,
}

/// What a storm left.
struct Aftermath {
    promised: usize,
    /// Acknowledged, and neither taken nor dead.
    lost: Vec<u64>,
    /// Dead, though they are good.
    dead_neighbours: Vec<u64>,
    /// How many of the bad ones are dead.
    dead: usize,
    ids: BTreeMap<u64, BTreeSet<String>>,
    largest: usize,
    /// Kills that came while a batch with a bad event was being halved.
    caught: u32,
    answers: BTreeMap<u16, u64>,
}

impl Seen {
    fn answer(&self, storm: &Storm, turn: u64, request: &Request) -> Reply {
        let events = match batches::numbered(storm.backend, request) {
            Ok(events) => events,
            Err(why) => {
                held(&self.unreadable).push(format!("{why:#}"));
                return Reply::Status(503);
            }
        };
        let (refused, good): (Vec<Numbered>, Vec<Numbered>) =
            events.into_iter().partition(|event| (storm.refused)(event.n));
        let halves = u32::from(!refused.is_empty());
        *held(&self.halving) += halves;
        // Time for a kill to come between a batch and its answer.
        sleep(Duration::from_millis(5));
        let (status, headers, body) = self.decide(storm.backend, turn, &refused, &good);
        *held(&self.halving) -= halves;
        *held(&self.answers).entry(status).or_default() += 1;
        Reply::Full(status, headers, body)
    }

    /// The answer, as the backend's protocol has it; what is taken is noted before.
    fn decide(
        &self,
        backend: &str,
        turn: u64,
        refused: &[Numbered],
        good: &[Numbered],
    ) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
        // Ever more rarely, since each holds back the whole subscription for a second.
        if turn > 8 && turn.is_power_of_two() {
            return (429, vec![("retry-after", "1".to_owned())], Vec::new());
        }
        if turn.is_multiple_of(9) {
            return (503, Vec::new(), Vec::new());
        }
        let rejected: Vec<Value> = refused.iter().map(|event| json!({ "id": event.id, "reason": "odd" })).collect();
        let named = json!({ "rejected": rejected }).to_string().into_bytes();
        match turn % 3 {
            _ if refused.is_empty() => {}
            // Named: the others are taken with a 2xx, and are to come again with a 422.
            1 if backend == "http" => {}
            2 if backend == "http" => return (422, Vec::new(), named),
            _ => return (400, Vec::new(), Vec::new()),
        }
        for event in good {
            held(&self.ids).entry(event.n).or_default().insert(event.id.clone());
        }
        let mut largest = held(&self.largest);
        *largest = good.len().max(*largest);
        let (status, body) = batches::taken(backend);
        (status, Vec::new(), if refused.is_empty() { body.to_vec() } else { named })
    }
}

/// Of these events those whose delivery is dead. One by one: a listing would search every generation for each row of it.
fn dead(daemon: &Daemon, events: &BTreeMap<u64, String>) -> Result<BTreeSet<u64>> {
    let (mut client, mut found) = (daemon.client(), BTreeSet::new());
    for (n, id) in events {
        let answer = client.send("GET", &format!("/v1/events/{id}"), &[], b"")?;
        // Forgotten: it counts as lost.
        if answer.status == 404 {
            continue;
        }
        let event = answer.json()?;
        let state = event["deliveries"][0]["state"].as_str().with_context(|| format!("a delivery in {event}"))?;
        ensure!(matches!(state, "delivered" | "dead"), "{n} is {state}");
        if state == "dead" {
            found.insert(*n);
        }
    }
    Ok(found)
}

impl Storm {
    fn of(backend: &'static str, kills: u32) -> Self {
        Self { backend, kills, refused: bad, fault: None, seed: rand::random() }
    }

    fn rage(self) -> Result<Aftermath> {
        let folder = folder()?;
        std::fs::write(folder.path().join("events.toml"), CATALOGUE)?;
        let (seen, requests) = (Arc::new(Seen::default()), Count::default());
        let (kills, fault, seed, backend) = (self.kills, self.fault, self.seed, self.backend);
        let noted = Arc::clone(&seen);
        let receiver = Receiver::start(move |request| {
            requests.add(1);
            noted.answer(&self, requests.get(), request)
        })?;
        let mut analytics = Subscription::of("analytics", "product")
            .set("backend", backend)
            .set("url", receiver.url("/"))
            .set("batch", json!({ "events": 50, "wait": "100ms" }))
            .set("timeout", "2s")
            .set("circuit", false);
        if backend == "posthog" {
            analytics = analytics.set("key", "phc_of_a_test");
        }
        let config = Config::default().set("catalogue", "files", json!(["events.toml"])).subscribe(analytics);
        let mut daemon = Daemon::new(folder.path(), config)?.with_fault(fault);
        let mut random = StdRng::seed_from_u64(seed);
        let ledger = Ledger::default();
        daemon.start()?;
        let load = Load::start(daemon.address(), &Shape { connections: 4, ..Shape::default() }, 0, &ledger);
        let (mut killed, mut caught) = (0, 0);
        while killed < kills || ledger.promised() <= PROMISED_MIN {
            ensure!(killed < kills * 10, "seed {seed}: {} promised in {killed} lives", ledger.promised());
            sleep(Duration::from_millis(random.random_range(20..400)));
            if killed % 2 == 0 {
                // Into a halving, where there is one.
                let halves = || Ok((*held(&seen.halving) > 0).then_some(()));
                caught += u32::from(until("a halving", Duration::from_secs(2), halves).is_ok());
            }
            daemon.kill9()?;
            daemon.start()?;
            killed += 1;
        }
        sleep(Duration::from_millis(200));
        load.stop()?;
        daemon.settled("product", Duration::from_secs(120))?;
        let unreadable = held(&seen.unreadable).clone();
        ensure!(unreadable.is_empty(), "seed {seed}: {unreadable:?}");
        let (ids, mut asked) = (held(&seen.ids).clone(), ledger.ids());
        let promised = ledger.promised_numbers();
        // Those that were never taken, and some that stood beside a bad one.
        let beside = |n: u64| bad(n.wrapping_sub(1)) && (n / 101).is_multiple_of(3);
        asked.retain(|n, _| !ids.contains_key(n) || beside(*n));
        let dead = dead(&daemon, &asked)?;
        let lost = promised.iter().filter(|n| !ids.contains_key(n) && !dead.contains(n)).copied().collect();
        Ok(Aftermath {
            promised: promised.len(),
            lost,
            dead_neighbours: dead.iter().filter(|n| !bad(**n)).copied().collect(),
            dead: dead.iter().filter(|n| bad(**n)).count(),
            ids,
            largest: *held(&seen.largest),
            caught,
            answers: held(&seen.answers).clone(),
        })
    }
}

/// Rages on a backend and finds no damage.
fn survives(backend: &'static str, kills: u32, answered: &[u16]) -> Result<()> {
    let storm = Storm::of(backend, kills);
    let seed = storm.seed;
    let after = storm.rage()?;
    ensure!(after.largest > 1 && after.dead > 0 && after.caught > 0, "seed {seed}: too little happened: {after:?}");
    let missing = answered.iter().find(|status| !after.answers.contains_key(status));
    ensure!(missing.is_none(), "seed {seed}: nothing was answered with {missing:?}: {after:?}");
    ensure!(after.lost.is_empty(), "seed {seed}: {after:?}");
    ensure!(after.dead_neighbours.is_empty(), "seed {seed}: {after:?}");
    let renamed = after.ids.iter().find(|(_, ids)| ids.len() > 1);
    ensure!(renamed.is_none(), "seed {seed}: another id after a kill: {renamed:?}");
    let all: BTreeSet<&String> = after.ids.values().flatten().collect();
    ensure!(all.len() == after.ids.len(), "seed {seed}: two events have one id");
    Ok(())
}

impl std::fmt::Debug for Aftermath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let few = |numbers: &[u64]| numbers.iter().take(8).copied().collect::<Vec<_>>();
        write!(
            f,
            "{} promised, {} taken, {} lost {:?}, ",
            self.promised,
            self.ids.len(),
            self.lost.len(),
            few(&self.lost)
        )?;
        write!(
            f,
            "{} bad ones dead, {} good ones dead {:?}, ",
            self.dead,
            self.dead_neighbours.len(),
            few(&self.dead_neighbours)
        )?;
        write!(f, "largest batch {}, {} kills in a halving, answers {:?}", self.largest, self.caught, self.answers)
    }
}

#[test]
fn no_event_of_a_batch_is_lost_and_each_keeps_its_id_when_the_daemon_is_killed() -> Result<()> {
    survives("http", size(20, 100), &[202, 400, 422, 429, 503])
}

#[test]
fn a_kill_in_a_halving_costs_no_event_of_posthog_but_the_bad_ones() -> Result<()> {
    survives("posthog", size(8, 100), &[200, 400, 429, 503])
}

#[test]
fn a_kill_in_a_halving_costs_no_event_of_otlp_but_the_bad_ones() -> Result<()> {
    survives("otlp", size(8, 100), &[200, 400, 429, 503])
}

#[test]
fn control_a_daemon_that_acknowledges_without_a_sync_loses_events_of_batches_when_it_is_killed() -> Result<()> {
    let after = Storm { fault: Some("skip-sync"), seed: 1, ..Storm::of("http", 8) }.rage()?;
    ensure!(!after.lost.is_empty(), "the test can not see loss: {after:?}");
    Ok(())
}

#[test]
fn control_a_good_event_that_dies_with_its_bad_neighbour_is_seen() -> Result<()> {
    // What a daemon would make of it that gives up the half with the bad event in it.
    let with_neighbour = |n: u64| bad(n) || bad(n.wrapping_sub(1));
    for backend in batches::POSTED {
        let after = Storm { refused: with_neighbour, ..Storm::of(backend, 2) }.rage()?;
        ensure!(!after.dead_neighbours.is_empty(), "{backend}: the test can not see a death: {after:?}");
    }
    Ok(())
}
