//! Compares JSON numbers: whole ones exactly, others as 64-bit floats.

use super::declare::KEEP_SPAN_MAX;
use serde_json::Number;
use std::cmp::Ordering;

/// The number, if it is written as a whole one of 64 bits.
pub(super) fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Which is larger. Never NaN: JSON has none.
pub(crate) fn compare(a: &Number, b: &Number) -> Ordering {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => {
            let float = |n: &Number| n.as_f64().unwrap_or_default();
            float(a).partial_cmp(&float(b)).unwrap_or(Ordering::Equal)
        }
    }
}

/// Whether bounds are near enough to one another for what lies between to be kept.
pub(super) fn keeps(minimum: &Number, maximum: &Number) -> bool {
    match (whole(minimum), whole(maximum)) {
        (Some(low), Some(high)) => high - low <= i128::from(KEEP_SPAN_MAX),
        _ => match (minimum.as_f64(), maximum.as_f64()) {
            #[expect(clippy::cast_precision_loss, reason = "a million is exact as a float")]
            (Some(low), Some(high)) => high - low <= KEEP_SPAN_MAX as f64,
            _ => false,
        },
    }
}
