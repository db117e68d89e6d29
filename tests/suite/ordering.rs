//! Order by key over failures, deaths and kill -9: at the receiver, the first arrivals of each key come in the order in
//! which their events were recorded.

use crate::{folder, size};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Daemon, Ledger, Load, Receiver, Reply, Request, Shape, Subscription, held};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

/// Entities at once.
const KEYS: u64 = 50;
/// Fewer acknowledged events prove nothing.
const PROMISED_MIN: usize = 1_000;

/// The entity that an event is about.
fn key(n: u64) -> u64 {
    n % KEYS
}

/// Whether an event is one that the receiver never takes.
fn refused(n: u64) -> bool {
    n % 97 == 3
}

/// What arrived well for the first time, key by key: the sequences in this order.
#[derive(Default)]
struct Arrivals {
    seen: BTreeSet<u64>,
    lines: BTreeMap<u64, Vec<u64>>,
}

impl Arrivals {
    /// Those that came behind a younger one of their key.
    fn overtaken(&self) -> Vec<(u64, u64)> {
        let behind = |(key, line): (&u64, &Vec<u64>)| {
            let pairs: Vec<_> = line.windows(2).filter(|pair| pair[0] > pair[1]).map(|pair| (*key, pair[1])).collect();
            pairs
        };
        self.lines.iter().flat_map(behind).collect()
    }
}

/// Answers: some are refused for good, some fail a few times, and what arrives well is noted.
fn answer(arrivals: &Mutex<Arrivals>, ledger: &Ledger, request: &Request) -> Reply {
    let number = |name| request.header(name).parse::<u64>();
    let (attempt, sequence) = (number("posthaste-attempt"), number("posthaste-sequence"));
    let (Some(n), Ok(attempt), Ok(sequence)) = (ledger.arrive(request), attempt, sequence) else {
        return Reply::Status(500);
    };
    if refused(n) {
        return Reply::Status(400);
    }
    let failures: u64 = if n % 16 == 5 { 3 } else { u64::from(n % 4 == 1) };
    if attempt <= failures {
        return Reply::Status(503);
    }
    let mut arrivals = held(arrivals);
    if arrivals.seen.insert(n) {
        arrivals.lines.entry(key(n)).or_default().push(sequence);
    }
    Reply::Status(200)
}

/// What a storm left.
struct Aftermath {
    promised: usize,
    /// Acknowledged, neither arrived nor refused.
    lost: Vec<u64>,
    arrivals: Arrivals,
}

/// Kills the daemon `kills` times while events of many keys are posted and delivered, then lets it deliver the rest.
fn storm(ordering: &str, kills: u32, seed: u64) -> Result<Aftermath> {
    let folder = folder()?;
    let (ledger, arrivals) = (Ledger::default(), Arc::new(Mutex::new(Arrivals::default())));
    let (book, noted) = (ledger.clone(), Arc::clone(&arrivals));
    let receiver = Receiver::start(move |request| answer(&noted, &book, request))?;
    let hook = Subscription::webhook("lines", &receiver.url("/"))
        .set("events", vec!["load:**"])
        .set("concurrency", 32)
        .set("give_up_on", vec![400])
        .set("ordering", ordering);
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?;
    let mut random = StdRng::seed_from_u64(seed);
    daemon.start()?;
    let shape = Shape { connections: 4, key: |n| Some(format!("entity-{}", key(n))), ..Shape::default() };
    let load = Load::start(daemon.address(), &shape, 0, &ledger);
    let mut killed = 0;
    while killed < kills || ledger.promised() <= PROMISED_MIN {
        ensure!(killed < kills * 10, "seed {seed}: {} promised in {killed} lives", ledger.promised());
        sleep(Duration::from_millis(random.random_range(100..500)));
        daemon.kill9()?;
        daemon.start()?;
        killed += 1;
    }
    load.stop()?;
    daemon.settled("lines", Duration::from_secs(300))?;
    let arrivals = std::mem::take(&mut *held(&arrivals));
    let promised = ledger.promised_numbers();
    let lost = promised.iter().filter(|n| !refused(**n) && !arrivals.seen.contains(n)).copied().collect();
    Ok(Aftermath { promised: promised.len(), lost, arrivals })
}

#[test]
fn each_key_arrives_in_order_over_failures_deaths_and_kills() -> Result<()> {
    let seed = rand::random();
    let after = storm("key", size(10, 50), seed)?;
    let overtaken = after.arrivals.overtaken();
    ensure!(overtaken.is_empty(), "seed {seed}: of {} promised, (key, sequence): {overtaken:?}", after.promised);
    ensure!(after.lost.is_empty(), "seed {seed}: of {} promised, lost: {:?}", after.promised, after.lost);
    ensure!(after.arrivals.lines.len() as u64 == KEYS, "seed {seed}: some key never arrived");
    Ok(())
}

#[test]
fn control_without_order_by_key_younger_events_overtake_older_ones() -> Result<()> {
    let after = storm("none", 2, 1)?;
    ensure!(!after.arrivals.overtaken().is_empty(), "the test can not see disorder in {} events", after.promised);
    Ok(())
}

#[test]
fn a_delivery_that_died_lets_the_next_of_its_key_go_on() -> Result<()> {
    let folder = folder()?;
    let (ledger, arrivals) = (Ledger::default(), Arc::new(Mutex::new(Arrivals::default())));
    let (book, noted) = (ledger.clone(), Arc::clone(&arrivals));
    let receiver = Receiver::start(move |request| answer(&noted, &book, request))?;
    let hook = Subscription::webhook("lines", &receiver.url("/")).set("give_up_on", vec![400]).set("ordering", "key");
    let mut daemon = Daemon::new(folder.path(), Config::default().subscribe(hook))?;
    daemon.start()?;
    let mut client = daemon.client();
    // The first of the three is refused for good, the second fails once.
    for n in [3, 1, 2] {
        let event = serde_json::json!({ "type": "load:posted", "key": "one", "properties": { "n": n } });
        let said = client.post("/v1/events", &event)?;
        ensure!(said.status == 202, "{}", said.status);
        ledger.promise(n, said.json()?["id"].as_str().context("an id")?);
    }
    daemon.settled("lines", Duration::from_secs(30))?;
    let lines = &held(&arrivals).lines;
    let order: Vec<_> = [1, 2].iter().filter_map(|n| lines.get(n).and_then(|line| line.first())).collect();
    ensure!(order.len() == 2 && order[0] < order[1], "{lines:?}");
    ensure!(ledger.arrivals(3) == 1 && ledger.arrivals(1) == 2, "one is given up at once, one tried again");
    Ok(())
}
