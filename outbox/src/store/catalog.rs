//! Which generation an event lies in, and which ones have entries about it.

use super::manifest::Manifest;
use crate::disk::Generation;
use roaring::RoaringTreemap;
use std::collections::BTreeMap;

/// The manifests of all generations, the active one's included.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    manifests: BTreeMap<Generation, Manifest>,
    /// Bytes on disk of those that are closed.
    sizes: BTreeMap<Generation, u64>,
    /// Generations by the first sequence that was recorded into them.
    by_first: BTreeMap<u64, Generation>,
    /// Every event that was ever carried: most are not, and need no search.
    carried: RoaringTreemap,
    /// Every event that a replay ever owed to somebody to whom it was not.
    adopted: RoaringTreemap,
}

impl Catalog {
    pub(crate) fn get(&self, generation: Generation) -> Option<&Manifest> {
        self.manifests.get(&generation)
    }

    pub(crate) fn manifests(&self) -> impl DoubleEndedIterator<Item = &Manifest> {
        self.manifests.values()
    }

    pub(crate) fn len(&self) -> u64 {
        self.manifests.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// Bytes on disk of a closed generation.
    pub(crate) fn size(&self, generation: Generation) -> u64 {
        self.sizes.get(&generation).copied().unwrap_or(0)
    }

    pub(crate) fn set_size(&mut self, generation: Generation, bytes: u64) {
        if self.manifests.contains_key(&generation) {
            self.sizes.insert(generation, bytes);
        }
    }

    /// Puts a manifest, in place of the one that the generation had.
    pub(crate) fn put(&mut self, manifest: Manifest) {
        self.carried |= &manifest.carried;
        self.adopted |= &manifest.adopted;
        if let Some((first, _)) = manifest.sequences {
            self.by_first.insert(first, manifest.generation);
        }
        self.manifests.insert(manifest.generation, manifest);
    }

    /// Changes a manifest.
    pub(crate) fn change(&mut self, generation: Generation, change: impl FnOnce(&mut Manifest)) {
        let Some(manifest) = self.manifests.get_mut(&generation) else { return };
        let (first, carried, adopted) = (manifest.sequences, manifest.carried.len(), manifest.adopted.len());
        change(manifest);
        if first.is_none()
            && let Some((first, _)) = manifest.sequences
        {
            self.by_first.insert(first, generation);
        }
        if manifest.carried.len() != carried {
            self.carried |= &manifest.carried;
        }
        if manifest.adopted.len() != adopted {
            self.adopted |= &manifest.adopted;
        }
    }

    pub(crate) fn remove(&mut self, generation: Generation) {
        self.sizes.remove(&generation);
        if let Some((first, _)) = self.manifests.remove(&generation).and_then(|m| m.sequences) {
            self.by_first.remove(&first);
        }
        (self.carried, self.adopted) = (RoaringTreemap::new(), RoaringTreemap::new());
        for manifest in self.manifests.values() {
            self.carried |= &manifest.carried;
            self.adopted |= &manifest.adopted;
        }
    }

    /// Where an event lies, and whether it was carried there; `None` where it is gone, or never was.
    pub(crate) fn home(&self, sequence: u64) -> Option<(Generation, bool)> {
        if self.carried.contains(sequence)
            && let Some(manifest) = self.manifests().rev().find(|m| m.carried.contains(sequence))
        {
            return Some((manifest.generation, true));
        }
        let (_, generation) = self.by_first.range(..=sequence).next_back()?;
        self.get(*generation).filter(|m| m.spans(sequence)).map(|m| (m.generation, false))
    }

    /// The generations that may have entries about an event, ascending.
    pub(crate) fn about(&self, sequence: u64) -> Vec<Generation> {
        let home = self.home(sequence).map(|(generation, _)| generation);
        let told = |m: &&Manifest| Some(m.generation) == home || m.foreign.contains(sequence);
        self.manifests().filter(told).map(|m| m.generation).collect()
    }

    /// The generations that say that an event was adopted, ascending.
    pub(crate) fn adopting(&self, sequence: u64) -> Vec<Generation> {
        if !self.adopted.contains(sequence) {
            return Vec::new();
        }
        self.manifests().filter(|m| m.adopted.contains(sequence)).map(|m| m.generation).collect()
    }

    /// The lowest sequence at or above one that may be an event's.
    pub(crate) fn at_or_above(&self, sequence: u64) -> Option<u64> {
        let within = self.by_first.range(..=sequence).next_back();
        let within = within.and_then(|(_, generation)| self.get(*generation)?.sequences);
        let in_range = match within {
            Some((_, last)) if last >= sequence => Some(sequence),
            _ => self.by_first.range(sequence..).next().map(|(first, _)| *first),
        };
        let mut carried = self.carried.iter();
        carried.advance_to(sequence);
        in_range.into_iter().chain(carried.next()).min()
    }

    /// The highest sequence at or below one that may be an event's.
    pub(crate) fn at_or_below(&self, sequence: u64) -> Option<u64> {
        let by_range = self.by_first.range(..=sequence).next_back();
        let last = |generation: &Generation| self.get(*generation)?.sequences.map(|(_, last)| last.min(sequence));
        let in_range = by_range.and_then(|(_, generation)| last(generation));
        let rank = self.carried.rank(sequence);
        let carried = rank.checked_sub(1).and_then(|n| self.carried.select(n));
        in_range.max(carried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(generation: Generation, sequences: (u64, u64), carried: &[u64], foreign: &[u64]) -> Manifest {
        Manifest {
            sequences: Some(sequences),
            carried: carried.iter().collect(),
            foreign: foreign.iter().collect(),
            ..Manifest::begun(generation, 0)
        }
    }

    #[test]
    fn an_event_is_found_where_it_was_recorded_or_carried_last() {
        let mut catalog = Catalog::default();
        catalog.put(manifest(1, (1, 10), &[], &[]));
        catalog.put(manifest(2, (11, 20), &[3], &[4]));
        catalog.put(Manifest { void: [25].iter().collect(), ..manifest(4, (21, 30), &[3], &[12, 3]) });
        let home = |n| catalog.home(n);
        assert_eq!([home(3), home(4), home(20)], [Some((4, true)), Some((1, false)), Some((2, false))]);
        assert_eq!([home(0), home(25), home(31)], [None; 3]);
        assert_eq!(catalog.about(4), [1, 2]);
        assert_eq!(catalog.about(12), [2, 4]);
        catalog.remove(1);
        assert_eq!([catalog.home(4), catalog.home(3)], [None, Some((4, true))]);
        assert_eq!(
            [catalog.at_or_below(35), catalog.at_or_below(10), catalog.at_or_below(2)],
            [Some(30), Some(3), None]
        );
        let above = |n| catalog.at_or_above(n);
        assert_eq!([above(0), above(3), above(4), above(15), above(31)], [Some(3), Some(3), Some(11), Some(15), None]);
    }
}
