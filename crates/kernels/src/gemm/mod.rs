//! Matrix products of f32 matrices: cache blocking and packing around a micro-kernel.
//!
//! The scheme is Goto's. `B` is packed into panels of `NR` columns and `A` into panels of `MR`
//! rows, so that the micro-kernel streams both with unit stride; blocks of depth `KC` keep one
//! panel of `B` in the first-level cache (in bf16 the second), and blocks of `MC` rows keep the
//! packed `A` in the second. Packing is also what makes all four transpose combinations cost the
//! same.
//!
//! Where the caller allows [`Precision::Bf16`], products that are large enough for the packing to
//! pay run in it from [`Level::Avx512Bf16`] up: inputs are rounded to 8 bits of mantissa while
//! they are packed, products are summed in f32. NaN and infinities come through; what is smaller
//! than 2^-126 counts as zero.
//!
//! Element `(i, j)` is always summed in the order of `k`, in blocks of the kernel's `KC`, whatever
//! the shape of the call and whether an operand was packed; so, among products of one precision,
//! its bits depend on row `i` of `A` and column `j` of `B` alone. Which of the allowed precisions a
//! product runs in follows from its shape (`bf16::pays`, `amx::pays`) or, packed in advance, from
//! the operand.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod portable;

use std::cell::RefCell;

pub(crate) use pack::{Panels, pack_panels, packed_len};

use crate::buffer::Buffer;
use crate::{Level, MatMut, MatRef, Precision, Store, checks, cpu};

/// Depth of a block in f32: a panel of `B` takes `KC * NR * 4` bytes, 16 KiB of a 32 KiB L1 at `NR` 16.
pub(crate) const KC: usize = 256;
/// Rows of a block of `A`: `MC * KC * 4` bytes, a quarter of a 512 KiB L2. A multiple of every `MR`.
const MC: usize = 120;
/// Columns of a block of `B`: `KC * NC * 4` bytes, 2 MiB of the shared L3. A multiple of every `NR`.
const NC: usize = 2048;
/// `A` is packed only when at least this many panels of `B` reuse it.
const PACK_A_MIN_PANELS: usize = 6;
/// A block of `B` of at most this many elements stays in L1 whole, so rows become the outer loop.
const SMALL_B: usize = 4096;

/// A register-blocked inner product, the only part that differs between processors.
pub(crate) trait Kernel {
    /// Rows of a tile and of a packed panel of `A`.
    const MR: usize;
    /// Columns of a tile and of a packed panel of `B`.
    const NR: usize;
    /// Neighbouring `k` in one slot, the 4 bytes that a packed operand consists of: 1 in f32, 2
    /// in bf16. Slots that hold pairs are f32 in name only.
    const PER_SLOT: usize = 1;
    /// Depth of a block, a multiple of `PER_SLOT`.
    const KC: usize = KC;
    /// Rows of a block of `A`, a multiple of `MR`.
    const MC: usize = MC;
    /// `A` is packed only when at least this many panels of `B` reuse it; 0 if it must be.
    const PACK_A_MIN_PANELS: usize = PACK_A_MIN_PANELS;

    /// `C[..rows, ..cols] (+)= A[..rows] · B[.., ..cols]` over all slots, `rows <= MR`,
    /// `cols <= NR`.
    ///
    /// # Safety
    /// The processor has the kernel's features; `a` is readable at the offsets its strides name
    /// for `rows` x `slots`; `b` is a packed panel of `slots * NR`; `c` is writable (and
    /// readable, to accumulate) in `rows` rows of `cols` elements, `c_stride` apart.
    unsafe fn tile(
        extent: Extent,
        a: Lanes,
        b: *const f32,
        c: *mut f32,
        c_stride: usize,
        store: Store,
    );

    /// Packs a block of `A` and says where its slots are; a panel of `MR` rows takes `MR` times
    /// its slots.
    ///
    /// # Safety
    /// The processor has the kernel's features, and `src` is readable at the offsets its strides
    /// name for `rows` x `depth`.
    unsafe fn pack_a(dst: &mut [f32], src: Lanes, rows: usize, depth: usize) -> Lanes;

    /// Packs a block of `B` in panels: `panel[slot * NR + lane]` holds `PER_SLOT` elements of a
    /// lane, zeros for lanes past `cols` and elements past `depth`.
    ///
    /// # Safety
    /// As [`Kernel::pack_a`], for `cols` x `depth`.
    unsafe fn pack_b(dst: &mut [f32], src: Lanes, cols: usize, depth: usize);
}

/// How much of a tile is real.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) slots: usize,
}

/// One operand seen along `k`: element (or slot) `(lane, p)` is `ptr[lane * lane_stride + p * depth_stride]`;
/// lanes are rows of `A` or columns of `B`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes {
    pub(crate) ptr: *const f32,
    pub(crate) lane_stride: usize,
    pub(crate) depth_stride: usize,
}

impl Lanes {
    fn rows_of(a: &MatRef<'_>) -> Self {
        Self {
            ptr: a.data.as_ptr(),
            lane_stride: a.row_stride,
            depth_stride: a.col_stride,
        }
    }

