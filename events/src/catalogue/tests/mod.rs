//! What the compiled catalogue does, over its public face.

mod contract;
mod faults;
mod told;

use super::declare::{Declarations, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration, Rule};
use super::{Catalogue, Declared, Misfit, Undeclared};
use crate::EventType;
use serde_json::{Value, json};

pub(super) fn field(path: &str, kind: FieldKind) -> FieldDeclaration {
    FieldDeclaration::new(path, kind)
}

pub(super) fn layer(name: &str, fields: Vec<FieldDeclaration>) -> LayerDeclaration {
    LayerDeclaration { name: name.into(), fields, ..LayerDeclaration::default() }
}

pub(super) fn event(name: &str, fields: Vec<FieldDeclaration>) -> EventDeclaration {
    EventDeclaration { name: name.into(), fields, ..EventDeclaration::default() }
}

pub(super) fn compile(layers: Vec<LayerDeclaration>, events: Vec<EventDeclaration>) -> Catalogue {
    Catalogue::compile(&Declarations { layers, events }, Undeclared::Reject).unwrap_or_else(|f| panic!("{f:#?}"))
}

pub(super) fn get<'c>(catalogue: &'c Catalogue, name: &str) -> &'c Declared {
    catalogue.get(&EventType::parse(name).unwrap()).unwrap_or_else(|| panic!("{name}"))
}

/// The catalogue of one type, `t`, of these fields.
pub(super) fn of(fields: Vec<FieldDeclaration>) -> Catalogue {
    compile(vec![], vec![event("t", fields)])
}

/// The pointers of what is wrong, with the first words of why.
pub(super) fn pointers(misfits: &[Misfit]) -> Vec<&str> {
    misfits.iter().map(|m| m.pointer.as_str()).collect()
}
