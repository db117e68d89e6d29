//! The circuit breaker of one subscription: when it opens, when it probes, when it closes.
//!
//! Decides only whether deliveries may begin. What waits stays owed meanwhile and its time to give up goes on.
//!
//! ```text
//!   closed ── nothing succeeded for `over`, `failures` failed ──▶ open ── `pause` over, one began ──▶ probing
//!     ▲                                                            ▲                                    │
//!     ├────────── a delivery begun before succeeded ───────────────┤◀───────── the probe failed ────────┤
//!     └──────────────────────────────── the probe succeeded ────────────────────────────────────────────┘
//! ```

use super::words::CallId;
use crate::settings::Circuit;
use std::time::Duration;

/// The state of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaker {
    /// Deliveries go.
    Closed {
        /// When the first failure since the last success was seen.
        failing_since: Option<Duration>,
        /// Failures since the last success.
        failures: u32,
    },
    /// None goes before `until`; then one does.
    Open {
        /// When a probe may begin.
        until: Duration,
    },
    /// One is under way, and none else begins.
    Probing {
        /// The call that probes.
        call: CallId,
    },
}

/// How many deliveries may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// As many as wished.
    Any,
    /// One, as a probe.
    One,
    /// None; where a time is known, not before it.
    None(Option<Duration>),
}

impl Breaker {
    pub(super) const CLOSED: Self = Self::Closed { failing_since: None, failures: 0 };

    pub(super) fn allowance(self, now: Duration) -> Allowance {
        match self {
            Self::Closed { .. } => Allowance::Any,
            Self::Open { until } if until <= now => Allowance::One,
            Self::Open { until } => Allowance::None(Some(until)),
            Self::Probing { .. } => Allowance::None(None),
        }
    }

    pub(super) const fn is_open(self) -> bool {
        !matches!(self, Self::Closed { .. })
    }

    /// A call begins; in an open circuit it is the probe.
    pub(super) const fn began(&mut self, call: CallId) {
        if let Self::Open { .. } = self {
            *self = Self::Probing { call };
        }
    }

    /// A delivery succeeded; true where that closed the circuit.
    pub(super) const fn succeeded(&mut self) -> bool {
        let was_open = self.is_open();
        *self = Self::CLOSED;
        was_open
    }

    /// A delivery of `call` failed; true where that opened the circuit. What began before it opened changes nothing.
    pub(super) fn failed(&mut self, call: CallId, now: Duration, terms: Option<&Circuit>) -> bool {
        let Some(terms) = terms else {
            *self = Self::CLOSED;
            return false;
        };
        match *self {
            Self::Closed { failing_since, failures } => {
                let since = failing_since.unwrap_or(now);
                let failures = failures.saturating_add(1);
                let opens = failures >= terms.failures && now.saturating_sub(since) >= terms.over;
                *self = if opens {
                    Self::Open { until: now.saturating_add(terms.pause) }
                } else {
                    Self::Closed { failing_since: Some(since), failures }
                };
                opens
            }
            Self::Probing { call: probe } if probe == call => {
                *self = Self::Open { until: now.saturating_add(terms.pause) };
                false
            }
            Self::Open { .. } | Self::Probing { .. } => false,
        }
    }

    /// A call ended; a probe that told nothing of the receiver is made again after the pause.
    pub(super) fn ended(&mut self, call: CallId, now: Duration, terms: Option<&Circuit>) {
        if *self == (Self::Probing { call }) {
            let pause = terms.map_or(Duration::ZERO, |t| t.pause);
            *self = Self::Open { until: now.saturating_add(pause) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Circuit = Circuit { failures: 3, over: Duration::from_secs(60), pause: Duration::from_secs(30) };
    const CALL: CallId = CallId(1);
    const PROBE: CallId = CallId(2);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::CLOSED;
        assert!(!breaker.failed(CALL, at(0), Some(&TERMS)));
        assert!(!breaker.failed(CALL, at(30), Some(&TERMS)));
        assert!(breaker.failed(CALL, at(60), Some(&TERMS)));
        breaker
    }

    #[test]
    fn it_opens_only_when_both_the_time_and_the_failures_are_reached() {
        let mut many_at_once = Breaker::CLOSED;
        assert!((0..100).all(|_| !many_at_once.failed(CALL, at(5), Some(&TERMS))));
        let mut few = Breaker::CLOSED;
        assert!(!few.failed(CALL, at(0), Some(&TERMS)) && !few.failed(CALL, at(500), Some(&TERMS)));
        assert!(few.failed(CALL, at(501), Some(&TERMS)));
    }

    #[test]
    fn a_success_between_starts_the_count_anew() {
        let mut breaker = Breaker::CLOSED;
        breaker.failed(CALL, at(0), Some(&TERMS));
        breaker.failed(CALL, at(1), Some(&TERMS));
        assert!(!breaker.succeeded());
        assert!(!breaker.failed(CALL, at(100), Some(&TERMS)));
    }

    #[test]
    fn an_open_one_probes_once_after_each_pause_and_closes_on_success() {
        let mut breaker = opened();
        assert_eq!(breaker.allowance(at(89)), Allowance::None(Some(at(90))));
        assert_eq!(breaker.allowance(at(90)), Allowance::One);
        breaker.began(PROBE);
        assert_eq!(breaker.allowance(at(1_000)), Allowance::None(None));
        assert!(!breaker.failed(CALL, at(91), Some(&TERMS)), "an older call says nothing of the probe");
        assert_eq!(breaker, Breaker::Probing { call: PROBE });
        breaker.failed(PROBE, at(92), Some(&TERMS));
        assert_eq!(breaker.allowance(at(121)), Allowance::None(Some(at(122))));
        breaker.began(PROBE);
        assert!(breaker.succeeded());
        assert_eq!(breaker.allowance(at(123)), Allowance::Any);
    }

    #[test]
    fn a_probe_that_ends_without_a_word_is_made_again() {
        let mut breaker = opened();
        breaker.began(PROBE);
        breaker.ended(CALL, at(95), Some(&TERMS));
        assert_eq!(breaker.allowance(at(95)), Allowance::None(None));
        breaker.ended(PROBE, at(100), Some(&TERMS));
        assert_eq!(breaker.allowance(at(130)), Allowance::One);
    }

    #[test]
    fn without_a_circuit_nothing_opens_and_a_reload_that_drops_it_closes() {
        let mut breaker = Breaker::CLOSED;
        assert!((0..1_000).all(|n| !breaker.failed(CALL, at(n), None)));
        let mut was_open = opened();
        was_open.failed(CALL, at(70), None);
        assert_eq!(was_open.allowance(at(70)), Allowance::Any);
    }
}
