//! Products with weights that are packed once and multiplied for ever: `y = x·Wᵀ`, for one row of
//! `x` (decoding) as for hundreds (reading a prompt).
//!
//! A [`Linear`] holds `W` `[n, k]` in panels of [`PANEL`] outputs, the outputs of a panel side by
//! side at every depth, so that each lane of a vector is an output, no sum crosses lanes, and a row
//! of `x` reads a panel as one stream. Inputs are prepared once for each product ([`Scratch`](LinearScratch)): rounded to bf16
//! for bf16 weights, to int8 with a scale for each group for integer weights, as llama.cpp does.
//!
//! Each output is summed along the depth in one order, with one rounding a step (integer products
//! inside a group are exact). So **a row of the result does not depend on how many rows are in the
//! call, nor on the number of threads**, bit for bit: one kernel for a row and blocked kernels for
//! many give the same.

mod input;
mod lines;
mod pack;
mod tile;

use std::fmt;
use std::ops::Range;

use crate::simd::{Simd, on_unit};
use crate::{Pool, Store};

pub use input::LinearScratch;
use input::Prepared;
use lines::Lines;
pub use lines::large_pages;
pub use pack::PACKED_VERSION;
use pack::panel as pack_panel;
use tile::{Bf16Rows, F32Rows, Int4Rows, Int8Rows, Output, product};

/// Outputs of a panel.
pub(crate) const PANEL: usize = 64;

/// Bytes of weights worth handing to a thread: a few microseconds of work.
const CHUNK_BYTES: usize = 32 * 1024;

/// Rows of `x` that a thread takes at once: a multiple of every tile's height.
const CHUNK_ROWS: usize = 96;

/// How the weights of a [`Linear`] are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 32-bit floats.
    F32,
    /// bfloat16, 2 bytes a weight. Inputs are rounded to bf16 as well; sums are f32.
    Bf16,
    /// 8-bit codes of -127 to 127 with an f16 scale for each 32 weights along the depth (llama.cpp's
    /// `Q8_0`): 1.0625 bytes a weight.
    Int8,
    /// 4-bit codes of -8 to 7 with an f16 scale for each 32 weights (`Q4_0`): 0.5625 bytes a weight.
    Int4Group32,
    /// As above with a scale for each 128 weights: 0.516 bytes a weight.
    Int4Group128,
}

impl WeightFormat {
    /// All formats, the most exact first.
    pub const ALL: [Self; 5] = [
        Self::F32,
        Self::Bf16,
        Self::Int8,
        Self::Int4Group32,
        Self::Int4Group128,
    ];

