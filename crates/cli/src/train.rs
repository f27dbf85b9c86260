//! `cwm train` and `cwm export`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use cwm_data::open_records;
use cwm_data::pack::PackedProgram;
use cwm_model::{Config, Dtype, LayerType, Model, Rope, RunEmbedding};
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::live::Document;
use cwm_train::traces::TraceDataset;
use cwm_train::{
    Changes, Dataset, Evaluation, Observer, Optimizer, OptimizerKind, Schedule, StepReport,
    TrainConfig, Trainer, newest_checkpoint,
};
use indicatif::ProgressBar;

use crate::interrupt::{interrupted, watch_interrupts};
use crate::mirror::{Mirror, StoreArgs};
use crate::model::load_parts;
use crate::program::default_threads;
use crate::progress;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recorded runs to train on (JSON lines of `cwm data generate`, or shards of `cwm data build`)
    #[arg(long, value_name = "FILE.jsonl", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Recorded runs to measure on, never trained on
    #[arg(long, value_name = "FILE.jsonl")]
    held_out: Option<PathBuf>,
    /// Folder of the run: checkpoints and train.jsonl
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on from the newest whole checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// With --resume: go on with other data than the run began with
    #[arg(long, requires = "resume")]
    new_data: bool,
    /// Begin with the weights of this model instead of random ones
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Shape of a new model [default: small]
    #[arg(long, value_enum, conflicts_with = "from")]
    preset: Option<Preset>,
    /// Seed of the weights and of the data order [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    /// Tokens of a row at most
    #[arg(long, value_name = "N", default_value_t = 768)]
    row_tokens: usize,
    /// Rows kept of one program at most
    #[arg(long, value_name = "N", default_value_t = 3)]
    rows_per_program: usize,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    settings: Settings,
}

