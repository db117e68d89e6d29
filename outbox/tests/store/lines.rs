//! Order by key beside a naive judge: before each claim it lists everything, and says what may be given.
//!
//! The judge knows nothing of lines: it looks at each delivery that is owed, and for an older one of its key.

use crate::fixture::*;
use crate::listings::all_deliveries;
use crate::ordering::of;
use crate::stepped::Stepped;
use posthaste_events::seams::Clock as _;
use posthaste_events::{DeliveryId, State, SubscriptionId};
use posthaste_outbox::disk::SimDisk;
use posthaste_outbox::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const KEYS: [Option<&str>; 4] = [None, Some("x"), Some("y"), Some("z")];
const LEASE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
enum Op {
    Record(Vec<usize>),
    Claim(usize),
    Settle(usize, Then),
    Ask(usize, Wish),
    CancelOwed,
    Forward(u64),
    Order(bool),
    /// A kill, or a power cut.
    Crash(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let then = prop_oneof![
        5 => Just(Then::Delivered),
        3 => (0_u64..9_000).prop_map(|wait| Then::RetryIn(Duration::from_millis(wait))),
        1 => Just(Then::Dead("no".into())),
        1 => Just(Then::Release),
    ];
    prop_oneof![
        6 => proptest::collection::vec(0..KEYS.len(), 1..8).prop_map(Op::Record),
        8 => (1_usize..6).prop_map(Op::Claim),
        8 => (any::<usize>(), then).prop_map(|(which, then)| Op::Settle(which, then)),
        3 => (any::<usize>(), prop_oneof![Just(Wish::Retry), Just(Wish::Cancel)]).prop_map(|(n, w)| Op::Ask(n, w)),
        1 => Just(Op::CancelOwed),
        2 => (1_u64..20_000).prop_map(Op::Forward),
        1 => any::<bool>().prop_map(Op::Order),
        1 => any::<bool>().prop_map(Op::Crash),
    ]
}

/// A store, and what was given out by it.
struct Bench {
    f: Fixture,
    disk: Option<SimDisk>,
    random: Arc<Counted>,
    id: SubscriptionId,
    ordered: bool,
    out: Vec<(Leased, u64)>,
}

/// What the judge makes of everything that is listed.
struct Judged {
    /// What may be given now.
    now: Vec<DeliveryId>,
    /// When the next one may be that may not be now, in milliseconds.
    next: Option<u64>,
}

impl Bench {
    /// In memory, or on this disk.
    async fn new(disk: Option<SimDisk>) -> Self {
        let f = Stores::Memory.open();
        let mut bench = Self { f, disk, random: Arc::default(), id: SubscriptionId(0), ordered: true, out: Vec::new() };
        bench.open();
        bench.id = bench.f.enroll_one(true).await;
        bench
    }

    fn open(&mut self) {
        let Some(disk) = self.disk.clone() else { return };
        let generation = GenerationLimits { events_max: 6, rows_max: 25, ..GenerationLimits::default() };
        let limits = Limits { free_min: 0, generation, ..Limits::default() };
        let (clock, random) = (Arc::clone(&self.f.clock), Arc::clone(&self.random));
        let opened = GenerationOutbox::open_by_hand(Arc::new(disk), clock as _, random as _, limits);
        let (outbox, stepper) = opened.unwrap();
        self.f = Fixture::over(Stepped::wrap(Arc::new(outbox), Some(stepper)), Arc::clone(&self.f.clock));
    }

    fn now(&self) -> u64 {
        u64::try_from(self.f.clock.wall().millis()).unwrap()
    }

    /// Everything that was ever owed, oldest first: which, of which key, whether it is owed, when it is due.
    async fn listed(&self) -> Vec<(DeliveryId, Option<String>, bool, u64)> {
        let query = DeliveryQuery { limit: 1_000, work_max: 100_000, ..all_deliveries() };
        let mut rows = self.f.outbox.deliveries(query).await.unwrap().rows;
        rows.sort_by_key(|row| row.id);
        // One that is given out is due at no time that is shown; once its lease is over it is due at once.
        let due = |row: &DeliveryRow| row.next_attempt_at.map_or(0, |at| u64::try_from(at.millis()).unwrap());
        rows.iter().map(|row| (row.id, row.facts.key.clone(), row.state == State::Pending, due(row))).collect()
    }

