//! `cwm quantize`: a model in one of our forms of codes, and what that loses.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use cwm_data::open_records;
use cwm_engine::{Engine, Options};
use cwm_eval::text::{self, TextLoss};
use cwm_eval::{Report, traces};
use cwm_model::{Checkpoint, Dtype, KindLoss, Model};
use cwm_tokenizer::llama::{Llama, Special};
use cwm_tokenizer::nano::Vocabulary;
use cwm_trace::Trace;
use cwm_train::{Tokenizer, TokenizerKind};
use serde_json::{Value, json};

use crate::convert::{ensure_new, open, write_folder};
use crate::program::{default_threads, read};
use crate::progress;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model: a folder of safetensors or in Meta's layout, or a GGUF file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Form of the matrices
    #[arg(long, value_enum)]
    format: Format,
    /// Measure the loss per token of this text before and after
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Llama 3's tokenizer.model, for the --text of a model that has that vocabulary
    #[arg(long, value_name = "FILE", requires = "text")]
    vocabulary: Option<PathBuf>,
    /// Measure teacher-forced exactness on these recorded runs before and after
    #[arg(long, value_name = "FILE.jsonl")]
    traces: Option<PathBuf>,
    /// Recorded runs to measure on at most, from the start of the file
    #[arg(long, value_name = "N", requires = "traces")]
    limit: Option<usize>,
    /// Threads for measuring [default: one per processor]
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// 8-bit integers with a scale per 32
    Int8,
    /// 4-bit integers with a scale per 32; tables and head stay int8
    Int4G32,
    /// 4-bit integers with a scale per 128; tables and head stay int8
    Int4G128,
}

/// What the model is measured on.
struct Material {
    /// Pieces of text in the model's ids.
    pieces: Option<Vec<Vec<u32>>>,
    runs: Option<(Arc<Vocabulary>, Vec<Trace>)>,
    threads: usize,
}

/// What was measured of one form of the model.
struct Measured {
    text: Option<TextLoss>,
    runs: Option<Report>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure_new(&args.out)?;
    let before = open(&args.model)?;
    // Before the work, so that a mistake in it costs nothing.
    let material = Material::read(args, &before)?;
    let dtype = match args.format {
        Format::Int8 => Dtype::Int8Group32,
        Format::Int4G32 => Dtype::Int4Group32,
        Format::Int4G128 => Dtype::Int4Group128,
    };
    write_folder(&before, &args.model, &args.out, dtype)?;
    let after = open(&args.out)?;
    let bar = progress::bar(before.layout().total() as u64, "compare");
    let kinds = before.compare(&after, &mut |values| bar.inc(values))?;
    bar.finish_and_clear();
    let measured = [&before, &after].map(|checkpoint| material.measure(checkpoint));
    let [was, is] = measured;
    let (was, is) = (was?, is?);
    if args.json {
        println!("{}", to_json(dtype, &before, &after, &kinds, &was, &is));
        return Ok(());
    }
    print(dtype, [&before, &after], &kinds, &was, &is)?;
    eprintln!("wrote `{}`", args.out.display());
    Ok(())
}

impl Material {
    fn read(args: &Args, checkpoint: &Checkpoint) -> Result<Self> {
        Ok(Self {
            pieces: args
                .text
                .as_ref()
                .map(|_| pieces(args, checkpoint))
                .transpose()?,
            runs: args
                .traces
                .as_ref()
                .map(|_| runs(args, checkpoint))
                .transpose()?,
            threads: args.threads.unwrap_or_else(default_threads),
        })
    }

    /// Runs one form of the model, dequantised, over all of it.
    fn measure(&self, checkpoint: &Checkpoint) -> Result<Measured> {
        let mut measured = Measured {
            text: None,
            runs: None,
        };
        if self.pieces.is_none() && self.runs.is_none() {
            return Ok(measured);
        }
        let model = Model::from_checkpoint(checkpoint)?;
        let engine = Arc::new(Engine::new(model, Options::default())?);
        if let Some(pieces) = &self.pieces {
            let bar = progress::bar(pieces.len() as u64, "text");
            let done = |n: usize| bar.set_position(n as u64);
            measured.text = Some(text::loss(&engine, pieces, self.threads, done)?);
            bar.finish_and_clear();
        }
        if let Some((vocabulary, runs)) = &self.runs {
            let bar = progress::bar(runs.len() as u64, "runs");
            let done = |n: usize| bar.set_position(n as u64);
            let report = traces::evaluate(&engine, vocabulary, runs, self.threads, done)?;
            measured.runs = Some(report);
            bar.finish_and_clear();
        }
        Ok(measured)
    }
}

/// Longest piece of text that is seen as a whole, in tokens.
const PIECE: usize = 2048;

