//! cuBLASLt as it is loaded: its functions, its handle and its errors.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use cudarc::cublaslt::sys::{
    self, cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t, cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t, cublasLtMatrixLayout_t, cudaDataType_t,
};

use crate::driver::context::Context;
use crate::driver::library::{CUBLASLT, functions, said};
use crate::error::Error;

/// `cublasStatus_t`; 0 is success.
type Status = u32;

functions! {
    /// Signatures as in `cublasLt.h`.
    struct Functions {
        cublasLtCreate(*mut cublasLtHandle_t) -> Status;
        cublasLtDestroy(cublasLtHandle_t) -> Status;
        cublasLtGetStatusName(Status) -> *const c_char;
        cublasLtMatmulDescCreate(
            *mut cublasLtMatmulDesc_t,
            cublasComputeType_t,
            cudaDataType_t
        ) -> Status;
        cublasLtMatmulDescSetAttribute(
            cublasLtMatmulDesc_t,
            cublasLtMatmulDescAttributes_t,
            *const c_void,
            usize
        ) -> Status;
        cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t) -> Status;
        cublasLtMatrixLayoutCreate(
            *mut cublasLtMatrixLayout_t,
            cudaDataType_t,
            u64,
            u64,
            i64
        ) -> Status;
        cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t) -> Status;
        cublasLtMatmulPreferenceCreate(*mut cublasLtMatmulPreference_t) -> Status;
        cublasLtMatmulPreferenceSetAttribute(
            cublasLtMatmulPreference_t,
            cublasLtMatmulPreferenceAttributes_t,
            *const c_void,
            usize
        ) -> Status;
        cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t) -> Status;
        cublasLtMatmulAlgoGetHeuristic(
            cublasLtHandle_t,
            cublasLtMatmulDesc_t,
            cublasLtMatrixLayout_t,
            cublasLtMatrixLayout_t,
            cublasLtMatrixLayout_t,
            cublasLtMatrixLayout_t,
            cublasLtMatmulPreference_t,
            c_int,
            *mut cublasLtMatmulHeuristicResult_t,
            *mut c_int
        ) -> Status;
        cublasLtMatmul(
            cublasLtHandle_t,
            cublasLtMatmulDesc_t,
            *const c_void,
            *const c_void,
            cublasLtMatrixLayout_t,
            *const c_void,
            cublasLtMatrixLayout_t,
            *const c_void,
            *const c_void,
            cublasLtMatrixLayout_t,
            *mut c_void,
            cublasLtMatrixLayout_t,
            *const cublasLtMatmulAlgo_t,
            *mut c_void,
            usize,
            sys::cudaStream_t
        ) -> Status;
    }
}

/// Calls a function of the library, and makes an [`Error`] of what it answers.
macro_rules! ask {
    ($library:expr, $function:ident($($argument:expr),* $(,)?)) => {
        $library.check(stringify!($function), ($library.functions.$function)($($argument),*))
    };
}
pub(super) use ask;

/// The library and its handle, destroyed when it is dropped.
#[derive(Debug)]
pub(super) struct Blas {
    pub(super) functions: Functions,
    pub(super) handle: cublasLtHandle_t,
}

// SAFETY: the library locks what its threads share, and its handle may be used from any thread.
unsafe impl Send for Blas {}
// SAFETY: as above.
unsafe impl Sync for Blas {}

impl Blas {
    /// The newest that a driver for this major version of CUDA serves.
    pub(super) fn new(context: &Context, driver: u32) -> Result<Self, Error> {
        let library = CUBLASLT.load(driver)?;
        // SAFETY: the types are those of `cublasLt.h`, which are the same in all versions looked for.
        let functions = unsafe { Functions::of(library) };
        let functions = functions.map_err(|error| CUBLASLT.missing(driver, said(&error)))?;
        let mut blas = Self {
            functions,
            handle: ptr::null_mut(),
        };
        context.enter()?;
        let mut handle = ptr::null_mut();
        // SAFETY: a context is current.
        unsafe { ask!(blas, cublasLtCreate(&mut handle))? };
        blas.handle = handle;
        Ok(blas)
    }

    /// An error that names the call, unless it succeeded.
    pub(super) fn check(&self, call: &'static str, status: Status) -> Result<(), Error> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: any number is answered with a static string.
        let name = unsafe { CStr::from_ptr((self.functions.cublasLtGetStatusName)(status)) };
        Err(Error::Call {
            call,
            reason: name.to_string_lossy().into_owned(),
        })
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: it was created and is not used again; a failure leaves nothing to do.
            let _ = unsafe { ask!(self, cublasLtDestroy(self.handle)) };
        }
    }
}
