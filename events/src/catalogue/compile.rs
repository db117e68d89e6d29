//! Makes of declarations the types that events are held against, and finds every fault on the way.
//!
//! Layers are built from the outermost inwards, each on the tree of its parent; a type that adds no field shares the
//! tree of its layer. A fault is told once, where it was declared, not again for whatever stands on it.

use super::check::misfits;
use super::declare::{
    At, Declarations, EventDeclaration, FIELDS_MAX, Fault, FieldDeclaration, FieldKind, LAYERS_DEEP_MAX,
    LayerDeclaration, Rule, TYPES_MAX,
};
use super::rules::Plan;
use super::shape::{Inside, Node};
use super::{Declared, fields, grow};
use crate::EventType;
use crate::builtin::is_ours;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many misfits of one example are told.
const EXAMPLE_MISFITS_MAX: usize = 10;

/// Checks declarations as a whole.
///
/// # Errors
/// Every fault; never empty.
pub(super) fn compile(declarations: &Declarations) -> Result<BTreeMap<EventType, Declared>, Vec<Fault>> {
    let mut compiler = Compiler { layers: &declarations.layers, names: BTreeMap::new(), faults: Vec::new() };
    let counts = [(true, declarations.layers.len()), (false, declarations.events.len())];
    if let Some((layer, count)) = counts.into_iter().find(|(_, count)| *count > TYPES_MAX) {
        let (site, kind) = (Site { layer, index: TYPES_MAX }, if layer { "layers" } else { "types" });
        let what = format!("the catalogue declares {count} {kind}; at most {TYPES_MAX} are taken");
        // What else is wrong with so many is not looked for.
        return Err(vec![site.fault(None, None, what, format!("declare fewer {kind}"))]);
    }
    compiler.name_layers();
    let built = compiler.build_layers();
    let types = compiler.build_types(&declarations.events, &built);
    if compiler.faults.is_empty() { Ok(types) } else { Err(compiler.faults) }
}

struct Compiler<'d> {
    layers: &'d [LayerDeclaration],
    /// The layers by name, with their place in the list.
    names: BTreeMap<&'d str, usize>,
    faults: Vec<Fault>,
}

/// A layer, or the base of types without one.
#[derive(Clone, Default)]
struct Built {
    shape: Arc<Node>,
    /// The steps to its place.
    at: Vec<String>,
    /// The names of the layers that it consists of, the outermost first.
    layers: Vec<String>,
    /// How many layers it stands on.
    level: u8,
    /// The paths of all derived values, its parents' too.
    derived: Arc<BTreeSet<String>>,
    /// Nothing was wrong with it or below it.
    sound: bool,
}

/// What a fault is at.
#[derive(Clone, Copy)]
struct Site {
    layer: bool,
    index: usize,
}

impl Site {
    fn fault(
        self,
        field: Option<usize>,
        key: Option<&'static str>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Fault {
        Fault { at: At { layer: self.layer, index: self.index, field, key }, what: what.into(), hint: hint.into() }
    }
}

/// The parent of a layer, by its place in the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parent {
    None,
    Layer(usize),
    Unknown,
}

/// How a layer stands in the chain of its parents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Unseen,
    /// It is being followed, from the layer at this place in the list on.
    Following(usize),
    /// So many layers are below it.
    Above(usize),
    /// Its chain has no end, or an unknown one.
    Broken,
}

impl<'d> Compiler<'d> {
    fn name_layers(&mut self) {
        for (index, layer) in self.layers.iter().enumerate() {
            let site = Site { layer: true, index };
            if let Err(why) = EventType::parse(&layer.name) {
                let what = format!("{:?} is no name of a layer: {why}", short(&layer.name));
                self.faults.push(site.fault(None, None, what, "such as [layer.\"project:job\"]"));
            } else if self.names.contains_key(layer.name.as_str()) {
                let what = format!("the layer {:?} is declared twice", layer.name);
                self.faults.push(site.fault(None, None, what, "declare each layer once"));
            } else {
                self.names.insert(&layer.name, index);
            }
        }
    }

    /// The nearest declared layer that a name begins with, by whole segments; the name itself too if `itself`.
    fn nearest(&self, name: &str, itself: bool) -> Option<usize> {
        let ends = name.match_indices([':', '.']).map(|(end, _)| end).collect::<Vec<_>>();
        let prefixes = ends.into_iter().rev().map(|end| &name[..end]);
        itself.then_some(name).into_iter().chain(prefixes).find_map(|prefix| self.names.get(prefix).copied())
    }

