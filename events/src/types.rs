//! The grammar of event types: `project:job:pipeline_run:failed`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// How long a type may be, in characters.
pub const TYPE_CHARS_MAX: usize = 128;
/// How many segments a type may have.
pub const TYPE_SEGMENTS_MAX: usize = 8;

/// An event type: 1 to 8 segments of `[a-z0-9_-]+`, divided by `:` or `.`, at most 128 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(Arc<str>);

/// Why a text is not an event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAType {
    /// It has no character, or more than [`TYPE_CHARS_MAX`].
    #[error("a type has 1 to {TYPE_CHARS_MAX} characters, this has {0}")]
    Length(usize),
    /// It has more than [`TYPE_SEGMENTS_MAX`] segments.
    #[error("a type has at most {TYPE_SEGMENTS_MAX} segments, this has {0}")]
    Segments(usize),
    /// A segment is empty.
    #[error("a segment is empty; segments stand between `:` or `.`")]
    EmptySegment,
    /// A character that no segment may have.
    #[error("{0:?} may not stand in a type; use a-z, 0-9, `_`, `-`, and `:` or `.` between segments")]
    Character(char),
}

impl EventType {
    /// Reads a type.
    ///
    /// # Errors
    /// [`NotAType`] with the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, NotAType> {
        check_segments(text, |segment| segment.chars().find(|c| !is_segment_char(*c)).map(NotAType::Character))?;
        Ok(Self(text.into()))
    }

    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) fn is_segment_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-'
}

/// Checks the length, the number of segments and each of them; shared with patterns.
pub(crate) fn check_segments(text: &str, wrong: impl Fn(&str) -> Option<NotAType>) -> Result<(), NotAType> {
    let chars = text.chars().count();
    if chars == 0 || chars > TYPE_CHARS_MAX {
        return Err(NotAType::Length(chars));
    }
    let mut segments = 0;
    for segment in text.split([':', '.']) {
        segments += 1;
        if segment.is_empty() {
            return Err(NotAType::EmptySegment);
        }
        if let Some(error) = wrong(segment) {
            return Err(error);
        }
    }
    if segments > TYPE_SEGMENTS_MAX { Err(NotAType::Segments(segments)) } else { Ok(()) }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl TryFrom<String> for EventType {
    type Error = NotAType;

    fn try_from(text: String) -> Result<Self, NotAType> {
        Self::parse(&text)
    }
}

impl From<EventType> for String {
    fn from(t: EventType) -> Self {
        t.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_types_are_read() {
        for text in ["a", "project:created", "shop.order.paid", "a:b.c", "x_1-2", "a:b:c:d:e:f:g:h"] {
            assert_eq!(EventType::parse(text).unwrap().as_str(), text);
        }
        assert!(EventType::parse(&"a".repeat(128)).is_ok());
    }

    #[test]
    fn a_wrong_type_names_what_is_wrong() {
        assert_eq!(EventType::parse(""), Err(NotAType::Length(0)));
        assert_eq!(EventType::parse(&"a".repeat(129)), Err(NotAType::Length(129)));
        assert_eq!(EventType::parse("a::b"), Err(NotAType::EmptySegment));
        assert_eq!(EventType::parse("a:"), Err(NotAType::EmptySegment));
        assert_eq!(EventType::parse(".a"), Err(NotAType::EmptySegment));
        assert_eq!(EventType::parse("Project"), Err(NotAType::Character('P')));
        assert_eq!(EventType::parse("a b"), Err(NotAType::Character(' ')));
        assert_eq!(EventType::parse("a:*"), Err(NotAType::Character('*')));
        assert_eq!(EventType::parse("ä"), Err(NotAType::Character('ä')));
        assert_eq!(EventType::parse("a:b:c:d:e:f:g:h:i"), Err(NotAType::Segments(9)));
    }
}
