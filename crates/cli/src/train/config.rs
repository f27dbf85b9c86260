//! `cwm train --config`: a stage of training as a file says.

use std::path::Path;

use anyhow::{Context, Result};
use cwm_train::stage::{self, Plan, Stage};

use super::{Args, Prepared, Reading};
use crate::program::default_threads;

/// A stage, as the command line names it.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum StageName {
    /// From random weights
    Pre,
    /// Going on with pre-training, on longer rows and other data
    Mid,
    /// Supervised fine-tuning
    Sft,
}

impl From<StageName> for Stage {
    fn from(name: StageName) -> Self {
        match name {
            StageName::Pre => Self::Pre,
            StageName::Mid => Self::Mid,
            StageName::Sft => Self::Sft,
        }
    }
}

/// The stage file and what the command line says besides.
struct Asked<'a> {
    text: String,
    stage: Option<Stage>,
    preset: Option<&'a str>,
    /// Where its relative paths begin.
    folder: &'a Path,
}

impl<'a> Asked<'a> {
    fn new(args: &'a Args) -> Result<Self> {
        let (text, folder) = match &args.config {
            None => (String::new(), Path::new("")),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read `{}`", path.display()))?;
                (text, path.parent().unwrap_or(Path::new("")))
            }
        };
        Ok(Self {
            text,
            stage: args.stage.map(Stage::from),
            preset: args.preset.as_deref(),
            folder,
        })
    }
}

/// The stage file as it will be run. A preset alone is shown as it was written, with its comments.
pub(super) fn print(args: &Args) -> Result<()> {
    let asked = Asked::new(args)?;
    let context = || source_of(args);
    let resolved = stage::print(&asked.text, asked.stage, asked.preset).with_context(context)?;
    let written = match (asked.text.is_empty(), asked.preset, asked.stage) {
        (true, Some(preset), Some(stage)) => stage::preset(preset, stage),
        _ => None,
    };
    print!("{}", written.unwrap_or(resolved));
    Ok(())
}

/// Begins or resumes the run, on the first rank, and reads its data.
pub(super) fn prepare(args: &Args, out: &Path, is_first: bool) -> Result<Prepared> {
    let Asked {
        text,
        stage,
        preset,
        folder,
    } = Asked::new(args)?;
    let plan = Plan::read(&text, stage, preset, folder, default_threads())
        .with_context(|| source_of(args))?;
    let tokenizer = plan.tokenizer()?;
    let trainer = match (is_first, args.resume) {
        (false, _) => None,
        (true, true) => Some(plan.resume(&tokenizer, out, args.new_data)?),
        (true, false) => Some(plan.begin(&tokenizer, out)?),
    };
    let mut reading = Reading::default();
    let (train, held_out) = plan.data(&tokenizer, &mut |name, count| reading.at(name, count))?;
    Ok(Prepared {
        trainer,
        threads: None,
        train,
        held_out,
    })
}

/// What a message about the stage file begins with.
fn source_of(args: &Args) -> String {
    match &args.config {
        Some(path) => format!("cannot use the stage file `{}`", path.display()),
        None => "cannot use the preset as it is; name a file that sets the rest with --config"
            .to_owned(),
    }
}
