//! The engine that is measured.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cwm_cuda::{Gpu, Inference};
use cwm_engine::{CacheUse, Engine, KvFormat, Options, WeightFormat};
use cwm_model::{Checkpoint, Config, Model};

use crate::device::Device;
use crate::program::default_threads;

#[derive(clap::Args)]
pub(crate) struct EngineArgs {
    /// A model's folder or file, or `preset:NAME` for random weights in a known shape
    #[arg(long, value_name = "PATH|preset:NAME", default_value = "preset:m30")]
    pub(crate) model: String,
    /// Where the model is computed: cpu, cuda, or cuda:NUMBER for one of several GPUs
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    /// How the weights are held [default: int8; a GPU has bf16]
    #[arg(long, value_enum)]
    quant: Option<Quant>,
    /// How keys and values are held; a GPU has bf16
    #[arg(long, value_enum, default_value_t = Kv::Bf16)]
    kv: Kv,
    /// Threads [default: one for each core; one beside a GPU]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Folder of packed weights: the first run of a model writes them, the next ones read them
    #[arg(long, value_name = "DIR")]
    packed_cache: Option<PathBuf>,
}

/// What is measured.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    /// What was done with the cache of packed weights, if there is to be one.
    pub(crate) cache: Option<CacheUse>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Quant {
    F32,
    Bf16,
    Int8,
    /// 4 bits with a scale for each 32 weights
    Int4,
    /// 4 bits with a scale for each 128 weights
    Int4G128,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kv {
    F32,
    Bf16,
}

impl EngineArgs {
    /// The name of a preset, if one is asked for: its weights are random.
    pub(crate) fn preset(&self) -> Option<&str> {
        self.model.strip_prefix("preset:")
    }

    /// The engine, with room for `n_tokens`. A preset gets a vocabulary of at least `vocab_size`,
    /// any other model has to have one.
    pub(crate) fn open(&self, n_tokens: usize, vocab_size: usize) -> Result<Opened> {
        let gpu = self.device.open()?;
        ensure!(
            gpu.is_none() || self.packed_cache.is_none(),
            "--packed-cache is for the processor; a GPU gets its weights from the model's own files"
        );
        if let Some(name) = self.preset() {
            ensure!(
                self.packed_cache.is_none(),
                "`{}` has random weights, which are in no file; --packed-cache is for a model that --model names by its path",
                self.model
            );
            let Some(mut config) = Config::preset(name) else {
                let known: Vec<_> = Config::presets().collect();
                bail!(
                    "there is no preset `{name}`; known are {}",
                    known.join(", ")
                );
            };
            config.vocab_size = config.vocab_size.max(vocab_size);
            let options = self.options(n_tokens, &config);
            let engine = match gpu {
                None => Engine::random(config, 1, options)?,
                Some(gpu) => on_device(&gpu, &Model::init(config, 1), options)?,
            };
            return Ok(Opened {
                engine,
                cache: None,
            });
        }
        let context = || format!("cannot load the model in `{}`", self.model);
        let checkpoint = Checkpoint::open(Path::new(&self.model)).with_context(context)?;
        let rows = checkpoint.config().vocab_size;
        ensure!(
            rows >= vocab_size,
            "the tokenizer has {vocab_size} tokens, but the model knows {rows}; name the tokenizer it was trained with by --tokenizer"
        );
        let options = self.options(n_tokens, checkpoint.config());
        if let Some(gpu) = gpu {
            let model = Model::from_checkpoint(&checkpoint).with_context(context)?;
            return Ok(Opened {
                engine: on_device(&gpu, &model, options).with_context(context)?,
                cache: None,
            });
        }
        let Some(folder) = &self.packed_cache else {
            return Ok(Opened {
                engine: Engine::open(&checkpoint, options).with_context(context)?,
                cache: None,
            });
        };
        let (engine, used) =
            Engine::open_cached(&checkpoint, options, folder).with_context(context)?;
        Ok(Opened {
            engine,
            cache: Some(used),
        })
    }

    fn options(&self, n_tokens: usize, config: &Config) -> Options {
        Options {
            threads: self.threads.unwrap_or_else(|| match self.device {
                Device::Cpu => default_threads(),
                Device::Cuda(_) => 1,
            }),
            weights: match self.quant.unwrap_or(match self.device {
                Device::Cpu => Quant::Int8,
                Device::Cuda(_) => Quant::Bf16,
            }) {
                Quant::F32 => WeightFormat::F32,
                Quant::Bf16 => WeightFormat::Bf16,
                Quant::Int8 => WeightFormat::Int8,
                Quant::Int4 => WeightFormat::Int4Group32,
                Quant::Int4G128 => WeightFormat::Int4Group128,
            },
            kv: match self.kv {
                Kv::F32 => KvFormat::F32,
                Kv::Bf16 => KvFormat::Bf16,
            },
            max_positions: Some(n_tokens.clamp(1, config.max_position_embeddings)),
            ..Options::default()
        }
    }
}

/// An engine whose passes a GPU computes.
fn on_device(gpu: &Gpu, model: &Model, options: Options) -> Result<Engine> {
    let inference = Inference::new(gpu, model)?;
    Ok(Engine::with_backend(Box::new(inference), options)?)
}

/// Tells on standard error what was done with a cache, and returns it in a word for JSON.
pub(crate) fn tell(used: &CacheUse) -> &'static str {
    match used {
        CacheUse::Read { path } => {
            eprintln!("note: read packed weights from `{}`", path.display());
            "read"
        }
        CacheUse::Written {
            path,
            bytes,
            replaced,
        } => {
            if let Some(reason) = replaced {
                eprintln!("note: {reason}");
            }
            eprintln!(
                "note: wrote packed weights to `{}`, {:.1} MB",
                path.display(),
                *bytes as f64 / 1e6
            );
            "written"
        }
        CacheUse::Unused { reason } => {
            eprintln!("warning: the packed weights are not kept: {reason}");
            "unused"
        }
    }
}
