//! `cwm export`: a trained model as a folder to ship.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use cwm_model::{Dtype, Model};
use cwm_tokenizer::nano::Vocabulary;
use cwm_train::{
    TOKENIZER_FILE, Tokenizer, TokenizerKind, checkpoint_at, load_ema, newest_checkpoint,
};

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
    /// Take the checkpoint of this step instead of the newest, such as the best one that was kept
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// Take the running mean of the weights, of a run that was trained with `ema`
    #[arg(long, conflicts_with_all = ["average", "step"])]
    ema: bool,
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

/// Writes what tells of the vocabulary, in place of what an export of another one left.
fn ship_vocabulary(args: &ExportArgs, is_text: bool) -> std::io::Result<()> {
    let [note, nano] = [TOKENIZER_FILE, Vocabulary::FILE].map(|name| args.out.join(name));
    let stale = match is_text {
        // The vocabulary file itself may not be ours to pass on.
        true => std::fs::copy(args.run.join(TOKENIZER_FILE), note).map(|_| nano)?,
        false => match args.run.join(Vocabulary::FILE) {
            kept if kept.exists() => std::fs::copy(kept, nano).map(|_| note)?,
            // Runs that keep none are older than the newest tokens.
            _ => std::fs::write(nano, Vocabulary::without_jumps().to_json()).map(|()| note)?,
        },
    };
    match stale.exists() {
        true => std::fs::remove_file(stale),
        false => Ok(()),
    }
}

pub(crate) fn export(args: &ExportArgs) -> Result<()> {
    let (checkpoint, notes) = match args.step {
        None => newest_checkpoint(&args.run)?,
        Some(step) => (checkpoint_at(&args.run, step)?, Vec::new()),
    };
    for note in notes {
        eprintln!("note: {note}");
    }
    let unusable = || format!("cannot use the training run in `{}`", args.run.display());
    let is_text = Tokenizer::kind_of(&args.run).with_context(unusable)? != TokenizerKind::Nano;
    if !is_text {
        Tokenizer::nano().check(&args.run).with_context(unusable)?;
    }
    let mut model = match args.ema {
        true => load_ema(&args.run)?.0,
        false => Model::load(&checkpoint)?,
    };
    average(&mut model, &args.average)?;
    let dtype = match args.dtype {
        Weights::F32 => Dtype::F32,
        Weights::Bf16 => Dtype::Bf16,
        Weights::Int8 => Dtype::Int8Group32,
    };
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot create `{}`", args.out.display()))?;
    model.save(&args.out, dtype)?;
    ship_vocabulary(args, is_text)
        .with_context(|| format!("cannot write into `{}`", args.out.display()))?;
    eprintln!(
        "wrote `{}` from `{}`",
        args.out.display(),
        checkpoint.display()
    );
    Ok(())
}
