//! What a filter reaches for, found once when it is compiled: from it follows how much work one evaluation is at most,
//! before it is begun.
//!
//! The work of an operation is linear in the values that it is given. What those may be is known, since every value
//! comes from a path of `data`, a literal, or the entry that a macro is at; a macro goes over such a path or over a list
//! of literals, and has none within.

use super::{DEPTH_MAX, MACROS_MAX, NODES_MAX, NotAFilter};
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::parser::Expression;
use serde_json::Value;

/// What may be called; operators are named as the parser names them.
const FUNCTIONS: [&str; 27] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::NOT_STRICTLY_FALSE,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::INDEX,
    operators::IN,
    SIZE,
    "contains",
    "startsWith",
    "endsWith",
    "int",
    "uint",
    "double",
    "string",
];
const SIZE: &str = "size";
/// Calls whose answer is never a yes or no.
const NEVER_BOOLEAN: [&str; 11] = [
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    SIZE,
    "int",
    "uint",
    "double",
    "string",
];
const VARIABLES: [&str; 4] = ["type", "key", "tenant", DATA];
const DATA: &str = "data";
/// What the parser calls a macro's answer; no text can name it.
const RESULT: &str = "@result";
/// So many bytes of text are as much work as one value.
const BYTES_A_VALUE: usize = 16;

/// What one evaluation reaches for.
#[derive(Debug, Default)]
pub(super) struct Plan {
    whole: Scope,
    loops: Vec<Loop>,
    /// Which of [`VARIABLES`] it names, each once.
    named: Vec<&'static str>,
}

/// What is evaluated once, or once for each entry that a macro goes over.
#[derive(Debug, Default)]
struct Scope {
    /// Nodes, and the length of literals.
    nodes: u64,
    /// Operations that copy what they are given: `+`, lists and maps.
    copies: u64,
    of_data: Vec<Reach>,
    of_entry: Vec<Reach>,
}

/// A macro.
#[derive(Debug)]
struct Loop {
    range: Range,
    /// Whether it makes a list, which what is around it may go through again.
    makes_list: bool,
    scope: Scope,
}

#[derive(Debug)]
enum Range {
    Path(Vec<Step>),
    Literals(u64),
}

/// A path that is read.
#[derive(Debug)]
struct Reach {
    steps: Vec<Step>,
    /// Whether all that stands there may be gone through, or only its size asked for.
    deep: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    At(usize),
}

impl Plan {
    /// Finds what an expression reaches for, and holds it against the bounds.
    pub(super) fn of(expression: &Expression) -> Result<Self, NotAFilter> {
        if never_boolean(&expression.expr) {
            return Err(NotAFilter("does not answer yes or no; compare it with something".into()));
        }
        let mut reading = Reading { plan: Self::default(), entry: None, nodes: 0 };
        let mut whole = Scope::default();
        reading.walk(expression, &mut whole, 1)?;
        Ok(Self { whole, ..reading.plan })
    }

    /// Which variables the expression names.
    pub(super) fn variables(&self) -> &[&'static str] {
        &self.named
    }

    /// How much work an evaluation for this `data` is at most; counted no further than over `most`.
    pub(super) fn work(&self, data: &Value, most: u64) -> u64 {
        let mut meter = Meter { work: 0, most };
        let around = 1 + self.whole.copies;
        meter.add(self.whole.nodes, 1);
        self.whole.of_data.iter().for_each(|reach| meter.reach(reach, data, around));
        for each in &self.loops {
            if meter.is_full() {
                break;
            }
            let around = if each.makes_list { around } else { 1 };
            each.work(data, &mut meter, around);
        }
        meter.work
    }
}

impl Loop {
    fn work(&self, data: &Value, meter: &mut Meter, around: u64) {
        let times = around.saturating_mul(1 + self.scope.copies);
        let entries = match &self.range {
            Range::Literals(n) => *n,
            Range::Path(steps) => {
                let Some(range) = found(data, steps) else { return };
                // Each entry is copied into the macro's variable.
                meter.weigh(range, around);
                match range {
                    Value::Array(entries) => {
                        let _ = entries.iter().all(|e| self.entry(Some(e), 0, times, meter));
                    }
                    // Over an object a macro goes by its names.
                    Value::Object(entries) => {
                        let _ = entries.keys().all(|name| self.entry(None, text_weight(name), times, meter));
                    }
                    _ => {}
                }
                u64::try_from(length(range)).unwrap_or(u64::MAX)
            }
        };
        meter.add(self.scope.nodes, entries.saturating_mul(around));
        let times = times.saturating_mul(entries);
        self.scope.of_data.iter().for_each(|reach| meter.reach(reach, data, times));
    }

