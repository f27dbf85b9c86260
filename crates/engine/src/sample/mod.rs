//! From logits to a token: masks, greedy choice, seeded sampling, and log-probabilities.
//!
//! Everything here is a pure function of its arguments (and of the seed), single-threaded, summing
//! in f64 in the order of the ids: the same logits give the same choice and the same probabilities
//! on every machine. Ties go to the lowest id. Minus infinity is a legal logit (probability zero);
//! NaN and plus infinity are refused.

mod choice;
mod mask;
mod sampler;

pub use choice::{Choice, TokenLogprob, greedy, log_softmax, log_sum_exp, logprob, top_logprobs};
pub use mask::{Mask, TokenSet};
pub use sampler::{Sampler, SamplerOptions};
