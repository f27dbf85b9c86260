//! Maths on slices: the tensor operations of a transformer, forward and backward, on the CPU.
//!
//! Every operation on slices exists twice. [`mod@reference`] holds the readable scalar definition; the
//! functions here at the root have the same signatures and pick the fastest path that the
//! running processor supports (see [`cpu`]). Tests compare the two on odd shapes.
//!
//! Conventions
//! - All tensors are row-major f32 slices, and `[T, d]` means `T` rows of `d` elements.
//! - Functions are single-threaded; callers split rows or sequences between threads.
//! - Nothing is allocated per call: temporaries live in thread-local buffers or in the
//!   [`Scratch`] that the caller passes and reuses.
//! - Shapes that disagree panic with both shapes in the message, as slice indexing does.
//! - An output that is documented as overwritten is never read, so it may hold anything.
//! - Row `i` of a product or a normalisation does not depend on how many other rows are in the
//!   call, so that a batched request equals its solo run bit for bit. The one exception is
//!   [`gemm`] where [`Precision::Bf16`] is allowed: products that are large enough run in it, so
//!   the size of the call decides what the inputs are rounded to, and nothing else about a row.
//!   In [`attention`] the width of a head decides, never the number of rows.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod buffer;
mod caution;
mod checks;
mod cpu;
mod gemm;
mod linear;
mod matrix;
mod ops;
mod paged;
mod pool;
pub mod reference;
mod rows;
mod simd;
mod swiglu;
mod types;

pub use buffer::Scratch;
pub use cpu::{Cpu, Level, cpu};
pub use gemm::gemm;
pub use linear::{Linear, LinearScratch, PACKED_VERSION, WeightFormat, large_pages};
pub use matrix::{MatMut, MatRef, Store};
pub use ops::{
    INT8_GROUP, adamw, add, attention, attention_backward, cross_entropy, dequantize_int8, dot,
    quantize_int8, rms_norm, rms_norm_backward, rope, scale, softmax, sum_of_squares, swiglu,
    swiglu_backward,
};
pub use paged::{KvBuffer, KvFormat, KvPlane, PAGE, PagedQueries, attention_paged, plane_len};
pub use pool::Pool;
pub use reference::AdamWFactors;
pub use simd::inference_unit;
pub use types::{AdamW, AttentionShape, CrossEntropy, Direction, Precision, RopeTable, Span};