    /// Adds what is reached for in one entry, or in a name of so much weight; whether there is room for more.
    fn entry(&self, entry: Option<&Value>, name: u64, times: u64, meter: &mut Meter) -> bool {
        for reach in &self.scope.of_entry {
            match entry {
                Some(entry) => meter.reach(reach, entry, times),
                None => meter.add(name, times),
            }
        }
        !meter.is_full()
    }
}

/// Adds up work, and stops once it is too much.
struct Meter {
    work: u64,
    most: u64,
}

impl Meter {
    fn add(&mut self, work: u64, times: u64) {
        self.work = self.work.saturating_add(work.saturating_mul(times));
    }

    const fn is_full(&self) -> bool {
        self.work > self.most
    }

    fn reach(&mut self, reach: &Reach, from: &Value, times: u64) {
        match found(from, &reach.steps) {
            Some(value) if reach.deep => {
                self.weigh(value, times);
            }
            Some(Value::String(text)) => self.add(text_weight(text), times),
            _ => self.add(1, times),
        }
    }

    /// Adds everything that a value consists of; whether there is room for more.
    fn weigh(&mut self, value: &Value, times: u64) -> bool {
        if self.is_full() || times == 0 {
            return !self.is_full();
        }
        match value {
            Value::String(text) => self.add(text_weight(text), times),
            Value::Array(entries) => {
                self.add(1, times);
                let _ = entries.iter().all(|entry| self.weigh(entry, times));
            }
            Value::Object(entries) => {
                self.add(1, times);
                let _ = entries.iter().all(|(name, entry)| {
                    self.add(text_weight(name), times);
                    self.weigh(entry, times)
                });
            }
            _ => self.add(1, times),
        }
        !self.is_full()
    }
}

fn text_weight(text: &str) -> u64 {
    u64::try_from(1 + text.len() / BYTES_A_VALUE).unwrap_or(u64::MAX)
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(entries) => entries.len(),
        Value::Object(entries) => entries.len(),
        _ => 0,
    }
}

fn found<'v>(from: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(from, |at, step| match step {
        Step::Name(name) => at.get(name),
        Step::At(place) => at.get(place),
    })
}

/// The expression while it is gone through.
struct Reading {
    plan: Plan,
    /// The variable of the macro that is gone through.
    entry: Option<String>,
    nodes: usize,
}

