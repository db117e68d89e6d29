//! Numbers that may leave: counts, and what a grid of at most about a million steps can tell apart.
//!
//! A [`Measured`] is made only here, of a number that lies within declared bounds and is rounded to their grid, so that
//! no id, no time and no finer bit fits into it. A [`Count`] is made only by counting, or by holding what a client
//! claims to have counted against [`COUNT_MAX`].

use crate::catalogue::declare::{FieldDeclaration, FieldKind, KEEP_SPAN_MAX};
use serde_json::{Number, Value};
use std::cmp::Ordering;
use std::fmt;

/// The largest count that is taken from a client.
pub(in crate::catalogue) const COUNT_MAX: u64 = 1_000_000_000;

/// How much larger than its bounds a sum may be that is taken from a client.
pub(in crate::catalogue) const SUM_FACTOR: i128 = 1_000_000;

/// Above this not every whole number is a number of 64 bits: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// So many steps from 0 a number still comes back from the grid as the same step, whatever is lost in rounding: 2^50.
const STEPS_MAX: f64 = 1_125_899_906_842_624.0;

/// How many decimals are kept at most.
const DECIMALS_MAX: i32 = 15;

/// How many there are of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::catalogue) struct Count(u64);

impl Count {
    /// One.
    pub(in crate::catalogue) const ONE: Self = Self(1);

    /// The entries of an object or array; `None` for what has none.
    pub(in crate::catalogue) fn entries(value: &Value) -> Option<Self> {
        let entries = match value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => return None,
        };
        Some(Self(entries as u64))
    }

    /// The characters of a text, the entries of an object or array; `None` for what has neither.
    pub(in crate::catalogue) fn length(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self(text.chars().count() as u64)),
            other => Self::entries(other),
        }
    }

    /// How many different values there are; sorts them.
    pub(in crate::catalogue) fn different(scalars: &mut Vec<Scalar<'_>>) -> Self {
        scalars.sort_unstable();
        scalars.dedup();
        Self(scalars.len() as u64)
    }

    /// What a client claims: a whole number up to [`COUNT_MAX`].
    pub(in crate::catalogue) fn claimed(value: &Value) -> Option<Self> {
        value.as_u64().filter(|n| *n <= COUNT_MAX).map(Self)
    }

    /// One more.
    pub(in crate::catalogue) fn one_more(&mut self) {
        self.0 = self.0.saturating_add(1);
    }

    /// Both together.
    pub(in crate::catalogue) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Whether there is none.
    pub(in crate::catalogue) const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A number on the grid of a declared field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::catalogue) struct Measured(Size);

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Size::Whole(n) => write!(f, "{n}"),
            // As serde_json writes it, a whole one without a fraction; a number that is not finite is never made.
            Size::Real(n) => {
                let text = Number::from_f64(n).unwrap_or_else(|| 0.into()).to_string();
                f.write_str(text.strip_suffix(".0").unwrap_or(&text))
            }
        }
    }
}

/// The size of a JSON number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::catalogue) enum Size {
    /// It is written without a fraction and fits 64 bits.
    Whole(i128),
    /// Any other.
    Real(f64),
}

impl Size {
    /// Of a JSON number, which is always finite.
    pub(in crate::catalogue) fn of(number: &Number) -> Self {
        if let Some(n) = number.as_i64() {
            return Self::Whole(n.into());
        }
        if let Some(n) = number.as_u64() {
            return Self::Whole(n.into());
        }
        Self::Real(number.as_f64().filter(|n| n.is_finite()).unwrap_or(0.0))
    }

    /// Of a length.
    pub(in crate::catalogue) const fn of_count(count: Count) -> Self {
        Self::Whole(count.0 as i128)
    }

    #[expect(clippy::cast_precision_loss, reason = "a number as near as there is one")]
    fn real(self) -> f64 {
        match self {
            Self::Whole(n) => n as f64,
            Self::Real(n) => n,
        }
    }

    /// Which is larger, whatever the way of writing.
    pub(in crate::catalogue) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            // Adding 0 makes of the negative zero the other one.
            (a, b) => (a.real() + 0.0).total_cmp(&(b.real() + 0.0)),
        }
    }
}

/// A scalar that can be told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::catalogue) enum Scalar<'a> {
    /// `true` or `false`.
    Truth(bool),
    /// A whole number, however it is written.
    Whole(i128),
    /// Another number, by its bits.
    Real(u64),
    /// A text.
    Text(&'a str),
}

