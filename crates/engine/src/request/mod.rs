//! Requests: what to generate from which tokens, and how a generation ended.

mod text;

use std::fmt;
use std::time::Duration;

pub use text::{Released, TextStream, TokenText};

use crate::constraint::{Constraint, Drafter};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::sample::{Sampler, SamplerOptions, TokenLogprob};
use crate::session::Session;
use crate::{PAGE, Want};

/// One generation that is asked for. [`Request::new`] asks for the likeliest tokens and nothing
/// else; set the other fields on top of it.
pub struct Request {
    /// What to go on from: at least one token.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most; 0 only reads the prompt.
    pub max_tokens: usize,
    /// How tokens are chosen. Temperature 0 is greedy.
    pub sampling: SamplerOptions,
    /// Numbers to add to the logits of single tokens before a choice, each token at most once.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that end the generation. The token is still reported, but has no text.
    pub stop_ids: Vec<u32>,
    /// Strings that end the generation; none of them empty. Neither the string nor what follows it
    /// is part of the text.
    pub stop_strings: Vec<String>,
    /// Report the log-probability of each generated token, and this many of the likeliest tokens
    /// in its place.
    pub logprobs: Option<usize>,
    /// The same for the tokens of the prompt, from the second on.
    pub prompt_logprobs: Option<usize>,
    /// On whose behalf: those who ask share the engine evenly, however much each of them asks for.
    pub client: u64,
    /// Which requests are admitted first: those with the higher number. Once they run, all are
    /// equal.
    pub priority: i32,
    /// When the answer is of no use any more, by the clock that is passed to
    /// [`Scheduler::step`](crate::Scheduler::step).
    pub deadline: Option<Duration>,
    /// What may be generated.
    pub constraint: Option<Box<dyn Constraint + Send>>,
    /// Guesses that are verified in one pass. They change how soon tokens come, never which.
    pub drafter: Option<Box<dyn Drafter + Send>>,
    /// A session to start from: what it has in common with the prompt is not computed again,
    /// except where `prompt_logprobs` needs it. Until the request is admitted, its pages are
    /// nobody's but the caller's.
    pub session: Option<Session>,
    /// What becomes of the session in the end.
    pub keep: Keep,
}

/// What becomes of the session of a request that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// It is dropped, and its pages with it.
    #[default]
    Nothing,
    /// It comes back with [`Finished`], unless the request was cancelled, too late or failed.
    Session,
}

impl Request {
    /// Asks for the likeliest `max_tokens` tokens after `prompt`.
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            sampling: SamplerOptions::GREEDY,
            logit_bias: Vec::new(),
            stop_ids: Vec::new(),
            stop_strings: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
            client: 0,
            priority: 0,
            deadline: None,
            constraint: None,
            drafter: None,
            session: None,
            keep: Keep::Nothing,
        }
    }

    /// Checks everything that can be wrong with a request under `engine`, so that it runs to its
    /// end once it has begun, and makes its sampler.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::SamplerParameter`], which name the field and what it may be;
    /// [`Error::ContextFull`] for a prompt that is too long, [`Error::WrongEngine`] for a session
    /// of another engine.
    pub fn check(&self, engine: &Engine) -> Result<Sampler> {
        let vocab_size = engine.config().vocab_size;
        if self.prompt.is_empty() {
            return wrong("prompt", "is empty; begin with one token at least");
        }
        let max_positions = engine.max_positions();
        if self.prompt.len() > max_positions {
            return Err(Error::ContextFull {
                len: 0,
                added: self.prompt.len(),
                max_positions,
            });
        }
        check_ids("prompt", &self.prompt, vocab_size)?;
        check_ids("stop_ids", &self.stop_ids, vocab_size)?;
        if let Some(index) = self.stop_strings.iter().position(String::is_empty) {
            let problem = format!("has an empty string at index {index}; it would end every text");
            return wrong("stop_strings", problem);
        }
        check_count("logprobs", self.logprobs, vocab_size)?;
        check_count("prompt_logprobs", self.prompt_logprobs, vocab_size)?;
        if let Some(session) = &self.session {
            // No tokens: nothing but the check of whose session it is.
            session.fork().extend(engine, &[], Want::None)?;
        }
        Sampler::new(self.sampling)?.with_bias(&self.logit_bias, vocab_size)
    }

    /// Tokens at which the generation ends at the latest, the prompt's among them.
    pub(crate) fn limit(&self, engine: &Engine) -> usize {
        let limit = self.prompt.len().saturating_add(self.max_tokens);
        limit.min(engine.max_positions())
    }

    /// Pages that its session can grow to.
    pub(crate) fn pages(&self, engine: &Engine) -> usize {
        self.limit(engine).div_ceil(PAGE)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("prompt", &self.prompt)
            .field("max_tokens", &self.max_tokens)
            .field("sampling", &self.sampling)
            .field("logit_bias", &self.logit_bias)
            .field("stop_ids", &self.stop_ids)
            .field("stop_strings", &self.stop_strings)
            .field("logprobs", &self.logprobs)
            .field("prompt_logprobs", &self.prompt_logprobs)
            .field("client", &self.client)
            .field("priority", &self.priority)
            .field("deadline", &self.deadline)
            .field("has_constraint", &self.constraint.is_some())
            .field("has_drafter", &self.drafter.is_some())
            .field("session", &self.session.as_ref().map(Session::len))
            .field("keep", &self.keep)
            .finish()
    }
}

