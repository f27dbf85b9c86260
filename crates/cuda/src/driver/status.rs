//! What the driver's error codes mean to whoever asked.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::{self, CUresult};

use crate::error::Error;

/// Calls a function of the driver by its name, and makes an [`Error`] of what it answers.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::driver::status::check(
            stringify!($function),
            cudarc::driver::sys::$function($($argument),*),
        )
    };
}
pub(super) use call;

/// An error that names the call, unless it succeeded.
pub(super) fn check(call: &'static str, result: CUresult) -> Result<(), Error> {
    match result {
        CUresult::CUDA_SUCCESS => Ok(()),
        lost if is_lost(lost) => Err(Error::Lost {
            call,
            reason: text(lost),
        }),
        other => Err(Error::Call {
            call,
            reason: text(other),
        }),
    }
}

/// Whether every later call will fail too: the context is spoiled or the device gone.
fn is_lost(result: CUresult) -> bool {
    matches!(
        result,
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_CONTAINED
            | CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_TENSOR_MEMORY_LEAK
            | CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED
            | CUresult::CUDA_ERROR_EXTERNAL_DEVICE
            | CUresult::CUDA_ERROR_UNKNOWN
    )
}

/// The error's name, and what the driver says of it.
pub(super) fn text(result: CUresult) -> String {
    let name = format!("{result:?}");
    // SAFETY: looks for the library and runs nothing of it but its initialisation, which has no
    // preconditions.
    let is_present = unsafe { sys::is_culib_present() };
    // The text is the driver's, and asking cudarc for it without a driver would panic.
    let error = DriverError(result);
    match is_present.then(|| error.error_string()) {
        Some(Ok(said)) => format!("{name}: {}", said.to_string_lossy()),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_becomes_the_error_that_says_what_to_do() {
        assert!(check("cuCtxSetCurrent", CUresult::CUDA_SUCCESS).is_ok());
        for lost in [
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
            CUresult::CUDA_ERROR_LAUNCH_FAILED,
            CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
            CUresult::CUDA_ERROR_UNKNOWN,
        ] {
            let error = check("cuStreamSynchronize", lost).unwrap_err();
            assert!(matches!(error, Error::Lost { .. }), "{error}");
        }
        for other in [
            CUresult::CUDA_ERROR_INVALID_VALUE,
            CUresult::CUDA_ERROR_INVALID_IMAGE,
            CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
        ] {
            let error = check("cuLaunchKernel", other).unwrap_err();
            assert!(matches!(error, Error::Call { .. }), "{error}");
        }
    }

    #[test]
    fn the_code_is_named_with_or_without_a_driver() {
        let error = check("cuLaunchKernel", CUresult::CUDA_ERROR_INVALID_VALUE).unwrap_err();
        let expected = "cuLaunchKernel failed: CUDA_ERROR_INVALID_VALUE";
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