    fn build_layers(&mut self) -> Vec<Option<Built>> {
        let parents: Vec<_> = (0..self.layers.len()).map(|index| self.parent(index)).collect();
        let depths = self.depths(&parents);
        let mut order: Vec<_> = depths
            .iter()
            .enumerate()
            .filter_map(|(index, depth)| match depth {
                Depth::Above(below) => Some((*below, index)),
                _ => None,
            })
            .collect();
        order.sort_unstable();
        let mut built: Vec<Option<Built>> = vec![None; self.layers.len()];
        for (index, layer) in self.layers.iter().enumerate() {
            if !matches!(depths[index], Depth::Above(_)) {
                self.judge_fields(Site { layer: true, index }, &layer.fields);
            }
        }
        for (_, index) in order {
            let parent = match parents[index] {
                Parent::Layer(parent) => built[parent].clone(),
                _ => Some(base()),
            };
            built[index] = Some(self.build_layer(index, &parent.unwrap_or_else(base)));
        }
        built
    }

    fn parent(&mut self, index: usize) -> Parent {
        let layer = &self.layers[index];
        let Some(said) = &layer.parent else {
            return self.nearest(&layer.name, false).map_or(Parent::None, Parent::Layer);
        };
        if let Some(parent) = self.names.get(said.as_str()) {
            return Parent::Layer(*parent);
        }
        let what = format!("`parent = {:?}` is no layer of the catalogue", short(said));
        self.faults.push(Site { layer: true, index }.fault(None, Some("parent"), what, self.known()));
        Parent::Unknown
    }

    /// How many layers each stands on, telling of circles and of chains that are too long.
    fn depths(&mut self, parents: &[Parent]) -> Vec<Depth> {
        let mut depths = vec![Depth::Unseen; parents.len()];
        for start in 0..parents.len() {
            let mut chain = Vec::new();
            let mut at = start;
            let mut below = loop {
                match depths[at] {
                    Depth::Unseen => {}
                    Depth::Following(from) if from == start => {
                        let circle = chain.iter().position(|layer| *layer == at).unwrap_or(0);
                        self.circle(&chain[circle..]);
                        break None;
                    }
                    Depth::Above(below) => break Some(below + 1),
                    Depth::Following(_) | Depth::Broken => break None,
                }
                depths[at] = Depth::Following(start);
                chain.push(at);
                match parents[at] {
                    Parent::Layer(parent) => at = parent,
                    Parent::None => break Some(0),
                    Parent::Unknown => break None,
                }
            };
            for layer in chain.into_iter().rev() {
                depths[layer] = below.map_or(Depth::Broken, Depth::Above);
                if below == Some(LAYERS_DEEP_MAX) {
                    let what = format!(
                        "stands on {LAYERS_DEEP_MAX} other layers; at most {LAYERS_DEEP_MAX} in all may stand on one another"
                    );
                    let site = Site { layer: true, index: layer };
                    self.faults.push(site.fault(None, Some("parent"), what, "put its fields into one of them"));
                    depths[layer] = Depth::Broken;
                    below = None;
                }
                below = below.map(|below| below + 1);
            }
        }
        depths
    }

    fn circle(&mut self, circle: &[usize]) {
        for index in circle {
            let parent = self.layers[*index].parent.as_deref().unwrap_or_default();
            let what = format!("`parent = {:?}` leads back to the layer itself", short(parent));
            let site = Site { layer: true, index: *index };
            self.faults.push(site.fault(None, Some("parent"), what, "one layer of the circle has no parent"));
        }
    }

    fn build_layer(&mut self, index: usize, parent: &Built) -> Built {
        let (layer, site) = (&self.layers[index], Site { layer: true, index });
        let place = layer.at.clone().unwrap_or_else(|| layer.name.replace(':', "."));
        let mut built = Built { level: parent.level, ..parent.clone() };
        let before = self.faults.len();
        let steps = if place.is_empty() { Ok(Vec::new()) } else { fields::steps(&place, false) };
        let added = steps.map_err(|why| (why, "names with dots between, such as at = \"project.job\""));
        match added.and_then(|steps| grow::add_place(&mut built.shape, &steps).map(|()| steps)) {
            Ok(steps) => {
                built.at = steps.into_iter().map(str::to_owned).collect();
                self.add_fields(site, &layer.fields, &mut built);
            }
            Err((why, hint)) => {
                // A name that is none is told already.
                if layer.at.is_some() || EventType::parse(&layer.name).is_ok() {
                    let what = format!("`at = {:?}` {why}", short(&place));
                    self.faults.push(site.fault(None, Some("at"), what, hint));
                }
                self.judge_fields(site, &layer.fields);
            }
        }
        built.sound &= self.faults.len() == before;
        built.level += 1;
        built.layers.push(layer.name.clone());
        built
    }