/// What a new run has defaults for, and a resumed one keeps unless told.
#[derive(clap::Args)]
struct Settings {
    /// Steps of the whole run [default: 2000]
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Steps of linear warm-up [default: 50]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// Last steps, over which the learning rate falls to a fiftieth [default: 400]
    #[arg(long, value_name = "N")]
    decay: Option<u64>,
    /// Tokens of a batch [default: 4096]
    #[arg(long, value_name = "N")]
    batch_tokens: Option<usize>,
    /// Rule for the hidden matrices; cannot change within a run [default: muon]
    #[arg(long, value_enum)]
    optimizer: Option<Rule>,
    /// Peak learning rate of AdamW parameters [default: 0.003; 0.001 with muon and --from]
    #[arg(long)]
    lr: Option<f32>,
    /// Peak learning rate of the embedding tables [default: 0.01 with muon and random weights, else that of --lr]
    #[arg(long)]
    embedding_lr: Option<f32>,
    /// Peak learning rate of Muon matrices [default: 0.02; 0.006 with --from]
    #[arg(long)]
    muon_lr: Option<f32>,
    /// Decoupled weight decay [default: 0.02]
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Threads [default: one per processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Steps between checkpoints [default: 100]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// Steps between held-out measurements [default: 200]
    #[arg(long, value_name = "N")]
    eval_every: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rule {
    /// Orthogonalised momentum
    Muon,
    /// AdamW
    Adamw,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// For tests: about 0.1M parameters
    Tiny,
    /// About 1.7M parameters: the shape of the shipped model
    Small,
    /// About 7.6M parameters
    Medium,
    /// About 19M parameters
    Large,
}

impl Preset {
    fn config(self, vocabulary: &Vocabulary) -> Config {
        let (hidden_size, n_layers, n_heads, n_kv_heads, intermediate_size) = match self {
            Self::Tiny => (64, 2, 2, 1, 128),
            Self::Small => (128, 6, 4, 2, 384),
            Self::Medium => (288, 8, 9, 3, 768),
            Self::Large => (384, 10, 12, 4, 1152),
        };
        Config {
            vocab_size: vocabulary.len(),
            hidden_size,
            intermediate_size,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim: 32,
            layer_types: layer_types(n_layers),
            sliding_window: 64,
            rms_norm_eps: 1e-5,
            rope: Rope {
                theta: 10_000.0,
                scaling: None,
            },
            max_position_embeddings: 4096,
            n_previous_embeddings: 2,
            run_embedding: Some(RunEmbedding {
                kinds: vocabulary.runs(),
                n_places: 64,
            }),
            tie_word_embeddings: false,
            bos_token_id: Some(1),
            eos_token_id: vec![0],
        }
    }
}

/// The last layer and every third before it see the source too; the others see
/// only what is near, since all that a line does is told in its focus.
fn layer_types(n_layers: usize) -> Vec<LayerType> {
    let layer_type = |above: usize| match above % 3 {
        0 => LayerType::Full,
        _ => LayerType::Sliding,
    };
    (0..n_layers).rev().map(layer_type).collect()
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let vocabulary = Arc::new(Vocabulary::default());
    let remote = if args.resume {
        args.store.open_and_fetch(&args.out)?
    } else {
        args.store.open(&args.out)?
    };
    let mut trainer = if args.resume {
        check_vocabulary(&args.out)?;
        let current = Trainer::resume(&args.out)?;
        check_unchanged(args, &current)?;
        let changes = changes(args, current.config());
        drop(current);
        Trainer::resume_with(&args.out, &changes)?
    } else {
        let config = args.settings.applied_to(&default_config(args));
        Trainer::new(first_model(args, &vocabulary)?, config, &args.out)?
    };
    for note in trainer.notes() {
        eprintln!("note: {note}");
    }
    // Reading takes long, so a run that cannot begin is refused before.
    let train = dataset(&args.data, &vocabulary, args, true)?;
    ensure!(!train.is_empty(), "the training data has no usable rows");
    let held_out = match &args.held_out {
        Some(path) => Some(dataset(
            std::slice::from_ref(path),
            &vocabulary,
            args,
            false,
        )?),
        None => None,
    };
    eprintln!(
        "training {:.2}M parameters on {} rows; step {} of {}",
        trainer.model().config.n_params() as f64 / 1e6,
        train.len(),
        trainer.step(),
        trainer.config().steps,
    );
    eprintln!(
        "hint: watch it from another terminal with `cwm train watch {}`",
        args.out.display()
    );
    std::fs::write(args.out.join(Vocabulary::FILE), vocabulary.to_json())
        .with_context(|| format!("cannot write into `{}`", args.out.display()))?;
    watch_interrupts();
    let bar = progress::bar(trainer.config().steps, "train");
    let mirror = remote.map(|remote| Mirror::start(remote, &args.out, &bar));
    let mut observer = Watch {
        mirror: mirror.transpose()?,
        bar,
        last: None,
    };
    observer.bar.set_position(trainer.step());
    let held_out: Option<&dyn Dataset> = held_out.as_ref().map(|d| d as &dyn Dataset);
    let summary = trainer.run(&train, held_out, &mut observer);
    observer.bar.finish_and_clear();
    let last = (summary.as_ref().ok()).and_then(|summary| summary.checkpoint.as_deref());
    let stored = observer.mirror.map(|mirror| mirror.finish(last));
    let summary = summary?;
    let verb = if summary.stopped {
        "stopped"
    } else {
        "finished"
    };
    eprintln!("{verb} at step {} of {}", summary.step, summary.steps);
    if let Some(checkpoint) = &summary.checkpoint {
        eprintln!("checkpoint `{}`", checkpoint.display());
    }
    if summary.stopped {
        eprintln!("hint: go on with the same command and --resume");
    }
    stored.unwrap_or(Ok(()))
}

/// The weights a new run begins with.
fn first_model(args: &Args, vocabulary: &Vocabulary) -> Result<Model> {
    let Some(folder) = &args.from else {
        let shape = args.preset.unwrap_or(Preset::Small);
        return Ok(Model::init(
            shape.config(vocabulary),
            args.seed.unwrap_or(1),
        ));
    };
    let (_, model) = load_parts(folder)
        .with_context(|| format!("cannot begin with the model in `{}`", folder.display()))?;
    Ok(model)
}

/// Makes sure that a run's weights were trained with the vocabulary of this
/// program, which would otherwise give each token another meaning.
fn check_vocabulary(run: &Path) -> Result<()> {
    Vocabulary::load(&run.join(Vocabulary::FILE))
        .with_context(|| format!("cannot use the training run in `{}`", run.display()))?;
    Ok(())
}

fn default_config(args: &Args) -> TrainConfig {
    let optimizer = match args.settings.optimizer {
        // The rates that suit random weights are noise to good ones.
        None | Some(Rule::Muon) if args.from.is_some() => Optimizer {
            weight_decay: 0.02,
            ..Optimizer::muon(0.006, 1e-3)
        },
        None | Some(Rule::Muon) => Optimizer {
            weight_decay: 0.02,
            embedding_lr: Some(0.01),
            ..Optimizer::muon(0.02, 3e-3)
        },
        Some(Rule::Adamw) => Optimizer {
            weight_decay: 0.02,
            ..Optimizer::adamw(3e-3)
        },
    };
    TrainConfig {
        schedule: Schedule::Wsd {
            warmup: 50,
            decay_steps: 400,
            final_ratio: 0.02,
        },
        seed: args.seed.unwrap_or(1),
        threads: default_threads(),
        eval_every: 200,
        ..TrainConfig::new(2000, 4096, optimizer)
    }
}

impl Settings {
    /// `config` with what was given on the command line. A schedule that was
    /// not given shrinks to fit a shorter run.
    fn applied_to(&self, config: &TrainConfig) -> TrainConfig {
        let steps = self.steps.unwrap_or(config.steps);
        let (warmup, decay) = match config.schedule {
            Schedule::Wsd {
                warmup,
                decay_steps,
                ..
            } => (warmup, decay_steps),
            Schedule::Cosine { warmup, .. } | Schedule::Constant { warmup } => (warmup, 0),
        };
        let warmup = self.warmup.unwrap_or(warmup.min(steps));
        let decay_steps = self
            .decay
            .unwrap_or(decay.min(steps.saturating_sub(warmup)));
        let optimizer = Optimizer {
            lr: self.lr.unwrap_or(config.optimizer.lr),
            embedding_lr: self.embedding_lr.or(config.optimizer.embedding_lr),
            muon_lr: self.muon_lr.unwrap_or(config.optimizer.muon_lr),
            weight_decay: self.weight_decay.unwrap_or(config.optimizer.weight_decay),
            ..config.optimizer.clone()
        };
        TrainConfig {
            steps,
            batch_tokens: self.batch_tokens.unwrap_or(config.batch_tokens),
            optimizer,
            schedule: Schedule::Wsd {
                warmup,
                decay_steps,
                final_ratio: 0.02,
            },
            threads: self.threads.unwrap_or(config.threads),
            checkpoint_every: self.checkpoint_every.unwrap_or(config.checkpoint_every),
            eval_every: self.eval_every.unwrap_or(config.eval_every),
            ..config.clone()
        }
    }
}

/// What a run was begun with cannot be changed on the way.
fn check_unchanged(args: &Args, run: &Trainer) -> Result<()> {
    let config = run.config();
    let shape = args.preset.map(|p| p.config(&Vocabulary::default()));
    ensure!(
        shape.is_none_or(|s| s == run.model().config),
        "--preset is not the shape that this run was begun with"
    );
    ensure!(
        args.seed.is_none_or(|s| s == config.seed),
        "--seed is not the {} that this run was begun with",
        config.seed
    );
    let kind = args.settings.optimizer.map(|rule| match rule {
        Rule::Muon => OptimizerKind::Muon,
        Rule::Adamw => OptimizerKind::AdamW,
    });
    ensure!(
        kind.is_none_or(|k| k == config.optimizer.kind),
        "--optimizer is not the one that this run was begun with"
    );
    Ok(())
}

fn changes(args: &Args, current: &TrainConfig) -> Changes {
    let config = args.settings.applied_to(current);
    Changes {
        steps: Some(config.steps),
        schedule: Some(config.schedule),
        optimizer: Some(config.optimizer),
        batch_tokens: Some(config.batch_tokens),
        threads: Some(config.threads),
        checkpoint_every: Some(config.checkpoint_every),
        keep_last: Some(config.keep_last),
        eval_every: Some(config.eval_every),
        new_data: args.new_data,
    }
}

/// The size of a file, or of the shards of a folder.
fn bytes_of(path: &Path) -> std::io::Result<u64> {
    if !path.is_dir() {
        return Ok(std::fs::metadata(path)?.len());
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "parquet")
        {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Reads records and cuts them into rows. Programs the vocabulary cannot hold
/// are left out and counted.
fn dataset(
    paths: &[PathBuf],
    vocabulary: &Arc<Vocabulary>,
    args: &Args,
    shifted: bool,
) -> Result<TraceDataset> {
    let mut programs = Vec::new();
    let mut refused = 0;
    let mut fingerprint = String::new();
    for path in paths {
        let bytes = bytes_of(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let bar = progress::spinner("read");
        for record in open_records(path)? {
            bar.inc(1);
            let record = record?;
            let document = Document::from_trace(&record.trace);
            match PackedProgram::new(&document, &record.workings, vocabulary) {
                Ok(program) => programs.push(program),
                Err(_) => refused += 1,
            }
        }
        bar.finish_and_clear();
        fingerprint.push_str(&format!("{}:{bytes};", file_name(path)));
    }
    fingerprint.push_str(&format!("{}x{}", args.row_tokens, args.rows_per_program));
    if refused > 0 {
        eprintln!("note: {refused} programs do not fit the vocabulary and were left out");
    }
    Ok(TraceDataset::new(
        programs,
        vocabulary.clone(),
        args.row_tokens,
        args.rows_per_program,
        fingerprint,
        shifted,
    ))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

struct Watch {
    mirror: Option<Mirror>,
    bar: ProgressBar,
    last: Option<f64>,
}

impl Observer for Watch {
    fn step(&mut self, report: &StepReport) {
        self.bar.set_position(report.step);
        let loss = self
            .last
            .map_or(report.loss, |l| 0.9 * l + 0.1 * report.loss);
        self.last = Some(loss);
        self.bar.set_message(format!(
            "loss {loss:.4} acc {:.4} {:.0} tok/s",
            report.accuracy, report.tok_per_s
        ));
        if self.bar.is_hidden() && report.step.is_multiple_of(20) {
            eprintln!(
                "step {} loss {loss:.4} acc {:.4} lr {:.5} {:.0} tok/s",
                report.step, report.accuracy, report.lr, report.tok_per_s
            );
        }
    }

    fn evaluation(&mut self, evaluation: &Evaluation) {
        let line = format!(
            "held out: loss {:.4}, token accuracy {:.4}",
            evaluation.scores.loss, evaluation.scores.accuracy
        );
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn checkpoint(&mut self, path: &Path) {
        if let Some(mirror) = &mut self.mirror {
            mirror.checkpoint(path);
        }
    }

    fn should_stop(&mut self) -> bool {
        interrupted()
    }
}

#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    /// Folder of a training run
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Folder to write: config.json, model.safetensors, vocabulary.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folders of other checkpoints of the run, to write the mean of all weights
    #[arg(long, value_name = "DIR", num_args = 1..)]
    average: Vec<PathBuf>,
    /// Type of the weights
    #[arg(long, value_enum, default_value_t = Weights::Bf16)]
    dtype: Weights,
}

#[derive(Clone, Copy, ValueEnum)]
enum Weights {
    /// 32-bit floats
    F32,
    /// 16-bit brain floats
    Bf16,
    /// 8-bit integers with a scale per 32
    Int8,
}

/// Replaces the weights by the mean of theirs and those of other checkpoints. Points on the way of one
/// run lie in one basin, and their mean is often better than each (Izmailov et al. 2018).
fn average(model: &mut Model, others: &[PathBuf]) -> Result<()> {
    let share = 1.0 / (1 + others.len()) as f32;
    model.params.iter_mut().for_each(|weight| *weight *= share);
    for folder in others {
        let other = Model::load(folder)?;
        ensure!(
            other.config == model.config,
            "the model in `{}` has another shape than that of --run",
            folder.display()
        );
        let pairs = model.params.iter_mut().zip(&other.params);
        pairs.for_each(|(weight, other)| *weight += share * other);
    }
    Ok(())
}

pub(crate) fn export(args: &ExportArgs) -> Result<()> {
    let (checkpoint, notes) = newest_checkpoint(&args.run)?;
    for note in notes {
        eprintln!("note: {note}");
    }
    check_vocabulary(&args.run)?;
    let mut model = Model::load(&checkpoint)?;
    average(&mut model, &args.average)?;
    let dtype = match args.dtype {
        Weights::F32 => Dtype::F32,
        Weights::Bf16 => Dtype::Bf16,
        Weights::Int8 => Dtype::Int8,
    };
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create `{}`", args.out.display()))?;
    model.save(&args.out, dtype)?;
    std::fs::write(
        args.out.join(Vocabulary::FILE),
        Vocabulary::default().to_json(),
    )
    .with_context(|| format!("cannot write into `{}`", args.out.display()))?;
    eprintln!(
        "wrote `{}` from `{}`",
        args.out.display(),
        checkpoint.display()
    );
    Ok(())
}
