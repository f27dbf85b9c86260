//! Muon updates: momentum, a Newton-Schulz iteration in bf16 products, and the step.
//!
//! The rule is that of `cwm-train`'s CPU optimiser: operands of products are rounded to bf16, everything
//! else stays f32. The norm of the update stays on the device.

use std::ops::Range;

use half::bf16;

use super::adamw::Ema;
use super::convert::to_bf16;
use super::launch::{NUMBERS, count, numbers, pointer, pointer_at, run, same_device, threads};
use super::reduce::{SUM_PARTIAL_LEN, sum_of_squares};
use crate::device::{Address, Argument, Buffer, Gpu, Number, Operand, Product};
use crate::error::Error;
use crate::kernel::Source;

/// `muon.cu`.
pub(crate) static MUON: Source = Source {
    name: "muon.cu",
    text: include_str!("../kernels/muon.cu"),
    kernels: &[
        "muon_momentum",
        "muon_normalize",
        "muon_polynomial",
        "muon_update",
    ],
    macros: &[NUMBERS],
};

// The same as on the CPU.
const MOMENTUM: f32 = 0.95;
const ITERATIONS: usize = 5;
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// A matrix, and where what is remembered of it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MuonPart {
    /// The matrix `[rows, cols]`, its gradients and its bf16 copy.
    pub params: Range<usize>,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Running mean of gradients.
    pub momentum: usize,
    /// Running mean of the parameters, where it is kept.
    pub ema: usize,
}

/// Settings of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonSettings {
    /// Learning rate.
    pub lr: f32,
    /// Parameters shrink by `lr * weight_decay`.
    pub weight_decay: f32,
    /// Applied to the gradient first (clipping).
    pub grad_scale: f32,
}

/// Memory that updates of matrices share, one after another.
#[derive(Debug)]
pub struct MuonScratch {
    update: Buffer<f32>,
    x: Buffer<bf16>,
    next: Buffer<bf16>,
    gram: Buffer<f32>,
    square: Buffer<f32>,
    gram_operand: Buffer<bf16>,
    polynomial: Buffer<bf16>,
    norm: Buffer<f64>,
    partial: Buffer<f64>,
}

impl MuonScratch {
    /// For matrices of these rows and columns.
    ///
    /// # Errors
    /// As [`Device::allocate`](crate::Device::allocate).
    pub fn new(gpu: &Gpu, shapes: impl Iterator<Item = (usize, usize)>) -> Result<Self, Error> {
        let (mut len, mut gram_len) = (0, 0);
        for (rows, cols) in shapes {
            len = len.max(rows * cols);
            gram_len = gram_len.max(rows.min(cols).pow(2));
        }
        Ok(Self {
            update: gpu.zeros(len)?,
            x: gpu.zeros(len)?,
            next: gpu.zeros(len)?,
            gram: gpu.zeros(gram_len)?,
            square: gpu.zeros(gram_len)?,
            gram_operand: gpu.zeros(gram_len)?,
            polynomial: gpu.zeros(gram_len)?,
            norm: gpu.zeros(1)?,
            partial: gpu.zeros(SUM_PARTIAL_LEN)?,
        })
    }
}

/// One Muon update of a matrix of `params` and its `momentum`. `copy` receives the matrix in bf16, at the
/// same offset; a running mean is moved towards it.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch) and [`Device::multiply`](crate::Device::multiply).
///
/// # Panics
/// If lengths disagree, or the scratch is for smaller matrices.
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of the operation; a struct would only rename them"
)]
pub fn muon(
    params: &mut Buffer<f32>,
    momentum: &mut Buffer<f32>,
    grads: &Buffer<f32>,
    copy: &mut Buffer<bf16>,
    ema: Option<Ema<'_>>,
    part: &MuonPart,
    settings: &MuonSettings,
    scratch: &mut MuonScratch,
) -> Result<(), Error> {
    let &MuonPart { rows, cols, .. } = part;
    let (start, len) = (part.params.start, part.params.len());
    let gram_len = rows.min(cols).pow(2);
    assert!(
        len > 0
            && len == rows * cols
            && part.params.end <= params.len()
            && part.params.end <= grads.len()
            && part.params.end <= copy.len()
            && part.momentum + len <= momentum.len()
            && len <= scratch.update.len()
            && gram_len <= scratch.gram.len(),
        "muon shapes disagree: {part:?} of {} parameters, {} gradients, {} copies and {} momenta; scratch \
         for {} numbers and a Gram matrix of {}",
        params.len(),
        grads.len(),
        copy.len(),
        momentum.len(),
        scratch.update.len(),
        scratch.gram.len()
    );
    let mut devices = vec![params.gpu(), momentum.gpu(), grads.gpu(), copy.gpu()];
    devices.push(scratch.update.gpu());
    devices.extend(ema.as_ref().map(|ema| ema.values.gpu()));
    same_device("muon", &devices);

    let ema_start = if ema.is_some() { part.ema } else { 0 };
    let numbers = numbers(&[start, part.momentum, ema_start, rows, cols]);
    let pass = Pass {
        gpu: params.gpu(),
        numbers,
        rows,
        cols,
    };
    let arguments = [
        pointer(&scratch.update),
        pointer_at(momentum, part.momentum),
        pointer_at(grads, start),
        pass.items(len),
        Argument::F32(settings.grad_scale),
        Argument::F32(MOMENTUM),
    ];
    // SAFETY: the arguments are the declaration's; all three have `len` numbers, as was checked.
    unsafe { pass.run("muon_momentum", len, &arguments)? };

    pass.orthogonalize(scratch)?;

    // Tall matrices get a larger step, so that the update's effect on the output does not depend on the
    // shape.
    let rate = settings.lr * (rows as f32 / cols as f32).max(1.0).sqrt();
    let keep = 1.0 - settings.lr * settings.weight_decay;
    let [mean, ema_rate] = Ema::arguments(ema.as_ref(), ema_start, len);
    let arguments = [
        pointer_at(params, start),
        pointer_at(copy, start),
        mean,
        pointer(&scratch.update),
        pass.items(len),
        Argument::F32(keep),
        Argument::F32(rate),
        ema_rate,
    ];
    // SAFETY: the arguments are the declaration's; all have `len` numbers, as was checked.
    unsafe { pass.run("muon_update", len, &arguments) }
}

