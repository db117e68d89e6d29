//! The `filter` of a subscription: an expression of CEL over `type`, `key`, `tenant` and `data`.
//!
//! Compiled when the configuration is read, and bounded twice, since the `cel` crate has no bound of its own: an
//! expression that is too large or could run for long is refused there (`plan`), and one whose work would be too much
//! for the event at hand is not evaluated ([`WORK_MAX`], and [`EVENT_WORK_MAX`] for all of an event). An error at run time counts as no match, and is counted.

mod plan;
mod scan;
mod values;

use crate::Facts;
use cel::common::types::{CelBool, CelNull, CelString};
use cel::common::value::Val;
use cel::parser::{Expression, Parser};
use cel::{Context, Env};
use plan::Plan;
use serde_json::Value;
use std::cell::{Cell, OnceCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// How long a filter's text may be, in bytes.
pub const TEXT_MAX: usize = 4 * 1024;
/// How many words and signs a filter's text may have.
pub const TOKENS_MAX: usize = 400;
/// How deep brackets may be nested in a filter's text.
pub const NESTING_MAX: usize = 16;
/// How many nodes the tree of a filter may have, those of its expanded macros included.
pub const NODES_MAX: usize = 200;
/// How deep the tree of a filter may be.
pub const DEPTH_MAX: usize = 32;
/// How many macros that go over a list (`all`, `exists`, `exists_one`, `map`, `filter`) a filter may have.
pub const MACROS_MAX: usize = 2;
/// How much work one evaluation may be, in visited values; what would be more counts as an error.
pub const WORK_MAX: u64 = 25_000;
/// How much work all evaluations for one event may be together, beyond [`WORK_FREE`] of each; what would be more counts
/// as an error. It is used up in the order of the subscriptions.
pub const EVENT_WORK_MAX: u64 = 2 * WORK_MAX;
/// How much work of each evaluation is not counted against [`EVENT_WORK_MAX`]: a filter this small is always evaluated.
pub const WORK_FREE: u64 = 100;
/// Finding out that an evaluation would be too much takes about so much less time than the evaluation.
const METERED_FASTER: u64 = 16;

/// A compiled filter. Cheap to clone; clones count their errors together.
#[derive(Debug, Clone)]
pub struct Filter(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    text: String,
    expression: Expression,
    plan: Plan,
    errors: AtomicU64,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAFilter(pub String);

/// An event as filters see it: what they are evaluated in is made when the first of them needs it, and shared by all.
pub struct Subject<'a> {
    facts: &'a Facts,
    data: &'a Value,
    context: OnceCell<Context<'a, 'a>>,
    /// What is left of [`EVENT_WORK_MAX`].
    left: Cell<u64>,
}

/// The functions of the language; making them takes longer than most evaluations.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

impl Filter {
    /// Compiles a filter and holds it against the bounds.
    ///
    /// # Errors
    /// [`NotAFilter`] says what is wrong, or which bound it breaks.
    pub fn compile(text: &str) -> Result<Self, NotAFilter> {
        if text.len() > TEXT_MAX {
            return Err(NotAFilter(format!("has {} bytes; at most {TEXT_MAX} are read", text.len())));
        }
        scan::hold(text)?;
        let expression = parse(text)?;
        let plan = Plan::of(&expression)?;
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), expression, plan, errors: AtomicU64::new(0) })))
    }

    /// Whether it holds for an event.
    #[must_use]
    pub fn holds(&self, subject: &Subject<'_>) -> bool {
        let held = self.evaluate(subject);
        if held.is_none() {
            self.0.errors.fetch_add(1, Ordering::Relaxed);
        }
        held.unwrap_or(false)
    }

    /// `None` where it fails or is no yes or no.
    fn evaluate(&self, subject: &Subject<'_>) -> Option<bool> {
        if !subject.affords(|most| self.0.plan.work(subject.data, most)) {
            return None;
        }
        // The library panics in places that the plan keeps away from; one that was overlooked costs a match, no more.
        let held = catch_unwind(AssertUnwindSafe(|| {
            let value = cel::Value::resolve_val(&self.0.expression, subject.context()).ok()?;
            value.downcast_ref::<CelBool>().map(|held| *held.inner())
        }));
        held.ok().flatten()
    }

    /// How much work an evaluation for this `data` is at most, in visited values; one over [`WORK_MAX`] is not begun.
    #[must_use]
    pub fn work(&self, data: &Value) -> u64 {
        self.0.plan.work(data, WORK_MAX)
    }

    /// How often it failed at run time: a path that is not there, types that do not go together, too much work.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.0.errors.load(Ordering::Relaxed)
    }

    /// Which of `type`, `key`, `tenant` and `data` it names, each once.
    #[must_use]
    pub fn variables(&self) -> &[&'static str] {
        self.0.plan.variables()
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

impl<'a> Subject<'a> {
    /// An event and the `data` of its notification.
    #[must_use]
    pub const fn new(facts: &'a Facts, data: &'a Value) -> Self {
        Self { facts, data, context: OnceCell::new(), left: Cell::new(EVENT_WORK_MAX) }
    }

    /// The event's type, key, tenant and times.
    #[must_use]
    pub const fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// The `data` of its notification.
    #[must_use]
    pub const fn data(&self) -> &'a Value {
        self.data
    }

    /// Whether there is room for an evaluation, whose work is counted no further than over what it is given.
    fn affords(&self, work: impl FnOnce(u64) -> u64) -> bool {
        let left = self.left.get();
        let most = WORK_MAX.min(left.saturating_add(WORK_FREE));
        let work = work(most);
        let fits = work <= most;
        // What is refused took its time too, or many of those would take long together.
        let used = if fits { work.saturating_sub(WORK_FREE) } else { most / METERED_FASTER };
        self.left.set(left.saturating_sub(used));
        fits
    }

    fn context(&self) -> &Context<'a, 'a> {
        self.context.get_or_init(|| {
            let optional = |text: Option<&'a str>| -> Box<dyn Val + 'a> {
                text.map_or_else(|| Box::new(CelNull) as Box<dyn Val + 'a>, |t| Box::new(CelString::from(t)))
            };
            let mut context = Context::with_env(Arc::clone(&LANGUAGE));
            context.add_variable_as_val("type", optional(Some(self.facts.event_type.as_str())));
            context.add_variable_as_val("key", optional(self.facts.key.as_deref()));
            context.add_variable_as_val("tenant", optional(self.facts.tenant.as_deref()));
            context.add_variable_as_val("data", values::of(self.data));
            context
        })
    }
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("facts", self.facts).finish_non_exhaustive()
    }
}

fn parse(text: &str) -> Result<Expression, NotAFilter> {
    let parsed = catch_unwind(|| Parser::new().error_recovery_limit(1).parse(text));
    let parsed = parsed.map_err(|_| NotAFilter("cannot be read as CEL".to_owned()))?;
    parsed.map_err(|errors| {
        let Some(first) = errors.errors.first() else { return NotAFilter("cannot be read as CEL".to_owned()) };
        let (line, column) = first.pos;
        NotAFilter(format!("cannot be read as CEL at line {line}, column {column}: {}", first.msg))
    })
}

#[cfg(test)]
mod tests;
