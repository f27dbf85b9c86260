//! `cwm card`: a model's card out of what commands have written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cwm_data::{Manifest, Origin, Rejection, open_records};
use cwm_model::{CONFIG_FILE, Config};
use cwm_recipe::card::{Card, Data, Training};
use cwm_train::history;
use serde::de::DeserializeOwned;

/// A file of a folder of `cwm data build`.
const MANIFEST: &str = "manifest.json";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of the model
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Its name [default: that of the folder]
    #[arg(long)]
    name: Option<String>,
    /// What it was trained on, by the name in the stage file: recorded programs, or a folder of `cwm data build`
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path, num_args = 1..)]
    data: Vec<(String, PathBuf)>,
    /// Reports of `cwm data decontaminate`
    #[arg(long, value_name = "NAME=FILE.json", value_parser = named_path, num_args = 1..)]
    decontamination: Vec<(String, PathBuf)>,
    /// Folders of its training runs, in order
    #[arg(long, value_name = "DIR", num_args = 1..)]
    run: Vec<PathBuf>,
    /// What `cwm eval suite --json` printed
    #[arg(long, value_name = "FILE.json")]
    suite: Option<PathBuf>,
    /// A sentence that readers have to know first
    #[arg(long, value_name = "TEXT")]
    note: Vec<String>,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE.md")]
    out: Option<PathBuf>,
}

/// Takes `NAME=PATH` apart.
pub(crate) fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("is not NAME=PATH".to_owned()),
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let config = Config::load(&args.model)?;
    let named = args.model.canonicalize().ok();
    let named = named.as_deref().and_then(Path::file_name);
    let named = named.map(|name| name.to_string_lossy().into_owned());
    let mut card = Card {
        name: args.name.clone().or(named).unwrap_or_default(),
        parameters: config.n_params(),
        config: read_json(&args.model.join(CONFIG_FILE))?,
        notes: args.note.clone(),
        suite: args.suite.as_deref().map(read_json).transpose()?,
        ..Card::default()
    };
    for (name, path) in &args.data {
        card.data.push(data(name, path)?);
    }
    for (name, path) in &args.decontamination {
        card.decontamination.push((name.clone(), read_json(path)?));
    }
    for run in &args.run {
        card.training.push(Training::of(&history(run)?));
    }
    let text = card.to_markdown();
    match &args.out {
        None => print!("{text}"),
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write `{}`", path.display()))?,
    }
    Ok(())
}

/// Counts the programs of a source, and takes from its manifest what was left out.
fn data(name: &str, path: &Path) -> Result<Data> {
    let mut data = Data {
        name: name.to_owned(),
        ..Data::default()
    };
    for record in open_records(path)? {
        let origin = record?.origin;
        let from = match &origin {
            Origin::Generated { seed, level: 0, .. } => format!("drills, seed {seed}"),
            Origin::Generated { seed, .. } => format!("generator, seed {seed}"),
            Origin::Harvested(from) => format!("{} {}", from.package, from.version),
        };
        data.add(from, origin.licence());
    }
    let manifest = path.join(MANIFEST);
    if manifest.exists() {
        let manifest: Manifest = read_json(&manifest)?;
        let items = manifest.against.into_iter();
        data.benchmarks = items
            .map(|benchmark| (benchmark.file, benchmark.summary.items as u64))
            .collect();
        let rejected = manifest.sources.iter().map(|made| &made.report.rejected);
        data.in_benchmarks = rejected
            .filter_map(|rejected| rejected.get(&Rejection::Benchmark))
            .map(|count| *count as u64)
            .sum();
    }
    Ok(data)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let shown = path.display();
    let text = std::fs::read(path).with_context(|| format!("cannot read `{shown}`"))?;
    serde_json::from_slice(&text).with_context(|| format!("`{shown}` is not what it should be"))
}
