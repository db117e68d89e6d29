//! Who waits for a place at one receiver, and whose turn it is when one becomes free.
//!
//! A place is room for one request. What becomes free is for the party that holds the fewest places there and waits; of
//! several such for the one that was not called for the longest time; within a party for who came first. So one that
//! floods a receiver has what the others leave, and nearly all of it where nobody else asks. What a place is, and whether
//! one is free for somebody, is the pool's business: whoever is called looks for itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// On whose behalf requests are sent: places at a receiver are shared out fairly among parties. Clones are the same party.
#[derive(Debug, Clone, Default)]
pub struct Party(Arc<AtomicUsize>);

impl Party {
    /// It holds one place more.
    pub(super) fn hold(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// It holds one place less.
    pub(super) fn release(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many places it holds.
    pub(super) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The line before one receiver.
#[derive(Default)]
pub(super) struct Line {
    // All who have joined, so that whoever comes later sees that somebody waits without a lock.
    joined: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    // Who waits and was not called, by party; the one that was called last is the last.
    standing: VecDeque<Group>,
    // How many were called and still look.
    looking: usize,
    // Whether something became free or somebody came while they look: who looks in vain then has looked too early, or not
    // on behalf of all.
    missed: bool,
}

struct Group {
    party: Party,
    wakes: VecDeque<Arc<Notify>>,
}

impl Line {
    /// Whether somebody waits, so that whoever comes now has to join.
    pub(super) fn is_used(&self) -> bool {
        self.joined.load(Ordering::SeqCst) > 0
    }

    /// Somebody who stands behind all of its party. It is called at once where its party holds fewer than any other: what
    /// the others may not have may be for it.
    pub(super) fn join<'a>(&'a self, party: &'a Party) -> Standing<'a> {
        self.joined.fetch_add(1, Ordering::SeqCst);
        let wake = Arc::<Notify>::default();
        let mut state = self.lock();
        state.missed |= state.looking > 0;
        match state.standing.iter_mut().find(|group| group.party.is(party)) {
            Some(group) => group.wakes.push_back(Arc::clone(&wake)),
            None => {
                let held = party.held();
                let first = state.looking == 0 && state.standing.iter().all(|group| group.party.held() > held);
                let group = Group { party: party.clone(), wakes: VecDeque::from([Arc::clone(&wake)]) };
                state.standing.push_back(group);
                if first {
                    state.call();
                }
            }
        }
        Standing { line: self, party, wake, called: false }
    }

    /// Calls whoever's turn it is: something has become free. Takes no lock but its own, so it may be called under others.
    pub(super) fn call(&self) {
        if self.is_used() {
            let mut state = self.lock();
            state.missed |= state.looking > 0;
            state.call();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn call(&mut self) {
        let fewest = self.standing.iter().enumerate().min_by_key(|(_, group)| group.party.held()).map(|(at, _)| at);
        let Some(mut group) = fewest.and_then(|at| self.standing.remove(at)) else { return };
        if let Some(wake) = group.wakes.pop_front() {
            self.looking += 1;
            wake.notify_one();
        }
        if !group.wakes.is_empty() {
            self.standing.push_back(group);
        }
    }
}

/// One who stands in line; dropped once it has a place or has given up, whereupon the next may look.
pub(super) struct Standing<'a> {
    line: &'a Line,
    party: &'a Party,
    wake: Arc<Notify>,
    called: bool,
}

impl Standing<'_> {
    /// Waits until it is its turn to look.
    pub(super) async fn called(&mut self) {
        self.wake.notified().await;
        self.called = true;
    }

    /// It looked in vain after it was called, and is the first again. Where something happened meanwhile, whoever's turn it
    /// is looks again.
    pub(super) fn again(&mut self) {
        let mut state = self.line.lock();
        let at = state.standing.iter().position(|group| group.party.is(self.party));
        let mut wakes = at.and_then(|at| state.standing.remove(at)).map(|group| group.wakes).unwrap_or_default();
        wakes.push_front(Arc::clone(&self.wake));
        state.standing.push_front(Group { party: self.party.clone(), wakes });
        state.looking -= 1;
        self.called = false;
        if std::mem::take(&mut state.missed) {
            state.call();
        }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.line.joined.fetch_sub(1, Ordering::SeqCst);
        let mut state = self.line.lock();
        let at = state.standing.iter().position(|group| group.party.is(self.party));
        let before = |group: &mut Group| {
            let before = group.wakes.len();
            group.wakes.retain(|wake| !Arc::ptr_eq(wake, &self.wake));
            group.wakes.len() < before
        };
        let stood = !self.called && at.is_some_and(|at| before(&mut state.standing[at]));
        if let Some(at) = at.filter(|at| state.standing[*at].wakes.is_empty()) {
            state.standing.remove(at);
        }
        if !stood {
            // It got something, and there may be more; or it gave up after it was called, perhaps before it knew.
            state.looking -= 1;
            state.missed |= state.looking > 0;
            state.call();
        }
    }
}
