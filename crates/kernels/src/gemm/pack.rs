//! Packed operands: panels of `width` lanes, each panel `depth` groups of `width` elements, so
//! that `panel[p * width + lane]` is element `(lane, p)`. Missing lanes of the last panel are
//! zero.
//!
//! A panel holds the whole depth contiguously, so any range of `k` and any run of whole panels of
//! a packed operand is itself a packed operand: attention packs the keys and values of a head
//! once and multiplies with whatever part a block of queries may see.

use super::{Kernel, Lanes, nr};
use crate::{Level, MatRef, cpu};

/// Elements past the end of a packed operand that [`Kernel::pack`] may write.
const SLACK: usize = 8;

/// Elements needed to pack `lanes` x `depth` in panels of `width`.
pub(crate) fn packed_len(lanes: usize, depth: usize, width: usize) -> usize {
    lanes.div_ceil(width) * width * depth + SLACK
}

/// A read-only packed right-hand operand, or part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    data: &'a [f32],
    /// Depth of the whole operand: the distance between panels is `stride * width`.
    stride: usize,
    width: usize,
    first_row: usize,
    rows: usize,
    cols: usize,
}

impl<'a> Panels<'a> {
    /// The operand that [`pack_panels`] wrote, `depth` x `cols`.
    pub(crate) fn new(data: &'a [f32], depth: usize, cols: usize) -> Self {
        Self::with_width(data, depth, cols, nr())
    }

    pub(super) fn with_width(data: &'a [f32], depth: usize, cols: usize, width: usize) -> Self {
        assert!(
            data.len() >= packed_len(cols, depth, width),
            "a packed operand is too short"
        );
        Self {
            data,
            stride: depth,
            width,
            first_row: 0,
            rows: depth,
            cols,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Rows `start..start + len` (a range of `k`).
    pub(crate) fn rows_range(self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.rows, "rows outside a packed operand");
        Self {
            first_row: self.first_row + start,
            rows: len,
            ..self
        }
    }

    /// Columns `start..start + len`; `start` must be the first column of a panel.
    pub(crate) fn cols_range(self, start: usize, len: usize) -> Self {
        assert!(
            start.is_multiple_of(self.width) && start + len <= self.cols,
            "columns outside a packed operand or not on a panel"
        );
        Self {
            data: &self.data[start * self.stride..],
            cols: len,
            ..self
        }
    }

    /// The first element of panel `index`, from which `rows * width` elements are readable.
    pub(super) fn panel(&self, index: usize) -> *const f32 {
        debug_assert!(index * self.width < self.cols);
        let start = (index * self.stride + self.first_row) * self.width;
        self.data[start..][..self.rows * self.width].as_ptr()
    }
}

/// Packs all of `b` for the kernel in use. `dst` holds at least `packed_len(b.cols, b.rows, nr())`.
pub(crate) fn pack_panels(dst: &mut [f32], b: &MatRef<'_>) {
    b.check();
    let lanes = Lanes::cols_of(b);
    // SAFETY: `b.check()` proved that the strides stay inside its slice for `cols` x `rows`, and
    // the level in use is one that the processor has.
    unsafe {
        match cpu().level {
            Level::Portable => {
                pack_into::<super::portable::Portable>(nr(), dst, lanes, b.cols, b.rows);
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => pack_into::<super::avx2::Avx2>(nr(), dst, lanes, b.cols, b.rows),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Amx => {
                pack_into::<super::avx512::Avx512>(nr(), dst, lanes, b.cols, b.rows);
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => pack_into::<super::portable::Portable>(nr(), dst, lanes, b.cols, b.rows),
        }
    }
}

/// Packs `lanes` x `depth` elements in panels of `width`.
///
/// # Safety
/// `src` is readable at the offsets its strides name for `lanes` x `depth`, and the processor
/// supports `K`.
pub(super) unsafe fn pack_into<K: Kernel>(
    width: usize,
    dst: &mut [f32],
    src: Lanes,
    lanes: usize,
    depth: usize,
) {
    assert!(
        dst.len() >= packed_len(lanes, depth, width),
        "a packing buffer is too short"
    );
    if depth == 0 {
        return;
    }
    for (panel, first) in (0..lanes).step_by(width).enumerate() {
        // SAFETY: the panel starts inside `src` (caller) and inside `dst`, which has room for
        // this panel, the later ones and the slack (asserted above).
        unsafe {
            let dst = dst.as_mut_ptr().add(panel * width * depth);
            K::pack(
                width,
                dst,
                src.offset(first, 0),
                width.min(lanes - first),
                depth,
            );
        }
    }
}

/// [`Kernel::pack`] in plain Rust.
///
/// # Safety
/// As [`Kernel::pack`], without any demand on the processor.
#[inline]
pub(super) unsafe fn pack_scalar<const WIDTH: usize>(
    dst: *mut f32,
    src: Lanes,
    lanes: usize,
    depth: usize,
) {
    // SAFETY: reads stay within `lanes` x `depth` and writes within `depth * WIDTH`, both granted
    // by the caller.
    unsafe {
        if lanes == WIDTH && src.lane_stride == 1 {
            for p in 0..depth {
                let from = src.ptr.add(p * src.depth_stride);
                std::ptr::copy_nonoverlapping(from, dst.add(p * WIDTH), WIDTH);
            }
            return;
        }
        for p in 0..depth {
            for lane in 0..WIDTH {
                let value = if lane < lanes {
                    *src.ptr.add(lane * src.lane_stride + p * src.depth_stride)
                } else {
                    0.0
                };
                *dst.add(p * WIDTH + lane) = value;
            }
        }
    }
}
