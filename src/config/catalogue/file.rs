//! One catalogue file: `[layer."…"]` and `[event."…"]`.

use super::super::node::{Entry, Node, Value};
use super::super::problem::Problems;
use super::super::section::Section;
use super::super::source;
use super::fields;
use super::spots::{Spot, Spots};
use posthaste_events::EventType;
use posthaste_events::builtin::is_ours;
use posthaste_events::catalogue::declare::{Declarations, EventDeclaration, LayerDeclaration};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// Reads a file into `declarations`; what could not be read is told and marked in `spots`.
pub(super) fn read(path: &Path, declarations: &mut Declarations, spots: &mut Spots, problems: &mut Problems) {
    let Some(root) = source::parse(path, problems) else {
        (spots.broken, spots.lost_layer) = (true, true);
        return;
    };
    let mut top = Section::top(&root, problems);
    for entry in entries(&mut top, "layer") {
        let Some(mut section) = table(entry, "layer", spots, top.problems) else { continue };
        let taken = declarations.layers.iter().any(|l| l.name == entry.key);
        let is_good = is_layer_name(entry, taken, &mut section);
        let (layer, spot) = read_layer(&entry.key, section);
        spots.lost_layer |= !is_good;
        spots.broken |= !is_good || spot.is_broken();
        if is_good {
            declarations.layers.push(layer);
            spots.layers.push(spot);
        }
    }
    for entry in entries(&mut top, "event") {
        let Some(mut section) = table(entry, "event", spots, top.problems) else { continue };
        let taken = declarations.events.iter().any(|e| e.name == entry.key);
        let is_good = is_event_name(entry, taken, &mut section);
        let (event, spot) = read_event(&entry.key, section);
        spots.broken |= !is_good || spot.is_broken();
        if is_good {
            declarations.events.push(event);
            spots.events.push(spot);
        }
    }
    top.finish();
}

fn entries<'a>(top: &mut Section<'a, '_>, key: &'static str) -> Vec<&'a Entry> {
    top.section(key).rest().collect()
}

fn table<'a, 'p>(
    entry: &'a Entry,
    word: &str,
    spots: &mut Spots,
    problems: &'p mut Problems,
) -> Option<Section<'a, 'p>> {
    let scope = format!("{word} \"{}\"", entry.key);
    let mut section = Section::of(&entry.node, &entry.place, scope, problems);
    if entry.node.is_table() {
        return Some(section);
    }
    let hint = format!("write [{word}.\"a:b\"]");
    section.unseen(&entry.place, "it", format!("is {}, not a table", entry.node.kind()), hint);
    spots.broken = true;
    spots.lost_layer |= word == "layer";
    None
}

fn is_layer_name(entry: &Entry, taken: bool, section: &mut Section<'_, '_>) -> bool {
    let (why, hint) = match EventType::parse(&entry.key) {
        Err(why) => (format!("is none of a layer: {why}"), "such as [layer.\"project:job\"]"),
        Ok(_) if taken => ("is declared in another file already".to_owned(), "declare each layer once"),
        Ok(_) => return true,
    };
    section.unseen(&entry.place, "its name", why, hint);
    false
}

fn is_event_name(entry: &Entry, taken: bool, section: &mut Section<'_, '_>) -> bool {
    let (why, hint) = match EventType::parse(&entry.key) {
        Err(why) => (format!("is no type: {why}"), "such as [event.\"project:created\"]"),
        Ok(name) if is_ours(name.as_str()) => {
            ("is the daemon's own".to_owned(), "types of `posthaste:` need no declaration")
        }
        Ok(_) if taken => ("is declared in another file already".to_owned(), "declare each type once"),
        Ok(_) => return true,
    };
    section.unseen(&entry.place, "its name", why, hint);
    false
}

fn read_layer(name: &str, mut section: Section<'_, '_>) -> (LayerDeclaration, Spot) {
    let before = section.problems.count();
    let mut spot = Spot::of(&section);
    let parent = section.string("parent").map(|(text, _)| text.to_owned());
    let at = section.string("at").map(|(text, _)| text.to_owned());
    spot.broken = section.problems.count() > before;
    let fields = fields::read(&mut section, &mut spot);
    section.finish();
    (LayerDeclaration { name: name.to_owned(), parent, at, fields }, spot)
}

fn read_event(name: &str, mut section: Section<'_, '_>) -> (EventDeclaration, Spot) {
    let before = section.problems.count();
    let mut spot = Spot::of(&section);
    let layer = section.string("layer").map(|(text, _)| text.to_owned());
    let title = section.string("title").map(|(text, _)| text.to_owned());
    let retired = section.boolean("retired").is_some_and(|(retired, _)| retired);
    let audience = fields::read_audience(&mut section);
    let example = read_example(&mut section);
    spot.broken = section.problems.count() > before;
    let fields = fields::read(&mut section, &mut spot);
    section.finish();
    (EventDeclaration { name: name.to_owned(), layer, title, retired, audience, fields, example }, spot)
}

fn read_example(section: &mut Section<'_, '_>) -> Option<Map<String, Json>> {
    let node = section.node("example")?;
    match node.json() {
        Json::Object(properties) if is_json(node) => Some(properties),
        Json::Object(_) => {
            section.wrong("example", node, "has a number that JSON does not know", "write finite numbers");
            None
        }
        _ => {
            section.wrong("example", node, "is no table", "an example is the properties of one event");
            None
        }
    }
}

/// Whether JSON knows every number in it.
fn is_json(node: &Node) -> bool {
    match &node.value {
        Value::Float(n) => n.is_finite(),
        Value::Array(nodes) => nodes.iter().all(is_json),
        Value::Table(entries) => entries.iter().all(|e| is_json(&e.node)),
        _ => true,
    }
}
