//! Pages of keys and values in device memory.
//!
//! They are cut from slabs, since memory is slow to get; a slab stays when its pages are given back. A page
//! holds finite numbers at all times, those that nobody has written zeros or what an earlier page held: in
//! attention what is not seen is multiplied by 0, and must stay 0.

use cwm_engine::{PageGroup, PageHandle};
use cwm_model::Config;
use half::bf16;

use super::group_of;
use crate::device::{Buffer, Gpu};
use crate::error::Error;
use crate::ops;

/// Bytes of a slab, where a page is not larger.
const SLAB: usize = 8 << 20;

/// One part in so many of the device's memory is left to passes: where pages had all of it, none could be
/// computed any more.
const LEFT: usize = 16;

/// The pages of both groups.
#[derive(Debug)]
pub(super) struct Pages {
    gpu: Gpu,
    global: Pool,
    local: Pool,
}

/// Pages of one size.
#[derive(Debug)]
struct Pool {
    /// Numbers of a page.
    len: usize,
    slabs: Vec<Buffer<bf16>>,
    free: Vec<PageHandle>,
}

impl Pages {
    pub(super) fn new(gpu: &Gpu, config: &Config) -> Self {
        let pool = |group| {
            let kinds = config.layer_types.iter();
            let n_layers = kinds.filter(|kind| group_of(**kind) == group).count();
            Pool {
                len: ops::page_len(config.attention_shape(), n_layers),
                slabs: Vec::new(),
                free: Vec::new(),
            }
        };
        Self {
            gpu: gpu.clone(),
            global: pool(PageGroup::Global),
            local: pool(PageGroup::Local),
        }
    }

    fn pool(&mut self, group: PageGroup) -> &mut Pool {
        match group {
            PageGroup::Global => &mut self.global,
            PageGroup::Local => &mut self.local,
        }
    }

    pub(super) fn make(&mut self, group: PageGroup) -> Result<PageHandle, Error> {
        let gpu = self.gpu.clone();
        let pool = self.pool(group);
        if pool.free.is_empty() {
            pool.grow(&gpu)?;
        }
        let page = pool.free.pop();
        Ok(page.expect("a pool that grew has a free page"))
    }

    /// Copies a page over another one of its group.
    pub(super) fn copy(
        &mut self,
        group: PageGroup,
        from: PageHandle,
        to: PageHandle,
    ) -> Result<(), Error> {
        let gpu = self.gpu.clone();
        let pool = self.pool(group);
        pool.check(from);
        pool.check(to);
        assert_ne!(from, to, "a page is copied over itself");
        // SAFETY: both are different pages of this pool, as was checked.
        unsafe {
            let bytes = pool.len * size_of::<bf16>();
            gpu.device().copy(to.0, from.0, bytes)
        }
    }

    pub(super) fn take_back(&mut self, group: PageGroup, page: PageHandle) {
        let pool = self.pool(group);
        pool.check(page);
        pool.free.push(page);
    }

    /// Panics unless all these are pages of the group.
    pub(super) fn check(&mut self, group: PageGroup, pages: &[PageHandle]) {
        let pool = self.pool(group);
        pages.iter().for_each(|&page| pool.check(page));
    }
}

impl Pool {
    /// Makes a slab; where memory is short, one of a single page.
    fn grow(&mut self, gpu: &Gpu) -> Result<(), Error> {
        let most = (SLAB / size_of::<bf16>() / self.len).max(1);
        let slab = match slab(gpu, most * self.len) {
            Err(Error::OutOfMemory { .. }) if most > 1 => slab(gpu, self.len)?,
            other => other?,
        };
        let firsts = (0..slab.len()).step_by(self.len);
        // The first is taken first.
        let pages = firsts.rev().map(|first| PageHandle(slab.at(first)));
        self.free.extend(pages);
        self.slabs.push(slab);
        Ok(())
    }

    /// Panics unless this is one of its pages: an engine hands back what it was given.
    fn check(&self, page: PageHandle) {
        let bytes = (self.len * size_of::<bf16>()) as u64;
        let is_in = |slab: &Buffer<bf16>| {
            let offset = page.0.wrapping_sub(slab.address());
            offset < (slab.len() * size_of::<bf16>()) as u64 && offset.is_multiple_of(bytes)
        };
        assert!(self.slabs.iter().any(is_in), "{page:?} is no page");
    }
}

/// So many numbers, all 0.
fn slab(gpu: &Gpu, len: usize) -> Result<Buffer<bf16>, Error> {
    let (free, total) = gpu.device().memory()?;
    let wanted = len * size_of::<bf16>();
    match wanted + total / LEFT > free {
        true => Err(Error::OutOfMemory {
            wanted,
            free,
            total,
        }),
        false => gpu.zeros(len),
    }
}
