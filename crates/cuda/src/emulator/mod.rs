//! A device made of the processor, for tests: it runs the kernels' own sources, compiled as C++.
//!
//! Promises: what is wrong on a GPU and can be seen is an error here, with the kernel, block and thread in
//! it (see `emulator.h` for what a kernel may not do, and [`memory`] for what is asked of addresses). Work
//! is done before a call returns. Results are not the bits of a GPU: `exp` and its like are those of the
//! processor, and sums inside a matrix product have another order.

mod library;
mod memory;
mod ranks;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cwm_kernels::{MatMut, MatRef, Precision, Store};
use half::bf16;

use crate::device::{Address, Argument, Device, Gpu, Launch, Number, Operand, Product};
use crate::error::Error;
use crate::kernel::Kernel;
use crate::ranks::Rendezvous;
use library::Compiler;
use memory::Memory;
use ranks::SharedMemory;

/// Of which the processor gives what is used.
const DEFAULT_BYTES: usize = 4 << 30;
/// Few, so that small tests have more blocks than that.
const MULTIPROCESSORS: usize = 4;
/// What compute capability 9.0 allows a block.
const MAX_SHARED_BYTES: u32 = 227 * 1024;
const MAX_THREADS: u32 = 1024;
/// Of a grid in y and z.
const MAX_GRID: u32 = 65_535;

/// The device; see the module.
#[derive(Debug)]
pub struct Emulator {
    compiler: Compiler,
    memory: Mutex<Memory>,
    mark: Mutex<Instant>,
    neighbours: Neighbours,
}

/// Whether an emulated device reaches those of other ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbours {
    /// Those of this process.
    Process,
    None,
}

impl Emulator {
    /// A device with 4 GiB of memory, of which the processor gives what is used.
    ///
    /// # Errors
    /// [`Error::Emulator`] where there is no C++ compiler.
    pub fn open() -> Result<Gpu, Error> {
        Self::with_memory(DEFAULT_BYTES)
    }

    /// A device with so many bytes of memory.
    ///
    /// # Errors
    /// As [`open`](Emulator::open).
    pub fn with_memory(bytes: usize) -> Result<Gpu, Error> {
        Self::make(bytes, Neighbours::Process)
    }

    /// A device that cannot work together with others, as a real one without NCCL.
    ///
    /// # Errors
    /// As [`open`](Emulator::open).
    pub fn open_alone() -> Result<Gpu, Error> {
        Self::make(DEFAULT_BYTES, Neighbours::None)
    }

