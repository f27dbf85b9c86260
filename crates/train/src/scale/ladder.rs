//! What a ladder is made of: sizes, budgets and a search over learning rate and batch, as TOML.
//!
//! ```toml
//! data = ["records.jsonl"]          # or "arithmetic", which needs no file
//! held_out = ["held_out.jsonl"]     # never trained on
//! row_tokens = 256
//! seeds = [1]
//! compute = [1e12, 4e12]            # FLOP of a run; or tokens = [1e6, 4e6]
//!
//! [optimizer]
//! kind = "muon"                     # or "adamw"
//!
//! [schedule]                        # shares of a run's steps
//! warmup = 0.05
//! decay = 0.2
//!
//! [search]
//! kind = "quasi-random"             # or "grid", with lists
//! points = 12
//! lr = [2e-3, 5e-2]
//! batch_tokens = [512, 8192]
//!
//! [[size]]
//! name = "xs"
//! hidden_size = 32
//! n_layers = 2
//! n_heads = 2
//! n_kv_heads = 1
//! head_dim = 16
//! intermediate_size = 96
//! ```
//!
//! Promises: a ladder that was read is one whose every run can be begun; unknown keys are refused.

use std::path::{Path, PathBuf};

use cwm_model::{Config, Rope, RunEmbedding};
use cwm_tokenizer::nano::Vocabulary;
use serde::{Deserialize, Serialize};

use super::Error;
use super::arithmetic::{RUNS, VOCABULARY};
use super::table::{Run, is_name, write_atomically};
use crate::stage::layer_types;
use crate::{Optimizer, OptimizerKind, Schedule, TrainConfig};

/// Name of the description in a ladder's folder.
pub const LADDER_FILE: &str = "ladder.toml";

/// With fewer steps than this, rounding to whole batches would move the compute by more than 1%.
const FEWEST_STEPS: u64 = 50;

/// Everything that decides which runs there are and how they are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    /// What is trained on.
    pub data: Data,
    /// Records to measure on; none for built-in data, which brings its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<PathBuf>,
    /// Rows kept of one recorded program at most.
    #[serde(default = "three")]
    pub rows_per_program: usize,
    /// Tokens of a row, `S`.
    pub row_tokens: usize,
    /// Each run is trained once for each of them.
    #[serde(default = "first_seed")]
    pub seeds: Vec<u64>,
    /// Combinations with fewer steps are left out.
    #[serde(default = "fewest_steps")]
    pub min_steps: u64,
    /// Budgets in floating-point operations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute: Vec<f64>,
    /// Budgets in tokens, in the place of `compute`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<f64>,
    /// How gradients become updates.
    pub optimizer: Rule,
    /// How the learning rate changes over a run.
    pub schedule: Shares,
    /// Which learning rates and batches are tried for each size and budget.
    pub search: Search,
    /// The models.
    #[serde(rename = "size")]
    pub sizes: Vec<Size>,
}

fn three() -> usize {
    3
}

fn first_seed() -> Vec<u64> {
    vec![1]
}

fn fewest_steps() -> u64 {
    FEWEST_STEPS
}

/// What a ladder is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "`data` is \"arithmetic\" or a list of files and folders of records"
)]
pub enum Data {
    /// Made on the way.
    BuiltIn(BuiltIn),
    /// Recorded programs, as `cwm train --data` takes them.
    Records(Vec<PathBuf>),
}

/// Data that needs no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuiltIn {
    /// Sums and copies ([`Arithmetic`](super::Arithmetic)).
    Arithmetic,
}

/// The optimiser, without the learning rate that is searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which rule the hidden matrices follow; the learning rate that is searched is theirs.
    pub kind: OptimizerKind,
    /// With Muon: rate of the parameters that follow AdamW, as a multiple of Muon's.
    #[serde(default = "adamw_ratio")]
    pub adamw_ratio: f64,
    /// Rate of the embedding tables as a multiple of the one that is searched; with none, they have
    /// AdamW's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_ratio: Option<f64>,
    /// Decoupled weight decay.
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
}

fn adamw_ratio() -> f64 {
    0.15
}

fn weight_decay() -> f64 {
    0.02
}

/// A schedule by shares of a run's steps: linear warm-up, constant, linear decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Share of the steps until the peak.
    pub warmup: f64,
    /// Share of the steps of the final decay.
    pub decay: f64,
    /// Multiple of the peak at the last step.
    #[serde(default = "final_ratio")]
    pub final_ratio: f64,
}

fn final_ratio() -> f64 {
    0.02
}

