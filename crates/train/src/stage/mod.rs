//! Stage files: what one stage of training is made of, as TOML.
//!
//! ```toml
//! stage = "pre"                    # pre, mid or sft
//! preset = "nano-small"            # a file of these keys to begin with, of which any may be set anew
//! seed = 1
//!
//! [model]                          # exactly one of the first four
//! preset = "nano-small"            # a new model of a known shape
//! # shape = { hidden_size = 64, ... }  # a new model of this shape, under the names of config.json
//! # from = "models/nano"           # the weights of a model or of a run
//! # continue = "runs/pre"          # stage mid: weights, optimiser and count of steps of a run
//! # num_hidden_layers = 9          # with `from`: more layers than that model has, at most twice as many; the first ones
//!                                  # are copied in behind themselves, silent, so that it computes the same at first
//! # max_position_embeddings = 131072   # where these differ from those of the model gone on with
//! # rope_scaling = { factor = 16.0, low_freq_factor = 1.0, high_freq_factor = 4.0, original_max_position_embeddings = 8192 }
//!
//! [tokenizer]
//! kind = "nano"                    # for windows; "bytes" or "llama" for texts and dialogs
//! # path = "tokenizer.model"       # of llama
//!
//! [rows]
//! tokens = 1024
//!
//! [[source]]
//! name = "traces"
//! kind = "windows"                 # recorded runs; or "jumps", "text", "dialogs"
//! path = ["shards", "more.jsonl"]
//! share = 0.7                      # how often it is drawn, beside the other shares
//! # rows_per_program = 3           # of windows and jumps
//! # weights = { working = 0.5 }    # of windows, jumps and text: of kinds of targets, 1 where none is given
//! # only = ["cwm", "nd"]           # of text: the kinds of texts that are wanted
//! # learn = ["assistant", "tool"]  # of dialogs: whose messages are learned
//! # tool_share = 0.5               # of dialogs: share of the replies of tools that are learned
//! # think = "text"                 # of dialogs: reasoning between tags, or between reserved "tokens"
//!
//! [[held_out]]                     # as a source, without a share
//! name = "dev"
//! kind = "windows"
//! path = "dev.jsonl"
//!
//! [train]                          # the fields of TrainConfig
//! steps = 2000
//! batch_tokens = 4096
//! optimizer = { kind = "adamw", lr = 0.003 }
//! schedule = { kind = "wsd", warmup = 50, decay_steps = 400, final_ratio = 0.02 }
//! ```
//!
//! Promises: unknown keys, keys that contradict each other and keys that mean nothing beside others are refused by
//! name; what is missing is listed as a whole; a relative path is one beside the file.

mod deepen;
mod file;
mod presets;
mod shape;
mod table;
mod vocabulary;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cwm_model::{Config, Llama3Scaling, Model};
use serde::{Deserialize, Serialize};

use crate::sources::{Groups, Source, SourceError, read};
use crate::{
    Changes, Error, Mixture, Tokenizer, TokenizerError, TrainConfig, Trainer, newest_checkpoint,
};

pub use presets::{PRESETS, preset};
pub(crate) use shape::layer_types;
pub use shape::{Shape, Size};

/// A stage of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// From random weights, on everything.
    Pre,
    /// On longer rows and other data, under the schedule of pre-training.
    Mid,
    /// On what the model is to do.
    Sft,
}

impl Stage {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Mid => "mid",
            Self::Sft => "sft",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Pre, Self::Mid, Self::Sft]
            .into_iter()
            .find(|stage| stage.name() == name)
    }
}

/// Why a stage cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The file is not TOML, or has a key or a value that it may not have.
    #[error("{0}")]
    Syntax(String),
    /// Keys have no values.
    #[error("these keys have to be set before this can run:\n  {}", .0.join("\n  "))]
    Missing(Vec<String>),
    /// A key cannot work, alone or beside others.
    #[error("`{key}` {reason}")]
    Wrong {
        /// Dotted name of the key.
        key: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The vocabulary.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model to begin with.
    #[error("cannot begin with the model in `{}`: {cause}", path.display())]
    Model {
        /// Its folder.
        path: PathBuf,
        /// The cause, which is told with its own.
        cause: cwm_model::Error,
    },
    /// The trainer.
    #[error(transparent)]
    Train(#[from] Error),
}

impl StageError {
    fn wrong(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Wrong {
            key: key.into(),
            reason: reason.into(),
        }
    }
}

/// A stage that can be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which stage.
    pub stage: Stage,
    /// Seed of new weights, of the order of the data, and of what is drawn from it.
    pub seed: u64,
    /// What is trained.
    pub model: ModelPlan,
    /// Its vocabulary.
    pub tokenizer: TokenizerPlan,
    /// Tokens of a row at most.
    pub row_tokens: usize,
    /// What it is trained on, with shares.
    pub sources: Vec<(Source, f64)>,
    /// What it is measured on.
    pub held_out: Vec<Source>,
    /// How long and how.
    pub train: TrainConfig,
}