    fn make(bytes: usize, neighbours: Neighbours) -> Result<Gpu, Error> {
        Ok(Gpu::new(Arc::new(Self {
            compiler: Compiler::find()?,
            memory: Mutex::new(Memory::new(bytes)),
            mark: Mutex::new(Instant::now()),
            neighbours,
        })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An error unless all these bytes are in one allocation.
    fn check(&self, what: &str, address: Address, bytes: usize) -> Result<(), Error> {
        self.with(|memory| memory.check(what, address, bytes))
    }

    /// Row by row as f32; empty for an empty operand.
    fn operand(&self, name: &str, operand: &Operand, shape: [usize; 2]) -> Result<Vec<f32>, Error> {
        let [rows, cols] = if operand.is_transposed {
            [shape[1], shape[0]]
        } else {
            shape
        };
        let bytes = extent(name, [rows, cols], operand.stride)? * size_of::<bf16>();
        self.check(&format!("operand {name}"), operand.address, bytes)?;
        let mut values = Vec::with_capacity(rows * cols);
        for row in 0..rows {
            let first = operand.address as usize + row * operand.stride * size_of::<bf16>();
            // SAFETY: the row is within an allocation, as was checked, which is aligned to bf16 with
            // everything in it that a product is asked of, and every pattern of bits is a bf16.
            let row = unsafe { std::slice::from_raw_parts(first as *const bf16, cols) };
            values.extend(row.iter().map(|value| value.to_f32()));
        }
        Ok(values)
    }

    /// Stores `sums` `[m, n]` as the product wants it.
    fn store(&self, product: &Product, sums: &[f32]) -> Result<(), Error> {
        let width = match product.c_number {
            Number::F32 => size_of::<f32>(),
            Number::Bf16 => size_of::<bf16>(),
        };
        let bytes = extent("C", [product.m, product.n], product.c_stride)? * width;
        self.check("the result", product.c, bytes)?;
        for (row, sums) in sums.chunks_exact(product.n.max(1)).enumerate() {
            let first = product.c as usize + row * product.c_stride * width;
            for (column, &sum) in sums.iter().enumerate() {
                let cell = first + column * width;
                // SAFETY: the cell is within an allocation, as was checked, and aligned to its type as the
                // allocation and the result are.
                unsafe {
                    match product.c_number {
                        Number::F32 => {
                            let cell = cell as *mut f32;
                            *cell = if product.accumulate { *cell + sum } else { sum };
                        }
                        Number::Bf16 => {
                            let cell = cell as *mut bf16;
                            let before = if product.accumulate {
                                (*cell).to_f32()
                            } else {
                                0.0
                            };
                            *cell = bf16::from_f32(before + sum);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Numbers from the first to the last of a matrix.
fn extent(name: &str, [rows, cols]: [usize; 2], stride: usize) -> Result<usize, Error> {
    if stride < cols {
        return Err(refused(format!(
            "matrix {name} has rows of {cols} numbers that begin {stride} apart"
        )));
    }
    Ok(if rows == 0 {
        0
    } else {
        (rows - 1) * stride + cols
    })
}

fn refused(reason: String) -> Error {
    Error::Emulator { reason }
}

fn check_launch(kernel: &Kernel, launch: Launch) -> Result<(), Error> {
    let name = kernel.name;
    let Launch {
        grid: [x, y, z],
        threads,
        shared_bytes,
    } = launch;
    if !kernel.source.kernels.contains(&name) {
        let file = kernel.source.name;
        return Err(refused(format!("{file} does not name a kernel {name}")));
    }
    if threads == 0 || !threads.is_multiple_of(32) || threads > MAX_THREADS {
        return Err(refused(format!(
            "kernel {name} is launched with {threads} threads, which are not whole warps of 32 up to \
             {MAX_THREADS}"
        )));
    }
    if x == 0 || y == 0 || z == 0 || x > i32::MAX as u32 || y > MAX_GRID || z > MAX_GRID {
        return Err(refused(format!(
            "kernel {name} is launched with a grid of {x} x {y} x {z} blocks"
        )));
    }
    if shared_bytes > MAX_SHARED_BYTES {
        return Err(refused(format!(
            "kernel {name} is launched with {shared_bytes} bytes of shared memory, of {MAX_SHARED_BYTES}"
        )));
    }
    Ok(())
}

// SAFETY: memory comes from `Memory`, which owns it until it is released, and every access is checked
// against it, apart from those of kernels, whose sources are this crate's own.
unsafe impl Device for Emulator {
    fn name(&self) -> String {
        "the processor, playing a GPU".to_owned()
    }

    fn multiprocessors(&self) -> usize {
        MULTIPROCESSORS
    }

    fn memory(&self) -> Result<(usize, usize), Error> {
        Ok(self.with(|memory| memory.free_and_total()))
    }

    fn allocate(&self, bytes: usize) -> Result<Address, Error> {
        self.with(|memory| memory.allocate(bytes))
    }

    unsafe fn release(&self, address: Address, bytes: usize) {
        self.with(|memory| memory.release(address, bytes));
    }

    unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<(), Error> {
        self.check("an upload", to, from.len())?;
        // SAFETY: so many bytes are there, as was checked.
        unsafe { (to as *mut u8).copy_from(from.as_ptr(), from.len()) };
        Ok(())
    }

    unsafe fn download(&self, to: &mut [u8], from: Address) -> Result<(), Error> {
        self.check("a download", from, to.len())?;
        // SAFETY: so many bytes are there, as was checked.
        unsafe { to.as_mut_ptr().copy_from(from as *const u8, to.len()) };
        Ok(())
    }

    unsafe fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Error> {
        self.check("the target of a copy", to, bytes)?;
        self.check("the source of a copy", from, bytes)?;
        if to.abs_diff(from) < bytes as u64 {
            return Err(refused(format!("a copy of {bytes} bytes overlaps itself")));
        }
        // SAFETY: both ranges are there, as was checked.
        unsafe { (to as *mut u8).copy_from(from as *const u8, bytes) };
        Ok(())
    }

    unsafe fn zero(&self, address: Address, bytes: usize) -> Result<(), Error> {
        self.check("the target of zeroing", address, bytes)?;
        // SAFETY: so many bytes are there, as was checked.
        unsafe { (address as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<(), Error> {
        check_launch(kernel, launch)?;
        let pointers = arguments.iter().filter_map(|argument| match *argument {
            Argument::Pointer(address) if address != 0 => Some(address),
            _ => None,
        });
        for address in pointers.clone() {
            self.check(kernel.name, address, 0)?;
        }
        let library = self.compiler.library(kernel)?;
        // SAFETY: the caller answers for the arguments; their types are compared with the kernel's.
        unsafe { library.run(kernel.name, launch, arguments)? };
        for address in pointers {
            self.with(|memory| memory.check_guards(kernel.name, address))?;
        }
        Ok(())
    }

    unsafe fn multiply(&self, product: &Product) -> Result<(), Error> {
        let &Product { m, n, k, .. } = product;
        let a = self.operand("A", &product.a, [m, k])?;
        let b = self.operand("B", &product.b, [k, n])?;
        let view = |values, operand: &Operand, [rows, cols]: [usize; 2]| {
            if operand.is_transposed {
                MatRef::new(values, cols, rows).t()
            } else {
                MatRef::new(values, rows, cols)
            }
        };
        let mut sums = vec![0.0; m * n];
        cwm_kernels::gemm(
            MatMut::new(&mut sums, m, n),
            view(&a, &product.a, [m, k]),
            view(&b, &product.b, [k, n]),
            Store::Overwrite,
            Precision::F32,
        );
        self.store(product, &sums)
    }

    fn synchronize(&self) -> Result<(), Error> {
        self.with(|memory| memory.check_all_guards())
    }

    fn lap(&self) -> Result<f64, Error> {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = mark.elapsed().as_secs_f64();
        *mark = Instant::now();
        Ok(seconds)
    }

    fn ranks(&self) -> Result<Box<dyn Rendezvous>, Error> {
        match self.neighbours {
            Neighbours::Process => Ok(Box::new(SharedMemory)),
            Neighbours::None => Err(Error::Alone { name: self.name() }),
        }
    }
}
