//! Lists the fields of a type, those of its layers included, for whoever explains it.

use super::declare::FieldDeclaration;
use super::shape::Node;
use std::sync::Arc;

/// A field of a type.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedField {
    /// Where it stands, seen from the properties: names with dots between, `*` for each entry.
    pub path: String,
    /// The layer that declares it; `None`: the type itself.
    pub layer: Option<String>,
    /// Whether it must be there, where what it stands in is there.
    pub required: bool,
    /// Whether notifications have it; else it is for telemetry alone.
    pub told: bool,
    /// What is declared of it. Its `path` is seen from its layer's place.
    pub declaration: Arc<FieldDeclaration>,
}

/// Every declared field, by path.
pub(super) fn listed(top: &Node, layers: &[String]) -> Vec<ListedField> {
    let mut found = Vec::new();
    walk(top, &mut Vec::new(), true, layers, &mut found);
    found
}

fn walk<'n>(node: &'n Node, path: &mut Vec<&'n str>, told: bool, layers: &[String], found: &mut Vec<ListedField>) {
    let told = told && !node.marks.hidden;
    if let Some(declaration) = &node.field {
        found.push(ListedField {
            path: path.join("."),
            layer: layers.get(usize::from(node.level)).cloned(),
            required: declaration.required,
            told,
            declaration: Arc::clone(declaration),
        });
    }
    for (step, child) in node.children() {
        path.push(step);
        walk(child, path, told, layers, found);
        path.pop();
    }
}
