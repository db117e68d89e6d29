//! A point of wall-clock time, for display and for what leaves; never for what is due.

use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds since 1970-01-01T00:00:00Z; years 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);

/// A text that is not a time as RFC 3339 writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z")]
pub struct NotATime;

const MICROS_MIN: i64 = -62_167_219_200_000_000;
const MICROS_MAX: i64 = 253_402_300_799_999_999;

impl Timestamp {
    /// The time so many microseconds after the epoch, kept within the years 0 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(MICROS_MIN, MICROS_MAX))
    }

    /// The time so many milliseconds after the epoch, kept within the years 0 to 9999.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Reads a time as RFC 3339 writes it; what is finer than a microsecond is cut off.
    ///
    /// # Errors
    /// [`NotATime`] for any other text.
    pub fn parse(text: &str) -> Result<Self, NotATime> {
        let read = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotATime)?;
        let micros = i64::try_from(read.unix_timestamp_nanos().div_euclid(1_000)).map_err(|_| NotATime)?;
        if (MICROS_MIN..=MICROS_MAX).contains(&micros) { Ok(Self(micros)) } else { Err(NotATime) }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, or microseconds where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp(self.seconds()).map_err(|_| fmt::Error)?;
        let (year, month, day) = at.to_calendar_date();
        let (h, m, s) = at.to_hms();
        write!(f, "{year:04}-{:02}-{day:02}T{h:02}:{m:02}:{s:02}.", u8::from(month))?;
        let micros = self.0.rem_euclid(1_000_000);
        if micros % 1_000 == 0 { write!(f, "{:03}Z", micros / 1_000) } else { write!(f, "{micros:06}Z") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_shown_in_utc() {
        let at = Timestamp::parse("2026-01-31T12:00:00.25+02:00").unwrap();
        assert_eq!(at.to_string(), "2026-01-31T10:00:00.250Z");
        assert_eq!(Timestamp::parse("2026-01-31T12:00:00.000001Z").unwrap().to_string(), "2026-01-31T12:00:00.000001Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in ["", "yesterday", "2026-01-31", "2026-13-01T00:00:00Z", "2026-01-31 12:00", "1732000000"] {
            assert_eq!(Timestamp::parse(text), Err(NotATime), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_reads_back_as_written(micros in MICROS_MIN..=MICROS_MAX) {
            let at = Timestamp::from_micros(micros);
            prop_assert_eq!(Timestamp::parse(&at.to_string()), Ok(at));
        }
    }
}
