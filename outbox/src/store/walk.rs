//! Walks over the events, the newest or the oldest first, a window of them at a time.
//!
//! Each generation is opened once for what lies in it in one piece. Nothing above the highest durable sequence is shown.

use super::Store;
use crate::disk::{DiskError, Generation};
use crate::listing::Kept;
use crate::rows::{self, Kind};

/// How many sequences are read at a time.
const WINDOW: u64 = 64;

/// What is read of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All of it.
    Whole,
    /// All but its payloads.
    Facts,
}

impl Store {
    /// Events from a sequence downwards.
    pub(crate) fn newest_first(&self, from: u64, depth: Depth) -> impl Iterator<Item = Result<Kept, DiskError>> + '_ {
        let mut next = Some(from.min(self.inner().committed));
        let mut window: Vec<Kept> = Vec::new();
        std::iter::from_fn(move || {
            loop {
                if let Some(kept) = window.pop() {
                    return Some(Ok(kept));
                }
                let top = self.catalog().at_or_below(next?)?;
                match self.window_below(top, depth) {
                    Ok((found, below)) => (window, next) = (found, below),
                    Err(error) => {
                        next = None;
                        return Some(Err(error));
                    }
                }
            }
        })
    }

    /// The events of up to [`WINDOW`] sequences that end with `top`, ascending, and where to go on below.
    fn window_below(&self, top: u64, depth: Depth) -> Result<(Vec<Kept>, Option<u64>), DiskError> {
        let Some((generation, carried)) = self.catalog().home(top) else { return Ok((Vec::new(), top.checked_sub(1))) };
        if carried {
            // One that was carried forward is listed where it lies now; its sequence is the same, so the order is too.
            let mut run = vec![top];
            let mut next = top.checked_sub(1);
            while let Some(below) = next.and_then(|next| self.catalog().at_or_below(next))
                && run.len() < WINDOW as usize
                && self.catalog().home(below) == Some((generation, true))
            {
                run.push(below);
                next = below.checked_sub(1);
            }
            run.reverse();
            if depth == Depth::Facts {
                return Ok((self.carried_in(generation, &run)?, next));
            }
            // One that is damaged beyond repair hides no other.
            let loaded: Vec<_> = run.into_iter().map(|sequence| self.load(sequence)).collect::<Result<_, _>>()?;
            return Ok((loaded.into_iter().flatten().map(|(kept, _)| kept).collect(), next));
        }
        let first = self.catalog().get(generation).and_then(|m| m.sequences).map_or(top, |(first, _)| first);
        let bottom = first.max(top.saturating_sub(WINDOW - 1));
        Ok((self.recorded_in(generation, bottom, top, depth)?, bottom.checked_sub(1)))
    }

    /// Some of the events from a sequence upwards, without their payloads, ascending, and where to go on above; `None` where
    /// there are none up to `end`.
    pub(crate) fn oldest_from(&self, from: u64, end: u64) -> Result<Option<(Vec<Kept>, u64)>, DiskError> {
        let catalog = self.catalog();
        let Some(bottom) = catalog.at_or_above(from).filter(|bottom| *bottom <= end) else { return Ok(None) };
        let Some((generation, carried)) = catalog.home(bottom) else {
            return Ok(Some((Vec::new(), bottom.saturating_add(1))));
        };
        if carried {
            let mut run = vec![bottom];
            let mut next = bottom.saturating_add(1);
            while let Some(above) = catalog.at_or_above(next).filter(|above| *above <= end)
                && run.len() < WINDOW as usize
                && catalog.home(above) == Some((generation, true))
            {
                run.push(above);
                next = above.saturating_add(1);
            }
            drop(catalog);
            return Ok(Some((self.carried_in(generation, &run)?, next)));
        }
        let last = catalog.get(generation).and_then(|m| m.sequences).map_or(bottom, |(_, last)| last);
        drop(catalog);
        let top = last.min(bottom.saturating_add(WINDOW - 1)).min(end);
        Ok(Some((self.recorded_in(generation, bottom, top, Depth::Facts)?, top.saturating_add(1))))
    }

    /// The events between two sequences, both included, that were recorded into a generation; those that were carried on
    /// from it since are read there, as they were.
    fn recorded_in(&self, generation: Generation, bottom: u64, top: u64, depth: Depth) -> Result<Vec<Kept>, DiskError> {
        let found = self.read(generation, |keyspace, manifest| {
            let from = rows::event_key(Kind::Event, bottom);
            let to = rows::event_key(Kind::Event, top.saturating_add(1));
            let rows = keyspace.range(&from, &to, WINDOW as usize)?;
            let shown = rows.iter().filter(|row| rows::sequence_of(&row.0).is_some_and(|s| manifest.spans(s)));
            shown
                .map(|(key, sealed)| depth.read(key, sealed, &mut |key| keyspace.get(key)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        Ok(found.unwrap_or_default())
    }

    /// These events, which were carried into a generation, without their payloads.
    fn carried_in(&self, generation: Generation, run: &[u64]) -> Result<Vec<Kept>, DiskError> {
        let found = self.read(generation, |keyspace, _| {
            let mut found = Vec::with_capacity(run.len());
            for sequence in run {
                let key = rows::event_key(Kind::Carried, *sequence);
                if let Some(sealed) = keyspace.get(&key)? {
                    found.push(rows::read_event_facts(&key, &sealed, &mut |key| keyspace.get(key))?);
                }
            }
            Ok(found)
        })?;
        Ok(found.unwrap_or_default())
    }
}

impl Depth {
    fn read(self, key: &[u8], sealed: &bytes::Bytes, get: rows::Get<'_>) -> Result<Kept, DiskError> {
        match self {
            Self::Whole => rows::read_event(key, sealed, get).map(|(kept, _)| kept),
            Self::Facts => rows::read_event_facts(key, sealed, get),
        }
    }
}
