//! The order of an account whose deliveries go by key: which of them may be given out, and whose keys must be learnt first.
//!
//! The deliveries of one key stand in a line, by sequence. The first may be given out, and none while one of the line
//! is out. Keys are not kept: they are learnt when events are read, in the order of recording, so that all below what was
//! learnt is known; one that comes to be owed again below that is learnt before anything else is given out. It leaves to the
//! [`super::Account`] what is owed and when, and to the stores how an event is read.

use super::{Part, Waiting};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hasher as _};

/// How many keys one claim learns at most, so that a long line delays no other subscription's claim for long.
pub(crate) const LEARNT_MAX: usize = 512;
/// Set in the line of a key; the line of an event without one is its sequence, which never comes so far.
const KEYED: u64 = 1 << 63;

/// A line of deliveries; it means something in this process only.
pub(crate) type Line = u64;

/// The line in which the delivery of an event stands. Two keys that hash alike only wait for each other.
pub(crate) fn line_of(key: Option<&str>, sequence: u64) -> Line {
    let Some(key) = key else { return sequence & !KEYED };
    let mut hasher = DefaultHasher::new();
    hasher.write(key.as_bytes());
    hasher.finish() | KEYED
}

/// What an account is owed by the keys of its events: some 60 bytes for each delivery that was learnt and is not given out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Order {
    /// Owed and not given out, keys not learnt.
    strangers: RoaringTreemap,
    /// Given out before there was an order, keys not learnt: nothing is given beside them.
    outside: BTreeSet<u64>,
    /// Owed and not given out: their lines.
    lines: HashMap<u64, Line>,
    /// The same, line by line.
    members: BTreeSet<(Line, u64)>,
    /// How many of a line are given out: more than one only where they were before there was an order.
    out: HashMap<Line, u32>,
    /// The one of each line that may be given out, and when it is due; at once where it was never tried.
    open: HashMap<Line, (u64, Option<u64>)>,
    /// Those of `open` that were never tried.
    fresh: BTreeSet<u64>,
    /// The others by time.
    due: BTreeSet<(u64, u64)>,
    /// The highest sequence that was learnt.
    horizon: u64,
}

impl Order {
    /// Of what is owed, and of what is given out.
    pub(super) fn new(strangers: RoaringTreemap, outside: BTreeSet<u64>) -> Self {
        Self { strangers, outside, ..Self::default() }
    }

    /// Notes a delivery whose key is not known.
    pub(super) fn put_stranger(&mut self, sequence: u64) {
        self.strangers.insert(sequence);
    }

    /// Whether nothing unknown could have to go before what is known.
    fn is_settled(&self) -> bool {
        self.outside.is_empty() && self.strangers.min().is_none_or(|first| first > self.horizon)
    }

    /// The sequence whose key must be learnt before all that is asked for can be given out; `None` where none must or none is left.
    pub(super) fn to_learn(&self, part: Part, now: u64) -> Option<u64> {
        if let Some(first) = self.outside.first() {
            return Some(*first);
        }
        let (next, count, fresh) = (self.strangers.min()?, part.count, self.fresh.len());
        if next > self.horizon && fresh >= count {
            return None;
        }
        let retries = self.due.iter().take_while(|(due, _)| *due <= now).take(count).count();
        (next <= self.horizon || fresh < part.fresh_min || fresh + retries < count).then_some(next)
    }

    /// Whether a delivery is given out whose key is not known; its key is being learnt if so.
    pub(super) fn learn_outside(&mut self, sequence: u64, line: Line) -> bool {
        let was = self.outside.remove(&sequence);
        if was {
            *self.out.entry(line).or_default() += 1;
        }
        was
    }

    /// Whether it is owed, not given out, and its key is not known.
    pub(super) fn is_stranger(&self, sequence: u64) -> bool {
        self.strangers.contains(sequence)
    }

    /// Puts a delivery that is not given out into its line.
    pub(super) fn put(&mut self, sequence: u64, line: Line, waiting: &BTreeMap<u64, Waiting>) {
        self.strangers.remove(sequence);
        self.horizon = self.horizon.max(sequence);
        self.lines.insert(sequence, line);
        self.members.insert((line, sequence));
        self.refresh(line, waiting);
    }

    /// The line of a delivery that is not given out, where it was learnt.
    pub(super) fn line(&self, sequence: u64) -> Option<Line> {
        self.lines.get(&sequence).copied()
    }

    /// Whether it is the first of its line and none of that is out.
    pub(super) fn is_open(&self, sequence: u64) -> bool {
        self.line(sequence).and_then(|line| self.open.get(&line)).is_some_and(|(open, _)| *open == sequence)
    }

