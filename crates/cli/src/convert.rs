//! `cwm convert`: a model in another file format or type of numbers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use cwm_model::{CONFIG_FILE, Checkpoint, Dtype, INDEX_FILE};
use serde_json::json;

use crate::progress;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The model: a folder of safetensors or in Meta's layout, or a GGUF file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Folder or file to make; it must not exist
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// File format [default: gguf where --out ends in .gguf, else safetensors]
    #[arg(long, value_enum)]
    to: Option<Format>,
    /// Type of the matrices' numbers [default: that of the model if it is a type of floats, else bf16]
    #[arg(long, value_enum)]
    dtype: Option<Numbers>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A folder with Hugging Face's config.json and model.safetensors
    Safetensors,
    /// One file, as llama.cpp reads it
    Gguf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Numbers {
    /// 32-bit floats
    F32,
    /// 16-bit brain floats
    Bf16,
    /// 16-bit IEEE floats
    F16,
    /// GGUF's 8-bit integers with a scale per 32
    #[value(name = "q8_0")]
    Q8_0,
    /// GGUF's 4-bit integers with a scale per 32
    #[value(name = "q4_0")]
    Q4_0,
}

/// Weights of more bytes than this are split into several files.
pub(crate) const SHARD_BYTES: u64 = 4_000_000_000;

pub(crate) fn run(args: &Args) -> Result<()> {
    let format = args.to.unwrap_or(match args.out.extension() {
        Some(extension) if extension == "gguf" => Format::Gguf,
        _ => Format::Safetensors,
    });
    ensure_new(&args.out)?;
    let checkpoint = open(&args.model)?;
    let dtype = args.dtype.map_or_else(|| kept(&checkpoint), dtype);
    if format == Format::Safetensors && matches!(dtype, Dtype::Q8_0 | Dtype::Q4_0) {
        bail!(
            "folders of safetensors have no {name}; use `--to gguf`, or `cwm quantize` for our own forms",
            name = dtype.name()
        );
    }
    match format {
        Format::Gguf => write_gguf(&checkpoint, &args.out, dtype)?,
        Format::Safetensors => write_folder(&checkpoint, &args.model, &args.out, dtype)?,
    }
    let written = open(&args.out)?;
    report(args, format, dtype, checkpoint.bytes(), written.bytes());
    Ok(())
}

/// Opens a model and passes on what it says of itself.
pub(crate) fn open(path: &Path) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::open(path)
        .with_context(|| format!("cannot use the model in `{}`", path.display()))?;
    for note in checkpoint.notes() {
        eprintln!("note: {note}");
    }
    Ok(checkpoint)
}

pub(crate) fn ensure_new(out: &Path) -> Result<()> {
    let shown = out.display();
    ensure!(
        !out.exists(),
        "`{shown}` exists already; name another, or remove it first"
    );
    Ok(())
}

fn dtype(numbers: Numbers) -> Dtype {
    match numbers {
        Numbers::F32 => Dtype::F32,
        Numbers::Bf16 => Dtype::Bf16,
        Numbers::F16 => Dtype::F16,
        Numbers::Q8_0 => Dtype::Q8_0,
        Numbers::Q4_0 => Dtype::Q4_0,
    }
}

/// The type of a model's matrices where that is one of floats.
fn kept(checkpoint: &Checkpoint) -> Dtype {
    let matrices = checkpoint
        .names()
        .filter_map(|name| checkpoint.tensor(name).ok());
    let mut types = matrices
        .filter(|tensor| tensor.shape.len() == 2)
        .map(|tensor| tensor.dtype);
    let first = types
        .next()
        .filter(|dtype| matches!(dtype, Dtype::F32 | Dtype::F16));
    match first {
        Some(first) if types.all(|dtype| dtype == first) => first,
        _ => Dtype::Bf16,
    }
}

fn write_gguf(checkpoint: &Checkpoint, out: &Path, dtype: Dtype) -> Result<()> {
    let bar = progress::bytes("convert");
    bar.set_length(checkpoint.gguf_bytes(dtype));
    checkpoint.save_gguf(out, dtype, &mut |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    Ok(())
}

/// Writes a folder, which appears when it is complete, with what lay beside the weights in `from`.
pub(crate) fn write_folder(
    checkpoint: &Checkpoint,
    from: &Path,
    out: &Path,
    dtype: Dtype,
) -> Result<()> {
    let name = out.file_name().context("--out names no folder")?;
    let unfinished = out.with_file_name(format!(
        ".{}.{}.tmp",
        name.to_string_lossy(),
        std::process::id()
    ));
    let bar = progress::bytes("write");
    bar.set_length(checkpoint.folder_bytes(dtype));
    let written = checkpoint
        .save_folder(&unfinished, dtype, SHARD_BYTES, &mut |bytes| bar.inc(bytes))
        .map_err(anyhow::Error::from)
        .and_then(|()| copy_companions(from, &unfinished))
        .and_then(|()| {
            std::fs::rename(&unfinished, out)
                .with_context(|| format!("cannot make `{}`", out.display()))
        });
    bar.finish_and_clear();
    if written.is_err() {
        // Best effort: the first error is the one worth reporting.
        let _ = std::fs::remove_dir_all(&unfinished);
    }
    written
}

/// Copies what a model's folder has beside config and weights: vocabularies, templates, licences.
fn copy_companions(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        eprintln!("note: the tokenizer inside a GGUF file is not written into the folder");
        return Ok(());
    }
    let context = || {
        format!(
            "cannot copy the files beside the weights of `{}`",
            from.display()
        )
    };
    for entry in std::fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_file() && is_companion(&name.to_string_lossy()) {
            std::fs::copy(&path, to.join(&name)).with_context(context)?;
        }
    }
    Ok(())
}

fn is_companion(name: &str) -> bool {
    let is_legal = name.starts_with("LICENSE") || name.starts_with("NOTICE");
    let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
    // The config, the index, and what Meta's layout has in place of the config.
    let is_ours = [CONFIG_FILE, INDEX_FILE, "params.json"].contains(&name);
    !is_ours && (is_legal || ["json", "model", "jinja", "txt"].contains(&kind))
}

fn report(args: &Args, format: Format, dtype: Dtype, before: u64, after: u64) {
    let format = match format {
        Format::Safetensors => "safetensors",
        Format::Gguf => "gguf",
    };
    if args.json {
        let value = json!({
            "model": args.model,
            "out": args.out,
            "format": format,
            "dtype": dtype.name(),
            "bytes_before": before,
            "bytes_after": after,
        });
        println!("{value}");
        return;
    }
    eprintln!(
        "wrote `{}` ({format}, {}): {} of weights, were {}",
        args.out.display(),
        dtype.name(),
        indicatif::DecimalBytes(after),
        indicatif::DecimalBytes(before)
    );
}
