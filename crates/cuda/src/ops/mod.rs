//! What kernels compute, as safe functions over [`Buffer`](crate::Buffer)s.
//!
//! Every function checks lengths and devices before it launches and panics where they disagree, as slice
//! indexing does: these are mistakes of a programmer. Numbers in device memory that decide what is read
//! (positions, offsets, targets) cannot be checked before; kernels check them and answer with NaN. Results
//! have the same bits from run to run. Definitions are those of [`cwm_kernels::reference`].

mod adamw;
mod attention;
mod convert;
mod cross_entropy;
mod launch;
mod linear;
mod muon;
mod norm;
mod paged;
mod reduce;
mod rope;
mod rows;
mod swiglu;

pub(crate) use adamw::ADAMW;
pub use adamw::{AdamWPart, Ema, adamw};
pub(crate) use attention::ATTENTION;
pub use attention::{RowSums, Visible, attention, attention_backward, check_shape, qkv_width};
pub(crate) use convert::CONVERT;
pub use convert::to_bf16;
pub(crate) use cross_entropy::CROSS_ENTROPY;
pub use cross_entropy::cross_entropy;
pub(crate) use linear::LINEAR;
pub use linear::linear;
pub(crate) use muon::MUON;
pub use muon::{MuonPart, MuonScratch, MuonSettings, muon};
pub(crate) use norm::NORM;
pub use norm::{norm_partial_len, rms_norm, rms_norm_backward};
pub(crate) use paged::PAGED;
pub use paged::{PAGE, PagedPass, Sequence, page_len, paged_attention, store_rows};
pub(crate) use reduce::REDUCE;
pub use reduce::{SUM_PARTIAL_LEN, sum_of_squares};
pub(crate) use rope::ROPE;
pub use rope::rope;
pub(crate) use rows::ROWS;
pub use rows::{NO_SOURCE, SegmentLists, Segments, gather_sum, gather_sum_rounded, segment_sum};
pub(crate) use swiglu::SWIGLU;
pub use swiglu::{swiglu, swiglu_backward};
