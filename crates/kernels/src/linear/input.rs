//! The inputs of a product, in the form that the weights ask for.

use crate::simd::{Simd, on_unit, to_bf16};
use crate::{Pool, WeightFormat};

/// Memory for the inputs of products. Keep one per thread that calls them and pass it to every
/// call: it grows to the largest size asked of it. What it holds between calls means nothing.
#[derive(Clone, Debug, Default)]
pub struct LinearScratch {
    bf16: Vec<u16>,
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

/// Rows of inputs; which pointers are good depends on the format they were prepared for.
#[derive(Clone, Copy)]
pub(super) struct Prepared {
    /// The rows as they came, `[m, depth]` (f32 weights).
    pub(super) x: *const f32,
    /// `[m, depth]` (bf16 weights).
    pub(super) bf16: *const u16,
    /// `[m, depth]`, `[m, groups]` and `[m, groups]` (integer weights).
    pub(super) codes: *const i8,
    pub(super) scales: *const f32,
    pub(super) sums: *const i32,
    /// Inputs of a row, padded with zeros to whole units of the format.
    pub(super) depth: usize,
}

/// Rows rounded by one thread at a time.
const ROWS: usize = 8;

/// Where prepared rows are written.
struct Job<'a> {
    x: &'a [f32],
    k: usize,
    group: usize,
    depth: usize,
    bf16: *mut u16,
    codes: *mut i8,
    scales: *mut f32,
    sums: *mut i32,
}

// SAFETY: every chunk of rows writes its own part of the outputs.
unsafe impl Sync for Job<'_> {}

impl LinearScratch {
    /// Prepares `m` rows of `k` inputs.
    pub(super) fn prepare(
        &mut self,
        format: WeightFormat,
        x: &[f32],
        m: usize,
        k: usize,
        pool: &Pool,
    ) -> Prepared {
        let group = format.unit();
        let depth = k.next_multiple_of(group);
        match format {
            WeightFormat::F32 => {}
            WeightFormat::Bf16 => self.bf16.resize((m * depth).max(self.bf16.len()), 0),
            _ => {
                self.codes.resize((m * depth).max(self.codes.len()), 0);
                let groups = m * depth / group;
                self.scales.resize(groups.max(self.scales.len()), 0.0);
                self.sums.resize(groups.max(self.sums.len()), 0);
            }
        }
        let job = Job {
            x,
            k,
            group,
            depth,
            bf16: self.bf16.as_mut_ptr(),
            codes: self.codes.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
        };
        let rows = |chunk: usize| chunk * ROWS..((chunk + 1) * ROWS).min(m);
        let chunks = m.div_ceil(ROWS);
        match format {
            WeightFormat::F32 => {}
            WeightFormat::Bf16 => pool.run(chunks, &|chunk| {
                for row in rows(chunk) {
                    // SAFETY: the buffer was made large enough above, and each chunk has rows of
                    // its own.
                    unsafe { on_unit!(round(job: &Job<'_> = &job, row: usize = row)) }
                }
            }),
            _ => pool.run(chunks, &|chunk| {
                for row in rows(chunk) {
                    // SAFETY: as above, for three buffers.
                    unsafe { on_unit!(quantize(job: &Job<'_> = &job, row: usize = row)) }
                }
            }),
        }
        Prepared {
            x: x.as_ptr(),
            bf16: self.bf16.as_ptr(),
            codes: self.codes.as_ptr(),
            scales: self.scales.as_ptr(),
            sums: self.sums.as_ptr(),
            depth,
        }
    }
}

/// Rounds a row to bf16.
///
/// # Safety
/// The processor has the unit; `job.bf16` has room for the row.
#[inline(always)]
unsafe fn round<S: Simd>(job: &Job<'_>, row: usize) {
    let x = &job.x[row * job.k..][..job.k];
    let whole = x.len() / S::LANES * S::LANES;
    // SAFETY: the row of `depth >= k` elements is writable.
    unsafe {
        let to = job.bf16.add(row * job.depth);
        for at in (0..whole).step_by(S::LANES) {
            S::store_bf16(to.add(at), S::load(x.as_ptr().add(at)));
        }
        for at in whole..job.depth {
            *to.add(at) = x.get(at).map_or(0, |&x| to_bf16(x));
        }
    }
}

/// The last inputs of a row, with zeros behind them.
#[cold]
fn padded_group(x: &[f32]) -> [f32; 128] {
    let mut padded = [0f32; 128];
    padded[..x.len()].copy_from_slice(x);
    padded
}

/// Rounds a row to codes of -127 to 127: in each group, `scale = max|x| / 127`.
///
/// # Safety
/// The processor has the unit; the outputs of `job` have room for the row.
#[inline(always)]
unsafe fn quantize<S: Simd>(job: &Job<'_>, row: usize) {
    let x = &job.x[row * job.k..][..job.k];
    let groups = job.depth / job.group;
    for group in 0..groups {
        let begin = group * job.group;
        let here = &x[begin..x.len().min(begin + job.group)];
        // Filled only where a row ends inside a group: there is no time for that in every group.
        let padded;
        let from = if here.len() == job.group {
            here.as_ptr()
        } else {
            padded = padded_group(here);
            padded.as_ptr()
        };
        // SAFETY: `from` is followed by a whole group, which is a multiple of any number of lanes,
        // and the outputs have room for it.
        unsafe {
            let mut largest = S::splat(0.0);
            for at in (0..job.group).step_by(S::LANES) {
                let x = S::load(from.add(at));
                largest = S::max(largest, S::max(x, S::sub(S::splat(0.0), x)));
            }
            let scale = S::largest(largest) / 127.0;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let to = job.codes.add(row * job.depth + begin);
            let mut sum = S::splat(0.0);
            for at in (0..job.group).step_by(S::LANES) {
                let code = S::round(S::mul(S::load(from.add(at)), S::splat(inverse)));
                S::store_i8(to.add(at), code);
                sum = S::add(sum, code);
            }
            *job.scales.add(row * groups + group) = scale;
            // Whole numbers below 2^24: exact in any order.
            *job.sums.add(row * groups + group) = S::sum(sum) as i32;
        }
    }
}