fn wrong<T>(field: &'static str, problem: impl Into<String>) -> Result<T> {
    let problem = problem.into();
    Err(Error::Request { field, problem })
}

/// Refuses ids that the model does not know, by the name of the field they are in.
pub(crate) fn check_ids(field: &'static str, ids: &[u32], vocab_size: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocab_size) {
        None => Ok(()),
        Some(index) => {
            let id = ids[index];
            let problem = format!("has token {id} at index {index}; ids are below {vocab_size}");
            wrong(field, problem)
        }
    }
}

fn check_count(field: &'static str, count: Option<usize>, vocab_size: usize) -> Result<()> {
    match count {
        Some(n) if n > vocab_size => {
            let problem =
                format!("is {n}; it must be 0 to {vocab_size}, the size of the vocabulary");
            wrong(field, problem)
        }
        _ => Ok(()),
    }
}

/// What happens to a request, in this order: `Rejected`, or else `Prompt` where its scores were
/// asked for, any number of `Token`, and `Finished`.
#[derive(Clone, Debug)]
pub enum Event {
    /// It will not be served. Only who asks through a [`Handle`](crate::Handle) learns it this way.
    Rejected(Error),
    /// The prompt was read; its tokens from the second on came out so.
    Prompt(Vec<Scored>),
    /// A token was generated.
    Token(Token),
    /// It has ended; nothing follows.
    Finished(Finished),
}

/// How likely a token was: natural logarithms, over the whole vocabulary, at temperature 1, without
/// bias or mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The token and its log-probability.
    pub token: TokenLogprob,
    /// As many of the likeliest tokens in its place as were asked for, likeliest first.
    pub top: Vec<TokenLogprob>,
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The token.
    pub id: u32,
    /// How many were generated before it.
    pub index: usize,
    /// Who decided on it.
    pub source: Source,
    /// How likely it was, where that was asked for.
    pub score: Option<Scored>,
    /// Text that is certain since this token, which may have begun with earlier ones.
    pub text: String,
}

/// Who decided on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The model and the sampler.
    Sampled,
    /// The constraint; the model was not asked.
    Forced,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Why it ended.
    pub finish: Finish,
    /// Text that had been held back because it might have become a stop string.
    pub text: String,
    /// What it took.
    pub usage: Usage,
    /// The session, where it was to be kept: it holds a beginning of prompt and generated tokens,
    /// and lacks at most those at the end that no pass had needed yet.
    pub session: Option<Box<Session>>,
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Finish {
    /// A stop token or stop string came.
    Stop(Stop),
    /// The constraint is complete.
    Complete,
    /// As many tokens came as were asked for.
    Length,
    /// Prompt and generated tokens fill all positions of the engine.
    ContextFull,
    /// It was cancelled.
    Cancelled,
    /// Its deadline passed.
    TooLate,
    /// It could not go on: the constraint allows nothing or contradicts itself, or the model gives
    /// no numbers.
    Failed(Error),
}

/// What ended a generation that stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// One of the stop tokens.
    Token(u32),
    /// One of the stop strings.
    Text(String),
}

/// What a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Those of them that the session brought with it.
    pub reused: usize,
    /// Tokens generated.
    pub generated: usize,
    /// Those of them that the constraint forced.
    pub forced: usize,
    /// Guesses of the drafter that were verified.
    pub drafted: usize,
    /// Those of them that were right.
    pub accepted: usize,
}