    /// The name that commands and reports use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4Group32 => "int4-g32",
            Self::Int4Group128 => "int4-g128",
        }
    }

    /// Depth of a unit of the packed form.
    pub(crate) fn unit(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 | Self::Int4Group32 => 32,
            Self::Int4Group128 => 128,
        }
    }

    /// Bytes of a unit in a panel.
    pub(crate) fn unit_bytes(self) -> usize {
        const SCALES: usize = 2 * PANEL;
        match self {
            Self::F32 | Self::Bf16 => 4 * PANEL,
            Self::Int8 => 32 * PANEL + SCALES,
            Self::Int4Group32 => 16 * PANEL + SCALES,
            Self::Int4Group128 => 64 * PANEL + SCALES,
        }
    }

    /// Bytes of a panel of a matrix with `k` inputs.
    fn panel_bytes(self, k: usize) -> usize {
        k.div_ceil(self.unit()) * self.unit_bytes()
    }

    /// Bytes of the packed form of a matrix `[n, k]`: whole cache lines.
    #[must_use]
    pub fn packed_bytes(self, n: usize, k: usize) -> usize {
        n.div_ceil(PANEL) * self.panel_bytes(k)
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A packed weight matrix `[n, k]`.
#[derive(Clone)]
pub struct Linear {
    format: WeightFormat,
    n: usize,
    k: usize,
    bytes: Lines,
}

/// The rows of `x`, prepared, for one product.
#[derive(Clone, Copy)]
enum Rows {
    F32(F32Rows),
    Bf16(Bf16Rows),
    Int8(Int8Rows),
    Int4Group32(Int4Rows<4>),
    Int4Group128(Int4Rows<16>),
}

/// One product, cut into chunks of panels and rows.
struct Job {
    rows: Rows,
    panels: *const u8,
    panel_bytes: usize,
    /// Panels to multiply with: the first so many, or those named.
    n_panels: usize,
    named: *const u32,
    panels_per_chunk: usize,
    output: Output,
}

// SAFETY: the pointers are to weights, names and inputs that nobody writes while the job lives, and to
// outputs of which every chunk writes its own.
unsafe impl Sync for Job {}

impl Linear {
    /// Packs the matrix whose row `i` of `k` weights `row(i, out)` writes. Rows are asked for once
    /// each, rising, on this thread; `pool` shares the packing.
    ///
    /// # Panics
    /// When `n` or `k` is 0.
    #[must_use]
    pub fn pack(
        format: WeightFormat,
        n: usize,
        k: usize,
        pool: &Pool,
        mut row: impl FnMut(usize, &mut [f32]),
    ) -> Self {
        let mut packed = Self::zeros(format, n, k);
        let panel_bytes = packed.panel_bytes();
        let depth = k.next_multiple_of(format.unit());
        let at_once = pool.threads().min(n.div_ceil(PANEL));
        let mut rows = vec![0f32; at_once * PANEL * depth];
        let batches = packed.bytes.chunks_mut(at_once * panel_bytes);
        for (first, panels) in (0..n).step_by(at_once * PANEL).zip(batches) {
            for (index, out) in (first..).zip(rows.chunks_exact_mut(depth)) {
                if index < n {
                    row(index, &mut out[..k]);
                } else {
                    out.fill(0.0);
                }
            }
            pool.for_each_chunk(panels, panel_bytes, |index, panel| {
                let rows = &rows[index * PANEL * depth..][..PANEL * depth];
                // SAFETY: the kernel asks for nothing but the unit, which the processor has.
                unsafe {
                    on_unit!(pack_panel(
                        format: WeightFormat = format,
                        panel: &mut [u8] = panel,
                        rows: &[f32] = rows,
                        depth: usize = depth,
                    ));
                }
            });
        }
        packed
    }

    /// A matrix that was packed before: `fill` writes what [`Linear::bytes`] gave, in this
    /// [`PACKED_VERSION`]. They begin as zeros. Other bytes make other weights and are no danger.
    ///
    /// The bytes are copied into memory of their own. A mapped file would save that, but its pages
    /// are small ones, with which decoding is slower for as long as it runs.
    ///
    /// # Errors
    /// Those of `fill`.
    ///
    /// # Panics
    /// When `n` or `k` is 0.
    pub fn from_packed<E>(
        format: WeightFormat,
        n: usize,
        k: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut packed = Self::zeros(format, n, k);
        fill(&mut packed.bytes)?;
        Ok(packed)
    }

    fn zeros(format: WeightFormat, n: usize, k: usize) -> Self {
        assert!(
            n > 0 && k > 0,
            "a weight matrix of {n} x {k} has no weights"
        );
        Self {
            format,
            n,
            k,
            bytes: Lines::zeros(format.packed_bytes(n, k)),
        }
    }

    /// Outputs: rows of the matrix.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs: columns of the matrix.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// How the weights are held.
    #[must_use]
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Bytes of the packed form: what one product has to read.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The packed form, for [`Linear::from_packed`]: the same on every processor.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Row `index` of the matrix as the product sees it.
    ///
    /// # Panics
    /// When there is no such row, or `out` is not `k` long.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.n, "row {index} of a matrix of {} rows", self.n);
        assert_eq!(out.len(), self.k, "a row has {} weights", self.k);
        let panel = &self.bytes[index / PANEL * self.panel_bytes()..][..self.panel_bytes()];
        pack::unpack_row(self.format, panel, index % PANEL, out);
    }

    /// `y [m, n] (+)= x [m, k] · Wᵀ`. The product is done when this returns.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn apply(
        &self,
        y: &mut [f32],
        x: &[f32],
        store: Store,
        pool: &Pool,
        scratch: &mut LinearScratch,
    ) {
        self.multiply(y, x, store, None, pool, scratch);
    }

    /// As [`Linear::apply`], of the outputs that `wanted` holds true of alone, and of some neighbours of
    /// theirs: it is asked of stretches of outputs that lie together. The rest of `y` stays as it is.
    ///
    /// # Panics
    /// As [`Linear::apply`].
    pub fn apply_where(
        &self,
        y: &mut [f32],
        x: &[f32],
        wanted: impl Fn(Range<usize>) -> bool,
        pool: &Pool,
        scratch: &mut LinearScratch,
    ) {
        let outputs = |panel: u32| panel as usize * PANEL..self.n.min((panel as usize + 1) * PANEL);
        let panels = 0..self.n.div_ceil(PANEL) as u32;
        let named: Vec<u32> = panels.filter(|&panel| wanted(outputs(panel))).collect();
        self.multiply(y, x, Store::Overwrite, Some(&named), pool, scratch);
    }

    /// The product with the `named` panels, or with all.
    fn multiply(
        &self,
        y: &mut [f32],
        x: &[f32],
        store: Store,
        named: Option<&[u32]>,
        pool: &Pool,
        scratch: &mut LinearScratch,
    ) {
        let m = x.len() / self.k;
        assert!(
            x.len() == m * self.k && y.len() == m * self.n,
            "the shapes of a product disagree: {} inputs and {} outputs for a matrix {} x {}",
            x.len(),
            y.len(),
            self.n,
            self.k
        );
        let n_panels = named.map_or(self.n.div_ceil(PANEL), <[u32]>::len);
        if m == 0 || n_panels == 0 {
            return;
        }
        let prepared = scratch.prepare(self.format, x, m, self.k, pool);
        let panels_per_chunk = if m < CHUNK_ROWS {
            (CHUNK_BYTES / self.panel_bytes() / m).clamp(1, n_panels)
        } else {
            1
        };
        let job = Job {
            rows: rows(self.format, prepared),
            panels: self.bytes.as_ptr(),
            panel_bytes: self.panel_bytes(),
            n_panels,
            named: named.map_or(std::ptr::null(), <[u32]>::as_ptr),
            panels_per_chunk,
            output: Output {
                y: y.as_mut_ptr(),
                n: self.n,
                m,
                add: store == Store::Accumulate,
            },
        };
        let chunks = n_panels.div_ceil(panels_per_chunk) * m.div_ceil(CHUNK_ROWS);
        // SAFETY: the shapes were checked above, the input was prepared for this format, and
        // every chunk has outputs of its own.
        pool.run(chunks, &|index| unsafe {
            on_unit!(chunk(job: &Job = &job, index: usize = index));
        });
    }

    fn panel_bytes(&self) -> usize {
        self.format.panel_bytes(self.k)
    }
}

