//! The transformer of the CWM family: configs, weights on disk, and the
//! hand-written forward and backward passes.
//!
//! Promises: a loaded model is complete and checked; results agree with
//! Hugging Face's `CwmForCausalLM` in f32; every pass is single-threaded and
//! deterministic, and allocates nothing once its [`Workspace`] has seen the
//! longest row. Knows nothing of sampling, data or training loops.
//!
//! ```
//! use cwm_model::{Config, LayerType, Model, Rope};
//!
//! let config = Config {
//!     vocab_size: 32,
//!     hidden_size: 16,
//!     intermediate_size: 24,
//!     n_layers: 2,
//!     n_heads: 2,
//!     n_kv_heads: 1,
//!     head_dim: 8,
//!     layer_types: vec![LayerType::Full, LayerType::Sliding],
//!     sliding_window: 4,
//!     rms_norm_eps: 1e-5,
//!     rope: Rope { theta: 10_000.0, scaling: None },
//!     max_position_embeddings: 64,
//!     n_previous_embeddings: 0,
//!     run_embedding: None,
//!     tie_word_embeddings: false,
//!     bos_token_id: Some(0),
//!     eos_token_id: vec![1],
//! };
//! config.validate()?;
//! let model = Model::init(config, 7);
//! assert_eq!(model.logits(&[0, 5, 9])?.len(), 3 * 32);
//! # Ok::<(), cwm_model::Error>(())
//! ```

mod config;
mod error;
mod files;
mod init;
mod layout;
mod linear;
mod model;
mod pass;
mod presets;
mod row;
mod run_embedding;
mod tokens;
mod weights;
mod workspace;

pub use config::{CONFIG_FILE, Config, LayerType, Llama3Scaling, Rope};
pub use cwm_kernels::Span;
pub use error::{Error, RowError};
pub use layout::{LayerTensors, Layout, TensorSpec};
pub use model::Model;
pub use row::{Outcome, Row, RowLoss, Target, causal_spans, packed_spans, window_spans};
pub use run_embedding::RunEmbedding;
pub use tokens::Lookups;
pub use weights::{Checkpoint, Dtype, INDEX_FILE, KindLoss, Tensor, WEIGHTS_FILE};
pub use workspace::Workspace;
