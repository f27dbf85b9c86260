//! Trains a [`cwm_model::Model`] on rows of tokens, on the CPU or a GPU, so that the work survives.
//!
//! ```text
//! Dataset --Batches--> examples --threads--> gradients --sum, clip--> AdamW / Muon --> weights
//!                                                                             |
//!                                               checkpoints, train.jsonl <----+
//! ```
//!
//! - [`stage`] reads what a stage of training is made of; [`sources`] reads its data, [`packed`] puts them
//!   into rows, and a [`Mixture`] is all of them.
//! - [`Dataset`] gives [`Example`]s: tokens, what each may see, and what is to be predicted.
//! - [`TrainConfig`] says how long and how; [`Trainer`] does it, in a folder of its own.
//! - [`Observer`] follows the run (a progress bar) and may end it (Ctrl-C).
//! - [`watch`] follows it from another process, by its log.
//!
//! Invariants
//! - A run is a function of weights, configuration and data, bit for bit, on any number of threads
//!   and ranks, however often it is interrupted. Data parallel by example: a batch is cut into
//!   lanes, whose number is part of the configuration, each lane has its own gradient vector, and
//!   the vectors are added in a fixed order. On a GPU a rank has one lane, and bits are promised for
//!   one kind of device and one number of ranks.
//! - A checkpoint appears whole or not at all, and the newest whole one is never removed.
//! - The loop knows nothing of programs, traces or tokenizers: whoever implements [`Dataset`] does.

mod batches;
mod changes;
mod checkpoint;
pub mod collective;
mod config;
mod dataset;
mod error;
mod hex;
mod home;
mod lanes;
mod learner;
mod log;
mod meet;
mod memory;
mod mixture;
mod muon;
mod on_gpu;
mod optimizer;
pub mod packed;
mod parallel;
mod plan;
mod ranks;
mod report;
mod saver;
pub mod scale;
pub mod sources;
mod spikes;
pub mod stage;
mod tally;
mod tokenizer;
mod trainer;
pub mod watch;

pub use batches::permutation;
pub use changes::Changes;
pub use checkpoint::{checkpoint_at, load_ema, newest_checkpoint};
pub use config::{Optimizer, OptimizerKind, Precision, Schedule, TrainConfig};
pub use dataset::{Dataset, Example, Examples, Part};
pub use error::Error;
pub use learner::evaluate;
pub use log::{LOG_FILE, history};
pub use mixture::{MOST_SOURCES, Mixture};
pub use report::{Evaluation, Observer, Score, Scores, Skip, StepReport, Summary};
pub use tokenizer::{TOKENIZER_FILE, Tokenizer, TokenizerError, TokenizerKind};
pub use trainer::Trainer;