    /// What may be given, where deliveries go by key or as they come.
    async fn judge(&mut self, ordered: bool) -> Judged {
        let now = self.now();
        self.out.retain(|(_, until)| now < *until);
        let (mut judged, mut passed) = (Judged { now: Vec::new(), next: None }, Vec::new());
        for (id, key, is_owed, due) in self.listed().await {
            let is_out = self.out.iter().any(|(leased, _)| leased.delivery == id);
            let key_is_out = key.is_some() && self.out.iter().any(|(leased, _)| leased.facts.key == key);
            let waits = ordered && (key_is_out || key.is_some() && passed.contains(&key));
            if is_owed {
                passed.push(key);
            }
            if !is_owed || is_out || waits {
                continue;
            }
            if due <= now {
                judged.now.push(id);
            } else {
                judged.next = Some(judged.next.map_or(due, |next: u64| next.min(due)));
            }
        }
        judged
    }

    /// Claims, and holds what is given against what a judge of this mind allows.
    async fn claim(&mut self, count: usize, ordered: bool) -> Result<(), String> {
        let Judged { now, next } = self.judge(ordered).await;
        let want = Want { count, fresh_min: 0, bytes: usize::MAX, lease: LEASE };
        let claimed = self.f.outbox.claim(self.id, want).await.unwrap();
        let given: Vec<_> = claimed.deliveries.iter().map(|leased| leased.delivery).collect();
        if let Some(wrong) = given.iter().find(|id| !now.contains(id)) {
            return Err(format!("{wrong:?} was given, but only {now:?} may be"));
        }
        if given.len() != now.len().min(count) {
            return Err(format!("{given:?} was given of {now:?}"));
        }
        let wait = next.map(|at| Duration::from_millis(at - self.now()));
        // Where as many were given as were wanted, the store need not have looked further.
        let said =
            if given.len() == count { claimed.next_due.filter(|wait| !wait.is_zero()) } else { claimed.next_due };
        if said != wait && !(given.len() == count && said.is_none()) {
            return Err(format!("the next one is due in {wait:?}, but {said:?} was said"));
        }
        let until = self.now() + u64::try_from(LEASE.as_millis()).unwrap();
        self.out.extend(claimed.deliveries.into_iter().map(|leased| (leased, until)));
        Ok(())
    }

    async fn act(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Record(keys) => {
                self.f.record(keys.into_iter().map(|key| of(KEYS[key], &[self.id])).collect()).await;
            }
            Op::Claim(count) => self.claim(count, self.ordered).await?,
            Op::Settle(which, then) if !self.out.is_empty() => {
                let (leased, _) = self.out.remove(which % self.out.len());
                self.f.settle(&leased, then).await;
            }
            Op::Ask(which, wish) => {
                let all = self.listed().await;
                if let Some((id, ..)) = all.get(which % all.len().max(1)) {
                    self.f.outbox.ask(*id, wish).await.unwrap();
                }
            }
            Op::CancelOwed => drop(self.f.outbox.cancel_owed(self.id, "off".into()).await.unwrap()),
            Op::Forward(millis) => self.f.clock.forward(Duration::from_millis(millis)),
            Op::Order(ordered) => {
                self.ordered = ordered;
                self.f.enroll_one(ordered).await;
            }
            Op::Crash(power_cut) => {
                let Some(disk) = self.disk.clone() else { return Ok(()) };
                // The store must be gone before its disk loses anything.
                self.f = Fixture::over(Stores::Memory.open().outbox, Arc::clone(&self.f.clock));
                if power_cut {
                    disk.crash()
                } else {
                    disk.kill()
                }
                self.open();
                self.out.clear();
                self.f.enroll_one(self.ordered).await;
            }
            Op::Settle(..) => {}
        }
        Ok(())
    }
}

fn judged(ops: Vec<Op>, on_disk: bool) -> Result<(), TestCaseError> {
    let mut result = Ok(());
    run(async {
        let mut bench = Bench::new(on_disk.then(|| SimDisk::new(7))).await;
        for op in ops {
            result = bench.act(op).await;
            if result.is_err() {
                return;
            }
        }
        bench.f.clock.forward(Duration::from_secs(60));
        result = bench.claim(1_000, bench.ordered).await;
    });
    result.map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn in_memory_a_claim_gives_exactly_what_a_naive_judge_allows(ops in proptest::collection::vec(op(), 1..60)) {
        judged(ops, false)?;
    }

    #[test]
    fn over_crashes_a_claim_gives_exactly_what_a_naive_judge_allows(ops in proptest::collection::vec(op(), 1..60)) {
        judged(ops, true)?;
    }
}

#[test]
fn the_judge_of_order_finds_deliveries_that_go_as_they_come() {
    run(async {
        let mut bench = Bench::new(None).await;
        bench.act(Op::Order(false)).await.unwrap();
        bench.act(Op::Record(vec![1, 1, 2])).await.unwrap();
        assert!(bench.claim(2, true).await.unwrap_err().contains("was given, but only"));
    });
}
