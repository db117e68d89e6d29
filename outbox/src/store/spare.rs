//! The next generation, made ahead of its time: making one takes several syncs of the disk, and nobody should wait for
//! those who only wants to record.
//!
//! Its number is taken when it is asked for, so that generations are used in the order of their numbers. One that comes
//! too late is removed; a start removes what it finds empty.

use super::{Store, Writer};
use crate::disk::{Generation, Keyspace};
use std::sync::PoisonError;

/// The next generation is made when this share of the active one is used: the rest gives time to make it.
const SHARE: u64 = 7;
const SHARES: u64 = 8;

/// The generation that is made ahead; none twice at a time.
#[derive(Default)]
pub(crate) enum Spare {
    /// None is asked for.
    #[default]
    None,
    /// It is being made.
    Asked(Generation),
    /// It is there, and empty.
    Made(Generation, Box<dyn Keyspace>),
}

impl Store {
    /// The number of the generation to be made now with [`Store::make_spare`], where it is time for one.
    pub(crate) fn spare_wanted(&self) -> Option<Generation> {
        let mut writer = self.writer();
        let (active, _) = writer.active.as_ref()?;
        let bounds = self.limits.generation;
        let nearly = |value: u64, most: u64| value.saturating_mul(SHARES) >= most.saturating_mul(SHARE);
        let soon = self.catalog().get(*active).is_some_and(|m| {
            nearly(m.events, bounds.events_max) || nearly(m.bytes, bounds.bytes_max) || nearly(m.rows, bounds.rows_max)
        });
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if !soon || !matches!(*spare, Spare::None) {
            return None;
        }
        let generation = writer.next_generation;
        writer.next_generation += 1;
        *spare = Spare::Asked(generation);
        Some(generation)
    }

    /// Makes the generation that was asked for. A failure is not told: whoever needs one next makes it, and tells.
    pub(crate) fn make_spare(&self, generation: Generation) {
        let made = self.disk.create(generation);
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = matches!(*spare, Spare::Asked(number) if number == generation);
        match made {
            Ok(keyspace) if asked => *spare = Spare::Made(generation, keyspace),
            Ok(keyspace) => {
                drop(spare);
                keyspace.close();
                self.destroy(generation);
            }
            Err(_) => {
                if asked {
                    *spare = Spare::None;
                }
                drop(spare);
                // It may have been made in part.
                self.destroy(generation);
            }
        }
    }

    /// Takes the one that was made ahead. One that is still being made is left: it comes too late.
    pub(super) fn take_spare(&self, _writer: &Writer) -> Option<(Generation, Box<dyn Keyspace>)> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *spare) {
            Spare::Made(generation, keyspace) => Some((generation, keyspace)),
            Spare::None | Spare::Asked(_) => None,
        }
    }

    /// Removes the one that was made ahead and that nobody will use.
    pub(super) fn drop_spare(&self, writer: &Writer) {
        if let Some((generation, keyspace)) = self.take_spare(writer) {
            keyspace.close();
            self.destroy(generation);
        }
    }
}
