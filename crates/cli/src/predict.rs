//! `cwm predict`.

use std::io::{self, BufWriter, Write};

use anyhow::Result;
use cwm_debug::{Frame, Run, RunEnd, Style, compare, predict_all, real_output, render_frame};
use serde_json::{Value, json};

use crate::bridge::{Predicting, real_frames};
use crate::model::ModelArgs;
use crate::program::{ProgramArgs, RunArgs};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: RunArgs,
    /// Also run the program for real and report where the prediction first goes wrong
    #[arg(long)]
    verify: bool,
    /// Frames to predict at most
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_frames: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let source = args.program.checked_source(args.run.python.as_deref())?;
    let entry = args.program.entry();
    let loaded = args.model.load()?;
    let mut predicting = Predicting::new(loaded.predictor(&source)?, entry.clone());
    let run = predict_all(&mut predicting, args.max_frames);
    if let (RunEnd::Failed(error), true) = (&run.end, run.frames.is_empty()) {
        anyhow::bail!("{error}");
    }
    let traced = args
        .verify
        .then(|| args.run.trace(&args.program.file_text(), &source, entry));
    let (real, failure) = match traced {
        None => (None, None),
        Some(Ok(trace)) => (Some(real_frames(&trace)), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{}", as_json(&run, real.as_deref()))?;
    } else {
        write_text(&mut out, &run, real.as_deref(), &source)?;
    }
    out.flush()?;
    // The prediction is shown even where the program cannot be run.
    failure.map_or(Ok(()), |error| Err(error.context("cannot verify")))
}

fn as_json(run: &Run, real: Option<&[Frame]>) -> Value {
    let end = match &run.end {
        RunEnd::Finished => json!("finished"),
        RunEnd::Stopped => json!("max_frames"),
        RunEnd::Failed(error) => json!({ "failed": error.to_string() }),
    };
    let mut value = json!({
        "frames": run.frames,
        "output": run.output(),
        "end": end,
    });
    if let Some(real) = real {
        let divergence = compare(run, real);
        value["agrees"] = json!(agrees(run, real));
        value["first_divergence"] = json!(divergence.as_ref().map(|d| d.frame));
        value["divergence"] = json!(divergence);
        value["real_output"] = json!(real_output(real));
    }
    value
}

/// Whether the whole run was predicted and every frame of it is right.
fn agrees(run: &Run, real: &[Frame]) -> bool {
    run.end == RunEnd::Finished && run.frames.len() == real.len() && compare(run, real).is_none()
}

fn write_text(
    out: &mut impl Write,
    run: &Run,
    real: Option<&[Frame]>,
    source: &str,
) -> io::Result<()> {
    let lines: Vec<&str> = source.lines().collect();
    for (index, frame) in run.frames.iter().enumerate() {
        let text = (frame.line as usize)
            .checked_sub(1)
            .and_then(|i| lines.get(i));
        let shown = render_frame(frame, index, text.copied(), Style::Plain);
        write!(out, "{shown}")?;
    }
    match &run.end {
        RunEnd::Finished => {}
        RunEnd::Stopped => {
            let count = run.frames.len();
            writeln!(out, "stopped after {count} frames (--max-frames)")?;
        }
        RunEnd::Failed(error) => writeln!(out, "the prediction ended early: {error}")?,
    }
    writeln!(out, "predicted output: {}", run.output().unwrap_or("none"))?;
    let Some(real) = real else { return Ok(()) };
    writeln!(out, "verify: the program was run for real")?;
    writeln!(out, "real output: {}", real_output(real).unwrap_or("none"))?;
    match compare(run, real) {
        None if agrees(run, real) => writeln!(out, "verify: all {} frames agree", real.len()),
        None => writeln!(
            out,
            "verify: the {} predicted frames agree with the real ones, but the runs were not both seen to their end",
            run.frames.len()
        ),
        Some(d) => {
            let what = d
                .variable
                .as_ref()
                .map_or(String::new(), |v| format!("variable `{v}`: "));
            writeln!(
                out,
                "verify: first divergence at frame {} (line {} in {}): {what}predicted {}, real {}",
                d.frame,
                d.line,
                d.function,
                d.predicted.as_deref().unwrap_or("nothing"),
                d.real.as_deref().unwrap_or("nothing"),
            )
        }
    }
}
