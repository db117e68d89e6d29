//! How much a claim gives, and how due retries and what was never tried share it.

/// How many deliveries a claim gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// At most.
    pub(crate) count: usize,
    /// So many of them at least were never tried, where so many are due.
    pub(crate) fresh_min: usize,
}

impl Part {
    pub(crate) fn of(want: &crate::Want) -> Self {
        Self { count: want.count, fresh_min: want.fresh_min.min(want.count) }
    }

    /// How many retries it leaves room for, where so many are due that were never tried.
    pub(super) fn retries_max(self, fresh: usize) -> usize {
        self.count - self.fresh_min.min(fresh)
    }

    /// Retries and what was never tried in the order in which they are given: one after the other, or in turn.
    pub(super) fn in_turn<T>(self, retries: Vec<T>, fresh: Vec<T>) -> Vec<T> {
        if self.fresh_min == 0 {
            return retries.into_iter().chain(fresh).collect();
        }
        let (first, second) = if self.fresh_min * 2 > self.count { (fresh, retries) } else { (retries, fresh) };
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        let mut given = Vec::with_capacity(first.len() + second.len());
        loop {
            let before = given.len();
            given.extend(first.next().into_iter().chain(second.next()));
            if given.len() == before {
                return given;
            }
        }
    }
}
