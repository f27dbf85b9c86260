//! `cwm doctor`.

use std::io::{self, Write};

use anyhow::Result;
use cwm_tracer::Interpreter;
use serde_json::{Value, json};

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
    let (cuda, cuda_line) = cuda();
    let mut out = io::stdout().lock();
    if args.json {
        let value = json!({
            "kernels": cpu.level.name(),
            "detected": cpu.detected.name(),
            "notes": cpu.notes,
            "inference": cwm_kernels::inference_unit(),
            "large_pages": cwm_kernels::large_pages(),
            "cuda": cuda,
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
    writeln!(out, "cuda       {cuda_line}")?;
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

/// What there is of CUDA: for a program, and in a line.
#[cfg(feature = "cuda")]
fn cuda() -> (Value, String) {
    use cwm_cuda::driver::{Card, check_libraries};
    let card = match Card::find(0) {
        Ok(card) => card,
        Err(error) => return no_cuda(error.to_string()),
    };
    let missing = check_libraries(&card).err().map(|error| error.to_string());
    let capability = format!("{}.{}", card.architecture.major, card.architecture.minor);
    let driver = format!("{}.{}", card.driver.0, card.driver.1);
    let line = format!(
        "{}, compute capability {capability}, {:.1} GiB, driver for CUDA {driver}{}",
        card.name,
        card.memory as f64 / f64::from(1 << 30),
        missing
            .as_ref()
            .map_or(String::new(), |missing| format!("; {missing}")),
    );
    let value = json!({
        "name": card.name,
        "compute_capability": capability,
        "memory_bytes": card.memory,
        "driver": driver,
        "missing": missing,
    });
    (value, line)
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> (Value, String) {
    no_cuda("not built in; build with `--features cuda`".to_owned())
}

fn no_cuda(why: String) -> (Value, String) {
    (json!({ "missing": why }), why)
}
