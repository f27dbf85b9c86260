//! The real device: an NVIDIA GPU through its driver, NVRTC and cuBLASLt, all of them loaded when one is
//! opened, and NCCL, loaded when GPUs of several ranks are to work together.
//!
//! Nothing here panics for want of a library or a GPU: each is an [`Error`] that says what to install. An
//! error that spoils the context for good is [`Error::Lost`]; it may show up at a call after the one that
//! caused it.

mod blas;
mod cache;
mod card;
mod compile;
mod context;
mod library;
mod memory;
mod modules;
mod multiply;
mod nccl;
mod status;

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use card::Card;
pub use compile::{Architecture, Compiled, Compiler, Usage};

use crate::device::{Address, Argument, Device, Gpu, Launch, Product};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::ranks::Rendezvous;

use cache::Cache;
use context::{Context, Event};
use memory::Staging;
use modules::Modules;
use multiply::Multiplier;
use nccl::Nccl;
use status::call;

/// One GPU.
#[derive(Debug)]
pub struct Cuda {
    card: Card,
    multiplier: Multiplier,
    modules: Modules,
    staging: Staging,
    /// Where [`Device::lap`] was called last.
    lap: Mutex<Option<Event>>,
    context: Arc<Context>,
}

impl Cuda {
    /// The GPU that the driver counts as `ordinal`, from 0.
    ///
    /// # Errors
    /// [`Error::NoDriver`], [`Error::OldDriver`], [`Error::NoGpu`], [`Error::Unsupported`] or
    /// [`Error::NoLibrary`], and what the driver says.
    pub fn open(ordinal: usize) -> Result<Gpu, Error> {
        let card = Card::find(ordinal)?;
        let compiler = Compiler::for_driver(card.driver.0)?;
        let context = Context::open(card::device(ordinal)?)?;
        let device = Self {
            multiplier: Multiplier::new(&context, card.driver.0)?,
            modules: Modules::new(&context, compiler, Cache::of_user(), card.architecture),
            staging: Staging::new(&context)?,
            lap: Mutex::new(None),
            card,
            context,
        };
        Ok(Gpu::new(Arc::new(device)))
    }
}

/// What [`Cuda::open`] needs besides the driver, without opening a GPU.
///
/// # Errors
/// [`Error::NoLibrary`] for the first that is missing.
pub fn check_libraries(card: &Card) -> Result<(), Error> {
    library::NVRTC.load(card.driver.0)?;
    library::CUBLASLT.load(card.driver.0)?;
    Ok(())
}

// SAFETY: memory is the driver's, which hands out none twice; what is touched is what callers name.
unsafe impl Device for Cuda {
    fn name(&self) -> String {
        self.card.name.clone()
    }

    fn multiprocessors(&self) -> usize {
        self.card.multiprocessors
    }

    fn memory(&self) -> Result<(usize, usize), Error> {
        memory::free_and_total(&self.context)
    }

    fn allocate(&self, bytes: usize) -> Result<Address, Error> {
        memory::allocate(&self.context, bytes)
    }

    unsafe fn release(&self, address: Address, _bytes: usize) {
        // SAFETY: as the caller promises.
        unsafe { memory::release(&self.context, address) }
    }

    unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<(), Error> {
        // SAFETY: as the caller promises.
        unsafe { self.staging.upload(to, from) }
    }

    unsafe fn download(&self, to: &mut [u8], from: Address) -> Result<(), Error> {
        if !to.is_empty() {
            self.context.enter()?;
            // SAFETY: so many bytes are there, as the caller promises, and `to` is borrowed until the copy
            // was waited for.
            unsafe {
                call!(cuMemcpyDtoHAsync_v2(
                    to.as_mut_ptr().cast(),
                    from,
                    to.len(),
                    self.context.stream()
                ))?;
            }
        }
        self.context.synchronize()
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.enter()?;
        let stream = self.context.stream();
        // SAFETY: both ranges are within allocations, as the caller promises.
        unsafe { call!(cuMemcpyDtoDAsync_v2(to, from, bytes, stream)) }
    }

    unsafe fn zero(&self, address: Address, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.enter()?;
        // SAFETY: the bytes are within an allocation, as the caller promises.
        unsafe { call!(cuMemsetD8Async(address, 0, bytes, self.context.stream())) }
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<(), Error> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let function = self.modules.function(kernel, launch.shared_bytes)?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(place).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: the function's module is loaded; each pointer is to a value of the declaration's type,
        // as the caller promises, and the driver copies the values before it returns.
        unsafe {
            call!(cuLaunchKernel(
                function,
                x,
                y,
                z,
                launch.threads,
                1,
                1,
                launch.shared_bytes,
                self.context.stream(),
                pointers.as_mut_ptr(),
                ptr::null_mut()
            ))
        }
        .map_err(|error| of_kernel(error, kernel, launch))
    }

    unsafe fn multiply(&self, product: &Product) -> Result<(), Error> {
        // SAFETY: as the caller promises.
        unsafe { self.multiplier.multiply(product) }
    }

    fn synchronize(&self) -> Result<(), Error> {
        self.context.synchronize()
    }

    fn lap(&self) -> Result<f64, Error> {
        let now = Event::new(&self.context)?;
        now.record()?;
        now.synchronize()?;
        let mut last = lock(&self.lap);
        let seconds = match &*last {
            Some(before) => now.seconds_since(before)?,
            None => 0.0,
        };
        *last = Some(now);
        Ok(seconds)
    }

    fn ranks(&self) -> Result<Box<dyn Rendezvous>, Error> {
        let nccl = Nccl::load(&self.context, self.card.driver.0)?;
        Ok(Box::new(nccl))
    }

    fn notes(&self) -> Vec<String> {
        self.modules.note().into_iter().collect()
    }
}

/// Where an argument's value lies.
fn place(argument: &Argument) -> *mut c_void {
    match argument {
        Argument::Pointer(value) => ptr::from_ref(value).cast_mut().cast(),
        Argument::U32(value) => ptr::from_ref(value).cast_mut().cast(),
        Argument::F32(value) => ptr::from_ref(value).cast_mut().cast(),
    }
}

/// The error of a launch, with what was launched.
fn of_kernel(error: Error, kernel: &Kernel, launch: Launch) -> Error {
    let of = |reason: String| {
        format!(
            "{reason} (kernel {} {:?} with {launch:?})",
            kernel.name, kernel.macros
        )
    };
    match error {
        Error::Call { call, reason } => Error::Call {
            call,
            reason: of(reason),
        },
        Error::Lost { call, reason } => Error::Lost {
            call,
            reason: of(reason),
        },
        other => other,
    }
}

/// What a lock protects here is whole even if a thread panicked while it held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_is_told_so() {
        let error = match Cuda::open(0) {
            Err(error @ Error::NoDriver { .. }) => error,
            // A machine with a GPU, or with a driver and none: another error or none is right there.
            _ => return,
        };
        let text = error.to_string();
        assert!(text.contains("no NVIDIA driver was found"), "{text}");
        assert!(text.contains("--device cpu"), "{text}");
    }
}
