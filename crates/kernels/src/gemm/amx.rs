//! Large products in bf16 on the AMX tile unit, through stable inline assembly.
//!
//! Inputs are rounded to bf16 (8 bits of mantissa, to nearest even), products are summed in f32.
//! Both operands are packed into tiles of 1 KiB, 16 lanes by 16 pairs of `k`: row-major for rows
//! of `A`, pair-major (the "VNNI" order) for columns of `B`. The kernel computes 32 x 32 of `C`
//! over the whole depth with four accumulator tiles, so nothing is re-read per block of depth.
//!
//! Verified at start-up: [`cpu`](crate::cpu) runs it on an odd-shaped problem whose inputs bf16
//! holds exactly and falls back if anything differs. The packing and blocking around the tile
//! instructions are tested everywhere, with the instructions emulated and the conversion of a tile
//! in plain Rust or, where the processor can, as it is.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::cell::RefCell;

use super::Lanes;
use super::pairs::{self, Order};
use crate::{MatMut, MatRef, Store};

/// Lanes of a tile, and pairs of `k` in it.
const TILE: usize = pairs::SIDE;
/// Pairs in one packed tile: 1 KiB.
const TILE_PAIRS: usize = TILE * TILE;
/// Rows and columns of `C` per kernel call.
const BLOCK: usize = 2 * TILE;
/// Rows of `A` packed at a time, to stay in the second-level cache.
const MC: usize = 256;
/// Columns of `B` packed at a time.
const NC: usize = 1024;
/// Smallest side and smallest number of multiply-adds for which packing to bf16 pays.
const MIN_SIDE: usize = 32;
const MIN_WORK: usize = 1 << 21;

/// Two bf16 values of neighbouring `k`, the first in the low half.
type Pair = u32;

/// Computes a 32 x 32 block of `C` (row stride in elements) from `tiles` tiles per panel; panel 1
/// of either operand follows panel 0.
type BlockKernel =
    unsafe fn(tiles: usize, a: *const Pair, b: *const Pair, c: *mut f32, c_stride: usize);

/// Converts a tile: [`pairs::stored_block`].
type TilePacker = unsafe fn(Lanes, usize, usize, Order) -> [[Pair; TILE]; TILE];

/// Is this product large enough?
pub(super) fn pays(m: usize, n: usize, k: usize) -> bool {
    m.min(n).min(k) >= MIN_SIDE && m.saturating_mul(n).saturating_mul(k) >= MIN_WORK
}

/// Asks the processor for AMX with bf16 and the operating system for the tile state.
#[cfg(target_os = "linux")]
pub(crate) fn request() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
    if __cpuid_count(0, 0).eax < 7 || __cpuid_count(7, 0).edx & BF16_AND_TILE != BF16_AND_TILE {
        return false;
    }
    let refused: isize;
    // SAFETY: the system call only widens what this process may use; it touches no memory, and
    // `rcx` and `r11`, which it destroys, are declared.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    refused == 0
}

/// Other systems do not grant the tile state on request.
#[cfg(not(target_os = "linux"))]
pub(crate) fn request() -> bool {
    false
}

/// `C = A·B` or `C += A·B` in bf16.
///
/// # Safety
/// [`request`] returned true, the processor has AVX512_BF16, and the shapes agree with slices that hold them.
pub(super) unsafe fn multiply(c: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>, store: Store) {
    let configuration = Configuration::all_tiles_full();
    // SAFETY: the tile state was granted; the configuration is 64 readable bytes, which the
    // missing `nomem` keeps in memory; tile registers are used by nothing else in this thread
    // until they are released.
    unsafe {
        asm!("ldtilecfg [{0}]", in(reg) &raw const configuration, options(nostack, readonly));
        blocked(c, a, b, store, tile_kernel, pairs::stored_block);
        asm!("tilerelease", options(nostack, nomem));
    }
}

/// What `ldtilecfg` reads: all eight tiles are 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    fn all_tiles_full() -> Self {
        let mut it = Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_per_row: [0; 16],
            rows: [0; 16],
        };
        it.bytes_per_row[..8].fill(64);
        it.rows[..8].fill(TILE as u8);
        it
    }
}

