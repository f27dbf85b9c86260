//! What can go wrong with a GPU, and what to do about it.

use std::path::PathBuf;

/// Failures of opening or using a GPU. The CPU remains: whoever asked for a GPU may go on without.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The driver's library is not there.
    #[error("no NVIDIA driver was found ({reason}); install the driver, or use --device cpu")]
    NoDriver {
        /// What the loader said.
        reason: String,
    },
    /// A library that the driver does not bring is not there.
    #[error(
        "{library} was not found ({reason}); `pip install {package}` brings it, and its folder must be in \
         LD_LIBRARY_PATH or in the site-packages of `python3`"
    )]
    NoLibrary {
        /// Such as `libnvrtc`.
        library: &'static str,
        /// The package that holds it.
        package: &'static str,
        /// What the loader said.
        reason: String,
    },
    /// The driver cannot run what this build asks for.
    #[error(
        "the NVIDIA driver supports CUDA {found}, and {wanted} is needed; update the driver, or use \
         --device cpu"
    )]
    OldDriver {
        /// As `13.0`.
        found: String,
        /// As `13.0`.
        wanted: &'static str,
    },
    /// No such GPU.
    #[error("there is no GPU {ordinal}: the driver sees {count}; use --device cpu")]
    NoGpu {
        /// The one asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The kernels use instructions that the GPU does not have.
    #[error(
        "{name} has compute capability {major}.{minor}, and 8.0 or later is needed (bf16 matrix \
         instructions); use --device cpu"
    )]
    Unsupported {
        /// The GPU's name.
        name: String,
        /// Of its compute capability.
        major: u32,
        /// Of its compute capability.
        minor: u32,
    },
    /// Device memory is full.
    #[error(
        "{wanted} bytes do not fit in device memory: {free} of {total} are free; use fewer tokens a pass, \
         recompute = true, or a smaller model"
    )]
    OutOfMemory {
        /// Bytes of the request that failed.
        wanted: usize,
        /// Bytes free then.
        free: usize,
        /// Bytes of the device.
        total: usize,
    },
    /// A kernel was not accepted by the compiler.
    #[error("kernel source {source_name} does not compile for {architecture}:\n{log}")]
    Compile {
        /// The source.
        source_name: &'static str,
        /// Such as `sm_90`.
        architecture: String,
        /// What the compiler said.
        log: String,
    },
    /// A compiled kernel cannot be kept for the next start.
    #[error(
        "cannot keep compiled kernels in {path}: {source}; set XDG_CACHE_HOME to a folder that can be written"
    )]
    Cache {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A call of the driver or of a library failed.
    #[error("{call} failed: {reason}")]
    Call {
        /// What was called.
        call: &'static str,
        /// The error's name and text.
        reason: String,
    },
    /// The GPU is gone, or a kernel spoiled its context.
    #[error(
        "the GPU was lost in {call}: {reason}; the last checkpoint is whole: start again with --resume, and \
         look at `nvidia-smi` or the kernel log if it happens again"
    )]
    Lost {
        /// What was called.
        call: &'static str,
        /// The error's name and text.
        reason: String,
    },
    /// The device has no way to other devices.
    #[error("{name} cannot exchange numbers with other devices")]
    Alone {
        /// The device's name.
        name: String,
    },
    /// The model has a shape that no kernel was written for.
    #[error("{what} = {found} does not run on a GPU: {wanted}; use --device cpu")]
    Shape {
        /// Such as `head_dim`.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What is possible.
        wanted: &'static str,
    },
    /// A row that the model refuses.
    #[error(transparent)]
    Model(#[from] cwm_model::Error),
    /// An engine that refuses a model or its options.
    #[error(transparent)]
    Engine(#[from] cwm_engine::Error),
    /// The emulator could not be built or loaded.
    #[error("the emulated device cannot be made: {reason}")]
    Emulator {
        /// What failed.
        reason: String,
    },
}