impl<'a> Scalar<'a> {
    /// Of a value; `None` for null, which is no value, and for objects and arrays.
    pub(in crate::catalogue) fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Bool(b) => Some(Self::Truth(*b)),
            Value::String(s) => Some(Self::Text(s)),
            Value::Number(n) => Some(match Size::of(n) {
                Size::Whole(n) => Self::Whole(n),
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and smaller than 2^53")]
                Size::Real(n) if n.trunc() == n && n.abs() <= EXACT_MAX => Self::Whole(n as i128),
                Size::Real(n) => Self::Real(n.to_bits()),
            }),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// The grid of a bounded number: what leaves of it is one of at most about [`KEEP_SPAN_MAX`] values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::catalogue) enum Grid {
    /// Whole numbers between two.
    Whole {
        /// The smallest.
        minimum: i128,
        /// The largest.
        maximum: i128,
    },
    /// Numbers between two, rounded to decimals.
    Real {
        /// The smallest.
        minimum: f64,
        /// The largest.
        maximum: f64,
        /// 10 to the power of the decimals that are kept.
        scale: f64,
    },
}

impl Grid {
    /// The grid of a field; `None` where it has no two bounds, or they span more than [`KEEP_SPAN_MAX`].
    pub(super) fn of(field: &FieldDeclaration) -> Option<Self> {
        let (minimum, maximum) = (Size::of(field.minimum.as_ref()?), Size::of(field.maximum.as_ref()?));
        match (field.kind, minimum, maximum) {
            (FieldKind::Integer, Size::Whole(minimum), Size::Whole(maximum)) => {
                let span = maximum.checked_sub(minimum)?;
                (0..=i128::from(KEEP_SPAN_MAX)).contains(&span).then_some(Self::Whole { minimum, maximum })
            }
            (FieldKind::Number, minimum, maximum) => {
                // Large whole bounds are nearer to one another than they are once rounded.
                let span = match (minimum, maximum) {
                    (Size::Whole(minimum), Size::Whole(maximum)) => Size::Whole(maximum - minimum).real(),
                    (minimum, maximum) => maximum.real() - minimum.real(),
                };
                let (minimum, maximum) = (minimum.real(), maximum.real());
                let scale = scale(span, minimum.abs().max(maximum.abs()))?;
                Some(Self::Real { minimum, maximum, scale })
            }
            _ => None,
        }
    }

    /// The number on the grid; `None` where it lies outside the bounds.
    pub(in crate::catalogue) fn keep(&self, number: &Number) -> Option<Measured> {
        Some(Measured(match *self {
            Self::Whole { .. } => Size::Whole(self.steps(number)?),
            // What is rounded across a bound is the bound.
            Self::Real { minimum, maximum, scale } => {
                Size::Real(real(self.steps(number)?, scale).clamp(minimum, maximum) + 0.0)
            }
        }))
    }

    /// How many steps of the grid the number is from 0, at most 2^127; `None` where it lies outside the bounds.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below 2^53, or whole; what is beyond 2^127 is that, and no bound of a real thing"
    )]
    pub(in crate::catalogue) fn steps(&self, number: &Number) -> Option<i128> {
        match (*self, Size::of(number)) {
            (Self::Whole { minimum, maximum }, Size::Whole(n)) => (minimum..=maximum).contains(&n).then_some(n),
            (Self::Whole { .. }, Size::Real(_)) => None,
            (Self::Real { minimum, maximum, scale }, size) => {
                let n = size.real();
                (minimum..=maximum).contains(&n).then(|| (n * scale).round() as i128)
            }
        }
    }

    /// The sum of steps.
    pub(in crate::catalogue) fn sum(&self, steps: i128) -> Measured {
        Measured(match *self {
            Self::Whole { .. } => Size::Whole(steps),
            Self::Real { scale, .. } => Size::Real(real(steps, scale)),
        })
    }

    /// What a client claims to be a sum: on the grid, and at most [`SUM_FACTOR`] times the bounds.
    #[expect(clippy::cast_possible_truncation, reason = "it is bounded before")]
    pub(in crate::catalogue) fn claimed_sum(&self, number: &Number) -> Option<Measured> {
        let (least, most) = self.sums();
        let size = Size::of(number);
        let within = size.compare(least.0) != Ordering::Less && size.compare(most.0) != Ordering::Greater;
        match (self, size) {
            (Self::Whole { .. }, Size::Whole(n)) if within => Some(Measured(Size::Whole(n))),
            (Self::Real { scale, .. }, size) if within => {
                let (n, steps) = (size.real(), size.real() * scale);
                // Beyond it numbers are about as sparse as the grid.
                let rounded = if steps.abs() < STEPS_MAX { real(steps.round() as i128, *scale) } else { n };
                Some(Measured(Size::Real(rounded + 0.0)))
            }
            _ => None,
        }
    }

    /// The smallest and the largest number that is kept.
    pub(in crate::catalogue) const fn bounds(&self) -> (Measured, Measured) {
        match *self {
            Self::Whole { minimum, maximum } => (Measured(Size::Whole(minimum)), Measured(Size::Whole(maximum))),
            Self::Real { minimum, maximum, .. } => (Measured(Size::Real(minimum)), Measured(Size::Real(maximum))),
        }
    }

    /// The smallest and the largest sum that is taken from a client.
    #[expect(clippy::cast_precision_loss, reason = "the factor is small")]
    pub(in crate::catalogue) fn sums(&self) -> (Measured, Measured) {
        match *self {
            Self::Whole { minimum, maximum } => (
                Measured(Size::Whole(minimum.min(0).saturating_mul(SUM_FACTOR))),
                Measured(Size::Whole(maximum.max(0).saturating_mul(SUM_FACTOR))),
            ),
            Self::Real { minimum, maximum, .. } => {
                let times = |bound: f64| Measured(Size::Real((bound * SUM_FACTOR as f64).clamp(f64::MIN, f64::MAX)));
                (times(minimum.min(0.0)), times(maximum.max(0.0)))
            }
        }
    }
}

