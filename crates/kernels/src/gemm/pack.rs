//! Packed operands: panels of `width` lanes, each panel a group of `width` slots per step of depth,
//! so that `panel[p * width + lane]` is slot `(lane, p)`: element `(lane, p)` in f32, elements
//! `(lane, 2p)` and `(lane, 2p + 1)` in bf16. What is missing of the last panel and of the last
//! pair is zero.
//!
//! A panel holds the whole depth contiguously, so any range of `k` and any run of whole panels of
//! a packed operand is itself a packed operand: attention packs the keys and values of a head
//! once and multiplies with whatever part a block of queries may see.

use super::{Kernel, Lanes, nr};
use crate::{Level, MatRef, Precision, cpu};

/// Slots past the end of a packed operand that a [`PackPanel`] may write.
const SLACK: usize = 8;

impl Precision {
    fn per_slot(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
        }
    }
}

/// Slots needed to pack `lanes` x `depth` for the kernel in use.
pub(crate) fn packed_len(lanes: usize, depth: usize, precision: Precision) -> usize {
    slots_of_panels(lanes, depth.div_ceil(precision.per_slot()), nr())
}

/// Slots needed to pack `lanes` x `depth` in panels of `width` for a kernel.
pub(super) fn packed_len_for<K: Kernel>(lanes: usize, depth: usize, width: usize) -> usize {
    slots_of_panels(lanes, depth.div_ceil(K::PER_SLOT), width)
}

fn slots_of_panels(lanes: usize, slots: usize, width: usize) -> usize {
    lanes.next_multiple_of(width) * slots + SLACK
}

/// A read-only packed right-hand operand, or part of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    data: &'a [f32],
    precision: Precision,
    /// Slots of a lane of the whole operand: the distance between panels is `stride * width`.
    stride: usize,
    width: usize,
    first_slot: usize,
    rows: usize,
    cols: usize,
}

impl<'a> Panels<'a> {
    /// The operand that [`pack_panels`] wrote, `depth` x `cols`.
    pub(crate) fn new(data: &'a [f32], depth: usize, cols: usize, precision: Precision) -> Self {
        Self::with_width(data, depth, cols, precision, nr())
    }

    /// The operand that `K` packed.
    pub(super) fn for_kernel<K: Kernel>(data: &'a [f32], depth: usize, cols: usize) -> Self {
        let precision = match K::PER_SLOT {
            1 => Precision::F32,
            _ => Precision::Bf16,
        };
        Self::with_width(data, depth, cols, precision, K::NR)
    }

    fn with_width(
        data: &'a [f32],
        depth: usize,
        cols: usize,
        precision: Precision,
        width: usize,
    ) -> Self {
        let stride = depth.div_ceil(precision.per_slot());
        assert!(
            data.len() >= slots_of_panels(cols, stride, width),
            "a packed operand is too short"
        );
        Self {
            data,
            precision,
            stride,
            width,
            first_slot: 0,
            rows: depth,
            cols,
        }
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Rows `start..start + len` (a range of `k`); in bf16 `start` must be even, and so must `len`
    /// unless the range is the last one.
    pub(crate) fn rows_range(self, start: usize, len: usize) -> Self {
        let per_slot = self.precision.per_slot();
        let whole = |k: usize| k.is_multiple_of(per_slot) || k == self.rows;
        assert!(
            start + len <= self.rows && start.is_multiple_of(per_slot) && whole(start + len),
            "rows outside a packed operand or not on a pair"
        );
        Self {
            first_slot: self.first_slot + start / per_slot,
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

    /// The first slot of panel `index`, from which `width` times the slots of `rows` are readable.
    pub(super) fn panel(&self, index: usize) -> *const f32 {
        debug_assert!(index * self.width < self.cols);
        let start = (index * self.stride + self.first_slot) * self.width;
        let slots = self.rows.div_ceil(self.precision.per_slot());
        self.data[start..][..slots * self.width].as_ptr()
    }
}

/// Packs all of `b` for the kernel in use. `dst` holds at least
/// `packed_len(b.cols, b.rows, precision)`.
///
/// # Panics
/// If `precision` is bf16 below [`Level::Avx512Bf16`].
pub(crate) fn pack_panels(dst: &mut [f32], b: &MatRef<'_>, precision: Precision) {
    b.check();
    let lanes = Lanes::cols_of(b);
    // SAFETY: `b.check()` proved that the strides stay inside its slice for `cols` x `rows`, and
    // the level in use is one that the processor has.
    unsafe {
        match (precision, cpu().level) {
            (Precision::F32, Level::Portable | Level::Neon) => {
                super::portable::Portable::pack_b(dst, lanes, b.cols, b.rows);
            }
            #[cfg(target_arch = "x86_64")]
            (Precision::F32, Level::Avx2) => {
                super::avx2::Avx2::pack_b(dst, lanes, b.cols, b.rows);
            }
            #[cfg(target_arch = "x86_64")]
            (Precision::F32, Level::Avx512 | Level::Avx512Bf16 | Level::Amx) => {
                super::avx512::Avx512::pack_b(dst, lanes, b.cols, b.rows);
            }
            #[cfg(target_arch = "x86_64")]
            (Precision::Bf16, Level::Avx512Bf16 | Level::Amx) => {
                super::bf16::Bf16::pack_b(dst, lanes, b.cols, b.rows);
            }
            #[cfg(not(target_arch = "x86_64"))]
            (Precision::F32, _) => {
                super::portable::Portable::pack_b(dst, lanes, b.cols, b.rows);
            }
            (Precision::Bf16, level) => panic!("{level} has no products in bf16"),
        }
    }
}

/// Packs one panel of f32: `dst[p * width + lane] = src(lane, p)`, zero for `lane >= lanes`. May
/// write up to [`SLACK`] unspecified elements past the panel.
///
/// # Safety
/// `src(lane, p)` is readable for `lanes` x `depth`, `dst` is writable for the panel and the slack,
/// and the processor has what the function needs.
type PackPanel = unsafe fn(dst: *mut f32, src: Lanes, lanes: usize, depth: usize);

/// Packs `lanes` x `depth` elements in panels of `width`, and says where they are.
///
/// # Safety
/// `src` is readable at the offsets its strides name for `lanes` x `depth`, the processor supports
/// `pack_panel`, and that packs panels of `width`.
pub(super) unsafe fn pack_f32(
    width: usize,
    pack_panel: PackPanel,
    dst: &mut [f32],
    src: Lanes,
    lanes: usize,
    depth: usize,
) -> Lanes {
    assert!(
        dst.len() >= slots_of_panels(lanes, depth, width),
        "a packing buffer is too short"
    );
    let real_lanes = if depth == 0 { 0 } else { lanes };
    for (panel, first) in (0..real_lanes).step_by(width).enumerate() {
        // SAFETY: the panel starts inside `src` (caller) and inside `dst`, which has room for
        // this panel, the later ones and the slack (asserted above).
        unsafe {
            let dst = dst.as_mut_ptr().add(panel * width * depth);
            pack_panel(dst, src.offset(first, 0), width.min(lanes - first), depth);
        }
    }
    Lanes {
        ptr: dst.as_ptr(),
        lane_stride: 1,
        depth_stride: width,
    }
}

/// A [`PackPanel`] in plain Rust, for panels of `WIDTH`.
///
/// # Safety
/// As [`PackPanel`], without any demand on the processor.
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
