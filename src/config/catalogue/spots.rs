//! Where each declaration stands, so that what only the whole catalogue shows to be wrong is told at its line too.

use super::super::problem::{Place, Problems};
use super::super::section::Section;
use posthaste_events::catalogue::declare::{Fault, FieldDeclaration};

/// The places of everything in a [`Declarations`](posthaste_events::catalogue::declare::Declarations), in its order.
#[derive(Debug, Default)]
pub(super) struct Spots {
    pub(super) layers: Vec<Spot>,
    pub(super) events: Vec<Spot>,
    /// Whether something could not be read, so that it is missing in the declarations.
    pub(super) broken: bool,
    /// Whether a layer is among that, so that others may name it.
    pub(super) lost_layer: bool,
}

/// A layer, a type, or a field of one.
#[derive(Debug)]
pub(super) struct Spot {
    /// How problems name it: `layer "project"`, `event "a:b": field "total"`.
    scope: String,
    place: Place,
    keys: Vec<(String, Place)>,
    pub(super) fields: Vec<Spot>,
    /// Whether something of it, its fields left out, could not be read: what else is wrong there may only follow.
    pub(super) broken: bool,
}

impl Spot {
    /// The table that `section` reads.
    pub(super) fn of(section: &Section<'_, '_>) -> Self {
        let keys = section.keys().map(|e| (e.key.clone(), e.place.clone())).collect();
        let (scope, place) = (section.scope.clone(), section.place.clone());
        Self { scope, place, keys, fields: Vec::new(), broken: false }
    }

    /// A layer or type that is declared in Rust.
    pub(super) fn in_rust(word: &str, name: &str, fields: &[FieldDeclaration], place: &Place) -> Self {
        let whole = format!("{word} {name:?}, declared in Rust");
        let spot = |scope| Self { scope, place: place.clone(), keys: Vec::new(), fields: Vec::new(), broken: false };
        let fields = fields.iter().map(|field| spot(format!("{whole}: field {:?}", field.path))).collect();
        Self { fields, ..spot(whole) }
    }

    /// Whether something of it or of one of its fields could not be read.
    pub(super) fn is_broken(&self) -> bool {
        self.broken || self.fields.iter().any(|field| field.broken)
    }

    fn place_of(&self, key: Option<&str>) -> &Place {
        let named = key.and_then(|key| self.keys.iter().find(|(name, _)| name == key));
        named.map_or(&self.place, |(_, place)| place)
    }
}

impl Spots {
    /// Tells a fault at its line; `otherwise` is where it stands if it is nowhere. What may only follow from something
    /// that could not be read is left out: that was told already.
    pub(super) fn tell(&self, fault: Fault, otherwise: &Place, problems: &mut Problems) {
        let list = if fault.at.layer { &self.layers } else { &self.events };
        let Some(whole) = list.get(fault.at.index) else {
            problems.add(otherwise, format!("[catalogue]: {}", fault.what), fault.hint);
            return;
        };
        let spot = fault.at.field.and_then(|field| whole.fields.get(field)).unwrap_or(whole);
        let follows = match fault.at.key {
            Some("layer" | "parent") => self.lost_layer,
            Some("example" | "at") => self.broken,
            _ => false,
        };
        if spot.broken || follows {
            return;
        }
        // A fault of a field as a whole names its path itself.
        let scope = if fault.at.key.is_some() { &spot.scope } else { &whole.scope };
        problems.add(spot.place_of(fault.at.key), format!("{scope}: {}", fault.what), fault.hint);
    }
}