/// 10 to the power of the most decimals with which the span has at most [`KEEP_SPAN_MAX`] steps, each of them exact.
#[expect(clippy::cast_precision_loss, reason = "the bound is small")]
fn scale(span: f64, largest: f64) -> Option<f64> {
    let fits = |scale: f64| span * scale <= KEEP_SPAN_MAX as f64;
    if !(span >= 0.0 && fits(1.0)) {
        return None;
    }
    let exact = |scale: f64| largest * scale <= STEPS_MAX;
    (0..=DECIMALS_MAX).map(|decimals| 10_f64.powi(decimals)).take_while(|s| *s == 1.0 || (fits(*s) && exact(*s))).last()
}

/// The number that lies so many steps from 0.
#[expect(clippy::cast_precision_loss, reason = "a number as near as there is one")]
fn real(steps: i128, scale: f64) -> f64 {
    steps as f64 / scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grid(kind: FieldKind, least: Number, most: Number) -> Option<Grid> {
        let field = FieldDeclaration { minimum: Some(least), maximum: Some(most), ..FieldDeclaration::new("n", kind) };
        Grid::of(&field)
    }

    fn read(number: Measured) -> Number {
        serde_json::from_str(&number.to_string()).unwrap()
    }

    #[test]
    fn bounds_that_span_more_than_a_million_or_are_the_wrong_way_round_keep_nothing() {
        let of = |kind, least: i64, most: i64| grid(kind, least.into(), most.into()).is_some();
        for kind in [FieldKind::Integer, FieldKind::Number] {
            assert!(of(kind, -1, 999_999) && of(kind, 7, 7));
            assert!(!of(kind, -1, 1_000_000) && !of(kind, 1, 0) && !of(kind, i64::MIN, i64::MAX));
        }
        let float = |n| Number::from_f64(n).unwrap();
        assert_eq!(grid(FieldKind::Number, float(-f64::MAX), float(f64::MAX)), None);
        assert_eq!(grid(FieldKind::Integer, float(0.5), float(1.5)), None);
        assert_eq!(grid(FieldKind::String, 0.into(), 1.into()), None);
        assert!(grid(FieldKind::Integer, (u64::MAX - 1).into(), u64::MAX.into()).is_some());
        assert!(grid(FieldKind::Number, (1_u64 << 60).into(), ((1_u64 << 60) + 1_000_000).into()).is_some());
    }

    #[test]
    fn a_client_claims_at_most_a_billion() {
        assert_eq!(Count::claimed(&1_000_000_000.into()).map(|c| c.to_string()).as_deref(), Some("1000000000"));
        for wrong in [Value::from(1_000_000_001), (-1).into(), 1.5.into(), u64::MAX.into(), "1".into(), Value::Null] {
            assert_eq!(Count::claimed(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_within_its_bounds_near_and_kept_as_it_is(
            least in prop_oneof![-1e6..1e6_f64, -1.0..1.0, proptest::num::f64::NORMAL],
            span in prop_oneof![0.0..=1e6_f64, 0.0..=1.0, Just(0.0), 0.0..1e-9],
            share in 0.0..=1.0_f64,
        ) {
            let most = least + span;
            let grid = grid(FieldKind::Number, Number::from_f64(least).unwrap(), Number::from_f64(most).unwrap());
            prop_assume!(grid.is_some());
            let (grid, n) = (grid.unwrap(), (least + span * share).clamp(least, most));
            let kept = read(grid.keep(&Number::from_f64(n).unwrap()).unwrap());
            let out = kept.as_f64().unwrap();
            prop_assert!(least <= out && out <= most);
            let Grid::Real { scale, .. } = grid else { panic!("{grid:?}") };
            prop_assert!((out - n).abs() <= 0.5 / scale + n.abs() * 1e-15, "{n} became {out} at {scale}");
            prop_assert_eq!(&read(grid.keep(&kept).unwrap()), &kept);
            // A sum of it passes the relay as it is.
            let sum = read(grid.sum(grid.steps(&kept).unwrap().saturating_mul(1_000)));
            prop_assert_eq!(grid.claimed_sum(&sum).map(read), Some(sum));
        }
    }
}
