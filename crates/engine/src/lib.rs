//! Inference: one model, any number of sessions, one step called *extend*.
//!
//! An [`Engine`] is a model set up for decoding; it never changes and is shared freely between
//! threads. [`Engine::open_cached`] keeps its packed weights in a file, so that the next start only
//! reads them. A [`Session`] is one sequence of tokens under it. [`Session::extend`] appends tokens
//! and returns logits where asked ([`Want`]); prompts, forced tokens, drafts, scoring and plain
//! decoding are all that one call. Going back ([`Session::rollback`]) and trying alternatives
//! ([`Session::fork`]) cost pages of 64 positions, never a recomputed token. To save memory, local
//! layers may forget what is far behind ([`Options::local_slack`]); going back further than that is
//! [`Session::rewind`], which recomputes. [`greedy`] and [`Sampler`] turn logits into tokens under
//! a [`Mask`] of what is legal. A [`SessionStore`] keeps named sessions and finished ones under a
//! memory budget.
//!
//! A [`Request`] asks for a whole generation: stop strings, log-probabilities, a [`Constraint`], a
//! [`Drafter`]. A [`Scheduler`] serves many of them at once, in steps of bounded size; [`Server`]
//! gives it a thread. What a request gets does not depend on what else is served.
//!
//! Passes are computed on this processor, or by a [`Backend`] ([`Engine::with_backend`]): all of the
//! above is the same there, and threads that extend sessions at the same time share its passes.
//!
//! # What holds of the numbers
//! - They depend on a session's tokens alone, bit for bit, on one machine with one set of CPU
//!   kernels: not on chunking, rollbacks, forks, threads, or on other sessions in the same
//!   [`Engine::extend_batch`]. It holds for every format of weights and of keys and values, and of a
//!   back end if it keeps the promise of [`Backend`].
//! - With f32 throughout, logits equal those of [`cwm_model::Model::logits`] within 1e-4.
//! - Other formats approximate the model: weights are rounded once, and the inputs of products as
//!   [`WeightFormat`] says.
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

mod backend;
mod constraint;
mod decoder;
mod draft;
mod engine;
mod error;
pub mod frames;
mod generate;
mod kv;
pub mod live;
mod packed;
mod radix;
mod request;
mod sample;
mod scheduler;
mod session;
mod store;
mod weights;

pub use backend::{Backend, BackendError, PageGroup, PageHandle, PageRun, PassPart};
pub use constraint::{Constraint, Drafter};
pub use cwm_kernels::{KvFormat, WeightFormat};
pub use decoder::Want;
pub use draft::{Found, NgramDrafter, NgramIndex, PassCosts};
pub use engine::{Engine, Options};
pub use error::{Error, Result};
pub use generate::{Generated, GeneratedToken, GenerationEnd, Guides, Limits, PassUsage, generate};
pub use kv::{KvCost, PAGE};
pub use packed::CacheUse;
pub use request::{
    Event, Finish, Finished, Keep, Released, Request, Scored, Source, Stop, TextStream, Token,
    TokenText, Usage,
};
pub use sample::{
    Choice, Mask, Sampler, SamplerOptions, TokenLogprob, TokenSet, greedy, log_softmax,
    log_sum_exp, logprob, top_logprobs,
};
pub use scheduler::{Handle, RequestId, Scheduler, SchedulerOptions, Server, Ticket};
pub use session::{BatchItem, Logits, Session};
pub use store::{Lent, Opened, SessionStore, StoreOptions};
