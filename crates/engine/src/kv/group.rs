//! The pages of all layers that keep the same positions: a run of pages behind `Arc`, copied only
//! when written.

use std::ops::Range;
use std::sync::Arc;

use super::ledger::{Account, Charge, Ledger};
use super::page::{PAGE, Page, PageShape};
use crate::backend::{BackendError, Home, PageRun};

/// A page and its entry in the books.
#[derive(Debug)]
struct Slot {
    page: Page,
    charge: Charge,
}

/// What a group has of one page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    /// Tells living pages apart.
    pub(crate) page: usize,
    /// Groups that hold it.
    pub(crate) n_holders: usize,
    pub(crate) bytes: usize,
}

/// Pages number `first..first + pages.len()` of one sequence. A page that is shared is never
/// changed. A group of no layers holds no page. `Clone` shares every page.
#[derive(Clone, Debug)]
pub(super) struct Group {
    shape: PageShape,
    first: usize,
    pages: Vec<Arc<Slot>>,
    account: Account,
    home: Home,
}

impl Group {
    pub(super) fn new(shape: PageShape, account: Account, home: Home) -> Self {
        Self {
            shape,
            first: 0,
            pages: Vec::new(),
            account,
            home,
        }
    }

    /// The least position whose rows are still here.
    pub(super) fn begin(&self) -> usize {
        self.first * PAGE
    }

    pub(super) fn n_pages(&self) -> usize {
        self.pages.len()
    }

    /// Pages that some other group holds too.
    pub(super) fn n_shared_pages(&self) -> usize {
        let is_shared = |page: &&Arc<Slot>| Arc::strong_count(page) > 1;
        self.pages.iter().filter(is_shared).count()
    }

    /// Its pages: which one each is, and how many groups hold it.
    pub(super) fn holdings(&self) -> impl Iterator<Item = Holding> + '_ {
        self.pages.iter().map(|page| Holding {
            page: Arc::as_ptr(page).addr(),
            n_holders: Arc::strong_count(page),
            bytes: self.shape.bytes(),
        })
    }

    /// Promises `bytes` for pages to come.
    pub(super) fn grant(&mut self, bytes: usize) {
        self.account.grant(bytes);
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        self.account.ledger()
    }

    /// Bytes of its pages, shared ones included.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len() * self.shape.bytes()
    }

    /// Lets go of every page that has no position below `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        let end = len.div_ceil(PAGE);
        let kept = end.saturating_sub(self.first).min(self.pages.len());
        self.let_go(kept..self.pages.len());
        self.first = self.first.min(end);
    }

    /// A group with the pages of the positions below `len`.
    pub(super) fn fork_at(&self, len: usize) -> Self {
        let end = len.div_ceil(PAGE);
        let n_pages = end.saturating_sub(self.first).min(self.pages.len());
        Self {
            shape: self.shape,
            first: self.first.min(end),
            pages: self.pages[..n_pages].to_vec(),
            account: self.account.clone(),
            home: self.home.clone(),
        }
    }

    /// Takes over the pages of an earlier state of this group, in the place of its own.
    pub(super) fn restore(&mut self, before: &Self) {
        self.let_go(0..self.pages.len());
        self.first = before.first;
        self.pages = before.pages.clone();
    }

    /// Lets go of every page that lies wholly before `position`, which it has reached.
    pub(super) fn forget_before(&mut self, position: usize) {
        let dropped = (position / PAGE).saturating_sub(self.first);
        if self.shape.n_layers > 0 && dropped > 0 {
            self.let_go(0..dropped);
            self.first += dropped;
        }
    }

    /// Drops some pages; those that were its alone count as room again.
    fn let_go(&mut self, pages: Range<usize>) {
        for slot in self.pages.drain(pages) {
            if let Some(slot) = Arc::into_inner(slot) {
                self.account.refund(slot.charge);
            }
        }
    }

    /// Makes private rows for `positions`, the first of which follows the last one held.
    ///
    /// # Errors
    /// When a back end has no room; the rows held before are as they were.
    pub(super) fn reserve(&mut self, positions: Range<usize>) -> Result<(), BackendError> {
        self.truncate(positions.start);
        if self.shape.n_layers == 0 || positions.is_empty() {
            return Ok(());
        }
        if self.pages.is_empty() {
            self.first = positions.start / PAGE;
        }
        for index in positions.start / PAGE..=(positions.end - 1) / PAGE {
            let rows = (positions.end - index * PAGE).min(PAGE);
            self.private(index)?.reserve(rows);
        }
        Ok(())
    }

    /// The page `index`, which may be the next one, for this group alone.
    fn private(&mut self, index: usize) -> Result<&mut Page, BackendError> {
        let at = index - self.first;
        let page = match self.pages.get_mut(at) {
            None => Some(Page::new(self.shape, &self.home)?),
            Some(slot) if Arc::strong_count(slot) > 1 => Some(slot.page.copy()?),
            Some(_) => None,
        };
        if let Some(page) = page {
            let charge = self.account.charge(self.shape.bytes());
            self.pages.truncate(at);
            self.pages.push(Arc::new(Slot { page, charge }));
        }
        Ok(self.page_mut(index))
    }

    /// The pages from number `first` on as their back end knows them.
    pub(super) fn run_from(&self, first: usize) -> PageRun {
        let first = first.max(self.first);
        let pages = self.pages.iter().skip(first - self.first);
        PageRun {
            first,
            pages: pages.filter_map(|slot| slot.page.handle()).collect(),
        }
    }

    pub(super) fn page(&self, index: usize) -> &Page {
        &self.pages[index - self.first].page
    }

    /// A page that [`Group::reserve`] has made private.
    pub(super) fn page_mut(&mut self, index: usize) -> &mut Page {
        let slot = Arc::get_mut(&mut self.pages[index - self.first]);
        &mut slot.expect("reserved pages are private").page
    }
}
