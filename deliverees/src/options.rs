//! Reads the options of a kind: a strict serde struct from a map, with every problem at once, not the first alone.
//!
//! The map comes from TOML or from the API, with `env:` and `file:` already resolved. What the values mean is checked
//! by each kind; the line of a problem is found by whoever read the text, from the problem's path.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::time::Duration;

/// The options of one subscription that belong to its kind, as they were written.
pub type Options = Map<String, Value>;

/// Something wrong with an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which option, dotted where it is inside one: `timeout`, `headers.x-env`, `secrets.1`.
    pub path: String,
    /// What is wrong, naming the key and its value (never a secret).
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl Problem {
    /// A problem with the option at `path`.
    pub fn new(path: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into(), hint: hint.into() }
    }

    /// A good value of a feature that does not exist yet.
    pub(crate) fn not_built(path: &str, value: &str) -> Self {
        Self::new(path, format!("{path} = {value:?} is not built yet"), "leave it out for now")
    }
}

/// What a kind says of its options, so that they can be read strictly.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// Every key that there is.
    pub known: &'static [&'static str],
    /// Those whose value is never shown, not even where it is wrong.
    pub secret: &'static [&'static str],
}

/// Reads the options as a `T` that takes every key by itself (each field has a default), and says all that is wrong
/// with their form. Keys that are wrong are left at their default, so that the rest can be checked all the same.
pub(crate) fn read<T: DeserializeOwned + Default>(options: &Options, keys: Keys, problems: &mut Vec<Problem>) -> T {
    let mut good = Map::new();
    for (key, value) in options {
        if !keys.known.contains(&key.as_str()) {
            problems.push(unknown(key, keys.known));
            continue;
        }
        let alone = Map::from_iter([(key.clone(), value.clone())]);
        match serde_json::from_value::<T>(Value::Object(alone)) {
            Ok(_) => {
                good.insert(key.clone(), value.clone());
            }
            // A value of the wrong form could be a secret at the wrong place.
            Err(_) if keys.secret.contains(&key.as_str()) => {
                problems.push(Problem::new(
                    key,
                    format!("{key} has the wrong form"),
                    "see the documentation of this option",
                ));
            }
            Err(error) => problems.push(Problem::new(
                key,
                format!("{key} = {value}: {error}"),
                "see the documentation of this option",
            )),
        }
    }
    // Each key was read on its own, so together they are read too.
    serde_json::from_value(Value::Object(good)).unwrap_or_default()
}

fn unknown(key: &str, known: &[&str]) -> Problem {
    let near = known.iter().map(|k| (distance(key, k), *k)).min().filter(|(d, _)| *d <= 2);
    let hint = match near {
        Some((_, near)) => format!("did you mean {near}?"),
        None => format!("there are: {}", known.join(", ")),
    };
    Problem::new(key, format!("unknown key {key}"), hint)
}

/// How many characters must be changed, added or left out to come from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

/// A span of time as it is written: `"250ms"`, `"5s"`, `"3d"`. A whole number and one of the units ms, s, m, h, d.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Reads a span.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).map(|ms| Self(Duration::from_millis(ms)))
    }
}

impl std::fmt::Display for Span {
    /// In the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        match units.into_iter().find(|(_, unit)| ms != 0 && ms.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        value.as_str().and_then(Self::parse).ok_or_else(|| {
            D::Error::custom("not a duration; write a whole number and a unit of ms, s, m, h or d, such as \"5s\"")
        })
    }
}

/// A number of bytes as it is written: `"512B"`, `"256KiB"`, `"8MiB"`, `"4GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// The units of a [`Size`], the largest first, and by how many bits each shifts.
const SIZE_UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl Size {
    /// Reads a size.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let (_, shift) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(1 << shift).map(Self)
    }
}

impl std::fmt::Display for Size {
    /// In the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fits = |shift: u32| self.0 != 0 && self.0.is_multiple_of(1 << shift);
        match SIZE_UNITS.into_iter().find(|(_, shift)| fits(*shift)) {
            Some((name, shift)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        value.as_str().and_then(Self::parse).ok_or_else(|| {
            D::Error::custom("not a size; write a whole number with B, KiB, MiB or GiB, such as \"256KiB\"")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        timeout: Option<Span>,
        secrets: Vec<String>,
    }

    const KEYS: Keys = Keys { known: &["timeout", "secrets"], secret: &["secrets"] };

    #[test]
    fn spans_read_back_as_written_and_others_are_refused() {
        for text in ["250ms", "5s", "90s", "15m", "6h", "3d"] {
            let shown = Span::parse(text).unwrap().to_string();
            assert_eq!(Span::parse(&shown), Span::parse(text));
        }
        assert_eq!(Span::parse("90000ms").unwrap().to_string(), "90s");
        assert_eq!(Span::parse("0s").unwrap().to_string(), "0ms");
        for text in
            ["", "5", "s", "5 s", "-5s", "1.5s", "5S", "5sec", "99999999999999999999s", "18446744073709551615d", "५s"]
        {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_read_back_as_written_and_others_are_refused() {
        for text in ["0B", "1B", "1023B", "400KiB", "64MiB", "4GiB", "1025KiB"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Size::parse("2048KiB").unwrap().to_string(), "2MiB");
        for text in ["", "5", "KiB", "5 KiB", "-5KiB", "1.5MiB", "5kib", "5KB", "99999999999GiB", "\u{96b}KiB"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_problem_is_told_and_no_secret_is_shown() {
        let options = serde_json::json!({ "timeout": 5, "secrets": "whsec_canary", "timeuot": "5s", "zzz": 1 });
        let mut problems = Vec::new();
        let read: Sample = read(options.as_object().unwrap(), KEYS, &mut problems);
        assert_eq!(read, Sample::default());
        assert_eq!(problems.len(), 4, "{problems:?}");
        let text = format!("{problems:?}");
        assert!(!text.contains("canary") && text.contains("did you mean timeout?"), "{text}");
    }

    #[test]
    fn what_is_right_is_read_beside_what_is_wrong() {
        let options = serde_json::json!({ "timeout": "5s", "secrets": 7 });
        let mut problems = Vec::new();
        let read: Sample = read(options.as_object().unwrap(), KEYS, &mut problems);
        assert_eq!((read.timeout, problems.len()), (Some(Span(Duration::from_secs(5))), 1));
    }
}
