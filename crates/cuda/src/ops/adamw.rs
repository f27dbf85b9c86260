//! AdamW updates.

use std::ops::Range;

use cwm_kernels::{AdamW, AdamWFactors};
use half::bf16;

use super::launch::{NUMBERS, count, numbers, pointer_at, run, same_device, threads};
use crate::device::{Argument, Buffer};
use crate::error::Error;
use crate::kernel::Source;

/// `adamw.cu`.
pub(crate) static ADAMW: Source = Source {
    name: "adamw.cu",
    text: include_str!("../kernels/adamw.cu"),
    kernels: &["adamw"],
    macros: &[NUMBERS],
};

/// Parameters that are updated together, and where what is remembered of them begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdamWPart {
    /// The parameters, their gradients and their bf16 copy.
    pub params: Range<usize>,
    /// Running mean of gradients.
    pub first: usize,
    /// Running mean of squared gradients.
    pub second: usize,
    /// Running mean of the parameters, where it is kept.
    pub ema: usize,
}

/// A running mean of the parameters, which an update moves along.
#[derive(Debug)]
pub struct Ema<'a> {
    /// The mean.
    pub values: &'a mut Buffer<f32>,
    /// What is kept of it: `mean += (1 - decay) * (parameter - mean)`.
    pub decay: f32,
}

impl Ema<'_> {
    /// The kernels' two arguments: null and anything where no mean is kept.
    ///
    /// # Panics
    /// If there are not `len` numbers from `start` on.
    pub(super) fn arguments(ema: Option<&Self>, start: usize, len: usize) -> [Argument; 2] {
        let Some(ema) = ema else {
            return [Argument::Pointer(0), Argument::F32(0.0)];
        };
        assert!(
            start + len <= ema.values.len(),
            "{len} numbers from {start} on are not in a mean of {}",
            ema.values.len()
        );
        [
            pointer_at(ema.values, start),
            Argument::F32(1.0 - ema.decay),
        ]
    }
}

/// One AdamW update of a part of the parameters, with gradients multiplied by `grad_scale` first; `step`
/// counts from 1. `copy` receives the parameters in bf16, at the same offsets; a running mean is moved
/// towards them.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If lengths disagree or `step` is 0.
#[expect(
    clippy::too_many_arguments,
    reason = "the tensors of the operation; a struct would only rename them"
)]
pub fn adamw(
    params: &mut Buffer<f32>,
    first: &mut Buffer<f32>,
    second: &mut Buffer<f32>,
    grads: &Buffer<f32>,
    copy: &mut Buffer<bf16>,
    ema: Option<Ema<'_>>,
    part: &AdamWPart,
    settings: &AdamW,
    step: u32,
    grad_scale: f32,
) -> Result<(), Error> {
    let (start, len) = (part.params.start, part.params.len());
    assert!(
        part.params.end <= params.len()
            && part.params.end <= grads.len()
            && part.params.end <= copy.len()
            && part.first + len <= first.len()
            && part.second + len <= second.len(),
        "adamw shapes disagree: {part:?} of {} parameters, {} gradients, {} copies, {} first and {} second \
         moments",
        params.len(),
        grads.len(),
        copy.len(),
        first.len(),
        second.len()
    );
    let mut devices = vec![
        params.gpu(),
        grads.gpu(),
        copy.gpu(),
        first.gpu(),
        second.gpu(),
    ];
    devices.extend(ema.as_ref().map(|ema| ema.values.gpu()));
    same_device("adamw", &devices);
    let ema_start = if ema.is_some() { part.ema } else { 0 };
    let [mean, ema_rate] = Ema::arguments(ema.as_ref(), ema_start, len);
    let factors = AdamWFactors::new(settings, step);
    let numbers = numbers(&[len, start, part.first, part.second, ema_start]);
    let items = len / numbers as usize;
    let arguments = [
        pointer_at(params, start),
        pointer_at(copy, start),
        pointer_at(first, part.first),
        pointer_at(second, part.second),
        mean,
        pointer_at(grads, start),
        count(items),
        Argument::F32(grad_scale),
        Argument::F32(settings.beta1),
        Argument::F32(settings.beta2),
        Argument::F32(settings.eps),
        Argument::F32(factors.decay),
        Argument::F32(factors.step_size),
        Argument::F32(factors.inverse_root_correction2),
        ema_rate,
    ];
    // SAFETY: the arguments are the declaration's; all buffers have `len` numbers from where the part
    // begins in them, as was checked.
    unsafe {
        run(
            params.gpu(),
            (&ADAMW, "adamw"),
            &[numbers],
            threads(items),
            &arguments,
        )
    }
}
