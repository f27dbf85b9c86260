//! Counts the bytes of living pages, whoever holds them.
//!
//! A page is charged where it is made and released where its last holder lets go of it, so a page
//! that many sessions share counts once, and no count can drift from what is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of pages of all sessions that were made from one another, or by one store.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: AtomicUsize,
}

impl Ledger {
    /// Bytes of living pages.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// The bytes of one page in a [`Ledger`], for as long as this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(ledger: &Arc<Ledger>, bytes: usize) -> Self {
        ledger.held.fetch_add(bytes, Ordering::Relaxed);
        Self {
            ledger: Arc::clone(ledger),
            bytes,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