    fn build_types(
        &mut self,
        events: &'d [EventDeclaration],
        layers: &[Option<Built>],
    ) -> BTreeMap<EventType, Declared> {
        let (mut types, mut plans, bare) = (BTreeMap::new(), BTreeMap::new(), base());
        for (index, event) in events.iter().enumerate() {
            let site = Site { layer: false, index };
            let name = self.event_type(site, event, &types);
            let layer = match &event.layer {
                Some(said) => match self.names.get(said.as_str()) {
                    Some(layer) => Some(*layer),
                    None => {
                        let what = format!("`layer = {:?}` is no layer of the catalogue", short(said));
                        self.faults.push(site.fault(None, Some("layer"), what, self.known()));
                        self.judge_fields(site, &event.fields);
                        continue;
                    }
                },
                None => self.nearest(&event.name, true),
            };
            let Some(on) = layer.map_or(Some(&bare), |layer| layers[layer].as_ref()) else {
                // What is wrong with its layer is told there.
                self.judge_fields(site, &event.fields);
                continue;
            };
            let before = self.faults.len();
            let mut built = on.clone();
            self.add_fields(site, &event.fields, &mut built);
            if built.sound && self.faults.len() == before {
                self.hold_example(site, event, &built.shape);
            }
            if let Some(name) = name {
                // Types that share a tree share what leaves of it. A tree of `types` lives as long as its address is here.
                let plan = plans.entry(Arc::as_ptr(&built.shape)).or_insert_with(|| Arc::new(Plan::of(&built.shape)));
                let plan = Arc::clone(plan);
                types.insert(name, declared(event, built, plan));
            }
        }
        types
    }

    fn event_type(
        &mut self,
        site: Site,
        event: &EventDeclaration,
        types: &BTreeMap<EventType, Declared>,
    ) -> Option<EventType> {
        let (what, hint) = match EventType::parse(&event.name) {
            Err(why) => (format!("{:?} is no type: {why}", short(&event.name)), "such as [event.\"project:created\"]"),
            Ok(name) if is_ours(name.as_str()) => {
                (format!("the type {name:?} is the daemon's own"), "types of `posthaste:` need no declaration")
            }
            Ok(name) if types.contains_key(&name) => {
                (format!("the type {name:?} is declared twice"), "declare each type once")
            }
            Ok(name) => return Some(name),
        };
        self.faults.push(site.fault(None, None, what, hint));
        None
    }

    fn hold_example(&mut self, site: Site, event: &EventDeclaration, shape: &Node) {
        let Some(example) = &event.example else { return };
        for misfit in misfits(shape, &Value::Object(example.clone())).into_iter().take(EXAMPLE_MISFITS_MAX) {
            let what = format!("`example` does not fit: {:?} {}", misfit.pointer, misfit.detail);
            self.faults.push(site.fault(None, Some("example"), what, "make it the properties of one such event"));
        }
    }

    /// Tells what is wrong with fields by themselves; those that are too many are not looked at.
    fn judge_fields(&mut self, site: Site, declared: &[FieldDeclaration]) {
        if declared.len() > FIELDS_MAX {
            let what = format!("declares {} fields; at most {FIELDS_MAX} are taken", declared.len());
            self.faults.push(site.fault(Some(FIELDS_MAX), None, what, "declare what is inside an object as a layer"));
        }
        for (index, field) in declared.iter().take(FIELDS_MAX).enumerate() {
            if let Err(why) = fields::steps(&field.path, true) {
                let what = format!("the field {:?} {why}", short(&field.path));
                self.faults.push(site.fault(Some(index), None, what, "names with dots between, `*` for each entry"));
            }
            for wrong in fields::judge(field) {
                self.faults.push(site.fault(Some(index), wrong.key, wrong.what, wrong.hint));
            }
        }
    }

