//! Who runs the store's work: its threads, or a simulation by hand.
//!
//! Three lanes: the writer with its group commit, one for claims whose events must be read, one for everything that
//! somebody looks at and for the upkeep, so that a long listing delays no delivery. The threads are thin: they wait,
//! take what is there, and call the store.

use crate::limits::QueueLimits;
use crate::store::Store;
use crate::store::commit::{Batch, RETRY_AFTER, RecordJob, Reply};
use crate::{RecordError, StoreError};
use posthaste_events::Prepared;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a settlement waits for company before it is written.
const SETTLED_WITHIN: Duration = Duration::from_millis(20);
/// How much one batch takes at most.
const BATCH_EVENTS_MAX: usize = 4_096;
const BATCH_BYTES_MAX: usize = 8 << 20;
/// What an event counts in the queue beside its payloads.
const EVENT_BYTES: usize = 256;
/// How many reads may wait in one lane.
const READS_MAX: usize = 4_096;

/// A read that runs on a lane.
type Read = Box<dyn FnOnce(&Store) + Send>;

/// Which lane a read runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For deliveries.
    Claims,
    /// For people, and the upkeep.
    Looks,
}

/// The work that waits.
pub(crate) struct Lanes {
    store: Arc<Store>,
    limits: QueueLimits,
    writes: Queue<Writes>,
    claims: Queue<VecDeque<Read>>,
    looks: Queue<VecDeque<Read>>,
    /// Held by whoever changes subscriptions, until that is durable or undone.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Writes {
    records: VecDeque<RecordJob>,
    barriers: Vec<Reply<Result<(), StoreError>>>,
    events: usize,
    bytes: usize,
    /// Whether something waits that has no caller.
    settled: bool,
}

/// A queue that can be waited at.
#[derive(Default)]
struct Queue<T> {
    waiting: Mutex<(T, bool)>,
    ready: Condvar,
}

impl<T> Queue<T> {
    /// The work, and whether no more comes.
    fn lock(&self) -> MutexGuard<'_, (T, bool)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().1 = true;
        self.ready.notify_all();
    }
}

