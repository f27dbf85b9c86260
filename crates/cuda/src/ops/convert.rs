//! Numbers from one type to another.

use std::ops::Range;

use half::bf16;

use crate::device::{Argument, Buffer, Launch};
use crate::error::Error;
use crate::kernel::{Kernel, Source};

/// `convert.cu`.
pub(crate) static CONVERT: Source = Source {
    name: "convert.cu",
    text: include_str!("../kernels/convert.cu"),
    kernels: &["convert_to_bf16"],
    macros: &[],
};

/// Threads of a block.
const THREADS: u32 = 256;

/// Numbers that a block converts.
const BLOCK: usize = 4 * THREADS as usize;

/// Numbers of one launch, which the kernel counts in 32 bits.
const LAUNCH: usize = 1 << 30;

/// Rounds the numbers of `range` to the nearest bf16, ties to even; they lie at the same places in both
/// buffers, and what is outside the range stays.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Panics
/// If the range is not within both buffers, or they are on different devices.
pub fn to_bf16(out: &mut Buffer<bf16>, x: &Buffer<f32>, range: Range<usize>) -> Result<(), Error> {
    assert!(
        range.start <= range.end && range.end <= x.len() && range.end <= out.len(),
        "{range:?} is not within {} and {} numbers",
        x.len(),
        out.len()
    );
    let device = out.gpu().device();
    assert!(
        std::ptr::addr_eq(device, x.gpu().device()),
        "the numbers are on different devices"
    );
    let kernel = Kernel::plain(&CONVERT, "convert_to_bf16");
    for start in range.clone().step_by(LAUNCH) {
        let count = (range.end - start).min(LAUNCH);
        let launch = Launch {
            grid: [count.div_ceil(BLOCK) as u32, 1, 1],
            threads: THREADS,
            shared_bytes: 0,
        };
        let arguments = [
            Argument::Pointer(out.at(start)),
            Argument::Pointer(x.at(start)),
            Argument::U32(count as u32),
        ];
        // SAFETY: the arguments are the declaration's, and `count` numbers from `start` on were checked
        // to be within both buffers.
        unsafe { device.launch(&kernel, launch, &arguments)? };
    }
    Ok(())
}