    /// Takes out a delivery that is not given out.
    pub(super) fn remove(&mut self, sequence: u64, waiting: &BTreeMap<u64, Waiting>) {
        self.strangers.remove(sequence);
        if let Some(line) = self.lines.remove(&sequence) {
            self.members.remove(&(line, sequence));
            self.refresh(line, waiting);
        }
    }

    /// Takes what may be given out: retries by time, then what was never tried, by sequence, or both in turn.
    pub(super) fn take(&mut self, part: Part, now: u64, waiting: &BTreeMap<u64, Waiting>) -> Vec<(u64, Line)> {
        if !self.is_settled() {
            return Vec::new();
        }
        let due = self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, sequence)| *sequence);
        let retries: Vec<u64> = due.take(part.retries_max(self.fresh.len())).collect();
        let fresh = self.fresh.iter().copied().take(part.count - retries.len()).collect();
        let taken = part.in_turn(retries, fresh);
        let leave = |sequence: u64| {
            let line = self.lines.remove(&sequence)?;
            self.members.remove(&(line, sequence));
            *self.out.entry(line).or_default() += 1;
            self.refresh(line, waiting);
            Some((sequence, line))
        };
        taken.into_iter().filter_map(leave).collect()
    }

    /// Notes that one that was given out is so no more.
    pub(super) fn put_back(&mut self, sequence: u64, line: Option<Line>, waiting: &BTreeMap<u64, Waiting>) {
        self.outside.remove(&sequence);
        let Some(line) = line else { return };
        if let Some(out) = self.out.get_mut(&line) {
            *out = out.saturating_sub(1);
            if *out == 0 {
                self.out.remove(&line);
            }
        }
        self.refresh(line, waiting);
    }

    /// When the next one may be given out; in the past where that is now, or where keys must be learnt to know.
    pub(super) fn next_due(&self) -> Option<u64> {
        if !self.outside.is_empty() || !self.strangers.is_empty() || !self.fresh.is_empty() {
            return Some(0);
        }
        self.due.first().map(|(due, _)| *due)
    }

    /// Opens the first of a line where none of it is out, and closes what was open.
    fn refresh(&mut self, line: Line, waiting: &BTreeMap<u64, Waiting>) {
        let first = || self.members.range((line, 0)..=(line, u64::MAX)).next().map(|(_, sequence)| *sequence);
        let first = if self.out.contains_key(&line) { None } else { first() };
        let first = first.map(|sequence| (sequence, waiting.get(&sequence).map(|waiting| waiting.due)));
        let before = match first {
            Some(first) => self.open.insert(line, first),
            None => self.open.remove(&line),
        };
        match before {
            Some((sequence, None)) => drop(self.fresh.remove(&sequence)),
            Some((sequence, Some(due))) => drop(self.due.remove(&(due, sequence))),
            None => {}
        }
        match first {
            Some((sequence, None)) => drop(self.fresh.insert(sequence)),
            Some((sequence, Some(due))) => drop(self.due.insert((due, sequence))),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(count: usize) -> Part {
        Part { count, fresh_min: 0 }
    }

    #[test]
    fn nothing_is_given_while_an_older_one_of_its_key_may_be_among_those_not_learnt() {
        let (none, x, y) = (BTreeMap::new(), line_of(Some("x"), 0), line_of(Some("y"), 0));
        let mut order = Order::default();
        order.put_stranger(9);
        order.put(9, x, &none);
        assert_eq!(order.to_learn(all(1), 0), None);
        order.put_stranger(4);
        order.put_stranger(5);
        assert_eq!((order.take(all(9), 0, &none), order.next_due()), (vec![], Some(0)));
        order.put(4, y, &none);
        assert_eq!((order.take(all(9), 0, &none), order.to_learn(all(1), 0)), (vec![], Some(5)));
        order.put(5, x, &none);
        assert_eq!(order.take(all(9), 0, &none), [(4, y), (5, x)]);
        order.put_back(5, Some(x), &none);
        assert_eq!(order.take(all(9), 0, &none), [(9, x)]);
    }

    #[test]
    fn nothing_is_kept_of_what_was_given_out_and_came_to_its_end() {
        let mut order = Order::default();
        for sequence in 1..=100 {
            order.put_stranger(sequence);
            order.put(sequence, line_of((sequence % 3 > 0).then_some("x"), sequence), &BTreeMap::new());
        }
        let mut given = 0;
        loop {
            let taken = order.take(all(7), 0, &BTreeMap::new());
            if taken.is_empty() {
                break;
            }
            given += taken.len();
            taken.into_iter().for_each(|(sequence, line)| order.put_back(sequence, Some(line), &BTreeMap::new()));
        }
        assert_eq!((given, order), (100, Order { horizon: 100, ..Order::default() }));
    }
}
