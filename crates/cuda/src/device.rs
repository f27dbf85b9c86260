//! What a device must be able to do, and safe handles on one.
//!
//! [`Device`] is the whole boundary between this crate and a GPU: memory, copies, launches and matrix
//! products, all in the order in which they are asked for. There are two: the real one
//! (`driver`), and a processor that plays one and runs the same kernel sources (`emulator`), so that
//! everything above this file is tested without a GPU.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use half::bf16;

use crate::error::Error;
use crate::kernel::Kernel;
use crate::ranks::Rendezvous;

/// A place in device memory.
pub type Address = u64;

/// Numbers that device memory may hold.
///
/// # Safety
/// Every pattern of bits is a value, and there is no padding.
pub unsafe trait Element: Copy + Default + fmt::Debug + Send + Sync + 'static {}

// SAFETY: a plain number without padding, of which every pattern of bits is a value.
unsafe impl Element for f32 {}
// SAFETY: as above.
unsafe impl Element for f64 {}
// SAFETY: as above.
unsafe impl Element for u32 {}
// SAFETY: as above.
unsafe impl Element for u64 {}
// SAFETY: as above; 16 bits.
unsafe impl Element for bf16 {}

/// How many blocks of how many threads run a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block, all in x: a multiple of 32, at most 1,024.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
}

/// One argument of a kernel; the kernel's declaration must have the same type in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// A pointer into device memory, or null.
    Pointer(Address),
    /// `unsigned`.
    U32(u32),
    /// `float`.
    F32(f32),
}

/// The type of a matrix in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// 32 bits.
    F32,
    /// 16 bits, the upper half of an f32.
    Bf16,
}

/// An operand of a matrix product, in bf16: row-major with `stride` numbers from one row to the next.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// First number.
    pub address: Address,
    /// Numbers from a row to the next, as it lies in memory.
    pub stride: usize,
    /// Whether what lies in memory is the transpose of the operand.
    pub is_transposed: bool,
}

/// `C = A·B` or `C += A·B`, where `A` is `[m, k]`, `B` is `[k, n]` and `C` `[m, n]`; sums are in f32.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Left operand.
    pub a: Operand,
    /// Right operand.
    pub b: Operand,
    /// First number of the result.
    pub c: Address,
    /// Numbers from a row of the result to the next.
    pub c_stride: usize,
    /// What the result is stored as.
    pub c_number: Number,
    /// Whether the product is added to what is there.
    pub accumulate: bool,
}

/// A device as its owner sees it. Work is done in the order of the calls; errors of a launch may show up
/// at a later call.
///
/// # Safety
/// An implementation hands out memory that is its caller's alone until it is released, and touches
/// nothing but what its callers name.
pub unsafe trait Device: fmt::Debug + Send + Sync {
    /// What it is called, for people.
    fn name(&self) -> String;

    /// Multiprocessors: how many blocks can make progress at once, at the least.
    fn multiprocessors(&self) -> usize;

    /// Free bytes and all bytes of its memory.
    ///
    /// # Errors
    /// When the device cannot say.
    fn memory(&self) -> Result<(usize, usize), Error>;

    /// So many bytes, aligned to 256; what they hold is not defined.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or when the device is lost.
    fn allocate(&self, bytes: usize) -> Result<Address, Error>;

    /// Gives memory back.
    ///
    /// # Safety
    /// It came from [`allocate`](Device::allocate) with this size and is not used again.
    unsafe fn release(&self, address: Address, bytes: usize);

    /// Copies to the device.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Safety
    /// The bytes from `to` on are within one allocation.
    unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<(), Error>;

    /// Copies from the device, once all work before has been done.
    ///
    /// # Errors
    /// When the device is lost, also in work before.
    ///
    /// # Safety
    /// The bytes from `from` on are within one allocation.
    unsafe fn download(&self, to: &mut [u8], from: Address) -> Result<(), Error>;

    /// Copies within the device.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Safety
    /// Both ranges are within allocations and do not overlap.
    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Error>;

    /// Sets bytes to 0.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Safety
    /// They are within one allocation.
    unsafe fn zero(&self, address: Address, bytes: usize) -> Result<(), Error>;

