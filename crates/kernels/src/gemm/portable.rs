//! The micro-kernel in plain Rust: 4 x 16 accumulators in arrays of constant size, which
//! compilers turn into whatever vectors the target guarantees (SSE2, NEON).

use super::pack::{pack_f32, pack_scalar};
use super::{Extent, Kernel, Lanes};
use crate::Store;

/// Runs anywhere.
#[derive(Debug)]
pub(crate) struct Portable;

const MR: usize = 4;
const NR: usize = 16;

impl Kernel for Portable {
    const MR: usize = MR;
    const NR: usize = NR;

    unsafe fn tile(
        extent: Extent,
        a: Lanes,
        b: *const f32,
        c: *mut f32,
        c_stride: usize,
        store: Store,
    ) {
        let mut sums = [[0f32; NR]; MR];
        // SAFETY: the caller grants reads of `rows` x `depth` of `a`, of a whole panel of `b`, and
        // access to `rows` x `cols` of `c`.
        unsafe {
            for p in 0..extent.slots {
                let b: &[f32; NR] = &*b.add(p * NR).cast();
                for (i, sums) in sums.iter_mut().enumerate().take(extent.rows) {
                    let x = *a.ptr.add(i * a.lane_stride + p * a.depth_stride);
                    for (sum, &b) in sums.iter_mut().zip(b) {
                        *sum += x * b;
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate().take(extent.rows) {
                for (j, &sum) in sums.iter().enumerate().take(extent.cols) {
                    let c = c.add(i * c_stride + j);
                    *c = if store == Store::Accumulate {
                        *c + sum
                    } else {
                        sum
                    };
                }
            }
        }
    }

    unsafe fn pack_a(dst: &mut [f32], src: Lanes, rows: usize, depth: usize) -> Lanes {
        // SAFETY: passed on from the caller.
        unsafe { pack_f32(MR, pack_scalar::<MR>, dst, src, rows, depth) }
    }

    unsafe fn pack_b(dst: &mut [f32], src: Lanes, cols: usize, depth: usize) {
        // SAFETY: as above.
        unsafe { pack_f32(NR, pack_scalar::<NR>, dst, src, cols, depth) };
    }
}
