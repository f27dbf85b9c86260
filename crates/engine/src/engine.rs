//! The engine: one model set up for inference, shared by any number of sessions and threads.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cwm_kernels::{KvFormat, Pool, RopeTable, WeightFormat};
use cwm_model::{Checkpoint, Config, Model};

use crate::backend::{Backend, Together};
use crate::decoder::{Context, Dims, Segment, Sharing, Workspace};
use crate::error::{Error, Result};
use crate::kv::CacheShape;
use crate::packed::{self, CacheUse};
use crate::weights::{self, Decoder, Noise, OnDisk, Source};

/// How an [`Engine`] computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that share the work of a call, the caller's included. At least 1.
    pub threads: usize,
    /// How the weight matrices are held. Where they have 4 bits, embeddings and head have 8.
    pub weights: WeightFormat,
    /// How keys and values are held.
    pub kv: KvFormat,
    /// Longest session in tokens; `None` takes the model's `max_position_embeddings`.
    pub max_positions: Option<usize>,
    /// Tokens that local (windowed) layers keep beyond their window: going back by as many is
    /// exact and free, going further needs [`Session::rewind`](crate::Session::rewind). `None`
    /// keeps everything, which spends memory (see [`KvCost`](crate::KvCost)).
    pub local_slack: Option<usize>,
}

impl Default for Options {
    /// One thread, exact weights, keys and values, rollback of any distance.
    fn default() -> Self {
        Self {
            threads: 1,
            weights: WeightFormat::F32,
            kv: KvFormat::F32,
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
    compute: Compute,
    max_positions: usize,
    cache_shape: Arc<CacheShape>,
}

/// What computes passes.
#[derive(Debug)]
pub(crate) enum Compute {
    Here(Box<Processor>),
    There(Arc<Together>),
}

/// This processor, with weights packed for it.
#[derive(Debug)]
pub(crate) struct Processor {
    decoder: Decoder,
    rope: RopeTable,
    pool: Pool,
    dims: Dims,
    /// Buffers of finished passes, for the next one.
    idle: Mutex<Vec<Workspace>>,
}

impl Engine {
    /// Packs the weights of `model` in the format that `options` names.
    ///
    /// # Errors
    /// [`Error::Option`] for options that cannot be satisfied, [`Error::Model`] for a model whose
    /// parts do not fit together.
    pub fn new(model: Model, options: Options) -> Result<Self> {
        weights::check(&model)?;
        Self::from_source(model.config.clone(), &model, options)
    }

    /// Packs the weights of a checkpoint as it is read: no copy of the whole in f32 is made.
    ///
    /// # Errors
    /// As [`Engine::new`]; a weight that is not finite is a [`Error::Model`] that names it.
    pub fn open(checkpoint: &Checkpoint, options: Options) -> Result<Self> {
        let source = OnDisk::new(checkpoint);
        Self::from_source(checkpoint.config().clone(), &source, options)
    }

    /// As [`Engine::open`], with a cache of packed weights in `folder`, which is made if there is
    /// none: the first engine of a model and a format writes it, the next ones read it, as fast as
    /// the disk gives. The engine is the same either way. Norms and other vectors are read from the
    /// checkpoint, which therefore has to be there.
    ///
    /// The cache never makes opening fail: what is wrong with it is told by [`CacheUse`]. It holds
    /// for the files as [`Checkpoint::identity`] tells them apart; a model that has changed gets a
    /// file of its own, and those of models that are gone may be deleted at any time. Damage is
    /// noticed, forgery is not: who may write into the folder decides what the model says.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_cached(
        checkpoint: &Checkpoint,
        options: Options,
        folder: &Path,
    ) -> Result<(Self, CacheUse)> {
        let config = checkpoint.config().clone();
        let pool = pool(&config, &options)?;
        let (decoder, used) = packed::decoder(checkpoint, options.weights, &pool, folder)?;
        Ok((Self::assemble(config, options, decoder, pool), used))
    }

    /// A model of random weights, to measure speed and memory of a shape with.
    ///
    /// # Errors
    /// [`Error::Option`] for options that cannot be satisfied, [`Error::Model`] for a config that
    /// contradicts itself.
    pub fn random(config: Config, seed: u64, options: Options) -> Result<Self> {
        if let Err(error) = config.validate() {
            let problem = error.to_string();
            return Err(Error::Model { problem });
        }
        Self::from_source(config, &Noise { seed }, options)
    }

    fn from_source(config: Config, source: &impl Source, options: Options) -> Result<Self> {
        let pool = pool(&config, &options)?;
        let decoder = Decoder::pack(&config, source, options.weights, &pool)?;
        Ok(Self::assemble(config, options, decoder, pool))
    }

    /// A model whose passes `backend` computes. Weights, keys and values are in bf16 there, which
    /// `options` must say; they name one thread, since the back end has its own ways.
    ///
    /// # Errors
    /// [`Error::Option`] for options that cannot be satisfied.
    pub fn with_backend(backend: Box<dyn Backend>, options: Options) -> Result<Self> {
        let config = backend.config().clone();
        check_options(&config, &options)?;
        let wrong = |option, wanted: &str| {
            let problem = format!("a back end has its own way; use {wanted}");
            Err(Error::Option { option, problem })
        };
        if options.weights != WeightFormat::Bf16 {
            return wrong("weights", "WeightFormat::Bf16");
        }
        if options.kv != KvFormat::Bf16 {
            return wrong("kv", "KvFormat::Bf16");
        }
        if options.threads != 1 {
            return wrong("threads", "1");
        }
        let compute = Compute::There(Arc::new(Together::new(backend)));
        Ok(Self::around(config, options, compute))
    }

    /// Puts parts together that were made for these options, which [`pool`] has checked.
    fn assemble(config: Config, options: Options, decoder: Decoder, pool: Pool) -> Self {
        let max_positions = max_positions(&config, &options);
        let processor = Processor {
            decoder,
            rope: RopeTable::new(&config.inv_freq(), max_positions),
            pool,
            dims: Dims {
                hidden: config.hidden_size,
                inner: config.intermediate_size,
                attention: config.attention_shape(),
                eps: config.rms_norm_eps,
            },
            idle: Mutex::default(),
        };
        Self::around(config, options, Compute::Here(Box::new(processor)))
    }

    fn around(config: Config, options: Options, compute: Compute) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            compute,
            max_positions: max_positions(&config, &options),
            cache_shape: Arc::new(CacheShape::new(&config, options.local_slack, options.kv)),
            config,
            options,
        }
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
        match &self.compute {
            Compute::Here(processor) => processor.decoder.bytes_per_token(),
            Compute::There(together) => together.backend().bytes_per_token(),
        }
    }

    /// Bytes of all weights.
    pub fn n_weight_bytes(&self) -> usize {
        match &self.compute {
            Compute::Here(processor) => processor.decoder.n_bytes(),
            Compute::There(together) => together.backend().n_weight_bytes(),
        }
    }

    /// Tells this engine's sessions from others'.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What the cache of a session holds.
    pub(crate) fn cache_shape(&self) -> &Arc<CacheShape> {
        &self.cache_shape
    }

    /// What computes passes.
    pub(crate) fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The back end, where one computes passes.
    pub(crate) fn backend(&self) -> Option<&Arc<Together>> {
        match &self.compute {
            Compute::Here(_) => None,
            Compute::There(together) => Some(together),
        }
    }
}

