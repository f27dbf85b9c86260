//! Memory for weights: whole cache lines, on large pages where the system has them.
//!
//! Decoding reads every weight for every token, in order. With pages of 4 KiB a processor looks up a
//! page twice a microsecond, and a virtual machine pays for each look-up several times over; so
//! Linux is asked for pages of 2 MiB, before anything is written: pages that are in use stay small.
//! Matrices that are smaller than such a page share slabs with their neighbours.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes of a large page.
const LARGE_PAGE: usize = 2 << 20;

/// Bytes of a slab. What has more than a quarter of it gets memory of its own.
const SLAB: usize = 32 << 20;

/// Whether the system gives large pages to who asks for them; `None` where it does not say. Without
/// them decoding is about a fifth slower.
#[must_use]
pub fn large_pages() -> Option<bool> {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let choice = std::fs::read_to_string(path).ok()?;
    Some(!choice.contains("[never]"))
}

/// Bytes that start at a cache line, on large pages if there are enough of them.
pub(super) struct Lines {
    data: NonNull<u8>,
    len: usize,
    /// What the bytes are a part of, which is freed with its last part.
    _slab: Arc<Slab>,
}

// SAFETY: nobody else has access to its bytes of the slab, so it owns them as a `Vec<u8>` does.
unsafe impl Send for Lines {}
// SAFETY: see above.
unsafe impl Sync for Lines {}

/// One allocation, of uninitialised bytes that only its [`Lines`] know of.
struct Slab {
    data: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it never touches its bytes, and may be freed by any thread.
unsafe impl Send for Slab {}
// SAFETY: see above.
unsafe impl Sync for Slab {}

impl Slab {
    fn new(len: usize) -> Self {
        let align = if len < LARGE_PAGE { LINE } else { LARGE_PAGE };
        let layout = Layout::from_size_align(len, align).expect("a size that memory can have");
        // SAFETY: the size is not zero.
        let data = unsafe { alloc(layout) };
        let Some(data) = NonNull::new(data) else {
            handle_alloc_error(layout)
        };
        if align == LARGE_PAGE {
            advise(data, len);
        }
        Self { data, layout }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.data.as_ptr(), self.layout) }
    }
}

/// The slab that is being filled, while any part of it lives, and how much of it is taken.
static OPEN: Mutex<(Weak<Slab>, usize)> = Mutex::new((Weak::new(), 0));

/// Memory for `len` bytes: the next part of the open slab, or an allocation.
fn part(len: usize) -> (Arc<Slab>, usize) {
    if len > SLAB / 4 {
        return (Arc::new(Slab::new(len)), 0);
    }
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let (slab, taken) = &mut *open;
    match slab.upgrade() {
        Some(slab) if *taken + len <= SLAB => {
            let at = *taken;
            *taken = (at + len).next_multiple_of(LINE);
            (slab, at)
        }
        _ => {
            let new = Arc::new(Slab::new(SLAB));
            *open = (Arc::downgrade(&new), len.next_multiple_of(LINE));
            (new, 0)
        }
    }
}

impl Lines {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        assert!(len > 0, "weights take at least a byte");
        let (slab, at) = part(len);
        // SAFETY: `part` gives `len` bytes of the slab from `at` on to nobody else, so writing them
        // first and reading them afterwards is sound for as long as the slab lives.
        let data = unsafe {
            let data = slab.data.add(at);
            data.write_bytes(0, len);
            data
        };
        Self {
            data,
            len,
            _slab: slab,
        }
    }
}

/// Asks for large pages; where there are none, nothing changes.
#[cfg(target_os = "linux")]
fn advise(data: NonNull<u8>, len: usize) {
    // SAFETY: the range is one allocation that starts at a page, and advice on how to back it
    // changes nothing that can be read there.
    unsafe {
        libc::madvise(data.as_ptr().cast(), len, libc::MADV_HUGEPAGE);
    }
}

/// Other systems choose the size of pages themselves.
#[cfg(not(target_os = "linux"))]
fn advise(_data: NonNull<u8>, _len: usize) {}

impl Deref for Lines {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes, borrowed with `self`.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl Clone for Lines {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned_zero_and_apart() {
        let sizes = [
            1,
            64,
            65,
            3 << 20,
            SLAB / 4,
            SLAB / 4 + 1,
            7 << 20,
            7 << 20,
            9 << 20,
        ];
        let mut all: Vec<Lines> = sizes.iter().map(|&len| Lines::zeros(len)).collect();
        for (index, lines) in all.iter_mut().enumerate() {
            assert_eq!(lines.data.as_ptr() as usize % LINE, 0);
            assert_eq!(lines.len(), sizes[index]);
            assert!(lines.iter().all(|&byte| byte == 0), "{index} is not zero");
            lines.fill(index as u8 + 1);
        }
        let copy = all[3].clone();
        all.remove(1);
        for (lines, value) in all.iter().zip([1, 3, 4, 5, 6, 7, 8, 9]) {
            assert!(
                lines.iter().all(|&byte| byte == value),
                "{value} was overwritten"
            );
        }
        assert!(copy.iter().all(|&byte| byte == 4));
    }
}
