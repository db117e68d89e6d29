//! Patterns over event types: `*` is one segment, `**` any number, none included.

use crate::types::{NotAType, TYPE_SEGMENTS_MAX, check_segments, is_segment_char};
use std::fmt;

/// A pattern such as `project:**`; `:` and `.` match themselves only.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
struct Part {
    /// What stands before the segment: nothing for the first.
    separator: Option<char>,
    segment: Segment,
}

#[derive(Clone, PartialEq, Eq)]
enum Segment {
    Exactly(String),
    One,
    Any,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`NotAType`] with the first thing that is wrong; the bounds of a type hold for a pattern too.
    pub fn parse(text: &str) -> Result<Self, NotAType> {
        check_segments(text, |segment| match segment {
            "*" | "**" => None,
            _ => segment.chars().find(|c| !is_segment_char(*c)).map(NotAType::Character),
        })?;
        let (segments, count) = segments_of(text);
        let part = |&(separator, segment): &(Option<char>, &str)| Part {
            separator,
            segment: match segment {
                "*" => Segment::One,
                "**" => Segment::Any,
                _ => Segment::Exactly(segment.to_owned()),
            },
        };
        Ok(Self { text: text.to_owned(), parts: segments[..count].iter().map(part).collect() })
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern begins with exactly this segment; what decides if the daemon's own events are meant.
    #[must_use]
    pub fn begins_with(&self, segment: &str) -> bool {
        matches!(self.parts.first(), Some(Part { segment: Segment::Exactly(s), .. }) if s == segment)
    }

    /// Whether it means exactly the type that it spells.
    pub(crate) fn is_whole(&self) -> bool {
        self.parts.iter().all(|part| matches!(part.segment, Segment::Exactly(_)))
    }

    /// The segment that every type begins with that is meant; `None` where it may be any.
    pub(crate) fn first(&self) -> Option<&str> {
        match self.parts.first() {
            Some(Part { segment: Segment::Exactly(first), .. }) => Some(first),
            _ => None,
        }
    }

    /// Whether an event of this type is meant. Takes time in proportion to the segments of both, at most 8 × 8.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        // Bit `i` of `reached`: what was read of the pattern can stand for the first `i` segments of the type.
        let (segments, count) = segments_of(event_type);
        let mut reached = 1_u16;
        for part in &self.parts {
            let mut next = 0_u16;
            for at in (0..=count).filter(|at| reached & 1 << at != 0) {
                // The first segment of a type has no separator: a pattern's gets there with `**` taking none before it.
                let fits = |(before, _): &(Option<char>, &str)| before.is_none() || *before == part.separator;
                let here = segments[..count].get(at).filter(|s| fits(s));
                match (&part.segment, here) {
                    (Segment::Exactly(wanted), Some((_, segment))) if wanted == segment => next |= 1 << (at + 1),
                    (Segment::One, Some(_)) => next |= 1 << (at + 1),
                    (Segment::Any, Some(_)) => next |= (at..=count).fold(0, |bits, end| bits | 1 << end),
                    (Segment::Any, None) => next |= 1 << at,
                    _ => {}
                }
            }
            reached = next;
        }
        reached & 1 << count != 0
    }
}

/// A type's segments, each with what stands before it, and how many there are.
fn segments_of(event_type: &str) -> ([(Option<char>, &str); TYPE_SEGMENTS_MAX], usize) {
    let mut segments = [(None, ""); TYPE_SEGMENTS_MAX];
    let (mut count, mut before, mut rest) = (0, None, event_type);
    while count < TYPE_SEGMENTS_MAX {
        let end = rest.find([':', '.']);
        segments[count] = (before, &rest[..end.unwrap_or(rest.len())]);
        count += 1;
        let Some(end) = end else { break };
        before = rest[end..].chars().next();
        rest = &rest[end + 1..];
    }
    (segments, count)
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pattern: &str, yes: &[&str], no: &[&str]) {
        let p = Pattern::parse(pattern).unwrap();
        for t in yes {
            assert!(p.matches(t), "{pattern} should match {t}");
        }
        for t in no {
            assert!(!p.matches(t), "{pattern} should not match {t}");
        }
    }

    #[test]
    fn a_star_is_one_segment() {
        table("project:*", &["project:created"], &["project", "project:job:failed", "project.created"]);
        table("*", &["project"], &["project:created"]);
        table("*:*.x", &["a:b.x"], &["a:b:x", "a.b.x"]);
    }

    #[test]
    fn two_stars_are_any_number_of_segments_none_included() {
        table("a:**", &["a", "a:b", "a:b:c", "a:b.c"], &["a.b", "b", "ab"]);
        table("**", &["a", "a:b", "a.b:c"], &[]);
        table("**:failed", &["failed", "a:failed", "a.b:failed"], &["a.failed", "failed:a"]);
        table("a:**:b", &["a:b", "a:x:b", "a:x.y:b"], &["a.b", "a:x.b", "a:x"]);
        table("a:**:**:b", &["a:b", "a:x:y:b"], &["a.b"]);
        table("**:**", &["a", "a:b", "a:b:c"], &[]);
    }

    #[test]
    fn a_plain_pattern_matches_its_type_only() {
        table("a:b", &["a:b"], &["a.b", "a:b:c", "a", "a:bb"]);
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for text in ["", "a::b", "Project:**", "a:***", "a:b*", ":a", "a b", "a:b:c:d:e:f:g:h:i"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
