//! Text that may leave: the catalogue's own, and no other.
//!
//! A [`Word`] is made only when a catalogue is compiled, of what was declared. What an event brings can be compared with
//! it and choose one; it cannot become one.

use serde_json::Number;

/// A text of the catalogue: a name of a field, a word of a vocabulary, a label of a bucket.
#[derive(Debug, PartialEq)]
pub(in crate::catalogue) struct Word {
    raw: Box<str>,
    json: Box<str>,
}

impl Word {
    /// A declared text.
    pub(super) fn declared(text: &str) -> Self {
        Self { raw: text.into(), json: serde_json::Value::from(text).to_string().into() }
    }

    /// A declared number, which leaves as it was declared; a whole one without a fraction, as any other that leaves.
    pub(super) fn number(number: &Number) -> Self {
        let text = number.to_string();
        let text: Box<str> = text.strip_suffix(".0").unwrap_or(&text).into();
        Self { raw: text.clone(), json: text }
    }

    /// The text itself.
    pub(in crate::catalogue) fn raw(&self) -> &str {
        &self.raw
    }

    /// The text as JSON.
    pub(in crate::catalogue) fn json(&self) -> &str {
        &self.json
    }
}

/// A closed vocabulary, sorted, each word once.
#[derive(Debug, PartialEq, Default)]
pub(in crate::catalogue) struct Words(Box<[Word]>);

impl Words {
    /// The declared texts.
    pub(super) fn declared<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut texts: Vec<&str> = texts.into_iter().collect();
        texts.sort_unstable();
        texts.dedup();
        Self(texts.into_iter().map(Word::declared).collect())
    }

    /// The place of the word that is the same as `said`.
    pub(in crate::catalogue) fn place(&self, said: &str) -> Option<usize> {
        self.0.binary_search_by(|word| (*word.raw).cmp(said)).ok()
    }

    /// The catalogue's word that is the same as `said`.
    pub(in crate::catalogue) fn find<'c>(&'c self, said: &str) -> Option<&'c Word> {
        self.0.get(self.place(said)?)
    }

    /// The word at a place.
    pub(in crate::catalogue) fn get(&self, place: usize) -> Option<&Word> {
        self.0.get(place)
    }

    /// Every word, sorted.
    pub(in crate::catalogue) fn iter(&self) -> impl ExactSizeIterator<Item = &Word> {
        self.0.iter()
    }
}
