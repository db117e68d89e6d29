//! The circuit breaker of one subscription: when it opens, when it probes, when it closes, and how much it lets through
//! then.
//!
//! Decides only whether deliveries may begin, and how many at once. What waits stays owed meanwhile and its time to give
//! up goes on.
//!
//! ```text
//!   closed ── nothing arrived for `over`, `failures` failed ────▶ open ── `pause` over, one began ──▶ probing
//!     ▲   └── closed for less than ten times `over`, ─────────────▶ ▲                                    │
//!     │       `failures` failed in a row                            │                                    │
//!     ├────────── a delivery begun before arrived ──────────────────┤◀───────── the probe failed ────────┤
//!     └──────────────────────────────── the probe arrived ──────────────────────────────────────────────┘
//! ```

use super::vitals::Failing;
use super::words::{CallId, CircuitState};
use crate::settings::Circuit;
use std::time::Duration;

/// For so many times `over` a circuit that closed is on trial: a receiver that comes and goes is not believed at once.
const TRIAL_TIMES: u32 = 10;
/// So many deliveries must arrive after it closed before as many calls may be under way as are configured.
const RAMP_MAX: usize = 64;

/// The state of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaker {
    /// Deliveries go.
    Closed {
        /// Where it was open not long ago.
        trial: Option<Trial>,
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

/// How a receiver does since its circuit closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trial {
    since: Duration,
    /// The call that closed it: what began before says nothing.
    after: CallId,
    arrived: usize,
    failed_in_a_row: u32,
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
    pub(super) const CLOSED: Self = Self::Closed { trial: None };

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

    pub(super) const fn state(self) -> CircuitState {
        match self {
            Self::Closed { .. } => CircuitState::Closed,
            Self::Open { .. } => CircuitState::Open,
            Self::Probing { .. } => CircuitState::Probing,
        }
    }

    /// How long it pauses yet; `None` where it is closed.
    pub(super) const fn open_for(self, now: Duration) -> Option<Duration> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { until } => Some(until.saturating_sub(now)),
            Self::Probing { .. } => Some(Duration::ZERO),
        }
    }

    /// How many calls may be under way at once: what waited meets the receiver gradually, one more with each that arrived.
    pub(super) fn calls_max(self) -> usize {
        match self {
            Self::Closed { trial: Some(trial) } if trial.arrived < RAMP_MAX => 1 + trial.arrived,
            _ => usize::MAX,
        }
    }

    /// A person wants it tried: the probe waits no longer.
    pub(super) fn hurry(&mut self, now: Duration) {
        if let Self::Open { until } = self {
            *until = now.min(*until);
        }
    }

    /// A call begins; in an open circuit it is the probe.
    pub(super) const fn began(&mut self, call: CallId) {
        if let Self::Open { .. } = self {
            *self = Self::Probing { call };
        }
    }

    /// A delivery of `call` arrived; true where that closed the circuit.
    pub(super) fn arrived(&mut self, call: CallId, now: Duration, terms: Option<&Circuit>) -> bool {
        match self {
            Self::Closed { trial } => {
                *trial = trial.filter(|t| terms.is_some_and(|terms| t.lasts(terms, now)));
                if let Some(trial) = trial.as_mut().filter(|t| t.after < call) {
                    (trial.arrived, trial.failed_in_a_row) = (trial.arrived.saturating_add(1), 0);
                }
                false
            }
            Self::Open { .. } | Self::Probing { .. } => {
                // One that began before the probe may arrive first; whatever is under way then says nothing.
                let after = if let Self::Probing { call: probe } = self { call.max(*probe) } else { call };
                *self = Self::Closed { trial: Some(Trial { since: now, after, arrived: 0, failed_in_a_row: 0 }) };
                true
            }
        }
    }

    /// A delivery of `call` failed, and that is how its subscription fares; true where it opened the circuit. What began
    /// before it opened changes nothing.
    pub(super) fn failed(&mut self, call: CallId, now: Duration, terms: Option<&Circuit>, failing: &Failing) -> bool {
        let Some(terms) = terms else {
            *self = Self::CLOSED;
            return false;
        };
        match self {
            Self::Closed { trial } => {
                let mut opens = failing.failures >= terms.failures && failing.lasts(now) >= terms.over;
                *trial = trial.filter(|t| t.lasts(terms, now));
                if let Some(trial) = trial.as_mut().filter(|t| t.after < call) {
                    trial.failed_in_a_row = trial.failed_in_a_row.saturating_add(1);
                    opens |= trial.failed_in_a_row >= terms.failures;
                }
                if opens {
                    *self = Self::Open { until: now.saturating_add(terms.pause) };
                }
                opens
            }
            Self::Probing { call: probe } if *probe == call => {
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

impl Trial {
    fn lasts(&self, terms: &Circuit, now: Duration) -> bool {
        now.saturating_sub(self.since) < terms.over.saturating_mul(TRIAL_TIMES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Circuit = Circuit { failures: 3, over: Duration::from_secs(60), pause: Duration::from_secs(30) };
    const CALL: CallId = CallId(1);
    const PROBE: CallId = CallId(2);
    const LATER: CallId = CallId(3);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Fails at each of these times, with nothing that arrives between; whether the last one opened it.
    fn fail(breaker: &mut Breaker, call: CallId, times: impl IntoIterator<Item = u64>) -> bool {
        let (mut failing, mut opened) = (None, false);
        for seconds in times {
            assert!(!opened);
            let now = Failing::one_more(failing, at(seconds));
            opened = breaker.failed(call, at(seconds), Some(&TERMS), &now);
            failing = Some(now);
        }
        opened
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::CLOSED;
        assert!(fail(&mut breaker, CALL, [0, 30, 60]));
        breaker
    }

    fn closed_again() -> Breaker {
        let mut breaker = opened();
        breaker.began(PROBE);
        assert!(breaker.arrived(PROBE, at(100), Some(&TERMS)));
        breaker
    }

    #[test]
    fn it_opens_only_when_both_the_time_and_the_failures_are_reached() {
        assert!(!fail(&mut Breaker::CLOSED.clone(), CALL, [5; 100]));
        assert!(!fail(&mut Breaker::CLOSED.clone(), CALL, [0, 500]));
        assert!(fail(&mut Breaker::CLOSED.clone(), CALL, [0, 500, 501]));
    }

    #[test]
    fn an_open_one_probes_once_after_each_pause_and_closes_when_it_arrives() {
        let mut breaker = opened();
        assert_eq!(breaker.allowance(at(89)), Allowance::None(Some(at(90))));
        assert_eq!((breaker.allowance(at(90)), breaker.open_for(at(90))), (Allowance::One, Some(Duration::ZERO)));
        breaker.began(PROBE);
        assert_eq!(breaker.allowance(at(1_000)), Allowance::None(None));
        assert!(!fail(&mut breaker, CALL, [91]), "an older call says nothing of the probe");
        assert_eq!(breaker, Breaker::Probing { call: PROBE });
        fail(&mut breaker, PROBE, [92]);
        assert_eq!(breaker.allowance(at(121)), Allowance::None(Some(at(122))));
        breaker.began(LATER);
        assert!(breaker.arrived(LATER, at(122), Some(&TERMS)));
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
    fn one_that_closed_lets_through_one_more_with_each_that_arrives() {
        let mut breaker = closed_again();
        assert_eq!(breaker.calls_max(), 1);
        let mut seen = Vec::new();
        for n in 0..RAMP_MAX as u64 {
            assert!(!breaker.arrived(CallId(3 + n), at(100), Some(&TERMS)));
            seen.push(breaker.calls_max());
        }
        assert_eq!((seen[0], seen[1], seen[62], seen[63]), (2, 3, 64, usize::MAX));
    }

    #[test]
    fn one_that_closed_opens_at_once_when_as_many_fail_in_a_row_and_is_trusted_again_later() {
        let mut breaker = closed_again();
        assert!(!fail(&mut breaker, CALL, [101, 101, 101]), "what began before it closed says nothing");
        assert!(!fail(&mut breaker, LATER, [101, 101]));
        assert!(!breaker.arrived(CallId(4), at(102), Some(&TERMS)));
        assert!(!fail(&mut breaker, CallId(5), [103, 103]));
        assert!(fail(&mut breaker, CallId(6), [104]), "three in a row");
        let mut trusted = closed_again();
        assert!(!fail(&mut trusted, LATER, [700, 700, 700, 700]));
    }

    #[test]
    fn a_person_who_hurries_has_it_probed_now() {
        let mut breaker = opened();
        breaker.hurry(at(70));
        assert_eq!(breaker.allowance(at(70)), Allowance::One);
    }

    #[test]
    fn without_a_circuit_nothing_opens_and_a_reload_that_drops_it_closes() {
        let failing = Failing::restored(at(10_000), 10_000, at(0));
        let mut breaker = Breaker::CLOSED;
        assert!(!breaker.failed(CALL, at(0), None, &failing));
        let mut was_open = opened();
        was_open.failed(CALL, at(70), None, &failing);
        assert_eq!(was_open.allowance(at(70)), Allowance::Any);
    }
}