/// What the steps of one update share.
struct Pass<'a> {
    gpu: &'a Gpu,
    numbers: u32,
    rows: usize,
    cols: usize,
}

impl Pass<'_> {
    fn items(&self, len: usize) -> Argument {
        count(len / self.numbers as usize)
    }

    /// A kernel of `muon.cu` over `len` numbers.
    ///
    /// # Safety
    /// As [`Device::launch`](crate::Device::launch).
    unsafe fn run(
        &self,
        name: &'static str,
        len: usize,
        arguments: &[Argument],
    ) -> Result<(), Error> {
        let launch = threads(len / self.numbers as usize);
        // Offsets in the kernels have 32 bits.
        count(len);
        // SAFETY: the caller answers for the arguments.
        unsafe { run(self.gpu, (&MUON, name), &[self.numbers], launch, arguments) }
    }

    /// Replaces `update` `[rows, cols]` by about U·Vᵀ of its singular value decomposition U·S·Vᵀ.
    fn orthogonalize(&self, scratch: &mut MuonScratch) -> Result<(), Error> {
        let (rows, cols, len) = (self.rows, self.cols, self.rows * self.cols);
        let MuonScratch {
            update,
            x,
            next,
            gram,
            square,
            gram_operand,
            polynomial,
            norm,
            partial,
        } = scratch;
        sum_of_squares(norm, 0, update, 0..len, partial)?;
        let arguments = [pointer(x), pointer(update), pointer(norm), self.items(len)];
        // SAFETY: the arguments are the declaration's; scratch has `len` numbers, as was checked.
        unsafe { self.run("muon_normalize", len, &arguments)? };

        // The Gram matrix is taken over the shorter side, where it costs least.
        let (n, k) = (rows.min(cols), rows.max(cols));
        let is_wide = rows <= cols;
        let matrix = |address: Address, stride: usize, is_transposed: bool| Operand {
            address,
            stride,
            is_transposed,
        };
        for iteration in 0..ITERATIONS {
            let plain = matrix(x.address(), cols, false);
            let transposed = matrix(x.address(), cols, true);
            let (left, right) = if is_wide {
                (plain, transposed)
            } else {
                (transposed, plain)
            };
            // SAFETY: `x` is `[rows, cols]` and the Gram matrix `[n, n]`, in buffers of their own.
            unsafe { self.multiply([n, n, k], left, right, gram.address(), Number::F32)? };
            to_bf16(gram_operand, gram, 0..n * n)?;
            let g = matrix(gram_operand.address(), n, false);
            // SAFETY: all are `[n, n]`, in buffers of their own.
            unsafe { self.multiply([n, n, n], g, g, square.address(), Number::F32)? };
            let [a, b, c] = COEFFICIENTS.map(Argument::F32);
            let arguments = [
                pointer(polynomial),
                pointer(gram),
                pointer(square),
                self.items(n * n),
                count(n),
                a,
                b,
                c,
            ];
            // SAFETY: the arguments are the declaration's; all three have `n * n` numbers.
            unsafe { self.run("muon_polynomial", n * n, &arguments)? };

            // a·X + (b·G + c·G²)·X as one product.
            let p = matrix(polynomial.address(), n, false);
            let (left, right) = if is_wide { (p, plain) } else { (plain, p) };
            let (to, number) = if iteration + 1 < ITERATIONS {
                (next.address(), Number::Bf16)
            } else {
                (update.address(), Number::F32)
            };
            // SAFETY: `x` and the result are `[rows, cols]` and the polynomial `[n, n]`, in buffers of
            // their own.
            unsafe { self.multiply([rows, cols, n], left, right, to, number)? };
            std::mem::swap(x, next);
        }
        Ok(())
    }

    /// # Safety
    /// As [`Device::multiply`](crate::Device::multiply); the result has no gaps between its rows.
    unsafe fn multiply(
        &self,
        [m, n, k]: [usize; 3],
        a: Operand,
        b: Operand,
        c: Address,
        c_number: Number,
    ) -> Result<(), Error> {
        let product = Product {
            m,
            n,
            k,
            a,
            b,
            c,
            c_stride: n,
            c_number,
            accumulate: false,
        };
        // SAFETY: the caller answers for the matrices.
        unsafe { self.gpu.device().multiply(&product) }
    }
}
