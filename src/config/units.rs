//! Durations, sizes and rates as text: `5s`, `8MiB`, `100/s`. One whole number and one unit, nothing around them.

use std::time::Duration;

/// How long a duration may be: ten years; more is a slip, and sums of two stay far from any overflow.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

pub(super) const DURATION_HINT: &str =
    "write a whole number with ms, s, m, h or d, such as \"250ms\", \"5s\" or \"3d\"";
pub(super) const SIZE_HINT: &str = "write a whole number with B, KiB, MiB or GiB, such as \"256KiB\" or \"8MiB\"";
pub(super) const RATE_HINT: &str = "write a whole number a second, minute or hour, such as \"100/s\"";

/// Reads `250ms`, `5s`, `10m`, `24h`, `3d`; `None` for anything else, and past [`DURATION_MAX`].
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let unit_millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(unit_millis)?);
    (duration <= DURATION_MAX).then_some(duration)
}

/// A duration as it would be written: in the largest unit that leaves a whole number.
pub(crate) fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// Reads `512B`, `256KiB`, `8MiB`, `4GiB` as bytes; `None` for anything else.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Reads `100/s`, `10/m`, `5/h` as a number of 1 or more and the time that it is for; `None` for anything else.
pub(super) fn rate(text: &str) -> Option<(u32, Duration)> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "/s" => 1,
        "/m" => 60,
        "/h" => 3600,
        _ => return None,
    };
    let number = u32::try_from(number).ok().filter(|n| *n > 0)?;
    Some((number, Duration::from_secs(seconds)))
}

/// A rate as it would be written.
pub(crate) fn rate_written(number: u32, per: Duration) -> String {
    let unit = match per.as_secs() {
        60 => "m",
        3600 => "h",
        _ => "s",
    };
    format!("{number}/{unit}")
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_one_whole_number_and_one_unit() {
        for (text, millis) in
            [("250ms", 250), ("5s", 5_000), ("10m", 600_000), ("24h", 86_400_000), ("3d", 259_200_000)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "5", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "5.5s", "5S", "5 parsecs", "1h30m", "5us", "9999999d"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(duration("18446744073709551615d"), None);
        assert_eq!(duration("99999999999999999999s"), None);
    }

    #[test]
    fn sizes_and_rates_are_as_strict() {
        assert_eq!(size("8MiB"), Some(8 << 20));
        assert_eq!(size("0B"), Some(0));
        assert_eq!(rate("100/s"), Some((100, Duration::from_secs(1))));
        assert_eq!(rate("5/h"), Some((5, Duration::from_secs(3600))));
        assert!(["8", "8MB", "8 MiB", "MiB", "99999999999999GiB"].iter().all(|t| size(t).is_none()));
        assert!(["fast", "100", "0/s", "1/d", "1.5/s", "9999999999/s"].iter().all(|t| rate(t).is_none()));
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_as_itself(millis in 0..=u64::try_from(DURATION_MAX.as_millis()).unwrap()) {
            let d = Duration::from_millis(millis);
            prop_assert_eq!(duration(&written(d)), Some(d));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = (duration(&text), size(&text), rate(&text));
        }
    }
}
