//! `cwm train --data`: the small model on recorded runs, with the settings that suit it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use cwm_model::Model;
use cwm_train::sources::windows::Ask;
use cwm_train::sources::{Content, Groups, Source, read};
use cwm_train::stage::Size;
use cwm_train::{
    Changes, Mixture, Optimizer, OptimizerKind, Schedule, Tokenizer, TrainConfig, Trainer,
};

use super::{Args, Prepared, Reading};
use crate::model::load_parts;
use crate::program::default_threads;

/// What is trained on, and from what.
#[derive(clap::Args)]
pub(super) struct Quick {
    /// Recorded runs to train on (JSON lines of `cwm data generate`, or shards of `cwm data build`)
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., required_unless_present_any = ["config", "stage", "print"], conflicts_with_all = ["config", "stage"])]
    pub(super) data: Vec<PathBuf>,
    /// Recorded runs to measure on, never trained on
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["config", "stage"])]
    held_out: Option<PathBuf>,
    /// Begin with the weights of this model instead of random ones; nothing with --resume, as a run goes on with
    /// its own
    #[arg(long, value_name = "DIR", conflicts_with_all = ["preset", "config", "stage"])]
    from: Option<PathBuf>,
    /// Seed of the weights and of the data order [default: 1]
    #[arg(long, conflicts_with_all = ["config", "stage"])]
    seed: Option<u64>,
    /// Tokens of a row at most
    #[arg(long, value_name = "N", default_value_t = 768, conflicts_with_all = ["config", "stage"])]
    row_tokens: usize,
    /// Rows kept of one program at most
    #[arg(long, value_name = "N", default_value_t = 3, conflicts_with_all = ["config", "stage"])]
    rows_per_program: usize,
    #[command(flatten)]
    settings: Settings,
}

/// What a new run has defaults for, and a resumed one keeps unless told.
#[derive(clap::Args)]
#[group(multiple = true, conflicts_with_all = ["config", "stage"])]
pub(super) struct Settings {
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

/// Begins or resumes the run, on the first rank, and reads its data.
pub(super) fn prepare(args: &Args, out: &Path, is_first: bool) -> Result<Prepared> {
    let tokenizer = Tokenizer::nano();
    let quick = &args.quick;
    let trainer = match is_first {
        true => Some(trainer(args, out, &tokenizer)?),
        false => None,
    };
    // Reading takes long, so a run that cannot begin is refused before.
    let mut groups = BTreeSet::new();
    let held_out = match &quick.held_out {
        Some(path) => Some(quick.read(
            "held out",
            std::slice::from_ref(path),
            &tokenizer,
            Groups::Note(&mut groups),
        )?),
        None => None,
    };
    let train = quick.read("data", &quick.data, &tokenizer, Groups::Avoid(&groups))?;
    Ok(Prepared {
        trainer,
        threads: quick.settings.threads,
        train,
        held_out,
    })
}

/// The run in `out`, new or resumed.
fn trainer(args: &Args, out: &Path, tokenizer: &Tokenizer) -> Result<Trainer> {
    let quick = &args.quick;
    let shape = args.preset.as_deref().map(size).transpose()?;
    let trainer = if args.resume {
        tokenizer
            .check(out)
            .with_context(|| format!("cannot use the training run in `{}`", out.display()))?;
        let current = Trainer::resume(out)?;
        check_unchanged(quick, shape, tokenizer, &current)?;
        let changes = Changes {
            new_data: args.new_data,
            ..Changes::to(&quick.settings.applied_to(current.config()))
        };
        drop(current);
        Trainer::resume_with(out, &changes)?
    } else {
        let config = quick.settings.applied_to(&default_config(quick));
        Trainer::new(first_model(quick, shape, tokenizer)?, config, out)?
    };
    tokenizer.save(out)?;
    Ok(trainer)
}

impl Quick {
    fn read(
        &self,
        name: &str,
        paths: &[PathBuf],
        tokenizer: &Tokenizer,
        groups: Groups<'_>,
    ) -> Result<Mixture> {
        let source = Source {
            name: name.to_owned(),
            paths: paths.to_vec(),
            content: Content::Windows {
                ask: Ask::Frames,
                rows_per_program: self.rows_per_program,
                weights: BTreeMap::new(),
            },
        };
        let mut reading = Reading::default();
        let packed = read(&source, tokenizer, self.row_tokens, groups, &mut |count| {
            reading.at(name, count);
        })?;
        Ok(Mixture::new(
            vec![(name.to_owned(), 1.0, packed)],
            self.row_tokens,
        ))
    }
}

fn size(name: &str) -> Result<Size> {
    Ok(match name {
        "tiny" => Size::Tiny,
        "small" => Size::Small,
        "medium" => Size::Medium,
        "large" => Size::Large,
        _ => bail!(
            "--preset `{name}` is none of `tiny`, `small`, `medium`, `large`; \
             the presets of stages go with --stage, not with --data"
        ),
    })
}

/// The weights a new run begins with.
fn first_model(args: &Quick, shape: Option<Size>, tokenizer: &Tokenizer) -> Result<Model> {
    let Some(folder) = &args.from else {
        let shape = shape.unwrap_or(Size::Small).config(tokenizer);
        return Ok(Model::init(shape, args.seed.unwrap_or(1)));
    };
    let (_, model) = load_parts(folder)
        .with_context(|| format!("cannot begin with the model in `{}`", folder.display()))?;
    Ok(model)
}

fn default_config(args: &Quick) -> TrainConfig {
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
        keep_best: true,
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
fn check_unchanged(
    args: &Quick,
    shape: Option<Size>,
    tokenizer: &Tokenizer,
    run: &Trainer,
) -> Result<()> {
    let config = run.config();
    let shape = shape.map(|shape| shape.config(tokenizer));
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

#[cfg(test)]
mod tests {
    use clap::Parser;
    use cwm_train::stage::{Plan, Stage};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn defaults_are_those_of_the_preset() {
        let line = ["train", "--data", "a", "--out", "run"];
        let quick = Line::try_parse_from(line).expect("a line").args.quick;
        let config = quick.settings.applied_to(&default_config(&quick));
        let source = "[[source]]\nname = 'a'\nkind = 'windows'\npath = 'a'\nshare = 1\n";
        let threads = default_threads();
        let plan = Plan::read(
            source,
            Some(Stage::Pre),
            Some("nano-small"),
            Path::new(""),
            threads,
        );
        assert_eq!(config, plan.expect("a preset").train);
    }
}
