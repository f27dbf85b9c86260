//! Inference: one model, any number of sessions, one step called *extend*.
//!
//! An [`Engine`] is a model set up for decoding; it never changes and is shared freely between
//! threads. A [`Session`] is one sequence of tokens under it. [`Session::extend`] appends tokens
//! and returns logits where asked ([`Want`]); prompts, forced tokens, drafts, scoring and plain
//! decoding are all that one call. Going back ([`Session::rollback`]) and trying alternatives
//! ([`Session::fork`]) cost pages of 64 positions, never a recomputed token. [`greedy`] and
//! [`Sampler`] turn logits into tokens under a [`Mask`] of what is legal.
//!
//! # What holds of the numbers
//! - Logits equal those of [`cwm_model::Model::logits`] within 1e-4 with f32 weights.
//! - Under [`Numerics::Invariant`] (the default) they depend on the tokens alone, bit for bit, on
//!   one machine with one set of CPU kernels: not on chunking, rollbacks, forks or threads.
//! - Under [`Numerics::Fast`] chunks of four tokens or more are computed by the blocked matrix
//!   product: equal up to rounding only.
//! - [`Weights::Int8`] is an approximation of the model, but is itself chunking-invariant.
//!
//! ```no_run
//! use cwm_engine::{Engine, Mask, Options, Session, Want, greedy};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = cwm_model::Model::load("models/cwm-nano".as_ref())?;
//! let engine = Engine::new(model, Options::default())?;
//! let mut session = Session::new(&engine);
//! let mut logits = session.extend(&engine, &[1, 2, 3], Want::Last)?;
//! while let Some(row) = logits.last().filter(|_| session.len() < 100) {
//!     let choice = greedy(row, Mask::all())?;
//!     logits = session.extend(&engine, &[choice.id], Want::Last)?;
//! }
//! # Ok(())
//! # }
//! ```

mod constraint;
mod decoder;
mod draft;
mod engine;
mod error;
pub mod frames;
mod generate;
mod kv;
pub mod live;
mod sample;
mod session;
mod weights;

pub use constraint::{Constraint, Drafter};
pub use decoder::Want;
pub use draft::{Found, NgramDrafter, NgramIndex, PassCosts};
pub use engine::{Engine, Options};
pub use error::{Error, Result};
pub use generate::{Generated, GeneratedToken, GenerationEnd, Guides, Limits, PassUsage, generate};
pub use kv::PAGE;
pub use sample::{
    Choice, Mask, Sampler, SamplerOptions, TokenSet, greedy, log_softmax, log_sum_exp, logprob,
};
pub use session::{Logits, Session};
pub use weights::{Numerics, Weights};