    /// Adds fields at a place, telling what is wrong with them by themselves and beside others.
    fn add_fields(&mut self, site: Site, declared: &[FieldDeclaration], on: &mut Built) {
        self.judge_fields(site, declared);
        let at = on.at.clone();
        let mut derived = DerivedNames { below: Arc::clone(&on.derived), own: BTreeSet::new() };
        let mut added = Vec::new();
        for (index, field) in declared.iter().take(FIELDS_MAX).enumerate() {
            let Ok(steps) = fields::steps(&field.path, true) else { continue };
            let full: Vec<_> = at.iter().map(String::as_str).chain(steps).collect();
            let field = Arc::new(field.clone());
            match grow::add_field(&mut on.shape, &full, at.len(), on.level, &field) {
                Ok(()) => added.push((index, full, field)),
                Err((why, hint)) => {
                    let what = format!("the field {:?} {why}", field.path);
                    self.faults.push(site.fault(Some(index), None, what, hint));
                }
            }
        }
        // Whether these hold is known only once all of a place stand.
        for (index, full, field) in &added {
            if field.rule == Rule::Keep && !only_arrays(&on.shape, full) {
                let what = "`telemetry = \"keep\"` under `*` of what is not declared as an array";
                let hint = "use `count-by`: it would tell the names in an object; or declare the array";
                self.faults.push(site.fault(Some(*index), Some("telemetry"), what, hint));
            }
            if let Some(name) = fields::derived_name(field)
                && let Err(other) = derived.add(full, &name)
            {
                let key = if field.derived_name.is_some() { "as" } else { "telemetry" };
                let what = format!("the derived value {name:?} of {:?} would stand where {other:?} does", field.path);
                self.faults.push(site.fault(Some(*index), Some(key), what, "name it otherwise with `as`"));
            }
        }
        if !derived.own.is_empty() {
            let mut all = (*derived.below).clone();
            all.append(&mut derived.own);
            on.derived = Arc::new(all);
        }
    }

    /// A hint that names the layers.
    fn known(&self) -> String {
        if self.names.is_empty() {
            return "no layer is declared; declare it as [layer.\"…\"]".to_owned();
        }
        let few = self.names.keys().take(8).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let more = self.names.len().saturating_sub(8);
        format!("layers are {few}{}", if more > 0 { format!(" and {more} more") } else { String::new() })
    }
}

/// The paths of derived values, seen from `derived_properties`.
struct DerivedNames {
    below: Arc<BTreeSet<String>>,
    own: BTreeSet<String>,
}

impl DerivedNames {
    /// Adds the derived value of the field at `full`, or says which one stands in its way.
    fn add(&mut self, full: &[&str], name: &str) -> Result<(), String> {
        let named: Vec<_> = full.iter().filter(|step| **step != "*").copied().collect();
        // Of each entry of the top there is no place beside.
        let Some((_, parent)) = named.split_last() else { return Err("the top".to_owned()) };
        let path: Vec<_> = parent.iter().copied().chain([name]).collect();
        let key = path.join(".");
        for end in 1..=path.len() {
            let above = path[..end].join(".");
            if self.below.contains(&above) || self.own.contains(&above) {
                return Err(above);
            }
        }
        let inside = format!("{key}.");
        for set in [&*self.below, &self.own] {
            if let Some(other) = set.range(inside.clone()..).next().filter(|other| other.starts_with(&inside)) {
                return Err(other.clone());
            }
        }
        self.own.insert(key);
        Ok(())
    }
}

/// Whether every `*` of a path is over a declared array.
fn only_arrays(top: &Node, steps: &[&str]) -> bool {
    let mut node = top;
    for step in steps {
        let array = node.field.as_ref().is_some_and(|f| f.kind == FieldKind::Array);
        if *step == "*" && !array {
            return false;
        }
        match node.child(step) {
            Some(child) => node = child,
            None => return true,
        }
    }
    true
}

/// The top of a type without a layer: an object in which nothing is declared.
fn base() -> Built {
    let mut top = Node { place: true, inside: Inside::Names(BTreeMap::new()), ..Node::default() };
    top.settle();
    Built { shape: Arc::new(top), sound: true, ..Built::default() }
}

fn declared(event: &EventDeclaration, built: Built, plan: Arc<Plan>) -> Declared {
    let Built { shape, layers, .. } = built;
    Declared {
        title: event.title.clone(),
        retired: event.retired,
        layer: layers.last().cloned(),
        layers,
        audience: event.audience,
        example: event.example.clone(),
        shape,
        plan,
    }
}

/// A name as it is shown in a fault: never a long text.
fn short(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 128;
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect()
}
