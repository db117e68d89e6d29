//! Who was promised what, and what arrived: the two lists whose difference is loss.

use crate::{Request, held};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

/// The two lists; clones share them.
///
/// A test numbers its events in `properties.n`; the number is what is compared, so that an id which the daemon mixed
/// up is seen too.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    /// Number to id, as the 202 said.
    promised: BTreeMap<u64, String>,
    /// Number to the ids that it arrived under, and how often.
    arrived: BTreeMap<u64, BTreeMap<String, u64>>,
}

/// What the comparison found.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// How many events were acknowledged.
    pub promised: usize,
    /// Acknowledged, and never arrived.
    pub lost: Vec<u64>,
    /// Arrived under more than one id, or under another one than was promised.
    pub wrong_id: Vec<u64>,
    /// How many arrivals were repeats.
    pub repeats: u64,
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let few = |numbers: &[u64]| numbers.iter().take(8).map(u64::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "{} acknowledged, {} lost ({}), ", self.promised, self.lost.len(), few(&self.lost))?;
        write!(f, "{} under a wrong id ({}), ", self.wrong_id.len(), few(&self.wrong_id))?;
        write!(f, "{} repeats", self.repeats)
    }
}

impl Ledger {
    /// Notes that an event was acknowledged.
    pub fn promise(&self, n: u64, id: &str) {
        held(&self.books).promised.insert(n, id.to_owned());
    }

    /// Notes an arrival; answers the event's number, `None` where the body has none (the daemon's own events).
    pub fn arrive(&self, request: &Request) -> Option<u64> {
        let body: Value = serde_json::from_slice(&request.body).ok()?;
        let n = body["data"]["n"].as_u64()?;
        let mut books = held(&self.books);
        *books.arrived.entry(n).or_default().entry(request.header("webhook-id").to_owned()).or_default() += 1;
        Some(n)
    }

    /// How often an event arrived so far.
    #[must_use]
    pub fn arrivals(&self, n: u64) -> u64 {
        held(&self.books).arrived.get(&n).map_or(0, |ids| ids.values().sum())
    }

    /// How many events were acknowledged so far.
    #[must_use]
    pub fn promised(&self) -> usize {
        held(&self.books).promised.len()
    }

    /// The numbers of the events that were acknowledged so far.
    #[must_use]
    pub fn promised_numbers(&self) -> BTreeSet<u64> {
        held(&self.books).promised.keys().copied().collect()
    }

    /// The ids under which events were acknowledged so far, by number.
    #[must_use]
    pub fn ids(&self) -> BTreeMap<u64, String> {
        held(&self.books).promised.clone()
    }

    /// How many different events arrived so far.
    #[must_use]
    pub fn arrived(&self) -> usize {
        held(&self.books).arrived.len()
    }

    /// The numbers of the events that arrived so far.
    #[must_use]
    pub fn arrived_numbers(&self) -> BTreeSet<u64> {
        held(&self.books).arrived.keys().copied().collect()
    }

    /// Compares the lists as they are now.
    #[must_use]
    pub fn difference(&self) -> Difference {
        let books = held(&self.books);
        let mut found = Difference { promised: books.promised.len(), ..Difference::default() };
        for (n, id) in &books.promised {
            match books.arrived.get(n) {
                None => found.lost.push(*n),
                Some(ids) if !ids.contains_key(id) => found.wrong_id.push(*n),
                Some(_) => {}
            }
        }
        for (n, ids) in &books.arrived {
            if ids.len() > 1 {
                found.wrong_id.push(*n);
            }
            found.repeats += ids.values().map(|times| times - 1).sum::<u64>();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;
    use crate::Request;
    use std::net::{IpAddr, Ipv4Addr};

    fn arrival(n: u64, id: &str) -> Request {
        Request {
            path: "/".to_owned(),
            headers: vec![("webhook-id".to_owned(), id.to_owned())],
            body: format!(r#"{{"data":{{"n":{n}}}}}"#).into_bytes(),
            reached: IpAddr::from(Ipv4Addr::LOCALHOST),
        }
    }

    #[test]
    fn what_is_missing_mixed_up_or_repeated_is_told_apart() {
        let ledger = Ledger::default();
        for n in 0..5 {
            ledger.promise(n, &format!("evt_{n}"));
        }
        // 0 never comes; 1 comes well; 2 twice; 3 under another id; 4 under two; 9 was never acknowledged.
        for (n, id) in
            [(1, "evt_1"), (2, "evt_2"), (2, "evt_2"), (3, "evt_1"), (4, "evt_4"), (4, "evt_x"), (9, "evt_9")]
        {
            ledger.arrive(&arrival(n, id));
        }
        let found = ledger.difference();
        assert_eq!((found.promised, found.lost, found.wrong_id, found.repeats), (5, vec![0], vec![3, 4], 1));
    }
}
