//! The books of a pool of pages: how many bytes are there, and how many are promised.
//!
//! A page is charged where it is made and released where its last holder lets go of it, so a page
//! that many sessions share counts once, and no count can drift from what is there. A promise is
//! spent by the pages made under it, gets back what its holder frees, and ends with its holder.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of pages of all sessions that were made from one another, or by one store.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: AtomicUsize,
    promised: AtomicUsize,
}

impl Ledger {
    /// Bytes of living pages.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes that may still be made into pages without asking.
    pub(crate) fn promised(&self) -> usize {
        self.promised.load(Ordering::Relaxed)
    }
}

/// One holder's dealings with a [`Ledger`]: who makes pages does it through one. A clone has been
/// promised nothing.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Arc<Ledger>,
    /// What was promised in all.
    granted: usize,
    /// What is left of it.
    left: usize,
}

impl Account {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            granted: 0,
            left: 0,
        }
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Promises `bytes`, in the place of any earlier promise.
    pub(crate) fn grant(&mut self, bytes: usize) {
        self.ledger.promised.fetch_add(bytes, Ordering::Relaxed);
        self.ledger.promised.fetch_sub(self.left, Ordering::Relaxed);
        (self.granted, self.left) = (bytes, bytes);
    }

    /// Enters a new page.
    pub(crate) fn charge(&mut self, bytes: usize) -> Charge {
        self.ledger.held.fetch_add(bytes, Ordering::Relaxed);
        let spent = bytes.min(self.left);
        self.left -= spent;
        self.ledger.promised.fetch_sub(spent, Ordering::Relaxed);
        Charge {
            ledger: Arc::clone(&self.ledger),
            bytes,
        }
    }

    /// Strikes out a page that nobody holds any more; the holder may make another.
    pub(crate) fn refund(&mut self, charge: Charge) {
        let back = charge.bytes.min(self.granted - self.left);
        self.left += back;
        self.ledger.promised.fetch_add(back, Ordering::Relaxed);
    }
}

impl Clone for Account {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.ledger))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.grant(0);
    }
}

/// The bytes of one page in a [`Ledger`], for as long as this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    ledger: Arc<Ledger>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
