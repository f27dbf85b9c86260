//! `cwm train` and `cwm export`.

mod config;
mod export;
mod quick;
mod ranks;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cwm_cuda::Gpu;
use cwm_train::collective::Collective;
use cwm_train::{Dataset, Evaluation, Mixture, Observer, StepReport, Trainer};
use indicatif::ProgressBar;

use crate::device::Device;
use crate::interrupt::{interrupted, watch_interrupts};
use crate::mirror::{Mirror, Remote, StoreArgs};
use crate::progress;

pub(crate) use export::{ExportArgs, export};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Stage file: model, data, and how they are trained
    #[arg(long, value_name = "STAGE.toml")]
    config: Option<PathBuf>,
    /// Stage of training that --preset is for
    #[arg(long, value_enum)]
    stage: Option<config::StageName>,
    /// With --data: shape of a new model, tiny, small (the default), medium or large; with --stage: the stage file to
    /// begin with, cwm-32b, nano-tiny, nano-small, nano-medium or nano-large
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Show the stage file with its preset and all defaults filled in, and train nothing
    #[arg(long, conflicts_with = "data")]
    print: bool,
    /// Folder of the run: checkpoints and train.jsonl
    #[arg(long, value_name = "DIR", required_unless_present = "print")]
    out: Option<PathBuf>,
    /// Go on from the newest whole checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// With --resume: go on with other data than the run began with
    #[arg(long, requires = "resume")]
    new_data: bool,
    /// Where to train: cpu, cuda (the first NVIDIA GPU) or cuda:NUMBER; products are in bf16 there
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
    #[command(flatten)]
    ranks: ranks::RankArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    quick: quick::Quick,
}

/// A run that is ready to go on.
struct Prepared {
    /// None on ranks other than 0, which get it from there.
    trainer: Option<Trainer>,
    /// Threads of this rank, if they are not those of rank 0.
    threads: Option<usize>,
    train: Mixture,
    held_out: Option<Mixture>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let is_stage = args.config.is_some() || args.stage.is_some();
    if args.print {
        return config::print(args);
    }
    let out = args.out.as_deref().context("--out is missing")?;
    // Before anything is written: most who lack a GPU learn of it here.
    let gpu = args.device.open()?;
    // Joining comes first: how long each rank reads its data is then nobody's affair.
    let others = args.ranks.settings()?;
    let is_first = others.as_ref().is_none_or(|others| others.rank == 0);
    let others = others.as_ref().map(ranks::join).transpose()?;
    let remote = match (is_first, args.resume) {
        (false, _) => None,
        (true, true) => args.store.open_and_fetch(out)?,
        (true, false) => args.store.open(out)?,
    };
    let prepared = match is_stage {
        true => config::prepare(args, out, is_first)?,
        false => quick::prepare(args, out, is_first)?,
    };
    train(prepared, others, gpu.as_ref(), remote, out)
}

fn train(
    prepared: Prepared,
    others: Option<Box<dyn Collective>>,
    gpu: Option<&Gpu>,
    remote: Option<Remote>,
    out: &Path,
) -> Result<()> {
    let Prepared {
        trainer,
        threads,
        train,
        held_out,
    } = prepared;
    let is_first = trainer.is_some();
    let mut trainer = match (trainer, others) {
        (Some(trainer), None) => trainer,
        (Some(trainer), Some(others)) => trainer.lead(others)?,
        (None, Some(others)) => Trainer::follow(others, threads)?,
        (None, None) => bail!("a process alone is rank 0"),
    };
    if let Some(gpu) = gpu {
        trainer = trainer.on_gpu(gpu)?;
        eprintln!("training on {}", gpu.device().name());
    }
    for note in trainer.notes() {
        eprintln!("note: {note}");
    }
    describe(&train);
    if let Some(held_out) = &held_out {
        describe(held_out);
    }
    eprintln!(
        "training {:.2}M parameters on {} rows; step {} of {}",
        trainer.model().config.n_params() as f64 / 1e6,
        train.len(),
        trainer.step(),
        trainer.config().steps,
    );
    if is_first {
        eprintln!(
            "hint: watch it from another terminal with `cwm train watch {}`",
            out.display()
        );
    }
    watch_interrupts();
    let bar = progress::bar(trainer.config().steps, "train");
    let mirror = remote.map(|remote| Mirror::start(remote, out, &bar));
    let mut observer = Watch {
        mirror: mirror.transpose()?,
        bar,
        last: None,
    };
    observer.bar.set_position(trainer.step());
    let held_out: Option<&dyn Dataset> = held_out.as_ref().map(|data| data as &dyn Dataset);
    let summary = trainer.run(&train, held_out, &mut observer);
    observer.bar.finish_and_clear();
    for note in gpu.iter().flat_map(|gpu| gpu.device().notes()) {
        eprintln!("note: {note}");
    }
    let last = summary.as_ref().ok();
    let last = last.and_then(|summary| summary.checkpoint.as_deref());
    let stored = observer.mirror.map(|mirror| mirror.finish(last));
    let summary = summary?;
    let verb = if summary.stopped {
        "stopped"
    } else {
        "finished"
    };
    eprintln!("{verb} at step {} of {}", summary.step, summary.steps);
    if summary.skipped_steps > 0 {
        eprintln!(
            "warning: {} of these steps made no update; `cwm train watch` tells why",
            summary.skipped_steps
        );
    }
    if let Some(checkpoint) = &summary.checkpoint {
        eprintln!("checkpoint `{}`", checkpoint.display());
    }
    if summary.stopped {
        eprintln!("hint: go on with the same command and --resume");
    }
    stored.unwrap_or(Ok(()))
}

/// How full the rows of each source are, and what did not get into them.
fn describe(data: &Mixture) {
    for (name, packed) in data.packed() {
        let stats = packed.stats();
        eprintln!(
            "`{name}`: {} rows of {} tokens, {:.2}% used, {:.2}% told again",
            stats.rows,
            data.row_tokens(),
            100.0 * stats.used,
            100.0 * stats.repeated as f64 / stats.tokens.max(1) as f64,
        );
        for (reason, count) in &stats.dropped {
            eprintln!("  left out, {reason}: {count}");
        }
    }
}

/// Shows how far reading has come.
#[derive(Default)]
struct Reading {
    bar: Option<(String, ProgressBar)>,
}

impl Reading {
    fn at(&mut self, source: &str, count: u64) {
        if self.bar.as_ref().is_none_or(|(name, _)| name != source) {
            self.clear();
            let bar = progress::spinner(&format!("read {source}"));
            self.bar = Some((source.to_owned(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(count);
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.clear();
    }
}

struct Watch {
    mirror: Option<Mirror>,
    bar: ProgressBar,
    last: Option<f64>,
}

impl Observer for Watch {
    fn note(&mut self, note: &str) {
        self.bar.suspend(|| eprintln!("note: {note}"));
    }

    fn step(&mut self, report: &StepReport) {
        self.bar.set_position(report.step);
        // A step that is no number says nothing about the next ones.
        let last = self.last.filter(|last| last.is_finite());
        let loss = last.map_or(report.loss, |l| 0.9 * l + 0.1 * report.loss);
        self.last = Some(if report.loss.is_finite() {
            loss
        } else {
            last.unwrap_or(loss)
        });
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
