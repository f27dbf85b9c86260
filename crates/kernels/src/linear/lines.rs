//! Memory for weights: whole cache lines, on large pages where the system has them.
//!
//! Decoding reads every weight for every token, in order. With pages of 4 KiB a processor looks up a
//! page twice a microsecond, and a virtual machine pays for each look-up several times over; so
//! Linux is asked for pages of 2 MiB.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Bytes of a large page. Smaller buffers are not worth one.
const LARGE_PAGE: usize = 2 << 20;

/// Bytes that start at a cache line, or at a large page if there are enough of them.
pub(super) struct Lines {
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its bytes, as a `Vec<u8>` does.
unsafe impl Send for Lines {}
// SAFETY: see above.
unsafe impl Sync for Lines {}

impl Lines {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        assert!(len > 0, "weights take at least a byte");
        let layout = Self::layout(len);
        // SAFETY: the size is not zero.
        let data = unsafe { alloc_zeroed(layout) };
        let Some(data) = NonNull::new(data) else {
            handle_alloc_error(layout)
        };
        if layout.align() == LARGE_PAGE {
            advise(data, len);
        }
        Self { data, len }
    }

    fn layout(len: usize) -> Layout {
        let align = if len < LARGE_PAGE { LINE } else { LARGE_PAGE };
        Layout::from_size_align(len, align).expect("a buffer that fits the address space")
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

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `zeros`.
        unsafe { dealloc(self.data.as_ptr(), Self::layout(self.len)) }
    }
}