impl fmt::Debug for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linear({} x {}, {})", self.n, self.k, self.format)
    }
}

/// The rows for tiles of a format.
fn rows(format: WeightFormat, x: Prepared) -> Rows {
    match format {
        WeightFormat::F32 => Rows::F32(F32Rows::new(x)),
        WeightFormat::Bf16 => Rows::Bf16(Bf16Rows::new(x)),
        WeightFormat::Int8 => Rows::Int8(Int8Rows::new(x)),
        WeightFormat::Int4Group32 => Rows::Int4Group32(Int4Rows::new(x)),
        WeightFormat::Int4Group128 => Rows::Int4Group128(Int4Rows::new(x)),
    }
}

/// Does one chunk of a product.
///
/// # Safety
/// The processor has the unit; the pointers of `job` are good for its shapes; `index` is one of its
/// chunks, and nobody else works on it.
#[inline(always)]
unsafe fn chunk<S: Simd>(job: &Job, index: usize) {
    let column_chunks = job.n_panels.div_ceil(job.panels_per_chunk);
    let first_panel = index % column_chunks * job.panels_per_chunk;
    let end_panel = (first_panel + job.panels_per_chunk).min(job.n_panels);
    let first_row = index / column_chunks * CHUNK_ROWS;
    let end_row = (first_row + CHUNK_ROWS).min(job.output.m);
    for index in first_panel..end_panel {
        let panel = match job.named.is_null() {
            true => index,
            // SAFETY: there are `n_panels` names, if any.
            false => unsafe { *job.named.add(index) as usize },
        };
        let column = panel * PANEL;
        let at = job.panels.wrapping_add(panel * job.panel_bytes);
        let (rows, output) = (first_row..end_row, &job.output);
        // SAFETY: passed on from the caller. The tiles fit the registers: 32 of 512 bits with
        // AVX-512, 32 of 128 bits with NEON, 16 of 256 bits else.
        unsafe {
            match (job.rows, S::LANES) {
                (Rows::F32(x), 16) => product::<S, _, 6, 4, 4>(x, rows, at, column, output),
                (Rows::Bf16(x), 16) => product::<S, _, 6, 4, 4>(x, rows, at, column, output),
                (Rows::Int8(x), 16) => product::<S, _, 6, 2, 4>(x, rows, at, column, output),
                (Rows::Int4Group32(x), 16) => product::<S, _, 6, 2, 4>(x, rows, at, column, output),
                (Rows::Int4Group128(x), 16) => {
                    product::<S, _, 6, 2, 4>(x, rows, at, column, output)
                }
                (Rows::F32(x), 4) => product::<S, _, 6, 4, 8>(x, rows, at, column, output),
                (Rows::Bf16(x), 4) => product::<S, _, 4, 4, 8>(x, rows, at, column, output),
                (Rows::Int8(x), 4) => product::<S, _, 2, 4, 8>(x, rows, at, column, output),
                (Rows::Int4Group32(x), 4) => product::<S, _, 2, 4, 8>(x, rows, at, column, output),
                (Rows::Int4Group128(x), 4) => product::<S, _, 2, 4, 8>(x, rows, at, column, output),
                (Rows::F32(x), _) => product::<S, _, 6, 2, 8>(x, rows, at, column, output),
                (Rows::Bf16(x), _) => product::<S, _, 4, 2, 4>(x, rows, at, column, output),
                (Rows::Int8(x), _) => product::<S, _, 2, 2, 2>(x, rows, at, column, output),
                (Rows::Int4Group32(x), _) => product::<S, _, 2, 2, 2>(x, rows, at, column, output),
                (Rows::Int4Group128(x), _) => product::<S, _, 2, 2, 2>(x, rows, at, column, output),
            }
        }
    }
}