impl Reading {
    fn walk(&mut self, expression: &Expression, scope: &mut Scope, depth: usize) -> Result<(), NotAFilter> {
        if depth > DEPTH_MAX {
            return Err(NotAFilter(format!("is more than {DEPTH_MAX} levels deep; make it simpler")));
        }
        self.count(scope, 1)?;
        if self.reach(&expression.expr, scope, true)? {
            return Ok(());
        }
        match &expression.expr {
            Expr::Ident(name) if name == RESULT => Ok(()),
            Expr::Ident(name) => {
                Err(NotAFilter(format!("names {name:?}, which there is not; there are {}", VARIABLES.join(", "))))
            }
            Expr::Literal(LiteralValue::Bytes(_)) => Err(NotAFilter("has bytes; JSON has none".into())),
            Expr::Literal(literal) => {
                scope.nodes += literal_weight(literal);
                Ok(())
            }
            Expr::Call(call) => self.call(call, scope, depth),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth),
            Expr::Select(select) => {
                // Of what is only tested for, or whose size is asked, nothing is gone through.
                if select.test && self.reach(&select.operand.expr, scope, false)? {
                    return Ok(());
                }
                self.walk(&select.operand, scope, depth + 1)
            }
            Expr::List(list) => {
                scope.copies += 1;
                list.elements.iter().try_for_each(|element| self.walk(element, scope, depth + 1))
            }
            Expr::Map(map) => {
                scope.copies += 1;
                map.entries.iter().try_for_each(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        self.walk(&entry.key, scope, depth + 1)?;
                        self.walk(&entry.value, scope, depth + 1)
                    }
                    EntryExpr::StructField(_) => Err(NotAFilter("names a message; there are none".into())),
                })
            }
            Expr::Struct(_) | Expr::Unspecified => Err(NotAFilter("names a message; there are none".into())),
        }
    }

    fn call(&mut self, call: &CallExpr, scope: &mut Scope, depth: usize) -> Result<(), NotAFilter> {
        let name = call.func_name.as_str();
        if !FUNCTIONS.contains(&name) {
            return Err(NotAFilter(format!(
                "calls {name:?}, which there is not; beside the operators there are has, all, exists, exists_one, map, \
                 filter, size, contains, startsWith, endsWith, int, uint, double and string"
            )));
        }
        let mut parts = call.target.as_deref().into_iter().chain(&call.args);
        if name == SIZE && parts.clone().count() == 1 {
            let only = parts.next();
            if let Some(part) = only
                && !self.reach(&part.expr, scope, false)?
            {
                self.walk(part, scope, depth + 1)?;
            }
            return Ok(());
        }
        // What a macro adds to its answer, the library appends in place.
        let answer = call.args.first().is_some_and(|a| matches!(&a.expr, Expr::Ident(name) if name == RESULT));
        scope.copies += u64::from(name == operators::ADD && !answer);
        parts.try_for_each(|part| self.walk(part, scope, depth + 1))
    }

    fn comprehension(&mut self, of: &ComprehensionExpr, depth: usize) -> Result<(), NotAFilter> {
        if self.entry.is_some() {
            return Err(NotAFilter("has a macro within a macro; one goes over a list at a time".into()));
        }
        if self.plan.loops.len() >= MACROS_MAX {
            return Err(NotAFilter(format!(
                "has more than {MACROS_MAX} macros; give the sets to several subscriptions"
            )));
        }
        if VARIABLES.contains(&of.iter_var.as_str()) {
            return Err(NotAFilter(format!("calls a macro's variable {:?}; choose another name", of.iter_var)));
        }
        let range = match (&of.iter_range.expr, path(&of.iter_range.expr)) {
            (_, Some((DATA, steps))) => {
                self.name(DATA);
                Range::Path(steps)
            }
            (Expr::List(list), _) if list.elements.iter().all(|e| matches!(e.expr, Expr::Literal(_))) => {
                let weights = list.elements.iter().map(|e| match &e.expr {
                    Expr::Literal(literal) => 1 + literal_weight(literal),
                    _ => 1,
                });
                Range::Literals(weights.sum())
            }
            _ => {
                return Err(NotAFilter(
                    "has a macro over something else than a path of data, such as data.items".into(),
                ));
            }
        };
        self.entry = Some(of.iter_var.clone());
        let mut scope = Scope::default();
        for part in [&of.accu_init, &of.loop_cond, &of.loop_step, &of.result] {
            self.walk(part, &mut scope, depth + 1)?;
        }
        self.entry = None;
        let makes_list = matches!(of.accu_init.expr, Expr::List(_));
        self.plan.loops.push(Loop { range, makes_list, scope });
        Ok(())
    }

    /// Notes a path of `data`, or of a macro's entry; `false`: it is neither.
    fn reach(&mut self, expr: &Expr, scope: &mut Scope, deep: bool) -> Result<bool, NotAFilter> {
        let Some((root, steps)) = path(expr) else { return Ok(false) };
        self.name(root);
        let into = match root {
            DATA => &mut scope.of_data,
            root if self.entry.as_deref() == Some(root) => &mut scope.of_entry,
            // Short texts: their length is bounded.
            root if VARIABLES.contains(&root) => return self.count(scope, BYTES_A_VALUE).map(|()| true),
            _ => return Ok(false),
        };
        let length = steps.len();
        into.push(Reach { steps, deep });
        self.count(scope, length).map(|()| true)
    }

    /// Notes a variable; a macro's own is called otherwise.
    fn name(&mut self, root: &str) {
        let variable = VARIABLES.into_iter().find(|name| *name == root);
        self.plan.named.extend(variable.filter(|name| !self.plan.named.contains(name)));
    }

    fn count(&mut self, scope: &mut Scope, nodes: usize) -> Result<(), NotAFilter> {
        self.nodes += nodes;
        scope.nodes += u64::try_from(nodes).unwrap_or(u64::MAX);
        if self.nodes > NODES_MAX {
            return Err(NotAFilter(format!("has more than {NODES_MAX} parts; make it simpler")));
        }
        Ok(())
    }
}

/// The path that an expression spells: the name that it begins with, and the steps from there.
fn path(mut expr: &Expr) -> Option<(&str, Vec<Step>)> {
    let mut steps = Vec::new();
    loop {
        match expr {
            Expr::Ident(name) => {
                steps.reverse();
                return Some((name, steps));
            }
            Expr::Select(select) if !select.test => {
                steps.push(Step::Name(select.field.clone()));
                expr = &select.operand.expr;
            }
            Expr::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
                steps.push(match &call.args[1].expr {
                    Expr::Literal(LiteralValue::String(name)) => Step::Name(name.inner().to_owned()),
                    Expr::Literal(LiteralValue::Int(at)) => Step::At(usize::try_from(*at.inner()).ok()?),
                    _ => return None,
                });
                expr = &call.args[0].expr;
            }
            _ => return None,
        }
    }
}

fn literal_weight(literal: &LiteralValue) -> u64 {
    match literal {
        LiteralValue::String(text) => text_weight(text.inner()),
        _ => 0,
    }
}

fn never_boolean(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) => true,
        Expr::Call(call) => NEVER_BOOLEAN.contains(&call.func_name.as_str()),
        Expr::Comprehension(of) => matches!(of.accu_init.expr, Expr::List(_)),
        Expr::Ident(name) => VARIABLES.contains(&name.as_str()),
        _ => false,
    }
}
