//! Adds places and fields to the tree of a type, refusing what cannot stand together.
//!
//! Whether a declaration is sound by itself is for `fields` to say.

use super::declare::{FieldDeclaration, FieldKind};
use super::shape::{Inside, Node};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why something cannot be added: what is wrong, and what to do.
pub(super) type Clash = (String, &'static str);

/// Adds the place of a layer.
///
/// # Errors
/// [`Clash`] where something else than an object stands there or on the way; nothing is added then.
pub(super) fn add_place(top: &mut Arc<Node>, at: &[&str]) -> Result<(), Clash> {
    refuse(top, at, FieldKind::Object, false)?;
    insert(top, at, at.len(), &mut |_| ());
    Ok(())
}

/// Adds a field at `steps`, of which the first `place` lead to the place of its layer.
///
/// # Errors
/// [`Clash`] where it cannot stand beside what is there; nothing is added then.
pub(super) fn add_field(
    top: &mut Arc<Node>,
    steps: &[&str],
    place: usize,
    level: u8,
    field: &Arc<FieldDeclaration>,
) -> Result<(), Clash> {
    refuse(top, steps, field.kind, true)?;
    insert(top, steps, place, &mut |node| (node.field, node.level) = (Some(Arc::clone(field)), level));
    Ok(())
}

/// A kind with its article.
pub(super) const fn a_kind(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Boolean => "a boolean",
        FieldKind::Integer => "an integer",
        FieldKind::Number => "a number",
        FieldKind::String => "a string",
        FieldKind::Object => "an object",
        FieldKind::Array => "an array",
    }
}

/// Looks along the path for what cannot stand together, before anything is changed.
fn refuse(top: &Node, steps: &[&str], kind: FieldKind, is_field: bool) -> Result<(), Clash> {
    let mut node = top;
    for (i, step) in steps.iter().enumerate() {
        let above = || if i == 0 { "the top".to_owned() } else { format!("{:?}", steps[..i].join(".")) };
        match node.field.as_ref().map(|f| f.kind) {
            None | Some(FieldKind::Object) => {}
            Some(FieldKind::Array) if *step == "*" => {}
            Some(FieldKind::Array) => {
                return Err((format!("stands in {}, which is an array", above()), "write `*` for each entry of it"));
            }
            Some(kind) => {
                let what = format!("stands in {}, which is {}", above(), a_kind(kind));
                return Err((what, "only objects and arrays hold fields"));
            }
        }
        let mixed = match &node.inside {
            Inside::Nothing => false,
            Inside::Names(names) => *step == "*" && !names.is_empty(),
            Inside::Each(_) => *step != "*",
        };
        if mixed {
            let what = format!("{} would have both `*` and names in it", above());
            return Err((what, "declare either each entry or the names"));
        }
        match node.child(step) {
            Some(child) => node = child,
            None => return Ok(()),
        }
    }
    at_the_end(node, kind, is_field)
}

/// Whether the last node of a path, which is there already, takes a field or place of this kind.
fn at_the_end(node: &Node, kind: FieldKind, is_field: bool) -> Result<(), Clash> {
    let fits = match (&node.field, kind) {
        (Some(_), _) if is_field => {
            return Err(("is declared already, here or in a layer below".to_owned(), "declare each field once"));
        }
        (Some(field), _) if field.kind != FieldKind::Object => {
            let what = format!("is {} already, declared as a field", a_kind(field.kind));
            return Err((what, "a layer's place is an object"));
        }
        (_, FieldKind::Object) => true,
        (_, FieldKind::Array) => !node.place && matches!(node.inside, Inside::Each(_)),
        // Whatever is there without a field was made to hold something.
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let what = format!("is {}, yet others are declared in it", a_kind(kind));
    Err((what, "make it an object, or an array with `*` for each entry"))
}

/// Walks down, making what is not there. Called at a place: the next `places` steps lead over places too. Nothing is in
/// the way, as [`refuse`] found.
fn insert(top: &mut Arc<Node>, steps: &[&str], places: usize, last: &mut dyn FnMut(&mut Node)) {
    let node = Arc::make_mut(top);
    node.place = true;
    if node.inside == Inside::Nothing {
        node.inside = Inside::Names(BTreeMap::new());
    }
    match steps {
        [] => last(node),
        [step, rest @ ..] if places > 0 => insert(open(node, step), rest, places - 1, last),
        [step, rest @ ..] => insert_field(open(node, step), rest, last),
    }
    node.settle();
}

/// As [`insert`], past the last place.
fn insert_field(node: &mut Arc<Node>, steps: &[&str], last: &mut dyn FnMut(&mut Node)) {
    let node = Arc::make_mut(node);
    match steps {
        [] => last(node),
        [step, rest @ ..] => insert_field(open(node, step), rest, last),
    }
    node.settle();
}

/// The child at a step, made where there is none.
fn open<'n>(node: &'n mut Node, step: &str) -> &'n mut Arc<Node> {
    let inside = &mut node.inside;
    if step == "*" && !matches!(inside, Inside::Each(_)) {
        *inside = Inside::Each(Arc::default());
    } else if *inside == Inside::Nothing {
        *inside = Inside::Names(BTreeMap::new());
    }
    match inside {
        Inside::Names(names) => names.entry(step.into()).or_default(),
        Inside::Each(entry) => entry,
        // Cannot be: it was filled above.
        Inside::Nothing => unreachable!("nothing is declared inside"),
    }
}
