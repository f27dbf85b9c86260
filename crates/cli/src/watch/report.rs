//! `cwm train report`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use cwm_train::watch::{NamedRun, Watch, page, write_csv, write_tensorboard};

use super::{Machine, names_of};
use crate::data::Partial;

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("output").required(true).multiple(true))]
pub(crate) struct Args {
    /// Folders of training runs; they lie over one another in each plot
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Page with plots and tables, one file that needs nothing else
    #[arg(long, value_name = "PAGE.html", group = "output")]
    out: Option<PathBuf>,
    /// Print figures and curves as JSON
    #[arg(long, group = "output")]
    json: bool,
    /// Table of comma-separated values: every step and evaluation, all their numbers
    #[arg(long, value_name = "FILE", group = "output")]
    csv: Option<PathBuf>,
    /// Event files of TensorBoard, in a folder for each run; Weights & Biases takes them with
    /// `wandb sync DIR`
    #[arg(long, value_name = "DIR", group = "output")]
    tensorboard: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let names = names_of(&args.runs);
    if args.json || args.out.is_some() {
        let watches = args.runs.iter().map(|run| Watch::read(run));
        let watches: Vec<Watch> = watches.collect::<Result<_, _>>()?;
        let now = SystemTime::now();
        let runs = names.iter().zip(&watches).map(|(name, watch)| NamedRun {
            run: name.clone(),
            figures: watch.figures(now, args.machine.peak_flops()),
            state: watch.state(),
        });
        let runs: Vec<NamedRun<'_>> = runs.collect();
        if let Some(path) = &args.out {
            std::fs::write(path, page(&runs)).with_context(|| cannot_write(path))?;
        }
        if args.json {
            let mut stdout = std::io::stdout().lock();
            serde_json::to_writer(&mut stdout, &runs)?;
            writeln!(stdout)?;
        }
    }
    if let Some(path) = &args.csv {
        let named = names.iter().cloned().zip(&args.runs);
        let named: Vec<(String, &Path)> = named.map(|(name, run)| (name, run.as_path())).collect();
        // All is read before anything is written, so that a run that cannot be read costs no file.
        let mut table = Vec::new();
        write_csv(&named, &mut table)?;
        let mut whole = Partial::create(path)?;
        whole
            .file
            .write_all(&table)
            .with_context(|| cannot_write(path))?;
        whole.keep()?;
    }
    if let Some(dir) = &args.tensorboard {
        for (name, run) in names.iter().zip(&args.runs) {
            write_tensorboard(run, &dir.join(name))?;
        }
    }
    Ok(())
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write `{}`", path.display())
}
