//! Matrix products, through cuBLASLt.
//!
//! It thinks in columns: a row-major matrix is for it the transpose, so that `C = A·B` is asked for as
//! `Cᵀ = Bᵀ·Aᵀ`. Its heuristic is asked once for each kind of product and its first answer kept, so that
//! equal products are computed by equal code. Sums across parts of `k` are made in f32, also where the
//! result is bf16.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex};

use cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t, cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t, cublasLtMatrixLayout_t, cudaDataType_t,
};

use crate::device::{Address, Number, Operand, Product};
use crate::driver::blas::{Blas, ask};
use crate::driver::context::Context;
use crate::driver::{lock, memory};
use crate::error::Error;

/// `cublasOperation_t`, which the bindings of cuBLASLt lack: the matrix as it is.
const AS_IT_IS: i32 = 0;

/// `cublasOperation_t`: the transpose.
const TRANSPOSED: i32 = 1;

/// Memory that algorithms may use between their parts, in bytes.
const WORKSPACE: usize = 32 << 20;

/// Alignment beyond which nothing is faster, in bytes.
const ALIGNMENT: u32 = 256;

/// The library on one device.
#[derive(Debug)]
pub(super) struct Multiplier {
    plans: Mutex<HashMap<Kind, Plan>>,
    library: Arc<Blas>,
    workspace: Address,
    context: Arc<Context>,
}

/// All that an algorithm is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    /// `m`, `n` and `k`.
    shape: [usize; 3],
    /// Of `a`, `b` and `c`.
    strides: [usize; 3],
    /// Of `a`, `b` and `c`, in bytes.
    alignments: [u32; 3],
    /// Of `a` and `b`.
    is_transposed: [bool; 2],
    is_f32: bool,
}

/// A kind of product, ready to be asked for.
#[derive(Debug)]
struct Plan {
    operation: cublasLtMatmulDesc_t,
    /// Of what the library calls A, B and C.
    layouts: [cublasLtMatrixLayout_t; 3],
    algorithm: cublasLtMatmulAlgo_t,
    library: Arc<Blas>,
}

// SAFETY: descriptions are plain memory of the library's, which it only reads.
unsafe impl Send for Plan {}

impl Multiplier {
    /// With the newest library that a driver for this major version of CUDA serves.
    pub(super) fn new(context: &Arc<Context>, driver: u32) -> Result<Self, Error> {
        Ok(Self {
            plans: Mutex::default(),
            library: Arc::new(Blas::new(context, driver)?),
            workspace: memory::allocate(context, WORKSPACE)?,
            context: Arc::clone(context),
        })
    }

    /// Multiplies matrices.
    ///
    /// # Safety
    /// As [`Device::multiply`](crate::Device::multiply).
    pub(super) unsafe fn multiply(&self, product: &Product) -> Result<(), Error> {
        if product.m == 0 || product.n == 0 {
            return Ok(());
        }
        self.context.enter()?;
        let kind = Kind::of(product);
        let mut plans = lock(&self.plans);
        let plan = match plans.entry(kind) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Plan::new(&self.library, &kind)?),
        };
        let [a, b, c] = plan.layouts;
        let (alpha, beta) = (1.0_f32, if product.accumulate { 1.0_f32 } else { 0.0 });
        let place = |address: Address| address as *mut c_void;
        // SAFETY: the matrices are within allocations, as the caller promises, and are as the layouts say;
        // the factors are f32 on the host, which are read before the call returns; the workspace is used
        // by this stream alone, in its order.
        unsafe {
            ask!(
                self.library,
                cublasLtMatmul(
                    self.library.handle,
                    plan.operation,
                    (&raw const alpha).cast(),
                    place(product.b.address),
                    a,
                    place(product.a.address),
                    b,
                    (&raw const beta).cast(),
                    place(product.c),
                    c,
                    place(product.c),
                    c,
                    &plan.algorithm,
                    place(self.workspace),
                    WORKSPACE,
                    self.context.stream().cast(),
                )
            )
        }
        .map_err(|error| kind.named(error))
    }
}

impl Drop for Multiplier {
    fn drop(&mut self) {
        // SAFETY: it was allocated so, and products that use it come before its release in the stream.
        unsafe { memory::release(&self.context, self.workspace) };
        // Products may be running whose code the handle keeps; after a failure there is nothing to wait for.
        let _ = self.context.synchronize();
    }
}

impl Kind {
    fn of(product: &Product) -> Self {
        let Product { a, b, c, .. } = product;
        let alignment =
            |address: Address| 1_u32 << address.trailing_zeros().min(ALIGNMENT.trailing_zeros());
        Self {
            shape: [product.m, product.n, product.k],
            strides: [a.stride, b.stride, product.c_stride],
            alignments: [a.address, b.address, *c].map(alignment),
            is_transposed: [a, b].map(|operand: &Operand| operand.is_transposed),
            is_f32: product.c_number == Number::F32,
        }
    }

    /// The error, with what was to be multiplied.
    fn named(&self, error: Error) -> Error {
        match error {
            Error::Call { call, reason } => Error::Call {
                call,
                reason: format!("{reason} ({self:?})"),
            },
            other => other,
        }
    }
}

impl Plan {
    fn new(library: &Arc<Blas>, kind: &Kind) -> Result<Self, Error> {
        Self::try_new(library, kind).map_err(|error| kind.named(error))
    }