fn pieces(args: &Args, checkpoint: &Checkpoint) -> Result<Vec<Vec<u32>>> {
    let path = args.text.as_deref().context("there is a text to read")?;
    let shown = path.display();
    let text = String::from_utf8(read(path)?).with_context(|| format!("`{shown}` is not UTF-8"))?;
    let llama = match (&args.vocabulary, Tokenizer::kind_of(&args.model)?) {
        (Some(vocabulary), _) => Llama::from_file(vocabulary)?,
        (None, TokenizerKind::Bytes) => Llama::bytes(),
        (None, TokenizerKind::Llama) => bail!(
            "the model has Llama 3's vocabulary; give its tokenizer.model with --vocabulary FILE"
        ),
        (None, TokenizerKind::Nano) => bail!(
            "the model in `{}` has no vocabulary for text; measure it on recorded runs with --traces FILE.jsonl, or give Llama 3's tokenizer.model with --vocabulary FILE",
            args.model.display()
        ),
    };
    let (ids, rows) = (llama.vocabulary(), checkpoint.config().vocab_size);
    ensure!(
        ids == rows,
        "the vocabulary has {ids} tokens, but the weights have {rows}; the files are not of the same model"
    );
    let longest = PIECE.min(checkpoint.config().max_position_embeddings);
    ensure!(
        longest > 1,
        "the model sees one token at a time; there is nothing to foretell"
    );
    let begin = llama.id(Special::BeginOfText);
    let pieces: Vec<Vec<u32>> = llama
        .encode(&text)
        .chunks(longest - 1)
        .map(|ids| std::iter::once(begin).chain(ids.iter().copied()).collect())
        .collect();
    ensure!(!pieces.is_empty(), "`{shown}` is empty");
    Ok(pieces)
}

fn runs(args: &Args, checkpoint: &Checkpoint) -> Result<(Arc<Vocabulary>, Vec<Trace>)> {
    let path = args.traces.as_deref().context("there are runs to read")?;
    let vocabulary = Vocabulary::load(&args.model.join(Vocabulary::FILE)).with_context(|| {
        format!(
            "--traces needs a model with the small model's vocabulary, and `{}` has none",
            args.model.display()
        )
    })?;
    let (tokens, rows) = (vocabulary.len(), checkpoint.config().vocab_size);
    ensure!(
        tokens == rows,
        "the vocabulary has {tokens} tokens, but the weights have {rows}; the files are not of the same model"
    );
    let mut runs = Vec::new();
    for record in open_records(path)?.take(args.limit.unwrap_or(usize::MAX)) {
        runs.push(record?.trace);
    }
    ensure!(
        !runs.is_empty(),
        "`{}` holds no recorded programs",
        path.display()
    );
    Ok((Arc::new(vocabulary), runs))
}

fn to_json(
    dtype: Dtype,
    before: &Checkpoint,
    after: &Checkpoint,
    kinds: &[KindLoss],
    was: &Measured,
    is: &Measured,
) -> Value {
    let kind = |kind: &KindLoss| {
        json!({
            "kind": kind.kind,
            "tensors": kind.tensors,
            "bytes_before": kind.bytes_before,
            "bytes_after": kind.bytes_after,
            "mean_error": kind.mean_error,
            "worst_error": kind.worst_error,
        })
    };
    let text = |measured: &Measured| {
        measured.text.map(|loss| {
            json!({"tokens": loss.tokens, "loss": loss.mean(), "perplexity": loss.perplexity()})
        })
    };
    let runs = |measured: &Measured| measured.runs.as_ref().map(Report::to_json);
    json!({
        "format": dtype.name(),
        "bytes_before": before.bytes(),
        "bytes_after": after.bytes(),
        "kinds": kinds.iter().map(kind).collect::<Vec<_>>(),
        "text": {"before": text(was), "after": text(is)},
        "traces": {"before": runs(was), "after": runs(is)},
    })
}

fn print(
    dtype: Dtype,
    checkpoints: [&Checkpoint; 2],
    kinds: &[KindLoss],
    was: &Measured,
    is: &Measured,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let [before, after] = checkpoints.map(Checkpoint::bytes);
    writeln!(
        out,
        "{:<26} {before} -> {after} bytes ({:.3} of it) as {}",
        "weights",
        after as f64 / before as f64,
        dtype.name()
    )?;
    writeln!(out, "relative error of")?;
    for kind in kinds.iter().filter(|kind| kind.worst_error > 0.0) {
        writeln!(
            out,
            "  {:<24} mean {:.5}  worst {:.5}  of {}",
            kind.kind, kind.mean_error, kind.worst_error, kind.tensors
        )?;
    }
    if let (Some(was), Some(is)) = (was.text, is.text)
        && let (Some(before), Some(after)) = (was.mean(), is.mean())
    {
        writeln!(
            out,
            "{:<26} {before:.5} -> {after:.5} nats ({:.3} -> {:.3} perplexity) over {} tokens",
            "loss per token",
            before.exp(),
            after.exp(),
            was.tokens
        )?;
    }
    if let (Some(was), Some(is)) = (&was.runs, &is.runs) {
        for ((name, was), (_, is)) in was.rates().into_iter().zip(is.rates()) {
            if let (Some(before), Some(after)) = (was.value(), is.value()) {
                writeln!(
                    out,
                    "{name:<26} {before:.4} -> {after:.4}  ({} -> {} of {})",
                    was.hits, is.hits, was.count
                )?;
            }
        }
    }
    Ok(())
}
