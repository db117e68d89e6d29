//! What one subscription is owed.
//!
//! What was never tried is a set of sequences in a compressed bitmap, so that millions of them cost little; what waits
//! for another attempt is kept by time.

use super::held::Held;
use super::{LeaseKey, Noted, Progress};
use crate::Standing;
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What one subscription is owed, and whether it takes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Account {
    pub(crate) name: String,
    /// When it left the configuration; `None` while it stands there.
    pub(crate) unlisted_since: Option<u64>,
    pub(crate) standing: Standing,
    pub(crate) backlog_max: u64,
    pub(crate) held: Held,
    pub(crate) noted: Noted,
    /// Whether whoever made it took it away: nothing of its name belongs to it any more.
    pub(crate) deleted: bool,
    /// The highest sequence that it was ever owed; 0 where it never was.
    pub(crate) last_owed: u64,
    /// Owed and never tried. Its minimum is the cursor.
    pub(super) fresh: RoaringTreemap,
    /// How many stand in `fresh`: the bitmap would count them anew each time.
    pub(super) fresh_count: u64,
    /// Owed and tried, or asked for again, by sequence.
    pub(super) waiting: BTreeMap<u64, Waiting>,
    /// The same by time, then sequence.
    due: BTreeSet<(u64, u64)>,
    /// Given out, by sequence.
    pub(super) leased: HashMap<u64, LeaseKey>,
}

/// A delivery that waits for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) due: u64,
    pub(crate) progress: Progress,
}

/// Where a delivery stands in an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Never tried.
    Fresh,
    /// Waits for another attempt.
    Waiting(Waiting),
    /// Given out.
    Leased(LeaseKey),
}

impl Account {
    pub(crate) fn new(name: String, backlog_max: u64) -> Self {
        Self {
            name,
            unlisted_since: None,
            standing: Standing::Active,
            backlog_max,
            held: Held::default(),
            noted: Noted::default(),
            deleted: false,
            last_owed: 0,
            fresh: RoaringTreemap::new(),
            fresh_count: 0,
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            leased: HashMap::new(),
        }
    }

    /// Whether it takes deliveries.
    pub(crate) fn takes(&self) -> bool {
        self.unlisted_since.is_none() && self.standing == Standing::Active
    }

    /// How many deliveries it is owed.
    pub(crate) fn owed(&self) -> u64 {
        self.fresh_count + (self.waiting.len() + self.leased.len()) as u64
    }

    pub(crate) fn place(&self, sequence: u64) -> Option<Place> {
        let leased = self.leased.get(&sequence).map(|lease| Place::Leased(*lease));
        let waiting = || self.waiting.get(&sequence).map(|waiting| Place::Waiting(*waiting));
        leased.or_else(waiting).or_else(|| self.fresh.contains(sequence).then_some(Place::Fresh))
    }

    /// Puts a delivery among those never tried.
    pub(crate) fn put_fresh(&mut self, sequence: u64) {
        self.fresh_count += u64::from(self.fresh.insert(sequence));
        self.last_owed = self.last_owed.max(sequence);
    }

    /// Puts a delivery among those that wait.
    pub(crate) fn put_waiting(&mut self, sequence: u64, waiting: Waiting) {
        if let Some(before) = self.waiting.insert(sequence, waiting) {
            self.due.remove(&(before.due, sequence));
        }
        self.due.insert((waiting.due, sequence));
        self.last_owed = self.last_owed.max(sequence);
    }

    /// Gives a delivery out.
    pub(crate) fn put_leased(&mut self, sequence: u64, lease: LeaseKey) {
        self.leased.insert(sequence, lease);
    }

    /// Takes a delivery out of wherever it stands; where it stood.
    pub(crate) fn take(&mut self, sequence: u64) -> Option<Place> {
        if let Some(lease) = self.leased.remove(&sequence) {
            return Some(Place::Leased(lease));
        }
        if let Some(waiting) = self.waiting.remove(&sequence) {
            self.due.remove(&(waiting.due, sequence));
            return Some(Place::Waiting(waiting));
        }
        self.fresh.remove(sequence).then(|| {
            self.fresh_count -= 1;
            Place::Fresh
        })
    }

    /// Takes up to `count` due deliveries out: retries by time, then what was never tried, by sequence.
    pub(crate) fn take_due(&mut self, count: usize, now: u64) -> Vec<(u64, Option<Waiting>)> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some((_, sequence)) = self.due.first().copied().filter(|(due, _)| *due <= now)
        {
            self.due.pop_first();
            taken.push((sequence, self.waiting.remove(&sequence)));
        }
        let fresh: Vec<u64> = self.fresh.iter().take(count - taken.len()).collect();
        if let (Some(first), Some(last)) = (fresh.first(), fresh.last()) {
            self.fresh_count -= self.fresh.remove_range(*first..=*last);
        }
        taken.extend(fresh.into_iter().map(|sequence| (sequence, None)));
        taken
    }

    /// When the next one is due that is not given out: in the past where one is due now.
    pub(crate) fn next_due(&self) -> Option<u64> {
        if self.fresh_count > 0 {
            return Some(0);
        }
        self.due.first().map(|(due, _)| *due)
    }

    /// Up to `count` deliveries that it is owed, those given out included, in any order.
    pub(crate) fn some_owed(&self, count: usize) -> Vec<u64> {
        self.waiting.keys().chain(self.leased.keys()).copied().chain(self.fresh.iter()).take(count).collect()
    }

    /// Adds the sequences between two, both included, of which it is owed something.
    pub(crate) fn add_owed_within(&self, first: u64, last: u64, owed: &mut RoaringTreemap) {
        owed.extend(self.waiting.range(first..=last).map(|(sequence, _)| *sequence));
        owed.extend(self.leased.keys().copied().filter(|sequence| (first..=last).contains(sequence)));
        let mut fresh = self.fresh.iter();
        fresh.advance_to(first);
        owed.extend(fresh.take_while(|sequence| *sequence <= last));
    }
}
