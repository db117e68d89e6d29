//! Which files of keys are merged, and how.
//!
//! In tiers: files of about the same size, of neighbouring generations, eight at a time or as many as fit the greatest
//! size. So each key is written at most a few times, and a file of the greatest size never again.

use super::segment::{self, Origin, Segment};
use super::{Key, Known};
use crate::disk::{Disk, DiskError};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// The most keys in a file.
const COUNT_MAX: u64 = 512 * 1024;

/// How many files of a tier are merged at the latest.
const FAN: usize = 8;

/// A merge that was planned.
pub struct Merge {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) number: u64,
    pub(super) inputs: Vec<Arc<Segment>>,
    pub(super) forget_before: u64,
}

/// A merged file, durable, that waits to be adopted.
pub struct Merged {
    pub(super) segment: Segment,
    pub(super) damage: Vec<String>,
}

impl Merge {
    /// Writes the merged file. May run on any thread, beside everything that [`super::Keys`] does meanwhile.
    ///
    /// # Errors
    /// Where the disk fails; nothing has changed then. What is damaged in a file is left out, and named by the adoption.
    pub fn run(self) -> Result<Merged, DiskError> {
        let mut damage = Vec::new();
        let origin = Origin {
            number: self.number,
            first: self.inputs.iter().map(|s| s.head.first).min().unwrap_or_default(),
            last: self.inputs.iter().map(|s| s.head.last).max().unwrap_or_default(),
            replaces: self.inputs.iter().map(|s| s.number).collect(),
        };
        let sources = self.inputs.iter().map(|segment| segment.entries(&*self.disk)).collect();
        let alive = sorted(sources, &mut damage)
            .filter(|entry| entry.as_ref().map_or(true, |(_, known)| known.id.millis() > self.forget_before));
        let segment = segment::write(&*self.disk, origin, alive)?;
        Ok(Merged { segment, damage })
    }
}

/// The files to be merged, if there are enough.
pub(super) fn due(segments: &[Arc<Segment>]) -> Option<Vec<Arc<Segment>>> {
    let mut run: Vec<Arc<Segment>> = Vec::new();
    let mut total = 0;
    // The oldest first: what remains over then meets those that come.
    for segment in segments.iter().rev() {
        let count = segment.head.count;
        let same = run.last().is_some_and(|last| tier(last.head.count) == tier(count));
        if same && total + count > COUNT_MAX && run.len() > 1 {
            // As many as fit.
            return Some(run);
        }
        if !same || total + count > COUNT_MAX {
            run.clear();
            total = 0;
        }
        run.push(Arc::clone(segment));
        total += count;
        if run.len() == FAN {
            return Some(run);
        }
    }
    None
}

/// Files of one tier differ in size at most by a factor of eight.
fn tier(count: u64) -> u32 {
    (count / 4096).max(1).ilog(8)
}

/// Merges sorted sources into one; of a key that stands in several the youngest entry.
fn sorted<'a>(
    mut sources: Vec<impl Iterator<Item = Result<(Key, Known), DiskError>> + 'a>,
    damage: &'a mut Vec<String>,
) -> impl Iterator<Item = Result<(Key, Known), DiskError>> + 'a {
    let mut heads: BinaryHeap<Reverse<(Key, Reverse<u64>, usize)>> = BinaryHeap::new();
    let mut known: Vec<Option<Known>> = vec![None; sources.len()];
    let mut idle: Vec<usize> = (0..sources.len()).collect();
    let mut last: Option<Key> = None;
    std::iter::from_fn(move || {
        loop {
            while let Some(source) = idle.pop() {
                match sources[source].next() {
                    Some(Ok((key, entry))) => {
                        heads.push(Reverse((key, Reverse(entry.id.millis()), source)));
                        known[source] = Some(entry);
                    }
                    Some(Err(DiskError::Damaged(what))) => {
                        damage.push(what);
                        idle.push(source);
                    }
                    Some(Err(error)) => return Some(Err(error)),
                    None => {}
                }
            }
            let Reverse((key, _, source)) = heads.pop()?;
            idle.push(source);
            let entry = known[source].take()?;
            if last != Some(key) {
                last = Some(key);
                return Some(Ok((key, entry)));
            }
        }
    })
}
