//! What can go wrong in the engine, said so that the caller can fix it.

/// An error of this crate. A failed call leaves its session as it was.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A token id is outside the vocabulary of the model.
    #[error(
        "token id {id} at index {index} is outside the model's vocabulary of {vocab_size} ids; was \
         the text encoded with another tokenizer?"
    )]
    UnknownToken {
        /// The offending id.
        id: u32,
        /// Its index in the tokens passed.
        index: usize,
        /// Ids the model knows: `0..vocab_size`.
        vocab_size: usize,
    },
    /// The session would grow past the last position the engine was set up for.
    #[error(
        "{len} cached + {added} new tokens exceed the engine's limit of {max_positions} positions; \
         roll back, start a new session, or raise `Options::max_positions`"
    )]
    ContextFull {
        /// Tokens in the session.
        len: usize,
        /// Tokens that were to be added.
        added: usize,
        /// The limit.
        max_positions: usize,
    },
    /// A rollback or fork named a position that the session has not reached.
    #[error("cannot go back to {to} tokens: the session holds {len}")]
    RollbackForward {
        /// The length asked for.
        to: usize,
        /// The length of the session.
        len: usize,
    },
    /// A rollback or fork went back further than the local layers remember.
    #[error(
        "cannot go back to {to} tokens without recomputing {recompute}: local layers remember \
         enough from {exact_from} tokens on; `Session::rewind` recomputes them, and a larger \
         `Options::local_slack` remembers more"
    )]
    RollbackForgotten {
        /// The length asked for.
        to: usize,
        /// The least length that needs no recomputing, 0 apart.
        exact_from: usize,
        /// Tokens that would have to be computed again.
        recompute: usize,
    },
    /// A session was used with an engine other than the one that made it.
    #[error(
        "this session was made by another engine: its cached keys and values mean nothing to this \
         one"
    )]
    WrongEngine,
    /// A store has no session of that name.
    #[error(
        "there is no session `{name}`: it was never made, or was deleted, has expired or was evicted"
    )]
    UnknownSession {
        /// The name.
        name: String,
    },
    /// A name is taken.
    #[error("there is a session `{name}` already; delete it or take another name")]
    SessionExists {
        /// The name.
        name: String,
    },
    /// A session is lent.
    #[error("session `{name}` is in use; try again when it has been given back")]
    SessionInUse {
        /// The name.
        name: String,
    },
    /// A session was given to a store that did not make it.
    #[error("this session is not of this store, which cannot account for its memory")]
    ForeignSession,
    /// A request does not fit the memory budget of a store, whoever else is evicted.
    #[error(
        "{needed} bytes of keys and values do not fit: of a budget of {budget}, {kept} are pinned, \
         in use or promised; give back, unpin or delete sessions, ask for less room, or raise \
         `StoreOptions::budget`"
    )]
    OutOfBudget {
        /// Bytes that the request may need.
        needed: usize,
        /// The budget.
        budget: usize,
        /// Bytes that cannot be freed.
        kept: usize,
    },
    /// The back end that computes passes could not.
    #[error(transparent)]
    Backend(#[from] crate::BackendError),
    /// `Options` cannot be satisfied.
    #[error("engine option `{option}`: {problem}")]
    Option {
        /// Name of the field.
        option: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The parts of the model do not fit together.
    #[error("the model cannot be run: {problem}")]
    Model {
        /// What is wrong.
        problem: String,
    },
    /// No token may be chosen: the mask is empty within the vocabulary.
    #[error("no token is allowed here: the mask is empty over {vocab_size} ids")]
    NothingAllowed {
        /// Ids considered.
        vocab_size: usize,
    },
    /// Nothing was said that a generation could go on from.
    #[error(
        "there is nothing to generate from: the prompt and the session are empty; begin with one token at least"
    )]
    EmptyPrompt,
    /// A token was accepted that a constraint does not allow there.
    #[error(
        "token id {id} is not allowed as generated token {index}; choose one that the mask allows"
    )]
    NotAllowed {
        /// The token.
        id: u32,
        /// Tokens accepted before it.
        index: usize,
    },
    /// A logit is NaN or plus infinity, so that no distribution exists.
    #[error("logit of token {id} is {value}; the weights are damaged or training diverged")]
    BadLogit {
        /// The token.
        id: u32,
        /// Its logit.
        value: f32,
    },
    /// A sampling parameter is outside its range.
    #[error("sampler parameter `{parameter}` is {value}; it must be {range}")]
    SamplerParameter {
        /// Name of the field.
        parameter: &'static str,
        /// What was given.
        value: f32,
        /// What is accepted.
        range: &'static str,
    },
    /// A field of a request cannot be satisfied.
    #[error("request field `{field}` {problem}")]
    Request {
        /// Name of the field.
        field: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A request needs more of the cache than all requests together may hold.
    #[error(
        "the request can grow to {pages} pages of the cache, but {max_pages} are allowed in all; \
         ask for fewer tokens or raise `SchedulerOptions::max_pages`"
    )]
    OverBudget {
        /// Pages the request can grow to.
        pages: usize,
        /// Pages there are.
        max_pages: usize,
    },
    /// As many requests wait as may.
    #[error("the queue is full: {waiting} requests wait already; try again later")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
    },
    /// The thread that serves requests has ended, or could not be started.
    #[error("no thread serves requests: {problem}")]
    NotServing {
        /// What is wrong.
        problem: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