    fn cols_of(b: &MatRef<'_>) -> Self {
        Self {
            ptr: b.data.as_ptr(),
            lane_stride: b.col_stride,
            depth_stride: b.row_stride,
        }
    }

    /// The operand from `(lane, p)` on.
    ///
    /// # Safety
    /// `(lane, p)` lies inside the operand.
    unsafe fn offset(self, lane: usize, p: usize) -> Self {
        // SAFETY: passed on to the caller.
        let ptr = unsafe {
            self.ptr
                .add(lane * self.lane_stride + p * self.depth_stride)
        };
        Self { ptr, ..self }
    }
}

/// Where the right-hand operand comes from.
#[derive(Clone, Copy)]
enum Right<'a> {
    Strided(MatRef<'a>),
    Packed(Panels<'a>),
}

/// `C = A·B` or `C += A·B`, for any shapes and strides; `k = 0` gives a zero product.
///
/// # Panics
/// If the shapes disagree.
pub fn gemm(c: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>, store: Store, precision: Precision) {
    checks::gemm(&c, &a, &b);
    dispatch(c, a, Right::Strided(b), store, precision);
}

/// As [`gemm`], on an operand packed in advance, in the precision that has.
pub(crate) fn gemm_panels(c: MatMut<'_>, a: MatRef<'_>, b: Panels<'_>, store: Store) {
    checks::gemm_packed(&c, &a, b.rows(), b.cols());
    dispatch(c, a, Right::Packed(b), store, b.precision());
}

/// Columns per panel of the kernels in use, the same in either precision.
pub(crate) fn nr() -> usize {
    match cpu().level {
        Level::Portable | Level::Neon => portable::Portable::NR,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::Avx2::NR,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Bf16 | Level::Amx => avx512::Avx512::NR,
        #[cfg(not(target_arch = "x86_64"))]
        _ => portable::Portable::NR,
    }
}

fn dispatch(c: MatMut<'_>, a: MatRef<'_>, b: Right<'_>, store: Store, precision: Precision) {
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "no path rounds")
    )]
    let rounds = precision == Precision::Bf16;
    match (cpu().level, b) {
        (Level::Portable | Level::Neon, b) => multiply::<portable::Portable>(c, a, b, store),
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, b) => multiply::<avx2::Avx2>(c, a, b, store),
        #[cfg(target_arch = "x86_64")]
        (Level::Amx, Right::Strided(b)) if rounds && amx::pays(c.rows, c.cols, a.cols) => {
            // SAFETY: this level is only chosen once the tile state was granted, and the public
            // functions checked the shapes.
            unsafe { amx::multiply(c, a, b, store) }
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512Bf16 | Level::Amx, b) if rounds && pays_in_bf16(&c, &a, b) => {
            multiply::<bf16::Bf16>(c, a, b, store);
        }
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512 | Level::Avx512Bf16 | Level::Amx, b) => {
            multiply::<avx512::Avx512>(c, a, b, store);
        }
        #[cfg(not(target_arch = "x86_64"))]
        (_, b) => multiply::<portable::Portable>(c, a, b, store),
    }
}

/// Whether this processor has what the bf16 kernels and their packing need.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_bf16() -> bool {
    pairs::supported()
}

/// Whether a product that may run in bf16 gains by it. What was packed for it has no choice.
#[cfg(target_arch = "x86_64")]
fn pays_in_bf16(c: &MatMut<'_>, a: &MatRef<'_>, b: Right<'_>) -> bool {
    match b {
        Right::Strided(_) => bf16::pays(c.rows, c.cols, a.cols),
        Right::Packed(_) => true,
    }
}

/// Compares the path of `level`, which the processor must have, with the reference on an
/// odd-shaped problem in small integers, which every path must get exactly right.
#[cfg(target_arch = "x86_64")]
pub(crate) fn self_check(level: Level) -> Result<(), String> {
    let (m, k, n) = (43, 2 * KC + 5, 71);
    let values = |len: usize| {
        (0..len)
            .map(|i| (i * 37 % 17) as f32 - 8.0)
            .collect::<Vec<_>>()
    };
    let (a, b) = (values(m * k), values(k * n));
    let layouts = [
        (MatRef::new(&a, m, k), MatRef::new(&b, n, k).t()),
        (MatRef::new(&a, k, m).t(), MatRef::new(&b, k, n)),
    ];
    for ((a, b), store) in layouts
        .into_iter()
        .zip([Store::Overwrite, Store::Accumulate])
    {
        let (mut got, mut want) = (vec![1.0; m * n], vec![1.0; m * n]);
        let c = MatMut::new(&mut got, m, n);
        match level {
            Level::Portable | Level::Neon => {
                multiply::<portable::Portable>(c, a, Right::Strided(b), store)
            }
            Level::Avx2 => multiply::<avx2::Avx2>(c, a, Right::Strided(b), store),
            Level::Avx512 => multiply::<avx512::Avx512>(c, a, Right::Strided(b), store),
            Level::Avx512Bf16 => multiply::<bf16::Bf16>(c, a, Right::Strided(b), store),
            // SAFETY: the caller asks for this level only once the tile state was granted.
            Level::Amx => unsafe { amx::multiply(c, a, b, store) },
        }
        crate::reference::gemm(MatMut::new(&mut want, m, n), a, b, store);
        if let Some(at) = (0..m * n).find(|&at| got[at] != want[at]) {
            return Err(format!(
                "the {level} matrix product failed its start-up check at element {at} ({store:?}: \
                 got {}, want {})",
                got[at], want[at]
            ));
        }
    }
    Ok(())
}