/// Which learning rates and batches are tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Search {
    /// Every rate with every batch.
    Grid {
        /// Peak learning rates.
        lr: Vec<f64>,
        /// Tokens of a batch.
        batch_tokens: Vec<u64>,
    },
    /// Points that fill the range evenly by equal ratios ([`point`](super::point)).
    QuasiRandom {
        /// How many for each size and budget.
        points: u64,
        /// Lowest and highest peak learning rate.
        lr: [f64; 2],
        /// Fewest and most tokens of a batch.
        batch_tokens: [u64; 2],
    },
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Name in the table.
    pub name: String,
    /// Width of the residual stream, `d`.
    pub hidden_size: usize,
    /// Layers, `L`.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
}

/// How large a model is, in the numbers of scaling laws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// Parameters in all.
    pub n_params: u64,
    /// `N_ne`: parameters without embeddings and head.
    pub n_params_ne: u64,
    /// `M = 6 N_ne + 6 d L S`.
    pub flops_per_token: f64,
}

/// The numbers of a model that reads rows of `row_tokens` tokens.
pub fn weight(config: &Config, row_tokens: usize) -> Weight {
    Weight {
        n_params: config.n_params() as u64,
        n_params_ne: config.n_non_embedding_params() as u64,
        flops_per_token: config.train_flops_per_token(row_tokens),
    }
}

