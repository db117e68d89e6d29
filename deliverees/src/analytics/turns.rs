//! Whose turn it is to write to a file: within this process, calls for the same path wait for each other here, in the order
//! in which they came, instead of asking the disk again and again. Other processes are kept out by the lock on the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::Semaphore;

/// One turn for each path, shared by all deliverees that write to it. Two spellings of one path have two; the lock on the
/// file keeps them apart all the same.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<PathBuf, Weak<Semaphore>>>);

impl Turns {
    /// The turn of this path; it is forgotten with the last deliveree that holds it.
    pub(super) fn of(&self, path: &Path) -> Arc<Semaphore> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(path).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Semaphore::new(1));
        turns.insert(path.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_turn_as_long_as_somebody_holds_it() {
        let turns = Turns::default();
        let (one, same, other) = (turns.of(Path::new("a")), turns.of(Path::new("a")), turns.of(Path::new("b")));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        drop((one, same));
        let kept = turns.of(Path::new("b"));
        assert!(Arc::ptr_eq(&kept, &other));
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
