//! Decides who sends to the relay more than `[relay] rate_limit` allows: each token from each address by itself.
//!
//! The generic cell rate algorithm: a cell is the one point of time at which its caller has its whole allowance again.
//! Pure but for a lock: the time is an argument. Memory is bounded: where [`CELLS_MAX`] callers are known, newcomers
//! share one cell until others have rested.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many callers have a cell of their own at once; a cell is free again once its caller has its whole allowance.
const CELLS_MAX: usize = 16_384;
/// How often at most all cells are looked through for free ones.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whose allowance it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    token: Option<Arc<str>>,
    network: IpAddr,
}

impl Sender {
    /// Who uses this token from there. Of IPv6 the first 64 bits count: a household has all the rest.
    pub(super) fn new(token: Option<Arc<str>>, address: Option<IpAddr>) -> Self {
        let address = address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let network = match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        };
        Self { token, network }
    }
}

/// The allowances of everybody.
#[derive(Debug)]
pub(super) struct Limiter {
    /// How many within which time, at once too.
    rate: (u32, Duration),
    cells: Mutex<Cells>,
}

#[derive(Debug, Default)]
struct Cells {
    /// When each has its whole allowance again, in the monotonic clock's time.
    whole_at: HashMap<Sender, Duration>,
    /// The same of those that found no cell.
    others: Duration,
    looked_at: Option<Duration>,
}

impl Limiter {
    pub(super) fn new(rate: (u32, Duration)) -> Self {
        Self { rate, cells: Mutex::default() }
    }

    pub(super) const fn rate(&self) -> (u32, Duration) {
        self.rate
    }

    /// Takes one from an allowance.
    ///
    /// # Errors
    /// How long until there is one again, where it is used up; more than zero.
    pub(super) fn take(&self, sender: Sender, now: Duration) -> Result<(), Duration> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, span) = self.rate;
        let step = (span / count.max(1)).max(Duration::from_nanos(1));
        let cell = cells.of(sender, now);
        let next = (*cell).max(now) + step;
        match next.checked_sub(now + span) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *cell = next;
                Ok(())
            }
        }
    }
}

impl Cells {
    fn of(&mut self, sender: Sender, now: Duration) -> &mut Duration {
        let is_full = self.whole_at.len() >= CELLS_MAX && !self.whole_at.contains_key(&sender);
        // Looking through all of them at every post would be what the limit is there against.
        if is_full && self.looked_at.is_none_or(|at| now.saturating_sub(at) >= LOOK_EVERY) {
            self.looked_at = Some(now);
            self.whole_at.retain(|_, whole_at| *whole_at > now);
        }
        if self.whole_at.len() >= CELLS_MAX && !self.whole_at.contains_key(&sender) {
            return &mut self.others;
        }
        self.whole_at.entry(sender).or_insert(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const SECOND: Duration = Duration::from_secs(1);

    fn from(address: &str) -> Sender {
        Sender::new(None, Some(address.parse().unwrap()))
    }

    fn numbered(n: u32) -> Sender {
        Sender::new(None, Some(IpAddr::V4(Ipv4Addr::from_bits(n))))
    }

    #[test]
    fn the_whole_allowance_may_be_used_at_once_and_comes_back_evenly() {
        let limiter = Limiter::new((4, SECOND));
        let now = Duration::from_secs(100);
        assert!((0..4).all(|_| limiter.take(from("10.0.0.1"), now).is_ok()));
        assert_eq!(limiter.take(from("10.0.0.1"), now), Err(Duration::from_millis(250)));
        assert_eq!(limiter.take(from("10.0.0.1"), now), Err(Duration::from_millis(250)), "asking costs nothing");
        let later = now + Duration::from_millis(250);
        assert!(limiter.take(from("10.0.0.1"), later).is_ok() && limiter.take(from("10.0.0.1"), later).is_err());
        let rested = now + 5 * SECOND;
        assert_eq!((0..9).filter(|_| limiter.take(from("10.0.0.1"), rested).is_ok()).count(), 4);
    }

    #[test]
    fn each_token_and_address_has_its_own() {
        let limiter = Limiter::new((1, SECOND));
        let token = |name: &str| Sender::new(Some(name.into()), Some("10.0.0.1".parse().unwrap()));
        for sender in [from("10.0.0.1"), from("10.0.0.2"), token("a"), token("b"), from("2001:db8::1")] {
            assert!(limiter.take(sender.clone(), SECOND).is_ok(), "{sender:?}");
            assert!(limiter.take(sender.clone(), SECOND).is_err(), "{sender:?}");
        }
        assert!(limiter.take(from("::ffff:10.0.0.1"), SECOND).is_err(), "the same address in IPv6");
        assert!(limiter.take(from("2001:db8::ffff:2"), SECOND).is_err(), "the same network");
        assert!(limiter.take(from("2001:db8:0:1::1"), SECOND).is_ok());
    }

    #[test]
    fn cells_are_bounded_and_newcomers_share_one_until_others_have_rested() {
        let limiter = Limiter::new((2, SECOND));
        let all = u32::try_from(CELLS_MAX).unwrap();
        assert!((0..all).all(|n| limiter.take(numbered(n), SECOND).is_ok()));
        let taken = (0..100).filter(|n| limiter.take(numbered(all + n), SECOND).is_ok()).count();
        assert_eq!(taken, 2, "a hundred newcomers have one allowance");
        assert!(limiter.take(numbered(0), SECOND).is_ok(), "who has a cell keeps it");
        assert_eq!(limiter.cells.lock().unwrap().whole_at.len(), CELLS_MAX);
        assert_eq!((0..100).filter(|n| limiter.take(numbered(all + n), 3 * SECOND).is_ok()).count(), 100);
        assert_eq!(limiter.cells.lock().unwrap().whole_at.len(), 100, "cells at rest were forgotten");
    }

    proptest! {
        #[test]
        fn no_span_has_more_than_twice_the_rate(
            count in 1u32..50,
            pauses in prop::collection::vec(0u64..200, 1..300),
        ) {
            let limiter = Limiter::new((count, SECOND));
            let mut now = SECOND;
            let mut taken = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                if limiter.take(numbered(1), now).is_ok() {
                    taken.push(now);
                }
            }
            for begin in &taken {
                let within = taken.iter().filter(|t| **t >= *begin && **t < *begin + SECOND).count();
                prop_assert!(within <= 2 * count as usize, "{within} of {count}");
            }
        }
    }
}