impl Ladder {
    /// Reads and checks a ladder. Paths in it are relative to its folder, and absolute in what is
    /// returned.
    ///
    /// # Errors
    /// When the file cannot be read or describes runs that cannot be begun.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(crate::Error::io("read", path))?;
        let mut ladder = Self::parse(&text).map_err(|reason| Error::Ladder {
            path: path.to_path_buf(),
            reason,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = std::path::absolute(folder.join("."))
            .map_err(crate::Error::io("find the folder of", path))?;
        let data = match &mut ladder.data {
            Data::Records(paths) => paths.as_mut_slice(),
            Data::BuiltIn(_) => &mut [],
        };
        for file in data.iter_mut().chain(&mut ladder.held_out) {
            *file = folder.join(&file);
        }
        Ok(ladder)
    }

    /// Writes the ladder into the folder of its runs.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(LADDER_FILE);
        let text = toml::to_string_pretty(self).map_err(|error| Error::Ladder {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        write_atomically(&path, &text)
    }

    /// Reads and checks a ladder; errors are reasons for a person.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let ladder: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        ladder.check()?;
        Ok(ladder)
    }

    fn check(&self) -> Result<(), String> {
        self.check_data()?;
        let budgets = self.compute.iter().chain(&self.tokens);
        check(
            self.compute.is_empty() != self.tokens.is_empty(),
            "give budgets either as `compute` (FLOP) or as `tokens`",
        )?;
        check(
            budgets.clone().all(|x| x.is_finite() && *x > 0.0),
            "budgets must be positive",
        )?;
        check(!self.seeds.is_empty(), "`seeds` must name at least one")?;
        check(
            self.min_steps >= FEWEST_STEPS,
            &format!(
                "`min_steps` must be at least {FEWEST_STEPS}: with fewer steps, whole batches miss a budget by more than 1%"
            ),
        )?;
        let Shares {
            warmup,
            decay,
            final_ratio,
        } = self.schedule;
        check(
            warmup >= 0.0 && decay >= 0.0 && warmup + decay <= 1.0,
            "`schedule`: `warmup` and `decay` are shares of the steps, together at most 1",
        )?;
        check(
            (0.0..=1.0).contains(&final_ratio),
            "`schedule.final_ratio` must lie in 0..=1",
        )?;
        let rule = &self.optimizer;
        let ratios = [rule.adamw_ratio, rule.embedding_ratio.unwrap_or(1.0)];
        check(
            ratios.iter().all(|ratio| ratio.is_finite() && *ratio > 0.0),
            "`optimizer`: ratios of rates must be positive",
        )?;
        check(
            rule.weight_decay.is_finite() && rule.weight_decay >= 0.0,
            "`optimizer.weight_decay` must not be negative",
        )?;
        self.search.check()?;
        self.check_sizes()
    }

    fn check_data(&self) -> Result<(), String> {
        check(self.row_tokens >= 2, "`row_tokens` must be at least 2")?;
        check(
            self.rows_per_program > 0,
            "`rows_per_program` must be at least 1",
        )?;
        match &self.data {
            Data::BuiltIn(_) => check(
                self.held_out.is_empty(),
                "built-in data brings its own held-out rows: leave `held_out` out",
            ),
            Data::Records(paths) => {
                check(!paths.is_empty(), "`data` must name at least one file")?;
                check(
                    !self.held_out.is_empty(),
                    "records to train on need others to measure on: name them in `held_out`",
                )
            }
        }
    }

    fn check_sizes(&self) -> Result<(), String> {
        check(!self.sizes.is_empty(), "there is no `[[size]]`")?;
        for (index, size) in self.sizes.iter().enumerate() {
            let name = &size.name;
            check(
                is_name(name),
                &format!("size `{name}`: a name is made of letters, digits and `._+-`"),
            )?;
            check(
                self.sizes[..index].iter().all(|other| other.name != *name),
                &format!("size `{name}` is there twice"),
            )?;
            // A width of heads that does not fit would end in the middle of the arithmetic.
            check(
                size.n_kv_heads > 0 && size.n_heads.is_multiple_of(size.n_kv_heads),
                &format!("size `{name}`: `n_heads` must be a multiple of `n_kv_heads`"),
            )?;
            self.config(size)
                .validate()
                .map_err(|error| format!("size `{name}`: {error}"))?;
        }
        Ok(())
    }

    /// The model of a size: the shape of the shipped model, over the vocabulary of this ladder's data.
    pub(crate) fn config(&self, size: &Size) -> Config {
        let (vocab_size, runs) = match self.data {
            Data::BuiltIn(BuiltIn::Arithmetic) => (VOCABULARY as usize, RUNS.to_vec()),
            Data::Records(_) => {
                let vocabulary = Vocabulary::default();
                (vocabulary.len(), vocabulary.runs())
            }
        };
        Config {
            vocab_size,
            hidden_size: size.hidden_size,
            intermediate_size: size.intermediate_size,
            n_layers: size.n_layers,
            n_heads: size.n_heads,
            n_kv_heads: size.n_kv_heads,
            head_dim: size.head_dim,
            layer_types: layer_types(size.n_layers),
            sliding_window: 64,
            rms_norm_eps: 1e-5,
            rope: Rope {
                theta: 10_000.0,
                scaling: None,
            },
            max_position_embeddings: self.row_tokens.max(4096),
            n_previous_embeddings: 2,
            run_embedding: Some(RunEmbedding {
                kinds: runs,
                n_places: 64,
            }),
            tie_word_embeddings: false,
            bos_token_id: Some(1),
            eos_token_id: vec![0],
        }
    }

    /// How a run of this ladder is trained.
    pub(crate) fn train_config(&self, run: &Run, threads: usize) -> TrainConfig {
        let rule = &self.optimizer;
        let searched = run.lr as f32;
        let optimizer = match rule.kind {
            OptimizerKind::AdamW => Optimizer::adamw(searched),
            OptimizerKind::Muon => Optimizer::muon(searched, (run.lr * rule.adamw_ratio) as f32),
        };
        let optimizer = Optimizer {
            embedding_lr: rule.embedding_ratio.map(|ratio| (run.lr * ratio) as f32),
            weight_decay: rule.weight_decay as f32,
            ..optimizer
        };
        let share = |share: f64| (share * run.steps as f64).floor() as u64;
        TrainConfig {
            schedule: Schedule::Wsd {
                warmup: share(self.schedule.warmup),
                decay_steps: share(self.schedule.decay),
                final_ratio: self.schedule.final_ratio as f32,
            },
            seed: run.seed,
            threads,
            // Ten of them at most: a short run is soon repeated, a long one loses a tenth.
            checkpoint_every: (run.steps / 10).max(100),
            keep_last: 1,
            ..TrainConfig::new(run.steps, run.batch_tokens as usize, optimizer)
        }
    }

    /// What keeps runs of two ladders from being compared, if anything does. Sizes, budgets, seeds and
    /// the search may differ: they only say which runs there are.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<String> {
        let fields = [
            ("data", self.data == other.data),
            ("held_out", self.held_out == other.held_out),
            (
                "rows_per_program",
                self.rows_per_program == other.rows_per_program,
            ),
            ("row_tokens", self.row_tokens == other.row_tokens),
            ("optimizer", self.optimizer == other.optimizer),
            ("schedule", self.schedule == other.schedule),
        ];
        let field = fields.iter().find(|(_, same)| !same);
        let size = self.sizes.iter().find(|size| {
            let known = other.sizes.iter().find(|other| other.name == size.name);
            known.is_some_and(|known| known != *size)
        });
        let size = size.map(|size| format!("size `{}`", size.name));
        field.map(|(field, _)| (*field).to_owned()).or(size)
    }
}

impl Search {
    fn check(&self) -> Result<(), String> {
        let (rates, batches): (&[f64], &[u64]) = match self {
            Self::Grid { lr, batch_tokens } => (lr, batch_tokens),
            Self::QuasiRandom {
                points,
                lr,
                batch_tokens,
            } => {
                check(*points > 0, "`search.points` must be at least 1")?;
                check(
                    lr[0] <= lr[1] && batch_tokens[0] <= batch_tokens[1],
                    "`search`: a range is the lowest and then the highest value",
                )?;
                (lr, batch_tokens)
            }
        };
        check(
            !rates.is_empty() && rates.iter().all(|lr| lr.is_finite() && *lr > 0.0),
            "`search.lr` must be positive",
        )?;
        check(
            !batches.is_empty() && batches.iter().all(|batch| *batch > 0),
            "`search.batch_tokens` must be positive",
        )
    }
}

