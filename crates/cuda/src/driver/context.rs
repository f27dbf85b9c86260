//! A device's context, its one stream, and events on it.

use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute, CUevent, CUmemPool_attribute, CUmemoryPool,
    CUresult, CUstream, CUuuid,
};

use crate::driver::card::attribute;
use crate::driver::library::said;
use crate::driver::status::{call, check};
use crate::error::Error;

/// `CU_STREAM_NON_BLOCKING`: nothing waits for the default stream, which is not used.
const NON_BLOCKING: u32 = 1;

/// A device in use. All work goes through one stream, so that it is done in the order of the calls.
#[derive(Debug)]
pub(super) struct Context {
    device: CUdevice,
    context: CUcontext,
    stream: CUstream,
    pool: Option<CUmemoryPool>,
}

// SAFETY: the handles are the driver's, which may be used from any thread; `enter` makes the context
// current on the thread at hand.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks what its threads share.
unsafe impl Sync for Context {}

impl Context {
    /// Of a device that the driver named.
    pub(super) fn open(device: CUdevice) -> Result<Arc<Self>, Error> {
        let mut context = ptr::null_mut();
        // SAFETY: the driver is initialised, since it named the device.
        unsafe { call!(cuDevicePrimaryCtxRetain(&mut context, device))? };
        let mut this = Self {
            device,
            context,
            stream: ptr::null_mut(),
            pool: None,
        };
        this.enter()?;
        // SAFETY: the context is current.
        unsafe { call!(cuStreamCreate(&mut this.stream, NON_BLOCKING))? };
        this.pool = pool(device)?;
        Ok(Arc::new(this))
    }

    /// Makes the context the one of this thread, which every call of the driver is about.
    pub(super) fn enter(&self) -> Result<(), Error> {
        // SAFETY: the context is retained for as long as `self` lives.
        unsafe { call!(cuCtxSetCurrent(self.context)) }
    }

    pub(super) fn stream(&self) -> CUstream {
        self.stream
    }

    /// The pool that the driver takes memory from, unless it has none.
    pub(super) fn pool(&self) -> Option<CUmemoryPool> {
        self.pool
    }

    /// Whether all work is done.
    pub(super) fn is_done(&self) -> Result<bool, Error> {
        self.enter()?;
        // SAFETY: the context is current and the stream its own.
        match unsafe { sys::cuStreamQuery(self.stream) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            other => check("cuStreamQuery", other).map(|()| true),
        }
    }

    /// The name that the driver gives to this very device, in hexadecimal digits.
    pub(super) fn uuid(&self) -> Result<String, Error> {
        let mut uuid = CUuuid { bytes: [0; _] };
        // SAFETY: the driver is initialised and the device its own.
        unsafe { call!(cuDeviceGetUuid_v2(&mut uuid, self.device))? };
        let digits = |byte: &c_char| format!("{:02x}", byte.cast_unsigned());
        Ok(uuid.bytes.iter().map(digits).collect())
    }

    /// Waits for all work.
    pub(super) fn synchronize(&self) -> Result<(), Error> {
        self.enter()?;
        // SAFETY: the context is current and the stream its own.
        unsafe { call!(cuStreamSynchronize(self.stream)) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        // SAFETY: nothing of the context is used any more: all that use it own a share of `self`. What
        // fails here has failed before, and there is nobody to tell.
        unsafe {
            if !self.stream.is_null() {
                let _ = call!(cuStreamSynchronize(self.stream));
                let _ = call!(cuStreamDestroy_v2(self.stream));
            }
            let _ = call!(cuDevicePrimaryCtxRelease_v2(self.device));
        }
    }
}

/// The device's memory pool, told to keep what is given back to it; a few virtual GPUs have none.
fn pool(device: CUdevice) -> Result<Option<CUmemoryPool>, Error> {
    let supported = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    if attribute(device, supported)? == 0 {
        return Ok(None);
    }
    let mut pool = ptr::null_mut();
    let mut threshold = u64::MAX;
    // SAFETY: the device is the driver's, and the attribute is 64 bits.
    unsafe {
        call!(cuDeviceGetDefaultMemPool(&mut pool, device))?;
        call!(cuMemPoolSetAttribute(
            pool,
            CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut threshold).cast()
        ))?;
    }
    Ok(Some(pool))
}

/// A mark in a stream.
#[derive(Debug)]
pub(super) struct Event {
    handle: CUevent,
    context: Arc<Context>,
}

// SAFETY: a handle of the driver's, which may be used from any thread.
unsafe impl Send for Event {}

impl Event {
    pub(super) fn new(context: &Arc<Context>) -> Result<Self, Error> {
        context.enter()?;
        let mut handle = ptr::null_mut();
        // SAFETY: the context is current; flags 0 are an event that keeps its time.
        unsafe { call!(cuEventCreate(&mut handle, 0))? };
        Ok(Self {
            handle,
            context: Arc::clone(context),
        })
    }

    /// Sets the mark after all work so far.
    pub(super) fn record(&self) -> Result<(), Error> {
        self.context.enter()?;
        // SAFETY: the event and the stream are of this context.
        unsafe { call!(cuEventRecord(self.handle, self.context.stream)) }
    }

    /// Waits until the work before the mark is done.
    pub(super) fn synchronize(&self) -> Result<(), Error> {
        self.context.enter()?;
        // SAFETY: the event is alive.
        unsafe { call!(cuEventSynchronize(self.handle)) }
    }

    /// Seconds on the device from an earlier mark to this one, both of which were waited for.
    pub(super) fn seconds_since(&self, earlier: &Self) -> Result<f64, Error> {
        type Elapsed = unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> CUresult;
        const CALL: &str = "cuEventElapsedTime";
        // cudarc binds only its second version, which drivers before CUDA 12.8 do not have.
        // SAFETY: the driver is loaded, since there is a context; the type is that of `cuda.h`.
        let elapsed = unsafe { sys::culib().get::<Elapsed>(CALL) };
        let elapsed = elapsed.map_err(|error| Error::Call {
            call: CALL,
            reason: said(&error),
        })?;
        let mut milliseconds = 0.0;
        self.context.enter()?;
        // SAFETY: both events are alive and were recorded.
        check(CALL, unsafe {
            elapsed(&mut milliseconds, earlier.handle, self.handle)
        })?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: it was created and is not used again; a failure leaves nothing to do.
            let _ = unsafe { call!(cuEventDestroy_v2(self.handle)) };
        }
    }
}
