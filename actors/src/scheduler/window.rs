//! How much may be out of the outbox at once: over all subscriptions, and for one of them.
//!
//! Everything claimed counts from the moment the claim is asked for until its outcome is known. Half of the window is
//! shared: there a subscription may take a part of what is still *free*, so the more is taken the less each may have.
//! The other half is only for the first few deliveries of each: hundreds of dead receivers that fill their shares do
//! not lock a healthy one out. A quarter of the shared half is kept from those whose receiver is down, and of the other half
//! they get half as much: what they have tried and will try again takes no room that something new for the others needs.

/// How many deliveries may be out at once.
pub const COUNT_MAX: usize = 4_096;
/// How many bytes of payload may be out at once; one delivery a claim may go over it.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;
/// A subscription may hold at most this part of what is free of the shared half.
const PART_OF_FREE: usize = 4;
/// So many deliveries each may have out although the shared half is taken.
const FIRST: usize = 2;
/// So many where its receiver is down.
const FIRST_DOWN: usize = 1;
/// And of the bytes that are free then, this part.
const FIRST_BYTES_PART: usize = 1_024;
/// Deliveries in one claim at most.
const CLAIM_COUNT_MAX: usize = 256;
/// Bytes in one claim at most, so that a turn costs the others little.
const CLAIM_BYTES_MAX: usize = 512 * 1024;

/// An amount of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) const fn add(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }

    pub(super) const fn remove(&mut self, other: Self) {
        self.count = self.count.saturating_sub(other.count);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// What is out over all subscriptions.
#[derive(Debug)]
pub(super) struct Window {
    max: Load,
    out: Load,
    /// Off only in the negative control of the tests: then whoever comes first may take everything.
    pub(super) shared: bool,
}

impl Window {
    pub(super) const fn new(max: Load) -> Self {
        Self { max, out: Load { count: 0, bytes: 0 }, shared: true }
    }

    pub(super) const fn out(&self) -> Load {
        self.out
    }

    /// Whether nothing more may be claimed by anyone.
    pub(super) const fn is_full(&self) -> bool {
        self.out.count >= self.max.count || self.out.bytes >= self.max.bytes
    }

    /// How much a subscription that has `held` out, and whose receiver may be down, may claim now of `wished` deliveries;
    /// `None`: nothing.
    pub(super) fn share(&self, held: Load, wished: usize, down: bool) -> Option<Load> {
        if self.is_full() || wished == 0 {
            return None;
        }
        if !self.shared {
            let (count, bytes) = (self.max.count - self.out.count, self.max.bytes - self.out.bytes);
            return Some(Load { count: wished.min(count).min(CLAIM_COUNT_MAX), bytes: bytes.min(CLAIM_BYTES_MAX) });
        }
        let open_to = |half: usize| if down { half / 4 * 3 } else { half };
        let wide = Load {
            count: open_to(self.max.count / 2).saturating_sub(self.out.count),
            bytes: open_to(self.max.bytes / 2).saturating_sub(self.out.bytes),
        };
        let first = if down { FIRST_DOWN } else { FIRST };
        let mut count = (wide.count / PART_OF_FREE).saturating_sub(held.count);
        let mut bytes = (wide.bytes / PART_OF_FREE).saturating_sub(held.bytes);
        if held.count < first {
            count = count.max(first - held.count).min(self.max.count - self.out.count);
            bytes = bytes.max((self.max.bytes - self.out.bytes).div_ceil(FIRST_BYTES_PART));
        }
        let load = Load { count: wished.min(count).min(CLAIM_COUNT_MAX), bytes: bytes.min(CLAIM_BYTES_MAX) };
        (load.count > 0 && load.bytes > 0).then_some(load)
    }

    pub(super) const fn take(&mut self, load: Load) {
        self.out.add(load);
    }

    pub(super) const fn give(&mut self, load: Load) {
        self.out.remove(load);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Load = Load { count: 0, bytes: 0 };

    fn window() -> Window {
        Window::new(Load { count: COUNT_MAX, bytes: BYTES_MAX })
    }

    #[test]
    fn a_thousand_greedy_subscriptions_leave_room_for_another() {
        let mut window = window();
        let mut held = vec![NOTHING; 1_000];
        for _ in 0..100 {
            for h in &mut held {
                if let Some(more) = window.share(*h, usize::MAX, false) {
                    window.take(more);
                    h.add(more);
                }
            }
        }
        assert!(held.iter().all(|h| h.count >= FIRST), "each has its first few");
        assert!(window.share(NOTHING, 10, false).is_some(), "out: {:?}", window.out());
    }

    #[test]
    fn four_hundred_whose_receivers_are_down_leave_the_others_a_share_and_not_just_their_first() {
        let fill = |down: bool| {
            let mut window = window();
            let mut held = vec![NOTHING; 400];
            for _ in 0..100 {
                for h in &mut held {
                    if let Some(more) = window.share(*h, 8_usize.saturating_sub(h.count), down) {
                        window.take(more);
                        h.add(more);
                    }
                }
            }
            assert!(held.iter().all(|h| h.count >= FIRST_DOWN), "each is tried");
            window.share(NOTHING, 100, false).map_or(0, |more| more.count)
        };
        assert!(fill(true) >= 64, "{}", fill(true));
        assert!(fill(false) <= FIRST, "{}: without that they would", fill(false));
    }

    #[test]
    fn the_window_is_never_passed() {
        let mut window = window();
        for _ in 0..100_000 {
            if let Some(more) = window.share(NOTHING, usize::MAX, false) {
                window.take(more);
            }
        }
        assert!(window.out().count <= COUNT_MAX && window.out().bytes <= BYTES_MAX);
        assert!(window.is_full());
        window.give(Load { count: 1, bytes: BYTES_MAX / 2 });
        assert!(window.share(NOTHING, 5, false).is_some_and(|more| more.count == 1));
    }

    #[test]
    fn one_alone_gets_an_eighth_at_most() {
        let mut window = window();
        let mut held = NOTHING;
        while let Some(more) = window.share(held, usize::MAX, false) {
            window.take(more);
            held.add(more);
        }
        assert!(held.count <= COUNT_MAX / 8 && held.bytes <= BYTES_MAX / 8, "{held:?}");
    }
}