/// The blocked product. `K` must be a kernel this processor supports, and the shapes must agree.
fn multiply<K: Kernel>(mut c: MatMut<'_>, a: MatRef<'_>, b: Right<'_>, store: Store) {
    thread_local! {
        static PACKED: RefCell<(Buffer, Buffer)> = RefCell::default();
    }
    let (m, n, k) = (c.rows, c.cols, a.cols);
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if store == Store::Overwrite {
            c.data
                .chunks_mut(c.row_stride)
                .take(m)
                .for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    PACKED.with_borrow_mut(|(a_buffer, b_buffer)| {
        for jc in (0..n).step_by(NC) {
            let cols = NC.min(n - jc);
            for pc in (0..k).step_by(K::KC) {
                let depth = K::KC.min(k - pc);
                let block = Block {
                    jc,
                    cols,
                    pc,
                    depth,
                };
                let panels = block_of_b::<K>(b, block, b_buffer);
                let store = if pc == 0 { store } else { Store::Accumulate };
                multiply_block::<K>(&mut c, &a, block, panels, a_buffer, store);
            }
        }
    });
}

/// A block of `B`: columns `jc..jc + cols`, depth `pc..pc + depth`.
#[derive(Clone, Copy)]
struct Block {
    jc: usize,
    cols: usize,
    pc: usize,
    depth: usize,
}

/// The packed form of a block of `B`, packing it now unless that was done in advance.
fn block_of_b<'a, K: Kernel>(b: Right<'a>, block: Block, buffer: &'a mut Buffer) -> Panels<'a> {
    let Block {
        jc,
        cols,
        pc,
        depth,
    } = block;
    match b {
        Right::Packed(panels) => panels.cols_range(jc, cols).rows_range(pc, depth),
        Right::Strided(b) => {
            let packed = buffer.get(pack::packed_len_for::<K>(cols, depth, K::NR));
            // SAFETY: the block lies inside `b`, whose bounds were checked by the caller.
            unsafe {
                let lanes = Lanes::cols_of(&b).offset(jc, pc);
                K::pack_b(packed, lanes, cols, depth);
            }
            Panels::for_kernel::<K>(packed, depth, cols)
        }
    }
}

/// Multiplies all rows of `A` with one packed block of `B`.
fn multiply_block<K: Kernel>(
    c: &mut MatMut<'_>,
    a: &MatRef<'_>,
    block: Block,
    b: Panels<'_>,
    a_buffer: &mut Buffer,
    store: Store,
) {
    let panels = block.cols.div_ceil(K::NR);
    let c_ptr = c.data.as_mut_ptr();
    let slots = block.depth.div_ceil(K::PER_SLOT);
    for ic in (0..c.rows).step_by(K::MC) {
        let rows = K::MC.min(c.rows - ic);
        // SAFETY: `(ic, pc)` lies inside `a`.
        let mut lanes = unsafe { Lanes::rows_of(a).offset(ic, block.pc) };
        let mut panel_step = K::MR * lanes.lane_stride;
        if panels >= K::PACK_A_MIN_PANELS {
            let packed = a_buffer.get(pack::packed_len_for::<K>(rows, block.depth, K::MR));
            // SAFETY: the block lies inside `a`, whose bounds were checked by the caller.
            lanes = unsafe { K::pack_a(packed, lanes, rows, block.depth) };
            panel_step = K::MR * slots;
        }
        let tile = |ir: usize, jr: usize| {
            let (row, col) = (ir * K::MR, jr * K::NR);
            let extent = Extent {
                rows: K::MR.min(rows - row),
                cols: K::NR.min(block.cols - col),
                slots,
            };
            // SAFETY: tile `(ir, jr)` covers rows `ic + row ..` of `a` and `c` and columns
            // `jc + col ..` of `c`, cut to their shapes, which the caller checked; `panel` gives
            // a whole packed panel; and `K` is supported by the contract of `multiply`.
            unsafe {
                let a = Lanes {
                    ptr: lanes.ptr.add(ir * panel_step),
                    ..lanes
                };
                let c_tile = c_ptr.add((ic + row) * c.row_stride + block.jc + col);
                K::tile(extent, a, b.panel(jr), c_tile, c.row_stride, store);
            }
        };
        let row_panels = rows.div_ceil(K::MR);
        if panels * K::NR * slots <= SMALL_B {
            (0..row_panels).for_each(|ir| (0..panels).for_each(|jr| tile(ir, jr)));
        } else {
            (0..panels).for_each(|jr| (0..row_panels).for_each(|ir| tile(ir, jr)));
        }
    }
}
