//! What all wrappers of kernels need: shapes of launches, arguments, and checks before them.

use crate::device::{Argument, Buffer, Element, Gpu, Launch};
use crate::error::Error;
use crate::kernel::{Kernel, Source};

/// The macro of sources whose threads take one number at a time, or eight that lie next to one another.
pub(super) const NUMBERS: (&str, &[u32]) = ("NUMBERS", &[1, 8]);

/// Threads of a block of kernels that treat each number by itself.
const THREADS: u32 = 256;

/// How many numbers a thread may take: eight where all widths and offsets are multiples of it, so that
/// 16 bytes are always aligned (buffers begin at multiples of 256 bytes).
pub(super) fn numbers(widths: &[usize]) -> u32 {
    if widths.iter().all(|width| width.is_multiple_of(8)) {
        8
    } else {
        1
    }
}

/// Blocks in x of so many threads.
pub(super) fn blocks(blocks: usize, threads: u32) -> Launch {
    Launch {
        grid: [narrow(blocks), 1, 1],
        threads,
        shared_bytes: 0,
    }
}

/// A thread for each of so many items.
pub(super) fn threads(items: usize) -> Launch {
    blocks(items.div_ceil(THREADS as usize), THREADS)
}

/// Threads of a block that has a row, of which each thread takes `numbers` at a time.
pub(super) fn row_threads(width: usize, numbers: u32, most: u32) -> u32 {
    let wanted = width.div_ceil(numbers as usize).next_multiple_of(32);
    u32::try_from(wanted).map_or(most, |wanted| wanted.min(most))
}

/// A count as kernels have them.
///
/// # Panics
/// If it does not fit in 32 bits.
pub(super) fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or_else(|_| panic!("{count} does not fit in a kernel's 32 bits"))
}

/// [`narrow`], as an argument.
pub(super) fn count(count: usize) -> Argument {
    Argument::U32(narrow(count))
}

/// A buffer as an argument.
pub(super) fn pointer<T: Element>(buffer: &Buffer<T>) -> Argument {
    Argument::Pointer(buffer.address())
}

/// A buffer from one of its numbers on, as an argument.
pub(super) fn pointer_at<T: Element>(buffer: &Buffer<T>, index: usize) -> Argument {
    Argument::Pointer(buffer.at(index))
}

/// Panics unless all are the same device: memory of one is not that of another.
pub(super) fn same_device(operation: &str, devices: &[&Gpu]) {
    let same = |pair: &[&Gpu]| std::ptr::addr_eq(pair[0].device(), pair[1].device());
    assert!(
        devices.windows(2).all(same),
        "{operation}: buffers are on different devices"
    );
}

/// Runs a kernel, unless there is nothing to do.
///
/// # Errors
/// As [`Device::launch`](crate::Device::launch).
///
/// # Safety
/// As [`Device::launch`](crate::Device::launch).
pub(super) unsafe fn run(
    gpu: &Gpu,
    (source, name): (&'static Source, &'static str),
    macros: &[u32],
    launch: Launch,
    arguments: &[Argument],
) -> Result<(), Error> {
    if launch.grid.contains(&0) {
        return Ok(());
    }
    let kernel = Kernel {
        source,
        name,
        macros: macros.to_vec(),
    };
    // SAFETY: the caller answers for the arguments.
    unsafe { gpu.device().launch(&kernel, launch, arguments) }
}
