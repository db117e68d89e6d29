//! Keeps connections for the next request to the same place, and bounds how many are open, for each place and in all.
//!
//! A place is a scheme, host and port, and whose certificates are believed: nothing is shared across different choices.
//! An idle connection is looked at when it is taken out, and closed when its time is over by a task that lives as long as
//! there is any.

use super::Bounds;
use super::connection::{Connection, One, Shared};
use super::line::{Line, Party};
use super::target::Origin;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout};

/// How long a dial waits for the one before it to the same place, which may end in a connection for both.
const TURN_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a request may wait for a connection, whatever its timeout: from then on it is better off in the schedule.
const QUEUE_TIME_MAX: Duration = Duration::from_secs(60);

/// Which part of the places at one receiver is for parties that hold less than that part of them: a flood of requests that
/// are answered late would else have all of them whenever nobody else happens to ask.
const RESERVE: usize = 8;

/// The connections that are kept. Cheap to clone; clones are the same pool.
#[derive(Clone)]
pub(super) struct Pool {
    all: Arc<All>,
}

struct All {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    places: HashMap<Origin, Place>,
    kept: usize,
    sweeping: bool,
}

struct Place {
    idle: Vec<Idle<One>>,
    shared: Vec<Idle<Arc<Shared>>>,
    room: Arc<Room>,
}

struct Idle<C> {
    connection: C,
    since: Instant,
}

/// How many connections to one place are open, and who waits for that.
struct Room {
    open: AtomicUsize,
    open_max: usize,
    line: Line,
    // How many requests are on their way.
    used: AtomicUsize,
    // What it speaks over TLS, once that is known.
    speaks: AtomicU8,
    turn: Arc<Turn<()>>,
}

const UNKNOWN: u8 = 0;
const HTTP_1: u8 = 1;
const HTTP_2: u8 = 2;

/// Room for one open connection; given back when it is dropped.
pub(super) struct Slot(Arc<Room>);

impl Slot {
    /// Something that somebody may wait for has become free.
    pub(super) fn freed(&self) {
        self.0.line.call();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.freed();
    }
}

/// A place that a party holds: room for one request.
pub(super) struct Held {
    party: Party,
    room: Arc<Room>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.party.release();
        self.room.used.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What to send a request on.
pub(super) enum Way {
    /// A connection that stands.
    Kept(Connection),
    /// One that may be opened.
    Dial(Dial),
}

/// What whoever looks for a way may do.
#[derive(Clone, Copy)]
enum May<'a> {
    /// Anything, once nobody waits.
    Newcomer(&'a Party),
    /// Anything: it stands in line, and it is its turn.
    Called(&'a Party),
    /// Take what is kept: it has leave to dial already.
    NotDial,
}

/// Leave to open a connection.
pub(super) struct Dial {
    pub(super) slot: Slot,
    // Held until it is known whether the connection can be shared, so that others do not dial meanwhile.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Pool {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { all: Arc::new(All { bounds, state: Mutex::default() }) }
    }

    /// A connection that still stands, or leave to open one, and the place that `party` holds with it; waits where as
    /// many are open as may be.
    ///
    /// # Errors
    /// How long it waited in vain.
    pub(super) async fn way(&self, origin: &Origin, party: &Party) -> Result<(Way, Held), Duration> {
        let room = match self.try_way(origin, May::Newcomer(party)) {
            (Some(way), room) => return Ok((way, room.held(party))),
            (None, room) => room,
        };
        timeout(QUEUE_TIME_MAX, self.in_line(origin, &room, party)).await.map_err(|_| QUEUE_TIME_MAX)
    }

    async fn in_line(&self, origin: &Origin, room: &Arc<Room>, party: &Party) -> (Way, Held) {
        let mut standing = room.line.join(party);
        loop {
            standing.called().await;
            if let (Some(way), room) = self.try_way(origin, May::Called(party)) {
                return (way, room.held(party));
            }
            standing.again();
        }
    }

    /// Lets those who dial where a connection may be shared go one after the other: each but the first may find that it
    /// need not dial any more.
    pub(super) async fn in_turn(&self, origin: &Origin, dial: Dial) -> Way {
        let room = &dial.slot.0;
        if !origin.tls || room.speaks.load(Ordering::Relaxed) == HTTP_1 {
            return Way::Dial(dial);
        }
        // One that hangs does not hold back the others for long.
        let turn = timeout(TURN_TIME_MAX, Arc::clone(&room.turn).lock_owned()).await.ok();
        // Perhaps the one before it found that nothing can be shared.
        let turn = turn.filter(|_| room.speaks.load(Ordering::Relaxed) != HTTP_1);
        match self.try_way(origin, May::NotDial) {
            (Some(kept), _) => kept,
            (None, _) => Way::Dial(Dial { turn, ..dial }),
        }
    }

    fn try_way(&self, origin: &Origin, may: May<'_>) -> (Option<Way>, Arc<Room>) {
        let dial = |room: &Arc<Room>| match may {
            May::NotDial => None,
            May::Newcomer(_) | May::Called(_) => room.slot().map(|slot| Way::Dial(Dial { slot, turn: None })),
        };
        loop {
            let (mut one, room) = {
                let mut state = self.all.lock();
                let State { places, kept, .. } = &mut *state;
                let Some(place) = places.get_mut(origin) else { break };
                let room = Arc::clone(&place.room);
                if matches!(may, May::Newcomer(_)) && room.line.is_used() {
                    return (None, room);
                }
                if let Some(share) = place.share(kept) {
                    return (Some(Way::Kept(Connection::Share(share))), room);
                }
                if let May::Newcomer(party) | May::Called(party) = may
                    && !room.is_for(party)
                {
                    return (None, room);
                }
                let Some(idle) = place.idle.pop() else { return (dial(&room), room) };
                *kept -= 1;
                (idle, room)
            };
            if one.since.elapsed() < self.all.bounds.idle_time_max && one.connection.is_ready() {
                return (Some(Way::Kept(Connection::One(one.connection))), room);
            }
        }
        let room = self.place(origin);
        (dial(&room), room)
    }

    /// The room of a place that is perhaps not known yet.
    fn place(&self, origin: &Origin) -> Arc<Room> {
        let mut state = self.all.lock();
        let open_max = self.all.bounds.open_per_host_max.max(1);
        let place = state.places.entry(origin.clone()).or_insert_with(|| Place::new(open_max));
        let room = Arc::clone(&place.room);
        if !std::mem::replace(&mut state.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.all)));
        }
        room
    }

    /// Takes note of what a fresh connection speaks, and shares it where it can be.
    pub(super) fn opened(&self, origin: &Origin, shared: Option<&Arc<Shared>>, dial: Option<OwnedMutexGuard<()>>) {
        let mut state = self.all.lock();
        let State { places, kept, .. } = &mut *state;
        if let Some(place) = places.get_mut(origin) {
            place.room.speaks.store(if shared.is_some() { HTTP_2 } else { HTTP_1 }, Ordering::Relaxed);
            if let Some(shared) = shared.filter(|_| *kept < self.all.bounds.idle_max) {
                *kept += 1;
                place.shared.push(Idle { connection: Arc::clone(shared), since: Instant::now() });
                place.room.line.call();
            }
        }
        drop(dial);
    }

    /// Takes a connection back after its answer was read to the end; one that can serve no further request, or one too
    /// many, is closed.
    pub(super) fn put(&self, origin: &Origin, connection: Connection) {
        let Connection::One(mut connection) = connection else { return };
        if !connection.is_ready() {
            return;
        }
        let bounds = self.all.bounds;
        let mut state = self.all.lock();
        let State { places, kept, .. } = &mut *state;
        let Some(place) = places.get_mut(origin) else { return };
        if *kept < bounds.idle_max && place.idle.len() < bounds.idle_per_host_max {
            *kept += 1;
            place.idle.push(Idle { connection, since: Instant::now() });
            place.room.line.call();
        }
    }
}

