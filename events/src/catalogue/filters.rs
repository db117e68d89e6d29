//! Which paths of a notification a `where` may name: every scalar that is told, none under `*`.

use super::FilterPath;
use super::declare::{FieldDeclaration, FieldKind, Rule};
use super::shape::{Inside, Node};

/// All of them, in order.
pub(super) fn filters(top: &Node) -> Vec<FilterPath> {
    let mut found = Vec::new();
    scalars(top, &mut Vec::new(), &mut |path, node, field| found.push(filter_path(path, node, field)));
    let identities = identities(top);
    found.into_iter().map(|(filter, level)| require(filter, level, &identities)).collect()
}

/// The one at a path.
pub(super) fn filter(top: &Node, path: &[String]) -> Option<FilterPath> {
    let mut node = top;
    for step in path {
        let Inside::Names(names) = &node.inside else { return None };
        node = names.get(step.as_str()).filter(|child| !child.marks.hidden)?;
    }
    let field = node.field.as_ref().filter(|f| is_scalar(f.kind))?;
    let steps: Vec<_> = path.iter().map(String::as_str).collect();
    let (filter, level) = filter_path(&steps, node, field);
    let identities = if level.is_some() { identities(top) } else { Vec::new() };
    Some(require(filter, level, &identities))
}

/// Whether a scalar may stand at a path, declared or not. Of an array a path names no entry.
pub(super) fn reaches(top: &Node, path: &[String]) -> bool {
    let mut node = top;
    for step in path {
        let kind = node.field.as_ref().map(|f| f.kind);
        node = match &node.inside {
            Inside::Names(names) => match names.get(step.as_str()) {
                Some(child) => child,
                None => return false,
            },
            Inside::Each(each) if kind != Some(FieldKind::Array) => each,
            Inside::Nothing if kind == Some(FieldKind::Object) => return true,
            Inside::Each(_) | Inside::Nothing => return false,
        };
        if node.marks.hidden {
            return false;
        }
    }
    node.field.as_ref().is_some_and(|f| is_scalar(f.kind))
}

const fn is_scalar(kind: FieldKind) -> bool {
    !matches!(kind, FieldKind::Object | FieldKind::Array)
}

/// Calls with each scalar that a notification has outside of `*`.
fn scalars<'n>(
    node: &'n Node,
    path: &mut Vec<&'n str>,
    found: &mut impl FnMut(&[&'n str], &'n Node, &'n FieldDeclaration),
) {
    if let Some(field) = node.field.as_deref().filter(|f| is_scalar(f.kind)) {
        found(path, node, field);
    }
    let Inside::Names(names) = &node.inside else { return };
    for (name, child) in names.iter().filter(|(_, child)| !child.marks.hidden) {
        path.push(name);
        scalars(child, path, found);
        path.pop();
    }
}

/// A path that requires nothing yet, and the level of its layer if it identifies that.
fn filter_path(path: &[&str], node: &Node, field: &FieldDeclaration) -> (FilterPath, Option<u8>) {
    let (path, requires) = (path.join("."), Vec::new());
    let values = if field.rule == Rule::CountBy { Vec::new() } else { field.values.clone() };
    // A number that is no word of a vocabulary leaves rounded.
    let kept = field.rule == Rule::Keep && (field.kind != FieldKind::Number || !values.is_empty());
    (FilterPath { path, kind: field.kind, values, requires, kept }, field.identity.then_some(node.level))
}

/// The paths that identify something, each with the level of its layer.
fn identities(top: &Node) -> Vec<(u8, String)> {
    let mut found = Vec::new();
    scalars(top, &mut Vec::new(), &mut |path, node, field| {
        if field.identity {
            found.push((node.level, path.join(".")));
        }
    });
    found.sort_unstable();
    found
}

/// What identifies one thing in a layer is told apart only together with what the layer stands on.
fn require(filter: FilterPath, level: Option<u8>, identities: &[(u8, String)]) -> FilterPath {
    let Some(level) = level else { return filter };
    let requires = identities.iter().filter(|(above, _)| *above < level).map(|(_, path)| path.clone()).collect();
    FilterPath { requires, ..filter }
}