    fn try_new(library: &Arc<Blas>, kind: &Kind) -> Result<Self, Error> {
        let [m, n, k] = kind.shape;
        let [a_stride, b_stride, c_stride] = kind.strides;
        let number = match kind.is_f32 {
            true => cudaDataType_t::CUDA_R_32F,
            false => cudaDataType_t::CUDA_R_16BF,
        };
        // Dropped half made if anything below fails.
        let mut plan = Self {
            operation: ptr::null_mut(),
            layouts: [ptr::null_mut(); 3],
            algorithm: cublasLtMatmulAlgo_t { data: [0; 8] },
            library: Arc::clone(library),
        };
        plan.describe(kind.is_transposed)?;
        let [a_transposed, b_transposed] = kind.is_transposed;
        let bf16 = cudaDataType_t::CUDA_R_16BF;
        // Rows and columns as they lie in memory, by columns.
        let of = |columns: usize, rows: usize, is_transposed: bool| match is_transposed {
            true => [rows, columns],
            false => [columns, rows],
        };
        let layouts = [
            (bf16, of(n, k, b_transposed), b_stride),
            (bf16, of(k, m, a_transposed), a_stride),
            (number, [n, m], c_stride),
        ];
        for (layout, (number, [rows, columns], stride)) in plan.layouts.iter_mut().zip(layouts) {
            let (rows, columns, stride) = (rows as u64, columns as u64, stride as i64);
            // SAFETY: `layout` is a place for a handle.
            unsafe {
                ask!(
                    library,
                    cublasLtMatrixLayoutCreate(layout, number, rows, columns, stride)
                )?;
            }
        }
        plan.algorithm = plan.choose(kind)?;
        Ok(plan)
    }

    /// Makes the description of the operation; what the library calls A is our right operand.
    fn describe(&mut self, [a_transposed, b_transposed]: [bool; 2]) -> Result<(), Error> {
        use cublasLtMatmulDescAttributes_t as Attribute;
        let operation = |is_transposed: bool| match is_transposed {
            true => TRANSPOSED,
            false => AS_IT_IS,
        };
        let attributes = [
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSA, b_transposed),
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, a_transposed),
        ];
        // SAFETY: the description is made before it is changed, and an operation is passed with its size.
        unsafe {
            ask!(
                self.library,
                cublasLtMatmulDescCreate(
                    &mut self.operation,
                    cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    cudaDataType_t::CUDA_R_32F,
                )
            )?;
            for (attribute, is_transposed) in attributes {
                let value = operation(is_transposed);
                ask!(
                    self.library,
                    cublasLtMatmulDescSetAttribute(
                        self.operation,
                        attribute,
                        (&raw const value).cast(),
                        size_of_val(&value),
                    )
                )?;
            }
        }
        Ok(())
    }

    /// Asks the heuristic.
    fn choose(&self, kind: &Kind) -> Result<cublasLtMatmulAlgo_t, Error> {
        let preference = Preference::new(&self.library, kind)?;
        let [a, b, c] = self.layouts;
        let mut found = 0;
        let mut result = std::mem::MaybeUninit::<cublasLtMatmulHeuristicResult_t>::uninit();
        // SAFETY: all descriptions are alive, and there is place for the one result that is asked for.
        unsafe {
            ask!(
                self.library,
                cublasLtMatmulAlgoGetHeuristic(
                    self.library.handle,
                    self.operation,
                    a,
                    b,
                    c,
                    c,
                    preference.handle,
                    1,
                    result.as_mut_ptr(),
                    &mut found,
                )
            )?;
        }
        if found == 0 {
            return Err(Error::Call {
                call: "cublasLtMatmulAlgoGetHeuristic",
                reason: "no algorithm does this product".to_owned(),
            });
        }
        // SAFETY: a result was found, so its algorithm was written.
        Ok(unsafe { (&raw const (*result.as_ptr()).algo).read() })
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: what was made is destroyed once and not used again; failures leave nothing to do.
        unsafe {
            for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
                let _ = ask!(self.library, cublasLtMatrixLayoutDestroy(layout));
            }
            if !self.operation.is_null() {
                let _ = ask!(self.library, cublasLtMatmulDescDestroy(self.operation));
            }
        }
    }
}

/// What an algorithm may rely on, destroyed when it is dropped.
struct Preference<'a> {
    library: &'a Blas,
    handle: cublasLtMatmulPreference_t,
}

impl<'a> Preference<'a> {
    fn new(library: &'a Blas, kind: &Kind) -> Result<Self, Error> {
        use cublasLtMatmulPreferenceAttributes_t as Attribute;
        use sys::cublasLtReductionScheme_t as Reduction;
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is a place for one.
        unsafe { ask!(library, cublasLtMatmulPreferenceCreate(&mut handle))? };
        let preference = Self { library, handle };
        preference.set(
            Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            WORKSPACE,
        )?;
        if !kind.is_f32 {
            let in_f32 = Reduction::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
            preference.set(
                Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                in_f32,
            )?;
        }
        // What the library calls A is our right operand.
        let [a, b, c] = kind.alignments;
        let alignments = [
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c),
        ];
        for (attribute, bytes) in alignments {
            preference.set(attribute, bytes)?;
        }
        Ok(preference)
    }

    fn set<T: Copy>(
        &self,
        attribute: cublasLtMatmulPreferenceAttributes_t,
        value: T,
    ) -> Result<(), Error> {
        // SAFETY: the value is passed with its size, which the library compares with the attribute's.
        unsafe {
            ask!(
                self.library,
                cublasLtMatmulPreferenceSetAttribute(
                    self.handle,
                    attribute,
                    (&raw const value).cast(),
                    size_of::<T>(),
                )
            )
        }
    }
}

impl Drop for Preference<'_> {
    fn drop(&mut self) {
        // SAFETY: it was created and is not used again; a failure leaves nothing to do.
        let _ = unsafe { ask!(self.library, cublasLtMatmulPreferenceDestroy(self.handle)) };
    }
}
