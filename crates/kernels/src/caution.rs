//! When a [`Pool`](crate::Pool) shares work: whether it pays is known only afterwards.
//!
//! A worker that the system stops in the middle of a chunk keeps the caller waiting for milliseconds.
//! On a quiet machine that is rare and what sharing saves is far more; on a busy one it can be the
//! other way round. So the books are kept: after a stall the caller works alone for a while, which
//! grows as long as stalls cost more than sharing had saved between them, and shrinks when they do not.
//! All times are in nanoseconds, `now` since any one moment.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long the caller works alone after a stall.
const PENALTY: RangeInclusive<u64> = 1_000_000..=512_000_000;

/// The most that an operation counts as saved: the caller may itself have been stopped in it.
const MOST_SAVED: u64 = 200_000;

/// By how much the savings between two stalls should exceed what a stall costs.
const WORTH: u64 = 4;

/// How many times as long as the stall itself the caller works alone at least, if sharing had not paid:
/// a busy machine should be found out by few stalls.
const AT_LEAST: u64 = 16;

/// The books. Two callers at once may lose an entry: it is a rule of thumb.
#[derive(Debug)]
pub(crate) struct Caution {
    /// When sharing may begin again; 0 where nothing forbids it.
    alone_until: AtomicU64,
    /// How long the caller works alone after the next stall.
    penalty: AtomicU64,
    /// What sharing has saved since the last stall.
    saved: AtomicU64,
}

impl Caution {
    pub(crate) fn new() -> Self {
        Self {
            alone_until: AtomicU64::new(0),
            penalty: AtomicU64::new(*PENALTY.start()),
            saved: AtomicU64::new(0),
        }
    }

    /// Whether the caller should work alone.
    pub(crate) fn is_alone(&self, now: impl FnOnce() -> u64) -> bool {
        let until = self.alone_until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        let is_alone = now() < until;
        if !is_alone {
            self.alone_until.store(0, Ordering::Relaxed);
        }
        is_alone
    }

    /// Sharing an operation has saved the caller about this time.
    pub(crate) fn saved(&self, time: u64) {
        let saved = self.saved.load(Ordering::Relaxed);
        self.saved.store(
            saved.saturating_add(time.min(MOST_SAVED)),
            Ordering::Relaxed,
        );
    }

    /// A worker was stopped, and the caller has lost this time.
    pub(crate) fn stalled(&self, now: u64, lost: u64) {
        let penalty = self.penalty.load(Ordering::Relaxed);
        let was_worth_it = self.saved.swap(0, Ordering::Relaxed) >= WORTH.saturating_mul(lost);
        let penalty = match was_worth_it {
            true => penalty / 2,
            false => (penalty * 2).max(AT_LEAST.saturating_mul(lost)),
        };
        let penalty = penalty.clamp(*PENALTY.start(), *PENALTY.end());
        self.penalty.store(penalty, Ordering::Relaxed);
        self.alone_until.store(now + penalty, Ordering::Relaxed);
    }

    /// Forgets the last stall.
    #[cfg(test)]
    pub(crate) fn forgive(&self) {
        self.alone_until.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the caller works alone after a stall, in milliseconds.
    fn penalty(caution: &Caution, lost: u64) -> u64 {
        let now = 7_000_000;
        caution.stalled(now, lost);
        let passed = |ms: &u64| caution.is_alone(|| now + ms * 1_000_000);
        (0..).take_while(passed).count() as u64
    }

    #[test]
    fn stalls_that_cost_more_than_was_saved_make_it_work_alone_for_longer() {
        let caution = Caution::new();
        assert!(!caution.is_alone(|| unreachable!("nothing has happened")));
        let lost = 3 * MOST_SAVED;
        let after: Vec<u64> = (0..8).map(|_| penalty(&caution, lost)).collect();
        assert_eq!(after, [10, 20, 39, 77, 154, 308, 512, 512]);
        // Just not enough: 12 operations would be.
        (0..11).for_each(|_| caution.saved(lost));
        assert_eq!(penalty(&caution, lost), 512);
        for after in [256, 128, 64, 32, 16, 8, 4, 2, 1, 1] {
            (0..12).for_each(|_| caution.saved(lost));
            assert_eq!(penalty(&caution, lost), after);
        }
        assert_eq!(penalty(&caution, 10_000_000), 160);
    }
}
