//! Idempotency keys over their time. Interim: all in memory, until the sealed segments are there.

use crate::Recorded;
use crate::disk::{Disk, DiskError};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) content: [u8; 16],
    pub(crate) answer: Recorded,
}

pub(crate) struct Keys {
    keep: u64,
    known: HashMap<[u8; 16], (u64, Known)>,
    ends: VecDeque<(u64, [u8; 16])>,
}

impl Keys {
    pub(crate) fn open(_disk: &Arc<dyn Disk>, _now: u64, keep: u64) -> Result<Self, DiskError> {
        Ok(Self { keep, known: HashMap::new(), ends: VecDeque::new() })
    }

    pub(crate) fn look_up(&mut self, key: &[u8; 16], now: u64) -> Result<Option<Known>, DiskError> {
        Ok(self.known.get(key).filter(|(until, _)| now < *until).map(|(_, known)| *known))
    }

    pub(crate) fn insert(&mut self, key: [u8; 16], known: Known) {
        let until = known.answer.id.millis().saturating_add(self.keep);
        self.known.insert(key, (until, known));
        self.ends.push_back((until, key));
    }

    pub(crate) fn seal(&mut self, _name: &str) -> Result<(), DiskError> {
        Ok(())
    }

    pub(crate) fn forget(&mut self, now: u64) -> Result<(), DiskError> {
        while let Some((_, key)) = self.ends.front().copied().filter(|(until, _)| *until <= now) {
            self.ends.pop_front();
            if self.known.get(&key).is_some_and(|(until, _)| *until <= now) {
                self.known.remove(&key);
            }
        }
        Ok(())
    }
}