/// What is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPlan {
    /// What it begins with.
    pub begin: Begin,
    /// Layers, where a model begun [`from`](Begin::From) another is to have more than that has.
    pub num_hidden_layers: Option<usize>,
    /// Scaling of RoPE, where it is to be another.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Positions, where they are to be more or less.
    pub max_position_embeddings: Option<usize>,
}

/// What training begins with.
#[derive(Clone, Debug, PartialEq)]
pub enum Begin {
    /// New weights of a known shape.
    Size(Size),
    /// New weights of this shape.
    Shape(Box<Shape>),
    /// The weights of a model or a run.
    From(PathBuf),
    /// All of a run: weights, optimiser, count of steps.
    Continue(PathBuf),
}

/// Which vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerPlan {
    /// That of the small model.
    Nano,
    /// Bytes.
    Bytes,
    /// That of Llama 3, from this file.
    Llama(PathBuf),
}

/// The text of a stage file with its preset and all defaults filled in.
///
/// # Errors
/// When it is not TOML, or its preset cannot be found.
pub fn print(text: &str, stage: Option<Stage>, preset: Option<&str>) -> Result<String, StageError> {
    Ok(table::print(&table::resolve(text, stage, preset)?))
}

impl Plan {
    /// Reads a stage file that lies in `folder`. `stage` and `preset` are what the command line says besides, and
    /// `threads` holds where nothing else is said.
    ///
    /// # Errors
    /// [`StageError`], by the name of the key.
    pub fn read(
        text: &str,
        stage: Option<Stage>,
        preset: Option<&str>,
        folder: &Path,
        threads: usize,
    ) -> Result<Self, StageError> {
        let table = table::resolve(text, stage, preset)?;
        let missing = table::missing(&table);
        if !missing.is_empty() {
            return Err(StageError::Missing(missing));
        }
        file::plan(table, folder, threads)
    }

    /// Begins the run in `dir`.
    ///
    /// # Errors
    /// When model, tokenizer and rows do not fit each other, or the run cannot begin.
    pub fn begin(&self, tokenizer: &Tokenizer, dir: &Path) -> Result<Trainer, StageError> {
        let trainer = match &self.model.begin {
            Begin::Continue(path) => self.continued(path, tokenizer, dir)?,
            Begin::From(path) => {
                let mut model = load(path)?;
                if is_run(path) || Tokenizer::is_noted(path) {
                    tokenizer.check_origin(path)?;
                    model = vocabulary::grow(model, tokenizer.vocabulary(), self.seed);
                }
                if let Some(n_layers) = self.model.num_hidden_layers {
                    model = deepen::deepen(&model, n_layers)?;
                }
                self.adapt(&mut model.config);
                self.check(&model.config, tokenizer)?;
                Trainer::new(model, self.train.clone(), dir)?
            }
            Begin::Size(_) | Begin::Shape(_) => {
                let config = self.new_shape(tokenizer)?;
                let config = config.expect("these two have a shape");
                self.check(&config, tokenizer)?;
                Trainer::new(Model::init(config, self.seed), self.train.clone(), dir)?
            }
        };
        tokenizer.save(dir)?;
        Ok(trainer)
    }

    /// A run that goes on where another one stands.
    fn continued(
        &self,
        earlier: &Path,
        tokenizer: &Tokenizer,
        dir: &Path,
    ) -> Result<Trainer, StageError> {
        tokenizer.check(earlier)?;
        let (path, _) = newest_checkpoint(earlier)?;
        let config = Config::load(&path);
        let mut config = config.map_err(|cause| StageError::Model { path, cause })?;
        self.adapt(&mut config);
        self.check(&config, tokenizer)?;
        Ok(Trainer::continued(
            earlier,
            config,
            self.train.clone(),
            dir,
        )?)
    }

    /// Goes on with the run in `dir`. What a run cannot change on the way must be as it was.
    ///
    /// # Errors
    /// When it is not, or the run cannot go on.
    pub fn resume(
        &self,
        tokenizer: &Tokenizer,
        dir: &Path,
        new_data: bool,
    ) -> Result<Trainer, StageError> {
        tokenizer.check(dir)?;
        let changes = Changes {
            new_data,
            ..Changes::to(&self.train)
        };
        let trainer = Trainer::resume_with(dir, &changes)?;
        self.check_shape(tokenizer, &trainer.model().config)?;
        let fields = |config: &TrainConfig| toml::Table::try_from(config).unwrap_or_default();
        let (wanted, found) = (fields(&self.train), fields(trainer.config()));
        let keys = wanted.keys().chain(found.keys());
        match keys
            .into_iter()
            .find(|key| wanted.get(*key) != found.get(*key))
        {
            None => Ok(trainer),
            Some(key) => {
                let shown = found
                    .get(key)
                    .map_or("absent".to_owned(), toml::Value::to_string);
                let reason =
                    format!("cannot change when a run is resumed; it is {shown} in this one");
                Err(StageError::wrong(format!("train.{key}"), reason))
            }
        }
    }