fn check(holds: bool, reason: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(reason.to_owned())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use cwm_model::LayerType;

    /// A ladder of two sizes and two budgets whose runs take a moment each.
    pub(in crate::scale) const SMALL: &str = r#"
data = "arithmetic"
row_tokens = 32
compute = [3e8, 6e8]

[optimizer]
kind = "adamw"

[schedule]
warmup = 0.1
decay = 0.2

[search]
kind = "grid"
lr = [0.003, 0.01]
batch_tokens = [64, 128]

[[size]]
name = "a"
hidden_size = 8
n_layers = 1
n_heads = 2
n_kv_heads = 1
head_dim = 4
intermediate_size = 16

[[size]]
name = "b"
hidden_size = 16
n_layers = 1
n_heads = 2
n_kv_heads = 1
head_dim = 8
intermediate_size = 32
"#;

    #[test]
    fn the_papers_compute_comes_out() {
        // CWM: 64 layers, and 8 T tokens at rows of 8192 are said to take 1.64e24 FLOP.
        let config = Config {
            vocab_size: 128_256,
            hidden_size: 6144,
            intermediate_size: 21_504,
            n_layers: 64,
            n_heads: 48,
            n_kv_heads: 8,
            head_dim: 128,
            layer_types: vec![LayerType::Full; 64],
            n_previous_embeddings: 0,
            run_embedding: None,
            ..Ladder::parse(SMALL)
                .map(|l| l.config(&l.sizes[0]))
                .expect("parses")
        };
        let weight = weight(&config, 8192);
        let compute = weight.flops_per_token * 8e12;
        assert!((compute / 1.64e24 - 1.0).abs() < 0.005, "{compute:e}");
        assert_eq!(weight.n_params - weight.n_params_ne, 2 * 128_256 * 6144);
        let tied = Config {
            tie_word_embeddings: true,
            ..config
        };
        assert_eq!(super::weight(&tied, 8192).n_params_ne, weight.n_params_ne);
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |from: &str, to: &str| {
            assert!(SMALL.contains(from), "{from}");
            Ladder::parse(&SMALL.replacen(from, to, 1)).expect_err(to)
        };
        for (from, to, part) in [
            (
                "row_tokens = 32",
                "row_tokens = 32\nrows = 4",
                "unknown field `rows`",
            ),
            (
                "\"arithmetic\"",
                "\"algebra\"",
                "`data` is \"arithmetic\" or a list",
            ),
            ("\"arithmetic\"", "[\"a.jsonl\"]", "name them in `held_out`"),
            (
                "compute = [3e8, 6e8]",
                "",
                "either as `compute` (FLOP) or as `tokens`",
            ),
            (
                "compute = [3e8, 6e8]",
                "compute = [1e8]\ntokens = [1e6]",
                "either as",
            ),
            ("[3e8, 6e8]", "[-1.0]", "budgets must be positive"),
            (
                "row_tokens = 32",
                "row_tokens = 32\nmin_steps = 9",
                "`min_steps` must be at least 50",
            ),
            ("warmup = 0.1", "warmup = 0.9", "together at most 1"),
            ("[0.003, 0.01]", "[]", "`search.lr` must be positive"),
            (
                "kind = \"grid\"",
                "kind = \"random\"",
                "unknown variant `random`",
            ),
            ("name = \"b\"", "name = \"a\"", "size `a` is there twice"),
            (
                "name = \"b\"",
                "name = \"a,b\"",
                "a name is made of letters",
            ),
            (
                "n_kv_heads = 1",
                "n_kv_heads = 3",
                "must be a multiple of `n_kv_heads`",
            ),
            ("head_dim = 4", "head_dim = 5", "size `a`: "),
        ] {
            let reason = refused(from, to);
            assert!(reason.contains(part), "`{part}` is not in: {reason}");
        }
    }

    #[test]
    fn ladders_are_written_and_read_back() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let quasi = SMALL
            .replace("\"grid\"", "\"quasi-random\"\npoints = 4")
            .replace("\"arithmetic\"", "[\"a.jsonl\"]\nheld_out = [\"/b.jsonl\"]");
        std::fs::write(dir.path().join("L.toml"), quasi).expect("writes");
        let ladder = Ladder::load(&dir.path().join("L.toml")).expect("reads");
        let Data::Records(paths) = &ladder.data else {
            panic!("{:?}", ladder.data)
        };
        assert!(
            paths[0].is_absolute() && paths[0].ends_with("a.jsonl"),
            "{paths:?}"
        );
        assert_eq!(ladder.held_out, [Path::new("/b.jsonl")]);
        ladder.save(dir.path()).expect("writes");
        let again = Ladder::load(&dir.path().join(LADDER_FILE)).expect("reads");
        assert_eq!(again, ladder);
    }
}