    /// Runs a kernel.
    ///
    /// # Errors
    /// When it does not compile, cannot be launched, or the device is lost.
    ///
    /// # Safety
    /// The arguments are those of the kernel's declaration, and what it does with them stays within
    /// allocations.
    unsafe fn launch(
        &self,
        kernel: &Kernel,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<(), Error>;

    /// Multiplies matrices.
    ///
    /// # Errors
    /// When no algorithm is found, or the device is lost.
    ///
    /// # Safety
    /// All three matrices are within allocations, and the result overlaps no operand.
    unsafe fn multiply(&self, product: &Product) -> Result<(), Error>;

    /// Waits until all work has been done.
    ///
    /// # Errors
    /// What went wrong in it.
    fn synchronize(&self) -> Result<(), Error>;

    /// Seconds that work between two calls took on the device, for benchmarks: a mark is set at each
    /// call, and the time since the last one returned.
    ///
    /// # Errors
    /// When the device is lost.
    fn lap(&self) -> Result<f64, Error>;

    /// How it works together with the devices of other ranks.
    ///
    /// # Errors
    /// [`Error::Alone`] if it cannot, or [`Error::NoLibrary`].
    fn ranks(&self) -> Result<Box<dyn Rendezvous>, Error> {
        Err(Error::Alone { name: self.name() })
    }

    /// What its owner should be told once work has begun, such as a cache that cannot be written.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A handle on a device, cheap to clone.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<dyn Device>);

impl Gpu {
    /// Over any device.
    pub fn new(device: Arc<dyn Device>) -> Self {
        Self(device)
    }

    /// The device itself.
    pub fn device(&self) -> &dyn Device {
        &*self.0
    }

    /// Memory for `len` numbers, all 0.
    ///
    /// # Errors
    /// As [`Device::allocate`].
    pub fn zeros<T: Element>(&self, len: usize) -> Result<Buffer<T>, Error> {
        let bytes = len * size_of::<T>();
        let buffer = Buffer {
            address: self.0.allocate(bytes.max(1))?,
            len,
            gpu: self.clone(),
            element: PhantomData,
        };
        // SAFETY: the bytes were just allocated.
        unsafe { self.0.zero(buffer.address, bytes)? };
        Ok(buffer)
    }

    /// These numbers, in device memory.
    ///
    /// # Errors
    /// As [`Device::allocate`].
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Buffer<T>, Error> {
        let mut buffer = self.zeros(values.len())?;
        buffer.write(values)?;
        Ok(buffer)
    }
}

/// Numbers in device memory, released when it is dropped.
#[derive(Debug)]
pub struct Buffer<T: Element> {
    address: Address,
    len: usize,
    gpu: Gpu,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device it lies on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Where number `index` lies, which may be one past the last.
    ///
    /// # Panics
    /// If it is outside.
    pub fn at(&self, index: usize) -> Address {
        assert!(index <= self.len, "{index} is outside {} numbers", self.len);
        self.address + (index * size_of::<T>()) as u64
    }

    /// Overwrites the first numbers.
    ///
    /// # Errors
    /// As [`Device::upload`].
    ///
    /// # Panics
    /// If there are more than it holds.
    pub fn write(&mut self, values: &[T]) -> Result<(), Error> {
        self.write_at(0, values)
    }

    /// Overwrites numbers from number `at` on.
    ///
    /// # Errors
    /// As [`Device::upload`].
    ///
    /// # Panics
    /// If there are more than it holds.
    pub fn write_at(&mut self, at: usize, values: &[T]) -> Result<(), Error> {
        self.check(at, values.len());
        // SAFETY: they fit, as was checked.
        unsafe { self.gpu.0.upload(self.at(at), bytes_of(values)) }
    }

    /// The first `len` numbers.
    ///
    /// # Errors
    /// As [`Device::download`].
    ///
    /// # Panics
    /// If there are fewer.
    pub fn read(&self, len: usize) -> Result<Vec<T>, Error> {
        let mut values = vec![T::default(); len];
        self.read_into(&mut values)?;
        Ok(values)
    }

    /// Fills `values` with the first numbers.
    ///
    /// # Errors
    /// As [`Device::download`].
    ///
    /// # Panics
    /// If there are fewer.
    pub fn read_into(&self, values: &mut [T]) -> Result<(), Error> {
        self.read_at(0, values)
    }

    /// Fills `values` with the numbers from number `at` on.
    ///
    /// # Errors
    /// As [`Device::download`].
    ///
    /// # Panics
    /// If there are fewer.
    pub fn read_at(&self, at: usize, values: &mut [T]) -> Result<(), Error> {
        self.check(at, values.len());
        // SAFETY: every pattern of bits is an `Element`, the length is that of the slice, and so many
        // were checked to be there.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(
                values.as_mut_ptr().cast::<u8>(),
                size_of_val(values),
            );
            self.gpu.0.download(bytes, self.at(at))
        }
    }

    fn check(&self, at: usize, len: usize) {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(
            fits,
            "{len} numbers from {at} on are not within {}",
            self.len
        );
    }

    /// Sets all to 0.
    ///
    /// # Errors
    /// As [`Device::zero`].
    pub fn clear(&mut self) -> Result<(), Error> {
        // SAFETY: it is this buffer's own memory.
        unsafe { self.gpu.0.zero(self.address, self.len * size_of::<T>()) }
    }

    /// Copies the first numbers of another buffer over the first of this one.
    ///
    /// # Errors
    /// As [`Device::copy`].
    ///
    /// # Panics
    /// If either holds fewer.
    pub fn copy_from(&mut self, from: &Self, len: usize) -> Result<(), Error> {
        assert!(
            len <= self.len && len <= from.len,
            "{len} numbers are not in both buffers"
        );
        // SAFETY: both ranges were checked, and buffers do not overlap.
        unsafe {
            self.gpu
                .0
                .copy(self.address, from.address, len * size_of::<T>())
        }
    }

    /// Copies the first `len` numbers of another buffer here, from number `at` on.
    ///
    /// # Errors
    /// As [`Device::copy`].
    ///
    /// # Panics
    /// If either holds fewer.
    pub fn copy_at(&mut self, at: usize, from: &Self, len: usize) -> Result<(), Error> {
        self.check(at, len);
        from.check(0, len);
        // SAFETY: both ranges were checked, and buffers do not overlap.
        unsafe {
            self.gpu
                .0
                .copy(self.at(at), from.address, len * size_of::<T>())
        }
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        let bytes = (self.len * size_of::<T>()).max(1);
        // SAFETY: it was allocated with this size, and nobody else knows of it.
        unsafe { self.gpu.0.release(self.address, bytes) }
    }
}

fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: an `Element` has no padding, and the length is that of the slice.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}
