//! `cwm doctor`.

use std::io::{self, Write};

use anyhow::Result;
use cwm_tracer::Interpreter;
use serde_json::json;

use crate::model::ModelArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let cpu = cwm_kernels::cpu();
    let python = Interpreter::find(None);
    let model = args.model.load();
    let mut out = io::stdout().lock();
    if args.json {
        let value = json!({
            "kernels": cpu.level.name(),
            "detected": cpu.detected.name(),
            "notes": cpu.notes,
            "inference": cwm_kernels::inference_unit(),
            "large_pages": cwm_kernels::large_pages(),
            "python": python.as_ref().ok().map(|p| json!({
                "path": p.path, "version": p.version_text()
            })),
            "model": model.as_ref().ok().map(|m| json!({
                "folder": m.folder, "parameters": m.engine.config().n_params()
            })),
        });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    writeln!(
        out,
        "training   {} (the processor offers {})",
        cpu.level.name(),
        cpu.detected.name()
    )?;
    for note in &cpu.notes {
        writeln!(out, "           {note}")?;
    }
    let pages = match cwm_kernels::large_pages() {
        Some(true) => ", weights on large pages",
        Some(false) => {
            "; large pages are off (transparent_hugepage/enabled says never), which costs a fifth of the speed"
        }
        None => "",
    };
    writeln!(out, "inference  {}{pages}", cwm_kernels::inference_unit())?;
    match python {
        Ok(p) => writeln!(out, "python     {} {}", p.version_text(), p.path.display())?,
        Err(error) => writeln!(out, "python     missing: {error}")?,
    }
    match model {
        Ok(m) => writeln!(
            out,
            "model      {} ({:.1}M parameters)",
            m.folder.display(),
            m.engine.config().n_params() as f64 / 1e6
        )?,
        Err(error) => writeln!(out, "model      missing: {error:#}")?,
    }
    Ok(())
}
