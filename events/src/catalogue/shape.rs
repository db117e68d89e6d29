//! The compiled form of a type: the tree of everything that its layers and itself declare.
//!
//! `compile` makes it, everything else walks it. A step of a path is a name, or `*` for each entry.

use super::declare::FieldDeclaration;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One place in the properties.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Node {
    /// What is declared of it; `None` for what only lies on the way to something declared.
    pub(super) field: Option<Arc<FieldDeclaration>>,
    /// Whether it is the place of a layer: an object that must be there where something in it is required.
    pub(super) place: bool,
    /// What may stand in it.
    pub(super) inside: Inside,
}

/// What may stand in a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Inside {
    /// Nothing is declared in it: a scalar, or an object or array that is free inside.
    #[default]
    Nothing,
    /// An object with exactly these names.
    Names(BTreeMap<Box<str>, Node>),
    /// An object or array, each of whose entries is this.
    Each(Box<Node>),
}