impl Lanes {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let limits = store.limits.queue;
        let (writes, claims, looks) = (Queue::default(), Queue::default(), Queue::default());
        Self { store, limits, writes, claims, looks, changing: tokio::sync::Mutex::default() }
    }

    pub(crate) const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Hands events to the writer; the answer comes by `reply`.
    pub(crate) fn record(&self, job: RecordJob) {
        let bytes = size(&job.events);
        let mut queue = self.writes.lock();
        let (writes, ended) = &mut *queue;
        let full =
            writes.events + job.events.len() > self.limits.events_max || writes.bytes + bytes > self.limits.bytes_max;
        // One array is taken however long it is, where nothing else waits.
        let refused = match (*ended, full && writes.events > 0) {
            (true, _) => Some(StoreError::Closed.into()),
            (false, true) => Some(RecordError::Full {
                reason: "too many events wait to be written".into(),
                retry_after: RETRY_AFTER,
            }),
            (false, false) => None,
        };
        if let Some(refused) = refused {
            drop(queue);
            let _ = job.reply.send(Err(refused));
            return;
        }
        writes.events += job.events.len();
        writes.bytes += bytes;
        writes.records.push_back(job);
        drop(queue);
        self.writes.ready.notify_one();
    }

    /// Asks to be told when everything before is durable.
    pub(crate) fn barrier(&self, reply: Reply<Result<(), StoreError>>) {
        let mut queue = self.writes.lock();
        if queue.1 {
            drop(queue);
            let _ = reply.send(Err(StoreError::Closed));
            return;
        }
        queue.0.barriers.push(reply);
        drop(queue);
        self.writes.ready.notify_one();
    }

    /// Says that something waits to be written for which nobody waits.
    pub(crate) fn settled(&self) {
        let mut queue = self.writes.lock();
        if !std::mem::replace(&mut queue.0.settled, true) {
            drop(queue);
            self.writes.ready.notify_one();
        }
    }

    /// Has something read.
    pub(crate) fn read(&self, lane: Lane, read: Read) {
        let queue = match lane {
            Lane::Claims => &self.claims,
            Lane::Looks => &self.looks,
        };
        let mut waiting = queue.lock();
        // Dropping it tells whoever waits.
        if !waiting.1 && waiting.0.len() < READS_MAX {
            waiting.0.push_back(read);
            drop(waiting);
            queue.ready.notify_one();
        }
    }

    /// Has something done before everything that waits to be looked at, however much that is.
    pub(crate) fn read_first(&self, read: Read) {
        let mut waiting = self.looks.lock();
        // Dropping it tells whoever waits.
        if !waiting.1 {
            waiting.0.push_front(read);
            drop(waiting);
            self.looks.ready.notify_one();
        }
    }

    /// Runs everything that waits, by hand; whether there was anything.
    pub(crate) fn step(&self) -> bool {
        let mut worked = false;
        for queue in [&self.claims, &self.looks] {
            while let Some(read) = { queue.lock().0.pop_front() } {
                worked = true;
                read(&self.store);
            }
        }
        let batch = {
            let mut queue = self.writes.lock();
            queue.0.anything().then(|| queue.0.take())
        };
        if let Some(batch) = batch {
            worked = true;
            self.write(batch);
        }
        worked
    }

    fn write(&self, batch: Batch) {
        let written = catch_unwind(AssertUnwindSafe(|| {
            let mut writer = self.store.writer();
            self.store.commit(&mut writer, batch)
        }));
        match written {
            Ok(Ok(())) => {
                if let Some(generation) = self.store.spare_wanted() {
                    self.read(Lane::Looks, Box::new(move |store| store.make_spare(generation)));
                }
            }
            // Told to everybody in the batch; what has no caller is tried again.
            Ok(Err(_)) => self.writes.lock().0.settled = self.store.unwritten(),
            Err(_) => tracing::error!("the writer of the outbox panicked; whoever waited is told"),
        }
    }

    fn run_writer(&self) {
        loop {
            let mut queue = self.writes.lock();
            while !queue.0.anything() && !queue.1 {
                queue = self.writes.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if !queue.0.urgent() && !queue.1 {
                let urgent = |queue: &mut (Writes, bool)| !queue.0.urgent() && !queue.1;
                let waited = self.writes.ready.wait_timeout_while(queue, SETTLED_WITHIN, urgent);
                queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if !queue.0.anything() && queue.1 {
                return;
            }
            let ended = queue.1;
            let batch = queue.0.take();
            drop(queue);
            self.write(batch);
            if ended {
                // What still fails now is left: a start finds what was durable.
                self.writes.lock().0.settled = false;
            }
        }
    }

    fn run_reads(&self, lane: Lane) {
        let queue = if lane == Lane::Claims { &self.claims } else { &self.looks };
        loop {
            let mut waiting = queue.lock();
            while waiting.0.is_empty() && !waiting.1 {
                waiting = queue.ready.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let Some(read) = waiting.0.pop_front() else { return };
            drop(waiting);
            if catch_unwind(AssertUnwindSafe(|| read(&self.store))).is_err() {
                tracing::error!("a read of the outbox panicked; whoever waited is told");
            }
        }
    }

    /// No more work is taken; what waits is done.
    pub(crate) fn end(&self) {
        self.writes.end();
        self.claims.end();
        self.looks.end();
    }
}

impl Writes {
    fn anything(&self) -> bool {
        self.settled || self.urgent()
    }

    /// Whether somebody waits.
    fn urgent(&self) -> bool {
        !self.records.is_empty() || !self.barriers.is_empty()
    }

    fn take(&mut self) -> Batch {
        self.settled = false;
        let mut batch = Batch::default();
        let (mut events, mut bytes) = (0, 0);
        while let Some(job) = self.records.front() {
            let (more, size) = (job.events.len(), size(&job.events));
            let full = events + more > BATCH_EVENTS_MAX || bytes + size > BATCH_BYTES_MAX;
            if full && !batch.records.is_empty() {
                // Whoever waits for everything before is answered with a later batch.
                self.events -= events;
                self.bytes -= bytes;
                return batch;
            }
            events += more;
            bytes += size;
            batch.records.extend(self.records.pop_front());
        }
        self.events -= events;
        self.bytes -= bytes;
        batch.barriers = std::mem::take(&mut self.barriers);
        batch
    }
}

fn size(events: &[Prepared]) -> usize {
    events.iter().map(|event| event.payloads.len() + EVENT_BYTES).sum()
}

/// What a thread does.
type Run = fn(&Lanes);

/// The threads of a store.
pub(crate) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Starts them.
    pub(crate) fn start(lanes: &Arc<Lanes>) -> std::io::Result<Self> {
        let mut threads = Self(Vec::new());
        let run: [(&str, Run); 3] = [
            ("outbox-writer", |lanes| lanes.run_writer()),
            ("outbox-claims", |lanes| lanes.run_reads(Lane::Claims)),
            ("outbox-looks", |lanes| lanes.run_reads(Lane::Looks)),
        ];
        for (name, run) in run {
            let of_thread = Arc::clone(lanes);
            let started = std::thread::Builder::new().name(name.into()).spawn(move || run(&of_thread));
            match started {
                Ok(thread) => threads.0.push(thread),
                Err(error) => {
                    lanes.end();
                    threads.join();
                    return Err(error);
                }
            }
        }
        Ok(threads)
    }

    /// Waits for their end.
    pub(crate) fn join(&mut self) {
        for thread in self.0.drain(..) {
            // A thread catches the panics of its work; one of its own has nobody to be told.
            let _ = thread.join();
        }
    }
}