    /// Opens the vocabulary.
    ///
    /// # Errors
    /// When its file cannot be used.
    pub fn tokenizer(&self) -> Result<Tokenizer, StageError> {
        Ok(match &self.tokenizer {
            TokenizerPlan::Nano => Tokenizer::nano(),
            TokenizerPlan::Bytes => Tokenizer::bytes(),
            TokenizerPlan::Llama(path) => Tokenizer::llama(path)?,
        })
    }

    /// Reads and packs all sources: what is trained on, and what is measured on, if anything. What belongs to a group
    /// that is held out is not trained on. `progress` is told the source at hand and its documents so far.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn data(
        &self,
        tokenizer: &Tokenizer,
        progress: &mut dyn FnMut(&str, u64),
    ) -> Result<(Mixture, Option<Mixture>), SourceError> {
        let mut groups = BTreeSet::new();
        let mut held_out = Vec::new();
        for source in &self.held_out {
            let mut progress = |count| progress(&source.name, count);
            let groups = Groups::Note(&mut groups);
            let packed = read(source, tokenizer, self.row_tokens, groups, &mut progress)?;
            held_out.push((source.name.clone(), 1.0, packed));
        }
        let mut train = Vec::new();
        for (source, share) in &self.sources {
            let mut progress = |count| progress(&source.name, count);
            let groups = Groups::Avoid(&groups);
            let packed = read(source, tokenizer, self.row_tokens, groups, &mut progress)?;
            train.push((source.name.clone(), *share, packed));
        }
        let mixture = |sources| Mixture::new(sources, self.row_tokens);
        Ok((
            mixture(train),
            (!held_out.is_empty()).then(|| mixture(held_out)),
        ))
    }

    /// The shape of a new model; `None` where an old one is gone on with.
    fn new_shape(&self, tokenizer: &Tokenizer) -> Result<Option<Config>, StageError> {
        let mut config = match &self.model.begin {
            Begin::Shape(shape) => shape.config(tokenizer)?,
            Begin::Size(size) => size.config(tokenizer),
            Begin::From(_) | Begin::Continue(_) => return Ok(None),
        };
        self.adapt(&mut config);
        Ok(Some(config))
    }

    /// Whether a run that is gone on with has the shape that is asked for, and rows fit into it.
    fn check_shape(&self, tokenizer: &Tokenizer, run: &Config) -> Result<(), StageError> {
        let wanted = self.new_shape(tokenizer)?.unwrap_or_else(|| {
            let mut adapted = run.clone();
            self.adapt(&mut adapted);
            adapted.n_layers = self.model.num_hidden_layers.unwrap_or(run.n_layers);
            adapted
        });
        let key = match wanted == *run {
            true => return self.check(run, tokenizer),
            false if self.model.num_hidden_layers.is_some() && wanted.n_layers != run.n_layers => {
                "model.num_hidden_layers"
            }
            false if wanted.rope != run.rope => "model.rope_scaling",
            false if wanted.max_position_embeddings != run.max_position_embeddings => {
                "model.max_position_embeddings"
            }
            false => "model",
        };
        let reason = "is not what this run was begun with; begin a new run for another";
        Err(StageError::wrong(key, reason))
    }

    fn adapt(&self, config: &mut Config) {
        let ModelPlan {
            rope_scaling,
            max_position_embeddings,
            ..
        } = self.model;
        config.rope.scaling = rope_scaling.or(config.rope.scaling);
        if let Some(most) = max_position_embeddings {
            config.max_position_embeddings = most;
        }
    }

    /// Whether model, vocabulary and rows fit each other.
    fn check(&self, config: &Config, tokenizer: &Tokenizer) -> Result<(), StageError> {
        let (ids, vocabulary) = (config.vocab_size, tokenizer.vocabulary());
        if ids != vocabulary {
            let kind = tokenizer.kind().name();
            let reason = format!(
                "is `{kind}` of {vocabulary} ids, but the model has {ids}; use the tokenizer that it was trained with"
            );
            return Err(StageError::wrong("tokenizer.kind", reason));
        }
        let most = config.max_position_embeddings;
        if self.row_tokens > most {
            let reason = format!(
                "is {}, but the model has {most} positions; make rows shorter, or set `model.max_position_embeddings`",
                self.row_tokens
            );
            return Err(StageError::wrong("rows.tokens", reason));
        }
        config
            .validate()
            .map_err(|error| StageError::wrong("model", format!("cannot work: {error}")))
    }
}

/// Whether a folder holds a run rather than a model.
fn is_run(path: &Path) -> bool {
    !path.join(cwm_model::CONFIG_FILE).exists()
}

/// The weights of a model's folder, or the newest of a run.
fn load(path: &Path) -> Result<Model, StageError> {
    let folder = match is_run(path) {
        true => newest_checkpoint(path)?.0,
        false => path.to_owned(),
    };
    Model::load(&folder).map_err(|cause| StageError::Model {
        path: folder,
        cause,
    })
}