/// The [`BlockKernel`] of the tile unit.
///
/// # Safety
/// The tile configuration is loaded; `a` and `b` are two packed panels of `tiles > 0` tiles; `c`
/// is writable in 32 rows of 32 elements.
unsafe fn tile_kernel(tiles: usize, a: *const Pair, b: *const Pair, c: *mut f32, c_stride: usize) {
    let panel = tiles * TILE_PAIRS;
    // SAFETY: the loads advance by one tile of 1 KiB per step over the panels granted by the
    // caller; the four stores cover the four quarters of the block.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm6, [{b0} + {line}]",
            "tileloadd tmm4, [{a0} + {line}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {line}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {line}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, 1024",
            "add {a1}, 1024",
            "add {b0}, 1024",
            "add {b1}, 1024",
            "dec {tiles}",
            "jnz 2b",
            "tilestored [{c0} + {stride}], tmm0",
            "tilestored [{c0} + {stride} + 64], tmm1",
            "tilestored [{c1} + {stride}], tmm2",
            "tilestored [{c1} + {stride} + 64], tmm3",
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.add(panel) => _,
            b0 = inout(reg) b => _,
            b1 = inout(reg) b.add(panel) => _,
            tiles = inout(reg) tiles => _,
            line = in(reg) 64usize,
            c0 = in(reg) c,
            c1 = in(reg) c.wrapping_add(TILE * c_stride),
            stride = in(reg) 4 * c_stride,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// The product around a block kernel. Partial and accumulating blocks go through a temporary.
///
/// # Safety
/// `kernel` and `packer` may be called, and the shapes agree with slices that hold them.
unsafe fn blocked(
    c: MatMut<'_>,
    a: MatRef<'_>,
    b: MatRef<'_>,
    store: Store,
    kernel: BlockKernel,
    packer: TilePacker,
) {
    thread_local! {
        static PACKED: RefCell<(Vec<Pair>, Vec<Pair>)> = RefCell::default();
    }
    let tiles = a.cols.div_ceil(2 * TILE);
    PACKED.with_borrow_mut(|(a_packed, b_packed)| {
        for jc in (0..c.cols).step_by(NC) {
            let cols = NC.min(c.cols - jc);
            // SAFETY: the columns are inside `b`, and the packer is granted by the caller.
            unsafe { pack(b_packed, b.t(), jc, cols, Order::PairMajor, packer) };
            for ic in (0..c.rows).step_by(MC) {
                let rows = MC.min(c.rows - ic);
                // SAFETY: as above, of the rows of `a`.
                unsafe { pack(a_packed, a, ic, rows, Order::LaneMajor, packer) };
                for (j, b) in b_packed.chunks_exact(2 * tiles * TILE_PAIRS).enumerate() {
                    for (i, a) in a_packed.chunks_exact(2 * tiles * TILE_PAIRS).enumerate() {
                        let extent = [BLOCK.min(rows - i * BLOCK), BLOCK.min(cols - j * BLOCK)];
                        let at = (ic + i * BLOCK) * c.row_stride + jc + j * BLOCK;
                        let c_block = &mut c.data[at..];
                        if extent == [BLOCK; 2] && store == Store::Overwrite {
                            // SAFETY: both chunks are two packed panels, and a whole block of
                            // `C` starts at `at`.
                            unsafe {
                                let c_ptr = c_block.as_mut_ptr();
                                kernel(tiles, a.as_ptr(), b.as_ptr(), c_ptr, c.row_stride);
                            }
                            continue;
                        }
                        let mut whole = [0f32; BLOCK * BLOCK];
                        // SAFETY: as above, with a temporary that is exactly one block.
                        unsafe { kernel(tiles, a.as_ptr(), b.as_ptr(), whole.as_mut_ptr(), BLOCK) };
                        copy_block(c_block, c.row_stride, &whole, extent, store);
                    }
                }
            }
        }
    });
}

fn copy_block(
    c: &mut [f32],
    c_stride: usize,
    from: &[f32; BLOCK * BLOCK],
    [rows, cols]: [usize; 2],
    store: Store,
) {
    for (i, from) in from.chunks_exact(BLOCK).enumerate().take(rows) {
        let row = &mut c[i * c_stride..][..cols];
        for (c, from) in row.iter_mut().zip(from) {
            *c = if store == Store::Accumulate {
                *c + from
            } else {
                *from
            };
        }
    }
}

/// Packs rows `first..first + lanes` of `x` (lanes by `k`), zero-padded to whole blocks.
///
/// # Safety
/// `packer` may be called, and the rows lie inside `x`, which fits in its slice.
unsafe fn pack(
    packed: &mut Vec<Pair>,
    x: MatRef<'_>,
    first: usize,
    lanes: usize,
    order: Order,
    packer: TilePacker,
) {
    let tiles = x.cols.div_ceil(2 * TILE);
    packed.clear();
    packed.resize(lanes.next_multiple_of(BLOCK) * tiles * TILE, 0);
    for (index, tile) in packed.chunks_exact_mut(TILE_PAIRS).enumerate() {
        let (lane_at, k_at) = (index / tiles * TILE, index % tiles * 2 * TILE);
        if lane_at >= lanes {
            break;
        }
        let (real, depth) = (TILE.min(lanes - lane_at), (x.cols - k_at).min(2 * TILE));
        // SAFETY: `(first + lane_at, k_at)` lies inside `x`, and so do the `real` x `depth`
        // elements from there on.
        let pairs = unsafe {
            let src = Lanes::rows_of(&x).offset(first + lane_at, k_at);
            packer(src, real, depth, order)
        };
        tile.copy_from_slice(pairs.as_flattened());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    /// What the tile instructions do, in scalar code.
    unsafe fn emulated(tiles: usize, a: *const Pair, b: *const Pair, c: *mut f32, c_stride: usize) {
        let value = |pair: Pair, half: usize| f32::from_bits((pair >> (16 * half)) << 16);
        for (i, j) in (0..BLOCK).flat_map(|i| (0..BLOCK).map(move |j| (i, j))) {
            let mut sum = 0.0;
            for (tile, pair) in (0..tiles).flat_map(|t| (0..TILE).map(move |p| (t, p))) {
                let panel = |lane: usize| (lane / TILE * tiles + tile) * TILE_PAIRS;
                // SAFETY: the test passes two whole panels of either operand.
                let (a, b) = unsafe {
                    (
                        *a.add(panel(i) + i % TILE * TILE + pair),
                        *b.add(panel(j) + pair * TILE + j % TILE),
                    )
                };
                sum += value(a, 0) * value(b, 0) + value(a, 1) * value(b, 1);
            }
            // SAFETY: the test passes a whole block of `C`.
            unsafe { *c.add(i * c_stride + j) = sum };
        }
    }

    #[test]
    fn packing_and_blocking_surround_the_tiles_correctly() {
        let small =
            |len: usize| -> Vec<f32> { (0..len).map(|i| (i * 37 % 17) as f32 - 8.0).collect() };
        for [m, k, n] in [[33, 65, 40], [300, 40, 70], [64, 64, 64], [5, 1, 1030]] {
            let (a, b) = (small(m * k), small(k * n));
            for (a, b) in [
                (MatRef::new(&a, m, k), MatRef::new(&b, k, n)),
                (MatRef::new(&a, k, m).t(), MatRef::new(&b, n, k).t()),
            ] {
                for store in [Store::Overwrite, Store::Accumulate] {
                    let mut want = vec![1.0; m * n];
                    reference::gemm(MatMut::new(&mut want, m, n), a, b, store);
                    let vectors = pairs::supported().then_some(pairs::stored_block as TilePacker);
                    for packer in [pairs::plain_block as TilePacker]
                        .into_iter()
                        .chain(vectors)
                    {
                        let mut got = vec![1.0; m * n];
                        let c = MatMut::new(&mut got, m, n);
                        // SAFETY: the emulation needs no tile unit, the packer is the plain one
                        // or was asked for, and the shapes agree.
                        unsafe { blocked(c, a, b, store, emulated, packer) };
                        assert!(got == want, "{m}x{k}x{n} {store:?}");
                    }
                }
            }
        }
    }
}
