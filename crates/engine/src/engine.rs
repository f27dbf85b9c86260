//! The engine: one model set up for inference, shared by any number of sessions and threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cwm_kernels::{AttentionShape, RopeTable};
use cwm_model::{Config, Model};

use crate::decoder::{Context, Dims, Workspace};
use crate::error::{Error, Result};
use crate::kv::CacheShape;
use crate::weights::{Decoder, Numerics, Weights};

/// How an [`Engine`] computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that share the work of one call when it brings many tokens; single tokens are
    /// computed on the caller's thread. At least 1.
    pub threads: usize,
    /// How the weight matrices are held.
    pub weights: Weights,
    /// Whether the bits may depend on how tokens were chunked.
    pub numerics: Numerics,
    /// Longest session in tokens; `None` takes the model's `max_position_embeddings`.
    pub max_positions: Option<usize>,
    /// Tokens that local (windowed) layers keep beyond their window: going back by as many is
    /// exact and free, going further needs [`Session::rewind`](crate::Session::rewind). `None`
    /// keeps everything, which spends memory (see [`KvCost`](crate::KvCost)).
    pub local_slack: Option<usize>,
}

impl Default for Options {
    /// One thread, exact weights, results independent of the chunking, rollback of any distance.
    fn default() -> Self {
        Self {
            threads: 1,
            weights: Weights::F32,
            numerics: Numerics::Invariant,
            max_positions: None,
            local_slack: None,
        }
    }
}

/// A model ready to decode. Share it as `Arc<Engine>` or `&Engine`; it never changes.
#[derive(Debug)]
pub struct Engine {
    id: u64,
    config: Config,
    options: Options,
    decoder: Decoder,
    rope: RopeTable,
    max_positions: usize,
    cache_shape: Arc<CacheShape>,
    /// Buffers of finished calls, for the next one.
    idle: Mutex<Vec<Workspace>>,
}

impl Engine {
    /// Takes over (and, for int8, quantises) the weights of `model`.
    ///
    /// # Errors
    /// [`Error::Option`] for options that cannot be satisfied, [`Error::Model`] for a model whose
    /// parts do not fit together.
    pub fn new(model: Model, options: Options) -> Result<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let max_positions = check(&model.config, &options)?;
        let config = model.config.clone();
        let decoder = Decoder::new(model, options.weights)?;
        let rope = RopeTable::new(&config.inv_freq(), max_positions);
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            cache_shape: Arc::new(CacheShape::new(&config, options.local_slack)),
            config,
            options,
            decoder,
            rope,
            max_positions,
            idle: Mutex::default(),
        })
    }

    /// The configuration of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Longest session in tokens.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// Bytes of weights read to decode one token: divide the memory bandwidth by it for a ceiling
    /// on speed.
    pub fn bytes_per_token(&self) -> usize {
        self.decoder.bytes_per_token()
    }

    /// Tells this engine's sessions from others'.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What the cache of a session holds.
    pub(crate) fn cache_shape(&self) -> &Arc<CacheShape> {
        &self.cache_shape
    }

    /// What a forward pass reads.
    pub(crate) fn context(&self) -> Context<'_> {
        let config = &self.config;
        let attention = AttentionShape {
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
        };
        Context {
            decoder: &self.decoder,
            rope: &self.rope,
            dims: Dims {
                hidden: config.hidden_size,
                inner: config.intermediate_size,
                attention,
                eps: config.rms_norm_eps,
            },
            numerics: self.options.numerics,
        }
    }

    /// Lends buffers to `work`; they come back unless it panics.
    pub(crate) fn with_workspace<T>(&self, work: impl FnOnce(&mut Workspace) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = idle().pop().unwrap_or_default();
        let result = work(&mut workspace);
        idle().push(workspace);
        result
    }
}

/// Checks options against a model and returns the position limit.
fn check(config: &Config, options: &Options) -> Result<usize> {
    let wrong = |option, problem| Err(Error::Option { option, problem });
    if options.threads == 0 {
        return wrong("threads", "is 0; use 1 or more".to_owned());
    }
    let limit = config.max_position_embeddings;
    match options.max_positions {
        None => Ok(limit),
        Some(n) if (1..=limit).contains(&n) => Ok(n),
        Some(n) => wrong(
            "max_positions",
            format!("is {n}; the model allows 1 to {limit}"),
        ),
    }
}
