//! What one subscription is owed.
//!
//! What was never tried is a set of sequences in a compressed bitmap, so that millions of them cost little; what waits
//! for another attempt is kept by time.

use super::held::Held;
use super::order::{Line, Order};
use super::{LeaseKey, Noted, Part, Progress};
use crate::Standing;
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What one subscription is owed, and whether it takes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Account {
    pub(crate) name: Arc<str>,
    /// When it left the configuration; `None` while it stands there.
    pub(crate) unlisted_since: Option<u64>,
    pub(crate) standing: Standing,
    pub(crate) backlog_max: u64,
    pub(crate) held: Held,
    pub(crate) noted: Noted,
    /// Whether whoever made it took it away: nothing of its name belongs to it any more.
    pub(crate) deleted: bool,
    /// Whether it was listed last as one of those that the outbox keeps: of a name, that is another subscription than the
    /// one of the configuration.
    pub(crate) kept: bool,
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
    /// Which of `fresh` and `waiting` may be given out, where they go by key.
    order: Option<Box<Order>>,
}

/// How many neighbours of a due retry are looked at, due or not.
const NEAR_MAX: usize = 1_024;

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
    pub(crate) fn new(name: impl Into<Arc<str>>, backlog_max: u64) -> Self {
        Self {
            name: name.into(),
            unlisted_since: None,
            standing: Standing::Active,
            backlog_max,
            held: Held::default(),
            noted: Noted::default(),
            deleted: false,
            kept: false,
            last_owed: 0,
            fresh: RoaringTreemap::new(),
            fresh_count: 0,
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            leased: HashMap::new(),
            order: None,
        }
    }

    /// Whether its deliveries go by key.
    pub(crate) const fn is_ordered(&self) -> bool {
        self.order.is_some()
    }

    /// Has its deliveries go by key, those included that are given out: `outside`.
    pub(super) fn begin_order(&mut self, outside: BTreeSet<u64>) {
        let mut strangers = self.fresh.clone();
        strangers.extend(self.waiting.keys().copied());
        self.order = Some(Box::new(Order::new(strangers, outside)));
    }

    /// Has its deliveries go as they come.
    pub(super) fn end_order(&mut self) {
        self.order = None;
    }

    /// The sequence whose key must be learnt before all that is asked for can be given out.
    pub(super) fn to_learn(&self, part: Part, now: u64) -> Option<u64> {
        self.order.as_ref()?.to_learn(part, now)
    }

    /// Learns in which line a delivery stands; true where it is given out, so that its lease must know.
    pub(super) fn learn(&mut self, sequence: u64, line: Line) -> bool {
        let Some(order) = &mut self.order else { return false };
        if order.is_stranger(sequence) {
            order.put(sequence, line, &self.waiting);
        }
        order.learn_outside(sequence, line)
    }

    /// The line of a delivery that is not given out, where it was learnt.
    pub(super) fn line(&self, sequence: u64) -> Option<Line> {
        self.order.as_ref()?.line(sequence)
    }

    /// Whether a delivery is the first of its line and none of that is given out.
    pub(super) fn is_first(&self, sequence: u64) -> bool {
        self.order.as_ref().is_some_and(|order| order.is_open(sequence))
    }

    /// Notes that a lease ended.
    pub(super) fn end_lease(&mut self, sequence: u64, line: Option<Line>) {
        if let Some(order) = &mut self.order {
            order.put_back(sequence, line, &self.waiting);
        }
    }

    /// Whether a subscription of its name is this one: not where it was deleted and is gone.
    pub(crate) const fn holds_its_name(&self) -> bool {
        !self.deleted || self.unlisted_since.is_none()
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

    /// Puts a delivery among those never tried; with its line, where that is known.
    pub(super) fn put_fresh(&mut self, sequence: u64, line: Option<Line>) {
        self.fresh_count += u64::from(self.fresh.insert(sequence));
        self.last_owed = self.last_owed.max(sequence);
        self.line_up(sequence, line);
    }

    /// Puts a delivery among those that wait; with its line, where that is known.
    pub(super) fn put_waiting(&mut self, sequence: u64, waiting: Waiting, line: Option<Line>) {
        if let Some(before) = self.waiting.insert(sequence, waiting) {
            self.due.remove(&(before.due, sequence));
        }
        self.due.insert((waiting.due, sequence));
        self.last_owed = self.last_owed.max(sequence);
        self.line_up(sequence, line);
    }

    fn line_up(&mut self, sequence: u64, line: Option<Line>) {
        match (&mut self.order, line) {
            (Some(order), Some(line)) => order.put(sequence, line, &self.waiting),
            (Some(order), None) => order.put_stranger(sequence),
            (None, _) => {}
        }
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
            self.leave_line(sequence);
            return Some(Place::Waiting(waiting));
        }
        self.fresh.remove(sequence).then(|| {
            self.fresh_count -= 1;
            self.leave_line(sequence);
            Place::Fresh
        })
    }

    fn leave_line(&mut self, sequence: u64) {
        if let Some(order) = &mut self.order {
            order.remove(sequence, &self.waiting);
        }
    }

    /// Takes due deliveries out: retries, then what was never tried, by sequence, or both in turn. Where they go by
    /// key, only the first of each line, and with its line.
    pub(super) fn take_due(&mut self, part: Part, now: u64) -> Vec<(u64, Option<Waiting>, Option<Line>)> {
        if let Some(order) = &mut self.order {
            let taken = order.take(part, now, &self.waiting);
            return taken
                .into_iter()
                .map(|(sequence, line)| (sequence, self.take_first(sequence), Some(line)))
                .collect();
        }
        let retries_max = part.retries_max(usize::try_from(self.fresh_count).unwrap_or(usize::MAX));
        let retries = self.take_retries(retries_max, now);
        let fresh: Vec<u64> = self.fresh.iter().take(part.count - retries.len()).collect();
        if let (Some(first), Some(last)) = (fresh.first(), fresh.last()) {
            self.fresh_count -= self.fresh.remove_range(*first..=*last);
        }
        part.in_turn(retries, fresh.into_iter().map(|sequence| (sequence, None, None)).collect())
    }

    /// Takes up to `count` due retries out: the one that has been due the longest, then those due that were recorded
    /// behind it, and so on. Neighbours lie in one generation, so that a long backlog is read generation by generation.
    fn take_retries(&mut self, count: usize, now: u64) -> Vec<(u64, Option<Waiting>, Option<Line>)> {
        let mut retries = Vec::new();
        while retries.len() < count
            && let Some((_, oldest)) = self.due.first().copied().filter(|(due, _)| *due <= now)
        {
            let near = self.waiting.range(oldest..).take(NEAR_MAX).filter(|(_, waiting)| waiting.due <= now);
            let near: Vec<u64> = near.take(count - retries.len()).map(|(sequence, _)| *sequence).collect();
            for sequence in near {
                retries.push((sequence, self.take_first(sequence), None));
            }
        }
        retries
    }

    /// Takes one out that left its line already.
    fn take_first(&mut self, sequence: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&sequence);
        match waiting {
            Some(waiting) => drop(self.due.remove(&(waiting.due, sequence))),
            None => self.fresh_count -= u64::from(self.fresh.remove(sequence)),
        }
        waiting
    }

    /// When the next one is due that is not given out: in the past where one is due now.
    pub(crate) fn next_due(&self) -> Option<u64> {
        if let Some(order) = &self.order {
            return order.next_due();
        }
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
        if self.owed() == 0 {
            return;
        }
        owed.extend(self.waiting.range(first..=last).map(|(sequence, _)| *sequence));
        owed.extend(self.leased.keys().copied().filter(|sequence| (first..=last).contains(sequence)));
        let mut fresh = self.fresh.iter();
        fresh.advance_to(first);
        owed.extend(fresh.take_while(|sequence| *sequence <= last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_retries_are_taken_by_neighbourhood_however_their_times_are_mixed() {
        let mut account = Account::new("a", 1_000_000);
        let waiting = |due| Waiting { due, progress: Progress::default() };
        for sequence in 0..10_000_u64 {
            // Every hundredth is due later; the others became due in a mixed order, the first of all in the middle.
            let due =
                if sequence % 100 == 7 { 5_000 } else { (sequence * 7_919 + 1) % 1_000 + u64::from(sequence != 5_000) };
            account.put_waiting(sequence, waiting(due), None);
        }
        let oldest = account.due.first().unwrap().1;
        let taken = account.take_due(Part { count: 500, fresh_min: 0 }, 1_001);
        let sequences: Vec<u64> = taken.iter().map(|(sequence, ..)| *sequence).collect();
        assert_eq!((sequences.len(), sequences[0]), (500, oldest));
        assert!(sequences.is_sorted() && sequences[499] < oldest + 600, "{sequences:?}");
        assert!(sequences.iter().all(|sequence| sequence % 100 != 7), "what is not due stays");
        assert_eq!(account.due.len(), account.waiting.len());
    }
}
