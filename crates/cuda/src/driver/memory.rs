//! Device memory, and copies to and from it.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex};

use cudarc::driver::sys::{self, CUmemPool_attribute, CUresult};

use crate::device::Address;
use crate::driver::context::{Context, Event};
use crate::driver::lock;
use crate::driver::status::{call, check};
use crate::error::Error;

/// Bytes that are copied at a time: large enough for the bus's full speed.
const CHUNK: usize = 4 << 20;

/// So many bytes, aligned to 256, taken in the order of the stream.
pub(super) fn allocate(context: &Context, bytes: usize) -> Result<Address, Error> {
    context.enter()?;
    let bytes = bytes.max(1);
    let mut address = 0;
    // SAFETY: the context is current and the stream its own.
    let (call, result) = unsafe {
        match context.pool() {
            Some(_) => (
                "cuMemAllocAsync",
                sys::cuMemAllocAsync(&mut address, bytes, context.stream()),
            ),
            None => ("cuMemAlloc", sys::cuMemAlloc_v2(&mut address, bytes)),
        }
    };
    if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        let (free, total) = free_and_total(context)?;
        return Err(Error::OutOfMemory {
            wanted: bytes,
            free,
            total,
        });
    }
    check(call, result)?;
    Ok(address)
}

/// Gives memory back, in the order of the stream.
///
/// # Safety
/// It came from [`allocate`] and is not used again.
pub(super) unsafe fn release(context: &Context, address: Address) {
    if context.enter().is_err() {
        return;
    }
    // SAFETY: as the caller promises. A failure means that the device is lost, which the next call tells.
    let _ = unsafe {
        match context.pool() {
            Some(_) => call!(cuMemFreeAsync(address, context.stream())),
            None => call!(cuMemFree_v2(address)),
        }
    };
}

/// Bytes that may still be taken, those that the pool keeps among them, and all bytes.
pub(super) fn free_and_total(context: &Context) -> Result<(usize, usize), Error> {
    context.enter()?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: the context is current.
    unsafe { call!(cuMemGetInfo_v2(&mut free, &mut total))? };
    if let Some(pool) = context.pool() {
        let ask = |attribute| -> Result<u64, Error> {
            let mut bytes = 0_u64;
            // SAFETY: the pool is the device's, and both attributes are 64 bits.
            unsafe {
                let place = (&raw mut bytes).cast();
                call!(cuMemPoolGetAttribute(pool, attribute, place))?;
            }
            Ok(bytes)
        };
        let reserved = ask(CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?;
        let used = ask(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?;
        free += reserved.saturating_sub(used) as usize;
    }
    Ok((free, total))
}

/// The way of bytes to the device: through memory of the host that the device may read, because the driver
/// does not promise to have read any other when an asynchronous copy returns.
#[derive(Debug)]
pub(super) struct Staging {
    chunks: Mutex<Chunks>,
    context: Arc<Context>,
}

/// While one is on its way, the other is filled.
#[derive(Debug)]
struct Chunks {
    chunks: [Chunk; 2],
    next: usize,
}

#[derive(Debug)]
struct Chunk {
    memory: *mut c_void,
    sent: Event,
    context: Arc<Context>,
}

// SAFETY: the memory is this structure's alone.
unsafe impl Send for Chunk {}

impl Staging {
    pub(super) fn new(context: &Arc<Context>) -> Result<Self, Error> {
        Ok(Self {
            chunks: Mutex::new(Chunks {
                chunks: [Chunk::new(context)?, Chunk::new(context)?],
                next: 0,
            }),
            context: Arc::clone(context),
        })
    }

    /// Copies to the device; `from` has been read when it returns.
    ///
    /// # Safety
    /// The bytes from `to` on are within one allocation.
    pub(super) unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<(), Error> {
        self.context.enter()?;
        let mut chunks = lock(&self.chunks);
        for (index, part) in from.chunks(CHUNK).enumerate() {
            let chunk = &chunks.chunks[chunks.next];
            chunk.sent.synchronize()?;
            let place = to + (index * CHUNK) as u64;
            // SAFETY: a part is at most as long as a chunk, which nobody reads, since its last copy was
            // waited for. On the device its place is within the caller's allocation.
            unsafe {
                ptr::copy_nonoverlapping(part.as_ptr(), chunk.memory.cast(), part.len());
                call!(cuMemcpyHtoDAsync_v2(
                    place,
                    chunk.memory,
                    part.len(),
                    self.context.stream()
                ))?;
            }
            chunk.sent.record()?;
            chunks.next = (chunks.next + 1) % chunks.chunks.len();
        }
        Ok(())
    }
}

impl Chunk {
    fn new(context: &Arc<Context>) -> Result<Self, Error> {
        let sent = Event::new(context)?;
        let mut memory = ptr::null_mut();
        // SAFETY: the context is current, since an event was made in it.
        unsafe { call!(cuMemHostAlloc(&mut memory, CHUNK, 0))? };
        Ok(Self {
            memory,
            sent,
            context: Arc::clone(context),
        })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // A copy may be on its way.
        if self.context.synchronize().is_ok() {
            // SAFETY: it was allocated so and is not used again; a failure leaves nothing to do.
            let _ = unsafe { call!(cuMemFreeHost(self.memory)) };
        }
    }
}