impl Dial {
    /// Parts with what holds back the others.
    pub(super) fn into_parts(self) -> (Slot, Option<OwnedMutexGuard<()>>) {
        (self.slot, self.turn)
    }
}

impl Place {
    fn new(open_max: usize) -> Self {
        let room = Room {
            open: AtomicUsize::new(0),
            open_max,
            line: Line::default(),
            used: AtomicUsize::new(0),
            speaks: AtomicU8::new(UNKNOWN),
            turn: Arc::default(),
        };
        Self { idle: Vec::new(), shared: Vec::new(), room: Arc::new(room) }
    }

    /// A part in a connection that has room; those that stand no more are forgotten.
    fn share(&mut self, kept: &mut usize) -> Option<super::connection::Share> {
        if self.shared.is_empty() {
            return None;
        }
        let before = self.shared.len();
        self.shared.retain(|one| one.connection.stands());
        *kept -= before - self.shared.len();
        self.shared.iter_mut().find_map(|one| {
            let share = one.connection.share()?;
            one.since = Instant::now();
            Some(share)
        })
    }

    /// Closes what was idle too long.
    fn sweep(&mut self, idle_time_max: Duration) {
        self.idle.retain(|one| one.since.elapsed() < idle_time_max);
        for one in &mut self.shared {
            if !one.connection.is_idle() {
                one.since = Instant::now();
            }
        }
        self.shared.retain(|one| one.connection.stands() && one.since.elapsed() < idle_time_max);
    }

    /// Whether somebody has to do with it.
    fn is_used(&self) -> bool {
        !self.idle.is_empty() || !self.shared.is_empty() || Arc::strong_count(&self.room) > 1
    }
}

impl Room {
    /// Takes note that a party has a place.
    fn held(self: Arc<Self>, party: &Party) -> Held {
        party.hold();
        self.used.fetch_add(1, Ordering::SeqCst);
        Held { party: party.clone(), room: self }
    }

    /// Whether what is free is for this party.
    fn is_for(&self, party: &Party) -> bool {
        let reserve = self.open_max / RESERVE;
        // Over HTTP/2 there are a hundred times as many places.
        self.speaks.load(Ordering::Relaxed) == HTTP_2
            || self.used.load(Ordering::SeqCst) < self.open_max - reserve
            || party.held() < reserve
    }

    fn slot(self: &Arc<Self>) -> Option<Slot> {
        let opened =
            self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < self.open_max).then_some(n + 1));
        opened.ok().map(|_| Slot(Arc::clone(self)))
    }
}

impl All {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what was idle too long, until there is nothing or the pool is gone.
async fn sweep(pool: Weak<All>) {
    loop {
        let Some(every) = pool.upgrade().map(|pool| pool.bounds.idle_time_max / 2) else { return };
        sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.lock();
        for place in state.places.values_mut() {
            place.sweep(pool.bounds.idle_time_max);
        }
        // An open connection holds a part of its place's room.
        state.places.retain(|_, place| place.is_used());
        state.kept = state.places.values().map(|place| place.idle.len() + place.shared.len()).sum();
        if state.places.is_empty() {
            state.sweeping = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests;