impl Processor {
    /// Runs the new tokens of `segments`, for which their caches have reserved rows.
    pub(crate) fn run(&self, segments: &mut [Segment<'_>]) {
        self.with_workspace(|workspace| workspace.run(&self.context(), segments));
    }

    /// What a forward pass reads.
    fn context(&self) -> Context<'_> {
        Context {
            decoder: &self.decoder,
            rope: &self.rope,
            pool: &self.pool,
            sharing: Sharing::of(self.decoder.bytes_per_token()),
            dims: self.dims,
        }
    }

    /// Lends buffers to `work`; they come back unless it panics.
    fn with_workspace<T>(&self, work: impl FnOnce(&mut Workspace) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut workspace = idle().pop().unwrap_or_default();
        let result = work(&mut workspace);
        idle().push(workspace);
        result
    }
}

/// Longest session in tokens.
fn max_positions(config: &Config, options: &Options) -> usize {
    let most = options.max_positions;
    most.unwrap_or(config.max_position_embeddings)
}

/// The threads that `options` ask for, once these were checked against a model.
fn pool(config: &Config, options: &Options) -> Result<Pool> {
    check_options(config, options)?;
    Ok(Pool::new(options.threads))
}

/// Refuses options that no way of computing satisfies.
fn check_options(config: &Config, options: &Options) -> Result<()> {
    let wrong = |option, problem| Err(Error::Option { option, problem });
    if options.threads == 0 {
        return wrong("threads", "is 0; use 1 or more".to_owned());
    }
    let limit = config.max_position_embeddings;
    match options.max_positions {
        Some(n) if !(1..=limit).contains(&n) => wrong(
            "max_positions",
            format!("is {n}; the model allows 1 to {limit}"),
        ),
        _ => Ok(()),
    }
}
