//! The compiled form of a type: the tree of everything that its layers and itself declare.
//!
//! `compile` makes it, everything else walks it. A step of a path is a name, or `*` for each entry. A layer's tree and
//! those of the layers and types on it share every branch to which nothing was added.

use super::declare::{Audience, FieldDeclaration};
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
    /// Which layer of the chain declared `field`, counted from the outermost; the type itself comes after its layer.
    pub(super) level: u8,
    /// What follows from the rest; kept by [`Node::settle`].
    pub(super) marks: Marks,
}

/// What may stand in a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Inside {
    /// Nothing is declared in it: a scalar, or an object or array that is free inside.
    #[default]
    Nothing,
    /// An object with exactly these names. The top and every place have this, be it with no name at all.
    Names(BTreeMap<Arc<str>, Arc<Node>>),
    /// An object or array, each of whose entries is this.
    Each(Arc<Node>),
}

/// What a walk wants to know of a node without looking into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks {
    /// It must be there, where what it stands in is there.
    pub(super) needed: bool,
    /// It is never in a notification, nor is anything in it.
    pub(super) hidden: bool,
    /// It or something in it is never in a notification.
    pub(super) hides: bool,
    /// It or something in it is masked where it is shown.
    pub(super) masks: bool,
}

impl Node {
    /// What stands in it, each with its step.
    pub(super) fn children(&self) -> impl Iterator<Item = (&str, &Arc<Node>)> {
        let (names, each) = match &self.inside {
            Inside::Nothing => (None, None),
            Inside::Names(names) => (Some(names), None),
            Inside::Each(entry) => (None, Some(entry)),
        };
        names.into_iter().flatten().map(|(name, node)| (&**name, node)).chain(each.map(|entry| ("*", entry)))
    }

    /// The node at a step: a name, or `*`.
    pub(super) fn child(&self, step: &str) -> Option<&Arc<Node>> {
        match &self.inside {
            Inside::Names(names) => names.get(step),
            Inside::Each(entry) if step == "*" => Some(entry),
            Inside::Each(_) | Inside::Nothing => None,
        }
    }

    /// Whether nothing is declared in it.
    pub(super) fn is_bare(&self) -> bool {
        self.children().next().is_none()
    }

    /// Works out the marks, those of the children being right already.
    pub(super) fn settle(&mut self) {
        let field = self.field.as_deref();
        let any = |mark: fn(&Marks) -> bool| self.children().any(|(_, child)| mark(&child.marks));
        let told = field.is_none_or(|f| f.audience == Audience::All);
        // What only lies on the way to what is hidden would tell that it was there.
        let on_the_way = field.is_none() && !self.place && !self.is_bare();
        let hidden = !told || (on_the_way && self.children().all(|(_, child)| child.marks.hidden));
        self.marks = Marks {
            needed: field.is_some_and(|f| f.required) || (self.place && any(|m| m.needed)),
            hidden,
            hides: hidden || any(|m| m.hides),
            masks: field.is_some_and(|f| f.sensitive) || any(|m| m.masks),
        };
    }
}
