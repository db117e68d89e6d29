//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, at a line counted from 1.
    Line {
        /// The file, as it was named.
        file: Arc<Path>,
        /// The line.
        line: usize,
    },
    /// In an environment variable.
    Variable(Arc<str>),
    /// In a JSON document, at a pointer (RFC 6901); of what is missing, where it would stand.
    Pointer(Arc<str>),
}

impl Place {
    /// The place of a key of the table that stands here: of a pointer the one below it, else the table's own.
    pub(super) fn below(&self, key: &str) -> Self {
        match self {
            Self::Pointer(pointer) => {
                let key = key.replace('~', "~0").replace('/', "~1");
                Self::Pointer(format!("{pointer}/{key}").into())
            }
            other => other.clone(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) | Self::Pointer(name) => f.write_str(name),
        }
    }
}

/// Something that is wrong with a configuration. Shown as `file:line: what; hint` on one line, without any secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {}; {}", one_line(.what), one_line(.hint))]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What: names the key, its value where that is no secret, and in a subscription its name.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl Problem {
    /// What and what to do, on one line, without the place.
    pub(crate) fn detail(&self) -> String {
        format!("{}; {}", one_line(&self.what), one_line(&self.hint))
    }
}

/// Control characters escaped: a value from a file must not rewrite the terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem { place: place.clone(), what: what.into(), hint: hint.into() });
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.0.len()
    }

    /// File by file in the order in which they were read, each by line; what comes from variables last.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut files: Vec<Arc<Path>> = Vec::new();
        for problem in &self.0 {
            if let Place::Line { file, .. } = &problem.place
                && !files.contains(file)
            {
                files.push(Arc::clone(file));
            }
        }
        let mut found = self.0;
        found.sort_by_key(|p| match &p.place {
            Place::Line { file, line } => (files.iter().position(|f| f == file).unwrap_or(usize::MAX), *line),
            Place::Variable(_) | Place::Pointer(_) => (usize::MAX, 0),
        });
        found
    }
}
