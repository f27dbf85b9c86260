//! The transformer on one NVIDIA GPU: passes, gradients and updates through kernels of our own.
//!
//! Nothing of CUDA is needed to build: driver, compiler (NVRTC) and matrix products (cuBLASLt) are looked
//! for when a device is opened, and an [`Error`] says what is missing. Kernels are `.cu` files in
//! `kernels/`, compiled for the card at hand at first use and kept.
//!
//! [`Device`] is all that is asked of a GPU. The emulator (feature `emulator`) is one too: it runs the same
//! sources on the processor, thread by thread, so that tests compare every kernel and whole training steps
//! with [`cwm_kernels::reference`] and [`cwm_model`] on any machine.
//!
//! [`Network`] is a model in training, [`Inference`] one that computes for sessions of `cwm-engine`.
//!
//! GPUs of several ranks add up gradients among themselves where their devices can ([`ranks`]); the real ones
//! through NCCL, which was tested against a stand-in and never on several GPUs.
//!
//! Promises: results have the same bits from run to run on the same kind of GPU and the same version of
//! its libraries; no sum is made in an order that depends on timing, apart from sums over several GPUs, whose
//! order is NCCL's affair. In inference they depend on a token's own past alone. They are not the CPU's
//! bits: operands of products are rounded to bf16, as `precision = "bf16"` allows the CPU to do.

pub mod check;
mod device;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "emulator")]
mod emulator;
mod error;
mod inference;
pub mod kernel;
mod network;
pub mod ops;
mod pass;
pub mod ranks;
mod row;
mod tiles;
mod workspace;

pub use device::{
    Address, Argument, Buffer, Device, Element, Gpu, Launch, Number, Operand, Product,
};
#[cfg(feature = "driver")]
pub use driver::Cuda;
#[cfg(feature = "emulator")]
pub use emulator::Emulator;
pub use error::Error;
pub use inference::Inference;
pub use kernel::{Kernel, Source};
pub use network::{Network, Target};
pub use row::PackedRow;
pub use tiles::{TILE, TileList, Tiles};
pub use workspace::{Keep, Workspace, bytes_per_token};
